//! Checks the letters of an item, whole and as a last resort.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::event::RabbitmqOrigin;
use crate::publish::PublishErrorKind;
use crate::publish::hops::HopsKey;

fn letter(origin: Origin, headers: Vec<(String, Value)>) -> Letter {
    let message = Message { body: "body".into(), headers, origin };
    Letter {
        hops: HopsKey::derived("secret").of_dead_letter(&message).unwrap(),
        message: Arc::new(message),
        event_id: "event-7".to_owned(),
        reason: Reason::Attempts,
        code: Some(502),
        detail: "bad gateway".to_owned(),
        data: vec![b'x'; 2000].into(),
        attempts: 5,
        destination: "http://thumbs".to_owned(),
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
    }
}

fn header<'a>(outgoing: &'a Outgoing, name: &str) -> Vec<&'a Value> {
    outgoing.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
}

#[test]
fn keeps_the_item_and_says_why() {
    let properties =
        Properties { message_id: Some("m".into()), expiration: Some("1000".into()), ..Properties::default() };
    let origin = RabbitmqOrigin { queue: "thumbs".into(), properties, ..Default::default() };
    let headers = vec![
        ("shop".to_owned(), Value::Bytes(vec![0xff].into())),
        ("Longhaul-Reason".to_owned(), Value::Text("rejected".into())),
        ("x-delivery-count".to_owned(), Value::Int(7)),
    ];
    let outgoing = letter(Origin::Rabbitmq(origin), headers).outgoing(Broker::Rabbitmq);
    assert_eq!(outgoing.body, "body");
    assert_eq!(outgoing.properties.message_id.as_deref(), Some("m"));
    assert_eq!(outgoing.properties.expiration, None);
    let wanted = [
        ("shop", Value::Bytes(vec![0xff].into())),
        ("longhaul-id", Value::Text("event-7".into())),
        ("longhaul-attempts", Value::Int(5)),
        ("longhaul-hops", Value::Int(1)),
        ("longhaul-origin", Value::Text("rabbitmq/thumbs".into())),
        ("longhaul-reason", Value::Text("attempts".into())),
        ("longhaul-code", Value::Int(502)),
        ("longhaul-time", Value::Text("1970-01-01T00:00:01.500Z".into())),
        ("longhaul-detail", Value::Text("bad gateway".into())),
        ("longhaul-original", Value::Text(r#"{"properties":{"expiration":"1000"}}"#.into())),
        ("knativeerrordest", Value::Text("http://thumbs".into())),
        ("knativeerrorcode", Value::Int(502)),
        ("knativeerrordata", Value::Text(BASE64_STANDARD.encode([b'x'; 1024]))),
    ];
    assert_eq!(header(&outgoing, "longhaul-hops-seal").len(), 1);
    assert_eq!(outgoing.headers.len(), wanted.len() + 1, "{:?}", outgoing.headers);
    for (name, value) in &wanted {
        assert_eq!(header(&outgoing, name), [value], "{name}");
    }
}

#[test]
fn a_kafka_record_keeps_its_key_and_time() {
    let key = Some(Bytes::from("key"));
    let origin = KafkaOrigin {
        topic: "t".into(),
        partition: 2,
        offset: 9,
        key: key.clone(),
        timestamp: Some(7_999),
        ..KafkaOrigin::default()
    };
    let outgoing = letter(Origin::Kafka(origin), Vec::new()).outgoing(Broker::Kafka);
    assert_eq!((outgoing.key.clone(), outgoing.properties.timestamp), (key, Some(7)));
    assert_eq!(header(&outgoing, "longhaul-origin"), [&Value::Text("kafka/t/2/9".into())]);
}

/// A target with the limits of a broker.
struct Limited {
    broker: Broker,
    most: usize,
    written: Mutex<Vec<Outgoing>>,
}

impl Publisher for Limited {
    fn publish(
        &self,
        outgoing: Outgoing,
    ) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(async move {
            let head: usize =
                outgoing.headers.iter().map(|(name, value)| name.len() + format!("{value:?}").len()).sum();
            let Properties { content_type, message_id, .. } = &outgoing.properties;
            let texts = [content_type, message_id].into_iter().flatten();
            let is_long =
                texts.chain(outgoing.headers.iter().map(|(name, _)| name)).any(|text| text.len() > 255);
            let bytes = match self.broker {
                Broker::Rabbitmq => head,
                Broker::Kafka => head + outgoing.body.len() + outgoing.key.as_ref().map_or(0, Bytes::len),
            };
            if self.broker == Broker::Rabbitmq && is_long {
                return Err(PublishError::impossible("a text of more than 255 bytes"));
            }
            if bytes > self.most {
                return Err(PublishError::too_large(format!("{bytes} bytes are more than {}", self.most)));
            }
            self.written.lock().unwrap().push(outgoing);
            Ok(())
        })
    }
}

async fn write(broker: Broker, most: usize, letter: &Letter) -> Result<Outgoing, PublishError> {
    let publisher = Arc::new(Limited { broker, most, written: Mutex::default() });
    let target = Target::Broker(broker, publisher.clone());
    target.write(letter, || Err("not needed".to_owned())).await?;
    let mut written = publisher.written.lock().unwrap();
    assert_eq!(written.len(), 1);
    Ok(written.remove(0))
}

fn text<'a>(outgoing: &'a Outgoing, name: &str) -> &'a str {
    header(outgoing, name).first().and_then(|value| value.as_text()).unwrap_or_default()
}

