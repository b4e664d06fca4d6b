//! The cluster of kubectl's configuration, as an API server of the test.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

use super::{check, clean, only, pipeline, service};
use crate::run::backlog::{Backlog, Kafka};

/// Answers like an API server: objects of a list have no kind, and a refusal is a Status.
async fn answer(request: Request) -> Response {
    let status = |code: u16| {
        let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "no", "reason": "No", "code": code });
        (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
    };
    let deployment = |name: &str, grace: u64| {
        json!({ "metadata": { "name": name },
            "spec": { "template": { "spec": { "terminationGracePeriodSeconds": grace, "containers": [] } } } })
    };
    let list = |items: Vec<serde_json::Value>| {
        Json(json!({ "kind": "DeploymentList", "apiVersion": "apps/v1", "items": items })).into_response()
    };
    match request.uri().path() {
        "/apis/serving.knative.dev/v1/namespaces/jobs/services/worker" => Json(json!({
            "kind": "Service", "apiVersion": "serving.knative.dev/v1", "metadata": { "name": "worker" },
            "spec": { "template": { "spec": { "containerConcurrency": 1, "timeoutSeconds": 3600,
                "responseStartTimeoutSeconds": 3600, "idleTimeoutSeconds": 0 } } }
        }))
        .into_response(),
        "/api/v1/namespaces/knative-serving/configmaps/config-defaults" => Json(json!({
            "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "config-defaults" },
            "data": { "max-revision-timeout-seconds": "3600" }
        }))
        .into_response(),
        "/apis/apps/v1/namespaces/knative-serving/deployments" => list(vec![deployment("activator", 60)]),
        "/apis/apps/v1/namespaces/kourier-system/deployments" => status(403),
        _ => status(404),
    }
}

fn kubeconfig(server: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "c", "cluster": { "server": server } }],
        "users": [{ "name": "u", "user": { "token": "secret" } }],
        "contexts": [{ "name": "test", "context": { "cluster": "c", "user": "u", "namespace": "jobs" } }],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_of_timeouts_is_read_from_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::create().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    std::fs::write(folder.path().join("right"), kubeconfig(&server)).unwrap();
    std::fs::write(folder.path().join("dead"), kubeconfig("http://127.0.0.1:9")).unwrap();
    let sink = format!("url: '{}', host: worker.jobs.example.com, timeout: 61m", service().await);
    let config = pipeline(&kafka.source(), &sink, "    on_failed: hold\ndrain: { timeout: 65m }\n");

    let (code, findings) = check(folder.path(), &config, &["--kubeconfig", "right"]).await;
    let refused = findings.iter().find(|it| it.kind == "cluster").expect("a note");
    assert!(refused.severity == "note" && refused.fact.contains("kourier-system"), "{findings:?}");
    let rest = findings.into_iter().filter(|it| it.kind != "cluster").collect();
    only("proxy-grace", (code, rest));

    // The command goes on if a cluster does not answer. It refuses a context that does not exist.
    clean(&["cluster"], check(folder.path(), &config, &["--kubeconfig", "dead"]).await);
    let arguments = ["check", "--connect", "-c", "c.yaml", "--kubeconfig", "right", "--context", "none"];
    std::fs::write(folder.path().join("c.yaml"), &config).unwrap();
    let ran = crate::tools::run(folder.path(), &arguments).await;
    assert!(ran.code == 64 && ran.err.contains("get-contexts"), "{ran:?}");
    kafka.remove().await;
}
