//! Feeds any bytes to the functions that read bytes from outside. None may panic, and a text that
//! was read must survive being written and read again.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use longhaul::config::{self, Features};
use longhaul::delivery::Identity;
use longhaul::event::{self, KafkaOrigin, Message, Origin, RabbitmqOrigin, Value};
use longhaul::peers::{Claim, InFlight, Release, Stay, Verdict};
use longhaul::source::kafka::metadata;
use longhaul::source::kafka::tracker::{Snapshot, Tracker};

/// Reads the metadata of a committed offset. The first byte is the offset.
pub fn metadata(data: &[u8]) {
    let (offset, text) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let Ok(Some(map)) = metadata::decode(text, offset.into()) else { return };
    let snapshot = Snapshot { base: map.base, end: map.end, incomplete: map.incomplete.clone(), change: 0 };
    let written = metadata::encode(map.log.unwrap_or_default(), &snapshot, usize::MAX);
    let again = metadata::decode(written.as_bytes(), map.base);
    assert!(again.is_ok_and(|again| again.is_some_and(|again| again.incomplete == map.incomplete)));
    let _ = Tracker::restore(map.base, map.end, &map.incomplete);
}

/// Reads a message of both brokers, and a worker's answer. Each line is `name: value`; an empty
/// line ends the headers.
pub fn event(data: &[u8]) {
    let (head, body) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &data[..0]),
    };
    let lines = head.split(|byte| *byte == b'\n');
    let pairs: Vec<(String, &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((String::from_utf8_lossy(&line[..colon]).into_owned(), line[colon + 1..].trim_ascii()))
        })
        .collect();
    let body = Bytes::copy_from_slice(body);
    let value = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes(Bytes::copy_from_slice(bytes)),
    };
    let headers: Vec<(String, Value)> =
        pairs.iter().map(|(name, bytes)| (name.clone(), value(bytes))).collect();
    let mut rabbitmq = RabbitmqOrigin::default();
    rabbitmq.properties.content_type =
        pairs.first().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
    for origin in [Origin::Rabbitmq(rabbitmq), Origin::Kafka(KafkaOrigin::default())] {
        let message = Message { body: body.clone(), headers: headers.clone(), origin };
        let _ = event::decode(&message, || "fuzz".to_owned());
    }
    let mut answer = HeaderMap::new();
    for (name, bytes) in &pairs {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(bytes)) = (name, HeaderValue::from_bytes(bytes)) {
            answer.append(name, bytes);
        }
    }
    let _ = event::decode_response(&answer, &body);
}

/// Reads a configuration file. A refusal must name a mistake.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let features = Features { kafka: true, kafka_tls: true, guard: true };
    if let Err(mistakes) = config::load("fuzz.yaml", &text, features, &|_| None) {
        assert!(!mistakes.list.is_empty(), "refused without a mistake");
        let _ = mistakes.to_string();
    }
}

/// Reads the questions of replicas, and the result that they hand over.
pub fn wire(data: &[u8]) {
    let _ = serde_json::from_slice::<Claim>(data);
    let _ = serde_json::from_slice::<InFlight>(data);
    let _ = serde_json::from_slice::<Stay>(data);
    let _ = serde_json::from_slice::<Release>(data);
    if let Ok(verdict) = serde_json::from_slice::<Verdict>(data)
        && verdict != Verdict::New
    {
        let written = serde_json::to_vec(&verdict).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Verdict>(&written).ok(), Some(verdict));
    }
}

/// Reads the identity of an item, as peers send it.
pub fn identity(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(identity) = Identity::parse(&text) {
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    }
}
