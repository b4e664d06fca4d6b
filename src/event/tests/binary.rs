//! Reads CloudEvents in binary mode, and writes them (HTTP binding 1.0.2, section 3.1; Kafka
//! binding 1.0.2, section 3.2).

use super::*;
use cloudevents::AttributesReader;

const REQUIRED: [(&str, &str); 4] =
    [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "com.example")];

fn prefixed(prefix: &str, more: &[(&str, &str)]) -> Vec<(String, Value)> {
    let pairs = REQUIRED.iter().chain(more);
    pairs.map(|(name, value)| (format!("{prefix}{name}"), Value::Text((*value).to_owned()))).collect()
}

#[test]
fn every_prefix_of_amqp_is_known() {
    let more = [
        ("subject", "a"),
        ("team", "ops"),
        ("time", "2018-04-05T17:31:00+02:00"),
        ("dataschema", "https://x.io/s"),
    ];
    for prefix in ["cloudEvents:", "cloudEvents_", "ce-", "CE-", ""] {
        let message = rabbitmq(prefixed(prefix, &more), of_type("application/json"), "{}");
        let (found, body) = send(Mode::Binary, &message);
        let expected = texts([
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "com.example"),
            ("ce-subject", "a"),
            ("ce-team", "ops"),
            ("ce-time", "2018-04-05T15:31:00Z"),
            ("ce-dataschema", "https://x.io/s"),
            ("ce-attempt", "1"),
            ("ce-redelivered", "false"),
            ("content-type", "application/json"),
        ]);
        assert_eq!(all(&found), expected, "prefix {prefix:?}");
        assert_eq!(body, "{}");
    }
}

#[test]
fn a_kafka_event_keeps_its_attributes_and_learns_its_place() {
    let mut message = kafka(prefixed("ce_", &[("partitionkey", "p")]), "1,2");
    message.headers.extend(headers([("content-type", "text/csv"), ("unrelated", "x")]));
    if let Origin::Kafka(origin) = &mut message.origin {
        origin.key = Some(Bytes::from_static(b"key"));
    }
    let (found, body) = send(Mode::Binary, &message);
    let expected = texts([
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "com.example"),
        ("ce-partitionkey", "p"),
        ("ce-knativekafkapartition", "3"),
        ("ce-knativekafkaoffset", "42"),
        ("ce-attempt", "1"),
        ("ce-redelivered", "false"),
        ("content-type", "text/csv"),
    ]);
    assert_eq!(all(&found), expected);
    assert_eq!(body, "1,2");
}

#[test]
fn values_have_types_on_amqp() {
    let mut message = rabbitmq(prefixed("ce-", &[]), Properties::default(), "");
    message.headers.extend([
        ("ce-flag".to_owned(), Value::Bool(true)),
        ("ce-count".to_owned(), Value::Int(-7)),
        ("ce-ratio".to_owned(), Value::Float(0.5)),
        ("ce-time".to_owned(), Value::Timestamp(61)),
        ("ce-list".to_owned(), Value::List(vec![Value::Int(1)])),
        ("ce-none".to_owned(), Value::Null),
        ("ce-subject".to_owned(), Value::Text(String::new())),
    ]);
    let (found, _) = send(Mode::Binary, &message);
    let text = |name: &str| found.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(
        (text("ce-flag"), text("ce-count"), text("ce-ratio")),
        (Some("true"), Some("-7"), Some("0.5"))
    );
    assert_eq!(text("ce-time"), Some("1970-01-01T00:01:01Z"));
    assert_eq!((text("ce-list"), text("ce-none"), text("ce-subject")), (None, None, None));
    let (_, document) = send(Mode::Structured, &message);
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!((&document["flag"], &document["count"]), (&true.into(), &(-7).into()));
}

/// Encodes the examples of section 3.1.3.2, and refuses illegal values.
#[test]
fn values_are_percent_encoded() {
    let cases = [
        ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("50% \"q\"", "50%25%20%22q%22"),
        ("line\r\nbreak\t\u{7f}", "line%0D%0Abreak%09%7F"),
        ("naïve", "na%C3%AFve"),
        ("\n", "%0A"),
        ("plain-~!'()*;:@&=+$,/?#[]", "plain-~!'()*;:@&=+$,/?#[]"),
    ];
    for (text, encoded) in cases {
        let (found, body) = send(Mode::Binary, &kafka(prefixed("ce_", &[("subject", text)]), ""));
        assert_eq!(found["ce-subject"], encoded);
        let back = decode_response(&found, &body).unwrap().unwrap();
        assert_eq!(back.event.subject(), Some(text));
    }
}

