//! Each state in which a pipeline cannot make progress, with the program and real brokers: it is
//! not ready within seconds, says why in words for a stranger, repeats the log line, and is ready
//! again soon after the cause is gone.
//!
//! Every test prints its times (`--nocapture`). Only an acceptance run (`LONGHAUL_TEST_FULL=1`)
//! compares them with the limit of ten seconds, and waits for the second log line.

#![expect(clippy::print_stdout, reason = "the times are the result of a measurement")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use longhaul::config::QueueKind;
use rdkafka::mocking::MockCluster;
use serde_json::Value;

use crate::api::Admin;
use crate::kafka::support::{Broker, Relayed};
use crate::kafka::undecodable;
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::relay::{Mode, Relay};
use crate::support::worker::Worker;
use crate::support::{eventually, is_full_size};

/// The limit of both directions.
const SOON: Duration = Duration::from_secs(10);

/// The program, watched through `/readyz`.
struct Watched {
    state: String,
    bridge: Longhaul,
    admin: Admin,
    since: Instant,
}

impl Watched {
    fn run<B: Stuck>(state: &str, source: &str, worker: &Worker, more: &str) -> Self {
        let admin = Admin::free();
        let config = config(source, worker, 4, &format!("{more}{}", admin.config("")));
        let state = format!("{state} ({})", B::BROKER);
        Watched { state, bridge: Longhaul::run(&config), admin, since: Instant::now() }
    }

    /// The cause, or its end, is now.
    fn now(&mut self) {
        self.since = Instant::now();
    }

    /// Waits until `/readyz` has a reason of this kind, whose text has these words, and which says
    /// how a person can help.
    async fn is_unready(&self, kind: &str, words: &[&str]) {
        eventually(&format!("{}: {kind} with {words:?}", self.state), async || {
            let (status, body) = self.admin.get("/readyz").await;
            let fits = |reason: &Value| {
                let text = format!("{} {}", reason["text"], reason["subject"]);
                let is_whole = reason["since"].as_str().is_some_and(|since| since.ends_with('Z'))
                    && reason["help"].as_str().is_some_and(|help| help.len() > 10);
                reason["kind"] == kind && is_whole && words.iter().all(|word| text.contains(word))
            };
            status == 503 && body["reasons"].as_array().is_some_and(|reasons| reasons.iter().any(fits))
        })
        .await;
        self.took("not ready");
        if is_full_size() {
            eventually("the second log line", async || self.bridge.log().contains("The problem lasts")).await;
        }
    }

    async fn is_ready(&self) {
        eventually(&format!("{}: ready", self.state), async || self.admin.get("/readyz").await.0 == 200)
            .await;
        self.took("ready");
    }

    fn took(&self, what: &str) {
        let took = self.since.elapsed();
        println!("{}: {what} after {:.1} s", self.state, took.as_secs_f64());
        assert!(!is_full_size() || took <= SOON, "{}: {what} after {took:?}", self.state);
    }

    async fn stop(self) {
        assert_eq!(self.admin.get("/livez").await.0, 200, "an outage is not a reason to restart");
        self.bridge.stop().await;
    }
}

/// A queue or topic that a test takes away and brings back.
trait Stuck: Backlog {
    const BROKER: &'static str;
    /// A name without a queue or topic.
    async fn unborn() -> Self;
    async fn make(&self);
    async fn delete(&self);
    fn name(&self) -> &str;
}

impl Stuck for Rabbitmq {
    const BROKER: &'static str = "RabbitMQ";

    async fn unborn() -> Self {
        Rabbitmq::of(Queue::unborn(&amqp::brokers()[0]).await)
    }

    async fn make(&self) {
        self.0.declare(QueueKind::Quorum).await;
    }

    async fn delete(&self) {
        let name = self.0.name.as_str().into();
        self.0.channel.queue_delete(name, QueueDeleteOptions::default()).await.unwrap();
    }

    fn name(&self) -> &str {
        &self.0.name
    }
}

impl Stuck for Kafka {
    const BROKER: &'static str = "Kafka";

    async fn unborn() -> Self {
        Kafka(Broker::real("stuck"))
    }

    async fn make(&self) {
        self.0.create_topic(&self.0.name, 1).await;
    }

    async fn delete(&self) {
        self.0.delete_topic(&self.0.name).await;
    }

    fn name(&self) -> &str {
        &self.0.name
    }
}

macro_rules! for_both {
    ($($case:ident),*) => {
        mod rabbitmq { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Rabbitmq>().await; })* }
        mod kafka { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case::<super::Kafka>().await; })* }
    };
}

for_both!(
    a_missing_source_is_named,
    a_missing_dead_letter_target_is_named,
    a_missing_reply_target_is_named,
    an_open_breaker_is_named,
    too_many_held_items_are_named,
    items_that_wait_for_long_are_named
);

