//! Writes batches that nobody can decode. A real broker refuses them, so the mock cluster gets
//! them, in Kafka's own protocol.

use std::time::Duration;

use longhaul::config::Undecodable;
use longhaul::delivery::Reason;
use longhaul::source::{Command, SourceEvent};
use longhaul::telemetry::ProblemKind;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::mocking::MockCluster;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Broker, PATIENCE, Running, offsets, until};
use crate::support::app::Bridge;
use crate::support::eventually;
use crate::support::worker::Worker;

const ZSTD: i16 = 4;
const UNKNOWN_CODEC: i16 = 7;

/// The damage of a batch.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The content is noise under this codec.
    Codec(i16),
    Checksum,
}

const DAMAGES: [Damage; 3] = [Damage::Codec(ZSTD), Damage::Codec(UNKNOWN_CODEC), Damage::Checksum];

/// CRC-32C, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |before, byte| {
        (0..8).fold(before ^ u32::from(*byte), |sum: u32, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

/// A batch of so many records that nobody can decode.
fn batch(damage: Damage, records: i32) -> Vec<u8> {
    let mut checked = Vec::new();
    let codec = if let Damage::Codec(codec) = damage { codec } else { 0 };
    checked.extend(codec.to_be_bytes());
    checked.extend((records - 1).to_be_bytes()); // last offset delta
    checked.extend([0; 16]); // timestamps
    checked.extend([0xff; 14]); // no producer id, epoch and sequence
    checked.extend(records.to_be_bytes());
    checked.extend(vec![0xa5; 64 + 10 * records as usize]);
    let mut after_length = Vec::new();
    after_length.extend(0_i32.to_be_bytes()); // leader epoch
    after_length.push(2); // magic
    let damaged = u32::from(matches!(damage, Damage::Checksum));
    after_length.extend((checksum(&checked) ^ damaged).to_be_bytes());
    after_length.extend(checked);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend((after_length.len() as i32).to_be_bytes());
    batch.extend(after_length);
    batch
}

/// Writes a batch to partition 0 of `t`.
async fn produce(bootstrap: &str, batch: &[u8]) {
    let mut request = Vec::new();
    request.extend([0, 0, 0, 3]); // Produce, version 3
    request.extend(1_i32.to_be_bytes());
    request.extend([0, 1, b'x']); // client id
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // acks
    request.extend(5000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    request.extend([0, 1, b't']);
    request.extend(1_i32.to_be_bytes());
    request.extend(0_i32.to_be_bytes());
    request.extend((batch.len() as i32).to_be_bytes());
    request.extend(batch);
    let address = bootstrap.split(',').next().unwrap().trim_start_matches("PLAINTEXT://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&(request.len() as i32).to_be_bytes()).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = vec![0; stream.read_i32().await.unwrap() as usize];
    stream.read_exact(&mut answer).await.unwrap();
    // The answer has the correlation id, topic `t`, partition 0 and its error.
    assert_eq!(answer[19..21], [0, 0], "{answer:?}");
}

/// Writes a batch of so many records in an unknown codec to partition 0 of `t`.
pub async fn produce_noise(bootstrap: &str, records: i32) {
    produce(bootstrap, &batch(Damage::Codec(UNKNOWN_CODEC), records)).await;
}

/// The partition waits, visibly, and nothing of it is skipped; the other partition continues.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_decoded_holds_its_partition_only() {
    for damage in DAMAGES {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "undecodable".to_owned() };
        broker.produce("t", 0, (0..3).map(|number| format!("{number}"))).await;
        produce(&broker.bootstrap, &batch(damage, 3)).await;
        broker.produce("t", 0, ["behind".to_owned()]).await;
        let mut source = broker.start(&["t"]);
        let taken = source.take(3).await;
        assert_eq!(offsets(&taken), [0, 1, 2]);
        let event = source
            .wait_for(|event| matches!(event, SourceEvent::Problem(problem) if problem.kind == ProblemKind::Undecodable))
            .await;
        assert!(matches!(event, SourceEvent::Problem(problem) if problem.subject == "t/0/3"), "{damage:?}");
        taken.iter().for_each(|delivery| source.ack(delivery.outline.id));

        broker.produce("t", 1, ["other".to_owned()]).await;
        assert_eq!(source.take(1).await[0].message.body, "other");
        until("the records before it are committed", || broker.committed("t").0 == 3).await;
        // This is longer than the pause before another try.
        assert!(source.anything_within(Duration::from_secs(7)).await.is_empty());
        assert_eq!(broker.committed("t").0, 3, "nothing is skipped");
        source.close().await;
    }
}

/// A person skips a batch that holds its partition. The configuration stays as it is: the next one
/// holds the partition again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_skipped_on_request() {
    for damage in DAMAGES {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "undecodable".to_owned() };
        broker.produce("t", 0, ["first".to_owned()]).await;
        produce(&broker.bootstrap, &batch(damage, 3)).await;
        broker.produce("t", 0, ["behind".to_owned()]).await;
        produce(&broker.bootstrap, &batch(damage, 2)).await;
        let mut source = broker.start(&["t"]);
        let first = source.take(1).await.remove(0);
        source.ack(first.outline.id);
        let is_held = |event: &SourceEvent, subject: &str| matches!(event, SourceEvent::Problem(problem) if problem.kind == ProblemKind::Undecodable && problem.subject == subject);
        source.wait_for(|event| is_held(event, "t/0/1")).await;
        let skip = |offset| Command::SkipUndecodable { topic: "t".to_owned(), partition: 0, offset };
        source.command(skip(2));
        source.command(skip(1));
        let standing = source.take(1).await.remove(0);
        assert_eq!(about(&standing), (true, 1, 3), "{damage:?}");
        source.ack(standing.outline.id);
        let behind = source.take(1).await.remove(0);
        assert_eq!(behind.message.body, "behind");
        source.ack(behind.outline.id);
        source.wait_for(|event| is_held(event, "t/0/5")).await;
        until("the records before it are committed", || broker.committed("t").0 == 5).await;
        source.close().await;
    }
}

