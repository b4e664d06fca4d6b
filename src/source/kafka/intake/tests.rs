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
        order_key: None,
    };
    let origin = Origin::Rabbitmq(RabbitmqOrigin::default());
    let message = Message { body: bytes::Bytes::new(), headers: Vec::new(), origin };
    Delivery { outline, message: Arc::new(message) }
}

fn filled(room: usize, records: usize) -> (Intake, mpsc::Receiver<Delivery>) {
    let (sender, receiver) = mpsc::channel(room);
    let mut intake = Intake::new(sender);
    (0..records as u64).for_each(|tag| intake.push(delivery(1, tag, 10)));
    (intake, receiver)
}

fn hand_over(intake: &mut Intake) {
    intake.hand_over(&mut Context::from_waker(Waker::noop()));
}

#[test]
fn stops_polling_then_pauses_then_resumes_at_half() {
    let (mut intake, mut bridge) = filled(1, AHEAD + 1);
    let start = Instant::now();
    hand_over(&mut intake);
    intake.adjust(start);
    assert!(!intake.may_poll() && !intake.holds_all());
    assert_eq!(intake.next_change(), Some(start + GRACE));
    intake.adjust(start + GRACE);
    assert!(intake.may_poll() && intake.holds_all());
    while intake.len() > AHEAD / 2 {
        assert!(intake.holds_all());
        bridge.try_recv().unwrap();
        hand_over(&mut intake);
        intake.adjust(start + GRACE);
    }
    assert!(!intake.holds_all());
}

#[test]
fn room_within_the_grace_pauses_nothing() {
    let (mut intake, mut bridge) = filled(1, AHEAD + 1);
    let start = Instant::now();
    hand_over(&mut intake);
    intake.adjust(start);
    bridge.try_recv().unwrap();
    hand_over(&mut intake);
    intake.adjust(start + GRACE);
    assert!(intake.may_poll() && !intake.holds_all());
}

#[test]
fn large_records_fill_it_by_their_bytes() {
    let (mut intake, _bridge) = filled(1, 1);
    hand_over(&mut intake);
    intake.push(delivery(1, 7, AHEAD_BYTES));
    intake.adjust(Instant::now());
    assert!(!intake.may_poll());
}

#[test]
fn a_lost_session_takes_its_records_along() {
    let (mut intake, mut bridge) = filled(4, 2);
    intake.push(delivery(2, 9, 10));
    assert_eq!(intake.forget(Epoch(1)), 2);
    hand_over(&mut intake);
    assert_eq!(bridge.try_recv().unwrap().outline.id, DeliveryId { epoch: Epoch(2), tag: 9 });
    assert!(bridge.try_recv().is_err());
}

#[test]
fn nothing_follows_a_stop() {
    let (mut intake, mut bridge) = filled(4, 2);
    assert_eq!(intake.stop().count(), 2);
    intake.push(delivery(1, 3, 10));
    hand_over(&mut intake);
    intake.adjust(Instant::now());
    assert!(bridge.try_recv().is_err() && intake.may_poll() && intake.holds_all());
}
