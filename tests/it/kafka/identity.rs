//! Deletes a topic and creates it again under the same name, which makes another log.

use std::time::Duration;

use longhaul::config::Start;
use longhaul::delivery::{DeliveryId, Identity};
use longhaul::source::{Delivery, SourceEvent};
use rdkafka::admin::{AdminOptions, NewPartitions};

use super::support::{Broker, Running, offsets, until};

fn bodies(taken: &[Delivery]) -> Vec<String> {
    taken.iter().map(|one| String::from_utf8_lossy(&one.message.body).into_owned()).collect()
}

fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}")).collect()
}

async fn recreate(broker: &Broker, records: usize) {
    broker.delete_topic(&broker.name).await;
    broker.create_topic(&broker.name, 1).await;
    broker.produce(&broker.name, 0, numbered("new", records)).await;
}

/// Takes records of the new log until all of them have arrived in one session.
async fn take_new(source: &mut Running, records: usize) {
    let mut of_session = (0, Vec::new());
    while of_session.1.len() < records {
        let delivery = source.take(1).await.remove(0);
        let epoch = delivery.outline.id.epoch.0;
        if of_session.0 != epoch {
            of_session = (epoch, Vec::new());
        }
        of_session.1.extend(bodies(&[delivery]).into_iter().filter(|body| body.starts_with("new")));
    }
    assert_eq!(of_session.1, numbered("new", records));
}

/// The new log is shorter than the old one, equally long, or longer.
const LENGTHS: [usize; 3] = [4, 10, 15];

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_again_while_the_source_was_down_runs_from_its_beginning() {
    for (start, records) in
        [Start::Earliest, Start::Latest].into_iter().flat_map(|start| LENGTHS.map(|n| (start, n)))
    {
        let broker = Broker::real("recreated-down");
        let topic = &broker.name;
        broker.create_topic(topic, 1).await;
        broker.produce(topic, 0, numbered("old", 10)).await;
        let mut source = broker.start(&[topic]);
        let taken = source.take(10).await;
        taken.iter().filter(|one| one.outline.id.tag != 2).for_each(|one| source.ack(one.outline.id));
        until("it is committed", || broker.committed(topic).0 == 2).await;
        let (offset, metadata) = broker.committed(topic);
        source.close().await;

        recreate(&broker, records).await;
        // The broker forgets the offsets of a deleted topic, unless a member of the group commits
        // them late.
        broker.commit(topic, offset, &metadata);
        let mut settings = broker.settings(&[topic]);
        settings.start = start;
        let mut again = Running::start(settings);
        let taken = again.take(records).await;
        assert_eq!(bodies(&taken), numbered("new", records), "{start:?}");
        until("the new log is committed", || broker.committed(topic).0 == 0).await;
        taken.iter().for_each(|one| again.ack(one.outline.id));
        until("all is committed", || broker.committed(topic).0 == records as i64).await;
        again.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_created_again_under_a_running_source_runs_from_its_beginning() {
    for records in LENGTHS {
        let broker = Broker::real("recreated");
        let topic = &broker.name;
        broker.create_topic(topic, 1).await;
        broker.produce(topic, 0, numbered("old", 10)).await;
        let mut source = broker.start(&[topic]);
        let old = source.take(10).await;
        old[..5].iter().for_each(|one| source.ack(one.outline.id));
        until("it is committed", || broker.committed(topic).0 == 5).await;

        recreate(&broker, records).await;
        take_new(&mut source, records).await;
        // Results of the old log change nothing in the new one.
        old[5..].iter().for_each(|one| source.ack(one.outline.id));
        until("the new log is committed", || broker.committed(topic).0 == 0).await;
        assert!(source.anything_within(Duration::from_millis(500)).await.is_empty());
        assert_eq!(broker.committed(topic).0, 0);
        source.close().await;
    }
}

/// The identity of a record names its log and its content.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_two_logs_have_different_identities() {
    let broker = Broker::real("identities");
    let topic = &broker.name;
    let mut seen = Vec::new();
    for _ in 0..2 {
        broker.create_topic(topic, 1).await;
        broker.produce(topic, 0, ["same".to_owned()]).await;
        let mut source = broker.start(&[topic]);
        let taken = source.take(1).await;
        assert_eq!(offsets(&taken), [0]);
        source.close().await;
        broker.delete_topic(topic).await;
        seen.push(taken[0].outline.identity.clone());
    }
    let [Identity::Record { log: first, .. }, Identity::Record { log: second, .. }] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert!(first != second && first.0 != 0 && seen[0] != seen[1], "{seen:?}");
}

/// A missing topic is a visible problem. When it appears it is read from its beginning, even with
/// `start: latest`.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_appears_later_starts_at_its_beginning() {
    for pattern in [true, false] {
        let broker = Broker::real("late-topic");
        let topic = &broker.name;
        let subscribed = if pattern { format!("^{topic}.*") } else { topic.clone() };
        let mut settings = broker.settings(&[&subscribed]);
        settings.start = Start::Latest;
        let mut source = Running::start(settings);
        source
            .wait_for(|event| matches!(event, SourceEvent::Problem(problem) if problem.subject == subscribed))
            .await;
        broker.create_topic(topic, 1).await;
        broker.produce(topic, 0, numbered("new", 3)).await;
        assert_eq!(bodies(&source.take(3).await), numbered("new", 3));
        source
            .wait_for(|event| matches!(event, SourceEvent::Solved { subject, .. } if *subject == subscribed))
            .await;
        source.close().await;
    }
}