fn about(delivery: &longhaul::source::Delivery) -> (bool, i64, i64) {
    let body: serde_json::Value = serde_json::from_slice(&delivery.message.body).unwrap_or_default();
    let number = |name| body[name].as_i64().unwrap_or_else(|| panic!("not about a batch: {delivery:?}"));
    (delivery.outline.undecodable, number("first_offset"), number("last_offset"))
}

/// One item stands for the batch. Nothing behind it is taken, and nothing of it is committed,
/// before the item is acked.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_decoded_can_be_skipped() {
    for (damage, records) in DAMAGES.into_iter().flat_map(|damage| [(damage, 1), (damage, 3), (damage, 300)])
    {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "skipped".to_owned() };
        broker.produce("t", 0, (0..3).map(|number| format!("{number}"))).await;
        produce(&broker.bootstrap, &batch(damage, records)).await;
        produce(&broker.bootstrap, &batch(damage, records)).await;
        broker.produce("t", 0, ["behind".to_owned()]).await;
        produce(&broker.bootstrap, &batch(damage, records)).await;
        let skips = || {
            let mut settings = broker.settings(&["t"]);
            settings.undecodable = Undecodable::Skip;
            Running::start(settings)
        };
        let mut source = skips();
        let taken = source.take(4).await;
        assert_eq!(offsets(&taken), [0, 1, 2, 3], "{damage:?} {records}");
        let records = i64::from(records);
        assert_eq!(about(&taken[3]), (true, 3, 2 + records), "{damage:?}");
        taken[..3].iter().for_each(|one| source.ack(one.outline.id));
        until("the records before it are committed", || broker.committed("t").0 == 3).await;
        assert!(source.anything_within(Duration::from_millis(500)).await.is_empty(), "{damage:?}");
        assert_eq!(broker.committed("t").0, 3, "{damage:?}");
        source.close().await;

        // A restart before the ack repeats the item.
        let mut again = skips();
        let first = again.take(1).await.remove(0);
        assert_eq!(about(&first), (true, 3, 2 + records), "{damage:?}");
        assert_eq!(first.outline.identity, taken[3].outline.identity);
        again.ack(first.outline.id);
        let second = again.take(1).await.remove(0);
        assert_eq!(about(&second), (true, 3 + records, 2 + 2 * records), "{damage:?}");
        until("the first batch is committed", || broker.committed("t").0 == 3 + records).await;
        again.ack(second.outline.id);
        let behind = again.take(1).await.remove(0);
        assert_eq!(behind.message.body, "behind", "{damage:?}");
        again.ack(behind.outline.id);
        // The last batch is at the end of the log.
        let last = again.take(1).await.remove(0);
        assert_eq!(about(&last), (true, 4 + 2 * records, 3 + 3 * records), "{damage:?}");
        again.ack(last.outline.id);
        until("everything is committed", || broker.committed("t").0 == 4 + 3 * records).await;
        broker.produce("t", 0, ["new".to_owned()]).await;
        assert_eq!(again.take(1).await[0].message.body, "new");
        again.close().await;
    }
}

