//! Content negotiation: finds the media type that a request wants.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// The most parts of an `Accept` header that are read. Real clients send fewer.
const PARTS_MAX: usize = 32;

/// Returns the index of the offered type that the request prefers. Without a preference, or if the
/// request wants another type, this is the first: a person or a probe always gets a readable
/// answer.
///
/// An offer is `type/subtype`. Parameters other than `q` are not compared.
pub fn choose(headers: &HeaderMap, offers: &[&str]) -> usize {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(&str, f32)> =
        accept.flat_map(|text| text.split(',')).take(PARTS_MAX).filter_map(range).collect();
    let quality = |offer: &str| {
        let fits = ranges.iter().filter_map(|(range, quality)| Some((precision(range, offer)?, *quality)));
        // The most precise range decides.
        fits.max_by_key(|(precision, _)| *precision).map_or(0.0, |(_, quality)| quality)
    };
    let mut best = (0, 0.0);
    for (index, offer) in offers.iter().enumerate() {
        let quality = quality(offer);
        if quality > best.1 {
            best = (index, quality);
        }
    }
    best.0
}

/// Splits a part into a media range and its `q`.
fn range(part: &str) -> Option<(&str, f32)> {
    let mut pieces = part.split(';').map(str::trim);
    let range = pieces.next().filter(|range| range.contains('/'))?;
    let quality =
        pieces.find_map(|piece| piece.strip_prefix("q=")).map_or(Some(1.0), |text| text.parse().ok())?;
    Some((range, quality))
}

/// Returns how precisely the range names the offer; `None` if it does not include the offer.
fn precision(range: &str, offer: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(offer) {
        return Some(2);
    }
    match range.split_once('/')? {
        ("*", "*") => Some(0),
        (kind, "*") => {
            offer.split_once('/').is_some_and(|(of, _)| kind.eq_ignore_ascii_case(of)).then_some(1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_type_is_chosen_and_the_first_without_preference() {
        const OFFERS: [&str; 2] = ["text/plain", "application/json"];
        for (accept, expected) in [
            (None, 0),
            (Some("*/*"), 0),
            (Some("application/json"), 1),
            (Some("application/*"), 1),
            (Some("text/html, application/json;q=0.9, */*;q=0.1"), 1),
            (Some("application/json;q=0.1, text/plain"), 0),
            (Some("application/json; q=0"), 0),
            (Some("image/png"), 0),
            (Some("nonsense, ;;q=x, application/json;q=zz"), 0),
        ] {
            let headers = accept.map(|text| (ACCEPT, text.parse().unwrap())).into_iter().collect();
            assert_eq!(choose(&headers, &OFFERS), expected, "{accept:?}");
        }
    }
}
