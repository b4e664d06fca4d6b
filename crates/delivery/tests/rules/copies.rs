//! Copies near the delivery limit: which of two deliveries is acked, and when a copy is written.

use crate::bed::{Bed, FAILED, ITEM, copy, delivery, message};
use longhaul_delivery::{
    AttemptEnd, ClaimId, Command, Digest, Effect, Epoch, Handed, Identity, Input, ItemId, Mark, Notice,
    Outcome, Outline, Settlement, Standing, Targets, Write, Written,
};

const ACK: Settlement = Settlement::Ack;

/// A running item whose delivery is near the limit, and the mark of its copy, which is being
/// written.
fn copying() -> (Bed, Mark) {
    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(Outline { near_limit: true, ..message(1, 1) }));
    assert_eq!((bed.started(), bed.copies().len()), (vec![ITEM], 1));
    let mark = bed.copies()[0];
    (bed, mark)
}

fn copy_written(bed: &mut Bed, written: Written) {
    bed.tell(Input::CopyWritten { item: ITEM, written });
}

fn settle(bed: &mut Bed, tag: u64, stale: bool) {
    bed.tell(Input::Settled { delivery: delivery(1, tag), stale });
}

#[test]
fn a_copy_that_was_not_confirmed_is_written_again() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, true);
    assert_eq!(bed.copies().len(), 1, "{:?}", bed.effects);
    let item = bed.started()[0];
    bed.tell(Input::CopyWritten { item, written: Written::Failed });
    assert_eq!(bed.copies().len(), 0);
    bed.wait();
    assert_eq!(bed.copies().len(), 1, "{:?}", bed.effects);
    bed.tell(Input::CopyWritten { item, written: Written::Impossible });
    assert_eq!(bed.core.poll_timeout(), None, "a copy that is never accepted is not written again");
}

#[test]
fn a_confirmed_copy_replaces_the_delivery() {
    let (mut bed, mark) = copying();
    copy_written(&mut bed, Written::Confirmed);
    assert_eq!(bed.settled(), [(1, ACK)]);
    assert!(bed.told(&Notice::Copied { item: ITEM }));
    bed.tell(Input::Received(copy(1, 2, mark)));
    assert!(bed.started().is_empty(), "its request runs");
    assert!(bed.did(&Command::Adopt { item: ITEM, delivery: delivery(1, 2) }));
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.settled(), [(2, ACK)]);
}

#[test]
fn a_copy_that_arrives_before_its_confirm_replaces_the_delivery() {
    let (mut bed, mark) = copying();
    bed.tell(Input::Received(copy(1, 2, mark)));
    assert_eq!(bed.settled(), [(1, ACK)]);
    assert!(bed.did(&Command::Adopt { item: ITEM, delivery: delivery(1, 2) }));
    assert!(bed.told(&Notice::Redundant { delivery: delivery(1, 1) }));
    copy_written(&mut bed, Written::Confirmed);
    assert!(bed.settled().is_empty(), "{:?}", bed.effects);
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.settled(), [(2, ACK)]);
}

#[test]
fn the_confirm_changes_nothing_for_an_item_that_is_being_settled() {
    let (mut bed, mark) = copying();
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.settled(), [(1, ACK)]);
    copy_written(&mut bed, Written::Confirmed);
    assert!(bed.settled().is_empty(), "{:?}", bed.effects);
    settle(&mut bed, 1, false);
    bed.tell(Input::Received(copy(1, 2, mark)));
    assert_eq!((bed.started(), bed.settled()), (vec![], vec![(2, ACK)]), "the copy is redundant");
}

#[test]
fn a_copy_whose_confirm_was_lost_replaces_the_delivery() {
    let (mut bed, mark) = copying();
    copy_written(&mut bed, Written::Failed);
    bed.tell(Input::Received(copy(1, 2, mark)));
    assert_eq!(bed.settled(), [(1, ACK)]);
    assert_eq!(bed.core.poll_timeout(), None, "no further copy is due");
}

#[test]
fn a_copy_that_was_refused_is_not_expected() {
    let (mut bed, mark) = copying();
    copy_written(&mut bed, Written::TooLarge);
    bed.tell(Input::Received(copy(1, 2, mark)));
    assert_eq!((bed.started(), bed.settled()), (vec![ItemId(2)], vec![]), "it is another item");
}

