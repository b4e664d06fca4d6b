//! The promises of every source, checked on each of them: the fake, RabbitMQ and Kafka.
//!
//! A source joins by implementing [`Harness`] and by one line of [`contract!`].

mod kafka;
mod memory;
mod rabbitmq;

use std::collections::{BTreeMap, BTreeSet};

use longhaul::delivery::Settlement;
use longhaul::source::{Command, Delivery, Settled, Source, SourceEvent};

use crate::support::bridge::Bridge;
use crate::support::eventually;

/// A broker with one empty queue (or topic) of its own.
pub trait Harness {
    type Source: Source;

    /// Whether the broker marks an item that it hands over again.
    const REDELIVERED_FLAG: bool;
    /// Whether an item that is returned comes again in the same session.
    const RETURNED_COMES_AGAIN: bool;

    async fn produce(&self, bodies: &[String]);
    fn source(&self, max_in_flight: u16) -> Self::Source;
    /// Waits until the broker has this many acks of a connected source.
    async fn acked(&self, count: u64);
    /// Breaks the connection under the source, so that its session is lost.
    async fn cut(&self);
    /// Returns the items that the broker still has, once no source is connected.
    async fn left(&self) -> u64;
    async fn clean_up(self);
}

/// Makes a test of each promise. It runs with each of these harnesses in turn.
macro_rules! contract {
    ($harnesses:expr) => {
        contract!(@each $harnesses; delivers_everything_once, bounds_what_is_unsettled, returned_items_come_again,
            a_cut_loses_the_session_once, a_settle_of_a_lost_session_settles_nothing,
            a_second_settle_is_stale, stopped_intake_still_settles, close_leaves_nothing_behind,
            acks_and_returns_do_not_mix, items_alike_are_separate_items);
    };
    (@each $harnesses:expr; $($promise:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            for harness in $harnesses {
                crate::contract::$promise(harness).await;
            }
        })*
    };
}
pub(crate) use contract;

fn items(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("item {number}")).collect()
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).expect("the tests produce text")
}

async fn nothing_left(harness: &impl Harness) {
    eventually("the broker to have nothing left", async || harness.left().await == 0).await;
}

async fn delivers_everything_once<H: Harness>(harness: H) {
    let wanted = items(50);
    harness.produce(&wanted).await;
    let mut bridge = Bridge::start(harness.source(7));
    let epoch = bridge.up().await;
    let mut bodies = BTreeSet::new();
    for _ in 0..50 {
        let delivery = bridge.delivery().await;
        assert_eq!(delivery.outline.id.epoch, epoch);
        assert!(!delivery.outline.redelivered);
        assert_eq!(delivery.outline.attempts_before, 0);
        assert_eq!(delivery.outline.body_bytes, delivery.message.body.len() as u64);
        assert!(bodies.insert(body(&delivery)), "{} came twice", body(&delivery));
        assert_eq!(bridge.settle(delivery.outline.id, Settlement::Ack).await, Settled::Sent);
    }
    assert_eq!(bodies, wanted.into_iter().collect());
    bridge.nothing_comes().await;
    let history = bridge.close().await;
    assert!(!history.iter().any(|event| matches!(event, SourceEvent::Lost { .. })), "{history:?}");
    nothing_left(&harness).await;
    harness.clean_up().await;
}

async fn bounds_what_is_unsettled<H: Harness>(harness: H) {
    harness.produce(&items(20)).await;
    let mut bridge = Bridge::start(harness.source(4));
    let mut held = bridge.deliveries(4).await;
    bridge.nothing_comes().await;
    // A settle in the middle makes room for exactly one more delivery.
    for _ in 0..3 {
        let settled = held.remove(1);
        bridge.settle(settled.outline.id, Settlement::Ack).await;
        held.push(bridge.delivery().await);
        bridge.nothing_comes().await;
    }
    bridge.close().await;
    eventually("all but three to be left", async || harness.left().await == 17).await;
    harness.clean_up().await;
}

async fn returned_items_come_again<H: Harness>(harness: H) {
    harness.produce(&items(1)).await;
    let mut bridge = Bridge::start(harness.source(1));
    let first = bridge.delivery().await;
    assert_eq!(bridge.settle(first.outline.id, Settlement::Return).await, Settled::Sent);
    if H::RETURNED_COMES_AGAIN {
        let again = bridge.delivery().await;
        assert_eq!(again.outline.identity, first.outline.identity);
        assert_ne!(again.outline.id, first.outline.id);
        assert_eq!(again.outline.redelivered, H::REDELIVERED_FLAG);
        bridge.settle(again.outline.id, Settlement::Ack).await;
        bridge.nothing_comes().await;
    }
    bridge.close().await;
    harness.clean_up().await;
}

