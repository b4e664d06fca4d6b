//! The admin interface to items and pipelines, with the program and real brokers.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use longhaul::config::QueueKind;
use serde_json::{Value, json};

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::worker::Worker;

mod checkpoints;
mod partitions;
mod replicas;

/// A worker that never ends by itself.
const ENDLESS: Duration = Duration::from_secs(3600);

/// The admin server of a bridge.
pub struct Admin(pub String);

impl Admin {
    /// An address that is free now.
    pub fn free() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Admin(listener.local_addr().unwrap().to_string())
    }

    pub fn config(&self, more: &str) -> String {
        format!("admin: {{ listen: \"{}\"{more} }}\n", self.0)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let request = crate::support::http().get(format!("http://{}{path}", self.0));
        Admin::send(request).await
    }

    pub async fn post(&self, path: &str) -> (u16, Value) {
        let request = crate::support::http().post(format!("http://{}{path}", self.0));
        Admin::send(request).await
    }

    /// The answer to a request, or status 0 without one.
    pub async fn send(request: reqwest::RequestBuilder) -> (u16, Value) {
        match request.header("accept", "application/json").send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
            }
            Err(_) => (0, Value::Null),
        }
    }

    /// The number of items in this state.
    pub async fn total(&self, state: &str) -> u64 {
        let (_, list) = self.get(&format!("/api/v1/pipelines/test/items?state={state}")).await;
        list["total"].as_u64().unwrap_or(u64::MAX)
    }

    pub async fn pipeline(&self) -> Value {
        self.get("/api/v1/pipelines/test").await.1
    }

    pub async fn metrics(&self) -> String {
        let answer = crate::support::get(format!("http://{}/metrics", self.0)).await.unwrap();
        answer.text().await.unwrap()
    }
}

pub fn path_of(item: &Value) -> String {
    let id = item["id"].as_str().unwrap();
    format!("/api/v1/items/{}", id.replace('/', "%2F").replace(':', "%3A"))
}

/// Three items are refused and held. A person looks at them and decides about each.
async fn held_items_are_shown_and_resolved<B: Backlog>() {
    let backlog = B::create().await;
    let bodies = ["good", "bad 1", "good", "bad 2", "bad 3"];
    backlog.fill(bodies.into_iter().map(|body| body.as_bytes().to_vec())).await;
    let verdict = |body: &[u8]| {
        if body.starts_with(b"bad") { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
    };
    let worker = Worker::with_verdict(Duration::from_millis(5), verdict).await;
    let admin = Admin::free();
    let more = format!("    limits: {{ held_max: 50 }}\n{}", admin.config(""));
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 8, &more));

    eventually("three held items", async || admin.total("held").await == 3).await;
    eventually("two done items", async || admin.total("done").await == 2).await;
    let (_, list) = admin.get("/api/v1/pipelines/test/items?state=held&limit=2").await;
    let first = &list["items"][0];
    assert_eq!((list["total"].as_u64(), list["items"].as_array().unwrap().len()), (Some(3), 2));
    assert_eq!((first["reason"].as_str(), first["attempt"].as_u64()), (Some("rejected"), Some(1)));
    assert_eq!(first["last"]["status"].as_u64(), Some(422), "{first}");
    let after = list["next"].as_str().unwrap();
    let (_, rest) =
        admin.get(&format!("/api/v1/pipelines/test/items?state=held&limit=2&after={after}")).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), rest["next"].as_str()), (1, None));
    let (_, by_id) = admin
        .get(&format!(
            "/api/v1/pipelines/test/items?state=held&limit=2&after={}",
            path_of(first).rsplit('/').next().unwrap()
        ))
        .await;
    assert_eq!(by_id["items"].as_array().unwrap().len(), 2, "an id is a place in the list, too");
    let metrics = admin.metrics().await;
    assert!(metrics.contains("longhaul_items{pipeline=\"test\",state=\"held\"} 3"), "{metrics}");
    let pipeline = admin.pipeline().await;
    assert_eq!(
        (pipeline["counts"]["held"].as_u64(), pipeline["counts"]["done"].as_u64()),
        (Some(3), Some(2))
    );

    let (status, dry) = admin.post("/api/v1/pipelines/test/items/drop?state=held&dry_run=true").await;
    assert_eq!((status, &dry), (200, &json!({ "matched": 3, "changed": 3, "dry_run": true })));
    let (_, none) = admin.post(&format!("{}/dead-letter", path_of(first))).await;
    assert_eq!(none["changed"].as_u64(), Some(0), "no dead letter is configured");
    let (_, retried) = admin.post(&format!("{}/retry", path_of(first))).await;
    assert_eq!(retried["changed"].as_u64(), Some(1));
    eventually("the second attempt", async || {
        let (_, item) = admin.get(&path_of(first)).await;
        item["attempt"].as_u64() == Some(2) && item["state"] == "held"
    })
    .await;
    let (_, released) = admin.post(&format!("{}/release", path_of(first))).await;
    assert_eq!(released["changed"].as_u64(), Some(1));
    eventually("the first attempt again", async || {
        let (_, item) = admin.get(&path_of(first)).await;
        item["attempt"].as_u64() == Some(1) && item["state"] == "held"
    })
    .await;
    let (_, dropped) = admin.post("/api/v1/pipelines/test/items/drop?state=held&reason=rejected").await;
    assert_eq!((dropped["matched"].as_u64(), dropped["changed"].as_u64()), (Some(3), Some(3)));
    eventually("the dropped items", async || admin.total("dropped").await == 3).await;
    assert!(bridge.log().contains("A person acted on items"), "{}", bridge.log());
    bridge.stop().await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

