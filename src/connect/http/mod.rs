//! Reaches a server over HTTP/1.1: address, trust, headers. It has no policy; the caller decides
//! about an answer.
//!
//! No client does anything by itself that could send a request twice or elsewhere: no redirect, no
//! proxy, no retry.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

mod error;
mod headers;
mod tls;
mod watched;

pub use error::{Error, KEY_TYPES, with_causes};
pub use headers::{HeaderSource, fixed, headers, host};
pub use tls::client;
pub use watched::Watched;

use crate::config;

/// How long an unused connection is kept. The shortest common limit of servers is the 5 s of
/// Node.js, and we must close before the server does. A busy bridge reuses all connections, and
/// opening one after a pause is cheap.
const IDLE: Duration = Duration::from_secs(4);

/// The most headers of an answer. With hyper's own limit of 100 a finished item would run again if
/// its worker sends many headers. A head of this many still fits into hyper's buffer of 400 KiB,
/// which bounds the memory.
const MOST_HEADERS: usize = 4096;

/// The interval of keepalive probes. Load balancers forget a silent connection after some minutes,
/// and a long request is silent all the time.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// The folder into which SinkBinding mounts the cluster's trust bundles.
pub const TRUST_BUNDLES: &str = "/knative-custom-certs";

/// The certificates for `https://`: which authorities we trust, and our own.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pub tls: config::Tls,
    /// Certificate authorities as PEM text, from `K_CA_CERTS`.
    pub ca_certs: Option<String>,
    /// A folder of PEM files. It need not exist.
    pub bundles: PathBuf,
}

/// Makes a client with the settings that all clients share. Every limit is set here, because
/// reqwest's own (30 s of unacknowledged data, 90 s of idleness, ten redirects) are made for
/// browsing.
///
/// Clients accept deviations from HTTP that leave no doubt about the meaning: many headers, a space
/// in front of a colon, a folded line. They do not skip invalid header lines. Such a line may have
/// been the length, and without it nobody can tell half an answer from a whole one.
pub fn builder() -> reqwest::ClientBuilder {
    // reqwest has no cryptography of its own, and takes the one of the process. An error only means
    // that it was set before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        // With a maximum of 0 the client also keeps no copy of the request for a retry.
        .retry(reqwest::retry::never().max_retries_per_request(0))
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .pool_idle_timeout(IDLE)
        .http1_max_headers(MOST_HEADERS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
}

/// Formats an address for logs, errors and dead letters: without credentials, query and fragment,
/// which may hold a secret.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // An address that cannot have credentials refuses the change.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Like [`shown`], for a text that may be no address.
pub fn shown_text(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => shown(&url),
        // The end of the credentials is not known.
        Err(_) if text.contains('@') => "…".to_owned(),
        Err(_) => text.split(['?', '#']).next().unwrap_or_default().to_owned(),
    }
}

/// Reads an address.
///
/// # Errors
/// It is not an `http://` or `https://` address, or has credentials in it.
pub fn url(text: &str) -> Result<Url, Error> {
    let bad = |reason: &str| Error::Url { url: shown_text(text), reason: reason.to_owned() };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("only http:// and https:// are known"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it has credentials; put them into headers"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (text, expected) in [
            ("http://host/path?key=hunter2#hunter2", "http://host/path"),
            ("http://user:hunter2@host:1/path", "http://host:1/path"),
            ("http://hunter2@host", "http://host/"),
            ("http://user:hunter2@host:port/", "…"),
            ("host/path?key=hunter2", "host/path"),
            ("host:9090?key=hunter2", "host:9090"),
            ("", ""),
        ] {
            assert_eq!(shown_text(text), expected, "{text}");
            let error = url(text).map(|_| ()).err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
