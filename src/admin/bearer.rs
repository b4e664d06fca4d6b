//! Bearer tokens, which operators show before they change something.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

const SCHEME: &[u8] = b"Bearer ";

/// Whether the request shows this token. An empty token, as a truncated file would leave, matches
/// nothing. The name of the scheme may have any case (RFC 9110).
///
/// The digests are compared, so the time of the comparison tells a guesser nothing about the token.
pub fn shows(headers: &HeaderMap, token: &str) -> bool {
    let value = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let parts = value.and_then(|value| value.split_at_checked(SCHEME.len()));
    let given = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME)).map(|(_, given)| given);
    let token = token.trim_end().as_bytes();
    !token.is_empty() && given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_counts_and_an_empty_one_never() {
        let of = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert!(shows(&of("Bearer secret"), "secret\n"));
        assert!(shows(&of("bearer secret"), "secret"));
        for (given, token) in
            [("Bearer secre", "secret"), ("secret", "secret"), ("Bearer ", ""), ("Bearer ", "\n")]
        {
            assert!(!shows(&of(given), token), "{given:?} for {token:?}");
        }
        assert!(!shows(&HeaderMap::new(), "secret"));
    }
}
