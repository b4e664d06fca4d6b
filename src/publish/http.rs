//! Confirmed writes to a service: a POST that is answered with 2xx.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, MaxSizeReached};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use reqwest::Url;

use super::{PublishError, PublishErrorKind};
use crate::config;
use crate::connect;
use crate::connect::http::{Error, HeaderSource, Trust, Watched};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of an answer that are read. A connection with more in it is closed.
const ANSWER_BYTES: usize = 64 * 1024;

/// The most characters of a refusing answer in an error.
const SHOWN_CHARS: usize = 200;

/// Writes to one address.
pub struct Client {
    url: Url,
    /// The address without its query, for people.
    shown: String,
    timeout: Duration,
    connections: Watched<reqwest::Client>,
    headers: Watched<HeaderMap>,
}

/// The settings of a [`Client`].
///
/// They do not have the token that SinkBinding mounts: it is made out to the sink, so another
/// receiver would refuse it, or could abuse it.
pub struct Settings {
    /// The keys of `http:`; its `headers` are taken from the next field instead.
    pub target: config::HttpTarget,
    /// Names and values of `headers`.
    pub headers: Vec<(String, Arc<dyn HeaderSource>)>,
    /// `K_CA_CERTS`: certificate authorities as PEM text.
    pub ca_certs: Option<String>,
    /// A folder of PEM files. It need not exist.
    pub trust_bundles: PathBuf,
    /// `NAMESPACE`, sent as `Kn-Namespace`.
    pub namespace: Option<String>,
}

impl Client {
    /// Reads all files of the settings once. Opens no connection.
    ///
    /// # Errors
    /// If an address, a header or a certificate cannot be used.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let Settings { target, headers, ca_certs, trust_bundles: bundles, namespace } = settings;
        let url = connect::http::url(&target.url)?;
        let fixed = connect::http::fixed(target.host.as_deref(), namespace.as_deref())?;
        let headers = connect::http::headers(fixed, headers, None)?;
        let timeout = target.timeout.get();
        let trust = Trust { tls: target.tls, ca_certs, bundles };
        let connections = connect::http::client(trust, &url, move || {
            connect::http::builder().connect_timeout(CONNECT_TIMEOUT.min(timeout)).timeout(timeout)
        })?;
        let shown = connect::http::shown(&url);
        Ok(Client { url, shown, timeout, connections, headers })
    }

    /// Sends one request, and returns once it is answered with 2xx.
    ///
    /// # Errors
    /// Any other ending. The service may have taken the message all the same, for example if its
    /// answer was lost.
    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<(), PublishError> {
        let request = self.request(headers, body).map_err(|_| {
            PublishError::too_large(format!("{} accepts fewer headers than the letter has", self.shown))
        })?;
        let mut response = match self.connections.get().execute(request).await {
            Ok(response) => response,
            Err(error) => return Err(self.unanswered(&error)),
        };
        let status = response.status();
        let answer = match read(&mut response).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.unanswered(&error)),
        };
        if status.is_success() {
            return Ok(());
        }
        let shown: String = String::from_utf8_lossy(&answer).trim().chars().take(SHOWN_CHARS).collect();
        let what = format!("{} answered {}: {shown:?}", self.shown, status.as_u16());
        Err(match kind(status) {
            PublishErrorKind::TooLarge => PublishError::too_large(what),
            PublishErrorKind::Impossible => PublishError::impossible(what),
            PublishErrorKind::Transient => PublishError::transient(what),
        })
    }

    fn request(&self, mut headers: HeaderMap, body: Bytes) -> Result<reqwest::Request, MaxSizeReached> {
        let mut request = reqwest::Request::new(Method::POST, self.url.clone());
        for (name, value) in self.headers.get().iter() {
            headers.try_insert(name.clone(), value.clone())?;
        }
        if body.is_empty() {
            // hyper would leave the length out; some servers answer 411 to a POST without one.
            headers.try_insert(CONTENT_LENGTH, HeaderValue::from_static("0"))?;
        }
        // reqwest and hyper add Accept, User-Agent, Host and Content-Length, and panic if the map
        // is full.
        headers.try_reserve(8)?;
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    fn unanswered(&self, error: &reqwest::Error) -> PublishError {
        let what = if error.is_timeout() {
            format!("{} did not answer within {:?}", self.shown, self.timeout)
        } else {
            // The outermost error says only "error sending request" and the address.
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            let causes: Vec<String> = causes.map(ToString::to_string).collect();
            format!("{} can't be written to: {}", self.shown, causes.join(": "))
        };
        PublishError::transient(what)
    }
}

/// Whether a later write of the same message can succeed. A wrong address, a missing right or a
/// redirect is a mistake in the configuration: the message stays until somebody corrects it.
fn kind(status: StatusCode) -> PublishErrorKind {
    match status.as_u16() {
        413 | 414 | 431 => PublishErrorKind::TooLarge,
        400 | 411 | 415 | 422 => PublishErrorKind::Impossible,
        _ => PublishErrorKind::Transient,
    }
}

/// Returns as much of the body as fits. Reads to its end, so that the connection can be used again.
async fn read(response: &mut reqwest::Response) -> reqwest::Result<Vec<u8>> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_BYTES - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if answer.len() == ANSWER_BYTES {
            break;
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