#[tokio::test]
async fn a_letter_that_does_not_fit_goes_without_the_parts_that_do_not() {
    let value = |length| Value::Text("v".repeat(length));
    let properties = Properties {
        content_type: Some("x".repeat(300)),
        message_id: Some("m".to_owned()),
        correlation_id: Some("c".to_owned()),
        ..Properties::default()
    };
    let origin = RabbitmqOrigin { queue: "thumbs".into(), properties, ..Default::default() };
    let headers = vec![
        ("huge".to_owned(), value(124 << 10)),
        ("small".to_owned(), value(7)),
        ("n".repeat(300), Value::Null),
    ];
    let letter = letter(Origin::Rabbitmq(origin), headers);
    for (most, kept, detail) in [(100_000, Some("c"), "bad gateway"), (1_800, None, "")] {
        let written = write(Broker::Rabbitmq, most, &letter).await.unwrap();
        assert_eq!((&written.body[..], written.properties.message_id.as_deref()), (&b"body"[..], Some("m")));
        assert_eq!(written.properties.correlation_id.as_deref(), kept);
        let all = ["longhaul-id", "longhaul-reason", "longhaul-origin", "longhaul-detail"]
            .map(|name| text(&written, name));
        assert_eq!(all, ["event-7", "attempts", "rabbitmq/thumbs", detail]);
        assert_eq!(header(&written, "small").len(), usize::from(kept.is_some()));
        let left_out = text(&written, "longhaul-left-out");
        for part in ["property content_type (300 bytes)", "header huge (126976 bytes)"] {
            assert!(left_out.contains(part), "{left_out}");
        }
    }
}

