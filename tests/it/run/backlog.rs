//! A queue or topic for one test, filled and counted in the same way for both brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::AMQPValue;
use longhaul::config::QueueKind;
use longhaul::event::Message;
use longhaul::source;
use longhaul::source::kafka::metadata;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, OwnedHeaders};
use rdkafka::topic_partition_list::Offset;

use crate::kafka::support::Broker;
use crate::support::bridge::Bridge;
use crate::support::rabbitmq::{self, Queue};

pub trait Backlog: Sized {
    async fn create() -> Self;
    async fn fill(&self, bodies: impl Iterator<Item = Vec<u8>>);
    /// Returns the key `source` of the configuration.
    fn source(&self) -> String;
    /// Returns the key `dead_letter` of the configuration.
    fn target(&self) -> String;
    /// Items that the broker knows as settled, while a bridge has this number in flight.
    async fn settled(&self, in_flight: u64) -> u64;
    /// Items that nobody has settled. Asked while no bridge runs, or when all is done.
    async fn left(&self) -> u64;
    /// Returns the headers of the first item, as text.
    async fn take(&self) -> BTreeMap<String, String>;
    /// Returns all items, whole, and leaves them where they are. It is called while no bridge runs.
    async fn messages(&self, count: usize) -> Vec<Arc<Message>>;
    async fn remove(self);
}

/// The queue, and the number of ids given out.
pub struct Rabbitmq(pub Queue, AtomicUsize);

impl Rabbitmq {
    pub fn of(queue: Queue) -> Self {
        Rabbitmq(queue, AtomicUsize::new(0))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the same queue over a new connection, after its broker was away.
    pub async fn again(self, url: &str) -> Self {
        Rabbitmq(Queue::existing(url, self.0.name).await, self.1)
    }

    pub fn source_at(&self, url: &str) -> String {
        format!("{{ rabbitmq: {{ url: \"{url}\", queue: {} }} }}", self.0.name)
    }
}

impl Backlog for Rabbitmq {
    async fn create() -> Self {
        Rabbitmq::of(Queue::create(&rabbitmq::brokers()[0], QueueKind::Quorum).await)
    }

    async fn fill(&self, bodies: impl Iterator<Item = Vec<u8>>) {
        for body in bodies {
            let number = self.1.fetch_add(1, Ordering::Relaxed);
            let properties = BasicProperties::default().with_message_id(format!("id-{number}").into());
            self.0.publish(&body, properties).await;
        }
    }

    fn source(&self) -> String {
        self.source_at(&self.0.url)
    }

    fn target(&self) -> String {
        format!("{{ rabbitmq: {{ url: \"{}\", queue: {} }} }}", self.0.url, self.0.name)
    }

    async fn settled(&self, in_flight: u64) -> u64 {
        (self.1.load(Ordering::Relaxed) as u64).saturating_sub(self.0.ready().await + in_flight)
    }

    async fn left(&self) -> u64 {
        self.0.ready().await
    }

    async fn take(&self) -> BTreeMap<String, String> {
        let delivery = self.0.get().await.expect("an item");
        let headers = delivery.properties.headers().clone().expect("headers");
        let text = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => text.to_string(),
            AMQPValue::LongLongInt(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        headers.inner().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    async fn messages(&self, count: usize) -> Vec<Arc<Message>> {
        let mut bridge =
            Bridge::start(source::rabbitmq::Source::new(self.0.source(&self.0.url, count as u16)));
        let taken = bridge.deliveries(count).await;
        bridge.close().await;
        taken.into_iter().map(|delivery| delivery.message).collect()
    }

    async fn remove(self) {
        self.0.delete().await;
    }
}

pub struct Kafka(pub Broker);

impl Kafka {
    pub async fn with_partitions(partitions: i32) -> Self {
        let broker = Broker::real("run");
        broker.create_topic(&broker.name, partitions).await;
        Kafka(broker)
    }

    /// Writes items to all partitions in turn.
    pub async fn spread(&self, numbers: std::ops::Range<usize>, partitions: usize) {
        for number in numbers {
            let text = format!("item {number}");
            let partition = (number % partitions) as i32;
            let (topic, body) = (&self.0.name, Some(text.as_bytes()));
            self.0.produce_to(topic, partition, None, body, OwnedHeaders::new()).await;
        }
    }

    /// Returns the failed attempts at unfinished items that the group has committed.
    pub fn attempts(&self) -> u32 {
        let (offset, text) = self.0.committed(&self.0.name);
        let map = metadata::decode(text.as_bytes(), offset).unwrap();
        map.map_or(0, |map| map.incomplete.iter().map(|(_, attempts)| u32::from(*attempts)).sum())
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Backlog for Kafka {
    async fn create() -> Self {
        Kafka::with_partitions(1).await
    }

    async fn fill(&self, bodies: impl Iterator<Item = Vec<u8>>) {
        for body in bodies {
            self.0.produce_one(&self.0.name, None, Some(&body), OwnedHeaders::new()).await;
        }
    }

    fn source(&self) -> String {
        let Broker { bootstrap, name } = &self.0;
        // A record of 1 MiB with its envelope exceeds the default of a fetch; librdkafka then
        // enlarges the fetch.
        format!("{{ kafka: {{ bootstrap_servers: [\"{bootstrap}\"], topics: [{name}], group: {name} }} }}")
    }

    fn target(&self) -> String {
        format!("{{ kafka: {{ bootstrap_servers: [\"{}\"], topic: {} }} }}", self.0.bootstrap, self.0.name)
    }

    async fn settled(&self, _: u64) -> u64 {
        let (offset, text) = self.0.committed(&self.0.name);
        let map = metadata::decode(text.as_bytes(), offset).unwrap();
        let behind = map.map_or(0, |map| map.end - map.base - map.incomplete.len() as i64);
        u64::try_from(offset.max(0) + behind).unwrap()
    }

    /// Records above the committed offset, less those that its map has as finished: here all or
    /// none are.
    async fn left(&self) -> u64 {
        let (client, topic, committed) =
            (self.0.client(), self.0.name.clone(), self.0.committed(&self.0.name).0);
        let end = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create().unwrap();
            consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap().1
        });
        // Without a commit the offset is negative.
        u64::try_from(end.await.unwrap() - committed.max(0)).unwrap()
    }

    async fn take(&self) -> BTreeMap<String, String> {
        let consumer: BaseConsumer = self.0.client().create().unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(&self.0.name, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let record = consumer.poll(PATIENCE).expect("a record").unwrap().detach();
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let headers = record.headers().expect("headers");
        headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    }

    async fn messages(&self, count: usize) -> Vec<Arc<Message>> {
        let mut source = self.0.start(&[&self.0.name]);
        let taken = source.take(count).await;
        source.close().await;
        taken.into_iter().map(|delivery| delivery.message).collect()
    }

    async fn remove(self) {
        self.0.delete_topic(&self.0.name).await;
    }
}
