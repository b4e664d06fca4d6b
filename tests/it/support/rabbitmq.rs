//! Real RabbitMQ brokers, queues for one test in them, and the broker's view of them.

use std::sync::Arc;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use longhaul::config::{QueueKind, Tls};
use longhaul::connect;
use longhaul::source::rabbitmq;

use super::within;

/// Returns the brokers to test against, as AMQP URIs: the required one, and RabbitMQ 4.0 and 4.3 if
/// they are available.
pub fn brokers() -> Vec<String> {
    let first = std::env::var("LONGHAUL_TEST_AMQP_URL").unwrap_or_else(|_| {
        panic!("LONGHAUL_TEST_AMQP_URL is not set: these tests need a RabbitMQ; ./tests/run starts one")
    });
    let others = ["LONGHAUL_TEST_AMQP_URL_4", "LONGHAUL_TEST_AMQP_URL_4_3"];
    std::iter::once(first).chain(others.iter().flat_map(std::env::var)).collect()
}

/// Returns the `host:port` of an AMQP URI.
pub fn address(url: &str) -> String {
    let url = url::Url::parse(url).expect("an AMQP URI");
    format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5672))
}

/// Returns the URI of the same broker through a relay on this machine.
pub fn through(url: &str, port: u16) -> String {
    let mut url = url::Url::parse(url).expect("an AMQP URI");
    url.set_host(Some("127.0.0.1")).expect("a host can be set");
    url.set_port(Some(port)).expect("a port can be set");
    url.into()
}

pub fn connection(url: &str) -> connect::rabbitmq::Settings {
    let url = url.to_owned();
    let url: connect::rabbitmq::Url = Arc::new(move || Ok(url.clone()));
    connect::rabbitmq::Settings { url, tls: Tls::default(), name: "longhaul-test".to_owned() }
}

/// A queue for one test.
pub struct Queue {
    pub url: String,
    pub name: String,
    pub channel: Channel,
    _connection: Connection,
}

impl Queue {
    /// Returns a unique name without a queue.
    pub async fn unborn(url: &str) -> Self {
        Queue::existing(url, format!("longhaul-test-{}", uuid::Uuid::new_v4())).await
    }

    /// Returns a connection for a queue that exists, or will exist.
    pub async fn existing(url: &str, name: String) -> Self {
        let opening = Connection::connect(url, ConnectionProperties::default());
        let connection = within("a connection", opening).await.expect("the broker of LONGHAUL_TEST_AMQP_URL");
        let channel = within("a channel", connection.create_channel()).await.expect("a channel");
        within("confirms", channel.confirm_select(ConfirmSelectOptions::default())).await.expect("confirms");
        Queue { url: url.to_owned(), name, channel, _connection: connection }
    }

    pub async fn create(url: &str, kind: QueueKind) -> Self {
        let queue = Self::unborn(url).await;
        queue.declare(kind).await;
        queue
    }

    /// Creates a queue that hands its items to one consumer at a time.
    pub async fn create_single(url: &str, kind: QueueKind) -> Self {
        let queue = Self::unborn(url).await;
        queue.declare_with(kind, &[("x-single-active-consumer", AMQPValue::Boolean(true))]).await;
        queue
    }

    pub async fn declare(&self, kind: QueueKind) {
        self.declare_with(kind, &[]).await;
    }

    async fn declare_with(&self, kind: QueueKind, more: &[(&'static str, AMQPValue)]) {
        let kind = match kind {
            QueueKind::Quorum => "quorum",
            QueueKind::Classic => "classic",
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        for (name, value) in more {
            arguments.insert((*name).into(), value.clone());
        }
        let options = QueueDeclareOptions::durable();
        let declaring = self.channel.queue_declare(self.name.as_str().into(), options, arguments);
        within("a queue", declaring).await.expect("a queue");
    }

    pub async fn publish(&self, body: &[u8], properties: BasicProperties) {
        let publishing = async {
            let name = self.name.as_str().into();
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let confirm = self.channel.basic_publish("".into(), name, options, body, properties).await?;
            confirm.await
        };
        let confirmed = within("a confirm", publishing).await.expect("a confirm");
        assert!(confirmed.is_ack() && confirmed.take_message().is_none(), "the queue takes it");
    }

    /// Takes one message out, if there is one.
    pub async fn get(&self) -> Option<lapin::message::Delivery> {
        let options = BasicGetOptions { no_ack: true };
        let getting = self.channel.basic_get(self.name.as_str().into(), options);
        within("basic.get", getting).await.expect("the queue is there").map(|message| message.delivery)
    }

    /// Returns the number of messages that nobody holds.
    pub async fn ready(&self) -> u64 {
        let passive = QueueDeclareOptions::default().passive();
        let asking = self.channel.queue_declare(self.name.as_str().into(), passive, FieldTable::default());
        within("a count", asking).await.expect("the queue is there").message_count().into()
    }

    pub async fn delete(self) {
        let deleting = self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default());
        within("a deletion", deleting).await.expect("the queue can be deleted");
    }

    /// Returns settings of a source that reaches the queue at `url`, which may be a relay.
    pub fn source(&self, url: &str, max_in_flight: u16) -> rabbitmq::Settings {
        rabbitmq::Settings {
            connection: connection(url),
            queue: self.name.clone(),
            delivery_limit: None,
            declare: None,
            max_in_flight,
            held_bytes: Some(256 << 20),
            ack_timeout: std::time::Duration::from_secs(3600),
            unreadable_pause: std::time::Duration::from_millis(500),
            peers: false,
        }
    }
}
