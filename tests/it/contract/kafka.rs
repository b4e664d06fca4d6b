//! Checks the contract on Kafka, as far as a topic can keep it.
//!
//! One promise is RabbitMQ's alone: Kafka has no prefetch, so the room in the bridge's channel is
//! the bound. A cut alone does not lose a session either: the group waits for the member until its
//! session times out.

use std::time::Duration;

use longhaul::source::kafka::{self, metadata};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Harness, contract};
use crate::kafka::support::{Broker, PATIENCE, Relayed};
use crate::support::eventually;
use crate::support::relay::Mode;

struct Kafka {
    direct: Broker,
    /// The relay between the source and the broker.
    relayed: Option<Relayed>,
}

contract!(@each direct().await; delivers_everything_once, returned_items_come_again, a_second_settle_is_stale,
    stopped_intake_still_settles, close_leaves_nothing_behind, acks_and_returns_do_not_mix,
    items_alike_are_separate_items);

contract!(@each relayed().await; a_cut_loses_the_session_once, a_settle_of_a_lost_session_settles_nothing);

async fn direct() -> [Kafka; 1] {
    let direct = Broker::real("contract");
    direct.create_topic(&direct.name, 1).await;
    [Kafka { direct, relayed: None }]
}

async fn relayed() -> Vec<Kafka> {
    let Some(relayed) = Relayed::start("cut").await else { return Vec::new() };
    let direct = relayed.direct.clone();
    direct.create_topic(&direct.name, 1).await;
    vec![Kafka { direct, relayed: Some(relayed) }]
}

impl Kafka {
    fn settings(&self) -> kafka::Settings {
        let broker = self.relayed.as_ref().map_or(&self.direct, |relayed| &relayed.broker);
        let mut settings = broker.settings(&[&broker.name]);
        // A cut lasts as long as this timeout.
        settings.session_timeout = Duration::from_secs(2);
        settings
    }

    async fn log_end(&self) -> i64 {
        let (client, topic) = (self.direct.client(), self.direct.name.clone());
        let end = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create().unwrap();
            consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap().1
        });
        end.await.unwrap()
    }

    async fn has_members(&self) -> bool {
        let (client, group) = (self.direct.client(), self.direct.name.clone());
        let members = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create().unwrap();
            let groups = consumer.fetch_group_list(Some(&group), PATIENCE).unwrap();
            groups.groups().iter().map(|group| group.members().len()).sum::<usize>()
        });
        members.await.unwrap() > 0
    }
}

impl Harness for Kafka {
    type Source = kafka::Source;
    const REDELIVERED_FLAG: bool = false;
    const RETURNED_COMES_AGAIN: bool = false;

    async fn produce(&self, bodies: &[String]) {
        self.direct.produce(&self.direct.name, 0, bodies.iter().cloned()).await;
    }

    fn source(&self, _max_in_flight: u16) -> kafka::Source {
        kafka::Source::new(self.settings())
    }

    async fn acked(&self, count: u64) {
        let written = u64::try_from(self.log_end().await).unwrap();
        eventually("the acks to be committed", async || self.left().await == written - count).await;
    }

    async fn cut(&self) {
        let relay = &self.relayed.as_ref().expect("a relay").relay;
        relay.set(Mode::Refuse);
        relay.cut_all();
        eventually("the group to give the member up", async || !self.has_members().await).await;
        relay.set(Mode::Pass);
    }

    /// Counts the records from the committed offset on that the committed map does not list as
    /// done.
    async fn left(&self) -> u64 {
        let (committed, text) = self.direct.committed(&self.direct.name);
        let (end, base) = (self.log_end().await, committed.max(0));
        let map = metadata::decode(text.as_bytes(), base).unwrap();
        let above = map.map_or((base, 0), |map| {
            (map.end, map.incomplete.iter().filter(|(offset, _)| *offset < map.end).count())
        });
        u64::try_from(end - above.0).unwrap() + above.1 as u64
    }

    async fn clean_up(self) {
        self.direct.delete_topic(&self.direct.name).await;
    }
}