/// The first copy may be there although its confirm was lost, and the second one was refused.
#[test]
fn a_refused_copy_leaves_the_earlier_one_expected() {
    let (mut bed, first) = copying();
    copy_written(&mut bed, Written::Failed);
    bed.wait();
    let second = bed.copies()[0];
    assert_ne!(first, second);
    copy_written(&mut bed, Written::Impossible);
    bed.tell(Input::Received(copy(1, 2, first)));
    assert_eq!((bed.started(), bed.settled()), (vec![], vec![(1, ACK)]));
    bed.tell(Input::Received(copy(1, 3, second)));
    assert_eq!(bed.started(), [ItemId(2)]);
}

/// The present delivery is the copy that is being written, so an earlier copy is redundant.
#[test]
fn a_second_copy_is_redundant() {
    let (mut bed, first) = copying();
    copy_written(&mut bed, Written::Failed);
    bed.wait();
    let second = bed.copies()[0];
    bed.tell(Input::Received(copy(1, 2, second)));
    assert_eq!(bed.settled(), [(1, ACK)]);
    bed.tell(Input::Received(copy(1, 3, first)));
    assert_eq!(bed.settled(), [(3, ACK)]);
    copy_written(&mut bed, Written::Confirmed);
    assert!(bed.settled().is_empty());
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.settled(), [(2, ACK)]);
}

#[test]
fn a_copy_of_an_item_that_needs_none_is_redundant() {
    let (mut bed, first) = copying();
    copy_written(&mut bed, Written::Failed);
    bed.wait();
    let second = bed.copies()[0];
    copy_written(&mut bed, Written::Confirmed);
    bed.tell(Input::Received(copy(1, 2, second)));
    bed.tell(Input::Received(Outline { near_limit: true, ..copy(1, 3, first) }));
    assert_eq!((bed.settled(), bed.copies()), (vec![(3, ACK)], vec![]), "only the present delivery counts");
}

#[test]
fn a_copy_of_an_item_that_is_being_settled_is_redundant() {
    let (mut bed, mark) = copying();
    bed.complete(ITEM, Outcome::Done);
    bed.tell(Input::Received(copy(1, 2, mark)));
    assert_eq!(bed.settled(), [(2, ACK)]);
    assert!(!bed.did(&Command::Adopt { item: ITEM, delivery: delivery(1, 2) }));
}

#[test]
fn every_copy_has_a_mark_of_its_own_up_to_the_bound() {
    let (mut bed, first) = copying();
    let mut marks = vec![first];
    for _ in 0..20 {
        copy_written(&mut bed, Written::Failed);
        bed.wait();
        marks.push(bed.copies()[0]);
    }
    let last = marks[15];
    assert!(marks[16..].iter().all(|mark| *mark == last), "{marks:?}");
    marks.truncate(16);
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), 16);
}

/// The copy in the item's own queue waits for the end of the write of the parked copy.
#[test]
fn an_item_that_is_being_parked_gets_no_second_copy() {
    let parking = || {
        let mut bed = Bed::with(|policy| {
            policy.prefetched = true;
            policy.targets = Targets { park: true, ..Targets::default() };
        });
        bed.tell(Input::Received(message(1, 1)));
        bed.complete(ITEM, FAILED);
        assert!(matches!(bed.write(), Some(Write::Park { .. })));
        bed.reconnect(1);
        bed.tell(Input::Received(Outline { redelivered: true, near_limit: true, ..message(2, 1) }));
        assert!(bed.copies().is_empty(), "{:?}", bed.effects);
        bed
    };
    let mut bed = parking();
    bed.tell(Input::Written { item: ITEM, written: Written::Confirmed });
    assert_eq!(bed.settled(), [(1, ACK)]);
    bed.wait();
    assert!(bed.copies().is_empty() && bed.core.poll_timeout().is_none(), "{:?}", bed.effects);

    let mut bed = parking();
    bed.tell(Input::Written { item: ITEM, written: Written::Failed });
    while bed.copies().is_empty() {
        bed.wait();
    }
}

