//! A worker that is killed at 90 % of its work goes on there, also in another process of the
//! bridge.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use rdkafka::Message as _;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::process::{Child, Command};

use super::Admin;
use crate::kafka::support::{Broker, PATIENCE};
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::process::Longhaul;
use crate::support::rabbitmq as amqp;
use crate::support::{eventually, rabbitmq::Queue};

/// Without a checkpoint it works to 90 % and stays there. With one it ends. The checkpoint comes
/// before the progress, so a test that sees the progress can rely on it.
const COMMAND: &str = r#"if [ -n "$CE_CHECKPOINT" ]; then echo "$CE_CHECKPOINT" > "$OUT"; exit 0; fi
echo '::checkpoint row 90'; echo '::progress 90 nearly'; sleep 600"#;

/// `longhaul worker` at a fixed address.
struct Shim {
    port: String,
    folder: tempfile::TempDir,
}

impl Shim {
    fn new() -> Self {
        let port = Admin::free().0.rsplit(':').next().unwrap().to_owned();
        Shim { port, folder: tempfile::tempdir().unwrap() }
    }

    /// Returns when it listens. A request that came before would wait for the long backoff.
    async fn start(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["worker", "--", "sh", "-c", COMMAND]);
        command.env("PORT", &self.port).env("OUT", self.resumed()).kill_on_drop(true);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let address = format!("127.0.0.1:{}", self.port);
        eventually("the worker", async || tokio::net::TcpStream::connect(&address).await.is_ok()).await;
        child
    }

    fn resumed(&self) -> impl AsRef<Path> + AsRef<std::ffi::OsStr> + use<> {
        self.folder.path().join("resumed")
    }

    fn config(&self, source: &str, admin: &Admin, more: &str) -> String {
        format!(
            "pipelines:\n  - name: test\n    source: {source}\n    sink: {{ url: \"http://127.0.0.1:{}/\" }}\n    max_in_flight: 1\n{more}{}",
            self.port,
            admin.config("")
        )
    }

    async fn has_resumed(&self) -> bool {
        std::fs::read_to_string(self.resumed()).is_ok_and(|text| text == "row 90\n")
    }
}

/// The item has reached 90 %, and the bridge knows it.
async fn is_at_90(admin: &Admin) -> bool {
    let (_, list) = admin.get("/api/v1/pipelines/test/items?state=running").await;
    list["items"][0]["progress"]["percent"].as_f64() == Some(90.0)
}

