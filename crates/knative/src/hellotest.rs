//! The sample worker: an HTTP service that waits, which stands for work, and answers
//! `Hello {TARGET}!`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::duration;

/// The settings of hellotest; read once at the start.
#[derive(Clone)]
pub struct Settings {
    /// The name in the greeting (`TARGET`).
    pub target: String,
    pub wait: Wait,
    /// The port (`PORT`), which Knative sets for a container.
    pub port: u16,
    /// Whether each answer carries `Longhaul-Outcome: done`, which tells a bridge that the worker
    /// itself answered.
    pub outcome: OutcomeHeader,
}

/// How long the work takes.
#[derive(Clone)]
pub enum Wait {
    None,
    /// All requests take the same time. The text is part of the answer (`WAITSECOND`, such as
    /// `30s`).
    Fixed {
        text: String,
        length: Duration,
    },
    /// Each request has its own time, for example from a header.
    PerRequest(Arc<dyn Fn(&Parts) -> Duration + Send + Sync>),
    /// `WAITSECOND` is not a duration: each request is answered with this error.
    Invalid(duration::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeHeader {
    Absent,
    Done,
}

/// The reason why hellotest cannot start.
#[derive(Debug, thiserror::Error)]
#[error("invalid PORT {0:?}: expected a number in 1..65535")]
pub struct InvalidPort(String);

impl Default for Settings {
    fn default() -> Self {
        Settings { target: "World".into(), wait: Wait::None, port: 8080, outcome: OutcomeHeader::Absent }
    }
}

impl Settings {
    /// Reads the settings through `variable`, usually the process environment: `TARGET`,
    /// `WAITSECOND`, `PORT`, and `OUTCOME_HEADER` (`true` adds the header). A variable that is
    /// empty counts as absent.
    ///
    /// # Errors
    /// `PORT` is not a port. A bad `WAITSECOND` is not an error here: the service starts, and each
    /// answer names the mistake.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidPort> {
        let read = |name| variable(name).filter(|text| !text.is_empty());
        let default = Settings::default();
        let port = match read("PORT") {
            None => default.port,
            Some(text) => text.parse().ok().filter(|port| *port != 0).ok_or(InvalidPort(text))?,
        };
        Ok(Settings {
            target: read("TARGET").unwrap_or(default.target),
            wait: read("WAITSECOND").map_or(Wait::None, |text| Wait::fixed(&text)),
            port,
            outcome: if read("OUTCOME_HEADER").as_deref() == Some("true") {
                OutcomeHeader::Done
            } else {
                OutcomeHeader::Absent
            },
        })
    }

    /// Answers one request after the wait. Dropping the future ends the work.
    pub async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        // The body is read to its end although its content is not needed, because only then does
        // the server notice that the client has gone.
        let mut body = body.into_data_stream();
        while let Some(Ok(_)) = body.next().await {}
        let (wait, text) = match &self.wait {
            Wait::None => return self.greeting(format!("Hello {}!", self.target)),
            Wait::Invalid(error) => {
                tracing::error!(%error, "WAITSECOND is not a duration");
                return failure(&format!("WAITSECOND: {error}"));
            }
            Wait::Fixed { text, length } => (*length, text.clone()),
            Wait::PerRequest(wait_of) => {
                let length = wait_of(&parts);
                (length, format!("{length:?}"))
            }
        };
        tokio::time::sleep(wait).await;
        self.greeting(format!("Hello {}! wait time {text}", self.target))
    }

    fn greeting(&self, text: String) -> Response {
        let mut response = Response::new(Body::from(text));
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.outcome == OutcomeHeader::Done {
            headers.insert("longhaul-outcome", HeaderValue::from_static("done"));
        }
        response
    }
}

impl Wait {
    pub fn fixed(text: &str) -> Self {
        match duration::parse(text) {
            Ok(length) => Wait::Fixed { text: text.into(), length },
            Err(error) => Wait::Invalid(error),
        }
    }
}

/// Returns the service: every method and path is one item of work.
pub fn router(settings: Settings) -> Router {
    if let Wait::Invalid(error) = &settings.wait {
        tracing::error!(%error, "WAITSECOND is not a duration; every request gets a 500");
    }
    let settings = Arc::new(settings);
    Router::new().fallback(move |request: Request| {
        let settings = Arc::clone(&settings);
        async move { settings.answer(request).await }
    })
}

fn failure(text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, InvalidPort> {
        Settings::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        })
    }

    async fn answer(settings: &Settings) -> (StatusCode, String) {
        let response = settings.answer(Request::new(Body::empty())).await;
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn greets_the_target_after_the_wait() {
        let start = tokio::time::Instant::now();
        let plain = answer(&settings(&[]).unwrap()).await;
        assert_eq!(plain, (StatusCode::OK, "Hello World!".into()));
        assert!(start.elapsed().is_zero());
        let waiting = settings(&[("TARGET", "Knative"), ("WAITSECOND", "1m30s")]).unwrap();
        assert_eq!(answer(&waiting).await, (StatusCode::OK, "Hello Knative! wait time 1m30s".into()));
        assert_eq!(start.elapsed().as_secs(), 90);
        let by_header = Settings {
            wait: Wait::PerRequest(Arc::new(|_| Duration::from_millis(2500))),
            ..settings(&[]).unwrap()
        };
        assert_eq!(answer(&by_header).await.1, "Hello World! wait time 2.5s");
    }

    #[tokio::test]
    async fn a_bad_duration_is_answered_with_what_is_wrong() {
        let (status, text) = answer(&settings(&[("WAITSECOND", "30")]).unwrap()).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains("missing unit in duration \"30\""), "{text}");
    }

    #[test]
    fn the_port_is_a_number_and_8080_by_default() {
        assert_eq!(settings(&[]).unwrap().port, 8080);
        assert_eq!(settings(&[("PORT", "9000")]).unwrap().port, 9000);
        for bad in ["http", "0", "70000"] {
            assert!(settings(&[("PORT", bad)]).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_outcome_header_is_there_on_request() {
        let response =
            settings(&[("OUTCOME_HEADER", "true")]).unwrap().answer(Request::new(Body::empty())).await;
        assert_eq!(response.headers()["longhaul-outcome"], "done");
    }
}
