//! Reads logs with holes, logs that retention shortened, and groups whose offsets were moved by
//! others. Every existing record arrives at least once, and no case is fatal.

use std::time::Duration;

use longhaul::config::Start;
use longhaul::source::kafka::metadata;
use longhaul::source::kafka::tracker::Snapshot;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::support::{Broker, PATIENCE, Running, offsets, until};
use longhaul::source::SourceEvent;

async fn ten_records(test: &str) -> Broker {
    let broker = Broker::real(test);
    broker.create_topic(&broker.name, 1).await;
    broker.produce(&broker.name, 0, (0..10).map(|number| format!("{number}"))).await;
    broker
}

/// Returns the metadata text with these unfinished offsets of a log.
fn map(log: u128, base: i64, end: i64, incomplete: &[i64]) -> String {
    let incomplete = incomplete.iter().map(|&offset| (offset, 0)).collect();
    let log = metadata::Log { id: log, is_replacement: false };
    metadata::encode(log, &Snapshot { base, end, incomplete, change: 0 }, metadata::CHARACTERS)
}

/// Markers of transactions take offsets, even at the end of the log. Aborted records do not arrive.
#[tokio::test(flavor = "multi_thread")]
async fn markers_of_transactions_count_as_done() {
    let broker = Broker::real("transactions");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    let producer: BaseProducer = broker.client().set("transactional.id", topic).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let mut offset = 0;
    let mut wanted = Vec::new();
    for (records, commits) in [(1, true), (2, false), (3, true), (0, true), (1, true), (1, false)] {
        producer.begin_transaction().unwrap();
        for _ in 0..records {
            producer.send(BaseRecord::<str, str>::to(topic).partition(0).payload("item")).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        match commits {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
        if commits {
            wanted.extend(offset..offset + records);
        }
        // A transaction without records writes nothing.
        offset += records + u64::from(records > 0);
    }
    let mut source = broker.start(&[topic]);
    let taken = source.take(wanted.len()).await;
    assert_eq!(offsets(&taken), wanted);
    taken.iter().for_each(|delivery| source.ack(delivery.outline.id));
    let after_last = wanted.last().unwrap() + 1;
    // Markers and aborted records at the end of the log count as done too.
    until("all is committed", || broker.committed(topic).0.cast_unsigned() == offset).await;
    assert!(offset > after_last);
    source.wait_for(|event| *event == SourceEvent::Backlog(0)).await;
    source.close().await;
    let mut again = broker.start(&[topic]);
    assert!(again.anything_within(Duration::from_secs(1)).await.is_empty());
    again.close().await;
}

/// Records that a later one with the same key replaced are gone from the log, even unfinished ones.
#[tokio::test(flavor = "multi_thread")]
async fn compacted_records_count_as_done() {
    let broker = Broker::real("compacted");
    let topic = &broker.name;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("min.cleanable.dirty.ratio", "0.001")
        .set("segment.ms", "100")
        // This gives the first source enough time to read all of them.
        .set("min.compaction.lag.ms", "3000");
    broker.admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let write = async |key: &str| {
        broker.produce_one(topic, Some(key.as_bytes()), Some(b"item"), Default::default()).await;
    };
    let mut source = broker.start(&[topic]);
    until("it is assigned", || source.up().len() == 1).await;
    for key in ["a", "b", "a", "c", "a", "d"] {
        write(key).await;
    }
    let taken = source.take(6).await;
    // Offsets 0 (which compaction removes), 1 and 4 are unfinished.
    for delivery in taken.iter().filter(|one| [2, 3, 5].contains(&one.outline.id.tag)) {
        source.ack(delivery.outline.id);
    }
    until("it is committed", || broker.committed(topic).1.starts_with("k1.")).await;
    source.close().await;

    // A write makes a new segment, and only closed ones are compacted.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while broker.first_offset(topic).await < 1 {
        assert!(tokio::time::Instant::now() < deadline, "the log is not compacted");
        write("z").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut again = broker.start(&[topic]);
    assert_eq!(offsets(&again.take(2).await), [1, 4]);
    until("the base moved past what is gone", || broker.committed(topic).0 == 1).await;
    again.close().await;
}

/// Retention deleted the committed offset. Reading continues at the oldest record, even with
/// `start: latest`.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_retention_took_goes_on_at_the_oldest_record() {
    for start in [Start::Earliest, Start::Latest] {
        let broker = ten_records("retention").await;
        let topic = &broker.name;
        broker.commit(topic, 1, &map(broker.log_of(topic).await, 1, 4, &[1, 3]));
        let mut gone = TopicPartitionList::new();
        gone.add_partition_offset(topic, 0, Offset::Offset(6)).unwrap();
        broker.admin().delete_records(&gone, &AdminOptions::new()).await.unwrap();
        let mut settings = broker.settings(&[topic]);
        settings.start = start;
        let mut source = Running::start(settings);
        let taken = source.take(4).await;
        assert_eq!(offsets(&taken), [6, 7, 8, 9], "{start:?}");
        taken.iter().for_each(|delivery| source.ack(delivery.outline.id));
        until("all is committed", || broker.committed(topic).0 == 10).await;
        source.close().await;
    }
}

/// Other tools move offsets, and either leave the map behind or take it along.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_others_moved_is_followed() {
    for (moved_to, is_ours, wanted) in [
        // The offset as the bridge left it.
        (2, true, vec![2, 5, 8, 9]),
        // `kafka-consumer-groups --reset-offsets` writes no metadata.
        (0, false, (0..10).collect()),
        (7, false, vec![7, 8, 9]),
        // A mirror may keep the metadata although its offsets differ.
        (0, true, (0..10).collect()),
        (7, true, vec![7, 8, 9]),
    ] {
        let broker = ten_records("moved").await;
        let ours = map(broker.log_of(&broker.name).await, 2, 8, &[2, 5]);
        broker.commit(&broker.name, moved_to, if is_ours { &ours } else { "" });
        let mut source = broker.start(&[&broker.name]);
        assert_eq!(offsets(&source.take(wanted.len()).await), wanted, "moved to {moved_to}, {is_ours}");
        assert!(source.anything_within(Duration::from_millis(200)).await.is_empty());
        source.close().await;
    }
}

/// With a map of offsets beyond the end of the log, new records would count as done.
#[tokio::test(flavor = "multi_thread")]
async fn a_map_past_the_end_of_the_log_is_ignored() {
    let broker = ten_records("past-the-end").await;
    broker.commit(&broker.name, 5, &map(broker.log_of(&broker.name).await, 5, 1000, &[5]));
    let mut source = broker.start(&[&broker.name]);
    assert_eq!(offsets(&source.take(5).await), [5, 6, 7, 8, 9]);
    source.close().await;
}