/// A running item is cancelled: the worker's connection closes, and the item takes the named way.
async fn a_running_item_is_cancelled<B: Backlog>() {
    let (backlog, graveyard) = (B::create().await, B::create().await);
    backlog.fill((0..3).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::start(ENDLESS).await;
    let admin = Admin::free();
    let more = format!(
        "    retry: {{ backoff: 1ms, backoff_max: 1ms }}\n    dead_letter: {}\n{}",
        graveyard.target(),
        admin.config("")
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 3, &more));
    eventually("three requests", async || worker.log().open == 3).await;
    let (_, list) = admin.get("/api/v1/pipelines/test/items?state=running").await;
    let items = list["items"].as_array().unwrap();
    assert!(items[0]["deadline"].as_str() > items[0]["since"].as_str(), "{}", items[0]);
    for (item, then) in items.iter().zip(["drop", "dead-letter", "requeue"]) {
        let (_, matched) = admin.post(&format!("{}/cancel?then={then}", path_of(item))).await;
        assert_eq!(matched["changed"].as_u64(), Some(1), "{then}");
    }
    eventually("the dropped item", async || admin.total("dropped").await == 1).await;
    eventually("the dead letter", async || admin.total("dead-lettered").await == 1).await;
    eventually("one request", async || worker.log().open == 1).await;
    let (_, last) = admin.get(&path_of(&items[2])).await;
    assert_eq!((last["state"].as_str(), last["attempt"].as_u64()), (Some("running"), Some(2)), "{last}");
    admin.post(&format!("{}/cancel?then=drop", path_of(&items[2]))).await;
    eventually("two dropped items", async || admin.total("dropped").await == 2).await;
    let (status, again) = admin.post(&format!("{}/drop", path_of(&items[2]))).await;
    assert_eq!((status, &again), (200, &json!({ "matched": 1, "changed": 0 })), "it has ended already");
    bridge.stop().await;
    assert_eq!(graveyard.take().await["longhaul-reason"], "cancelled");
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
    graveyard.remove().await;
}

