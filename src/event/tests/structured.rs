//! Reads and writes CloudEvents in one JSON document (JSON event format 1.0.2; HTTP and Kafka
//! bindings, sections 3.2 and 3.3).

use super::*;
use cloudevents::{AttributesReader, Data};

const HEAD: &str = r#""specversion":"1.0","id":"1","source":"/s","type":"t""#;

fn sources(content_type: &str, body: &str) -> [Message; 2] {
    [rabbitmq(vec![], of_type(content_type), body), kafka(headers([("Content-Type", content_type)]), body)]
}

#[test]
fn data_becomes_the_body_of_binary_mode() {
    let cases = [
        (r#""data":{"n":12345678901234567890123}"#, "application/json", r#"{"n":12345678901234567890123}"#),
        (r#""data":{"n":1},"datacontenttype":"application/geo+json""#, "application/geo+json", r#"{"n":1}"#),
        (r#""data":"text","datacontenttype":"application/json""#, "application/json", r#""text""#),
        (r#""data":"a\nb","datacontenttype":"text/plain""#, "text/plain", "a\nb"),
        (r#""data":[1, 2],"datacontenttype":"text/plain""#, "text/plain", "[1, 2]"),
        (r#""data_base64":"aGVsbG8=","datacontenttype":"image/png""#, "image/png", "hello"),
        (r#""data":null,"datacontenttype":"text/plain""#, "text/plain", ""),
        (r#""datacontenttype":"text/plain""#, "text/plain", ""),
    ];
    for content_type in ["application/cloudevents+json", "Application/CloudEvents+json; charset=utf-8"] {
        for (members, wanted_type, wanted_body) in cases {
            let document = format!("{{{HEAD},\"team\":\"ops\",\"n\":5,{members}}}");
            for message in sources(content_type, &document) {
                let (found, body) = send(Mode::Binary, &message);
                assert_eq!(found["ce-id"], "1");
                assert_eq!(
                    (&found["ce-team"], &found["ce-n"]),
                    (&"ops".parse().unwrap(), &"5".parse().unwrap())
                );
                assert_eq!(found["content-type"], wanted_type, "{members}");
                assert_eq!(body, wanted_body, "{members}");
            }
        }
    }
}

#[test]
fn json_data_is_the_very_buffer_of_the_broker() {
    let document = format!("{{{HEAD},\"data\":{{\"n\":1}}}}");
    let [message, _] = sources("application/cloudevents+json", &document);
    let (_, body) = send(Mode::Binary, &message);
    assert!(message.body.as_ptr_range().contains(&body.as_ptr()), "the data was copied");
    let plain = rabbitmq(vec![], Properties::default(), "x");
    assert_eq!(send(Mode::Binary, &plain).1.as_ptr(), plain.body.as_ptr(), "the body was copied");
}

#[test]
fn every_attempt_has_one_good_document() {
    let cases = [
        ("application/json", r#"{"n": 1}"#, Some(Data::Json(serde_json::json!({"n": 1})))),
        ("application/json", "{broken", Some(Data::Binary(b"{broken".to_vec()))),
        ("text/plain", "a \"b\"", Some(Data::String("a \"b\"".to_owned()))),
        ("application/octet-stream", "abc", Some(Data::Binary(b"abc".to_vec()))),
        ("text/plain", "", None),
    ];
    let encoder = Encoder::new(settings(Mode::Structured)).unwrap();
    for (content_type, body, wanted) in cases {
        for message in sources(content_type, body) {
            let encoded = encoder.encode(&message).unwrap();
            for attempt in [1, 2, 255] {
                let (found, document) =
                    encoded.for_attempt(&AttemptExtensions::new(attempt, Redelivered(attempt > 1)));
                assert_eq!(
                    all(&found),
                    texts([("content-type", "application/cloudevents+json; charset=utf-8")])
                );
                let event: cloudevents::Event = serde_json::from_slice(&document).unwrap();
                assert_eq!(event.id(), encoded.id());
                assert_eq!(event.source(), encoded.source());
                assert_eq!(event.ty(), encoded.kind());
                assert_eq!(event.datacontenttype(), Some(content_type));
                assert_eq!(event.extension("attempt"), Some(&i64::from(attempt).into()));
                assert_eq!(event.extension("redelivered"), Some(&(attempt > 1).into()));
                assert_eq!(event.data(), wanted.as_ref());
            }
        }
    }
}

#[test]
fn a_document_passes_through_a_document() {
    let document = format!(
        r#"{{{HEAD},"time":"2018-04-05T17:31:00.123456789Z","attempt":9,"redelivered":"x","zone":"a","flag":true,"data":[1.50]}}"#
    );
    let [message, _] = sources("application/cloudevents+json", &document);
    let (_, sent) = send(Mode::Structured, &message);
    let expected = r#"{"attempt":1,"redelivered":false,"specversion":"1.0","id":"1","type":"t","source":"/s","datacontenttype":"application/json","time":"2018-04-05T17:31:00.123456789Z","flag":true,"zone":"a","data":[1.50]}"#;
    assert_eq!(std::str::from_utf8(&sent).unwrap(), expected);
    assert_eq!(decode_response(&send(Mode::Structured, &message).0, &sent).unwrap().unwrap().data, "[1.50]");
}

#[test]
fn what_is_no_event_is_sent_whole_as_plain_data() {
    let cases = [
        (
            "application/cloudevents+json",
            format!("{{{HEAD},\"data\":1,\"data_base64\":\"YQ==\"}}"),
            "application/json",
        ),
        ("application/cloudevents+json", format!("{{{HEAD},\"data_base64\":\"?\"}}"), "application/json"),
        ("application/cloudevents+json", HEAD.replace("1.0", "2.0"), "application/octet-stream"),
        ("application/cloudevents+json", format!("{{{}}}", HEAD.replace("1.0", "0.3")), "application/json"),
        (
            "application/cloudevents+json",
            r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#.to_owned(),
            "application/json",
        ),
        (
            "application/cloudevents+json",
            r#"{"specversion":"1.0","source":"/s","type":"t"}"#.to_owned(),
            "application/json",
        ),
        ("application/cloudevents+json", "[".repeat(10_000), "application/octet-stream"),
        ("application/cloudevents+json", String::new(), "application/octet-stream"),
        ("application/cloudevents-batch+json", format!("[{{{HEAD}}}]"), "application/json"),
    ];
    for (content_type, document, sent_type) in cases {
        for message in sources(content_type, &document) {
            let (found, body) = send(Mode::Binary, &message);
            assert!(found["ce-type"].to_str().unwrap().starts_with("dev.knative."), "{document}");
            assert_eq!(found["content-type"], sent_type, "{document}");
            assert_eq!(body, document);
        }
    }
}

#[test]
fn extensions_of_a_dead_letter_replace_those_of_an_earlier_one() {
    let document = format!(r#"{{{HEAD},"knativeerrorcode":"404","team":"ops","data":{{"n":1.10}}}}"#);
    let message = kafka(headers([("Content-Type", "application/cloudevents+json")]), &document);
    let extensions = [("knativeerrorcode", 502.into()), ("knativeerrordest", "http://a b".into())];
    let encoded = |mode| Encoder::new(settings(mode)).unwrap().encode(&message).unwrap();

    let (found, body) = encoded(Mode::Binary).with_extensions(&extensions).unwrap();
    let found = all(&found);
    assert_eq!((&*found["ce-knativeerrorcode"], &*found["ce-knativeerrordest"]), ("502", "http://a%20b"));
    assert!(found["ce-team"] == "ops" && !found.contains_key("ce-attempt"), "{found:?}");
    assert_eq!(body, r#"{"n":1.10}"#);

    let (found, body) = encoded(Mode::Structured).with_extensions(&extensions).unwrap();
    assert!(all(&found)["content-type"].starts_with("application/cloudevents+json"));
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.contains(r#""knativeerrorcode":502"#) && text.contains(r#""data":{"n":1.10}"#), "{text}");
    assert!(!text.contains("404") && text.contains(r#""team":"ops""#), "{text}");
}