/// Another replica has the copy, so the delivery here is redundant.
#[test]
fn a_claim_on_the_copy_replaces_the_delivery() {
    let claim = |mark| Input::Claim {
        claim: ClaimId(1),
        identity: Identity::Copy { mark, content: Digest([1; 16]) },
    };
    let answer = |standing| Command::AnswerClaim { claim: ClaimId(1), standing };
    let (mut bed, mark) = copying();
    bed.tell(claim(mark));
    assert_eq!(bed.settled(), [(1, ACK)]);
    assert!(bed.did(&answer(Standing::Running)), "{:?}", bed.effects);

    let (mut bed, mark) = copying();
    copy_written(&mut bed, Written::Failed);
    bed.tell(claim(mark));
    assert!(bed.settled().is_empty(), "the item has a delivery here");
    assert!(bed.did(&answer(Standing::Handed(Handed::Done))), "{:?}", bed.effects);

    let (mut bed, mark) = copying();
    bed.complete(ITEM, Outcome::Done);
    bed.tell(claim(mark));
    assert!(bed.settled().is_empty(), "the item is done, and its ack is on its way");
    assert!(bed.did(&answer(Standing::Handed(Handed::Done))), "{:?}", bed.effects);
}

/// The ack of a redundant delivery may be lost, and the delivery is then redundant again, if it can
/// be recognised.
#[test]
fn a_redundant_delivery_is_expected_until_its_ack_is_proven() {
    // The first delivery is an ordinary message, the third one a copy.
    let with_spares = || {
        let (mut bed, first) = copying();
        copy_written(&mut bed, Written::Failed);
        bed.wait();
        let second = bed.copies()[0];
        bed.tell(Input::Received(copy(1, 2, second)));
        bed.tell(Input::Received(copy(1, 3, first)));
        copy_written(&mut bed, Written::Confirmed);
        (bed, first)
    };
    let copy_again = |bed: &mut Bed, first| {
        bed.reconnect(1);
        bed.tell(Input::Received(Outline { redelivered: true, ..copy(2, 3, first) }));
        (bed.started().len(), bed.settled())
    };
    let message_again = |bed: &mut Bed| {
        bed.reconnect(1);
        bed.tell(Input::Received(Outline { redelivered: true, ..message(2, 1) }));
        (bed.started().len(), bed.settled())
    };
    // The item has lost its delivery too, so the redelivery of a spare adopts it.
    let adopted = (0, vec![]);
    let other = (1, vec![]);

    let (mut bed, first) = with_spares();
    settle(&mut bed, 3, false);
    assert_eq!(copy_again(&mut bed, first), adopted, "the ack may be lost with its session");
    let (mut bed, first) = with_spares();
    settle(&mut bed, 3, false);
    bed.tell(Input::AckConfirmed { delivery: delivery(1, 3) });
    assert_eq!(copy_again(&mut bed, first), other, "the broker knew the ack");
    let (mut bed, first) = with_spares();
    settle(&mut bed, 3, true);
    assert_eq!(copy_again(&mut bed, first), adopted, "the ack did not leave");

    let (mut bed, _) = with_spares();
    assert_eq!(message_again(&mut bed), other, "nobody can tell it from another message");
    let (mut bed, _) = with_spares();
    settle(&mut bed, 1, false);
    assert_eq!(message_again(&mut bed), other);
    let (mut bed, _) = with_spares();
    settle(&mut bed, 1, true);
    assert_eq!(message_again(&mut bed), adopted, "the ack did not leave");
}

/// An item whose latest attempt left a checkpoint, and that waits for the next one.
fn with_checkpoint(mut bed: Bed) -> Bed {
    bed.tell(Input::Received(message(1, 1)));
    for has_checkpoint in [true, true] {
        let end =
            AttemptEnd { outcome: FAILED, took: std::time::Duration::ZERO, answer_bytes: 0, has_checkpoint };
        bed.tell(Input::Completed { item: ITEM, end });
        assert!(bed.copies().is_empty(), "the checkpoint is in memory");
        if bed.noted() == [1] {
            bed.wait();
        }
    }
    bed
}

#[test]
fn a_drain_writes_a_checkpoint_with_a_copy() {
    let mut bed = with_checkpoint(Bed::rabbitmq());
    bed.tell(Input::Drain);
    assert_eq!((bed.copies().len(), bed.settled()), (1, vec![]));
    copy_written(&mut bed, Written::Confirmed);
    assert_eq!(bed.settled(), [(1, ACK)]);

    let mut bed = with_checkpoint(Bed::rabbitmq());
    bed.tell(Input::Drain);
    copy_written(&mut bed, Written::Failed);
    assert_eq!(bed.settled(), [(1, Settlement::Return)], "further tries would hold the drain up");

    let mut bed = with_checkpoint(Bed::rabbitmq());
    bed.tell(Input::Drain);
    copy_written(&mut bed, Written::Impossible);
    assert_eq!(bed.settled(), [(1, Settlement::Return)], "the item matters more than its checkpoint");
}

