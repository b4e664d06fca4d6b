//! The commands around a bridge, as processes with real brokers.

mod bundle;
mod dead_letter;
mod doctor;
mod enqueue;
mod intake;
#[cfg(feature = "otlp")]
mod traces;

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use longhaul::event::{KafkaOrigin, Message, Origin, Value};
use longhaul::source;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::process::{Child, Command};

use crate::kafka::support::PATIENCE;
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::bridge::Bridge;
use crate::support::within;

/// All messages of a queue or topic, however many; they stay where they are.
pub trait Everything: Backlog {
    async fn everything(&self) -> Vec<Arc<Message>>;
}

impl Everything for Rabbitmq {
    /// A consumer holds 65,535 messages at most, so there may be several of them.
    async fn everything(&self) -> Vec<Arc<Message>> {
        let (mut left, mut bridges, mut taken) = (self.left().await as usize, Vec::new(), Vec::new());
        while left > 0 {
            let count = u16::try_from(left).unwrap_or(u16::MAX);
            let source = source::rabbitmq::Source::new(self.0.source(&self.0.url, count));
            let mut bridge = Bridge::start(source);
            taken.extend(bridge.deliveries(count.into()).await.into_iter().map(|delivery| delivery.message));
            left -= usize::from(count);
            bridges.push(bridge);
        }
        for bridge in bridges {
            bridge.close().await;
        }
        taken
    }
}

impl Everything for Kafka {
    /// A source of the bridge holds 900 records at most.
    async fn everything(&self) -> Vec<Arc<Message>> {
        let left = self.left().await as usize;
        let (client, topic) = (self.0.client(), self.0.name.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
            consumer.assign(&list).unwrap();
            let next = || consumer.poll(PATIENCE).expect("a record").expect("a record").detach();
            (0..left).map(|_| Arc::new(message(&next()))).collect()
        });
        reading.await.unwrap()
    }
}

fn message(record: &rdkafka::message::OwnedMessage) -> Message {
    let value = |value: Option<&[u8]>| value.map_or(Value::Null, |it| Value::Bytes(it.to_vec().into()));
    let headers =
        record.headers().map(|all| all.iter().map(|it| (it.key.to_owned(), value(it.value))).collect());
    let origin = KafkaOrigin {
        key: record.key().map(|key| key.to_vec().into()),
        timestamp: record.timestamp().to_millis(),
        is_null: record.payload().is_none(),
        ..KafkaOrigin::default()
    };
    Message {
        body: record.payload().unwrap_or_default().to_vec().into(),
        headers: headers.unwrap_or_default(),
        origin: Origin::Kafka(origin),
    }
}

/// A command of the program, with no setting from the environment.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(arguments).env_clear().current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn run(folder: &Path, arguments: &[&str]) -> Ran {
    within("the end of a command", command(folder, arguments).output()).await.unwrap().into()
}

/// Starts a command whose output nobody reads.
pub fn start(folder: &Path, arguments: &[&str]) -> Child {
    command(folder, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The end of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The one line of JSON on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The address of a queue for the commands.
pub fn queue_url(broker: &str, queue: &str) -> String {
    format!("{}/{queue}", broker.trim_end_matches("/%2f"))
}
