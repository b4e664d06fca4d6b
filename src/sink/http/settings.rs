//! What a client is made from, and what can be wrong with it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;

use super::headers::HeaderSource;
use crate::config;

/// Where SinkBinding mounts the cluster's trust bundles, and the token for a sink that wants one.
const TRUST_BUNDLES: &str = "/knative-custom-certs";
const OIDC_TOKEN: &str = "/oidc/token";

/// What a [`super::Client`] is made from.
pub struct Settings {
    /// The keys of `sink:`; its `headers` are taken from the next field instead.
    pub sink: config::Sink,
    /// Names and values of `sink.headers`.
    pub headers: Vec<(String, Arc<dyn HeaderSource>)>,
    /// Connections to keep: as many as there are slots.
    pub max_in_flight: usize,
    /// Whether answers are used as replies, which a sender has to announce (`Prefer: reply`).
    pub replies: Replies,
    pub environment: Environment,
}

/// What becomes of the worker's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// They are looked at and dropped.
    #[default]
    Ignored,
    /// They are published.
    Used,
}

/// What SinkBinding and the pod's template put around the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `K_SINK`: the address, where the configuration has none.
    pub k_sink: Option<String>,
    /// `K_CA_CERTS`: certificate authorities as PEM text.
    pub k_ca_certs: Option<String>,
    /// `NAMESPACE`, sent as `Kn-Namespace`.
    pub namespace: Option<String>,
    /// A folder of PEM files. It need not exist.
    pub trust_bundles: PathBuf,
    /// A file with a bearer token, renewed every hour or so. It need not exist.
    pub oidc_token: PathBuf,
}

/// Why there can't be a client.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("no address: sink.url is not set, and neither is K_SINK (is the SinkBinding ready?)")]
    NoUrl,
    #[error("{url:?} is no address to send to: {reason}")]
    Url { url: String, reason: String },
    #[error("sink.host: {0:?} can't be a Host header")]
    Host(String),
    #[error("header {name:?}: {reason}")]
    Header { name: String, reason: String },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{place} holds no usable certificate: {reason}")]
    Certificate { place: String, reason: String },
    #[error("sink.tls: cert_file and key_file go together")]
    HalfIdentity,
    #[error("the HTTP client can't be built: {0}")]
    Client(String),
}

impl Environment {
    /// Takes what `variable` knows (`std::env::var`, in a program), and the paths that SinkBinding uses. An empty
    /// variable is none: SinkBinding sets some of them so.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Environment {
            k_sink: set("K_SINK"),
            k_ca_certs: set("K_CA_CERTS"),
            namespace: set("NAMESPACE"),
            trust_bundles: PathBuf::from(TRUST_BUNDLES),
            oidc_token: PathBuf::from(OIDC_TOKEN),
        }
    }
}

/// The address: the configuration's, else SinkBinding's.
pub(super) fn url(configured: Option<&str>, k_sink: Option<&str>) -> Result<Url, BuildError> {
    let text = configured.or(k_sink).ok_or(BuildError::NoUrl)?;
    let bad = |reason: &str| BuildError::Url { url: text.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("only http:// and https:// are known"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted: the address would be in every log.
        return Err(BuildError::Url {
            url: "…".to_owned(),
            reason: "it has credentials; put them into sink.headers".to_owned(),
        });
    }
    Ok(url)
}