#[test]
fn a_drain_copies_only_items_with_a_checkpoint_and_only_in_rabbitmq() {
    let mut bed = with_checkpoint(Bed::new());
    bed.tell(Input::Drain);
    assert_eq!((bed.copies(), bed.settled()), (vec![], vec![(1, Settlement::Return)]));

    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(message(1, 1)));
    bed.complete(ITEM, FAILED);
    bed.tell(Input::Drain);
    assert_eq!((bed.copies(), bed.settled()), (vec![], vec![(1, Settlement::Return)]));
}

#[test]
fn a_session_that_ends_writes_no_copy() {
    let mut bed = with_checkpoint(Bed::rabbitmq());
    bed.tell(Input::Pause);
    bed.wait();
    bed.tell(Input::SessionEnding(Epoch(1)));
    assert!(bed.copies().is_empty(), "{:?}", bed.effects);
}

#[test]
fn nothing_is_copied_in_a_drain_because_of_the_limit() {
    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(message(1, 1)));
    bed.tell(Input::Drain);
    bed.reconnect(1);
    bed.tell(Input::Received(Outline { redelivered: true, near_limit: true, ..message(2, 1) }));
    assert!(bed.copies().is_empty() && bed.started().is_empty());
    bed.tell(Input::Received(Outline { near_limit: true, ..message(2, 2) }));
    assert_eq!((bed.copies(), bed.settled()), (vec![], vec![(2, Settlement::Return)]));
}

#[test]
fn an_item_whose_copy_is_being_written_gets_no_second_one() {
    let (mut bed, _) = copying();
    bed.reconnect(1);
    bed.tell(Input::Received(Outline { redelivered: true, near_limit: true, ..message(2, 1) }));
    assert!(bed.copies().is_empty(), "{:?}", bed.effects);
    copy_written(&mut bed, Written::Confirmed);
    assert_eq!(bed.settled(), [(1, ACK)], "the copy replaces the redelivery too");
}

#[test]
fn a_redelivery_that_is_not_near_the_limit_needs_no_copy() {
    let (mut bed, _) = copying();
    copy_written(&mut bed, Written::Failed);
    bed.reconnect(1);
    bed.tell(Input::Received(Outline { redelivered: true, ..message(2, 1) }));
    assert_eq!(bed.core.poll_timeout(), None);
}

/// A returned item with a copy would be in the queue twice.
#[test]
fn a_drain_waits_for_a_copy_that_is_being_written() {
    let (mut bed, _) = copying();
    bed.complete(ITEM, FAILED);
    bed.tell(Input::Drain);
    assert!(bed.settled().is_empty(), "{:?}", bed.effects);
    copy_written(&mut bed, Written::Failed);
    assert_eq!(bed.settled(), [(1, Settlement::Return)]);
}

#[test]
fn an_item_that_ends_in_a_drain_needs_no_copy() {
    let letters = |policy: &mut longhaul_delivery::Policy| {
        policy.prefetched = true;
        policy.targets = Targets { dead_letter: true, ..Targets::default() };
    };
    let mut bed = Bed::with(letters);
    bed.tell(Input::Received(message(1, 1)));
    bed.tell(Input::Drain);
    bed.complete(ITEM, Outcome::Rejected);
    assert!(bed.write().is_some() && bed.copies().is_empty(), "{:?}", bed.effects);

    let mut bed = with_checkpoint(Bed::with(letters));
    bed.wait();
    bed.tell(Input::Drain);
    bed.complete(ITEM, Outcome::Rejected);
    assert!(bed.write().is_some() && bed.copies().is_empty(), "{:?}", bed.effects);
}

#[test]
fn effects_of_a_copy_come_after_the_admission() {
    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(Outline { near_limit: true, ..message(1, 1) }));
    let is_admission = |effect: &Effect| matches!(effect, Effect::Do(Command::Admit { .. }));
    assert_eq!(bed.effects.iter().position(is_admission), Some(0));
}
