//! `longhaul check --connect`: planted faults are found and named, and a correct set-up has none.

mod kafka;
#[cfg(feature = "guard")]
mod kube;
mod rabbitmq;
mod sink;
mod times;

use std::path::Path;

use axum::Router;
use axum::http::header::CONNECTION;

use super::{Ran, run};

/// A finding in short: its kind, its fact and its fix.
#[derive(Debug)]
pub struct Finding {
    pub severity: String,
    pub kind: String,
    pub fact: String,
    pub fix: String,
}

/// Runs the command with this configuration.
pub async fn check(folder: &Path, config: &str, rest: &[&str]) -> (i32, Vec<Finding>) {
    let file = format!("{}.yaml", uuid::Uuid::new_v4());
    std::fs::write(folder.join(&file), config).unwrap();
    let ran: Ran = run(folder, &[&["check", "--connect", "--json", "-c", &file], rest].concat()).await;
    let json = ran.json();
    let findings = json["findings"].as_array().unwrap_or_else(|| panic!("{ran:?}"));
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = findings.iter().map(|it| Finding {
        severity: text(it, "severity"),
        kind: text(it, "kind"),
        fact: text(it, "fact"),
        fix: text(it, "fix"),
    });
    (ran.code, findings.collect())
}

/// The fault is found, and is the only error or warning.
pub fn only(kind: &str, (code, findings): (i32, Vec<Finding>)) {
    let heavy: Vec<&Finding> = findings.iter().filter(|it| it.severity != "note").collect();
    assert!(heavy.iter().any(|it| it.kind == kind), "{kind} is not found: {findings:?}");
    assert!(heavy.iter().all(|it| it.kind == kind), "only {kind} was planted: {findings:?}");
    assert!(heavy.iter().all(|it| !it.fix.is_empty() && !it.fact.is_empty()), "{findings:?}");
    let is_error = heavy.iter().any(|it| it.severity == "error");
    assert_eq!(is_error, code == 69 || code == 78, "{code} {findings:?}");
    assert_eq!(!is_error, code == 1, "{code} {findings:?}");
}

/// There is nothing but notes of these kinds.
pub fn clean(notes: &[&str], (code, findings): (i32, Vec<Finding>)) {
    assert!(
        findings.iter().all(|it| it.severity == "note" && notes.contains(&it.kind.as_str())),
        "{findings:?}"
    );
    assert_eq!(code, 0);
}

/// A service that closes each connection after its answer, so that the doctor need not wait.
pub async fn service() -> String {
    let app = Router::new().fallback(async || [(CONNECTION, "close")]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

pub fn pipeline(source: &str, sink: &str, rest: &str) -> String {
    format!(
        "pipelines:\n  - name: a\n    source: {source}\n    sink: {{ {sink} }}\n    max_in_flight: 2\n{rest}"
    )
}
