//! Sends random messages of every kind that AMQP can express, and some that it cannot. Each is
//! handed over once.

use std::collections::BTreeMap;

use longhaul::config::QueueKind;
use longhaul::connect::rabbitmq::table;
use longhaul::delivery::{Mark, Settlement};
use longhaul::event::{Origin, Value};
use longhaul::publish::Publisher as _;
use longhaul::publish::copy::{Parked, copy};
use longhaul::publish::rabbitmq::Publisher;
use longhaul::source::rabbitmq::Source;
use longhaul::source::{Command, Delivery, SourceEvent};

use super::raw::{RawMessage, RawProducer, long, nested, short};
use crate::support::bridge::Bridge;
use crate::support::eventually;
use crate::support::rabbitmq::{Queue, brokers, connection};

/// The number of messages; `LONGHAUL_TEST_MESSAGES` sets another one, such as 20000.
const MESSAGES: usize = 2000;
/// The number of messages at once, within the prefetch.
const BATCH: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn random_messages_are_all_handed_over_and_survive_a_copy() {
    let count = std::env::var("LONGHAUL_TEST_MESSAGES").map_or(MESSAGES, |count| count.parse().unwrap());
    for url in brokers() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let queue = Queue::create(&url, QueueKind::Classic).await;
        let copies = Queue::create(&url, QueueKind::Classic).await;
        let to_copies =
            longhaul::config::RabbitmqTarget { queue: Some(copies.name.clone()), ..Default::default() };
        let to_copies = Publisher::new(connection(&url), &to_copies);
        let mut producer = RawProducer::connect(&url).await;
        let mut bridge = Bridge::start(Source::new(queue.source(&url, 100)));
        let mut taken = BTreeMap::new();
        let mut numbers = (0..count).peekable();
        while numbers.peek().is_some() {
            let messages = numbers.by_ref().take(BATCH).map(|number| RawMessage {
                routing_key: queue.name.clone().into_bytes(),
                properties: properties(&mut random),
                body: number.to_be_bytes().to_vec(),
            });
            let messages: Vec<_> = messages.collect();
            producer.publish_all("", &messages).await;
            for (index, delivery) in bridge.deliveries(messages.len()).await.into_iter().enumerate() {
                *taken.entry(delivery.message.body.clone()).or_insert(0) += 1;
                assert!(delivery.outline.kept_bytes >= delivery.outline.body_bytes);
                // Everything that was read can be written again.
                if index == 0 {
                    copied(&copies, &to_copies, &delivery).await;
                }
                bridge.command(Command::Settle { delivery: delivery.outline.id, how: Settlement::Ack });
            }
        }
        assert!(taken.len() == count && taken.values().all(|times| *times == 1));
        let history = bridge.close().await;
        assert!(!history.iter().any(|event| matches!(event, SourceEvent::Lost { .. })));
        eventually("nothing to be left", async || queue.ready().await == 0).await;
        queue.delete().await;
        copies.delete().await;
    }
}

async fn copied(copies: &Queue, to_copies: &Publisher, delivery: &Delivery) {
    let outgoing = copy(&delivery.message, "name", Mark([7; 16]), "seal", 1, None, Parked(false));
    to_copies.publish(outgoing).await.unwrap_or_else(|error| panic!("{error}: {delivery:?}"));
    let Origin::Rabbitmq(origin) = &delivery.message.origin else { panic!("{delivery:?}") };
    let written = copies.get().await.expect("written");
    assert_eq!(written.data, delivery.message.body);
    let id = written.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
    assert_eq!(id, origin.properties.message_id);
    // Every header has its type again.
    let is_brokers = |name: &str| name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"));
    let ours = ["longhaul-id", "longhaul-attempts", "longhaul-copy", "longhaul-seal", "longhaul-copied-id"];
    let kept = |headers: &[(String, Value)]| -> Vec<(String, Value)> {
        let kept = headers.iter().filter(|(name, _)| !is_brokers(name) && !ours.contains(&name.as_str()));
        kept.cloned().collect()
    };
    let made = written.properties.headers().as_ref().map(table::headers).unwrap_or_default();
    assert_eq!(kept(&made), kept(&delivery.message.headers));
}

/// Returns flags and properties, without those that the server checks itself (expiration, user_id,
/// delivery_mode).
pub fn properties(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut flags = 0u16;
    let mut made = Vec::new();
    for (bit, kind) in [
        (15, 's'),
        (14, 's'),
        (13, 't'),
        (11, 'p'),
        (10, 's'),
        (9, 's'),
        (7, 's'),
        (6, 'T'),
        (5, 's'),
        (3, 's'),
        (2, 's'),
    ] {
        // A server reads these itself: a priority above 127 is allowed, and a timestamp may be any
        // number.
        if random.u8(..3) > 0 {
            continue;
        }
        flags |= 1 << bit;
        match kind {
            's' => made.extend(short(&bytes(random, 255))),
            't' => made.extend(long(&table(random, 4))),
            'p' => made.push(random.u8(..=255)),
            _ => made.extend(random.u64(..1 << 40).to_be_bytes()),
        }
    }
    [&flags.to_be_bytes()[..], &made].concat()
}

fn bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    let most = if random.bool() { most.min(8) } else { most };
    let length = random.usize(..=most);
    let text = random.u8(..4) > 0;
    (0..length).map(|_| if text { random.u8(b' '..127) } else { random.u8(..) }).collect()
}

fn table(random: &mut fastrand::Rng, depth: usize) -> Vec<u8> {
    let mut made = Vec::new();
    for number in 0..random.u8(..5) {
        let mut name = bytes(random, 60);
        name.push(number);
        // These are orders to the server.
        if !matches!(&name[..], b"CC" | b"BCC") {
            made.extend(short(&name));
            made.extend(value(random, depth));
        }
    }
    made
}

fn value(random: &mut fastrand::Rng, depth: usize) -> Vec<u8> {
    let kinds = b"tbBsuIilfdDSTVxFAn";
    let kind = kinds[random.usize(..kinds.len())];
    let number = random.u64(..).to_be_bytes();
    let payload = match kind {
        b't' => vec![random.u8(..2)],
        b'b' | b'B' => vec![random.u8(..)],
        b's' | b'u' => number[..2].to_vec(),
        b'I' | b'i' => number[..4].to_vec(),
        b'f' => random.f32().to_be_bytes().to_vec(),
        b'd' => random.f64().to_be_bytes().to_vec(),
        b'D' => number[..5].to_vec(),
        b'l' | b'T' => number.to_vec(),
        b'S' | b'x' => long(&bytes(random, 300)),
        b'F' if depth > 0 => long(&table(random, depth - 1)),
        b'A' if depth > 0 => {
            let values: Vec<u8> = (0..random.u8(..4)).flat_map(|_| value(random, depth - 1)).collect();
            long(&values)
        }
        b'n' => return nested(if random.bool() { b'A' } else { b'F' }, random.usize(..200)),
        _ => return vec![b'V'],
    };
    [&[kind][..], &payload].concat()
}
