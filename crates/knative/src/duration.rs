//! Durations as Go writes them (`30s`, `1h30m`, `1.5s`, `250ms`), because Knative's settings and
//! hellotest's `WAITSECOND` are read by Go's `time.ParseDuration`. Every text that Go takes gives
//! the same number of nanoseconds here, and every text that it refuses is refused.

use std::time::Duration;

/// The reason why a text is not a duration. Each message quotes the text and shows a correct one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid duration {0:?}: expected a number with a unit, such as 30s, 1h30m or 250ms")]
    Malformed(String),
    #[error("missing unit in duration {0:?}: write 30s for thirty seconds (units: ns, us, ms, s, m, h)")]
    MissingUnit(String),
    #[error("unknown unit {unit:?} in duration {text:?}: the units are ns, us, ms, s, m and h")]
    UnknownUnit { text: String, unit: String },
    #[error("duration {0:?} is out of range: the longest is about 292 years")]
    OutOfRange(String),
    #[error("duration {0:?} is negative")]
    Negative(String),
}

/// Reads a duration.
///
/// # Errors
/// Go refuses the text, or the duration is negative, which no setting here allows.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let nanos = parse_nanos(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| Error::Negative(text.into()))
}

/// Works like `time.ParseDuration`: a sign, then `0`, or one or more decimal numbers each followed
/// by a unit. Returns nanoseconds.
pub fn parse_nanos(text: &str) -> Result<i64, Error> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() {
        return Err(Error::Malformed(text.into()));
    }
    let out_of_range = || Error::OutOfRange(text.into());
    let mut total: u64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (part, after) = next_part(text, rest)?;
        total = total.checked_add(part).filter(|sum| *sum <= MAGNITUDE_MAX).ok_or_else(out_of_range)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (false, Ok(nanos)) => Ok(nanos),
        (true, Ok(nanos)) => Ok(-nanos),
        // Go accepts this magnitude only with a negative sign.
        (true, Err(_)) => Ok(i64::MIN),
        (false, Err(_)) => Err(out_of_range()),
    }
}

const MAGNITUDE_MAX: u64 = 1 << 63;

/// Reads one number with its unit. Returns its nanoseconds and the rest of the text.
fn next_part<'a>(text: &str, rest: &'a str) -> Result<(u64, &'a str), Error> {
    let malformed = || Error::Malformed(text.into());
    let out_of_range = || Error::OutOfRange(text.into());
    let (whole, after) = rest.split_at(digits(rest));
    let (fraction, after) = match after.strip_prefix('.') {
        Some(tail) => tail.split_at(digits(tail)),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(malformed());
    }
    let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
    let (unit, after) = after.split_at(unit_end);
    if unit.is_empty() {
        return Err(Error::MissingUnit(text.into()));
    }
    let scale =
        unit_nanos(unit).ok_or_else(|| Error::UnknownUnit { text: text.into(), unit: unit.into() })?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| out_of_range())? };
    let nanos = whole.checked_mul(scale).filter(|n| *n <= MAGNITUDE_MAX).ok_or_else(out_of_range)?;
    let sum = nanos + fraction_nanos(fraction, scale);
    if sum > MAGNITUDE_MAX {
        return Err(out_of_range());
    }
    Ok((sum, after))
}

/// Converts the digits after the point. Like Go it drops digits that would overflow, and rounds
/// down through the same float product: only so is `0.3333333333333333333h` exact.
fn fraction_nanos(fraction: &str, scale: u64) -> u64 {
    let mut value: u64 = 0;
    let mut divisor = 1.0_f64;
    for digit in fraction.bytes() {
        let next =
            if value > (MAGNITUDE_MAX - 1) / 10 { None } else { Some(value * 10 + u64::from(digit - b'0')) };
        match next.filter(|n| *n <= MAGNITUDE_MAX) {
            Some(n) => value = n,
            None => break,
        }
        divisor *= 10.0;
    }
    (value as f64 * (scale as f64 / divisor)) as u64
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Both U+00B5 and U+03BC are accepted as the micro sign.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_go_gives() {
        let second = 1_000_000_000;
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("+5s", 5 * second),
            ("30s", 30 * second),
            ("1h30m", 5400 * second),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5 * second),
            ("1.0000000000000001s", second),
            ("250ms", 250_000_000),
            ("12\u{b5}s3ns", 12_003),
            ("12\u{3bc}s", 12_000),
            ("-2m3.4s", -123_400_000_000),
            ("0.3333333333333333333h", 1_200 * second),
            ("0.9223372036854775807h", 3_320_413_933_267),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.100000000000000000000h", 360 * second),
        ] {
            assert_eq!(parse_nanos(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_text() {
        let text = |s: &str| s.to_owned();
        for bad in ["", "-", ".", "s", ".s", "+.s", "abc", "1s x", " 1s", "\u{663}s", "--1s"] {
            assert!(
                matches!(parse_nanos(bad), Err(Error::Malformed(_) | Error::UnknownUnit { .. })),
                "{bad:?}"
            );
        }
        assert_eq!(parse("30"), Err(Error::MissingUnit(text("30"))));
        assert_eq!(parse("30sec"), Err(Error::UnknownUnit { text: text("30sec"), unit: text("sec") }));
        assert_eq!(parse("1d"), Err(Error::UnknownUnit { text: text("1d"), unit: text("d") }));
        assert_eq!(parse("-1s"), Err(Error::Negative(text("-1s"))));
        for long in
            ["9223372036854775808ns", "2562048h", "99999999999999999999999s", "9223372036854775807ns1ns"]
        {
            assert_eq!(parse(long), Err(Error::OutOfRange(text(long))), "{long}");
        }
    }
}
