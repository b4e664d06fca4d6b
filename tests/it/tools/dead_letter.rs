//! `longhaul dead-letter`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use longhaul::config::QueueKind;
use longhaul::delivery::Reason;
use longhaul::event::{KafkaOrigin, Message, Origin, Properties, RabbitmqOrigin, Value};
use longhaul::publish::dead_letter::Letter;
use longhaul::publish::{self, Broker, Publisher};

use super::{Everything, Ran, queue_url, run, start};
use crate::dead_letter::restore::letter;
use crate::kafka::support::PATIENCE;
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::rabbitmq::{Queue, brokers, connection};
use crate::support::{eventually, within};

/// A queue or topic that may be an origin or a graveyard.
trait Place: Everything {
    fn publisher(&self) -> (Arc<dyn Publisher>, Broker);
    /// The item of this number, as it was taken from here.
    fn item(&self, number: usize) -> Message;
}

impl Place for Rabbitmq {
    fn publisher(&self) -> (Arc<dyn Publisher>, Broker) {
        let target =
            longhaul::config::RabbitmqTarget { queue: Some(self.0.name.clone()), ..Default::default() };
        let publisher = publish::rabbitmq::Publisher::new(connection(&self.0.url), &target);
        (Arc::new(publisher), Broker::Rabbitmq)
    }

    fn item(&self, number: usize) -> Message {
        let properties = Properties {
            message_id: Some(format!("item-{number}")),
            content_type: Some("a/b".to_owned()),
            delivery_mode: Some(2),
            ..Properties::default()
        };
        let origin = RabbitmqOrigin { queue: self.0.name.clone(), properties, ..RabbitmqOrigin::default() };
        let headers = vec![("n".to_owned(), Value::Int(number as i64)), ("void".to_owned(), Value::Null)];
        Message { body: body(number), headers, origin: Origin::Rabbitmq(origin) }
    }
}

impl Place for Kafka {
    fn publisher(&self) -> (Arc<dyn Publisher>, Broker) {
        let cluster = longhaul::connect::kafka::Cluster {
            bootstrap_servers: vec![self.0.bootstrap.clone()],
            ..Default::default()
        };
        let publisher = publish::kafka::Publisher::new(&cluster, &self.0.name).unwrap();
        (Arc::new(publisher), Broker::Kafka)
    }

    fn item(&self, number: usize) -> Message {
        let origin = KafkaOrigin {
            topic: self.0.name.clone(),
            offset: number as i64,
            key: Some(format!("key {number}").into()),
            timestamp: Some(TIME),
            ..KafkaOrigin::default()
        };
        let headers =
            vec![("n".to_owned(), Value::Bytes(number.to_string().into())), ("void".to_owned(), Value::Null)];
        Message { body: body(number), headers, origin: Origin::Kafka(origin) }
    }
}

/// The time of all records, long before the retention of any topic.
const TIME: i64 = 1_500_000_000_000;

fn body(number: usize) -> bytes::Bytes {
    [&[0xff, 0x00][..], number.to_string().as_bytes()].concat().into()
}

/// The letter of an item: every third one was rejected with 422, the others used all attempts.
fn dead(number: usize, item: Message) -> Letter {
    let base = Letter { event_id: format!("item-{number}"), ..letter(item) };
    if number.is_multiple_of(3) { Letter { reason: Reason::Rejected, code: Some(422), ..base } } else { base }
}

async fn bury(origin: &impl Place, graveyard: &impl Place, count: usize) {
    let (publisher, broker) = graveyard.publisher();
    let letters = (0..count).map(|number| dead(number, origin.item(number)).outgoing(broker));
    for chunk in letters.collect::<Vec<_>>().chunks(200) {
        let written = join_all(chunk.iter().map(|letter| publisher.publish(letter.clone())));
        for result in within("the letters", written).await {
            result.expect("confirmed");
        }
    }
}

fn configuration(folder: &Path, origin: &impl Place, graveyard: &impl Place) {
    let (source, target) = (origin.source(), graveyard.target());
    let text = format!(
        "pipelines: [{{ name: a, source: {source}, dead_letter: {target}, sink: {{ url: 'http://h' }}, max_in_flight: 1 }}]\n"
    );
    std::fs::write(folder.join("longhaul.yaml"), text).unwrap();
}

