use lapin::types::AMQPValue;

use super::*;

const MOST: usize = 128 * 1024 - 8;

fn short_of(bytes: &[u8]) -> Vec<u8> {
    let mut made = vec![bytes.len() as u8];
    made.extend(bytes);
    made
}

/// A content header with these headers, encoded, and this message_id.
fn header(table: &[u8], message_id: &[u8]) -> Vec<u8> {
    let mut made = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];
    made.extend((0x8000u16 >> HEADERS | 0x8000 >> 8 | 0x8000 >> 3).to_be_bytes());
    put_long(&mut made, table);
    made.push(2);
    made.extend(short_of(message_id));
    made
}

fn nested(kind: u8, levels: usize) -> Vec<u8> {
    // The value grows from the innermost level outwards, with its bytes in reverse order.
    let mut value = vec![b'V'];
    for _ in 0..levels {
        if kind == b'F' {
            value.extend(b"k\x01");
        }
        let length = value.len() as u32;
        value.extend(length.to_be_bytes().iter().rev());
        value.push(kind);
    }
    value.reverse();
    value
}

/// Parses the payload like lapin.
fn parsed(payload: &[u8]) -> lapin::BasicProperties {
    let (rest, properties) = lapin::protocol::basic::parse_properties(&payload[HEADER_START..]).unwrap();
    assert!(rest.is_empty());
    properties
}

#[test]
fn a_readable_header_stays_as_it_is() {
    let mut table = Vec::new();
    put_text(&mut table, "é", "text");
    put_bytes(&mut table, "bytes", &[0xff]);
    for kind in [b'F', b'A'] {
        table.extend(short_of(b"nested"));
        table.extend(nested(kind, MAX_DEPTH));
    }
    assert_eq!(content_header(&header(&table, "é".as_bytes()), MOST), None);
    assert_eq!(content_header(&header(&[], b""), MOST), None);
    assert_eq!(content_header(&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0], MOST), None);
}

#[test]
fn bytes_that_are_not_utf_8_are_escaped() {
    let mut table = short_of(b"na\xffme");
    table.push(b'V');
    let made = content_header(&header(&table, b"id\xfe\xff"), MOST).unwrap();
    let properties = parsed(&made);
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "id%FE%FF");
    assert_eq!(properties.delivery_mode(), &Some(2));
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers["na%FFme"], AMQPValue::Void);
    let places = AMQPValue::LongString("header na%FFme, message_id".into());
    assert_eq!(headers[UNREADABLE], places);
}

#[test]
fn long_texts_that_differ_stay_different() {
    let ids = [0u8, 1].map(|last| {
        let mut id = vec![0xff; 254];
        id.push(last);
        let made = content_header(&header(&[], &id), MOST).unwrap();
        parsed(&made).message_id().as_ref().unwrap().as_str().to_owned()
    });
    assert_ne!(ids[0], ids[1]);
    assert!(ids[0].len() <= SHORT_MAX && ids[0].starts_with("%FF%FF"));
}

#[test]
fn a_deep_value_becomes_its_own_encoding() {
    // Up to the size of a frame.
    for kind in [b'F', b'A'] {
        for levels in [MAX_DEPTH + 1, 1_400, if kind == b'A' { 26_000 } else { 18_000 }] {
            let deep = nested(kind, levels);
            let mut table = short_of(b"deep");
            table.extend(&deep);
            put_text(&mut table, "other", "stays");
            let properties = parsed(&content_header(&header(&table, b"id"), MOST).unwrap());
            let headers = properties.headers().as_ref().unwrap().inner();
            assert_eq!(headers["deep"], AMQPValue::ByteArray(deep.into()));
            assert_eq!(headers["other"], AMQPValue::LongString("stays".into()));
            assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "id");
        }
    }
}

