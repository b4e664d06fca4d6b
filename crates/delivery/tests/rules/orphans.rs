//! Results that wait for a redelivery: their bounds, and their end.

use crate::bed::{AGE, Bed, FAILED, ITEM, NOT_STARTED, SECOND, copy, delivery, identity, message};
use longhaul_delivery::lease::HAND_OVER;
use longhaul_delivery::{
    ClaimId, Command, Effect, Epoch, Input, ItemId, Notice, Outcome, Outline, Remains, Settlement, Targets,
    Write, Written,
};

fn expired(bed: &Bed) -> usize {
    let is_expired = |effect: &&Effect| matches!(effect, Effect::Tell(Notice::OrphanExpired { .. }));
    bed.effects.iter().filter(is_expired).count()
}

#[test]
fn the_oldest_result_expires_first_and_every_result_by_its_age() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    let first = bed.started()[0];
    bed.receive(1, 2, None, false);
    let second = bed.started()[0];
    bed.tell(Input::SessionLost(Epoch(1)));
    bed.complete(first, Outcome::Done);
    assert_eq!((bed.core.stats().pending, expired(&bed)), (1, 0));
    bed.complete(second, Outcome::Done);
    assert_eq!(bed.core.stats().pending, 1);
    assert!(bed.effects.contains(&Effect::Tell(Notice::OrphanExpired { item: first })), "{:?}", bed.effects);
    assert_eq!(bed.core.poll_timeout(), Some(AGE));
    bed.now = AGE;
    bed.tell(Input::Timer);
    assert_eq!((bed.core.stats().pending, expired(&bed)), (0, 1));
    assert!(bed.core.is_empty());
}

/// The bound on memory leaves one result, however large it is.
#[test]
fn results_are_bounded_in_memory_too() {
    for (bound, kept) in [(14, 2), (13, 1), (1, 1)] {
        let mut bed = Bed::with(|policy| {
            policy.targets = Targets { dead_letter: true, ..Targets::default() };
            policy.bounds.orphans_max = 5;
            policy.bounds.held_bytes = bound;
        });
        bed.receive(1, 1, None, false);
        bed.receive(1, 2, None, false);
        bed.tell(Input::SessionLost(Epoch(1)));
        bed.complete(ITEM, Outcome::Rejected);
        assert_eq!((bed.core.stats().pending, expired(&bed)), (1, 0), "{bound} bytes");
        bed.complete(ItemId(2), Outcome::Rejected);
        let stats = bed.core.stats();
        assert_eq!((stats.pending, stats.bytes), (kept, 7 * u64::from(kept)), "{bound} bytes");
        assert_eq!(expired(&bed), 2 - kept as usize, "{bound} bytes");
    }
}

#[test]
fn a_lost_item_keeps_the_rest_that_its_decision_needs() {
    for (outcome, remains) in
        [(Outcome::Done, Remains::Nothing), (FAILED, Remains::Id), (Outcome::Rejected, Remains::Answer)]
    {
        let mut bed =
            Bed::with(|policy| policy.targets = Targets { dead_letter: true, ..Targets::default() });
        bed.receive(1, 1, None, false);
        bed.tell(Input::SessionLost(Epoch(1)));
        bed.complete(ITEM, outcome);
        assert!(bed.did(&Command::Release { item: ITEM, remains }), "{:?}", bed.effects);
        let bytes = if remains == Remains::Answer { 7 } else { 0 };
        assert_eq!(bed.core.stats().bytes, bytes, "{outcome:?}");
    }
}

#[test]
fn an_item_that_never_started_is_forgotten_with_its_session() {
    let mut bed = Bed::new();
    bed.receive(1, 1, Some(7), false);
    bed.receive(1, 2, Some(7), false);
    bed.tell(Input::SessionLost(Epoch(1)));
    assert!(bed.did(&Command::Forget { item: ItemId(2) }));
    assert!(!bed.did(&Command::Forget { item: ITEM }));
    assert_eq!(bed.core.stats().items, 1);
}

#[test]
fn an_item_with_a_history_is_kept_with_its_attempts() {
    let mut bed = Bed::with(|policy| policy.max_in_flight = 1);
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, FAILED);
    bed.receive(1, 2, None, false);
    bed.wait();
    assert!(bed.started().is_empty(), "the other item has the slot");
    bed.reconnect(1);
    assert_eq!(bed.core.stats().pending, 1);
    bed.receive(2, 1, None, false);
    assert_eq!(bed.noted(), [1], "the new session has not heard of the attempt");
    bed.complete(ItemId(2), Outcome::Done);
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 2, redelivered: true }), "{:?}", bed.effects);
}

/// An item that used a worker, waited for one, or may have a copy.
#[test]
fn every_history_is_kept() {
    for outcome in [FAILED, NOT_STARTED, Outcome::Interrupted] {
        let mut bed = Bed::new();
        bed.receive(1, 1, None, false);
        bed.tell(Input::Pause);
        bed.complete(ITEM, outcome);
        bed.now = AGE;
        bed.tell(Input::Timer);
        bed.tell(Input::SessionLost(Epoch(1)));
        assert_eq!(bed.core.stats().pending, 1, "{outcome:?}");
    }
    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Pause);
    bed.tell(Input::Received(Outline { near_limit: true, ..message(1, 1) }));
    bed.tell(Input::CopyWritten { item: ITEM, written: Written::Failed });
    bed.tell(Input::SessionLost(Epoch(1)));
    assert_eq!(bed.core.stats().pending, 1, "its copy may be in the queue");
}