/// The parts of a message that a redrive must not change.
fn parts(message: &Message) -> (String, String, String) {
    let own = match &message.origin {
        Origin::Rabbitmq(origin) => format!("{:?}", origin.properties),
        Origin::Kafka(origin) => format!("{:?} {:?} {}", origin.key, message.record_time(), origin.is_null),
    };
    let is_added = |name: &str| name.starts_with("x-") || name == "longhaul-record-time";
    let headers: Vec<_> = message.headers.iter().filter(|(name, _)| !is_added(name)).collect();
    (format!("{:?}", message.body), format!("{headers:?}"), own)
}

async fn letters(folder: &Path, rest: &[&str]) -> Vec<String> {
    let ran = run(folder, &[&["dead-letter", "list", "--json"], rest].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    let all = json["letters"].as_array().unwrap();
    all.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

async fn a_redrive_survives_kills<O: Place, G: Place>() {
    const ITEMS: usize = 1_000;
    let (origin, graveyard) = (O::create().await, G::create().await);
    bury(&origin, &graveyard, ITEMS).await;
    let folder = tempfile::tempdir().unwrap();
    configuration(folder.path(), &origin, &graveyard);
    for at_least in [100, 500] {
        let mut child = start(folder.path(), &["dead-letter", "redrive"]);
        eventually("some items at the origin", async || origin.left().await >= at_least).await;
        child.kill().await.unwrap();
    }
    // A broker notices the lost connection a moment later, and shows the letters again then.
    let mut ran = Ran { code: 0, out: String::new(), err: String::new() };
    for _ in 0..10 {
        ran = run(folder.path(), &["dead-letter", "redrive", "--json"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        if letters(folder.path(), &[]).await.is_empty() && origin.left().await >= ITEMS as u64 {
            break;
        }
    }
    assert_eq!(ran.json()["doubtful"], serde_json::json!([]));
    let left = origin.left().await as usize;
    assert!((ITEMS..=ITEMS + 2).contains(&left), "{left}: one item may be twice for each kill");
    let mut found: BTreeMap<_, usize> = BTreeMap::new();
    for message in origin.everything().await {
        if let Origin::Kafka(origin) = &message.origin {
            assert!(origin.timestamp > Some(TIME), "the retention counts from the redrive");
        }
        *found.entry(parts(&message)).or_default() += 1;
    }
    let expected: BTreeMap<_, _> = (0..ITEMS).map(|number| (parts(&origin.item(number)), number)).collect();
    assert!(
        found.keys().eq(expected.keys()),
        "each item as it was: {:?} {:?}",
        found.keys().next(),
        expected.keys().next()
    );
    origin.remove().await;
    graveyard.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redrive_from_rabbitmq_to_rabbitmq() {
    a_redrive_survives_kills::<Rabbitmq, Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redrive_from_kafka_to_kafka() {
    a_redrive_survives_kills::<Kafka, Kafka>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redrive_from_rabbitmq_to_kafka() {
    a_redrive_survives_kills::<Kafka, Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redrive_from_kafka_to_rabbitmq() {
    a_redrive_survives_kills::<Rabbitmq, Kafka>().await;
}

async fn filters_and_dry_runs<O: Place, G: Place>() {
    const ITEMS: usize = 12;
    let (origin, graveyard) = (O::create().await, G::create().await);
    bury(&origin, &graveyard, ITEMS).await;
    let folder = tempfile::tempdir().unwrap();
    configuration(folder.path(), &origin, &graveyard);
    let path = folder.path();
    assert_eq!(letters(path, &[]).await.len(), ITEMS);
    assert_eq!(letters(path, &["--code", "422"]).await.len(), 4);
    assert_eq!(letters(path, &["--reason", "attempts"]).await.len(), 8);
    assert_eq!(letters(path, &["--older", "1h"]).await.len(), 0);
    assert_eq!(letters(path, &["--newer", "1h", "--id", "item-1*"]).await.len(), 3);
    assert_eq!(letters(path, &["--match", "^\\xff\\x00[0-3]$"]).await.len(), 4);
    assert_eq!(letters(path, &["--limit", "5"]).await.len(), 5);

    let ran = run(path, &["dead-letter", "show", "item-7", "--json"]).await;
    assert_eq!((ran.code, ran.json()["body_base64"].as_str()), (0, Some("/wA3")), "{ran:?}");
    assert_eq!(run(path, &["dead-letter", "show", "nothing"]).await.code, 64);

    let ran = run(path, &["dead-letter", "redrive", "--code", "422", "--dry-run"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "4 of 4 letters would be brought back, 0 stay, 0 in doubt\n"),
        "{ran:?}"
    );
    assert_eq!((origin.left().await, letters(path, &[]).await.len()), (0, ITEMS));
    let ran = run(path, &["dead-letter", "redrive", "--code", "422"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "4 of 4 letters brought back, 0 stay, 0 in doubt\n"),
        "{ran:?}"
    );
    assert_eq!((origin.left().await, letters(path, &[]).await.len()), (4, ITEMS - 4));
    assert_eq!(letters(path, &["--code", "422"]).await.len(), 0);

    assert_eq!(run(path, &["dead-letter", "purge", "--id", "item-1"]).await.code, 64, "purge asks for --yes");
    let ran = run(path, &["dead-letter", "purge", "--id", "item-1", "--yes"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "1 of 1 letters removed, 0 stay, 0 in doubt\n"), "{ran:?}");
    let ran = run(path, &["dead-letter", "redrive", "--limit", "2"]).await;
    assert!(ran.out.starts_with("2 of 2 letters brought back"), "{ran:?}");
    let ran = run(path, &["dead-letter", "redrive"]).await;
    assert!(ran.out.starts_with("5 of 5 letters brought back"), "{ran:?}");
    assert_eq!((origin.left().await, letters(path, &[]).await.len()), (11, 0));
    origin.remove().await;
    graveyard.remove().await;
}

/// A second redrive of the same group would bring each letter back twice, so it refuses. After a
/// kill the group is free again when the session of the killed command has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_redrive_of_a_group_refuses() {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let (origin, graveyard) = (Kafka::create().await, Kafka::create().await);
    bury(&origin, &graveyard, 3).await;
    let folder = tempfile::tempdir().unwrap();
    configuration(folder.path(), &origin, &graveyard);
    let redrive = ["dead-letter", "redrive", "--to", "kafka://127.0.0.1:9/nowhere", "--retry-for", "10m"];
    let mut first = start(folder.path(), &redrive);
    let group = format!("longhaul-dead-letter-{}", graveyard.0.name);
    let client = graveyard.0.client();
    eventually("the first command in the group", async || {
        let (client, group) = (client.clone(), group.clone());
        let members = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = client.create().unwrap();
            let list = consumer.fetch_group_list(Some(&group), PATIENCE).unwrap();
            list.groups().iter().map(|group| group.members().len()).sum::<usize>()
        });
        members.await.unwrap() == 1
    })
    .await;
    let second = run(folder.path(), &["dead-letter", "redrive"]).await;
    assert!(second.code == 69 && second.err.contains("another redrive or purge"), "{second:?}");
    assert_eq!(origin.left().await, 0);
    assert_eq!(letters(folder.path(), &[]).await.len(), 3, "a look is always possible");
    first.kill().await.unwrap();
    let third = run(folder.path(), &["dead-letter", "redrive"]).await;
    assert!(third.code == 0 && third.out.starts_with("3 of 3 letters brought back"), "{third:?}");
    origin.remove().await;
    graveyard.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_dry_runs_with_rabbitmq() {
    filters_and_dry_runs::<Rabbitmq, Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_dry_runs_with_kafka() {
    filters_and_dry_runs::<Kafka, Kafka>().await;
}

/// A quorum queue of RabbitMQ 4 drops a message at its 21st return.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_survives_any_number_of_looks() {
    for broker in brokers() {
        let graveyard = Rabbitmq::of(Queue::create(&broker, QueueKind::Quorum).await);
        bury(&graveyard, &graveyard, 3).await;
        let folder = tempfile::tempdir().unwrap();
        let url = queue_url(&broker, graveyard.name());
        for look in 0..25 {
            assert_eq!(letters(folder.path(), &["--from", &url]).await.len(), 3, "look {look} at {broker}");
        }
        let ran = run(folder.path(), &["dead-letter", "redrive", "--from", &url]).await;
        assert_eq!((ran.code, ran.err.contains("the place of the letters itself")), (69, true), "{ran:?}");
        eventually("the letters to be back", async || graveyard.left().await == 3).await;
        graveyard.remove().await;
    }
}

/// RabbitMQ itself wrote these letters, for example at the delivery limit.
#[tokio::test(flavor = "multi_thread")]
async fn letters_of_the_broker_go_back_too() {
    use lapin::options::{BasicGetOptions, BasicRejectOptions, QueueDeclareOptions};
    use lapin::types::{AMQPValue, FieldTable};
    for broker in brokers() {
        let graveyard = Queue::create(&broker, QueueKind::Quorum).await;
        let origin = Queue::unborn(&broker).await;
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(&graveyard.name));
        let name = || origin.name.as_str().into();
        origin.channel.queue_declare(name(), QueueDeclareOptions::durable(), arguments).await.unwrap();
        let properties = lapin::BasicProperties::default().with_message_id("m".into());
        origin.publish(b"\xff", properties).await;
        let got = origin.channel.basic_get(name(), BasicGetOptions::default()).await.unwrap().unwrap();
        got.delivery.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        eventually("a letter of the broker", async || graveyard.ready().await == 1).await;

        let folder = tempfile::tempdir().unwrap();
        let url = queue_url(&broker, &graveyard.name);
        let ran = run(folder.path(), &["dead-letter", "list", "--from", &url, "--json"]).await;
        let found = ran.json()["letters"][0].clone();
        assert_eq!(found["reason"], "rabbitmq-rejected", "{ran:?}");
        assert_eq!(found["origin"], format!("rabbitmq/{}", origin.name));
        // The letter is written again after ten looks, and its facts stay.
        for _ in 0..12 {
            letters(folder.path(), &["--from", &url]).await;
        }
        let again = run(folder.path(), &["dead-letter", "list", "--from", &url, "--json"]).await;
        let again = &again.json()["letters"][0];
        assert_eq!(
            [&again["reason"], &again["origin"], &again["time"]],
            [&found["reason"], &found["origin"], &found["time"]]
        );
        let ran = run(folder.path(), &["dead-letter", "redrive", "--from", &url]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        let back = origin.get().await.expect("the item");
        assert_eq!(back.data, b"\xff");
        let headers = back.properties.headers().clone().unwrap_or_default();
        assert!(!headers.inner().keys().any(|name| name.as_str().contains("death")), "{headers:?}");
        assert_eq!(back.properties.message_id().as_ref().map(|id| id.as_str()), Some("m"));
        assert_eq!(graveyard.ready().await, 0);
        origin.delete().await;
        graveyard.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_origin_keeps_the_letters() {
    let (origin, graveyard) = (Rabbitmq::create().await, Rabbitmq::create().await);
    bury(&origin, &graveyard, 2).await;
    let folder = tempfile::tempdir().unwrap();
    configuration(folder.path(), &origin, &graveyard);
    let other = Queue::create(&graveyard.0.url, QueueKind::Classic).await;
    origin.remove().await;
    let ran = run(folder.path(), &["dead-letter", "redrive", "--retry-for", "0s"]).await;
    assert_eq!((ran.code, ran.err.contains("no queue takes")), (69, true), "{ran:?}");
    eventually("both letters to be back", async || graveyard.left().await == 2).await;
    let url = queue_url(&other.url, &other.name);
    let ran = run(folder.path(), &["dead-letter", "redrive", "--to", &url]).await;
    assert_eq!((ran.code, other.ready().await, graveyard.left().await), (0, 2, 0), "{ran:?}");
    other.delete().await;
    graveyard.remove().await;
}
