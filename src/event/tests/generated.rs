//! Encodes 20,000 random messages. Each becomes an event that every reader accepts, and keeps its
//! id.

use cloudevents::AttributesReader;
use fastrand::Rng;

use super::*;

const NAMES: [&str; 26] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_dataschema",
    "ce_subject",
    "ce_data",
    "ce_attempt",
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-time",
    "ce-Ext",
    "cloudEvents:id",
    "specversion",
    "id",
    "type",
    "content-type",
    "content-encoding",
    "traceparent",
    "longhaul-id",
    "x-death",
    "\u{e4}",
    "",
];
const TEXTS: [&str; 14] = [
    "1.0",
    "application/cloudevents+json",
    "application/json",
    "text/plain",
    "application/cloudevents-batch+json",
    "{}",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00",
    "gzip",
    "relative/path",
    "http://a/",
    "\u{0}\r\n",
    "\u{1f980} \u{e4}%00",
    "",
];

fn text(random: &mut Rng) -> String {
    match random.u8(0..8) {
        0 => (0..random.usize(0..12)).map(|_| random.char(..)).collect(),
        1 if random.u8(0..6) == 0 => "x".repeat(random.usize(0..70_000)),
        _ => TEXTS[random.usize(0..TEXTS.len())].to_owned(),
    }
}

fn bytes(random: &mut Rng) -> Bytes {
    if random.bool() {
        text(random).into()
    } else {
        (0..random.usize(0..12)).map(|_| random.u8(..)).collect()
    }
}

fn value(random: &mut Rng, depth: usize) -> Value {
    match random.u8(0..12) {
        0 => Value::Null,
        1 => Value::Bool(random.bool()),
        2 => Value::Int(random.i64(..)),
        3 => Value::Float(f64::from_bits(random.u64(..))),
        4 => Value::Timestamp(random.u64(..) >> random.u8(0..64)),
        5 | 6 => Value::Bytes(bytes(random)),
        7 if depth > 0 => Value::List((0..random.usize(0..3)).map(|_| value(random, depth - 1)).collect()),
        8 if depth > 0 => {
            Value::Table((0..random.usize(0..3)).map(|_| (text(random), value(random, depth - 1))).collect())
        }
        _ => Value::Text(text(random)),
    }
}

/// Returns a document with most parts of an event, and with some damage.
fn document(random: &mut Rng) -> String {
    let members: Vec<String> = (0..random.usize(3..9))
        .map(|_| {
            let name = [
                "specversion",
                "id",
                "source",
                "type",
                "time",
                "dataschema",
                "data",
                "data_base64",
                "Ext",
                "x",
            ];
            let value = [
                "\"1.0\"",
                "\"a\"",
                "1",
                "0.5",
                "null",
                "true",
                "{}",
                "[[[]]]",
                "\"\\ud800\"",
                "\"YQ==\"",
                "123456789012345678901234567890",
                "\"2026-01-01T00:00:00Z\"",
            ];
            format!("\"{}\":{}", name[random.usize(0..name.len())], value[random.usize(0..value.len())])
        })
        .collect();
    let start =
        if random.bool() { r#"{"specversion":"1.0","id":"d","source":"/d","type":"d","# } else { "{" };
    let mut document = format!("{start}{}}}", members.join(","));
    if random.u8(0..8) == 0 {
        document.truncate(random.usize(0..document.len()));
    }
    document
}

fn message(random: &mut Rng) -> Message {
    let mut headers: Vec<_> = (0..random.usize(0..9))
        .map(|_| (NAMES[random.usize(0..NAMES.len())].to_owned(), value(random, 4)))
        .collect();
    if random.u8(0..3) == 0 {
        let prefix = if random.bool() { "ce_" } else { "ce-" };
        for (name, text) in [("specversion", "1.0"), ("id", "h"), ("source", "/h"), ("type", "h")] {
            headers.push((format!("{prefix}{name}"), Value::Text(text.to_owned())));
        }
    }
    let is_document = random.u8(0..3) == 0;
    let body: Bytes = if is_document { document(random).into() } else { bytes(random) };
    let optional = |random: &mut Rng| random.bool().then(|| text(random));
    if random.bool() {
        let structured = is_document.then(|| "application/cloudevents+json".to_owned());
        let properties = Properties {
            content_type: structured.or_else(|| optional(random)),
            content_encoding: optional(random),
            message_id: optional(random),
            timestamp: random.bool().then(|| random.u64(..) >> random.u8(0..64)),
            ..Properties::default()
        };
        let origin = RabbitmqOrigin { queue: "thumbs".to_owned(), properties, ..RabbitmqOrigin::default() };
        return Message { body, headers, origin: Origin::Rabbitmq(origin) };
    }
    if is_document {
        headers
            .insert(0, ("Content-Type".to_owned(), Value::Text("application/cloudevents+json".to_owned())));
    }
    let origin = KafkaOrigin {
        topic: "thumbs".to_owned(),
        partition: random.i32(0..9),
        offset: random.i64(0..),
        key: random.bool().then(|| bytes(random)),
        timestamp: random.bool().then(|| random.i64(..) >> random.u8(0..64)),
        ..KafkaOrigin::default()
    };
    Message { body, headers, origin: Origin::Kafka(origin) }
}

#[test]
fn a_valid_event_with_the_same_id_leaves_for_every_message() {
    let encoders = [Mode::Binary, Mode::Structured].map(|mode| Encoder::new(settings(mode)).unwrap());
    let (mut sent, mut refused) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Rng::with_seed(seed);
        let message = message(&mut random);
        let id = encoders[0].id(&message, &|| "fresh".to_owned());
        assert!(!id.is_empty() && message.kept_bytes() > message.body.len(), "seed {seed}");
        for encoder in &encoders {
            let encoded = match encoder.encode_with_id(&message, &|| "fresh".to_owned()) {
                Ok(encoded) => encoded,
                Err(EncodeError::HeadTooLarge(_)) => {
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("seed {seed}: {error}"),
            };
            sent += 1;
            assert_eq!(encoded.id(), id, "seed {seed}");
            for attempt in [1, 2] {
                let (headers, body) =
                    encoded.for_attempt(&AttemptExtensions::new(attempt, Redelivered(attempt > 1)));
                let head: usize =
                    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
                assert!(head <= 64 * 1024 + 64, "seed {seed}: {head}");
                let read = decode_response(&headers, &body);
                let parts = read.unwrap_or_else(|error| panic!("seed {seed}: {error}")).unwrap();
                assert_eq!(parts.event.id(), id, "seed {seed}");
                assert_eq!(parts.event.source(), encoded.source(), "seed {seed}");
                assert_eq!(parts.event.ty(), encoded.kind(), "seed {seed}");
            }
            let (headers, body) = encoded.with_extensions(&[("knativeerrorcode", 502.into())]).unwrap();
            assert!(decode_response(&headers, &body).unwrap().is_some(), "seed {seed}");
        }
    }
    assert!(sent > 25_000 && refused > 100, "{sent} sent, {refused} refused");
}
