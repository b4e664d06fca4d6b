//! Makes a quorum queue for the demo in a real RabbitMQ.

use std::future::Future;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use super::Failure;

const TIMEOUT: Duration = Duration::from_secs(15);
const HINT: &str =
    "check --broker: is RabbitMQ running there, and are user, password and virtual host right?";

pub struct Queue {
    url: String,
    name: String,
    channel: Channel,
    /// Keeps the channel's socket open.
    _connection: Connection,
}

impl Queue {
    pub async fn create(url: &str) -> Result<Self, Failure> {
        let connection = within("connect", Connection::connect(url, ConnectionProperties::default())).await?;
        let channel = within("open a channel", connection.create_channel()).await?;
        within("ask for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let name = format!("longhaul-demo-{}", uuid::Uuid::new_v4());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        // The queue of a demo that was killed is removed after ten minutes.
        arguments.insert("x-expires".into(), AMQPValue::LongInt(600_000));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        within("declare a queue", channel.queue_declare(name.as_str().into(), options, arguments)).await?;
        Ok(Queue { url: url.to_owned(), name, channel, _connection: connection })
    }

    pub fn describe(&self) -> String {
        "RabbitMQ quorum queue".to_owned()
    }

    pub fn source(&self) -> String {
        // JSON is valid YAML, so quotes need no care.
        serde_json::json!({ "rabbitmq": { "url": self.url, "queue": self.name } }).to_string()
    }

    pub async fn enqueue(&mut self, items: u32) -> Result<(), Failure> {
        let mut confirms = Vec::new();
        for number in 1..=items {
            let body = format!("item {number}");
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(format!("item-{number}").into());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let name = self.name.as_str().into();
            confirms.push(
                within(
                    "publish",
                    self.channel.basic_publish("".into(), name, options, body.as_bytes(), properties),
                )
                .await?,
            );
        }
        for confirm in confirms {
            if within("get a confirm", confirm).await? != Confirmation::Ack(None) {
                return Err(Failure::part("RabbitMQ did not take an item", HINT));
            }
        }
        Ok(())
    }

    pub async fn left(&mut self) -> Option<u64> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared =
            self.channel.queue_declare(self.name.as_str().into(), options, FieldTable::default()).await;
        declared.ok().map(|queue| u64::from(queue.message_count()))
    }

    pub async fn clean_up(&mut self) {
        let deleted = self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default());
        // If this fails, `x-expires` removes the queue.
        let _ = tokio::time::timeout(TIMEOUT, deleted).await;
    }
}

async fn within<T>(what: &str, call: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::part(format!("RabbitMQ: can't {what}: {error}"), HINT)),
        Err(_) => Err(Failure::part(format!("RabbitMQ: no answer within {TIMEOUT:?} to: {what}"), HINT)),
    }
}