/// A worker reports; its reports are shown, and its checkpoint goes to the next attempt.
async fn reports_of_a_worker_are_shown<B: Backlog>() {
    let backlog = B::create().await;
    backlog.fill([b"item".to_vec()].into_iter()).await;
    let worker = Worker::start(ENDLESS).await;
    let admin = Admin::free();
    let more = format!("    retry: {{ backoff: 1ms, backoff_max: 1ms }}\n{}", admin.config(""));
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 1, &more));
    let address = || worker.log().headers.values().next()?.get("ce-progressurl").cloned();
    eventually("the request", async || address().is_some()).await;
    let url = address().unwrap().to_str().unwrap().to_owned();
    let report = json!({ "percent": 40, "note": "half", "log": ["line 1", "line 2"], "checkpoint": "row 7", "pod": "w-1" });
    let client = crate::support::http();
    let body = report.to_string();
    let post = async |url: &str| client.post(url).body(body.clone()).send().await.unwrap().status().as_u16();
    assert_eq!(post(&url).await, 204);
    let (_, list) = admin.get("/api/v1/pipelines/test/items?state=running").await;
    let item = &list["items"][0];
    assert_eq!(
        (item["progress"]["percent"].as_f64(), item["pod"].as_str()),
        (Some(40.0), Some("w-1")),
        "{item}"
    );
    let (_, log) = admin.get(&format!("{}/log", path_of(item))).await;
    assert_eq!(log["lines"], json!(["line 1", "line 2"]));
    admin.post(&format!("{}/cancel", path_of(item))).await;
    eventually("the second attempt", async || {
        let log = worker.log();
        let checkpoint = log.headers.values().next().and_then(|headers| headers.get("ce-checkpoint"));
        checkpoint.is_some_and(|value| value == "row%207" || value == "row 7")
    })
    .await;
    assert_eq!(post(&url).await, 404, "the address was that of the first attempt");
    admin.post("/api/v1/pipelines/test/items/cancel?then=drop").await;
    eventually("the end", async || admin.total("dropped").await == 1).await;
    bridge.stop().await;
    backlog.remove().await;
}

/// A worker that reports once and then nothing loses its request, and its item goes to the dead
/// letter in the end.
async fn a_silent_worker_is_given_up<B: Backlog>() {
    let (backlog, graveyard) = (B::create().await, B::create().await);
    backlog.fill([b"item".to_vec()].into_iter()).await;
    let worker = Worker::start(ENDLESS).await;
    let admin = Admin::free();
    let more = format!(
        "    retry: {{ attempts: 2, backoff: 1ms, backoff_max: 1ms, unknown_backoff: 1ms }}\n    stalled_after: 1s\n    dead_letter: {}\n{}",
        graveyard.target(),
        admin.config("")
    );
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 1, &more));
    let client = crate::support::http();
    for attempt in ["1", "2"] {
        let address = || {
            let log = worker.log();
            let headers = log.headers.values().next()?;
            (headers["ce-attempt"] == attempt).then(|| headers["ce-progressurl"].clone())
        };
        eventually("the attempt", async || address().is_some()).await;
        let url = address().unwrap().to_str().unwrap().to_owned();
        assert_eq!(client.post(url).body("{}").send().await.unwrap().status().as_u16(), 204);
    }
    eventually("the dead letter", async || admin.total("dead-lettered").await == 1).await;
    let (_, list) = admin.get("/api/v1/pipelines/test/items?state=dead-lettered").await;
    let item = &list["items"][0];
    assert_eq!((item["attempt"].as_u64(), item["reason"].as_str()), (Some(2), Some("stalled")), "{item}");
    assert_eq!(item["last"]["outcome"].as_str(), Some("stalled"));
    bridge.stop().await;
    assert_eq!(graveyard.take().await["longhaul-reason"], "stalled");
    backlog.remove().await;
    graveyard.remove().await;
}

