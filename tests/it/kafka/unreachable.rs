//! Tests a cluster that is away, returns, or refuses us. The mock cluster goes down on command.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use longhaul::config::Start;
use longhaul::source::{Command, SourceEvent};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::support::{Broker, Running, offsets};

/// The longest close that the source allows, and some time for a busy machine.
const CLOSE: Duration = Duration::from_secs(15);
/// A broker that answers after this time keeps every connection open, and looks dead meanwhile. It
/// is as long as librdkafka's own limit for a request.
const DEAD: Duration = Duration::from_secs(60);

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

/// librdkafka leaves a group only after the broker has answered a commit that is under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_does_not_wait_for_a_commit_without_an_answer() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = mock(&cluster);
    broker.produce("t", 0, ["0".to_owned()]).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(1).await;
    cluster.broker_round_trip_time(1, DEAD).unwrap();
    source.ack(taken[0].outline.id);
    let start = Instant::now();
    source.close().await;
    assert!(start.elapsed() < CLOSE, "{:?}", start.elapsed());
}

/// The poll thread waits for answers while it starts partitions. Each of these clusters dies at
/// another moment of the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_at_any_moment_of_a_start_is_prompt() {
    let closes = (0..12_u32).map(|moment| async move {
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["t", "u"] {
            cluster.create_topic(topic, 3, 1).unwrap();
        }
        let broker = mock(&cluster);
        // Slow answers make the start long enough for all moments.
        cluster.broker_round_trip_time(1, Duration::from_millis(100)).unwrap();
        let mut settings = broker.settings(&["t", "u"]);
        settings.start = if moment % 2 == 0 { Start::Latest } else { Start::Refuse };
        let source = Running::start(settings);
        tokio::time::sleep(Duration::from_millis(150) * moment).await;
        cluster.broker_round_trip_time(1, DEAD).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        source.close().await;
        (moment, start.elapsed())
    });
    let closes = join_all(closes).await;
    assert!(closes.iter().all(|(_, time)| *time < CLOSE), "{closes:?}");
}

/// A client that meets a fatal error is replaced, but not while the source closes.
#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_while_closing_ends_the_source() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = mock(&cluster);
    broker.produce("t", 0, ["0".to_owned()]).await;
    let mut settings = broker.settings(&["t"]);
    settings.instance_id = Some("fenced".to_owned());
    let mut source = Running::start(settings);
    let taken = source.take(1).await;
    // The close waits for this commit until the group refuses the member.
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 100];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
    source.ack(taken[0].outline.id);
    source.command(Command::Close);
    let fenced = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID; 10];
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &fenced);
    source
        .wait_for(
            |event| matches!(event, SourceEvent::Problem(found) if found.text.contains("can't continue")),
        )
        .await;
    source.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_option_ends_the_source_at_once() {
    let mut settings = Broker { bootstrap: "127.0.0.1:1".into(), name: "x".into() }.settings(&["t"]);
    settings.cluster.options.push(("no.such.option".into(), "value".into()));
    let error = Running::start(settings).ended().await.unwrap_err();
    assert!(error.what.contains("no.such.option"), "{error:?}");
}
