//! Targets of dead letters that are down until a test brings them up.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use longhaul::config::QueueKind;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};
use tokio::net::TcpSocket;

use crate::kafka::support::Broker;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::relay::{Mode, Relay};
use crate::support::worker::Worker;

pub trait Target {
    /// Makes a target that is down.
    async fn down() -> Self;
    async fn up(&mut self);
    /// Returns the key `dead_letter` of the configuration.
    fn config(&self) -> String;
    /// Returns the bodies that were confirmed so far. It may be called often.
    async fn letters(&self) -> BTreeSet<Vec<u8>>;
}

/// A queue behind a network that refuses connections.
pub struct RabbitmqQueue {
    queue: Queue,
    relay: Relay,
    taken: RefCell<BTreeSet<Vec<u8>>>,
}

impl Target for RabbitmqQueue {
    async fn down() -> Self {
        let queue = Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await;
        let relay = Relay::start(amqp::address(&queue.url)).await;
        relay.set(Mode::Refuse);
        RabbitmqQueue { queue, relay, taken: RefCell::default() }
    }

    async fn up(&mut self) {
        self.relay.set(Mode::Pass);
    }

    fn config(&self) -> String {
        let url = amqp::through(&self.queue.url, self.relay.port());
        format!("{{ rabbitmq: {{ url: \"{url}\", queue: {} }} }}", self.queue.name)
    }

    async fn letters(&self) -> BTreeSet<Vec<u8>> {
        while let Some(letter) = self.queue.get().await {
            self.taken.borrow_mut().insert(letter.data);
        }
        self.taken.borrow().clone()
    }
}

/// A topic of a broker that closes its connections and takes no new ones. It is librdkafka's mock:
/// a real broker sends clients to its own address, past any relay, and stopping it would disturb
/// all other tests.
pub struct KafkaTopic {
    /// This field is dropped first, because it waits for its broker.
    consumer: BaseConsumer,
    cluster: MockCluster<'static, DefaultProducerContext>,
    taken: RefCell<BTreeSet<Vec<u8>>>,
}

const TOPIC: &str = "letters";

impl Target for KafkaTopic {
    async fn down() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "letters".to_owned() };
        let consumer: BaseConsumer = broker.client().set("reconnect.backoff.max.ms", "200").create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        cluster.broker_down(1).unwrap();
        KafkaTopic { cluster, consumer, taken: RefCell::default() }
    }

    async fn up(&mut self) {
        self.cluster.broker_up(1).unwrap();
    }

    fn config(&self) -> String {
        let servers = self.cluster.bootstrap_servers();
        format!("{{ kafka: {{ bootstrap_servers: [\"{servers}\"], topic: {TOPIC} }} }}")
    }

    async fn letters(&self) -> BTreeSet<Vec<u8>> {
        while let Some(polled) = self.consumer.poll(Duration::from_millis(50)) {
            // An error means that the broker is down.
            let Ok(record) = polled else { continue };
            self.taken.borrow_mut().insert(record.payload().unwrap().to_vec());
        }
        self.taken.borrow().clone()
    }
}

/// A port on which nobody listens. It stays reserved for later.
pub struct ClosedPort {
    url: String,
    socket: Option<TcpSocket>,
    worker: Option<Worker>,
}

impl Target for ClosedPort {
    async fn down() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}/", socket.local_addr().unwrap());
        ClosedPort { url, socket: Some(socket), worker: None }
    }

    async fn up(&mut self) {
        let listener = self.socket.take().unwrap().listen(100).unwrap();
        self.worker =
            Some(Worker::listen(listener, Duration::ZERO, |_| StatusCode::ACCEPTED.into_response()));
    }

    fn config(&self) -> String {
        format!("{{ http: {{ url: \"{}\" }} }}", self.url)
    }

    async fn letters(&self) -> BTreeSet<Vec<u8>> {
        self.worker.as_ref().map(|worker| worker.log().bodies.into_values().collect()).unwrap_or_default()
    }
}

/// A service that answers 503.
pub struct Refusing {
    worker: Worker,
    up: Arc<AtomicBool>,
    taken: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

impl Target for Refusing {
    async fn down() -> Self {
        let (up, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let (is_up, takes) = (up.clone(), taken.clone());
        let worker = Worker::with_answer(Duration::ZERO, move |body| {
            if !is_up.load(Ordering::SeqCst) {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            takes.lock().unwrap().insert(body.to_vec());
            StatusCode::NO_CONTENT.into_response()
        })
        .await;
        Refusing { worker, up, taken }
    }

    async fn up(&mut self) {
        self.up.store(true, Ordering::SeqCst);
    }

    fn config(&self) -> String {
        format!("{{ http: {{ url: \"{}\" }} }}", self.worker.url)
    }

    async fn letters(&self) -> BTreeSet<Vec<u8>> {
        self.taken.lock().unwrap().clone()
    }
}