#[test]
fn the_result_fits_into_a_frame() {
    let mut table = short_of(b"deep");
    table.extend(nested(b'A', 20_000));
    table.extend(short_of(b"x-delivery-count"));
    table.extend([b'l', 0, 0, 0, 0, 0, 0, 0, 7]);
    let original = header(&table, &[0xff; 200]);
    let made = content_header(&original, original.len()).unwrap();
    assert!(made.len() <= original.len());
    let properties = parsed(&made);
    assert_eq!(properties.message_id().as_ref().unwrap().as_str().len(), SHORT_MAX);
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers["x-delivery-count"], AMQPValue::LongLongInt(7));

    // A server's own header made this one too large.
    let mut table = Vec::new();
    put_text(&mut table, "large", &"x".repeat(MOST - 40));
    table.extend(short_of(b"x-delivery-count"));
    table.extend([b'l', 0, 0, 0, 0, 0, 0, 0, 7]);
    let made = content_header(&header(&table, b"id"), MOST).unwrap();
    assert!(made.len() <= MOST);
    let properties = parsed(&made);
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers["x-delivery-count"], AMQPValue::LongLongInt(7));
    let AMQPValue::LongString(places) = &headers[UNREADABLE] else { panic!("a list of places") };
    assert!(places.to_string().starts_with("header large (cut, digest "), "{places}");

    let names = (0..40u32).flat_map(|number| {
        let name = [&[0xff; 230][..], &number.to_be_bytes()].concat();
        [short_of(&name), b"V".to_vec()].concat()
    });
    let original = header(&names.collect::<Vec<_>>(), b"id");
    let made = content_header(&original, original.len()).unwrap();
    assert!(made.len() <= original.len());
    assert!(parsed(&made).headers().as_ref().unwrap().inner().contains_key(RAW_PROPERTIES));
}

#[test]
fn nonsense_becomes_bytes() {
    let fine = header(&nested(b'A', 3), b"id");
    for bytes in [&fine[..fine.len() - 1], &fine[..HEADER_START + 1], &[0; 3], &[]] {
        let properties = parsed(&content_header(bytes, MOST).unwrap());
        assert!(properties.headers().as_ref().unwrap().inner().contains_key(RAW_PROPERTIES));
    }
    let mut table = short_of(b"good");
    table.push(b'V');
    table.extend(short_of(b"bad"));
    table.extend(b"?rest");
    let properties = parsed(&content_header(&header(&table, b"id"), MOST).unwrap());
    let headers = properties.headers().as_ref().unwrap().inner();
    assert!(headers.contains_key("good"));
    assert_eq!(headers[RAW_HEADERS], AMQPValue::ByteArray(b"\x03bad?rest".to_vec().into()));
}

/// Damages random bytes of headers.
#[test]
fn every_damaged_header_is_readable_afterwards() {
    let mut random = fastrand::Rng::with_seed(14);
    for round in 0..20_000 {
        let mut table = Vec::new();
        for name in 0..random.u8(..4) {
            table.extend(short_of(&[b'n', name]));
            let (kind, levels) = (if random.bool() { b'A' } else { b'F' }, random.usize(..40));
            table.extend(nested(kind, levels));
        }
        let mut payload = header(&table, b"message");
        for _ in 0..random.usize(..4) {
            let at = random.usize(HEADER_START..payload.len());
            payload[at] = random.u8(..);
        }
        let made = content_header(&payload, MOST).unwrap_or(payload);
        let (rest, _) = lapin::protocol::basic::parse_properties(&made[HEADER_START..])
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(rest.is_empty(), "round {round}");
    }
}

#[test]
fn arguments_of_methods_are_made_readable() {
    let mut deliver = vec![0, 60, 0, 60];
    deliver.extend(short_of(b"tag"));
    deliver.extend([0; 9]);
    deliver.extend(short_of(b"exchange"));
    assert_eq!(method(&[&deliver[..], &short_of(b"key")].concat()), None);
    let made = method(&[&deliver[..], &short_of(b"k\xff")].concat());
    assert_eq!(made, Some([&deliver[..], &short_of(b"k%FF")].concat()));
    // Cut within a character.
    let close = [&[0, 20, 0, 40, 1, 148][..], &short_of(b"caf\xc3"), &[0, 60, 0, 20]].concat();
    let made = [&[0, 20, 0, 40, 1, 148][..], &short_of(b"caf%C3"), &[0, 60, 0, 20]].concat();
    assert_eq!(method(&close), Some(made));
    assert_eq!(method(&[0, 60]), None);
}
