//! Tests a cluster that is away, returns, or refuses us. The mock cluster goes down on command.

use std::time::{Duration, Instant};

use longhaul::source::SourceEvent;
use rdkafka::mocking::MockCluster;

use super::support::{Broker, Running, offsets};

fn mock(cluster: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> Broker {
    Broker { bootstrap: cluster.bootstrap_servers(), name: "mock".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn works_with_the_mock_cluster() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 2, 1).unwrap();
    let broker = mock(&cluster);
    broker.produce("t", 0, (0..30).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(30).await;
    taken.iter().filter(|one| one.outline.id.tag != 4).for_each(|one| source.ack(one.outline.id));
    source.wait_for(|event| *event == SourceEvent::Backlog(0)).await;
    source.close().await;
    let mut again = broker.start(&["t"]);
    assert_eq!(offsets(&again.take(1).await), [4]);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_at_the_start_is_waited_for() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = mock(&cluster);
    broker.produce("t", 0, ["patience".to_owned()]).await;
    cluster.broker_down(1).unwrap();
    let mut source = broker.start(&["t"]);
    source.wait_for(|event| *event == SourceEvent::Connected(false)).await;
    cluster.broker_up(1).unwrap();
    assert_eq!(source.take(1).await[0].message.body, "patience");
    source.wait_for(|event| *event == SourceEvent::Connected(true)).await;
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing_and_closing_in_it_is_prompt() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = mock(&cluster);
    broker.produce("t", 0, (0..3).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(3).await;
    cluster.broker_down(1).unwrap();
    source.wait_for(|event| *event == SourceEvent::Connected(false)).await;
    source.ack(taken[1].outline.id);
    cluster.broker_up(1).unwrap();
    broker.produce("t", 0, ["3".to_owned()]).await;
    // A record that was not acked is in hand or arrives again, whether or not the group kept this
    // member during the outage.
    source.take(1).await;

    cluster.broker_down(1).unwrap();
    source.wait_for(|event| *event == SourceEvent::Connected(false)).await;
    let start = Instant::now();
    source.close().await;
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_option_ends_the_source_at_once() {
    let mut settings = Broker { bootstrap: "127.0.0.1:1".into(), name: "x".into() }.settings(&["t"]);
    settings.cluster.options.push(("no.such.option".into(), "value".into()));
    let error = Running::start(settings).ended().await.unwrap_err();
    assert!(error.what.contains("no.such.option"), "{error:?}");
}
