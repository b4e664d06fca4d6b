//! Reaches the receiver over HTTP. The library encodes the requests; this client bounds the answer
//! and keeps the reason of a failure, which the library leaves out.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{LogExporter, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};

use super::TracesError;
use super::settings::Settings;
use crate::config;
use crate::connect::http::{self, Trust, Watched};

/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 64 * 1024;

/// Characters of an answer that a warning shows.
const SHOWN: usize = 200;

/// The reason of the latest failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault(Arc<Mutex<Option<Reason>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub text: String,
    /// Whether the same request may succeed later.
    pub is_passing: bool,
}

impl Fault {
    fn set(&self, reason: Option<Reason>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub fn take(&self) -> Option<Reason> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Client {
    client: Watched<reqwest::Client>,
    timeout: Duration,
    fault: Fault,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Returns the sender of spans.
pub(super) fn spans(settings: &Settings) -> Result<(SpanExporter, Fault), TracesError> {
    let (client, fault) = client(settings, &settings.spans)?;
    let builder = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_retry_policy(RetryPolicy::disabled())
        .with_endpoint(&settings.spans)
        .with_timeout(settings.timeout);
    Ok((builder.build().map_err(|_| refused(&settings.spans))?, fault))
}

/// Returns the sender of log records.
pub(super) fn records(settings: &Settings, endpoint: &str) -> Result<(LogExporter, Fault), TracesError> {
    let (client, fault) = client(settings, endpoint)?;
    let builder = LogExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_retry_policy(RetryPolicy::disabled())
        .with_endpoint(endpoint)
        .with_timeout(settings.timeout);
    Ok((builder.build().map_err(|_| refused(endpoint))?, fault))
}

fn unusable(error: impl std::fmt::Display) -> TracesError {
    TracesError { reason: format!("the traces: {error}"), help: "correct the variables OTEL_EXPORTER_OTLP_*" }
}

/// The library's own text would show the whole address.
fn refused(endpoint: &str) -> TracesError {
    unusable(format!("{} is not an address to send to", http::shown_text(endpoint)))
}

fn client(settings: &Settings, endpoint: &str) -> Result<(Client, Fault), TracesError> {
    let url = http::url(endpoint).map_err(unusable)?;
    let (ca_file, cert_file, key_file) =
        (settings.ca_file.clone(), settings.cert_file.clone(), settings.key_file.clone());
    let tls = config::Tls { ca_file, cert_file, key_file };
    let trust = Trust { tls, ..Trust::default() };
    let client = http::client(trust, &url, http::builder).map_err(unusable)?;
    let fault = Fault::default();
    Ok((Client { client, timeout: settings.timeout, fault: fault.clone() }, fault))
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'this, 'sending>(&'this self, request: Request<Bytes>) -> Sending<'sending>
    where
        'this: 'sending,
        Self: 'sending,
    {
        Box::pin(async move {
            let answer = tokio::time::timeout(self.timeout, self.post(request)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout).into()));
            self.fault.set(match &answer {
                Ok(answer) => refusal(answer),
                Err(error) => Some(Reason { text: http::with_causes(error.as_ref()), is_passing: true }),
            });
            answer
        })
    }
}

impl Client {
    /// The errors are without the address, whose query may hold a key.
    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = request.try_into().map_err(reqwest::Error::without_url)?;
        let mut answer = self.client.get().execute(request).await.map_err(reqwest::Error::without_url)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response::builder().status(answer.status()).body(body.into())?)
    }
}

/// The reason why the receiver refused a request, if it did.
fn refusal(answer: &Response<Bytes>) -> Option<Reason> {
    let status = answer.status();
    let said: String = String::from_utf8_lossy(answer.body()).chars().take(SHOWN).collect();
    let said: String = said.chars().filter(|it| !it.is_control() && *it != '\u{fffd}').collect();
    let text = format!("the receiver answered {status} {said}").trim_end().to_owned();
    let is_passing = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    (!status.is_success()).then_some(Reason { text, is_passing })
}
