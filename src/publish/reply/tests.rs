//! Checks the messages for each kind of answer. They are read back as our own sources would read
//! them.

use std::future::Future;
use std::pin::Pin;

use super::*;
use crate::event::{KafkaOrigin, RabbitmqOrigin, decode};

struct Nowhere;

impl Publisher for Nowhere {
    fn publish(&self, _: Outgoing) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

const JSON_EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const BINARY: [(&str, &str); 7] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "r 1"),
    ("ce-source", "/worker"),
    ("ce-type", "thumb.made"),
    ("ce-time", "2026-01-02T03:04:05.10Z"),
    ("ce-note", "%E2%82%AC%20"),
    ("content-type", "image/png"),
];

fn target(broker: Broker, wrap: Wrap) -> Target {
    Target { publisher: Arc::new(Nowhere), broker, wrap }
}

fn kafka_item() -> Message {
    let origin = KafkaOrigin {
        topic: "t".into(),
        partition: 0,
        offset: 7,
        key: Some("item key".into()),
        ..KafkaOrigin::default()
    };
    Message { body: Bytes::new(), headers: Vec::new(), origin: Origin::Kafka(origin) }
}

fn rabbitmq_item(properties: Properties) -> Message {
    let origin = RabbitmqOrigin { queue: "q".into(), properties, ..Default::default() };
    Message { body: Bytes::new(), headers: Vec::new(), origin: Origin::Rabbitmq(origin) }
}

/// Returns the message for an answer of 200 to `item`.
fn written(
    target: &Target,
    item: &Message,
    headers: &[(&'static str, &'static str)],
    body: &'static str,
) -> Option<Outgoing> {
    answered(target, item, 200, headers, body, false).unwrap()
}

fn answered(
    target: &Target,
    item: &Message,
    status: u16,
    headers: &[(&'static str, &'static str)],
    body: &'static str,
    truncated: bool,
) -> Result<Option<Outgoing>, PublishError> {
    let headers =
        headers.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let body = Bytes::from_static(body.as_bytes());
    let (event_id, event_source) = ("item 7", "/source");
    target.message(&AnsweredItem {
        item,
        event_id,
        event_source,
        status,
        headers: &headers,
        body: &body,
        truncated,
        hops: &HopsKey::derived("secret"),
        trace: Some(TraceContext { parent: "00-parent".to_owned(), state: Some("vendor=1".to_owned()) }),
    })
}

/// Reads the message as a bridge behind the target would get it.
fn read(outgoing: &Outgoing, broker: Broker) -> Message {
    let origin = match broker {
        Broker::Kafka => kafka_item().origin,
        Broker::Rabbitmq => rabbitmq_item(outgoing.properties.clone()).origin,
    };
    Message { body: outgoing.body.clone(), headers: outgoing.headers.clone(), origin }
}

#[test]
fn an_event_comes_through_in_either_form() {
    let document = r#"{"specversion":"1.0","id":"r 1","source":"/worker","type":"thumb.made","time":"2026-01-02T03:04:05.10Z","note":"€ ","datacontenttype":"image/png","data_base64":"ZGF0YQ=="}"#;
    for broker in [Broker::Rabbitmq, Broker::Kafka] {
        let target = target(broker, Wrap::Never);
        let binary = written(&target, &kafka_item(), &BINARY, "data").unwrap();
        let structured = written(&target, &kafka_item(), &[JSON_EVENT], document).unwrap();
        assert_eq!((binary.body.as_ref(), structured.body.as_ref()), (&b"data"[..], document.as_bytes()));
        let [binary_parts, structured_parts] = [&binary, &structured]
            .map(|it| decode(&read(it, broker), String::new).unwrap().expect("an event"));
        assert_eq!(binary_parts, structured_parts, "{broker:?}");
        for reply in [binary, structured] {
            assert_eq!(reply.key.as_deref(), Some(&b"item key"[..]));
            assert_eq!(reply.properties.message_id.as_deref(), Some("r 1"));
            assert!(reply.headers.contains(&("longhaul-id".to_owned(), Value::Text("item 7".to_owned()))));
        }
    }
}