async fn a_cut_loses_the_session_once<H: Harness>(harness: H) {
    harness.produce(&items(6)).await;
    let mut bridge = Bridge::start(harness.source(4));
    let first = bridge.up().await;
    let held = bridge.deliveries(4).await;
    bridge.settle(held[0].outline.id, Settlement::Ack).await;
    bridge.delivery().await;
    harness.acked(1).await;

    harness.cut().await;
    assert_eq!(bridge.loss().await.0, first);
    let second = bridge.up().await;
    assert!(second > first, "{second} is not later than {first}");

    // An unsettled item comes again with the same identity. An acked item does not come again.
    let mut again = BTreeMap::new();
    for _ in 0..5 {
        let delivery = bridge.delivery().await;
        assert_eq!(delivery.outline.id.epoch, second);
        bridge.settle(delivery.outline.id, Settlement::Ack).await;
        again.insert(body(&delivery), delivery);
    }
    assert!(!again.contains_key(&body(&held[0])));
    for before in &held[1..] {
        let delivery = &again[&body(before)];
        assert_eq!(delivery.outline.identity, before.outline.identity);
        assert_eq!(delivery.outline.redelivered, H::REDELIVERED_FLAG);
    }
    bridge.nothing_comes().await;
    let history = bridge.close().await;
    let losses = history.iter().filter(|event| matches!(event, SourceEvent::Lost { .. }));
    assert_eq!(losses.count(), 1, "{history:?}");
    nothing_left(&harness).await;
    harness.clean_up().await;
}

async fn a_settle_of_a_lost_session_settles_nothing<H: Harness>(harness: H) {
    harness.produce(&items(2)).await;
    let mut bridge = Bridge::start(harness.source(2));
    let old = bridge.deliveries(2).await;
    harness.cut().await;
    bridge.loss().await;
    bridge.up().await;
    let new = bridge.deliveries(2).await;
    // Tags start at 1 in each session: without the epoch these would settle the new deliveries.
    for delivery in &old {
        assert_eq!(bridge.settle(delivery.outline.id, Settlement::Ack).await, Settled::Stale);
    }
    assert_eq!(bridge.settle(new[0].outline.id, Settlement::Ack).await, Settled::Sent);
    bridge.close().await;
    eventually("the one that was not settled to be left", async || harness.left().await == 1).await;
    harness.clean_up().await;
}

async fn a_second_settle_is_stale<H: Harness>(harness: H) {
    harness.produce(&items(2)).await;
    let mut bridge = Bridge::start(harness.source(1));
    let first = bridge.delivery().await;
    assert_eq!(bridge.settle(first.outline.id, Settlement::Ack).await, Settled::Sent);
    assert_eq!(bridge.settle(first.outline.id, Settlement::Return).await, Settled::Stale);
    let second = bridge.delivery().await;
    assert_ne!(body(&second), body(&first));
    bridge.settle(second.outline.id, Settlement::Ack).await;
    let history = bridge.close().await;
    assert!(!history.iter().any(|event| matches!(event, SourceEvent::Lost { .. })), "{history:?}");
    nothing_left(&harness).await;
    harness.clean_up().await;
}

async fn stopped_intake_still_settles<H: Harness>(harness: H) {
    harness.produce(&items(10)).await;
    let mut bridge = Bridge::start(harness.source(5));
    let held = bridge.deliveries(3).await;
    bridge.stop_intake().await;
    let leftover = bridge.leftover();
    for delivery in held.iter().chain(&leftover) {
        assert_eq!(bridge.settle(delivery.outline.id, Settlement::Ack).await, Settled::Sent);
    }
    bridge.nothing_comes().await;
    bridge.close().await;
    let left = 10 - held.len() - leftover.len();
    eventually("the rest to be left", async || harness.left().await == left as u64).await;

    // The late settles damaged nothing, so another source gets the rest.
    let mut next = Bridge::start(harness.source(10));
    for delivery in next.deliveries(left).await {
        next.settle(delivery.outline.id, Settlement::Ack).await;
    }
    next.close().await;
    nothing_left(&harness).await;
    harness.clean_up().await;
}

async fn close_leaves_nothing_behind<H: Harness>(harness: H) {
    harness.produce(&items(100)).await;
    let mut bridge = Bridge::start(harness.source(100));
    // The order leaves gaps, for code that batches acks, and no answer is awaited in between.
    let mut held = bridge.deliveries(100).await;
    fastrand::Rng::with_seed(7).shuffle(&mut held);
    for delivery in &held {
        bridge.command(Command::Settle { delivery: delivery.outline.id, how: Settlement::Ack });
    }
    let history = bridge.close().await;
    let sent = |event: &&SourceEvent| matches!(event, SourceEvent::Settled { settled: Settled::Sent, .. });
    assert_eq!(history.iter().filter(sent).count(), 100);
    nothing_left(&harness).await;
    harness.clean_up().await;
}

async fn acks_and_returns_do_not_mix<H: Harness>(harness: H) {
    harness.produce(&items(40)).await;
    let mut bridge = Bridge::start(harness.source(40));
    let held = bridge.deliveries(40).await;
    // No answer is awaited in between, so a frame with several acks must not ack a returned
    // delivery too.
    for (number, delivery) in held.iter().enumerate() {
        let how = if number % 4 == 1 { Settlement::Return } else { Settlement::Ack };
        bridge.command(Command::Settle { delivery: delivery.outline.id, how });
    }
    bridge.stop_intake().await;
    bridge.close().await;
    eventually("exactly the returned ones to be left", async || harness.left().await == 10).await;
    harness.clean_up().await;
}

async fn items_alike_are_separate_items<H: Harness>(harness: H) {
    harness.produce(&vec!["the same".to_owned(); 3]).await;
    let mut bridge = Bridge::start(harness.source(3));
    let held = bridge.deliveries(3).await;
    bridge.settle(held[1].outline.id, Settlement::Ack).await;
    bridge.close().await;
    eventually("one ack to settle one item", async || harness.left().await == 2).await;
    harness.clean_up().await;
}