/// The metrics tell the progress of each queue or partition, the answers, and the age of the items.
async fn metrics_tell_the_progress_of_each_place<B: Backlog>() {
    let backlog = B::create().await;
    backlog.fill((0..5).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::held().await;
    let admin = Admin::free();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 2, &admin.config("")));
    eventually("two requests", async || worker.log().open == 2).await;
    let has = async |lines: &[&str]| {
        eventually(&format!("{lines:?}"), async || {
            let text = admin.metrics().await;
            lines.iter().all(|line| text.contains(line))
        })
        .await;
    };
    has(&["longhaul_last_progress_timestamp_seconds{pipeline=\"test\",queue=\"", "} 1"]).await;
    let is_kafka = backlog.source().contains("kafka");
    if is_kafka {
        has(&[
            "partition=\"0\"} 5\n",
            "longhaul_kafka_partition_head_age_seconds{pipeline=\"test\",topic=\"",
        ])
        .await;
    }
    worker.release_all();
    has(&["longhaul_items_finished_total{pipeline=\"test\",end=\"done\"} 5\n"]).await;
    has(&["longhaul_attempts_total{pipeline=\"test\",outcome=\"done\",code=\"200\"} 5\n"]).await;
    has(&["longhaul_attempt_duration_seconds_count{pipeline=\"test\",outcome=\"done\"} 5\n"]).await;
    if is_kafka {
        // Kafka writes a time on every record, and the AMQP messages of this test have none.
        has(&["longhaul_enqueue_to_done_seconds_count{pipeline=\"test\"} 5\n", "partition=\"0\"} 0\n"]).await;
    }
    bridge.stop().await;
    backlog.remove().await;
}

/// A worker leaves a checkpoint and fails; the bridge is stopped before the next attempt.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_checkpoint_survives_a_restart() {
    for url in amqp::brokers() {
        let backlog = Rabbitmq::of(Queue::create(&url, QueueKind::Quorum).await);
        backlog.fill([b"item".to_vec()].into_iter()).await;
        let answer = |_: &[u8]| {
            let headers = [("longhaul-outcome", "retry"), ("longhaul-checkpoint", "row%207")];
            (StatusCode::SERVICE_UNAVAILABLE, headers).into_response()
        };
        let worker = Worker::with_answer(Duration::from_millis(5), answer).await;
        let admin = Admin::free();
        let more = format!("    retry: {{ backoff: 1h, backoff_max: 1h }}\n{}", admin.config(""));
        let bridge = Longhaul::run(&config(&backlog.source(), &worker, 1, &more));
        eventually("the failed attempt", async || admin.total("retrying").await == 1).await;
        bridge.stop().await;
        eventually("the copy", async || backlog.left().await == 1).await;
        let second = Worker::start(Duration::ZERO).await;
        let bridge = Longhaul::run(&config(&backlog.source(), &second, 1, ""));
        eventually("the second attempt", async || second.done() == 1).await;
        bridge.stop().await;
        let log = second.log();
        let (_, headers) = log.headers.iter().next().unwrap();
        assert_eq!(
            (&headers["ce-checkpoint"], &headers["ce-attempt"]),
            (&"row%207".parse().unwrap(), &"2".parse().unwrap())
        );
        assert_eq!(worker.log().started.keys().next(), log.started.keys().next(), "the id stays");
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        backlog.remove().await;
    }
}

macro_rules! for_both {
    ($($case:ident),*) => {
        mod rabbitmq { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Rabbitmq>().await; })* }
        mod kafka { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Kafka>().await; })* }
    };
}

for_both!(
    held_items_are_shown_and_resolved,
    a_running_item_is_cancelled,
    reports_of_a_worker_are_shown,
    a_silent_worker_is_given_up,
    metrics_tell_the_progress_of_each_place
);

