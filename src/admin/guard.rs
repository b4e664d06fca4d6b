//! Decides who may change something over HTTP.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};

use super::bearer;
use crate::config::Secret;

/// Decides whether a request may change something.
///
/// With a token, each request must show it. Without one, only programs on this machine may change
/// anything. A browser on this machine is not such a program, since any page can make it send a
/// request: a request with `Origin`, from another site, or for a host name that is not this
/// machine's (DNS rebinding), is refused.
#[derive(Clone, Default)]
pub struct Guard {
    token: Option<Secret>,
    /// Another token that is accepted as well.
    other: Option<Secret>,
}

/// The status and the reason of a refusal.
pub type Refused = (StatusCode, String);

impl Guard {
    pub fn new(token: Option<Secret>) -> Self {
        Guard { token, other: None }
    }

    /// Accepts this token as well.
    #[must_use]
    pub fn or(self, other: Option<Secret>) -> Self {
        Guard { other, ..self }
    }

    /// # Errors
    /// If the request must not change anything.
    pub fn allows(&self, headers: &HeaderMap, from: SocketAddr) -> Result<(), Refused> {
        let refuse = |status, reason: &str| Err((status, format!("{reason}\n")));
        let Some(token) = &self.token else {
            return match foreign(headers, from) {
                None => Ok(()),
                Some(reason) => refuse(StatusCode::FORBIDDEN, reason),
            };
        };
        let token = match token.resolve() {
            Ok(token) => token,
            Err(error) => {
                return refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &format!("admin.token cannot be read: {error}"),
                );
            }
        };
        let other = self.other.as_ref().and_then(|other| other.resolve().ok());
        if bearer::shows(headers, &token) || other.is_some_and(|other| bearer::shows(headers, &other)) {
            return Ok(());
        }
        refuse(StatusCode::UNAUTHORIZED, "send the token of the admin server: Authorization: Bearer …")
    }
}

/// Returns the reason why the request does not come from a program on this machine.
fn foreign(headers: &HeaderMap, from: SocketAddr) -> Option<&'static str> {
    if !from.ip().to_canonical().is_loopback() {
        return Some("no admin.token is set, so only programs on this machine may change anything");
    }
    let site = headers.get("sec-fetch-site");
    if headers.contains_key(ORIGIN) || site.is_some_and(|site| site != "none") {
        return Some("no admin.token is set, so requests of web pages are refused");
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_this_machine) {
        return Some("no admin.token is set, so the Host header must be localhost or a loopback address");
    }
    None
}

fn is_this_machine(host: &str) -> bool {
    let Some(name) = host.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)) else {
        return false;
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn allows(token: Option<&str>, from: &str, headers: &[(&'static str, &'static str)]) -> u16 {
        let guard = Guard::new(token.map(|token| token.parse().unwrap()));
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = headers.iter().map(pair).collect();
        guard.allows(&headers, from.parse().unwrap()).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn without_a_token_only_programs_on_this_machine_change_anything() {
        let local = [("host", "localhost:9090")];
        assert_eq!(allows(None, "127.0.0.1:1", &local), 200);
        assert_eq!(allows(None, "[::ffff:127.0.0.1]:1", &[("host", "127.0.0.1:9090")]), 200);
        assert_eq!(allows(None, "[::1]:1", &[("host", "[::1]:9090")]), 200);
        assert_eq!(allows(None, "10.0.0.7:1", &local), 403);
        for browser in [
            vec![],
            vec![("host", "evil.example:9090")],
            vec![("host", "localhost.evil.example")],
            vec![("host", "evil@localhost:9090/")],
            vec![("host", "localhost:9090"), ("origin", "http://evil.example")],
            vec![("host", "localhost:9090"), ("origin", "null")],
            vec![("host", "localhost:9090"), ("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(allows(None, "127.0.0.1:1", &browser), 403, "{browser:?}");
        }
    }

    #[test]
    fn with_a_token_every_change_needs_it_and_nothing_else() {
        let shows = [("host", "bridge:9090"), ("authorization", "Bearer secret")];
        assert_eq!(allows(Some("secret"), "10.0.0.7:1", &shows), 200);
        assert_eq!(allows(Some("secret"), "127.0.0.1:1", &[("host", "localhost")]), 401);
        assert_eq!(allows(Some("other"), "127.0.0.1:1", &shows), 401);
        assert_eq!(allows(Some("${file:/no/such}"), "127.0.0.1:1", &shows), 500);
    }
}
