//! The answers to claims of other replicas, one by one. The models check that no answer is wrong;
//! these tests check that there is one.

use crate::bed::{Bed, SECOND, identity, outline};
use longhaul_delivery::lease::{FETCH, LEASE};
use longhaul_delivery::{
    ClaimId, Command, DeliveryId, Effect, Epoch, Handed, Input, ItemId, LogId, Outcome, Outline, Settlement,
    Standing,
};

const CLAIM: ClaimId = ClaimId(1);

fn claim(bed: &mut Bed, tag: u64) {
    bed.tell(Input::Claim { claim: CLAIM, identity: identity(tag) });
}

/// The standings that the last input answered.
fn answers(bed: &Bed) -> Vec<Standing> {
    let of = |effect: &Effect| match effect {
        Effect::Do(Command::AnswerClaim { claim: CLAIM, standing }) => Some(*standing),
        _ => None,
    };
    bed.effects.iter().filter_map(of).collect()
}

fn is_over(bed: &Bed) -> bool {
    bed.effects.contains(&Effect::Do(Command::EndClaim { claim: CLAIM }))
}

/// A request of item 1 that runs without a delivery.
fn orphaned() -> Bed {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.tell(Input::SessionLost(Epoch(1)));
    bed.tell(Input::SessionUp(Epoch(2)));
    bed
}

#[test]
fn an_item_that_nobody_knows_is_unknown_at_once() {
    let mut bed = Bed::new();
    claim(&mut bed, 9);
    assert_eq!(answers(&bed), [Standing::Unknown]);
    assert!(is_over(&bed));
}

#[test]
fn a_claim_is_about_one_delivery() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    claim(&mut bed, 9);
    assert_eq!(answers(&bed), [Standing::Unknown], "another item is here");
}

#[test]
fn the_end_of_a_claimed_request_is_handed_over() {
    let mut bed = orphaned();
    claim(&mut bed, 1);
    assert_eq!(answers(&bed), [Standing::Running]);
    bed.complete(ItemId(1), Outcome::Done);
    assert_eq!(answers(&bed), [Standing::Handed(Handed::Done)]);
    claim(&mut bed, 1);
    assert_eq!(answers(&bed), [Standing::Handed(Handed::Done)], "the same question gets the same answer");
    bed.tell(Input::ClaimFetched { claim: CLAIM });
    bed.tell(Input::Drain);
    assert!(bed.core.is_empty(), "a fetched result does not hold the drain up");
    bed.now = bed.core.poll_timeout().expect("the end of the claim");
    assert_eq!(bed.now, FETCH);
    bed.tell(Input::Timer);
    assert!(is_over(&bed));
}

#[test]
fn a_claim_ends_if_its_asker_is_silent() {
    let mut bed = orphaned();
    claim(&mut bed, 1);
    assert_eq!(bed.core.poll_timeout(), Some(LEASE));
    bed.now = LEASE / 2;
    claim(&mut bed, 1);
    assert_eq!(bed.core.poll_timeout(), Some(LEASE / 2 + LEASE), "each question renews the lease");
    bed.now = LEASE / 2 + LEASE;
    bed.tell(Input::Timer);
    assert!(is_over(&bed));
    bed.receive(2, 1, None, false);
    assert!(bed.started().is_empty(), "the redelivery adopts the request");
}

#[test]
fn a_session_that_may_be_dead_is_proven_first() {
    let mut bed = Bed::new();
    bed.tell(Input::SessionUp(Epoch(2)));
    bed.receive(1, 1, None, false);
    claim(&mut bed, 1);
    assert!(bed.effects.contains(&Effect::Do(Command::Prove { epoch: Epoch(1) })), "{:?}", bed.effects);
    assert_eq!(answers(&bed), []);
    bed.tell(Input::SessionAlive(Epoch(2)));
    assert_eq!(answers(&bed), [], "another session proves nothing");
    bed.tell(Input::SessionAlive(Epoch(1)));
    assert_eq!(answers(&bed), [Standing::NotYours]);
    assert!(is_over(&bed));

    claim(&mut bed, 1);
    bed.tell(Input::SessionLost(Epoch(1)));
    assert_eq!(answers(&bed), [Standing::Running], "the session was dead");
}

#[test]
fn a_second_question_about_a_delivery_ends_the_first_one() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.receive(1, 2, None, false);
    claim(&mut bed, 1);
    bed.tell(Input::Claim { claim: ClaimId(2), identity: identity(2) });
    assert!(!is_over(&bed), "this question concerns another delivery");
    bed.tell(Input::Claim { claim: ClaimId(3), identity: identity(1) });
    assert_eq!(answers(&bed), [Standing::Unknown], "the first asker does not have the delivery any more");
    assert!(is_over(&bed));
}

#[test]
fn a_released_item_waits_for_its_redelivery_again() {
    let mut bed = orphaned();
    claim(&mut bed, 1);
    bed.tell(Input::ClaimReleased { claim: CLAIM });
    assert!(is_over(&bed));
    bed.receive(2, 1, None, false);
    assert!(bed.started().is_empty(), "the redelivery adopts the request");
    assert_eq!(bed.core.stats().running, 1);
}

#[test]
fn a_result_of_another_replica_is_carried_out() {
    let delivery = DeliveryId { epoch: Epoch(1), tag: 1 };
    let answered = |handed| {
        let mut bed = Bed::new();
        bed.tell(Input::Received(Outline { ask_peers: true, ..outline(1, 1) }));
        assert!(bed.started().is_empty(), "the other replicas are asked first");
        bed.tell(Input::PeersAnswered { item: ItemId(1), handed });
        bed
    };
    let noted = |bed: &Bed| bed.effects.iter().any(|e| matches!(e, Effect::Do(Command::Note { .. })));

    assert_eq!(answered(None).started().len(), 1);
    let done = answered(Some(Handed::Done));
    let ack = Command::Settle { delivery, how: Settlement::Ack, dropped: false };
    assert!(done.effects.contains(&Effect::Do(ack)) && !noted(&done), "{:?}", done.effects);

    let retry = answered(Some(Handed::Retry { attempts: 2, delay: SECOND * 5 }));
    assert!(retry.effects.contains(&Effect::Do(Command::Note { delivery, attempts: 2 })));
    assert_eq!(retry.core.poll_timeout(), Some(SECOND * 5));
    let fresh = answered(Some(Handed::Retry { attempts: 0, delay: SECOND }));
    assert!(!noted(&fresh), "without an attempt there is nothing to note");
    let last = answered(Some(Handed::Retry { attempts: 3, delay: SECOND }));
    assert_eq!(last.core.poll_timeout(), None, "all attempts are used up here");
}

#[test]
fn offsets_in_hand_are_those_whose_work_began() {
    let mut bed = orphaned();
    bed.receive(2, 2, Some(7), false);
    bed.receive(2, 3, Some(7), false);
    assert_eq!(bed.core.offsets_in_hand(LogId(1), "t", 0), [1, 2], "the third record waits for its key");
    for (log, topic, partition) in [(1, "t", 1), (1, "u", 0), (2, "t", 0)] {
        let elsewhere = bed.core.offsets_in_hand(LogId(log), topic, partition);
        assert!(elsewhere.is_empty(), "{log} {topic} {partition}");
    }
}