/// A pipeline is paused, limited and drained, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_pipeline_is_paused_limited_and_drained() {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await);
    let worker = Worker::start(Duration::from_millis(20)).await;
    let admin = Admin::free();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &admin.config("")));
    eventually("the admin server", async || admin.get("/api/v1/pipelines").await.0 == 200).await;
    let act = async |action: &str| admin.post(&format!("/api/v1/pipelines/test/{action}")).await;
    assert_eq!(act("pause").await.1["changed"], true);
    assert_eq!(act("pause").await.1["changed"], false);
    backlog.fill((0..6).map(|number| format!("item {number}").into_bytes())).await;
    eventually("the deliveries", async || admin.total("waiting").await == 4).await;
    let paused = admin.pipeline().await;
    assert_eq!(
        (paused["state"].as_str(), paused["limit"]["binding"].as_str()),
        (Some("paused"), Some("paused"))
    );
    assert_eq!(worker.log().started.len(), 0);
    assert_eq!(act("limit?max_in_flight=5").await.1["changed"], false, "more than max_in_flight");
    assert_eq!(act("limit").await.0, 400);
    assert_eq!(act("limit?max_in_flight=1").await.1["changed"], true);
    assert_eq!(act("resume").await.1["changed"], true);
    eventually("all items to be done", async || admin.total("done").await == 6).await;
    assert_eq!(worker.log().most_open, 1);
    let unchanged = act("resume").await.1;
    assert_eq!(unchanged["changed"], false, "{unchanged}");
    assert_eq!(act("drain").await.1["changed"], true);
    eventually("the drain", async || admin.pipeline().await["state"] == "drained").await;
    backlog.fill([b"late".to_vec()].into_iter()).await;
    assert_eq!(admin.total("done").await, 6, "the finished items can still be read");
    assert_eq!(backlog.left().await, 1, "the late item stays in the queue");
    assert_eq!(act("resume").await.1["changed"], true);
    eventually("the late item", async || admin.total("done").await == 7).await;
    eventually("readiness", async || admin.get("/readyz").await.0 == 200).await;
    assert_eq!(act("drain").await.1["changed"], true);
    eventually("the second drain", async || admin.pipeline().await["state"] == "drained").await;
    backlog.fill([b"last".to_vec()].into_iter()).await;
    bridge.stop().await;
    eventually("the last item to be in the queue", async || backlog.left().await == 1).await;
    assert_eq!(worker.done(), 7);
    backlog.remove().await;
}

/// A drained pipeline starts again without a restart of the process, also if that was asked for
/// before its last item ended.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_pipeline_is_drained_and_resumed() {
    let backlog = Kafka::create().await;
    let worker = Worker::held().await;
    let admin = Admin::free();
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &admin.config("")));
    let act = async |action: &str| admin.post(&format!("/api/v1/pipelines/test/{action}")).await;
    backlog.fill([b"first".to_vec()].into_iter()).await;
    eventually("the first item", async || worker.log().open == 1).await;
    assert_eq!(act("drain").await.1["changed"], true);
    assert_eq!(act("resume").await.1["changed"], true);
    assert_eq!(admin.pipeline().await["state"], "draining");
    backlog.fill([b"second".to_vec()].into_iter()).await;
    assert_eq!(worker.log().open, 1);
    worker.release(1);
    eventually("the second item", async || admin.total("done").await == 1 && worker.log().open == 1).await;
    assert_eq!(admin.pipeline().await["state"], "running");
    worker.release_all();
    eventually("both items", async || admin.total("done").await == 2).await;
    bridge.stop().await;
    assert_eq!((worker.log().second_runs(), worker.done()), (0, 2));
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

