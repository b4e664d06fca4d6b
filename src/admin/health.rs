//! Answers `/livez` and `/readyz`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{View, accept};
use crate::telemetry::Reason;

/// The answer of `/readyz` as JSON.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Reason>,
}

/// The process is alive while its loops run. An outage of a broker or a service is not a
/// reason to restart it.
pub(super) async fn livez(State(view): State<Arc<View>>) -> Response {
    let wedged = view.pipelines.iter().flat_map(|status| {
        status.wedged().into_iter().map(|problem| format!("{}: {}\n", status.name, problem.text))
    });
    let wedged: String = wedged.collect();
    if wedged.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, wedged).into_response()
}

/// Answers 200 while every pipeline takes items and makes progress. Otherwise lists all reasons, as
/// text or as JSON.
///
/// A service that is down for a short time does not make the bridge unready: the bridge waits for
/// it.
pub(super) async fn readyz(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    let reasons: Vec<Reason> = view.pipelines.iter().flat_map(|status| status.reasons()).collect();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if accept::choose(&headers, &["text/plain", "application/json"]) == 1 {
        return (status, Json(Readiness { ready, reasons })).into_response();
    }
    if ready {
        return "ok\n".into_response();
    }
    (status, reasons.iter().map(line).collect::<String>()).into_response()
}

fn line(reason: &Reason) -> String {
    let Reason { pipeline, kind, subject, since, text, help } = reason;
    let of = if subject.is_empty() { String::new() } else { format!(" of {}", printable(subject)) };
    format!("{pipeline}: {} ({kind}{of}, since {since})\n  help: {}\n", printable(text), printable(help))
}

/// Puts text from outside on one line, without control characters.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::header::ACCEPT;

    use super::*;
    use crate::telemetry::{Metrics, Problem, ProblemKind, Status};

    async fn ask(view: &Arc<View>, accept: &'static str) -> (u16, String) {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        let response = readyz(State(view.clone()), headers).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A wedged core, or a wedged poll thread of Kafka.
    #[tokio::test(start_paused = true)]
    async fn a_wedged_loop_fails_livez_and_an_outage_does_not() {
        let status = Arc::new(Status::new("p"));
        let poll = status.pulse("kafka poll thread");
        let view = Arc::new(View { metrics: Arc::new(Metrics::new()), pipelines: vec![status.clone()] });
        let alive = async || {
            let answer = livez(State(view.clone())).await;
            let status = answer.status().as_u16();
            (
                status,
                String::from_utf8(to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap(),
            )
        };
        let wedged = async |name: &str| {
            let (code, text) = alive().await;
            assert!(code == 503 && text.contains(name) && text.lines().count() == 1, "{code} {text}");
            let (code, text) = ask(&view, "*/*").await;
            assert!(code == 503 && text.contains("wedged of") && text.contains("help: restart"), "{text}");
        };
        let silence = std::time::Duration::from_secs(61);
        status.set_connected(false);
        status.beat();
        poll.beat();
        assert_eq!(alive().await, (200, "ok\n".to_owned()), "an outage is not a reason to restart");
        tokio::time::advance(silence).await;
        poll.beat();
        wedged("the pipeline loop has not run").await;
        status.beat();
        assert_eq!(alive().await.0, 200);
        tokio::time::advance(silence).await;
        status.beat();
        wedged("the kafka poll thread has not run").await;
        poll.beat();
        assert_eq!(alive().await.0, 200);
    }

    #[tokio::test]
    async fn all_reasons_are_given_as_text_and_as_json() {
        let status = Arc::new(Status::new("p"));
        let view = Arc::new(View { metrics: Arc::new(Metrics::new()), pipelines: vec![status.clone()] });
        status.set_connected(true);
        assert_eq!(ask(&view, "*/*").await, (200, "ok\n".to_owned()));
        assert_eq!(ask(&view, "application/json").await, (200, r#"{"ready":true,"reasons":[]}"#.to_owned()));
        status.raise(Problem {
            kind: ProblemKind::TargetMissing,
            subject: "q.dead".to_owned(),
            text: "the dead-letter queue q.dead is missing\nforged: ok".to_owned(),
            help: "create it".to_owned(),
        });
        status.set_held_full(true);
        let (code, text) = ask(&view, "*/*").await;
        assert_eq!((code, text.lines().count()), (503, 4), "{text}");
        assert!(text.contains(
            "p: the dead-letter queue q.dead is missing forged: ok (target-missing of q.dead, since 20"
        ));
        assert!(text.contains("\n  help: create it\n"), "{text}");
        let (code, json) = ask(&view, "application/json").await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (code, json["ready"].as_bool(), json["reasons"].as_array().unwrap().len()),
            (503, Some(false), 2)
        );
        let reason = &json["reasons"][0];
        assert_eq!(
            (reason["pipeline"].as_str(), reason["kind"].as_str()),
            (Some("p"), Some("target-missing"))
        );
        assert!(reason["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{reason}");
        assert_eq!(reason["help"], "create it");
        let alive = livez(State(view)).await;
        assert_eq!(alive.status(), 200, "an outage is not a reason to restart");
    }
}