#[test]
fn each_broker_has_its_own_places() {
    let header = |outgoing: &Outgoing, wanted: &str| {
        let found = outgoing.headers.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, value)| value.as_text().map(str::to_owned))
    };
    let properties = Properties { message_id: Some("m".to_owned()), ..Default::default() };
    let item = rabbitmq_item(properties);
    let to_rabbitmq = written(&target(Broker::Rabbitmq, Wrap::Never), &item, &BINARY, "data").unwrap();
    assert_eq!(header(&to_rabbitmq, "cloudEvents_time").as_deref(), Some("2026-01-02T03:04:05.10Z"));
    assert_eq!(header(&to_rabbitmq, "content-type"), None);
    assert_eq!(to_rabbitmq.properties.content_type.as_deref(), Some("image/png"));
    assert_eq!(to_rabbitmq.properties.correlation_id.as_deref(), Some("m"));

    let keyed = [&BINARY[..], &[("ce-partitionkey", "mine")]].concat();
    let to_kafka = written(&target(Broker::Kafka, Wrap::Never), &kafka_item(), &keyed, "data").unwrap();
    assert_eq!(header(&to_kafka, "ce_note").as_deref(), Some("€ "));
    assert_eq!(header(&to_kafka, "content-type").as_deref(), Some("image/png"));
    assert_eq!(to_kafka.key.as_deref(), Some(&b"mine"[..]));

    // RabbitMQ refuses a longer id; the event keeps it.
    let long: &'static str = "x".repeat(300).leak();
    let with_long_id = BINARY.map(|(name, value)| (name, if name == "ce-id" { long } else { value }));
    let reply = written(&target(Broker::Rabbitmq, Wrap::Never), &item, &with_long_id, "").unwrap();
    assert_eq!(
        (reply.properties.message_id.as_deref(), header(&reply, "cloudEvents_id").as_deref()),
        (None, Some(long))
    );
}

#[test]
fn what_is_no_event_is_wrapped_only_if_asked_for() {
    let text = [("content-type", "text/plain")];
    for broker in [Broker::Rabbitmq, Broker::Kafka] {
        let (never, any) = (target(broker, Wrap::Never), target(broker, Wrap::Any));
        for (headers, body, content_type) in [
            (&text[..], "made", "text/plain"),
            (&[], "made", "application/octet-stream"),
            // The answer claims to be an event, and is not.
            (&[JSON_EVENT], "{}", "application/octet-stream"),
        ] {
            if headers != [JSON_EVENT] {
                assert_eq!(written(&never, &kafka_item(), headers, body), None, "{body}");
            }
            let reply = written(&any, &kafka_item(), headers, body).unwrap();
            let parts = decode(&read(&reply, broker), String::new).unwrap().expect("an event");
            let event = &parts.event;
            assert_eq!((event.id(), event.source().as_str()), ("item 7/reply", "/source"));
            assert_eq!((event.ty(), event.subject()), ("dev.longhaul.reply", Some("item 7")));
            assert_eq!((event.datacontenttype(), parts.data.as_ref()), (Some(content_type), body.as_bytes()));
        }
        assert_eq!(written(&any, &kafka_item(), &text, ""), None);
    }
}

#[test]
fn what_is_not_to_be_taken_for_a_reply_or_is_not_whole() {
    let target = target(Broker::Kafka, Wrap::Any);
    let accepted = answered(&target, &kafka_item(), 202, &BINARY, "data", false);
    assert_eq!(accepted.unwrap(), None);
    for headers in [&BINARY[..], &[JSON_EVENT], &[]] {
        let error = answered(&target, &kafka_item(), 200, headers, "{\"specv", true).unwrap_err();
        assert!(!error.is_transient() && error.what.contains("sink.response_bytes"), "{error}");
    }
    // The headers did not fit, so only the claim was kept.
    let error = answered(&target, &kafka_item(), 200, &[("ce-specversion", "1.0")], "", true).unwrap_err();
    assert_eq!(error.kind, crate::publish::PublishErrorKind::TooLarge);
    let dropped = Target { wrap: Wrap::Never, ..target };
    assert_eq!(answered(&dropped, &kafka_item(), 200, &[], "lon", true).unwrap(), None);
}

