//! Makes topics, producers, committed offsets, and the bridge's end of a running source.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use longhaul::config::{Order, Start, Undecodable};
use longhaul::connect::kafka::Cluster;
use longhaul::delivery::{DeliveryId, Epoch, Identity, Settlement};
use longhaul::source::kafka::{Settings, Source};
use longhaul::source::{Command, Delivery, Port, Source as _, SourceError, SourceEvent, link};
use longhaul::telemetry::Problem;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::support::relay::Relay;

/// The limit of every wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A broker under test, with a unique name for everything that the test creates.
#[derive(Clone)]
pub struct Broker {
    pub bootstrap: String,
    pub name: String,
}

/// A broker with a relay in every connection. A broker tells clients its own address, so there is
/// one such address, and one test at a time uses it.
pub struct Relayed {
    /// The broker through the relay.
    pub broker: Broker,
    /// The same broker without the relay.
    pub direct: Broker,
    pub relay: Relay,
    _turn: OwnedMutexGuard<()>,
}

/// A source and the bridge's end of its link. It remembers the events that it got.
pub struct Running {
    pub port: Port,
    pub events: Vec<SourceEvent>,
    task: JoinHandle<Result<(), SourceError>>,
}

impl Broker {
    pub fn real(test: &str) -> Self {
        let bootstrap = std::env::var("LONGHAUL_TEST_KAFKA_BOOTSTRAP")
            .expect("LONGHAUL_TEST_KAFKA_BOOTSTRAP must name a Kafka broker; ./tests/run starts one");
        Broker { bootstrap, name: format!("{test}-{:016x}", fastrand::u64(..)) }
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("group.id", &self.name);
        config
    }

    /// Waits while a topic of this name is being deleted.
    pub async fn create_topic(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.admin().create_topics([&new], &options()).await.unwrap().remove(0) {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn delete_topic(&self, topic: &str) {
        self.admin().delete_topics(&[topic], &options()).await.unwrap().remove(0).unwrap();
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Writes records to one partition, in order, and waits until the broker has them.
    pub async fn produce(&self, topic: &str, partition: i32, bodies: impl IntoIterator<Item = String>) {
        let mut client = self.client();
        // Batches are as large as the Java client's, and a broker hands out whole batches.
        client.set("linger.ms", "5").set("enable.idempotence", "true").set("batch.size", "16384");
        let producer: FutureProducer = client.create().unwrap();
        let mut confirmed = Vec::new();
        for body in bodies {
            let record = FutureRecord::<str, str>::to(topic).partition(partition).payload(&body);
            confirmed.push(producer.send_result(record).unwrap());
        }
        for one in confirmed {
            timeout(PATIENCE, one).await.unwrap().unwrap().unwrap();
        }
    }

    pub async fn produce_one(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        body: Option<&[u8]>,
        headers: OwnedHeaders,
    ) {
        self.produce_to(topic, 0, key, body, headers).await;
    }

    pub async fn produce_to(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        body: Option<&[u8]>,
        headers: OwnedHeaders,
    ) {
        let producer: FutureProducer = self.client().set("message.max.bytes", "2000000").create().unwrap();
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).partition(partition).headers(headers);
        record.key = key;
        record.payload = body;
        producer.send(record, PATIENCE).await.unwrap();
    }

    /// Returns the group's committed offset and metadata of partition 0.
    pub fn committed(&self, topic: &str) -> (i64, String) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, 0);
        let read = consumer.committed_offsets(list, PATIENCE).unwrap();
        let element = &read.elements()[0];
        (element.offset().to_raw().unwrap(), element.metadata().to_owned())
    }

    /// Returns the metadata of the mark that says which partitions of the group have started.
    pub fn mark(&self) -> String {
        self.committed("__consumer_offsets").1
    }

    /// Deletes the committed offsets of a topic, which no member of the group may read now.
    pub async fn forget_offsets(&self, topic: &str) {
        let ctl = std::env::var("LONGHAUL_TEST_KAFKA_CTL").expect("the broker of tests/brokers");
        let mut tool = tokio::process::Command::new(ctl);
        tool.args(["tool", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"])
            .args(["--bootstrap-server", &self.bootstrap, "--group", &self.name])
            .args(["--delete-offsets", "--topic", topic]);
        let output = tool.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(self.committed(topic).0, -1001, "{output:?}");
    }

    /// The number of partitions of a topic.
    pub fn partitions(&self, topic: &str) -> usize {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        metadata.topics()[0].partitions().len()
    }

    /// The offset of the oldest record that can be read.
    pub async fn first_offset(&self, topic: &str) -> i64 {
        let (mut client, topic) = (self.client(), topic.to_owned());
        client.set("enable.auto.commit", "false");
        let reading = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
            consumer.assign(&list).unwrap();
            consumer.poll(PATIENCE).expect("a record").unwrap().offset()
        });
        reading.await.unwrap()
    }

