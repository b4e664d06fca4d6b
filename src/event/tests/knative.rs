//! Plain messages get the attributes of Knative's own sources, and the configuration may replace
//! them.

use super::*;

#[test]
fn a_rabbitmq_message_looks_as_from_rabbitmq_source() {
    let properties = Properties {
        message_id: Some("m-1".to_owned()),
        timestamp: Some(1_700_000_000),
        ..of_type("image/png")
    };
    let message = rabbitmq(headers([("priority", "high"), ("x-death", "1")]), properties, "bytes");
    let (found, body) = send(Mode::Binary, &message);
    let expected = texts([
        ("ce-specversion", "1.0"),
        ("ce-id", "m-1"),
        ("ce-type", "dev.knative.rabbitmq.event"),
        ("ce-source", "/apis/v1/namespaces/jobs/rabbitmqsources/thumbnails#thumbs"),
        ("ce-subject", "m-1"),
        ("ce-time", "2023-11-14T22:13:20Z"),
        ("ce-attempt", "1"),
        ("ce-redelivered", "false"),
        ("content-type", "image/png"),
    ]);
    assert_eq!(all(&found), expected, "headers of a plain message must not become extensions");
    assert_eq!(body, "bytes");
}

#[test]
fn an_id_is_made_once_unless_the_item_has_one() {
    let encoder = Encoder::new(settings(Mode::Binary)).unwrap();
    let bare = rabbitmq(vec![], Properties::default(), "x");
    let first = encoder.encode(&bare).unwrap();
    assert_eq!(uuid::Uuid::parse_str(first.id()).unwrap().get_version_num(), 4);
    assert_ne!(first.id(), encoder.encode(&bare).unwrap().id());
    let (one, _) = first.for_attempt(&AttemptExtensions::new(1, Redelivered(false)));
    let (two, _) = first.for_attempt(&AttemptExtensions::new(2, Redelivered(true)));
    assert_eq!(one["ce-id"], two["ce-id"]);
    assert_eq!(one["ce-time"], two["ce-time"]);
    assert_eq!(
        (&two["ce-attempt"], &two["ce-redelivered"]),
        (&"2".parse().unwrap(), &"true".parse().unwrap())
    );

    let ours = headers([("longhaul-id", "kept"), ("longhaul-attempts", "2")]);
    assert_eq!(encoder.encode(&rabbitmq(ours.clone(), Properties::default(), "x")).unwrap().id(), "kept");
    let named = Properties { message_id: Some("m-1".to_owned()), ..Properties::default() };
    assert_eq!(encoder.encode(&rabbitmq(ours.clone(), named, "x")).unwrap().id(), "m-1");
    assert_eq!(encoder.encode(&kafka(ours, "x")).unwrap().id(), "kept");
}

#[test]
fn a_kafka_record_looks_as_from_kafka_source() {
    let mut message = kafka(
        headers([
            ("Content-Type", "Text/Plain; Charset=UTF-8"),
            ("Trace-Id_2", "a b"),
            ("longhaul-attempts", "1"),
        ]),
        "hello",
    );
    if let Origin::Kafka(origin) = &mut message.origin {
        origin.key = Some(Bytes::from_static(b"customer 7"));
    }
    let (found, body) = send(Mode::Binary, &message);
    let expected = texts([
        ("ce-specversion", "1.0"),
        ("ce-id", "partition:3/offset:42"),
        ("ce-type", "dev.knative.kafka.event"),
        ("ce-source", "/apis/v1/namespaces/jobs/kafkasources/thumbnails#thumbs"),
        ("ce-subject", "partition:3#42"),
        ("ce-time", "2023-11-14T22:13:20.123Z"),
        ("ce-partitionkey", "customer%207"),
        ("ce-key", "customer%207"),
        ("ce-kafkaheadertraceid2", "a%20b"),
        ("ce-knativekafkapartition", "3"),
        ("ce-knativekafkaoffset", "42"),
        ("ce-attempt", "1"),
        ("ce-redelivered", "false"),
        ("content-type", "text/plain; charset=utf-8"),
    ]);
    assert_eq!(all(&found), expected);
    assert_eq!(body, "hello");
}

