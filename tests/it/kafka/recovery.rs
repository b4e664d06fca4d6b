//! Tests the state that survives a restart.

use std::time::Duration;

use longhaul::source::{Command, SourceEvent};

use super::support::{Broker, offsets, until};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_unfinished_come_again_after_a_restart() {
    let broker = Broker::real("restart");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, (0..200).map(|number| format!("item {number}"))).await;

    let mut source = broker.start(&[topic]);
    let mut taken = source.take(200).await;
    assert_eq!(offsets(&taken), (0..200).collect::<Vec<_>>());
    fastrand::shuffle(&mut taken);
    let unfinished = [0, 17, 150];
    for delivery in taken.iter().filter(|delivery| !unfinished.contains(&delivery.outline.id.tag)) {
        source.ack(delivery.outline.id);
    }
    let failed = taken.iter().find(|delivery| delivery.outline.id.tag == 17).unwrap().outline.id;
    source.command(Command::Note { delivery: failed, attempts: 3 });
    source.close().await;
    let (offset, metadata) = broker.committed(topic);
    assert_eq!((offset, &metadata[..3], metadata.len() < 64), (0, "k1.", true), "{metadata}");

    let mut again = broker.start(&[topic]);
    let rest = again.take(3).await;
    assert_eq!(offsets(&rest), unfinished);
    let attempts: Vec<_> = rest.iter().map(|delivery| delivery.outline.attempts_before).collect();
    assert_eq!(attempts, [0, 3, 0]);
    assert!(again.anything_within(Duration::from_millis(500)).await.is_empty());
    rest.iter().for_each(|delivery| again.ack(delivery.outline.id));
    until("everything is committed", || broker.committed(topic).0 == 200).await;
    again.wait_for(|event| *event == SourceEvent::Backlog(0)).await;
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_others_is_tolerated() {
    for (index, foreign) in ["written by someone else\0", "k1.AAAA", "\0", ""].iter().enumerate() {
        let broker = Broker::real("foreign");
        let topic = &broker.name;
        broker.create_topic(topic, 1).await;
        broker.produce(topic, 0, (0..5).map(|number| format!("item {number}"))).await;
        broker.commit(topic, 2, foreign);
        let mut source = broker.start(&[topic]);
        assert_eq!(offsets(&source.take(3).await), [2, 3, 4], "text {index}");
        source.close().await;
    }
}

/// A long run of finished records is skipped without reading it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_skips_long_runs_of_finished_records() {
    let broker = Broker::real("skip");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    for thousand in 0..20 {
        broker
            .produce(
                topic,
                0,
                (0..1000).map(|number| format!("{} {number}", "x".repeat(500) + &thousand.to_string())),
            )
            .await;
    }
    let mut source = broker.start(&[topic]);
    for _ in 0..20_000 {
        let delivery = source.take(1).await.remove(0);
        if ![0, 12_345].contains(&delivery.outline.id.tag) {
            source.ack(delivery.outline.id);
        }
        source.events.clear();
    }
    source.close().await;
    broker.produce(topic, 0, ["new".to_owned()]).await;

    let mut again = broker.start(&[topic]);
    assert_eq!(offsets(&again.take(3).await), [0, 12_345, 20_000]);
    again.close().await;
}