    /// Commits for the group, like some other client.
    pub fn commit(&self, topic: &str, offset: i64, metadata: &str) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, 0);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    pub fn cluster(&self) -> Cluster {
        Cluster { bootstrap_servers: vec![self.bootstrap.clone()], ..Cluster::default() }
    }

    /// Returns the id of the topic's log from committed metadata. The topic must have a record.
    pub async fn log_of(&self, topic: &str) -> u128 {
        let other = Broker { name: format!("{}-log", self.name), ..self.clone() };
        let mut source = other.start(&[topic]);
        let first = source.take(1).await.remove(0);
        source.close().await;
        match first.outline.identity {
            Identity::Record { log, .. } => log.0,
            other => panic!("{other:?} is not a record"),
        }
    }

    pub fn settings(&self, topics: &[&str]) -> Settings {
        Settings {
            pipeline: self.name.clone(),
            cluster: self.cluster(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            group: self.name.clone(),
            order: Order::None,
            start: Start::Earliest,
            instance_id: None,
            session_timeout: Duration::from_secs(6),
            stuck_head_report_after: Duration::from_secs(3600),
            stuck_head_dead_letter_after: None,
            undecodable: Undecodable::Hold,
            held_bytes: 256 << 20,
            pulse: None,
        }
    }

    pub fn start(&self, topics: &[&str]) -> Running {
        Running::start(self.settings(topics))
    }
}

impl Relayed {
    /// Returns `None` for a broker of the caller, which has no such listener.
    pub async fn start(test: &str) -> Option<Self> {
        static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);
        let Ok(addresses) = std::env::var("LONGHAUL_TEST_KAFKA_RELAYED") else {
            eprintln!("left out: LONGHAUL_TEST_KAFKA_RELAYED is not set; tests/brokers sets it");
            return None;
        };
        let (upstream, relay) = addresses.split_once(' ').expect("two addresses");
        let turn = TURN.clone().lock_owned().await;
        let direct = Broker::real(test);
        let broker = Broker { bootstrap: relay.to_owned(), name: direct.name.clone() };
        let relay = Relay::start_at(relay, upstream.to_owned()).await;
        Some(Relayed { broker, direct, relay, _turn: turn })
    }
}

impl Relayed {
    /// Puts the broker behind this address in the place of the one before.
    pub async fn lead_to(&mut self, upstream: &str) {
        let address = self.broker.bootstrap.clone();
        // The address is free when the relay before is gone.
        drop(std::mem::replace(&mut self.relay, Relay::start(upstream.to_owned()).await));
        self.relay = Relay::start_at(&address, upstream.to_owned()).await;
    }
}

impl Running {
    pub fn start(settings: Settings) -> Self {
        Running::with_room(settings, 16)
    }

    pub fn with_room(settings: Settings, ahead: usize) -> Self {
        let (port, link) = link(ahead);
        Running { port, events: Vec::new(), task: tokio::spawn(Source::new(settings).run(link)) }
    }

    /// Returns the next deliveries, in order of arrival.
    pub async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = Vec::new();
        while taken.len() < count {
            let next = timeout_at(deadline, self.port.deliveries.recv()).await;
            self.drain_events();
            let next = next.unwrap_or_else(|_| panic!("{} of {count} came: {:?}", taken.len(), self.events));
            taken.push(next.expect("the source ended"));
            self.drain_events();
        }
        taken
    }

    /// Returns the deliveries that arrive within a time in which none is expected.
    pub async fn anything_within(&mut self, time: Duration) -> Vec<Delivery> {
        let deadline = Instant::now() + time;
        let mut taken = Vec::new();
        while let Ok(Some(delivery)) = timeout_at(deadline, self.port.deliveries.recv()).await {
            taken.push(delivery);
        }
        self.drain_events();
        taken
    }

    /// Waits for an event; past ones count too.
    pub async fn wait_for(&mut self, what: impl Fn(&SourceEvent) -> bool) -> SourceEvent {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            if let Some(event) = self.events[seen..].iter().find(|event| what(event)) {
                return event.clone();
            }
            seen = self.events.len();
            let next = timeout_at(deadline, self.port.events.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("did not come, but {:?}", self.events));
            self.events.push(next.expect("the source ended"));
        }
    }

    fn drain_events(&mut self) {
        while let Ok(event) = self.port.events.try_recv() {
            self.events.push(event);
        }
    }

    /// Returns the epochs that came up and are not lost.
    pub fn up(&mut self) -> Vec<Epoch> {
        self.drain_events();
        let mut up = Vec::new();
        for event in &self.events {
            match event {
                SourceEvent::Up { epoch } => up.push(*epoch),
                SourceEvent::Lost { epoch, .. } => up.retain(|other| other != epoch),
                _ => {}
            }
        }
        up
    }

    /// Problems that were reported and not solved.
    pub fn problems(&mut self) -> Vec<Problem> {
        self.drain_events();
        let mut open: Vec<Problem> = Vec::new();
        for event in &self.events {
            match event {
                SourceEvent::Problem(problem) => {
                    open.retain(|other| (other.kind, &other.subject) != (problem.kind, &problem.subject));
                    open.push(problem.clone());
                }
                SourceEvent::Solved { kind, subject } => {
                    open.retain(|other| (other.kind, &other.subject) != (*kind, subject));
                }
                _ => {}
            }
        }
        open
    }

    /// Waits until no problem is left.
    pub async fn no_problem(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let problems = self.problems();
            if problems.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{problems:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn ack(&self, id: DeliveryId) {
        self.command(Command::Settle { delivery: id, how: Settlement::Ack });
    }

    pub fn command(&self, command: Command) {
        self.port.commands.send(command).unwrap();
    }

    pub async fn close(self) {
        self.command(Command::Close);
        self.ended().await.unwrap();
    }

    /// Waits for the end of the source, for any reason.
    pub async fn ended(self) -> Result<(), SourceError> {
        timeout(PATIENCE, self.task).await.expect("the source must end").unwrap()
    }
}

pub fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.outline.id.tag).collect()
}

/// Waits until a condition holds, by asking again and again.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE))
}