async fn compacted(broker: &Broker, topic: &str) {
    let new = NewTopic::new(topic, 2, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    broker.admin().create_topics([&new], &options).await.unwrap().remove(0).unwrap();
}

/// The latest value of each key.
async fn latest(broker: &Broker, topic: &str) -> BTreeMap<String, Option<String>> {
    let (client, topic) = (broker.client(), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let mut client = client;
        client.set("enable.partition.eof", "true").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = client.create().unwrap();
        let mut list = TopicPartitionList::new();
        for number in 0..2 {
            list.add_partition_offset(&topic, number, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut found, mut ends) = (BTreeMap::new(), 0);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        while ends < 2 {
            match consumer.poll(PATIENCE).expect("an answer") {
                Ok(record) => drop(found.insert(text(record.key().unwrap()), record.payload().map(text))),
                Err(KafkaError::PartitionEOF(_)) => ends += 1,
                Err(error) => panic!("{error}"),
            }
        }
        found
    });
    reading.await.unwrap()
}

/// The group waits for a killed member as long as its session lasts.
fn source_of(kafka: &Kafka) -> String {
    kafka.source().replace("group:", "session_timeout: 6s, group:")
}

async fn kafka_resumes_after_kills(kills_worker_first: bool) {
    let backlog = Kafka::create().await;
    let topic = format!("{}-checkpoints", backlog.0.name);
    compacted(&backlog.0, &topic).await;
    backlog.fill([b"item".to_vec()].into_iter()).await;
    let (admin, shim) = (Admin::free(), Shim::new());
    let more = format!(
        "    retry: {{ backoff: 1h, backoff_max: 1h, unknown_backoff: 1h }}\n    checkpoints: {{ topic: {topic} }}\n"
    );
    let config = shim.config(&source_of(&backlog), &admin, &more);
    let mut worker = shim.start().await;
    let bridge = Longhaul::run(&config);
    eventually("90 %", async || is_at_90(&admin).await).await;
    eventually("the stored checkpoint", async || {
        let stored = latest(&backlog.0, &topic).await;
        stored.values().flatten().any(|value| value.contains("\"row 90\""))
    })
    .await;
    if kills_worker_first {
        worker.kill().await.unwrap();
        eventually("the end of the attempt", async || admin.total("retrying").await == 1).await;
        bridge.kill().await;
    } else {
        bridge.kill().await;
        worker.kill().await.unwrap();
    }
    let _worker = shim.start().await;
    let bridge = Longhaul::run(&config);
    eventually("the rest of the work", async || shim.has_resumed().await).await;
    eventually("the end of the item", async || admin.total("done").await == 1).await;
    bridge.stop().await;
    let stored = latest(&backlog.0, &topic).await;
    assert!(stored.len() == 1 && stored.values().all(Option::is_none), "{stored:?}");
    backlog.0.delete_topic(&topic).await;
    backlog.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_checkpoint_survives_a_killed_worker_and_then_a_killed_bridge() {
    kafka_resumes_after_kills(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_checkpoint_survives_a_killed_bridge() {
    kafka_resumes_after_kills(false).await;
}

/// Without its topic a pipeline says so, and its items run.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_items_run_without_the_topic_of_checkpoints() {
    let backlog = Kafka::create().await;
    let topic = format!("{}-checkpoints", backlog.0.name);
    backlog.fill([b"item".to_vec()].into_iter()).await;
    let (admin, shim) = (Admin::free(), Shim::new());
    let more = format!("    checkpoints: {{ topic: {topic} }}\n");
    let config = shim.config(&source_of(&backlog), &admin, &more);
    let _worker = shim.start().await;
    let bridge = Longhaul::run(&config);
    let reasons = async || admin.get("/readyz").await.1["reasons"].to_string();
    eventually("a reason", async || reasons().await.contains("checkpoints (read)")).await;
    assert!(reasons().await.contains("does not exist"), "{}", reasons().await);
    eventually("90 %", async || is_at_90(&admin).await).await;
    compacted(&backlog.0, &topic).await;
    eventually("readiness", async || admin.get("/readyz").await.0 == 200).await;
    eventually("the stored checkpoint", async || {
        let stored = latest(&backlog.0, &topic).await;
        stored.values().flatten().any(|value| value.contains("\"row 90\""))
    })
    .await;
    admin.post("/api/v1/pipelines/test/items/cancel?then=drop").await;
    eventually("the end of the item", async || admin.total("dropped").await == 1).await;
    bridge.stop().await;
    backlog.0.delete_topic(&topic).await;
    backlog.remove().await;
}

/// A planned stop writes a copy with the checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_checkpoint_survives_a_killed_worker_and_a_stopped_bridge() {
    let backlog = Rabbitmq::create().await;
    backlog.fill([b"item".to_vec()].into_iter()).await;
    let (admin, shim) = (Admin::free(), Shim::new());
    let more = "    retry: { backoff: 1h, backoff_max: 1h, unknown_backoff: 1h }\n";
    let config = shim.config(&backlog.source(), &admin, more);
    let mut worker = shim.start().await;
    let bridge = Longhaul::run(&config);
    eventually("90 %", async || is_at_90(&admin).await).await;
    worker.kill().await.unwrap();
    eventually("the end of the attempt", async || admin.total("retrying").await == 1).await;
    bridge.stop().await;
    let _worker = shim.start().await;
    let bridge = Longhaul::run(&config);
    eventually("the rest of the work", async || shim.has_resumed().await).await;
    bridge.stop().await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

/// A parked item waits in the broker, with its checkpoint. No process is needed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_checkpoint_of_a_parked_item_survives_a_killed_bridge() {
    futures_util::future::join_all(amqp::brokers().into_iter().map(|url| async move {
        let backlog = Rabbitmq::of(Queue::create(&url, longhaul::config::QueueKind::Quorum).await);
        backlog.fill([b"item".to_vec()].into_iter()).await;
        let (admin, shim) = (Admin::free(), Shim::new());
        let more = format!(
            "    retry: {{ backoff: 5s, backoff_max: 5s, unknown_backoff: 5s, queue: {}.retry }}\n",
            backlog.name()
        );
        let config = shim.config(&backlog.source(), &admin, &more);
        let mut worker = shim.start().await;
        let bridge = Longhaul::run(&config);
        eventually("90 %", async || is_at_90(&admin).await).await;
        worker.kill().await.unwrap();
        eventually("the parked item", async || bridge.log().contains("Item parked")).await;
        bridge.kill().await;
        let _worker = shim.start().await;
        let bridge = Longhaul::run(&config);
        eventually("the rest of the work", async || shim.has_resumed().await).await;
        bridge.stop().await;
        eventually("the broker to be empty", async || backlog.left().await == 0).await;
        backlog.remove().await;
    }))
    .await;
}