/// `start: latest` is decided once for the group, and committed at once.
#[tokio::test(flavor = "multi_thread")]
async fn latest_skips_nothing_that_comes_after_the_first_start() {
    let broker = Broker::real("latest");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, numbered("old", 10)).await;
    let mut settings = broker.settings(&[topic]);
    settings.start = Start::Latest;
    let mut source = Running::start(settings.clone());
    until("the start is committed", || broker.committed(topic).0 == 10).await;
    until("it is assigned", || source.up().len() == 1).await;
    source.close().await;

    // These come between two starts, before any record was ever received.
    broker.produce(topic, 0, numbered("new", 3)).await;
    let mut again = Running::start(settings.clone());
    let taken = again.take(3).await;
    assert_eq!(bodies(&taken), numbered("new", 3));
    taken.iter().for_each(|one| again.ack(one.outline.id));
    until("all is committed", || broker.committed(topic).0 == 13).await;

    // A partition appears later, with records from before the group knew it.
    let partitions = rdkafka::admin::NewPartitions::new(topic, 2);
    let options = rdkafka::admin::AdminOptions::new();
    broker.admin().create_partitions([&partitions], &options).await.unwrap().remove(0).unwrap();
    until("there is a second partition", || broker.partitions(topic) == 2).await;
    broker.produce(topic, 1, numbered("late", 3)).await;
    assert_eq!(bodies(&again.take(3).await), numbered("late", 3));

    // These records arrive during a rebalance.
    let mut second = Running::start(settings);
    broker.produce(topic, 0, numbered("moved", 3)).await;
    let mut moved = Vec::new();
    while moved.len() < 3 {
        let (one, other) = (&mut again, &mut second);
        moved.extend(one.anything_within(Duration::from_millis(200)).await);
        moved.extend(other.anything_within(Duration::from_millis(200)).await);
        moved.retain(|one| one.message.body.starts_with(b"moved"));
    }
    second.close().await;
    again.close().await;
}

/// The partition that is left works on, and nothing is reported of the ones that are gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_created_again_with_fewer_partitions_goes_on_and_gets_them_back() {
    let broker = Broker::real("fewer");
    let topic = &broker.name;
    broker.create_topic(topic, 3).await;
    for partition in 0..3 {
        broker.produce(topic, partition, numbered("old", 3)).await;
    }
    let mut source = broker.start(&[topic]);
    let old = source.take(9).await;
    old.iter().filter(|one| one.outline.id.tag != 1).for_each(|one| source.ack(one.outline.id));
    until("it is committed", || broker.committed(topic).0 == 1).await;

    recreate(&broker, 4).await;
    // Unfinished records of partitions that are gone end after the topic was created again.
    old.iter().for_each(|one| source.ack(one.outline.id));
    take_new(&mut source, 4).await;
    let epoch = *source.up().iter().max().unwrap();
    (0..4).for_each(|tag| source.ack(DeliveryId { epoch, tag }));
    until("the new log is committed", || broker.committed(topic).0 == 4).await;
    source.no_problem().await;

    // The partitions come back, and are read from their beginning.
    let more = NewPartitions::new(topic, 3);
    broker.admin().create_partitions([&more], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    broker.produce(topic, 2, numbered("back", 2)).await;
    assert_eq!(bodies(&source.take(2).await), numbered("back", 2));
    source.no_problem().await;
    source.close().await;
}

/// A broker forgets the offsets of a deleted topic. A group that has started once is not a new one
/// all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_topics_were_deleted_while_it_was_down_skips_nothing() {
    let broker = Broker::real("forgotten");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, numbered("history", 3)).await;
    let mut settings = broker.settings(&[topic]);
    settings.start = Start::Latest;
    let mut source = Running::start(settings.clone());
    until("the start is decided", || broker.committed(topic).0 == 3).await;
    broker.produce(topic, 0, numbered("old", 2)).await;
    assert_eq!(bodies(&source.take(2).await), numbered("old", 2));
    source.close().await;

    recreate(&broker, 5).await;
    until("the broker forgets the offsets", || broker.committed(topic).0 < 0).await;
    let mut again = Running::start(settings);
    assert_eq!(bodies(&again.take(5).await), numbered("new", 5));
    again.close().await;
}
