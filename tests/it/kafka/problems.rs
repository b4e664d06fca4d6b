//! A source without progress reports it, affects no other partition, and continues by itself.

use std::time::{Duration, Instant};

use longhaul::source::SourceEvent;
use longhaul::telemetry::ProblemKind;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::support::{Broker, Relayed, Running, until};
use crate::support::relay::Mode;

/// The time within which a problem must be visible.
const VISIBLE: Duration = Duration::from_secs(10);

fn is_problem(event: &SourceEvent, wanted: ProblemKind) -> bool {
    matches!(event, SourceEvent::Problem(problem) if problem.kind == wanted && !problem.help.is_empty())
}

async fn problem_within_ten_seconds(source: &mut Running, kind: ProblemKind) {
    let start = Instant::now();
    source.wait_for(|event| is_problem(event, kind)).await;
    assert!(start.elapsed() < VISIBLE, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_a_broker_is_a_problem() {
    let broker = Broker { bootstrap: "127.0.0.1:1".into(), name: "nobody".into() };
    let mut source = broker.start(&["t"]);
    problem_within_ten_seconds(&mut source, ProblemKind::SourceUnreachable).await;
    source.close().await;
}

/// The broker accepts the connection and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_is_a_problem_until_it_answers() {
    let Some(relayed) = Relayed::start("silent").await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    direct.create_topic(&direct.name, 1).await;
    direct.produce(&direct.name, 0, ["item".to_owned()]).await;
    relay.set(Mode::Stall);
    let mut source = broker.start(&[&broker.name]);
    problem_within_ten_seconds(&mut source, ProblemKind::SourceUnreachable).await;
    relay.cut_all();
    relay.set(Mode::Pass);
    source.take(1).await;
    source
        .wait_for(|event| matches!(event, SourceEvent::Solved { kind: ProblemKind::SourceUnreachable, .. }))
        .await;
    source.close().await;
}

/// Stops the broker in the middle of the work, like SIGSTOP: while records run, while the source is
/// idle, and while finished work waits for its commit. The connections stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_falls_silent_is_a_problem_until_it_answers() {
    let Some(relayed) = Relayed::start("falls-silent").await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    direct.create_topic(&direct.name, 1).await;
    let mut settings = broker.settings(&[&broker.name]);
    // The group keeps this member meanwhile, so no record comes again.
    settings.session_timeout = Duration::from_secs(60);
    let mut source = Running::start(settings);
    for phase in ["running", "idle", "commit"] {
        direct.produce(&direct.name, 0, [phase.to_owned()]).await;
        let taken = source.take(1).await;
        assert_eq!(taken[0].message.body, phase);
        if phase == "idle" {
            source.ack(taken[0].outline.id);
            until("the commit", || direct.committed(&direct.name).0 == 2).await;
        }
        source.no_problem().await;
        source.events.clear();
        relay.set(Mode::Hold);
        if phase == "commit" {
            source.ack(taken[0].outline.id);
        }
        problem_within_ten_seconds(&mut source, ProblemKind::SourceUnreachable).await;
        relay.set(Mode::Pass);
        let answers = Instant::now();
        source.no_problem().await;
        assert!(answers.elapsed() < VISIBLE, "{:?}", answers.elapsed());
        if phase == "running" {
            source.ack(taken[0].outline.id);
        }
    }
    until("everything is committed", || direct.committed(&direct.name).0 == 3).await;
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_does_not_complete_is_a_problem() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "join".to_owned() };
    broker.produce("t", 0, ["item".to_owned()]).await;
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE; 10_000];
    cluster.request_errors(RDKafkaApiKey::FindCoordinator, &refusals);
    let mut source = broker.start(&["t"]);
    problem_within_ten_seconds(&mut source, ProblemKind::GroupNotJoined).await;
    cluster.clear_request_errors(RDKafkaApiKey::FindCoordinator);
    source.take(1).await;
    source
        .wait_for(|event| matches!(event, SourceEvent::Solved { kind: ProblemKind::GroupNotJoined, .. }))
        .await;
    source.close().await;
}

/// A refused group does not end the source, because the permission may be given later.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_may_not_be_read_is_a_problem_until_it_may() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "refused-group".to_owned() };
    broker.produce("t", 0, ["item".to_owned()]).await;
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 10_000];
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &refusals);
    let mut source = broker.start(&["t"]);
    problem_within_ten_seconds(&mut source, ProblemKind::SourceRefused).await;
    cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    source.take(1).await;
    source
        .wait_for(|event| matches!(event, SourceEvent::Solved { kind: ProblemKind::SourceRefused, .. }))
        .await;
    source.close().await;
}

/// Finished work that the broker does not store is a problem, and stops new work.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_refused_are_a_problem() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "refused-commits".to_owned() };
    broker.produce("t", 0, (0..3).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&["t"]);
    let taken = source.take(3).await;
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 10_000];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
    source.ack(taken[0].outline.id);
    problem_within_ten_seconds(&mut source, ProblemKind::CommitRefused).await;
    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    source
        .wait_for(|event| matches!(event, SourceEvent::Solved { kind: ProblemKind::CommitRefused, .. }))
        .await;
    until("it is committed", || broker.committed("t").0 == 1).await;
    source.close().await;
}

/// A partition with many records must not delay the only record of another one.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_record_of_a_partition_does_not_wait_behind_many() {
    let broker = Broker::real("fair");
    let topic = &broker.name;
    broker.create_topic(topic, 2).await;
    broker.produce(topic, 0, (0..1400).map(|number| format!("{number}"))).await;
    let mut source = Running::with_room(broker.settings(&[topic]), 1);
    source.take(10).await;
    broker.produce(topic, 1, ["only".to_owned()]).await;
    let written = Instant::now();
    loop {
        // This is about 20 records a second.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let delivery = source.take(1).await.remove(0);
        source.ack(delivery.outline.id);
        if delivery.message.body == "only" {
            break;
        }
    }
    assert!(written.elapsed() < Duration::from_secs(5), "{:?}", written.elapsed());
    source.close().await;
}
