//! Writes and settlements, one by one: a write is repeated until it is confirmed, and an ack counts
//! when the broker has proven it.

use crate::bed::{Bed, ITEM, identity};
use longhaul_delivery::{
    ClaimId, Command, DeliveryId, Effect, Epoch, Handed, Input, Outcome, Reason, Settlement, Standing,
    Targets, Write, Written,
};

const FIRST: DeliveryId = DeliveryId { epoch: Epoch(1), tag: 1 };

fn with_targets() -> Bed {
    let mut bed = Bed::with(|policy| {
        policy.targets = Targets { dead_letter: true, reply: true, park: false };
        policy.peers = true;
    });
    bed.receive(1, 1, None, false);
    bed
}

fn written(bed: &mut Bed, written: Written) {
    bed.tell(Input::Written { item: ITEM, written });
}

#[test]
fn a_dead_letter_is_written_until_it_is_confirmed() {
    let mut bed = with_targets();
    bed.complete(ITEM, Outcome::Rejected);
    let letter = bed.write();
    assert_eq!(letter, Some(Write::DeadLetter { reason: Reason::Rejected, attempts: 1 }));
    let mut waits = Vec::new();
    for _ in 0..3 {
        written(&mut bed, Written::Failed);
        let next = bed.core.poll_timeout().expect("the time of the next write");
        waits.push(next - bed.now);
        bed.now = next;
        bed.tell(Input::Timer);
        assert_eq!(bed.write(), letter);
    }
    assert!(waits[0] < waits[1] && waits[1] < waits[2], "each wait is longer: {waits:?}");
    written(&mut bed, Written::Confirmed);
    assert_eq!(bed.settled(), [(1, Settlement::Ack)]);
}

#[test]
fn a_reply_that_can_never_be_written_becomes_a_dead_letter() {
    for (end, reason) in [(Written::TooLarge, Reason::TooLarge), (Written::Impossible, Reason::Rejected)] {
        let mut bed = with_targets();
        bed.complete(ITEM, Outcome::Done);
        assert_eq!(bed.write(), Some(Write::Reply));
        written(&mut bed, end);
        assert_eq!(bed.write(), Some(Write::DeadLetter { reason, attempts: 1 }));
    }
}

#[test]
fn a_drain_returns_an_item_whose_write_fails() {
    let mut bed = with_targets();
    bed.complete(ITEM, Outcome::Rejected);
    bed.tell(Input::Drain);
    written(&mut bed, Written::Failed);
    assert_eq!(bed.settled(), [(1, Settlement::Return)]);
}

#[test]
fn a_claimed_item_is_handed_over_after_its_reply() {
    let mut bed = with_targets();
    bed.tell(Input::SessionLost(Epoch(1)));
    let claim = ClaimId(1);
    bed.tell(Input::Claim { claim, identity: identity(1) });
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.write(), Some(Write::Reply));
    written(&mut bed, Written::Failed);
    bed.now = bed.core.poll_timeout().expect("the time of the next write");
    bed.tell(Input::Timer);
    assert_eq!(bed.write(), Some(Write::Reply));
    written(&mut bed, Written::Confirmed);
    let handed = Command::AnswerClaim { claim, standing: Standing::Handed(Handed::Done) };
    assert!(bed.effects.contains(&Effect::Do(handed)), "{:?}", bed.effects);
}

#[test]
fn an_ack_is_remembered_until_it_is_proven() {
    let acked = || {
        let mut bed = Bed::new();
        bed.receive(1, 1, None, false);
        bed.complete(ITEM, Outcome::Done);
        assert_eq!(bed.settled(), [(1, Settlement::Ack)]);
        bed.tell(Input::Settled { delivery: FIRST, stale: false });
        bed
    };
    let again = |bed: &mut Bed| {
        bed.tell(Input::SessionLost(Epoch(1)));
        bed.tell(Input::SessionUp(Epoch(2)));
        bed.receive(2, 1, None, false);
    };

    let mut bed = acked();
    again(&mut bed);
    assert!(bed.started().is_empty(), "the work is done");
    assert_eq!(bed.settled(), [(1, Settlement::Ack)]);

    let mut bed = acked();
    bed.tell(Input::AckConfirmed { delivery: FIRST });
    again(&mut bed);
    assert_eq!(bed.started().len(), 1, "the broker has forgotten the first, so this is another item");
}

#[test]
fn a_session_that_ends_returns_the_items_that_did_not_start() {
    let mut bed = Bed::new();
    bed.receive(1, 1, Some(7), false);
    bed.receive(1, 2, Some(7), false);
    bed.tell(Input::SessionEnding(Epoch(1)));
    assert_eq!(bed.settled(), [(2, Settlement::Return)]);
}
