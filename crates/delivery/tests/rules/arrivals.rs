//! Deliveries that arrive: which of them belong to a known item, and how a new item starts.

use crate::bed::{Bed, FAILED, ITEM, SECOND, copy, delivery, message, outline};
use longhaul_delivery::{
    ClaimId, Command, DeliveryId, Effect, Epoch, Handed, Identity, Input, ItemId, Outcome, Outline, Reason,
    Settlement, Targets,
};

fn again(outline: Outline) -> Outline {
    Outline { redelivered: true, ..outline }
}

#[test]
fn a_delivery_counts_once_and_only_in_a_living_session() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.receive(1, 1, None, false);
    assert!(bed.effects.is_empty(), "it is known");
    bed.receive(2, 2, None, false);
    assert!(bed.effects.is_empty(), "its session is not up");

    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(Outline { near_limit: true, ..message(1, 1) }));
    let mark = bed.copies()[0];
    bed.tell(Input::Received(copy(1, 2, mark)));
    bed.tell(Input::Received(again(message(1, 1))));
    assert!(bed.effects.is_empty(), "its ack is on its way");
}

/// Equal bytes are not proof (rule D1).
#[test]
fn an_equal_message_is_the_same_item_only_if_it_was_handed_over_before() {
    let begun = || {
        let mut bed = Bed::rabbitmq();
        bed.tell(Input::Received(message(1, 1)));
        bed.reconnect(1);
        bed
    };
    let is_new = |outline: Outline| {
        let mut bed = begun();
        bed.tell(Input::Received(outline));
        bed.started() == [ItemId(2)]
    };
    assert!(!is_new(again(message(2, 1))));
    assert!(is_new(message(2, 1)), "it was never handed over");
    assert!(is_new(Outline { shared: true, ..again(message(2, 1)) }), "another consumer may have done it");

    let mut bed = begun();
    bed.tell(Input::Received(again(message(2, 1))));
    bed.tell(Input::Received(again(message(2, 2))));
    assert_eq!(bed.started(), [ItemId(2)], "a match is used up once");
}

/// A duplicate of a copy that somebody else wrote is another item.
#[test]
fn a_copy_is_known_by_its_first_delivery_and_by_its_returns() {
    let with_copy = || {
        let mut bed = Bed::rabbitmq();
        bed.tell(Input::Received(Outline { near_limit: true, ..message(1, 1) }));
        let mark = bed.copies()[0];
        bed.tell(Input::Received(copy(1, 2, mark)));
        bed.reconnect(1);
        (bed, mark)
    };
    let (mut bed, mark) = with_copy();
    bed.tell(Input::Received(again(copy(2, 2, mark))));
    assert!(bed.did(&Command::Adopt { item: ITEM, delivery: delivery(2, 2) }));
    let (mut bed, mark) = with_copy();
    bed.tell(Input::Received(copy(2, 3, mark)));
    assert_eq!(bed.started(), [ItemId(2)]);
}

#[test]
fn a_redelivery_continues_where_the_item_is() {
    let lost = |outcome: Option<Outcome>| {
        let mut bed =
            Bed::with(|policy| policy.targets = Targets { dead_letter: true, ..Targets::default() });
        bed.receive(1, 1, None, false);
        if let Some(outcome) = outcome {
            bed.complete(ITEM, outcome);
        }
        bed.reconnect(1);
        bed.receive(2, 1, None, false);
        assert!(bed.did(&Command::Adopt { item: ITEM, delivery: delivery(2, 1) }));
        bed
    };
    let commands = |bed: &Bed| {
        let is_command = |effect: &&Effect| matches!(effect, Effect::Do(_));
        bed.effects.iter().filter(is_command).count()
    };
    let bed = lost(None);
    assert_eq!(commands(&bed), 1, "its request runs: {:?}", bed.effects);
    assert_eq!(commands(&lost(Some(Outcome::Done))), 3, "its attempt is noted, and the ack follows");
    let bed = lost(Some(FAILED));
    assert_eq!((bed.noted(), commands(&bed)), (vec![1], 2));
    let bed = lost(Some(Outcome::Rejected));
    assert_eq!((commands(&bed), bed.write()), (2, None), "its dead letter is being written");
    assert_eq!(bed.noted(), [1]);
}

#[test]
fn a_session_that_was_not_told_of_attempts_is_told_only_if_there_were_some() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Interrupted);
    bed.reconnect(1);
    bed.receive(2, 1, None, false);
    assert!(bed.noted().is_empty());
}

#[test]
fn a_redelivery_carries_its_memory() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, FAILED);
    bed.reconnect(1);
    assert_eq!(bed.core.stats().bytes, 0);
    bed.receive(2, 1, None, false);
    assert_eq!(bed.core.stats().bytes, 100);
}