#[test]
fn any_text_comes_back_from_the_wire() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let length = random.usize(1..40);
        let text: String = (0..length).map(|_| random.char(..)).collect();
        let message = kafka(prefixed("ce_", &[("subject", &text), ("note", &text)]), "data");
        let (found, body) = send(Mode::Binary, &message);
        let back = decode_response(&found, &body).unwrap().unwrap();
        assert_eq!(back.event.subject(), Some(text.as_str()), "seed {seed}");
        assert_eq!(back.event.extension("note"), Some(&text.as_str().into()), "seed {seed}");
        let (_, document) = send(Mode::Structured, &message);
        let event: cloudevents::Event = serde_json::from_slice(&document).unwrap();
        assert_eq!(event.subject(), Some(text.as_str()), "seed {seed}");
    }
}

#[test]
fn answers_are_decoded_as_the_binding_says() {
    let decoded = |subject: &[u8]| {
        let (mut found, body) = send(Mode::Binary, &kafka(prefixed("ce_", &[]), "x"));
        found.insert("ce-subject", http::HeaderValue::from_bytes(subject).unwrap());
        let parts = decode_response(&found, &body);
        parts.map(|parts| parts.unwrap().event.subject().unwrap_or_default().to_owned())
    };
    // Characters may be encoded needlessly, with digits in either case. Older senders used quotes
    // with escapes. A plus stays a plus.
    assert_eq!(decoded(b"%41%2d%2D").unwrap(), "A--");
    assert_eq!(decoded(br#""a \"b\" \\ %20c""#).unwrap(), "a \"b\" \\  c");
    assert_eq!(decoded(b"a+b").unwrap(), "a+b");
    assert_eq!(decoded(b"%2541").unwrap(), "%41", "one round only");
    for refused in [&b"%C0%A0"[..], b"%FF"] {
        assert!(matches!(decoded(refused), Err(DecodeError::Header(_))), "{refused:?}");
    }
    assert!(decode_response(&HeaderMap::new(), &Bytes::from_static(b"plain")).unwrap().is_none());
}

#[test]
fn only_the_allow_list_leaves() {
    let mut raw = headers([
        ("Expect", "100-continue"),
        ("Idempotency-Key", "k"),
        ("K-Network-Probe", "activator"),
        ("User-Agent", "kube-probe/1"),
        ("Host", "elsewhere"),
        ("Transfer-Encoding", "chunked"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("TraceState", "vendor=1"),
    ]);
    for message in [
        rabbitmq(raw.clone(), Properties::default(), "x"),
        kafka(raw.clone(), "x"),
        rabbitmq(
            {
                raw.extend(prefixed("ce-", &[]));
                raw.clone()
            },
            Properties::default(),
            "x",
        ),
        rabbitmq(
            {
                raw.extend(prefixed("", &[]));
                raw
            },
            Properties::default(),
            "x",
        ),
    ] {
        for mode in [Mode::Binary, Mode::Structured] {
            let (found, _) = send(mode, &message);
            for name in found.keys() {
                let name = name.as_str();
                let allowed =
                    name.starts_with("ce-") || ["content-type", "traceparent", "tracestate"].contains(&name);
                assert!(allowed, "{name}");
            }
            assert_eq!(found["tracestate"], "vendor=1");
            assert!(found["traceparent"].to_str().unwrap().starts_with("00-4bf92f"));
        }
    }
}

/// An invalid header of the message does not hide the valid extension of its event.
#[test]
fn the_trace_context_is_that_of_the_first_valid_place() {
    let (one, two) = (
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    );
    let event = [
        ("ce-specversion", "1.0"),
        ("ce-id", "i"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-traceparent", one),
    ];
    let encoder = Encoder::new(settings(Mode::Binary)).unwrap();
    for (header, expected) in [(None, one), (Some("00-invalid-01"), one), (Some(two), two)] {
        let mut all = headers(event);
        all.extend(header.map(|text| ("traceparent".to_owned(), Value::Text(text.to_owned()))));
        let encoded = encoder.encode(&rabbitmq(all, Properties::default(), "x")).unwrap();
        assert_eq!(encoded.trace().unwrap().parent, expected, "{header:?}");
    }
}
