//! Messages that nobody should send. Each goes through whole; none is a reason to panic.

use super::*;

#[test]
fn a_claim_without_substance_is_plain_data() {
    let cases = [
        headers([("ce-specversion", "1.0")]),
        headers([("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]),
        headers([("ce-specversion", ""), ("ce-id", "1"), ("ce-type", "t")]),
        headers([("ce-specversion", "1.0"), ("ce-id", ""), ("ce-source", "/s"), ("ce-type", "t")]),
        headers([
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-time", "noon"),
        ]),
        headers([
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-dataschema", "rel"),
        ]),
    ];
    for case in cases {
        let (found, body) = send(Mode::Binary, &rabbitmq(case.clone(), Properties::default(), "x"));
        assert_eq!(
            (&found["ce-type"], body),
            (&"dev.knative.rabbitmq.event".parse().unwrap(), "x".into()),
            "{case:?}"
        );
    }
    // Knative's RabbitmqSource gives a missing source its own; on Kafka the event is invalid.
    let no_source = [("specversion", "1.0"), ("id", "1"), ("type", "t")];
    let with =
        |prefix: &str| no_source.map(|(n, v)| (format!("{prefix}{n}"), Value::Text(v.to_owned()))).into();
    let (found, _) = send(Mode::Binary, &rabbitmq(with("ce-"), Properties::default(), "x"));
    assert_eq!(
        (&found["ce-type"], &found["ce-source"]),
        (
            &"t".parse().unwrap(),
            &"/apis/v1/namespaces/jobs/rabbitmqsources/thumbnails#thumbs".parse().unwrap()
        )
    );
    assert_eq!(send(Mode::Binary, &kafka(with("ce_"), "x")).0["ce-type"], "dev.knative.kafka.event");
}

#[test]
fn names_that_no_extension_can_have_are_left_out() {
    let event = headers([
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-bad_name", "x"),
        ("ce-", "x"),
        ("ce-bad name\r\n", "x"),
        ("ce-größe", "x"),
        ("ce-Good", "x"),
    ]);
    let (found, _) = send(Mode::Binary, &rabbitmq(event, Properties::default(), ""));
    let names: Vec<_> = found.keys().map(|name| name.as_str()).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(found["ce-good"], "x");
}

#[test]
fn bytes_that_are_no_text_become_text() {
    let mut message = kafka(vec![], "x");
    message.headers = vec![
        ("a".to_owned(), Value::Bytes(Bytes::from_static(b"caf\xe9"))),
        ("b".to_owned(), Value::Null),
        ("c".to_owned(), Value::Bytes(Bytes::new())),
        ("ä!".to_owned(), Value::Bytes(Bytes::from_static(b"1"))),
        ("c".to_owned(), Value::Bytes(Bytes::from_static(b"last"))),
        ("content-type".to_owned(), Value::Bytes(Bytes::from_static(b"te\nxt\xff"))),
        ("traceparent".to_owned(), Value::Bytes(Bytes::from_static(b"\xff\n"))),
    ];
    if let Origin::Kafka(origin) = &mut message.origin {
        origin.key = Some(Bytes::from_static(b"\xf0\x28"));
        origin.timestamp = Some(i64::MIN);
    }
    for mode in [Mode::Binary, Mode::Structured] {
        send(mode, &message);
    }
    let (found, body) = send(Mode::Binary, &message);
    assert_eq!(found["ce-kafkaheadera"], "caf%EF%BF%BD");
    assert_eq!(found["ce-kafkaheaderc"], "last");
    assert_eq!(found["ce-kafkaheader"], "1");
    assert_eq!(found["ce-key"], "%EF%BF%BD(");
    for absent in ["ce-kafkaheaderb", "ce-time", "content-type", "traceparent"] {
        assert!(!found.contains_key(absent), "{absent}");
    }
    assert_eq!(body, "x");
}

#[test]
fn size_does_not_matter_up_to_what_a_request_can_hold() {
    let large = "x".repeat(1 << 20);
    for body in ["", large.as_str()] {
        for message in [kafka(vec![], body), rabbitmq(vec![], Properties::default(), body)] {
            assert_eq!(send(Mode::Binary, &message).1, body);
            send(Mode::Structured, &message);
        }
    }
    let many = |count| (0..count).map(|n| (format!("h{n}"), Value::Text("v".to_owned()))).collect();
    let (found, _) = send(Mode::Binary, &kafka(many(20_000), "x"));
    assert_eq!(found["ce-kafkaheaderh19999"], "v");
    assert!(found.contains_key("ce-attempt"));
    let encoder = Encoder::new(settings(Mode::Binary)).unwrap();
    for count in 24_560..24_572 {
        if let Ok(encoded) = encoder.encode(&kafka(many(count), "x")) {
            assert!(encoded.for_attempt(1, Redelivered(false)).0.contains_key("ce-redelivered"), "{count}");
        }
    }
    let error = encoder.encode(&kafka(many(40_000), "x")).unwrap_err();
    assert!(error.to_string().contains("more headers"), "{error}");
}

#[test]
fn nothing_panics_on_noise() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let names = [
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            "ce_time",
            "ce-id",
            "specversion",
            "content-type",
            "traceparent",
            "ä",
            "",
        ];
        let noise = |random: &mut fastrand::Rng| {
            let bytes: Vec<u8> = (0..random.usize(0..12)).map(|_| random.u8(..)).collect();
            let fitting = random.choice(["1.0", "application/cloudevents+json", "{}"]).unwrap_or_default();
            if random.bool() { Bytes::from(bytes) } else { Bytes::from_static(fitting.as_bytes()) }
        };
        let mut message = kafka(vec![], "");
        for _ in 0..random.usize(0..8) {
            let name = random.choice(names).unwrap_or_default();
            message.headers.push((name.to_owned(), Value::Bytes(noise(&mut random))));
        }
        message.body = noise(&mut random);
        for mode in [Mode::Binary, Mode::Structured] {
            let (headers, body) = send(mode, &message);
            assert!(decode_response(&headers, &body).is_ok_and(|parts| parts.is_some()), "seed {seed}");
        }
    }
}
