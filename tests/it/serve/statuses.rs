//! Gets every answer of Knative's own that `serve` can give, over the wire.

use std::time::{Duration, Instant};

use super::super::support::{eventually, within};
use super::support::{Manifest, Serve, send, split};
use super::worker;

async fn serve(manifest: Manifest) -> Serve {
    Serve::start(&manifest, &[], &worker::words()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_own_answers_come_through_and_its_failures_in_knatives_words() {
    let serve = serve(Manifest::one_at_a_time()).await;
    for (path, status, body) in [
        ("/status/200", 200, "item"),
        ("/status/418%20Teapot", 418, "item"),
        ("/status/500", 500, "item"),
        // A 1xx replaces the status that follows.
        ("/early/500", 200, "item"),
        ("/early/close", 200, "EOF\n"),
        ("/env/K_SERVICE", 200, "hello"),
        ("/env/K_REVISION", 200, "hello-00001"),
        ("/env/K_CONFIGURATION", 200, "hello"),
        ("/env/A", 200, "b"),
        // A connection closed without an answer looks like a worker that dies.
        ("/close", 502, "EOF\n"),
        ("/crash", 502, "EOF\n"),
    ] {
        assert_eq!(serve.ask(path, "").await, (status, body.to_owned()), "{path}");
    }
    // The worker is started again. Until then its port refuses, as in a pod.
    eventually("it is back", async || serve.ask("/status/200", "").await.0 == 200).await;
    let answer = send(&serve.address, "POST /close", "", "item").await.to_lowercase();
    assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
    assert!(!answer.contains("longhaul-outcome"), "only a worker's own answer has its header");
    let streamed = within("the stream", serve.post("/stream/10")).await.unwrap();
    assert!(streamed.ends_with("\r\n1\r\na\r\n1\r\na\r\n1\r\na\r\n0\r\n\r\n"), "{streamed}");
    let half = within("the half stream", serve.post("/half/50")).await.unwrap();
    assert_eq!(half.split(' ').nth(1), Some("200"), "{half}");
    assert!(half.ends_with("\r\n\r\n1\r\na\r\n"), "cut, without the last chunk: {half}");
    serve.stop().await;
}

/// Go's servers limit only the bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_have_many_headers() {
    let serve = serve(Manifest::one_at_a_time()).await;
    let headers: String = (0..2_000).map(|number| format!("ce-kafkaheader{number}: v\r\n")).collect();
    assert_eq!(serve.ask("/status/200", &headers).await, (200, "item".to_owned()));
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_nobody_listens_on_refuses() {
    // A second replica, which a slow start may cause, would answer instead.
    let serve = serve(Manifest::one_at_a_time().annotation("max-scale", 1)).await;
    assert_eq!(serve.ask("/deaf", "").await.0, 200);
    let refused = (502, "dial tcp 127.0.0.1:8080: connect: connection refused\n".to_owned());
    eventually("the port is closed", async || serve.ask("/", "").await == refused).await;
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_runs_from_the_arrival_and_ends_what_waits_and_what_runs() {
    let manifest = Manifest::one_at_a_time().spec("timeoutSeconds: 3").annotation("max-scale", 1);
    let serve = serve(manifest).await;
    serve.until("it is ready", |now| now["ready"] == 1).await;
    let begun = Instant::now();
    let (runs, waits) = (serve.post("/sleep/60000"), serve.post("/sleep/60000"));
    for answer in [runs, waits] {
        let answer = answer.await.unwrap();
        assert_eq!(split(&answer), (504, "activator request timeout".into()));
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(8), "{took:?}");
    // The slot is free at once, although the unresponsive worker still sleeps.
    assert_eq!(serve.ask("/status/200", "").await.0, 200);
    // An answer that has begun ends as if it were complete. Only its last line shows the timeout.
    let streamed = within("the stream", serve.post("/stream/2000")).await.unwrap();
    assert!(streamed.starts_with("HTTP/1.1 200 OK\r\n"), "{streamed}");
    assert!(streamed.ends_with("1\r\na\r\n19\r\nactivator request timeout\r\n0\r\n\r\n"), "{streamed}");
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_start_or_go_on_is_ended() {
    for limit in ["responseStartTimeoutSeconds: 1", "idleTimeoutSeconds: 1"] {
        let serve = serve(Manifest::one_at_a_time().spec("timeoutSeconds: 60").spec(limit)).await;
        serve.until("it is ready", |now| now["ready"] == 1).await;
        assert_eq!(serve.ask("/sleep/5000", "").await, (504, "activator request timeout".into()), "{limit}");
        let streamed = within("the stream", serve.post("/stream/2500")).await.unwrap();
        let last = if limit.starts_with("idle") { "request timeout\r\n0\r\n\r\n" } else { "a\r\n0\r\n\r\n" };
        assert!(streamed.ends_with(last), "{limit}: {streamed}");
        serve.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_activator_a_replicas_queue_is_ten_deep() {
    let manifest = Manifest::one_at_a_time()
        .spec("timeoutSeconds: 3")
        .annotation("target-burst-capacity", 0)
        .annotation("max-scale", 1);
    let serve = serve(manifest).await;
    serve.until("it is ready", |now| now["ready"] == 1).await;
    let held: Vec<_> = (0..11).map(|_| serve.post("/sleep/60000")).collect();
    serve.until("ten wait", |now| now["queued"] == 10).await;
    assert_eq!(serve.ask("/", "").await, (503, "pending request queue full\n".into()));
    for answer in held {
        assert_eq!(split(&answer.await.unwrap()), (504, "request timeout".into()));
    }
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_without_a_worker() {
    let serve = Serve::start(&Manifest::one_at_a_time(), &[], &["/bin/false".into()]).await;
    let bad_request = |text: &str| (400, format!("{text}\n"));
    for (headers, expected) in [
        ("User-Agent: kube-probe/1.30\r\n", (200, String::new())),
        ("K-Network-Probe: activator\r\n", (200, "activator".into())),
        ("K-Network-Probe: queue\r\n", bad_request("unexpected probe header value: \"queue\"")),
        ("K-Network-Probe: probe\r\nK-Network-Hash: h\r\n", (200, String::new())),
        (
            "K-Network-Probe: probe\r\n",
            bad_request("a probe request must contain a non-empty \"K-Network-Hash\" header"),
        ),
    ] {
        assert_eq!(serve.ask("/", headers).await, expected, "{headers}");
    }
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_come_when_they_are_asked_for() {
    let faults = |chaos: &'static str| async move {
        Serve::start(&Manifest::one_at_a_time(), &["--chaos", chaos], &worker::words()).await
    };
    let killing = faults("kill=1").await;
    assert_eq!(killing.ask("/sleep/60000", "").await, (502, "EOF\n".into()));
    killing.stop().await;
    let refusing = faults("refuse=1").await;
    assert_eq!(refusing.ask("/", "").await.1, "dial tcp 127.0.0.1:8080: connect: connection refused\n");
    refusing.stop().await;
    let resetting = faults("reset=1").await;
    assert_eq!(resetting.post("/").await.unwrap(), "", "closed without an answer");
    resetting.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_scales_on_its_rate_is_refused() {
    let (code, said) = Serve::refused(&Manifest::one_at_a_time().annotation("metric", "rps")).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("error: service.yaml: metric `rps` can't be served\n  help: "), "{said}");
}