/// Reads need the token that protects them, changes need the other, and mistakes are named.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_rights_and_mistakes() {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await);
    let worker = Worker::start(Duration::from_millis(20)).await;
    let admin = Admin::free();
    let tokens = ", token: change-all-of-it, read_token: only-look-at-it";
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &admin.config(tokens)));
    eventually("the admin server", async || admin.get("/livez").await.0 == 200).await;
    let send = async |method: reqwest::Method, path: &str, token: &str| {
        let request = crate::support::http().request(method, format!("http://{}{path}", admin.0));
        Admin::send(request.bearer_auth(token)).await
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    assert_eq!(admin.get("/api/v1/pipelines").await.0, 401);
    assert_eq!(admin.get("/api/v1/events").await.0, 401);
    assert_eq!(send(get.clone(), "/api/v1/pipelines", "only-look-at-it").await.0, 200);
    assert_eq!(send(get.clone(), "/api/v1/pipelines", "change-all-of-it").await.0, 200);
    assert_eq!(send(post.clone(), "/api/v1/pipelines/test/pause", "only-look-at-it").await.0, 401);
    for (method, path, status, text) in [
        (&get, "/api/v1/pipelines/tset", 404, "the pipelines are test"),
        (&get, "/api/v1/items/none", 404, "no item"),
        (&get, "/api/v1/pipelines/test/items?state=hold", 400, "the states are"),
        (&get, "/api/v1/pipelines/test/items?older=soon", 400, "not a duration"),
        (&get, "/api/v1/pipelines/test/items?stat=held", 400, "unknown field `stat`"),
        (&get, "/api/v1/pipelines/test/items?limit=many", 400, "docs/api.md"),
        (&get, "/api/v1/items/%FF", 400, "UTF-8"),
        (&post, "/api/v1/pipelines/test/partitions/t/x/pause", 400, "docs/api.md"),
        (&post, "/api/v1/pipelines/test/items/remove", 404, "the actions are"),
        (&post, "/api/v1/pipelines/test/stop", 404, "pause, resume, drain and limit"),
        (&post, "/api/v1/pipelines/test/items/cancel?then=burn", 400, "then=requeue"),
    ] {
        let (found, body) = send(method.clone(), path, "change-all-of-it").await;
        let body = body.to_string();
        assert!(found == status && body.contains(text), "{path}: {found} {body}");
    }
    for (method, path, status) in [(&get, "/api/v1/pipeline", 404), (&post, "/api/v1/pipelines", 405)] {
        let request = crate::support::http().request(method.clone(), format!("http://{}{path}", admin.0));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert!(answer.text().await.unwrap().contains("docs/api.md"), "{path}");
    }
    let misspelt = "/api/v1/pipelines/test/items/drop?sate=held";
    for path in [
        misspelt,
        "/api/v1/pipelines/test/items/drop?state=",
        "/api/v1/pipelines/test/items/drop?state=held&limit=1",
        "/api/v1/items/id-0/drop?state=held",
    ] {
        let (status, body) = send(post.clone(), path, "change-all-of-it").await;
        assert_eq!(status, 400, "{path} would drop more than was meant: {body}");
    }
    bridge.stop().await;
    backlog.remove().await;
}

/// Every change is published while it happens, also to a reader beside many strangers.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_changes_are_published() {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await);
    let worker = Worker::start(Duration::from_millis(20)).await;
    let admin = Admin::free();
    let rights = ", read_token: only-look-at-it";
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &admin.config(rights)));
    eventually("the admin server", async || admin.get("/livez").await.0 == 200).await;
    let reading = crate::support::http().get(format!("http://{}/api/v1/events", admin.0));
    let mut events = reading.bearer_auth("only-look-at-it").send().await.unwrap();
    assert_eq!(events.status(), 200);
    // Each new stranger beyond the bound closes the connection of an older one.
    let mut strangers = Vec::new();
    for _ in 0..200 {
        strangers.push(tokio::net::TcpStream::connect(&admin.0).await.unwrap());
    }
    eventually("the probe", async || admin.get("/livez").await.0 == 200).await;
    backlog.fill([b"item".to_vec()].into_iter()).await;
    let mut text = String::new();
    while !text.contains("\"state\":\"done\"") {
        let chunk = tokio::time::timeout(crate::support::DEADLINE, events.chunk()).await;
        text.push_str(&String::from_utf8_lossy(&chunk.expect("an event").unwrap().expect("no end")));
    }
    assert!(text.contains("event: item\n") && text.contains("\"state\":\"running\""), "{text}");
    drop(events);
    bridge.stop().await;
    backlog.remove().await;
}
