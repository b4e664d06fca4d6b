//! Tests back-pressure, the cap on unfinished records, and the end of the intake.

use std::time::{Duration, Instant};

use longhaul::delivery::Settlement;
use longhaul::source::{Command, SourceEvent};

use super::support::{Broker, Running, offsets, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_bridge_gets_everything_once_and_in_order() {
    let broker = Broker::real("slow");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, (0..600).map(|number| format!("{number}"))).await;
    let mut source = Running::with_room(broker.settings(&[topic]), 1);
    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.extend(source.take(100).await);
        // This is longer than the grace, so the partition is paused and fetched again.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(offsets(&taken), (0..600).collect::<Vec<_>>());
    source.close().await;
}

/// The text of the commit bounds the unfinished records of a partition, and their number does not:
/// one partition has 10,000 requests open, whichever of its records finish.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_records_are_bounded_by_the_commit_and_the_rest_waits_in_the_broker() {
    let broker = Broker::real("cap");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    for part in 0..3 {
        broker
            .produce(topic, 0, (part * 10_000..(part + 1) * 10_000).map(|number| format!("{number}")))
            .await;
    }
    let mut source = broker.start(&[topic]);
    let mut taken = source.take(20_000).await;
    taken.extend(source.anything_within(Duration::from_millis(700)).await);
    let waiting = 30_000 - taken.len() as u64;
    assert!(waiting > 0, "the commit would not fit");
    source.wait_for(|event| *event == SourceEvent::PartitionsFull(1)).await;
    source.wait_for(|event| *event == SourceEvent::Backlog(waiting)).await;
    for delivery in taken[1..].iter().step_by(2) {
        source.ack(delivery.outline.id);
    }
    until("the acks are committed", || broker.committed(topic).1.len() > 3000).await;
    for delivery in taken[2..].iter().step_by(2) {
        source.ack(delivery.outline.id);
    }
    let rest = source.take(30_000 - taken.len()).await;
    assert_eq!(offsets(&rest), (taken.len() as u64..30_000).collect::<Vec<_>>());
    rest.iter().for_each(|delivery| source.ack(delivery.outline.id));
    source.wait_for(|event| *event == SourceEvent::PartitionsFull(0)).await;
    source.close().await;
    assert_eq!(broker.committed(topic).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_intake_stopped_what_is_out_can_still_be_settled() {
    let broker = Broker::real("stop");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, (0..300).map(|number| format!("{number}"))).await;
    let mut source = Running::with_room(broker.settings(&[topic]), 1);
    let taken = source.take(3).await;
    source.command(Command::StopIntake);
    source.wait_for(|event| *event == SourceEvent::IntakeStopped).await;
    let on_the_way = source.anything_within(Duration::from_millis(500)).await;
    assert!(on_the_way.len() <= 1, "only what was in the channel already");
    source.ack(taken[1].outline.id);
    source.command(Command::Settle { delivery: taken[0].outline.id, how: Settlement::Return });
    source.ack(taken[2].outline.id);
    until("the acks are committed", || broker.committed(topic).1.starts_with("k1.")).await;
    source.close().await;

    let mut again = broker.start(&[topic]);
    assert_eq!(offsets(&again.take(3).await), [0, 3, 4]);
    again.close().await;
}

/// Benchmarks measure the speed. This test only shows that pauses do not ruin fast work.
#[tokio::test(flavor = "multi_thread")]
async fn fast_work_flows() {
    let broker = Broker::real("fast");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    for _ in 0..10 {
        broker.produce(topic, 0, (0..5000).map(|_| "x".repeat(1024))).await;
    }
    let mut source = Running::with_room(broker.settings(&[topic]), 200);
    source.take(1).await;
    let start = Instant::now();
    for _ in 1..50_000 {
        let delivery = source.take(1).await.remove(0);
        source.ack(delivery.outline.id);
        source.events.clear();
    }
    println!("{:.0} records/s", 50_000.0 / start.elapsed().as_secs_f64());
    source.close().await;
    assert_eq!(broker.committed(topic).0, 0, "the first was never acked");
}

/// The backlog also counts partitions from which nothing was polled, because the first ones filled
/// the room.
#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_counts_every_partition() {
    let broker = Broker::real("backlog");
    let topic = &broker.name;
    broker.create_topic(topic, 8).await;
    for partition in 0..8 {
        broker.produce(topic, partition, (0..100).map(|number| format!("{number}"))).await;
    }
    let mut source = Running::with_room(broker.settings(&[topic]), 1);
    // One record waits in the channel, which counts as handed over.
    source.wait_for(|event| *event == SourceEvent::Backlog(799)).await;
    source.close().await;
}

/// The age counts from the receipt, even if another record was the lowest then.
#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_the_lowest_unfinished_record_is_told() {
    let broker = Broker::real("head");
    let topic = &broker.name;
    broker.create_topic(topic, 2).await;
    broker.produce(topic, 0, (0..3).map(|number| format!("{number}"))).await;
    let mut source = broker.start(&[topic]);
    let taken = source.take(3).await;
    source.ack(taken[1].outline.id);
    let old =
        |event: &SourceEvent| matches!(event, SourceEvent::HeadAge(age) if *age >= Duration::from_secs(2));
    source.wait_for(old).await;
    source.ack(taken[0].outline.id);
    source.events.clear();
    source.wait_for(old).await;
    source.ack(taken[2].outline.id);
    source.events.clear();
    source.wait_for(|event| *event == SourceEvent::HeadAge(Duration::ZERO)).await;
    source.close().await;
}
