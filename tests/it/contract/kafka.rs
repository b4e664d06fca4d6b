//! Kafka keeps the contract, as far as a topic can.
//!
//! Two promises are RabbitMQ's alone: Kafka knows no prefetch (the room in the bridge's channel is what bounds it),
//! and no connection of ours can be cut from outside, because a broker tells its clients to come to its own
//! address. What a lost assignment does is tested in `kafka/assignment.rs` and `kafka/recovery.rs`.

use longhaul::source::kafka::{self, metadata};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Harness, contract};
use crate::kafka::support::{Broker, PATIENCE};

struct Kafka(Broker);

contract!(@each harness().await; delivers_everything_once, returned_items_come_again, a_second_settle_is_stale,
    stopped_intake_still_settles, close_leaves_nothing_behind, acks_and_returns_do_not_mix,
    items_alike_are_separate_items);

async fn harness() -> [Kafka; 1] {
    let broker = Broker::real("contract");
    broker.create_topic(&broker.name, 1).await;
    [Kafka(broker)]
}

impl Harness for Kafka {
    type Source = kafka::Source;
    const REDELIVERED_FLAG: bool = false;
    const RETURNED_COMES_AGAIN: bool = false;

    async fn produce(&self, bodies: &[String]) {
        self.0.produce(&self.0.name, 0, bodies.iter().cloned()).await;
    }

    fn source(&self, _max_in_flight: u16) -> kafka::Source {
        kafka::Source::new(self.0.settings(&[&self.0.name]))
    }

    async fn cut(&self) {
        unreachable!("no promise above cuts a connection");
    }

    /// Records from the committed offset on that the committed map does not have as done.
    async fn left(&self) -> u64 {
        let (committed, text) = self.0.committed(&self.0.name);
        let (client, topic) = (self.0.client(), self.0.name.clone());
        let end = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create().unwrap();
            consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap().1
        });
        let (end, base) = (end.await.unwrap(), committed.max(0));
        let map = metadata::decode(text.as_bytes(), base).unwrap();
        let above = map.map_or((base, 0), |map| {
            (map.end, map.incomplete.iter().filter(|(offset, _)| *offset < map.end).count())
        });
        u64::try_from(end - above.0).unwrap() + above.1 as u64
    }

    async fn clean_up(self) {
        self.0.delete_topic(&self.0.name).await;
    }
}
