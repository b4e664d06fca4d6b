use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::*;

fn mock(body: &str, headers: &[(&str, AMQPValue)], properties: BasicProperties) -> Delivery {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    let mut from = lapin::message::Delivery::mock(1, "".into(), "queue".into(), false, body.into());
    from.properties = properties.with_headers(table);
    reader(["cluster", "/", "queue"]).delivery(from)
}

fn reader(place: [&str; 3]) -> Reader {
    Reader::of(place, Epoch(1), Limit::of(None, None))
}

fn id_of(body: &str, headers: &[(&str, AMQPValue)]) -> Identity {
    mock(body, headers, BasicProperties::default()).outline.identity
}

#[test]
fn a_redelivery_has_the_same_identity() {
    let first = id_of("body", &[("shop", AMQPValue::LongInt(1))]);
    let again =
        id_of("body", &[("shop", AMQPValue::LongInt(1)), ("x-delivery-count", AMQPValue::LongLongInt(1))]);
    assert_eq!(first, again);
    assert!(!first.is_unique());
}

#[test]
fn whatever_differs_makes_another_identity() {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let identities = [
        id_of("body", &[]),
        id_of("bod", &[]),
        id_of("body", &[("a", text(""))]),
        id_of("body", &[("a", text("b"))]),
        id_of("body", &[("ab", text(""))]),
        id_of("body", &[("a", AMQPValue::Void)]),
        id_of("body", &[("a", AMQPValue::LongInt(0))]),
        id_of("body", &[("a", AMQPValue::Timestamp(0))]),
        mock("body", &[], BasicProperties::default().with_message_id("a".into())).outline.identity,
        mock("body", &[], BasicProperties::default().with_correlation_id("a".into())).outline.identity,
        mock("body", &[], BasicProperties::default().with_timestamp(0)).outline.identity,
    ];
    for (index, identity) in identities.iter().enumerate() {
        assert!(!identities[..index].contains(identity), "number {index} is not unique");
    }
}

#[test]
fn our_own_headers_win() {
    let headers = [
        ("longhaul-copy", AMQPValue::LongString("2a".repeat(16).into())),
        ("longhaul-attempts", AMQPValue::LongInt(3)),
        ("x-delivery-count", AMQPValue::LongLongInt(9)),
    ];
    let outline = mock("body", &headers, BasicProperties::default()).outline;
    assert!(matches!(outline.identity, Identity::Copy { mark: Mark(mark), .. } if mark == [0x2a; 16]));
    assert_eq!(outline.attempts_before, 3);
    assert!(outline.ask_peers, "another replica may run what this is a copy of");
    let outline = mock("body", &headers[2..], BasicProperties::default()).outline;
    assert_eq!(outline.attempts_before, 9);
}

/// Two dead letters or replies may describe the same item, but are two items themselves.
#[test]
fn what_a_letter_or_a_reply_says_is_about_another_item() {
    let id = ("longhaul-id", AMQPValue::LongString("42".into()));
    let attempts = ("longhaul-attempts", AMQPValue::LongInt(3));
    for mark in ["longhaul-origin", "longhaul-reply"] {
        let mark = (mark, AMQPValue::LongString("some".into()));
        let letter =
            mock("body", &[id.clone(), attempts.clone(), mark.clone()], BasicProperties::default()).outline;
        assert!(!letter.identity.is_unique());
        assert_eq!(letter.attempts_before, 0);
        let copy = ("longhaul-copy", AMQPValue::LongString("2a".repeat(16).into()));
        let copy =
            mock("body", &[id.clone(), attempts.clone(), mark, copy], BasicProperties::default()).outline;
        assert_eq!((copy.identity.is_unique(), copy.attempts_before), (true, 3));
    }
}
