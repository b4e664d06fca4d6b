//! Sends messages that nobody should send. Each arrives whole, and none causes a panic.

use cloudevents::AttributesReader;

use super::*;

#[test]
fn a_claim_without_substance_is_plain_data() {
    let cases = [
        headers([("ce-specversion", "1.0")]),
        headers([("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]),
        headers([("ce-specversion", ""), ("ce-id", "1"), ("ce-type", "t")]),
        headers([("ce-specversion", "1.0"), ("ce-id", ""), ("ce-source", "/s"), ("ce-type", "t")]),
    ];
    for case in cases {
        let (found, body) = send(Mode::Binary, &rabbitmq(case.clone(), Properties::default(), "x"));
        assert_eq!(
            (&found["ce-type"], body),
            (&"dev.knative.rabbitmq.event".parse().unwrap(), "x".into()),
            "{case:?}"
        );
    }
    // Knative's RabbitmqSource replaces a missing source by its own; on Kafka the event is invalid.
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
    assert_eq!(
        (&found["ce-key"], &found["ce-partitionkey"]),
        (&"base64:8Cg=".parse().unwrap(), &"base64:8Cg=".parse().unwrap())
    );
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
    let (found, _) = send(Mode::Binary, &kafka(many(2_000), "x"));
    assert_eq!(found["ce-kafkaheaderh1999"], "v");
    assert!(found.contains_key("ce-attempt"));
}

#[test]
fn a_head_of_more_than_64_kib_is_refused_before_it_is_kept() {
    let many = |count| (0..count).map(|n| (format!("h{n}"), Value::Text("v".to_owned()))).collect();
    let mut large_key = kafka(vec![], "x");
    if let Origin::Kafka(origin) = &mut large_key.origin {
        origin.key = Some(vec![0xff; 900_000].into());
    }
    let long = ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-x"].map(|name| {
        let value = if name == "ce-x" { " ".repeat(22_000) } else { "1.0".to_owned() };
        (name.to_owned(), Value::Text(value))
    });
    let cases = [
        (kafka(many(40_000), "x"), "ce-kafkaheaderh"),
        (large_key, "key"),
        (rabbitmq(long.into(), Properties::default(), "x"), "ce-x"),
        (kafka(headers([("tracestate", &"t".repeat(66_000))]), "x"), "tracestate"),
    ];
    for (message, words) in cases {
        let encoder = Encoder::new(settings(Mode::Binary)).unwrap();
        let error = encoder.encode(&message).unwrap_err().to_string();
        assert!(error.contains("65536 bytes") && error.contains(words), "{error}");
    }
    let structured = Encoder::new(settings(Mode::Structured)).unwrap();
    assert!(structured.encode(&kafka(many(40_000), "x")).unwrap_err().to_string().contains("65536 bytes"));
}

#[test]
fn an_odd_optional_attribute_is_left_out_and_the_event_stays_itself() {
    let odd = [
        ("ce-time", Value::Text("noon".to_owned())),
        ("ce-time", Value::Text("2026-01-01T00:00:00".to_owned())),
        ("ce-time", Value::Text("9999-12-31T23:59:59-01:00".to_owned())),
        ("ce-time", Value::Timestamp(u64::MAX)),
        ("ce-dataschema", Value::Text("relative/path".to_owned())),
        ("ce-data", Value::Text("x".to_owned())),
        ("ce-data_base64", Value::Text("x".to_owned())),
        ("ce-bad_name", Value::Text("x".to_owned())),
    ];
    for (name, value) in odd {
        let mut event =
            headers([("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]);
        event.push((name.to_owned(), value));
        for mode in [Mode::Binary, Mode::Structured] {
            let (found, body) = send(mode, &rabbitmq(event.clone(), of_type("application/json"), "[1]"));
            let parts = decode_response(&found, &body).unwrap().unwrap();
            let event = &parts.event;
            assert_eq!((event.id(), &**event.source(), event.ty()), ("1", "/s", "t"), "{name}");
            assert_eq!((event.time(), event.dataschema(), event.iter_extensions().count()), (None, None, 2));
            assert_eq!(parts.data, "[1]");
        }
    }
    for members in [
        r#""dataschema":"rel""#,
        r#""time":"yesterday""#,
        r#""ratio":0.5"#,
        r#""deep":[[1]]"#,
        r#""data_":1"#,
    ] {
        let document =
            format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{members},"data":2}}"#);
        let message = rabbitmq(vec![], of_type("application/cloudevents+json"), &document);
        let (found, body) = send(Mode::Binary, &message);
        assert_eq!(
            (&found["ce-id"], &found["ce-type"]),
            (&"1".parse().unwrap(), &"t".parse().unwrap()),
            "{members}"
        );
        assert_eq!((found.len(), body), (7, "2".into()), "{members}: {found:?}");
    }
}

#[test]
fn a_reply_with_any_defect_is_refused_by_name() {
    let odd = [("time", "2026-01-01T00:00:00"), ("dataschema", "rel"), ("data", "x")];
    for (name, value) in odd {
        let pairs = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
        let mut found: HeaderMap =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        found.insert(http::HeaderName::try_from(format!("ce-{name}")).unwrap(), value.parse().unwrap());
        let error = decode_response(&found, &Bytes::new()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(value), "{error}");
    }
    for (content_type, document) in [
        (
            "application/cloudevents+json",
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","ratio":0.5}"#,
        ),
        (
            "application/cloudevents+json",
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"now"}"#,
        ),
        ("application/cloudevents-batch+json", "[]"),
    ] {
        let found: HeaderMap = [("content-type", content_type)]
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        assert!(decode_response(&found, &document.into()).is_err(), "{document}");
    }
}

#[test]
fn a_timestamp_in_any_unit_is_a_valid_time() {
    let sent = |timestamp| {
        let properties = Properties { timestamp: Some(timestamp), ..Properties::default() };
        let (found, _) = send(Mode::Binary, &rabbitmq(vec![], properties, "x"));
        found.get("ce-time").map(|value| value.to_str().unwrap().to_owned())
    };
    for number in [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000] {
        assert_eq!(sent(number).as_deref(), Some("2023-11-14T22:13:20Z"));
    }
    assert_eq!(sent(u64::MAX), None);
    let mut record = kafka(vec![], "x");
    for (number, wanted) in [(1_700_000_000_000_000, Some("2023-11-14T22:13:20Z")), (i64::MAX, None)] {
        if let Origin::Kafka(origin) = &mut record.origin {
            origin.timestamp = Some(number);
        }
        let (found, _) = send(Mode::Binary, &record);
        assert_eq!(found.get("ce-time").map(|value| value.to_str().unwrap()), wanted);
    }
}

#[test]
fn the_encoding_of_the_content_reaches_the_worker() {
    let of =
        |encoding: &str| Properties { content_encoding: Some(encoding.to_owned()), ..Properties::default() };
    let (found, _) = send(Mode::Binary, &rabbitmq(vec![], of("gzip"), "x"));
    assert_eq!(
        (&found["content-encoding"], found.contains_key("ce-contentencoding")),
        (&"gzip".parse().unwrap(), false)
    );
    let (found, _) = send(Mode::Binary, &kafka(headers([("Content-Encoding", "br, gzip")]), "x"));
    assert_eq!(found["content-encoding"], "br, gzip");
    // This is not a coding of HTTP, but some clients write it.
    let (found, _) = send(Mode::Binary, &rabbitmq(vec![], of("utf-8"), "x"));
    assert_eq!(
        (found.get("content-encoding"), &found["ce-contentencoding"]),
        (None, &"utf-8".parse().unwrap())
    );
    let (found, body) = send(Mode::Structured, &rabbitmq(vec![], of("gzip"), "x"));
    assert!(!found.contains_key("content-encoding"));
    assert!(std::str::from_utf8(&body).unwrap().contains(r#""contentencoding":"gzip""#));
}