/// The item is acked, so a missing reply would be lost for its reader.
#[test]
fn a_reply_with_a_defect_is_an_error_and_never_a_missing_reply() {
    let document = |member: &str| -> &'static str {
        format!(r#"{{"specversion":"1.0","id":"r","source":"/w","type":"t",{member}}}"#).leak()
    };
    let with = |name: &'static str, value: &'static str| -> Vec<(&'static str, &'static str)> {
        BINARY.iter().copied().filter(|(known, _)| *known != name).chain([(name, value)]).collect()
    };
    let batch = vec![("content-type", "application/cloudevents-batch+json")];
    let cases = [
        (with("ce-time", "2026-01-02T03:04:05"), "data"),
        (with("ce-dataschema", "relative"), "data"),
        (with("ce-specversion", "0.3"), "data"),
        (with("ce-id", ""), "data"),
        (with("ce-note", "%ff"), "data"),
        (with("ce-data", "x"), "data"),
        (vec![JSON_EVENT], document(r#""time":"2026-01-02T03:04:05""#)),
        (vec![JSON_EVENT], document(r#""ratio":0.5"#)),
        (vec![JSON_EVENT], document(r#""data":1,"data_base64":"YQ==""#)),
        (vec![JSON_EVENT], "{"),
        (batch, "[]"),
        (vec![("content-type", "application/cloudevents+xml")], "<event/>"),
    ];
    for (headers, body) in cases {
        let never = answered(&target(Broker::Kafka, Wrap::Never), &kafka_item(), 200, &headers, body, false);
        let error = never.unwrap_err();
        assert!(!error.is_transient() && error.what.contains("cannot be read as one"), "{error}");
        let any = answered(&target(Broker::Kafka, Wrap::Any), &kafka_item(), 200, &headers, body, false);
        // A wrapper contains a whole document, but attributes in headers would be lost.
        assert_eq!(any.is_err(), headers.len() > 1, "{headers:?}");
    }
}

#[test]
fn a_compressed_reply_stays_readable() {
    let zipped = [&BINARY[..], &[("content-encoding", "gzip")]].concat();
    let document = [JSON_EVENT, ("content-encoding", "gzip")];
    for headers in [&zipped[..], &document] {
        let to_rabbitmq =
            written(&target(Broker::Rabbitmq, Wrap::Never), &kafka_item(), headers, "zip").unwrap();
        assert_eq!(to_rabbitmq.properties.content_encoding.as_deref(), Some("gzip"));
        let to_kafka = written(&target(Broker::Kafka, Wrap::Never), &kafka_item(), headers, "zip").unwrap();
        let wanted = ("content-encoding".to_owned(), Value::Text("gzip".to_owned()));
        assert!(to_kafka.headers.contains(&wanted), "{:?}", to_kafka.headers);
        assert_eq!(to_kafka.body, "zip");
    }
}

#[test]
fn a_binary_key_comes_back_from_its_text() {
    let keyed = [&BINARY[..], &[("ce-partitionkey", "base64:/w8=")]].concat();
    let reply = written(&target(Broker::Kafka, Wrap::Never), &kafka_item(), &keyed, "").unwrap();
    assert_eq!(reply.key.as_deref(), Some(&[0xff, 0x0f][..]));
}

#[test]
fn a_reply_carries_the_trace_of_its_item() {
    for broker in [Broker::Rabbitmq, Broker::Kafka] {
        for (headers, body) in [(&BINARY[..], "data"), (&[], "plain")] {
            let written = written(&target(broker, Wrap::Any), &kafka_item(), headers, body).unwrap();
            let message = read(&written, broker);
            let text = |name| message.header(name).and_then(Value::as_text);
            assert_eq!((text("traceparent"), text("tracestate")), (Some("00-parent"), Some("vendor=1")));
        }
    }
}