#[test]
fn a_new_item_starts_asks_or_fails_at_once() {
    let first = |outline: Outline| {
        let mut bed = Bed::new();
        bed.tell(Input::Received(outline));
        (bed.started().len(), bed.held())
    };
    assert_eq!(first(outline(1, 1)), (1, None));
    assert_eq!(first(Outline { body_bytes: 1000, ..outline(1, 1) }), (1, None));
    assert_eq!(first(Outline { body_bytes: 1001, ..outline(1, 1) }), (0, Some(Reason::TooLarge)));
    assert_eq!(first(Outline { attempts_before: 2, ..outline(1, 1) }), (1, None));
    assert_eq!(first(Outline { attempts_before: 3, ..outline(1, 1) }), (0, Some(Reason::Attempts)));
    assert_eq!(first(Outline { undecodable: true, ..outline(1, 1) }), (0, Some(Reason::Undecodable)));
    let mut bed = Bed::new();
    bed.tell(Input::Received(Outline { ask_peers: true, ..outline(1, 1) }));
    let identity = outline(1, 1).identity;
    assert!(bed.did(&Command::AskPeers { item: ITEM, delivery: delivery(1, 1), identity }));
}

/// Anybody can set a header, so only a mark or Kafka's commit is exact.
#[test]
fn a_message_with_any_number_of_attempts_gets_a_run() {
    let mut bed = Bed::rabbitmq();
    bed.tell(Input::Received(Outline { attempts_before: 9, ..message(1, 1) }));
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 3, redelivered: false }), "{:?}", bed.effects);
}

#[test]
fn nothing_starts_in_a_session_that_ends() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.tell(Input::SessionEnding(Epoch(1)));
    bed.receive(1, 2, None, false);
    assert_eq!((bed.started(), bed.settled()), (vec![], vec![(2, Settlement::Return)]));
    bed.complete(ITEM, FAILED);
    bed.wait();
    assert!(bed.started().is_empty(), "its retry belongs to the next owner");
    bed.tell(Input::SessionUp(Epoch(2)));
    bed.receive(2, 3, None, false);
    assert_eq!(bed.started().len(), 1, "another session works as before");
}

/// A retry whose time has come starts with its redelivery, and not before.
#[test]
fn a_retry_waits_for_its_time_in_the_next_session_too() {
    for (waited, starts) in [(SECOND / 2, 0), (SECOND, 1)] {
        let mut bed = Bed::new();
        bed.receive(1, 1, None, false);
        bed.complete(ITEM, FAILED);
        bed.tell(Input::SessionLost(Epoch(1)));
        bed.tell(Input::SessionUp(Epoch(2)));
        bed.now = waited;
        bed.receive(2, 1, None, false);
        assert_eq!(bed.started().len(), starts, "after {waited:?}");
    }
}

#[test]
fn a_decision_is_carried_out_with_the_redelivery() {
    let decided = |outcome, drain: bool| {
        let mut bed = Bed::with(|policy| policy.peers = true);
        bed.receive(1, 1, None, false);
        bed.tell(Input::SessionLost(Epoch(1)));
        bed.complete(ITEM, outcome);
        if drain {
            bed.tell(Input::Drain);
        }
        bed.tell(Input::SessionUp(Epoch(2)));
        bed.receive(2, 1, None, false);
        bed
    };
    let returned = vec![(1, Settlement::Return)];
    assert_eq!(decided(FAILED, true).settled(), returned);
    assert_eq!(decided(FAILED, false).settled(), []);
    assert_eq!(decided(Outcome::Done, true).settled(), [(1, Settlement::Ack)]);
    let bed = decided(Outcome::Rejected, true);
    assert_eq!((bed.settled(), bed.held()), (returned, None));
    assert_eq!(decided(Outcome::Rejected, false).held(), Some(Reason::Rejected));
}

/// The first of the same key that was handed over runs first, also after a loss.
#[test]
fn an_item_that_another_replica_claimed_comes_back() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.reconnect(1);
    let identity: Identity = outline(1, 1).identity;
    bed.tell(Input::Claim { claim: ClaimId(1), identity });
    bed.receive(2, 1, None, false);
    let adopted = DeliveryId { epoch: Epoch(2), tag: 1 };
    assert!(bed.did(&Command::Adopt { item: ITEM, delivery: adopted }), "{:?}", bed.effects);
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.settled(), [(1, Settlement::Ack)]);
    let late = Command::AnswerClaim {
        claim: ClaimId(1),
        standing: longhaul_delivery::Standing::Handed(Handed::Done),
    };
    assert!(!bed.did(&late), "the claim is over");
}

#[test]
fn groups_take_turns() {
    let mut bed = Bed::with(|policy| policy.max_in_flight = 1);
    let of = |tag: u64, partition: i32| Outline {
        identity: Identity::Record {
            log: longhaul_delivery::LogId(1),
            topic: "t".into(),
            partition,
            offset: tag.cast_signed(),
            content: longhaul_delivery::Digest::default(),
        },
        ..outline(1, tag)
    };
    for (tag, partition) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 2)] {
        bed.tell(Input::Received(of(tag, partition)));
    }
    let mut order = vec![1];
    while let Some(latest) = order.last().copied().filter(|_| order.len() < 5) {
        bed.complete(ItemId(latest), Outcome::Done);
        order.push(bed.started()[0].0);
    }
    let place = |number: u64| order.iter().position(|id| *id == number).expect("a start");
    assert!(
        place(4) < 3 && place(5) < 3,
        "each partition has a turn before another has its second: {order:?}"
    );
    assert!(place(2) < place(3));
}