async fn a_missing_source_is_named<B: Stuck>() {
    let source = B::unborn().await;
    let worker = Worker::start(Duration::ZERO).await;
    let mut watched = Watched::run::<B>("source missing at the start", &source.source(), &worker, "");
    watched.is_unready("source-missing", &[source.name()]).await;
    watched.now();
    source.make().await;
    watched.is_ready().await;
    watched.state = format!("source deleted ({})", B::BROKER);
    watched.now();
    source.delete().await;
    watched.is_unready("source-missing", &[source.name()]).await;
    source.make().await;
    watched.now();
    watched.is_ready().await;
    source.fill([b"item".to_vec()].into_iter()).await;
    eventually("the item to be done", async || worker.done() == 1).await;
    watched.stop().await;
    source.delete().await;
}

async fn a_missing_dead_letter_target_is_named<B: Stuck>() {
    a_missing_target_is_named::<B>("dead-letter target missing", "dead_letter").await;
}

async fn a_missing_reply_target_is_named<B: Stuck>() {
    a_missing_target_is_named::<B>("reply target missing", "reply").await;
}

/// The target is looked at before an item needs it.
async fn a_missing_target_is_named<B: Stuck>(state: &str, key: &str) {
    let (source, target) = (B::create().await, B::unborn().await);
    let worker = Worker::start(Duration::ZERO).await;
    let more = format!("    {key}: {}\n", target.target());
    let mut watched = Watched::run::<B>(state, &source.source(), &worker, &more);
    watched.is_unready("target-missing", &[key, target.name()]).await;
    target.make().await;
    watched.now();
    watched.is_ready().await;
    watched.stop().await;
    source.delete().await;
    target.delete().await;
}

/// A worker that refuses with this status until the test lets it accept.
async fn refusing(status: StatusCode) -> (Worker, Arc<AtomicBool>) {
    let accepts = Arc::new(AtomicBool::new(false));
    let shared = accepts.clone();
    let answer = move |_: &[u8]| {
        let is_good = shared.load(Ordering::SeqCst);
        if is_good { StatusCode::OK } else { status }.into_response()
    };
    (Worker::with_answer(Duration::from_millis(5), answer).await, accepts)
}

async fn an_open_breaker_is_named<B: Stuck>() {
    let source = B::create().await;
    source.fill((0..10).map(|number| format!("item {number}").into_bytes())).await;
    let (worker, accepts) = refusing(StatusCode::UNAUTHORIZED).await;
    let more = "    breaker: { open: 1s }\n";
    let mut watched = Watched::run::<B>("breaker open", &source.source(), &worker, more);
    watched.is_unready("breaker-open", &["401", "refused the bridge"]).await;
    accepts.store(true, Ordering::SeqCst);
    watched.now();
    watched.is_ready().await;
    eventually("all to be done", async || watched.admin.total("done").await == 10).await;
    watched.stop().await;
    source.delete().await;
}

async fn too_many_held_items_are_named<B: Stuck>() {
    let source = B::create().await;
    source.fill((0..10).map(|number| format!("item {number}").into_bytes())).await;
    let (worker, accepts) = refusing(StatusCode::UNPROCESSABLE_ENTITY).await;
    let more = "    on_failed: hold\n    limits: { held_max: 3 }\n";
    let mut watched = Watched::run::<B>("held full", &source.source(), &worker, more);
    watched.is_unready("held-full", &["held_max"]).await;
    watched.admin.post("/api/v1/pipelines/test/pause").await;
    watched.is_unready("held-full", &["held_max"]).await;
    watched.admin.post("/api/v1/pipelines/test/resume").await;
    accepts.store(true, Ordering::SeqCst);
    watched.now();
    let (_, released) = watched.admin.post("/api/v1/pipelines/test/items/release?state=held").await;
    assert!(released["changed"].as_u64() >= Some(3), "{released}");
    watched.is_ready().await;
    eventually("all to be done", async || watched.admin.total("done").await == 10).await;
    watched.stop().await;
    source.delete().await;
}

/// RabbitMQ hands out at most `max_in_flight` items, so held items stop the pipeline before
/// `limits.held_max`.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_held_items_in_all_slots_are_named() {
    let source = Rabbitmq::create().await;
    source.fill((0..10).map(|number| format!("item {number}").into_bytes())).await;
    let (worker, accepts) = refusing(StatusCode::UNPROCESSABLE_ENTITY).await;
    let more = "    on_failed: hold\n    limits: { held_max: 50 }\n";
    let mut watched = Watched::run::<Rabbitmq>("held items in all slots", &source.source(), &worker, more);
    watched.is_unready("held-full", &["max_in_flight"]).await;
    eventually("the bound", async || watched.admin.pipeline().await["limit"]["binding"] == "occupied").await;
    accepts.store(true, Ordering::SeqCst);
    watched.now();
    watched.admin.post("/api/v1/pipelines/test/items/release?state=held").await;
    watched.is_ready().await;
    eventually("all to be done", async || watched.admin.total("done").await == 10).await;
    watched.stop().await;
    source.delete().await;
}

