//! How a server is reached over HTTP/1.1: address, trust, headers. No policy: what an answer means
//! is the caller's.
//!
//! No client of ours does anything by itself that could send a request twice or elsewhere: no
//! redirect, no proxy, no retry.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

mod error;
mod headers;
mod tls;
mod watched;

pub use error::Error;
pub use headers::{HeaderSource, fixed, headers};
pub use tls::client;
pub use watched::Watched;

use crate::config;

/// How long an unused connection is kept: less than the shortest common patience of a server, the 5
/// s of Node.js, so that we close it before the server does. Busy connections are all reused;
/// opening one after a pause is cheap.
const IDLE: Duration = Duration::from_secs(4);

/// Headers that an answer may have. hyper's own limit of 100 would make a finished item run again
/// because its worker talks much; a head of this many still fits into hyper's buffer of 400 KiB,
/// which bounds the memory.
const MOST_HEADERS: usize = 4096;

/// Load balancers forget a silent connection after some minutes, and a long request is silent all
/// the time.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where SinkBinding mounts the cluster's trust bundles.
pub const TRUST_BUNDLES: &str = "/knative-custom-certs";

/// Whom we trust and who we are, over `https://`.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pub tls: config::Tls,
    /// Certificate authorities as PEM text, from `K_CA_CERTS`.
    pub ca_certs: Option<String>,
    /// A folder of PEM files. It need not exist.
    pub bundles: PathBuf,
}

/// What every client has. All limits are named: reqwest's own (30 s of unacknowledged data, 90 s of
/// idleness, ten redirects) are made for browsing.
///
/// Clients accept the deviations from HTTP that leave no doubt about the meaning: many headers, a
/// space in front of a colon, a folded line. Invalid header lines are not skipped: one of them may
/// have been the length, and without it nobody can tell half an answer from a whole one.
pub fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .pool_idle_timeout(IDLE)
        .http1_max_headers(MOST_HEADERS)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
}

/// An address as logs, errors and dead letters may show it: without query and fragment, which may
/// hold a secret.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// An address to send to.
///
/// # Errors
/// When it is not an `http://` or `https://` address, or has credentials in it.
pub fn url(text: &str) -> Result<Url, Error> {
    let without_query = text.split(['?', '#']).next().unwrap_or_default();
    let bad = |reason: &str| Error::Url { url: without_query.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("only http:// and https:// are known"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted: the address would be in every log.
        return Err(Error::Url {
            url: "…".to_owned(),
            reason: "it has credentials; put them into headers".to_owned(),
        });
    }
    Ok(url)
}
