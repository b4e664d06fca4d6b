//! A group whose committed offsets were deleted runs nothing by itself.

use std::time::Duration;

use longhaul::config::Start;
use longhaul::source::{Command, SourceEvent, StartFrom};
use longhaul::telemetry::ProblemKind;

use super::support::{Broker, Running, offsets, until};

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("record {number}"))
}

/// Finishes these records of a new topic, and waits until the group is marked.
async fn finished(broker: &Broker, records: usize) {
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, numbered(records)).await;
    let mut source = broker.start(&[topic]);
    source.take(records).await.iter().for_each(|one| source.ack(one.outline.id));
    until("all is committed", || broker.committed(topic).0 == records as i64).await;
    until("the group is marked", || broker.mark().contains("; ")).await;
    source.close().await;
}

/// Waits for the problem, and returns its text.
async fn lost(source: &mut Running) -> String {
    let is_lost = |event: &SourceEvent| matches!(event, SourceEvent::Problem(one) if one.kind == ProblemKind::OffsetsLost);
    let SourceEvent::Problem(problem) = source.wait_for(is_lost).await else { unreachable!() };
    assert!(problem.help.contains("resume") && problem.help.contains("--from"), "{problem:?}");
    problem.text
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_offsets_run_nothing_until_a_person_decides() {
    let broker = Broker::real("lost");
    let topic = &broker.name;
    finished(&broker, 500).await;
    let before_the_new = jiff::Timestamp::now();
    broker.produce(topic, 0, numbered(2)).await;
    let decisions =
        [(StartFrom::Earliest, 0), (StartFrom::Time(before_the_new), 500), (StartFrom::Latest, 502)];
    for (from, first) in decisions {
        broker.forget_offsets(topic).await;
        let mut source = broker.start(&[topic]);
        let text = lost(&mut source).await;
        assert!(text.contains("has lost its committed offsets") && text.contains("502 records"), "{text}");
        assert!(source.anything_within(Duration::from_secs(1)).await.is_empty());
        source.command(Command::StartFrom(from));
        let taken = source.take(502 - first).await;
        assert_eq!(offsets(&taken), (first as u64..502).collect::<Vec<_>>(), "{from}");
        source.no_problem().await;
        until("the decision is committed", || broker.committed(topic).0 == first as i64).await;
        source.close().await;
    }
}

/// A topic beside it works on, and another member finds the decision.
#[tokio::test(flavor = "multi_thread")]
async fn lost_offsets_of_one_topic_stop_no_other() {
    let broker = Broker::real("lost-beside");
    let (topic, other) = (&broker.name, &format!("{}-other", broker.name));
    finished(&broker, 5).await;
    broker.forget_offsets(topic).await;
    broker.create_topic(other, 1).await;
    broker.produce(other, 0, numbered(3)).await;
    let mut source = broker.start(&[topic, other]);
    assert_eq!(source.take(3).await.len(), 3);
    lost(&mut source).await;
    // Another client of the group decides, as `kafka-consumer-groups --reset-offsets` does.
    source.close().await;
    broker.commit(topic, 2, "");
    let mut source = broker.start(&[topic, other]);
    let taken = source.take(6).await;
    assert_eq!(taken.iter().filter(|one| one.outline.id.tag >= 2).count(), 4, "{taken:?}");
    source.close().await;
}

/// A new group that was killed before its first commit has lost nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_any_commit_is_new() {
    let broker = Broker::real("not-lost");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, numbered(3)).await;
    // The mark of another topic of the group.
    broker.commit("__consumer_offsets", 7, "longhaul: the start of this group is decided");
    let mut source = broker.start(&[topic]);
    assert_eq!(source.take(3).await.len(), 3);
    source.close().await;
}

/// `start: refuse` asks before a new group reads anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_that_must_not_start_waits_for_a_decision() {
    let broker = Broker::real("refuse");
    let (topic, empty) = (&broker.name, &format!("{}-empty", broker.name));
    for name in [topic, empty] {
        broker.create_topic(name, 1).await;
    }
    broker.produce(topic, 0, numbered(3)).await;
    let mut settings = broker.settings(&[topic, empty]);
    settings.start = Start::Refuse;
    let mut source = Running::start(settings);
    let text = lost(&mut source).await;
    assert!(text.contains("start: refuse") && text.contains("3 records"), "{text}");
    // A partition without records has nothing to decide.
    broker.produce(empty, 0, numbered(1)).await;
    assert_eq!(source.take(1).await.len(), 1);
    source.command(Command::StartFrom(StartFrom::Latest));
    source.no_problem().await;
    broker.produce(topic, 0, ["new".to_owned()]).await;
    assert_eq!(offsets(&source.take(1).await), [3]);
    source.close().await;
}
