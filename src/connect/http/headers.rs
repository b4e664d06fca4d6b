//! The headers that the configuration adds to every request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use super::Error;
use super::watched::Watched;

/// A header's value that may come from files and the environment.
pub trait HeaderSource: Send + Sync {
    /// Returns the present value.
    ///
    /// # Errors
    /// A text for a person, without any part of the value.
    fn resolve(&self) -> Result<String, String>;

    /// Returns the files that the value comes from.
    fn files(&self) -> Vec<PathBuf>;
}

/// A fixed text is a value that never changes.
impl HeaderSource for String {
    fn resolve(&self) -> Result<String, String> {
        Ok(self.clone())
    }

    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// Headers that may not be configured, and the reasons. Each could turn a request into something
/// other than one run of the worker.
const FORBIDDEN: &[(&str, &str)] = &[
    ("expect", "a 1xx answer makes queue-proxy report every later failure as 200"),
    ("idempotency-key", "Go's transports repeat a request that has it"),
    ("x-idempotency-key", "Go's transports repeat a request that has it"),
    ("k-network-probe", "Knative answers such a request without running the worker"),
    ("k-network-hash", "it belongs to Knative's probes"),
    ("host", "use the key host"),
    ("content-type", "it belongs to the event"),
    ("content-length", "it belongs to the connection"),
    ("transfer-encoding", "it belongs to the connection"),
    ("connection", "it belongs to the connection"),
    ("keep-alive", "it belongs to the connection"),
    ("upgrade", "it belongs to the connection"),
    ("te", "it belongs to the connection"),
    ("trailer", "it belongs to the connection"),
];

/// Returns `fixed` and the configured headers `own`. They are read again when one of their files
/// changes. If `bearer` names a file that exists, its token goes into `Authorization`.
///
/// # Errors
/// A header cannot be sent, or must not be.
pub fn headers(
    fixed: HeaderMap,
    own: Vec<(String, Arc<dyn HeaderSource>)>,
    bearer: Option<PathBuf>,
) -> Result<Watched<HeaderMap>, Error> {
    let own = own
        .into_iter()
        .map(|(name, source)| Ok((checked_name(&name)?, source)))
        .collect::<Result<Vec<_>, Error>>()?;
    let files = own.iter().flat_map(|(_, source)| source.files()).chain(bearer.clone()).collect();
    Watched::new("headers", files, move || {
        let mut headers = fixed.clone();
        if let Some(token) = bearer.as_deref().map(token).transpose()?.flatten() {
            headers.insert(AUTHORIZATION, token);
        }
        // Own headers come after the token, so that a configured Authorization wins.
        for (name, source) in &own {
            headers.insert(name.clone(), value(name, source.as_ref())?);
        }
        Ok(headers)
    })
}

/// Returns the headers that come from no file.
///
/// # Errors
/// One of them cannot be sent.
pub fn fixed(host: Option<&str>, namespace: Option<&str>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    if let Some(host) = host {
        let value = HeaderValue::from_str(host).map_err(|_| Error::Host(host.to_owned()))?;
        headers.insert(HOST, value);
    }
    if let Some(namespace) = namespace {
        let name = HeaderName::from_static("kn-namespace");
        let value = HeaderValue::from_str(namespace).map_err(|error| bad(name.as_str(), error))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Returns the value of `Host` for an address: the host, and the port unless it is the scheme's
/// own.
///
/// # Errors
/// It cannot be sent.
pub fn host(url: &Url) -> Result<HeaderValue, Error> {
    let name = url.host_str().unwrap_or_default();
    let text = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    HeaderValue::try_from(&text).map_err(|_| Error::Host(text))
}

fn checked_name(text: &str) -> Result<HeaderName, Error> {
    let name = HeaderName::try_from(text).map_err(|error| bad(text, error))?;
    if let Some((_, reason)) = FORBIDDEN.iter().find(|(forbidden, _)| name == *forbidden) {
        return Err(bad(text, reason));
    }
    if name.as_str().starts_with("ce-") {
        return Err(bad(text, "attributes are set under event.extensions"));
    }
    Ok(name)
}

fn value(name: &HeaderName, source: &dyn HeaderSource) -> Result<HeaderValue, Error> {
    let text = source.resolve().map_err(|error| bad(name.as_str(), error))?;
    let text = text.trim_end();
    if *name == http::header::USER_AGENT && text.starts_with("kube-probe/") {
        return Err(bad(name.as_str(), "Knative answers such a request without running the worker"));
    }
    sensitive(text).ok_or_else(|| bad(name.as_str(), "the value can't be sent in a header"))
}

/// Reads the token that SinkBinding mounts, if the sink wants one.
fn token(path: &Path) -> Result<Option<HeaderValue>, Error> {
    let token = match fs::read_to_string(path) {
        Ok(token) => token,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
    };
    let token = token.trim();
    if token.is_empty() {
        return Ok(None);
    }
    let value = sensitive(&format!("Bearer {token}"));
    value.map(Some).ok_or_else(|| bad("authorization", "the OIDC token can't be sent in a header"))
}

/// Marks a value as sensitive, so that it never shows in debug output.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn bad(name: &str, reason: impl ToString) -> Error {
    Error::Header { name: name.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_port_unless_it_is_the_schemes_own() {
        let of = |url: &str| host(&Url::parse(url).unwrap()).unwrap();
        assert_eq!(of("http://thumbs.default.svc/work"), "thumbs.default.svc");
        assert_eq!(of("https://thumbs.default.svc:443"), "thumbs.default.svc");
        assert_eq!(of("https://thumbs.default.svc:80"), "thumbs.default.svc:80");
        assert_eq!(of("http://[::1]:8080/"), "[::1]:8080");
    }
}
