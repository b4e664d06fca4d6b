//! Gives partitions away as planned: to a member that joins, and in a drain.

use std::time::{Duration, Instant};

use longhaul::source::{Command, Settled, SourceEvent};

use super::support::{Broker, Running, offsets, until};

/// These limits are well below the promise: released within 5 s, started elsewhere within 10 s.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);
const MOVED_WITHIN: Duration = Duration::from_secs(10);

async fn two_partitions(test: &str) -> Broker {
    let broker = Broker::real(test);
    broker.create_topic(&broker.name, 2).await;
    fill(&broker).await;
    broker
}

/// Returns two members with one partition each, and three records in each partition.
async fn two_members(test: &str) -> (Running, Running) {
    let broker = Broker::real(test);
    broker.create_topic(&broker.name, 2).await;
    let (mut first, mut second) = (broker.start(&[&broker.name]), broker.start(&[&broker.name]));
    until("a partition each", || first.up().len() == 1 && second.up().len() == 1).await;
    fill(&broker).await;
    (first, second)
}

/// Drains a member while another replica continues.
fn leave_to_others(source: &mut Running) {
    source.command(Command::StopIntake);
    source.command(Command::LeaveToOthers);
}

async fn fill(broker: &Broker) {
    for partition in 0..2 {
        broker.produce(&broker.name, partition, (0..3).map(|number| format!("{number}"))).await;
    }
}

/// Work that ends just after the group asked for its partition is committed before another member
/// gets it.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_a_partition_is_given_back_does_not_run_again() {
    let broker = two_partitions("run-out").await;
    let mut first = broker.start(&[&broker.name]);
    let taken = first.take(6).await;
    let mut second = broker.start(&[&broker.name]);
    let releasing = first.wait_for(|event| matches!(event, SourceEvent::Releasing { .. })).await;
    let SourceEvent::Releasing { epoch } = releasing else { unreachable!() };
    // The work takes this much longer.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for delivery in taken.iter().filter(|one| one.outline.id.epoch == epoch) {
        let id = delivery.outline.id;
        first.ack(id);
        first.wait_for(|event| *event == SourceEvent::Settled { delivery: id, settled: Settled::Sent }).await;
    }
    first.wait_for(|event| matches!(event, SourceEvent::Lost { epoch: lost, .. } if *lost == epoch)).await;
    until("the second has it", || second.up().len() == 1).await;
    assert!(second.anything_within(Duration::from_millis(500)).await.is_empty());
    second.close().await;
    first.close().await;
}

/// A record that runs for hours delays nobody: new records start at the new member.
#[tokio::test(flavor = "multi_thread")]
async fn long_work_delays_a_release_by_seconds_only() {
    let broker = two_partitions("held-up").await;
    let mut first = broker.start(&[&broker.name]);
    first.take(6).await;
    let joined = Instant::now();
    let mut second = broker.start(&[&broker.name]);
    first.wait_for(|event| matches!(event, SourceEvent::Releasing { .. })).await;
    let asked = Instant::now();
    first.wait_for(|event| matches!(event, SourceEvent::Lost { .. })).await;
    let released = asked.elapsed();
    assert_eq!(offsets(&second.take(3).await), [0, 1, 2]);
    let moved = joined.elapsed();
    println!("released after {released:?}, moved {moved:?} after the join");
    assert!(released < RELEASED_WITHIN && moved < MOVED_WITHIN, "{released:?}, {moved:?}");
    second.close().await;
    first.close().await;
}

/// The assignment is reported before the first record, so that other members can be asked for their
/// running records.
#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_is_told_before_its_records() {
    let broker = two_partitions("told").await;
    let mut source = broker.start(&[&broker.name]);
    source.take(6).await;
    let is_assigned = |event: &&SourceEvent| matches!(event, SourceEvent::Assigned(_));
    let told: Vec<_> = source.events.iter().filter(is_assigned).collect();
    let [SourceEvent::Assigned(partitions)] = told[..] else { panic!("{:?}", source.events) };
    let mut numbers: Vec<_> = partitions.iter().map(|one| one.partition).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1]);
    assert!(partitions.iter().all(|one| *one.topic == *broker.name));
    assert!(partitions.iter().all(|one| source.events.contains(&SourceEvent::Up { epoch: one.epoch })));
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_idle_partitions_to_others_at_once() {
    let (mut first, mut second) = two_members("idle").await;
    for source in [&mut first, &mut second] {
        for delivery in source.take(3).await {
            source.ack(delivery.outline.id);
        }
    }
    let asked = Instant::now();
    leave_to_others(&mut first);
    until("the second has all", || second.up().len() == 2).await;
    println!("an idle partition moved {:?} after the drain began", asked.elapsed());
    assert!(asked.elapsed() < RELEASED_WITHIN, "{:?}", asked.elapsed());
    // The source still runs, for events that it may have to send.
    assert!(first.up().is_empty());
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_busy_partitions_to_others_within_seconds() {
    let (mut first, mut second) = two_members("busy").await;
    let (running, _) = (first.take(3).await, second.take(3).await);
    let asked = Instant::now();
    leave_to_others(&mut first);
    // The first record is done in time, so it is committed; the other two continue for hours.
    first.ack(running[1].outline.id);
    assert_eq!(offsets(&second.take(2).await), [0, 2]);
    println!("a busy partition moved {:?} after the drain began", asked.elapsed());
    assert!(asked.elapsed() < MOVED_WITHIN, "{:?}", asked.elapsed());
    first.wait_for(|event| matches!(event, SourceEvent::Lost { .. })).await;
    first.ack(running[0].outline.id);
    let id = running[0].outline.id;
    first.wait_for(|event| *event == SourceEvent::Settled { delivery: id, settled: Settled::Stale }).await;
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sole_member_drains_to_the_end_and_leaves_when_another_joins() {
    let broker = two_partitions("sole").await;
    let mut first = broker.start(&[&broker.name]);
    let running = first.take(6).await;
    leave_to_others(&mut first);
    first.wait_for(|event| *event == SourceEvent::IntakeStopped).await;
    // This is longer than a look at the group and a release take.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(first.up().len(), 2);
    for delivery in running.iter().filter(|one| one.outline.id.tag < 2) {
        first.ack(delivery.outline.id);
    }
    until("it is committed", || broker.committed(&broker.name).0 == 2).await;

    let mut second = broker.start(&[&broker.name]);
    assert_eq!(offsets(&second.take(2).await), [2, 2]);
    assert!(first.up().is_empty());
    first.close().await;
    second.close().await;
}

/// If no replica continues, nobody could take the running records over, so no other member gets
/// them before they are done.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_successor_a_drain_keeps_what_runs() {
    let (mut first, mut second) = two_members("keep").await;
    let (running, other) = (first.take(3).await, second.take(3).await);
    other.iter().for_each(|delivery| second.ack(delivery.outline.id));
    first.command(Command::StopIntake);
    // This is longer than a look at the group and a release take.
    assert!(second.anything_within(Duration::from_secs(4)).await.is_empty());
    running.iter().for_each(|delivery| first.ack(delivery.outline.id));
    first.close().await;
    until("the second has all", || second.up().len() == 2).await;
    assert!(second.anything_within(Duration::from_millis(500)).await.is_empty());
    second.close().await;
}
