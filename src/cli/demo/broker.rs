//! The broker of the demo: in this process, or a real one that the user names.

use super::{Failure, kafka, rabbitmq};

pub enum Broker {
    Kafka(kafka::Topic),
    Rabbitmq(Box<rabbitmq::Queue>),
}

impl Broker {
    pub async fn start(address: Option<&str>) -> Result<Self, Failure> {
        match address {
            None => Ok(Broker::Kafka(kafka::Topic::embedded()?)),
            Some(url) if url.starts_with("amqp://") || url.starts_with("amqps://") => {
                Ok(Broker::Rabbitmq(Box::new(rabbitmq::Queue::create(url).await?)))
            }
            Some(address) => Ok(Broker::Kafka(kafka::Topic::create(address).await?)),
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Broker::Kafka(topic) => topic.describe(),
            Broker::Rabbitmq(queue) => queue.describe(),
        }
    }

    pub async fn enqueue(&mut self, items: u32) -> Result<(), Failure> {
        match self {
            Broker::Kafka(topic) => topic.enqueue(items).await,
            Broker::Rabbitmq(queue) => queue.enqueue(items).await,
        }
    }

    /// Returns the key `source` of the configuration, in one line of YAML.
    pub fn source(&self) -> String {
        match self {
            Broker::Kafka(topic) => topic.source(),
            Broker::Rabbitmq(queue) => queue.source(),
        }
    }

    /// Returns how many items the broker says it still has; `None` if it cannot tell.
    pub async fn left(&mut self) -> Option<u64> {
        match self {
            Broker::Kafka(topic) => topic.left().await,
            Broker::Rabbitmq(queue) => queue.left().await,
        }
    }

    /// Removes the queue or topic that the demo made in a real broker.
    pub async fn clean_up(&mut self) {
        match self {
            Broker::Kafka(topic) => topic.clean_up().await,
            Broker::Rabbitmq(queue) => queue.clean_up().await,
        }
    }
}