/// Nobody knows whether the ack of a lost session counted. Only a unique identity tells a
/// redelivery from an equal message.
#[test]
fn an_ack_that_may_be_lost_is_remembered_if_its_item_is_unique() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Done);
    bed.reconnect(1);
    bed.receive(2, 1, None, false);
    assert_eq!((bed.started().len(), bed.settled()), (0, vec![(1, Settlement::Ack)]));

    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(message(1, 1)));
    bed.complete(ITEM, Outcome::Done);
    bed.reconnect(1);
    assert_eq!(bed.core.stats().items, 0);
    bed.tell(Input::Received(Outline { redelivered: true, ..message(2, 1) }));
    assert_eq!((bed.started().len(), bed.settled()), (1, vec![]), "it may be another item");
}

/// A copy waits in its queue for as long as the backlog is, so its item has no age.
#[test]
fn an_item_whose_copy_waits_in_the_queue_is_kept_without_a_limit() {
    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(Outline { near_limit: true, ..message(1, 1) }));
    let mark = bed.copies()[0];
    bed.complete(ITEM, FAILED);
    bed.tell(Input::CopyWritten { item: ITEM, written: Written::Confirmed });
    assert_eq!((bed.core.stats().pending, bed.core.poll_timeout()), (1, None));
    bed.now = AGE * 10;
    bed.tell(Input::Received(copy(1, 2, mark)));
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 2, redelivered: true }), "{:?}", bed.effects);

    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(message(1, 1)));
    bed.complete(ITEM, FAILED);
    bed.tell(Input::SessionLost(Epoch(1)));
    assert_eq!(bed.core.poll_timeout(), Some(AGE), "without a copy its age counts");
}

/// In a drain a result waits for the time that another replica may take to ask for it.
#[test]
fn a_result_outlives_the_start_of_a_drain_if_somebody_may_ask_for_it() {
    let lost = |peers: bool, age: u32| {
        let mut bed = Bed::with(|policy| {
            policy.peers = peers;
            policy.bounds.orphan_age = SECOND * age;
        });
        bed.receive(1, 1, None, false);
        bed.tell(Input::SessionLost(Epoch(1)));
        bed.complete(ITEM, Outcome::Done);
        bed.tell(Input::Drain);
        bed
    };
    let bed = lost(true, 1000);
    assert_eq!((bed.core.poll_timeout(), expired(&bed)), (Some(HAND_OVER), 0));
    assert_eq!(lost(true, 10).core.poll_timeout(), Some(SECOND * 10), "it never lives longer than before");
    let bed = lost(false, 1000);
    assert_eq!((bed.core.is_empty(), expired(&bed)), (true, 1), "nobody can ask");

    let mut bed = lost(true, 1000);
    bed.wait();
    assert_eq!((bed.core.is_empty(), expired(&bed)), (true, 1), "its work is wasted");
}

#[test]
fn work_that_ends_in_a_drain_waits_for_another_replica_too() {
    let mut bed = Bed::with(|policy| policy.peers = true);
    bed.receive(1, 1, None, false);
    bed.tell(Input::Drain);
    bed.tell(Input::SessionLost(Epoch(1)));
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.core.poll_timeout(), Some(HAND_OVER));
    bed.tell(Input::Claim { claim: ClaimId(1), identity: identity(1) });
    assert_eq!(expired(&bed), 0);
    assert!(bed.effects.iter().any(|e| matches!(e, Effect::Tell(Notice::HandedOver { .. }))));
}

/// The end of a remembered ack is not the loss of a result.
#[test]
fn a_settled_item_that_is_forgotten_in_a_drain_is_no_loss() {
    let mut bed = Bed::with(|policy| policy.peers = true);
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Done);
    bed.tell(Input::Settled { delivery: delivery(1, 1), stale: true });
    assert_eq!(bed.core.stats().pending, 1);
    bed.tell(Input::Drain);
    bed.wait();
    assert_eq!((bed.core.is_empty(), expired(&bed)), (true, 0));
}

#[test]
fn a_write_goes_on_without_its_session_and_is_not_repeated_there() {
    let mut bed = Bed::with(|policy| policy.targets = Targets { dead_letter: true, ..Targets::default() });
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Rejected);
    let letter = bed.write();
    bed.reconnect(1);
    bed.tell(Input::Written { item: ITEM, written: Written::Failed });
    assert_eq!((bed.write(), bed.core.poll_timeout()), (None, Some(AGE)));
    bed.receive(2, 1, None, false);
    assert_eq!(bed.write(), letter, "the redelivery brings the message for the next try");
    assert!(matches!(letter, Some(Write::DeadLetter { .. })));
}
