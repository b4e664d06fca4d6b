//! Checks the contract on every available RabbitMQ, with both kinds of queue.

use lapin::BasicProperties;
use longhaul::config::QueueKind;
use longhaul::source::rabbitmq;

use super::{Harness, contract};
use crate::support::rabbitmq::{Queue, address, brokers, through};
use crate::support::relay::Relay;

struct Rabbitmq {
    queue: Queue,
    relay: Relay,
}

contract!(harnesses().await);

async fn harnesses() -> Vec<Rabbitmq> {
    let mut harnesses = Vec::new();
    for url in brokers() {
        for kind in [QueueKind::Quorum, QueueKind::Classic] {
            let queue = Queue::create(&url, kind).await;
            harnesses.push(Rabbitmq { queue, relay: Relay::start(address(&url)).await });
        }
    }
    harnesses
}

impl Harness for Rabbitmq {
    type Source = rabbitmq::Source;
    const REDELIVERED_FLAG: bool = true;
    const RETURNED_COMES_AGAIN: bool = true;

    async fn produce(&self, bodies: &[String]) {
        for body in bodies {
            self.queue.publish(body.as_bytes(), BasicProperties::default()).await;
        }
    }

    fn source(&self, max_in_flight: u16) -> rabbitmq::Source {
        let url = through(&self.queue.url, self.relay.port());
        rabbitmq::Source::new(self.queue.source(&url, max_in_flight))
    }

    /// With this prefetch the caller's next delivery arrives only after the last ack, so there is
    /// nothing to wait for.
    async fn acked(&self, _count: u64) {}

    async fn cut(&self) {
        self.relay.cut_all();
    }

    async fn left(&self) -> u64 {
        self.queue.ready().await
    }

    async fn clean_up(self) {
        self.queue.delete().await;
    }
}