/// The dead letter names the place and the error, and the service sees none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_batch_leaves_a_dead_letter() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    cluster.create_topic("dead", 1, 1).unwrap();
    let broker = Broker { bootstrap: cluster.bootstrap_servers(), name: "letter".to_owned() };
    broker.produce("t", 0, ["before".to_owned()]).await;
    produce(&broker.bootstrap, &batch(Damage::Checksum, 3)).await;
    broker.produce("t", 0, ["behind".to_owned()]).await;
    let worker = Worker::start(Duration::ZERO).await;
    let bridge = Bridge::start(&format!(
        "pipelines:\n- name: p\n  source: {{ kafka: {{ bootstrap_servers: [\"{}\"], topics: [t], group: g, undecodable: skip }} }}\n  sink: {{ url: \"{}\" }}\n  max_in_flight: 2\n  dead_letter: {{ kafka: {{ topic: dead }} }}\n",
        broker.bootstrap, worker.url
    ))
    .await;
    eventually("everything is settled", async || bridge.acked() == 3).await;
    bridge.stop().await;
    let bodies: Vec<Vec<u8>> = worker.log().bodies.into_values().collect();
    assert!(
        bodies.len() == 2 && bodies.iter().all(|body| [&b"before"[..], b"behind"].contains(&&body[..])),
        "{bodies:?}"
    );

    let letter = tokio::task::spawn_blocking(move || {
        let mut client = broker.client();
        client.set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = client.create().unwrap();
        let mut place = TopicPartitionList::new();
        place.add_partition_offset("dead", 0, Offset::Beginning).unwrap();
        consumer.assign(&place).unwrap();
        consumer.poll(PATIENCE).expect("a letter").unwrap().detach()
    });
    let letter = letter.await.unwrap();
    let header = |name: &str| {
        let found = letter.headers().unwrap().iter().find(|header| header.key == name);
        String::from_utf8(found.unwrap_or_else(|| panic!("no {name}")).value.unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("longhaul-reason"), Reason::Undecodable.as_str());
    assert_eq!(
        (header("longhaul-origin").as_str(), header("longhaul-attempts").as_str()),
        ("kafka/t/0/1", "0")
    );
    assert!(!header("longhaul-left-out").is_empty(), "a redrive must know that the record is not in it");
    let body: serde_json::Value = serde_json::from_slice(letter.payload().unwrap()).unwrap();
    assert_eq!((body["topic"].as_str(), body["partition"].as_i64()), (Some("t"), Some(0)));
    assert_eq!((body["first_offset"].as_i64(), body["last_offset"].as_i64()), (Some(1), Some(3)));
    assert!(body["error"].as_str().unwrap().contains("CRC"), "{body}");
}
