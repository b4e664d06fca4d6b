//! The settings of a client, and the possible mistakes in them.

use std::path::PathBuf;
use std::sync::Arc;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use crate::config;
use crate::connect;
use crate::connect::http::{HeaderSource, TRUST_BUNDLES, Trust};

/// The place where SinkBinding mounts the token for a sink that wants one.
const OIDC_TOKEN: &str = "/oidc/token";

/// The settings of a [`super::Client`].
pub struct Settings {
    /// The keys of `sink:`; its `headers` are taken from the next field instead.
    pub sink: config::Sink,
    /// Names and values of `sink.headers`.
    pub headers: Vec<(String, Arc<dyn HeaderSource>)>,
    /// The number of connections to keep: one per slot.
    pub max_in_flight: usize,
    /// Whether answers are used as replies, which a sender has to announce (`Prefer: reply`).
    pub replies: Replies,
    pub environment: Environment,
}

/// The use of the worker's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// They are classified and dropped.
    #[default]
    Ignored,
    /// They are published.
    Used,
}

/// The variables and files that SinkBinding and the pod's template give to the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `K_SINK`: the address, if the configuration has none.
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

/// The reason why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("no address: sink.url is not set, and neither is K_SINK (is the SinkBinding ready?)")]
    NoUrl,
    #[error(transparent)]
    Connect(#[from] connect::http::Error),
}

impl Environment {
    /// Takes the values of `variable` (in a program `std::env::var`), and the paths of SinkBinding.
    /// An empty variable counts as missing, because SinkBinding sets some that way.
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

impl Settings {
    pub(super) fn trust(&self) -> Trust {
        Trust {
            tls: self.sink.tls.clone(),
            ca_certs: self.environment.k_ca_certs.clone(),
            bundles: self.environment.trust_bundles.clone(),
        }
    }

    /// Returns the headers that come from no file, for requests to `url`.
    pub(super) fn fixed_headers(&self, url: &Url) -> Result<HeaderMap, connect::http::Error> {
        let mut headers =
            connect::http::fixed(self.sink.host.as_deref(), self.environment.namespace.as_deref())?;
        if !headers.contains_key(HOST) {
            headers.insert(HOST, connect::http::host(url)?);
        }
        if self.replies == Replies::Used {
            headers.insert(HeaderName::from_static("prefer"), HeaderValue::from_static("reply"));
        }
        Ok(headers)
    }
}

/// Returns the configured address, else the one from SinkBinding.
pub(super) fn url(configured: Option<&str>, k_sink: Option<&str>) -> Result<Url, BuildError> {
    let text = configured.or(k_sink).ok_or(BuildError::NoUrl)?;
    Ok(connect::http::url(text)?)
}