/// The items wait for their next attempt, for hours.
async fn items_that_wait_for_long_are_named<B: Stuck>() {
    let source = B::create().await;
    source.fill((0..3).map(|number| format!("item {number}").into_bytes())).await;
    let (worker, accepts) = refusing(StatusCode::INTERNAL_SERVER_ERROR).await;
    let more = "    breaker: { failures: 0 }\n    retry: { backoff: 3h, backoff_max: 3h }\nalerts: { stalled: 1s }\n";
    let mut watched = Watched::run::<B>("no progress for alerts.stalled", &source.source(), &worker, more);
    watched.is_unready("stalled", &["3 items wait"]).await;
    accepts.store(true, Ordering::SeqCst);
    watched.now();
    watched.admin.post("/api/v1/pipelines/test/items/retry?state=retrying").await;
    watched.is_ready().await;
    assert_eq!(worker.done(), 3);
    watched.stop().await;
    source.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_broker_that_is_away_is_named() {
    let source = Rabbitmq::create().await;
    let worker = Worker::start(Duration::ZERO).await;
    let relay = Relay::start(amqp::address(&source.0.url)).await;
    let through = source.source_at(&amqp::through(&source.0.url, relay.port()));
    let mut watched = Watched::run::<Rabbitmq>("broker away", &through, &worker, "");
    watched.is_ready().await;
    relay.set(Mode::Refuse);
    relay.cut_all();
    watched.now();
    watched.is_unready("source-unreachable", &[source.name()]).await;
    relay.set(Mode::Pass);
    watched.now();
    watched.is_ready().await;
    watched.stop().await;
    source.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_broker_that_is_away_is_named() {
    let Some(relayed) = Relayed::start("away").await else { return };
    let source = Kafka(relayed.broker.clone());
    relayed.direct.create_topic(&relayed.direct.name, 1).await;
    let worker = Worker::start(Duration::ZERO).await;
    let mut watched = Watched::run::<Kafka>("broker away", &source.source(), &worker, "");
    watched.is_ready().await;
    relayed.relay.set(Mode::Refuse);
    relayed.relay.cut_all();
    watched.now();
    watched.is_unready("source-unreachable", &["no broker of 127.0.0.1"]).await;
    relayed.relay.set(Mode::Pass);
    watched.now();
    watched.is_ready().await;
    watched.stop().await;
    relayed.direct.delete_topic(&relayed.direct.name).await;
}

/// A queue without a lifetime has the name of the queue for retries.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_retry_queue_that_cannot_be_used_is_named() {
    let source = Rabbitmq::create().await;
    let name = format!("{0}.retry.{0}.10s", source.name());
    let wrong = Queue::existing(&source.0.url, name).await;
    wrong.declare(QueueKind::Classic).await;
    let worker = Worker::start(Duration::ZERO).await;
    let more = format!("    retry: {{ backoff: 10s, backoff_max: 10s, queue: {}.retry }}\n", source.name());
    let mut watched = Watched::run::<Rabbitmq>("retry target refused", &source.source(), &worker, &more);
    watched.is_unready("target-unwritable", &["retry.queue"]).await;
    let remove = || wrong.channel.queue_delete(wrong.name.as_str().into(), QueueDeleteOptions::default());
    remove().await.unwrap();
    watched.now();
    watched.is_ready().await;
    watched.stop().await;
    remove().await.unwrap();
    source.delete().await;
}

/// The target exists and refuses every write, so only a write shows it.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_dead_letter_queue_without_room_is_named() {
    let (source, full) = (Rabbitmq::create().await, Queue::unborn(&amqp::brokers()[0]).await);
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    full.channel.queue_declare(full.name.as_str().into(), options, arguments).await.unwrap();
    source.fill((0..2).map(|number| format!("item {number}").into_bytes())).await;
    let (worker, _) = refusing(StatusCode::UNPROCESSABLE_ENTITY).await;
    let more = format!("    dead_letter: {{ rabbitmq: {{ queue: {} }} }}\n", full.name);
    let mut watched = Watched::run::<Rabbitmq>("dead-letter queue full", &source.source(), &worker, &more);
    watched.is_unready("target-unwritable", &["cannot be written", &full.name]).await;
    full.channel.queue_purge(full.name.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    watched.now();
    watched.is_ready().await;
    watched.stop().await;
    source.delete().await;
    full.delete().await;
}

/// A real broker refuses such a batch, so librdkafka's mock has it. It is passed over by an offset
/// that a person commits.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_batch_that_cannot_be_decoded_is_named() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "undecodable-stuck".to_owned() };
    undecodable::produce_noise(&broker.bootstrap, 3).await;
    let source = format!(
        "{{ kafka: {{ bootstrap_servers: [\"{}\"], topics: [t], group: {} }} }}",
        broker.bootstrap, broker.name
    );
    let worker = Worker::start(Duration::ZERO).await;
    let watched = Watched::run::<Kafka>("records cannot be decoded", &source, &worker, "");
    watched.is_unready("undecodable", &["t/0"]).await;
    watched.stop().await;
    let skipping = source.replace(" group:", " undecodable: skip, group:");
    let watched =
        Watched::run::<Kafka>("the same with undecodable: skip", &skipping, &worker, "    on_failed: drop\n");
    watched.is_ready().await;
    watched.stop().await;
}