#[tokio::test]
async fn a_key_goes_before_the_body_does() {
    let origin =
        KafkaOrigin { topic: "t".into(), key: Some(vec![0; 900_000].into()), ..KafkaOrigin::default() };
    let letter = letter(Origin::Kafka(origin), vec![("a".to_owned(), Value::Null)]);
    for broker in [Broker::Rabbitmq, Broker::Kafka] {
        let written = write(broker, 100_000, &letter).await.unwrap();
        assert_eq!((&written.body[..], &written.key), (&b"body"[..], &None), "{broker:?}");
        assert!(text(&written, "longhaul-left-out").contains("key (900000 bytes)"), "{broker:?}");
        let read = Message {
            body: written.body,
            headers: written.headers,
            origin: Origin::Rabbitmq(Default::default()),
        };
        let restored = restore(&read).unwrap();
        assert!(restored.left_out.unwrap().contains("key"), "a redrive has to know that it is not whole");
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_an_error_with_the_true_cause() {
    let mut letter = letter(Origin::Rabbitmq(RabbitmqOrigin::default()), Vec::new());
    letter.message = Arc::new(Message { body: vec![0; 2_000_000].into(), ..Message::clone(&letter.message) });
    let error = write(Broker::Kafka, 1_000_000, &letter).await.unwrap_err();
    assert_eq!(error.kind, PublishErrorKind::TooLarge);
    assert!(
        error.what.contains("the item's body alone") && error.what.contains("more than 1000000"),
        "{error}"
    );
}

#[test]
fn the_smallest_letter_fits_into_the_smallest_frame_whatever_the_item_is() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let long = |random: &mut fastrand::Rng| {
            let character = random.choice(['x', '\u{1f980}', '\n']).unwrap_or('x');
            std::iter::repeat_n(character, random.usize(0..3_000)).collect::<String>()
        };
        let headers =
            (0..random.usize(0..200)).map(|_| (long(&mut random), Value::Text(long(&mut random)))).collect();
        let properties = Properties {
            reply_to: Some(long(&mut random)),
            kind: Some(long(&mut random)),
            ..Properties::default()
        };
        let origin = RabbitmqOrigin { queue: "q".repeat(255), properties, ..Default::default() };
        let mut letter = letter(Origin::Rabbitmq(origin), headers);
        letter.event_id = long(&mut random);
        letter.destination = long(&mut random);
        let (outgoing, left_out) = letter.reduced(Broker::Rabbitmq, reduced::Extent::Bare);
        let size: usize = outgoing
            .headers
            .iter()
            .map(|(name, value)| 6 + name.len() + value.as_text().map_or(8, str::len))
            .sum();
        assert!(size < 3_000 && left_out.len() <= 300, "seed {seed}: {size} {left_out}");
        let event = letter.reduced_event();
        let head: usize = event.0.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(head < 16_384 && event.1 == letter.message.body, "seed {seed}: {head}");
    }
}

#[test]
fn a_tombstone_and_its_time_come_back_from_either_broker() {
    for timestamp in [1_499, 0, -100_000_000] {
        let origin = KafkaOrigin {
            topic: "t".into(),
            is_null: true,
            timestamp: Some(timestamp),
            ..KafkaOrigin::default()
        };
        let mut letter = letter(Origin::Kafka(origin.clone()), vec![("n".to_owned(), Value::Null)]);
        letter.message = Arc::new(Message { body: Bytes::new(), ..Message::clone(&letter.message) });
        for broker in [Broker::Kafka, Broker::Rabbitmq] {
            let written = letter.outgoing(broker);
            assert!(written.is_null);
            // Kafka gives the record the time of the write.
            let read = match broker {
                Broker::Kafka => Origin::Kafka(KafkaOrigin { timestamp: Some(9), ..origin.clone() }),
                Broker::Rabbitmq => {
                    Origin::Rabbitmq(RabbitmqOrigin { properties: written.properties, ..Default::default() })
                }
            };
            let restored =
                restore(&Message { body: written.body, headers: written.headers, origin: read }).unwrap();
            let outgoing = restored.outgoing;
            let time = Value::Text(timestamp.to_string());
            let headers = vec![("n".to_owned(), Value::Null), ("longhaul-record-time".to_owned(), time)];
            assert_eq!(
                (outgoing.is_null, &outgoing.headers, restored.left_out),
                (true, &headers, None),
                "{broker:?}"
            );
            // The item fails again, and keeps its first time.
            let origin = Origin::Kafka(KafkaOrigin { timestamp: Some(99), ..origin.clone() });
            let again = self::letter(origin, headers.clone()).outgoing(Broker::Kafka);
            let again = Message {
                body: again.body,
                headers: again.headers,
                origin: Origin::Kafka(KafkaOrigin::default()),
            };
            assert_eq!(restore(&again).unwrap().outgoing.headers, headers);
        }
    }
}

#[test]
fn the_brokers_own_notes_are_not_written_back() {
    let notes = ["x-death", "X-First-Death-Queue", "x-last-death-reason", "x-delivery-count"];
    let headers = notes.map(|name| (name.to_owned(), Value::Text("n".to_owned()))).into();
    let outgoing = letter(Origin::Rabbitmq(RabbitmqOrigin::default()), headers).outgoing(Broker::Rabbitmq);
    assert!(
        outgoing.headers.iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with("x-")),
        "{outgoing:?}"
    );
}
