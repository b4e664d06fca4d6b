//! The items in hand fill the slots or the memory: `max_in_flight` small items, and as many large
//! ones as `limits.held_bytes` allows.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use longhaul::config::QueueKind;
use longhaul::delivery::Settlement;
use longhaul::source::Delivery;
use longhaul::source::rabbitmq::{Settings, Source};

use crate::support::bridge::Bridge;
use crate::support::rabbitmq::{Queue, address, brokers, through};
use crate::support::relay::Relay;

const KIB: u64 = 1024;
const HELD_BYTES: u64 = 1024 * KIB;
const SLOTS: u16 = 100;

async fn publish(queue: &Queue, count: usize, bytes: u64) {
    for number in 0..count {
        let mut body = number.to_string().into_bytes();
        body.resize(bytes as usize, b'x');
        queue.publish(&body, BasicProperties::default()).await;
    }
}

fn bytes(deliveries: &[Delivery]) -> u64 {
    deliveries.iter().map(|delivery| delivery.outline.kept_bytes).sum()
}

#[tokio::test]
async fn items_in_hand_fill_the_slots_or_the_memory() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let relay = Relay::start(address(&url)).await;
        let mut settings = queue.source(&through(&url, relay.port()), SLOTS);
        settings.held_bytes = Some(HELD_BYTES);
        publish(&queue, 120, 10).await;
        let mut bridge = Bridge::start(Source::new(settings));
        let small = bridge.deliveries(SLOTS.into()).await;
        bridge.nothing_comes().await;

        // Several consumers of one connection are not strangers to each other.
        relay.cut_all();
        bridge.loss().await;
        let again = bridge.deliveries(SLOTS.into()).await;
        assert!(again.iter().all(|item| !item.outline.shared), "{:?}", again.last());
        assert_eq!(small.len(), again.len());

        // All slots become free at once, and the items behind are large.
        publish(&queue, 100, 60 * KIB).await;
        for item in again {
            bridge.settle(item.outline.id, Settlement::Ack).await;
        }
        let (mut held, mut done, mut most) = (Vec::new(), usize::from(SLOTS), 0);
        while done < 220 {
            match bridge.delivery_within(Duration::from_millis(300)).await {
                Some(delivery) => held.push(delivery),
                None => {
                    assert!(!held.is_empty(), "an item is in hand or comes");
                    most = most.max(bytes(&held));
                    done += held.len();
                    for item in held.drain(..) {
                        bridge.settle(item.outline.id, Settlement::Ack).await;
                    }
                }
            }
        }
        assert!(most > HELD_BYTES / 2, "{most}");
        assert!(most <= 2 * HELD_BYTES, "{most}");
        bridge.close().await;
        assert_eq!(queue.ready().await, 0);
        queue.delete().await;
    }
}

/// Nobody tells longhaul that the queue has a single active consumer.
#[tokio::test]
async fn a_single_active_consumer_takes_items_for_all_slots() {
    for url in brokers() {
        for kind in [QueueKind::Classic, QueueKind::Quorum] {
            let queue = Queue::create_single(&url, kind).await;
            let relay = Relay::start(address(&url)).await;
            let mut settings = queue.source(&through(&url, relay.port()), SLOTS);
            settings.held_bytes = Some(HELD_BYTES);
            publish(&queue, 140, 10).await;
            let mut bridge = Bridge::start(Source::new(settings));
            let first = bridge.deliveries(SLOTS.into()).await;
            bridge.nothing_comes().await;
            for item in first {
                bridge.settle(item.outline.id, Settlement::Ack).await;
            }
            bridge.deliveries(40).await;

            // The next session knows the queue.
            relay.cut_all();
            bridge.loss().await;
            for item in bridge.deliveries(40).await {
                assert!(!item.outline.shared, "the source is the only consumer");
                bridge.settle(item.outline.id, Settlement::Ack).await;
            }
            bridge.close().await;
            assert_eq!(queue.ready().await, 0);
            queue.delete().await;
        }
    }
}

/// The other replica is first in line when the consumers of the active one are replaced.
#[tokio::test]
async fn replicas_of_a_single_active_queue_run_no_item_twice() {
    for url in brokers() {
        for kind in [QueueKind::Classic, QueueKind::Quorum] {
            let queue = Queue::create_single(&url, kind).await;
            let settings = || Settings { held_bytes: Some(HELD_BYTES), ..queue.source(&url, SLOTS) };
            let mut active = Bridge::start(Source::new(settings()));
            queue.publish(b"first", BasicProperties::default()).await;
            let first = active.deliveries(1).await;
            let mut other = Bridge::start(Source::new(settings()));
            other.up().await;
            publish(&queue, 139, 10).await;
            // Each replica in turn replaces its consumers, and keeps the item that it has.
            let mut ended = first;
            let second = other.deliveries(1).await;
            ended.extend(active.deliveries(99).await);
            active.nothing_comes().await;
            for item in &ended {
                active.settle(item.outline.id, Settlement::Ack).await;
            }
            let last = active.deliveries(39).await;
            for item in &last {
                active.settle(item.outline.id, Settlement::Ack).await;
            }
            for item in &second {
                other.settle(item.outline.id, Settlement::Ack).await;
            }
            let items = || ended.iter().chain(&second).chain(&last);
            assert!(items().all(|item| !item.outline.redelivered));
            let bodies: BTreeSet<_> = items().map(|item| item.message.body.clone()).collect();
            active.close().await;
            other.close().await;
            assert_eq!((bodies.len(), queue.ready().await), (140, 0));
            queue.delete().await;
        }
    }
}