#[test]
fn the_configuration_has_the_last_word() {
    let mut settings = settings(Mode::Binary);
    settings.event = config::Event {
        r#type: Some("com.example.thumb".to_owned()),
        source: Some("/thumbs".to_owned()),
        subject: Some("s".to_owned()),
        extensions: [("team", "file"), ("region", "eu")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        id: None,
    };
    settings.overrides = Overrides::parse(r#"{"extensions":{"team":"binding"}}"#).unwrap();
    let encoder = Encoder::new(settings).unwrap();

    let plain = encoder.encode(&kafka(vec![], "x")).unwrap();
    assert_eq!((plain.kind(), plain.source()), ("com.example.thumb", "/thumbs"));
    let (found, _) = plain.for_attempt(&AttemptExtensions::new(1, Redelivered(false)));
    assert_eq!(
        (&found["ce-team"], &found["ce-region"], &found["ce-subject"]),
        (&"binding".parse().unwrap(), &"eu".parse().unwrap(), &"s".parse().unwrap())
    );

    // With a source that does not name the topic, records of two topics must still differ.
    let (mut other, mut again) = (kafka(vec![], "x"), kafka(vec![], "x"));
    if let (Origin::Kafka(other), Origin::Kafka(again)) = (&mut other.origin, &mut again.origin) {
        other.topic = "others".to_owned();
        again.incarnation = Some("7f3a".to_owned());
    }
    assert_eq!(encoder.encode(&other).unwrap().id(), "topic:others/partition:3/offset:42");
    assert_eq!(encoder.id(&again, &String::new), "topic:thumbs/log:7f3a/partition:3/offset:42");

    let event =
        headers([("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/own"), ("ce_type", "own")]);
    let mut event = kafka(event, "x");
    event.headers.push(("ce_team".to_owned(), Value::Text("producer".to_owned())));
    let passed = encoder.encode(&event).unwrap();
    assert_eq!((passed.kind(), passed.source()), ("own", "/own"));
    assert_eq!(passed.for_attempt(&AttemptExtensions::new(1, Redelivered(false))).0["ce-team"], "binding");
}

#[test]
fn settings_that_can_not_be_met_are_refused() {
    let with = |event| Encoder::new(Settings { event, ..settings(Mode::Binary) }).unwrap_err().to_string();
    let extension = |name: &str| config::Event {
        extensions: [(name.to_owned(), "x".to_owned())].into(),
        ..config::Event::default()
    };
    assert!(with(extension("id")).contains("attribute of its own"));
    assert!(with(extension("No-Name")).starts_with("event.extensions: \"No-Name\""));
    assert!(
        with(config::Event { source: Some(String::new()), ..Default::default() }).contains("event.source")
    );
}

#[test]
fn the_id_of_the_event_may_be_a_part_of_the_message() {
    let id = config::EventId { header: Some("order".to_owned()), json: Some("/order/id".to_owned()) };
    let event = config::Event { id: Some(id), ..config::Event::default() };
    let encoder = Encoder::new(Settings { event, ..settings(Mode::Binary) }).unwrap();
    let id =
        |message: &Message| encoder.encode_with_id(message, &|| "fresh".to_owned()).unwrap().id().to_owned();
    let body = r#"{"order": {"id": 17}}"#;
    let named = Properties { message_id: Some("m".to_owned()), ..Properties::default() };
    assert_eq!(id(&rabbitmq(headers([("order", "h")]), named.clone(), body)), "h");
    assert_eq!(id(&rabbitmq(vec![], named.clone(), body)), "17");
    assert_eq!(id(&kafka(vec![], body)), "17");
    for number in [Value::Int(5), Value::Exact(Exact::Int32(5))] {
        let number = vec![("Order".to_owned(), number)];
        assert_eq!(id(&rabbitmq(number, named.clone(), body)), "5");
    }
    // A part that cannot be an id counts as absent.
    for odd in [
        r#"{"order": {"id": null}}"#,
        r#"{"order": {"id": ""}}"#,
        r#"{"order": {"id": "a\nb"}}"#,
        "no JSON",
        "",
    ] {
        assert_eq!(id(&rabbitmq(headers([("order", "")]), named.clone(), odd)), "m", "{odd}");
        assert_eq!(id(&kafka(vec![], odd)), "partition:3/offset:42", "{odd}");
    }
    let long = format!(r#"{{"order": {{"id": "{}"}}}}"#, "x".repeat(300));
    assert_eq!(id(&kafka(vec![], &long)), "partition:3/offset:42");
    // A CloudEvent keeps its own.
    let own = headers([("ce_specversion", "1.0"), ("ce_id", "own"), ("ce_source", "/s"), ("ce_type", "t")]);
    assert_eq!(id(&kafka(own, body)), "own");
}

/// The record has the time of its redrive, and the event keeps the item's own time.
#[test]
fn an_item_that_was_brought_back_keeps_its_time() {
    let time = |message: &Message| send(Mode::Binary, message).0["ce-time"].to_str().unwrap().to_owned();
    let (first, kept) = (kafka(Vec::new(), "x"), headers([("longhaul-record-time", "1500000000123")]));
    assert_eq!(time(&first), "2023-11-14T22:13:20.123Z");
    assert_eq!(time(&kafka(kept.clone(), "x")), "2017-07-14T02:40:00.123Z");
    assert_eq!(time(&rabbitmq(kept, Properties::default(), "x")), "2017-07-14T02:40:00.123Z");
    assert_eq!(time(&kafka(headers([("longhaul-record-time", "soon")]), "x")), time(&first));
}
