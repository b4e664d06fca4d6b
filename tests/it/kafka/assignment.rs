//! Lets members and topics come and go.

use std::collections::HashSet;
use std::time::Duration;

use longhaul::delivery::{DeliveryId, Epoch};
use longhaul::source::{Settled, SourceEvent};
use longhaul::telemetry::ProblemKind;

use super::support::{Broker, Running, offsets, until};

#[tokio::test(flavor = "multi_thread")]
async fn finished_work_moves_with_its_partition() {
    let broker = Broker::real("rebalance");
    let topic = &broker.name;
    broker.create_topic(topic, 4).await;
    for partition in 0..4 {
        broker.produce(topic, partition, (0..10).map(|number| format!("{number}"))).await;
    }
    let mut first = Running::with_room(broker.settings(&[topic]), 64);
    let taken = first.take(40).await;
    // The first record of each partition runs for hours, the others are done.
    for delivery in taken.iter().filter(|delivery| delivery.outline.id.tag > 0) {
        first.ack(delivery.outline.id);
    }
    let mut second = Running::with_room(broker.settings(&[topic]), 64);
    let moved = second.take(2).await;
    assert_eq!(offsets(&moved), [0, 0], "what was done does not come again");
    assert!(second.anything_within(Duration::from_millis(500)).await.is_empty());

    first.wait_for(|event| matches!(event, SourceEvent::Lost { .. })).await;
    until("two partitions each", || first.up().len() == 2 && second.up().len() == 2).await;

    // The first member still runs records of the moved partitions. Their settles are stale and
    // change nothing.
    let kept = first.up();
    for delivery in taken.iter().filter(|delivery| delivery.outline.id.tag == 0) {
        first.ack(delivery.outline.id);
        let id = delivery.outline.id;
        let expected = if kept.contains(&id.epoch) { Settled::Sent } else { Settled::Stale };
        first.wait_for(|event| *event == SourceEvent::Settled { delivery: id, settled: expected }).await;
    }

    // The first member leaves. The second gets its partitions, in which no work is left.
    first.close().await;
    until("the second has all", || second.up().len() == 4).await;
    assert!(second.anything_within(Duration::from_millis(500)).await.is_empty());
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_several_topics_and_patterns() {
    let broker = Broker::real("several");
    let (one, two, other) =
        (format!("{}-one", broker.name), format!("{}-two", broker.name), format!("x{}", broker.name));
    for topic in [&one, &two, &other] {
        broker.create_topic(topic, 1).await;
        broker.produce(topic, 0, [topic.clone()]).await;
    }
    let pattern = format!("^{}-.*", broker.name);
    let mut source = broker.start(&[&pattern, &other]);
    let bodies: HashSet<_> = source.take(3).await.iter().map(|one| one.message.body.clone()).collect();
    assert_eq!(bodies, [one, two, other].map(bytes::Bytes::from).into());
    source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_a_missing_topic() {
    let broker = Broker::real("missing");
    let topic = &broker.name;
    let mut source = broker.start(&[topic]);
    source.wait_for(|event| *event == SourceEvent::Connected(true)).await;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, ["late".to_owned()]).await;
    assert_eq!(source.take(1).await[0].message.body, "late");
    source.close().await;
}

/// A topic that was deleted and created again starts at offset 0 again. None of its records may be
/// taken for a finished one.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_anew_is_read_from_its_start() {
    let broker = Broker::real("again");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, (0..20).map(|number| format!("old {number}"))).await;
    let mut source = broker.start(&[topic]);
    for delivery in source.take(20).await {
        source.ack(delivery.outline.id);
    }
    source.close().await;
    assert_eq!(broker.committed(topic).0, 20);

    broker.delete_topic(topic).await;
    broker.create_topic(topic, 1).await;
    broker.commit(topic, 20, "");
    broker.produce(topic, 0, (0..5).map(|number| format!("new {number}"))).await;
    let mut again = broker.start(&[topic]);
    let taken = again.take(5).await;
    assert_eq!(taken[0].message.body, "new 0");
    for delivery in taken {
        again.ack(delivery.outline.id);
    }
    until("the commit went back", || broker.committed(topic).0 == 5).await;
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn static_members_keep_their_partitions_over_a_restart() {
    let broker = Broker::real("static");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, ["one".to_owned()]).await;
    let mut settings = broker.settings(&[topic]);
    settings.instance_id = Some("member-0".to_owned());
    let mut source = Running::start(settings.clone());
    source.take(1).await;
    source.close().await;
    let mut again = Running::start(settings.clone());
    assert_eq!(offsets(&again.take(1).await), [0]);

    // A second member with the same name fences the first. The first loses its sessions, cuts no
    // request, and reports the fault with its help.
    let mut usurper = Running::start(settings);
    usurper.take(1).await;
    again.wait_for(|event| matches!(event, SourceEvent::Lost { .. })).await;
    let is_told = |event: &SourceEvent| matches!(event, SourceEvent::Problem(problem) if problem.help.contains("instance_id"));
    again.wait_for(is_told).await;
    // The first member still answers, and returns when the other one is gone.
    again.ack(DeliveryId { epoch: Epoch(0), tag: 0 });
    again.wait_for(|event| matches!(event, SourceEvent::Settled { settled: Settled::Stale, .. })).await;
    usurper.close().await;
    assert_eq!(offsets(&again.take(1).await), [0]);
    again
        .wait_for(|event| matches!(event, SourceEvent::Solved { kind: ProblemKind::SourceRefused, .. }))
        .await;
    again.close().await;
}
