use std::sync::Arc;
use std::task::Waker;

use super::*;
use crate::delivery::{DeliveryId, Identity, Outline};
use crate::event::{Message, Origin, RabbitmqOrigin};

fn delivery(epoch: u64, tag: u64, bytes: u64) -> Delivery {
    let outline = Outline {
        near_limit: false,
        ask_peers: false,
        id: DeliveryId { epoch: Epoch(epoch), tag },
        identity: Identity::numbered(tag.into()),
        redelivered: false,
        attempts_before: 0,
        body_bytes: bytes,
        kept_bytes: bytes,
        shared: false,
        undecodable: false,
        order_key: None,
    };
    let origin = Origin::Rabbitmq(RabbitmqOrigin::default());
    let message = Message { body: bytes::Bytes::new(), headers: Vec::new(), origin };
    Delivery { outline, message: Arc::new(message) }
}

fn filled(room: usize, records: usize) -> (Intake, mpsc::Receiver<Delivery>, Instant) {
    let (sender, receiver) = mpsc::channel(room);
    let start = Instant::now();
    let mut intake = Intake::new(sender, start);
    (0..records as u64).for_each(|tag| intake.push(delivery(1, tag, 10)));
    (intake, receiver, start)
}

fn hand_over(intake: &mut Intake) {
    intake.hand_over(&mut Context::from_waker(Waker::noop()), |_| false);
}

fn epoch_of_next(bridge: &mut mpsc::Receiver<Delivery>) -> Option<u64> {
    bridge.try_recv().ok().map(|delivery| delivery.outline.id.epoch.0)
}

#[test]
fn stops_polling_then_pauses_then_resumes_at_half() {
    let (mut intake, mut bridge, start) = filled(1, AHEAD + 1);
    hand_over(&mut intake);
    intake.adjust(1, start);
    assert!(!intake.may_poll() && !intake.holds(Epoch(1)));
    assert_eq!(intake.next_change(), Some(start + GRACE));
    intake.adjust(1, start + GRACE);
    assert!(intake.may_poll() && intake.holds(Epoch(1)));
    while intake.len() > AHEAD / 2 {
        assert!(intake.holds(Epoch(1)));
        bridge.try_recv().unwrap();
        hand_over(&mut intake);
        intake.adjust(1, start + GRACE);
    }
    assert!(!intake.holds(Epoch(1)));
}

#[test]
fn room_within_the_grace_pauses_nothing() {
    let (mut intake, mut bridge, start) = filled(1, AHEAD + 1);
    hand_over(&mut intake);
    intake.adjust(1, start);
    bridge.try_recv().unwrap();
    hand_over(&mut intake);
    intake.adjust(1, start + GRACE);
    assert!(intake.may_poll() && !intake.holds(Epoch(1)));
}

#[test]
fn large_records_fill_it_by_their_bytes() {
    let (mut intake, _bridge, start) = filled(1, 1);
    hand_over(&mut intake);
    intake.push(delivery(1, 7, AHEAD_BYTES));
    intake.adjust(1, start);
    assert!(!intake.may_poll());
}

/// The only record of a partition goes out next, however many records of others came before it.
#[test]
fn lanes_take_turns() {
    let (mut intake, mut bridge, _) = filled(1, AHEAD);
    intake.push(delivery(2, 0, 10));
    intake.push(delivery(3, 0, 10));
    let mut epochs = Vec::new();
    for _ in 0..5 {
        hand_over(&mut intake);
        epochs.extend(epoch_of_next(&mut bridge));
    }
    assert_eq!(epochs, [1, 2, 3, 1, 1]);
}

/// A full lane is paused, so that records behind its own in the queue can be polled; the others are
/// not paused.
#[test]
fn only_full_lanes_are_paused() {
    let (mut intake, _bridge, start) = filled(1, AHEAD);
    intake.push(delivery(2, 0, 10));
    intake.adjust(2, start);
    intake.adjust(2, start + GRACE);
    assert!(intake.may_poll() && intake.holds(Epoch(1)) && !intake.holds(Epoch(2)));
}

/// Quick work makes room within every grace, and so could hide other partitions without end.
#[test]
fn a_queue_whose_end_was_not_seen_is_looked_through() {
    let (mut intake, mut bridge, start) = filled(1, AHEAD - 1);
    intake.adjust(2, start + BLIND / 2);
    assert!(!intake.holds(Epoch(1)));
    intake.adjust(2, start + BLIND);
    assert!(intake.holds(Epoch(1)) && intake.may_poll());
    intake.saw_end(start + BLIND);
    while bridge.try_recv().is_ok() || intake.len() > AHEAD / 4 {
        hand_over(&mut intake);
    }
    intake.adjust(2, start + BLIND);
    assert!(!intake.holds(Epoch(1)));
    // A single partition cannot hide another one.
    let (mut alone, _bridge, start) = filled(1, AHEAD - 1);
    alone.adjust(1, start + BLIND);
    assert!(!alone.holds(Epoch(1)));
}

/// A partition with refused commits starts nothing, and delays no other.
#[test]
fn a_lane_that_waits_keeps_its_records() {
    let (mut intake, mut bridge, _) = filled(8, 2);
    intake.push(delivery(2, 0, 10));
    intake.hand_over(&mut Context::from_waker(Waker::noop()), |epoch| epoch == Epoch(1));
    assert_eq!((epoch_of_next(&mut bridge), epoch_of_next(&mut bridge)), (Some(2), None));
    hand_over(&mut intake);
    assert_eq!((epoch_of_next(&mut bridge), epoch_of_next(&mut bridge)), (Some(1), Some(1)));
}

#[test]
fn a_lost_session_takes_its_records_along() {
    let (mut intake, mut bridge, _) = filled(4, 2);
    intake.push(delivery(2, 9, 10));
    assert_eq!(intake.forget(Epoch(1)), 2);
    hand_over(&mut intake);
    assert_eq!(bridge.try_recv().unwrap().outline.id, DeliveryId { epoch: Epoch(2), tag: 9 });
    assert!(bridge.try_recv().is_err());
}

#[test]
fn nothing_follows_a_stop() {
    let (mut intake, mut bridge, start) = filled(4, 2);
    assert_eq!(intake.stop().count(), 2);
    intake.push(delivery(1, 3, 10));
    hand_over(&mut intake);
    intake.adjust(1, start);
    assert!(bridge.try_recv().is_err() && intake.may_poll() && intake.holds(Epoch(1)));
}
