//! Breaks connections, and makes errors of the broker with the mock cluster.

use std::time::{Duration, Instant};

use longhaul::source::{Command, SourceEvent};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::support::{Broker, Relayed, Running, offsets, until};
use crate::support::relay::Mode;

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_is_made_again() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "refused".to_owned() };
    broker.produce("t", 0, (0..10).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(10).await;
    cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN,
        ],
    );
    taken.iter().for_each(|delivery| source.ack(delivery.outline.id));
    until("it is committed", || broker.committed("t").0 == 10).await;
    source.close().await;
}

/// A start without the map would run again every record that is done behind the base.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_waits_for_its_map() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "map".to_owned() };
    broker.produce("t", 0, (0..10).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(10).await;
    taken.iter().filter(|one| one.outline.id.tag != 0).for_each(|one| source.ack(one.outline.id));
    source.close().await;

    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; 3];
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &refusals);
    let mut again = broker.start(&["t"]);
    again.wait_for(|event| *event == SourceEvent::Connected(true)).await;
    assert_eq!(offsets(&again.take(1).await), [0]);
    assert!(again.anything_within(Duration::from_millis(500)).await.is_empty());
    again.close().await;
}

/// The group waits for a member until its session times out, so a short cut costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_loses_no_session() {
    let Some(relayed) = Relayed::start("short-cut").await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    let topic = &direct.name;
    direct.create_topic(topic, 1).await;
    direct.produce(topic, 0, (0..3).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&[topic]);
    let taken = source.take(3).await;
    for delivery in &taken {
        relay.cut_all();
        source.ack(delivery.outline.id);
        let committed = delivery.outline.id.tag + 1;
        until("it is committed", || direct.committed(topic).0.cast_unsigned() == committed).await;
    }
    assert_eq!(source.up().len(), 1);
    assert!(
        !source.events.iter().any(|event| matches!(event, SourceEvent::Lost { .. })),
        "{:?}",
        source.events
    );
    source.close().await;
}

/// While nobody knows whether a session is alive, it is not reported as alive: the group may have
/// given it to another member.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_alive_only_where_the_group_says_so() {
    let Some(relayed) = Relayed::start("proof").await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    let topic = &direct.name;
    direct.create_topic(topic, 1).await;
    direct.produce(topic, 0, ["0".to_owned()]).await;
    let mut source = broker.start(&[topic]);
    let epoch = source.take(1).await[0].outline.id.epoch;
    source.command(Command::Prove { epoch });
    source.wait_for(|event| *event == SourceEvent::Alive { epoch }).await;

    source.events.clear();
    relay.set(Mode::Stall);
    source.command(Command::Prove { epoch });
    source.wait_for(|event| matches!(event, SourceEvent::Lost { epoch: lost, .. } if *lost == epoch)).await;
    assert!(!source.events.contains(&SourceEvent::Alive { epoch }), "{:?}", source.events);
    relay.cut_all();
    relay.set(Mode::Pass);
    source.close().await;
}

/// Other members wait for the release, so a coordinator that refuses every commit must not delay
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_does_not_wait_for_a_commit_for_ever() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "stubborn".to_owned() };
    for partition in 0..2 {
        broker.produce("t", partition, ["item".to_owned()]).await;
    }
    let mut first = broker.start(&["t"]);
    let taken = first.take(2).await;
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 100];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
    taken.iter().for_each(|delivery| first.ack(delivery.outline.id));
    let mut second = Running::start(broker.settings(&["t"]));
    first.wait_for(|event| matches!(event, SourceEvent::Releasing { .. })).await;
    let asked = Instant::now();
    first.wait_for(|event| matches!(event, SourceEvent::Lost { .. })).await;
    let waited = asked.elapsed();
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    // A record that could not be committed runs again; it is not lost.
    assert_eq!(offsets(&second.take(1).await), [0]);
    second.close().await;
    first.close().await;
}

/// Partitions that are assigned while the bridge is full wait like the others, and all continue
/// when it has room.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_goes_on_after_rebalances() {
    let broker = Broker::real("paused");
    let topic = &broker.name;
    broker.create_topic(topic, 4).await;
    for partition in 0..4 {
        broker.produce(topic, partition, (0..200).map(|number| format!("{number}"))).await;
    }
    let mut first = Running::with_room(broker.settings(&[topic]), 1);
    first.wait_for(|event| matches!(event, SourceEvent::Backlog(waiting) if *waiting > 0)).await;
    // This is longer than the grace, so everything is paused.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut second = Running::with_room(broker.settings(&[topic]), 1);
    until("two partitions each", || first.up().len() == 2 && second.up().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.close().await;
    until("all four again", || first.up().len() == 4).await;
    let sessions = first.up();
    let mut taken = std::collections::BTreeSet::new();
    while taken.len() < 800 {
        let delivery = first.take(1).await.remove(0);
        let id = delivery.outline.id;
        if sessions.contains(&id.epoch) {
            assert!(taken.insert(id), "{id} came twice");
            first.ack(id);
        }
    }
    first.close().await;
}
