//! The numbers and answers for the shell and for people.

use std::time::Duration;

use crate::bed::{Bed, FAILED, ITEM, NOT_STARTED, SECOND, delivery, identity, outline};
use longhaul_delivery::{
    Action, ClaimId, Command, Effect, Ended, Epoch, Handed, Input, ItemId, NoRoom, Notice, Outcome, Outline,
    Reason, State, StateKind, Targets, Written,
};

#[test]
fn the_numbers_count_each_item_once() {
    let mut bed = Bed::new();
    bed.receive(1, 1, Some(7), false);
    let first = bed.started()[0];
    assert_eq!(bed.core.stats().blocked_by_key, 0);
    bed.receive(1, 2, Some(7), false);
    bed.receive(1, 3, Some(7), false);
    let stats = bed.core.stats();
    assert_eq!((stats.running, stats.items, stats.blocked_by_key, stats.bytes), (1, 3, 2, 300));
    assert_eq!(bed.core.no_room(), None, "an item that waits for its key leaves the other slot free");
    bed.complete(first, Outcome::Failed { retry_after: None });
    let stats = bed.core.stats();
    assert_eq!((stats.held_live, stats.pending, stats.bytes), (0, 0, 307), "the answer counts as memory");
}

#[test]
fn an_item_that_waits_for_a_slot_takes_it_from_the_intake() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.tell(Input::SessionLost(Epoch(1)));
    bed.tell(Input::SessionUp(Epoch(2)));
    bed.receive(2, 2, None, false);
    assert_eq!(bed.core.no_room(), None, "the orphan's redelivery must be taken");
    bed.receive(2, 3, None, false);
    assert!(bed.started().is_empty(), "both slots are taken, one of them by the orphan");
    assert_eq!(bed.core.no_room(), Some(NoRoom::Slots));
}

#[test]
fn the_reasons_to_take_nothing_have_an_order() {
    let mut bed = Bed::with(|policy| policy.bounds.held_max = 1);
    assert!(bed.core.takes());
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Rejected);
    assert_eq!((bed.core.no_room(), bed.core.takes()), (Some(NoRoom::Held), false));
    bed.tell(Input::Pause);
    assert_eq!((bed.core.no_room(), bed.core.is_held_full()), (Some(NoRoom::Paused), true));
    bed.tell(Input::Drain);
    assert_eq!((bed.core.no_room(), bed.core.is_draining()), (Some(NoRoom::Draining), true));
}

#[test]
fn an_item_waits_for_the_rate_only_if_it_could_start_else() {
    let mut bed = Bed::with(|policy| policy.start_every = SECOND * 4);
    assert!((bed.core.starts_per_second() - 0.25).abs() < f64::EPSILON);
    assert!(!bed.core.waits_for_rate(), "there is no item");
    bed.receive(1, 1, None, false);
    assert!(bed.started().is_empty() && bed.core.waits_for_rate());
    bed.tell(Input::Pause);
    assert!(!bed.core.waits_for_rate(), "the pause holds the item back");
    bed.tell(Input::Resume);
    bed.wait();
    assert_eq!((bed.now, bed.started()), (SECOND * 2, vec![ITEM]));
    assert!(!bed.core.waits_for_rate(), "the item runs");
}

#[test]
fn memory_bounds_the_intake_from_the_first_byte_over_the_bound() {
    for (bytes, no_room) in [(99, Some(NoRoom::Bytes)), (100, Some(NoRoom::Bytes)), (101, None)] {
        let mut bed = Bed::with(|policy| policy.bounds.held_bytes = bytes);
        bed.receive(1, 1, None, false);
        assert_eq!(bed.core.no_room(), no_room, "100 of {bytes} bytes");
    }
    let bed = Bed::with(|policy| policy.bounds.held_bytes = 0);
    assert_eq!(bed.core.no_room(), None, "one item is always taken");
}

#[test]
fn an_open_breaker_takes_one_item_for_its_probe() {
    let mut bed = Bed::with(|policy| policy.breaker_failures = 1);
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Rejected);
    assert_eq!(bed.core.no_room(), Some(NoRoom::Breaker));
    bed.wait();
    assert_eq!(bed.core.no_room(), None, "the probe may start, and no item waits");
    bed.tell(Input::Received(Outline { ask_peers: true, ..outline(1, 2) }));
    assert_eq!(bed.core.no_room(), None, "an item that is asked for does not wait for a slot");
    bed.receive(1, 3, None, false);
    assert_eq!(bed.started(), [ItemId(3)]);
    assert_eq!(bed.core.no_room(), Some(NoRoom::Breaker), "the probe runs");
}

#[test]
fn a_prefetched_pipeline_takes_every_delivery() {
    let mut bed = Bed::rabbitmq();
    assert_eq!((bed.core.is_prefetched(), Bed::new().core.is_prefetched()), (true, false));
    assert_eq!(bed.core.max_in_flight(), 2);
    (1..=3).for_each(|tag| bed.receive(1, tag, None, false));
    assert_eq!((bed.core.no_room(), bed.core.takes()), (Some(NoRoom::Slots), true));
}

#[test]
fn a_pipeline_is_empty_without_items_to_settle() {
    let mut bed = Bed::new();
    assert!(bed.core.is_empty() && !bed.core.is_draining());
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Done);
    assert!(!bed.core.is_empty(), "the ack is on its way");
    bed.tell(Input::Settled { delivery: delivery(1, 1), stale: false });
    assert!(bed.core.is_empty(), "the item is only remembered");
    assert_eq!((bed.core.stats().items, bed.core.views().count()), (0, 0));
    bed.tell(Input::AckConfirmed { delivery: delivery(1, 1) });
    assert!(bed.core.is_empty());
    assert!(bed.did(&Command::Forget { item: ITEM }));
}

#[test]
fn the_memory_of_all_items_is_counted() {
    let mut bed = Bed::with(|policy| policy.targets = Targets { dead_letter: true, ..Targets::default() });
    bed.receive(1, 1, None, false);
    bed.receive(1, 2, None, false);
    bed.complete(ITEM, Outcome::Rejected);
    assert_eq!(bed.core.stats().bytes, 207);
    bed.tell(Input::SessionLost(Epoch(1)));
    bed.tell(Input::Written { item: ITEM, written: Written::Failed });
    let stats = bed.core.stats();
    assert_eq!((stats.pending, stats.bytes), (1, 107), "the answer is kept for the dead letter");
    bed.complete(ItemId(2), FAILED);
    assert_eq!(bed.core.stats().pending, 1, "one result is kept at most");
    assert_eq!(bed.core.stats().bytes, 0, "the redelivery brings the message again");
}

#[test]
fn items_are_counted_by_state() {
    let mut bed = Bed::new();
    let counts = |bed: &Bed| StateKind::ALL.map(|kind| bed.core.stats().states[kind]);
    bed.receive(1, 1, Some(7), false);
    bed.receive(1, 2, Some(7), false);
    bed.receive(1, 3, None, false);
    bed.tell(Input::Received(Outline { ask_peers: true, ..outline(1, 4) }));
    assert_eq!(counts(&bed), [1, 1, 2, 0, 0, 0]);
    bed.complete(ItemId(3), Outcome::Rejected);
    bed.complete(ITEM, FAILED);
    assert_eq!(counts(&bed), [1, 1, 0, 1, 0, 1]);
    assert_eq!(bed.core.stats().held_live, 1);
    bed.tell(Input::SessionLost(Epoch(1)));
    assert_eq!(counts(&bed), [0, 1, 0, 0, 0, 1], "one result is kept at most: that of the youngest");
    assert_eq!(bed.core.stats().held_live, 0, "the held item waits for its redelivery");
}

#[test]
fn people_see_each_item_in_its_state() {
    let mut bed = Bed::with(|policy| policy.targets = Targets { dead_letter: true, ..Targets::default() });
    let state = |bed: &Bed, number| bed.core.view(ItemId(number)).map(|view| view.state);
    bed.receive(1, 1, Some(7), false);
    bed.receive(1, 2, Some(7), false);
    let views: Vec<_> = bed.core.views().collect();
    assert_eq!((views[0].state, views[0].is_blocked), (State::Running, false));
    assert_eq!((views[1].state, views[1].is_blocked), (State::Waiting, true));
    assert_eq!((views[0].item, views[0].delivery, views[0].attempts), (ITEM, Some(delivery(1, 1)), 0));
    assert!(bed.told(&Notice::Moved { item: ItemId(2), state: State::Waiting }));

    bed.complete(ITEM, FAILED);
    let until = bed.core.poll_timeout().expect("a timer");
    assert_eq!(state(&bed, 1), Some(State::Retrying { until }));
    assert_eq!(State::Retrying { until }.next(), Some(until));
    assert_eq!(bed.core.view(ITEM).map(|view| view.attempts), Some(1));
    let is_blocked = bed.core.view(ItemId(2)).map(|view| view.is_blocked);
    assert_eq!(is_blocked, Some(true), "its key waits for the retry");
    bed.wait();
    bed.complete(ITEM, Outcome::Rejected);
    assert_eq!(state(&bed, 1), Some(State::Writing { again: None }));
    bed.tell(Input::Written { item: ITEM, written: Written::Failed });
    let again = bed.core.poll_timeout();
    assert_eq!(state(&bed, 1), Some(State::Writing { again }));
    assert_eq!(State::Writing { again }.next(), again);
    assert_eq!(State::Running.next(), None);
    bed.wait();
    bed.tell(Input::Written { item: ITEM, written: Written::Impossible });
    assert_eq!(state(&bed, 1), Some(State::Held { reason: Reason::Rejected }));
    bed.tell(Input::Act { item: ITEM, action: Action::Drop });
    assert_eq!(state(&bed, 1), None);
    assert!(bed.told(&Notice::Moved { item: ITEM, state: State::Ended(Ended::Dropped) }));
}

#[test]
fn a_change_of_state_is_told_once_and_only_a_change() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    let moves = |bed: &Bed| {
        let is_move = |effect: &&Effect| matches!(effect, Effect::Tell(Notice::Moved { .. }));
        bed.effects.iter().filter(is_move).count()
    };
    assert_eq!(moves(&bed), 1, "it arrived and started at once");
    bed.tell(Input::SessionLost(Epoch(1)));
    assert_eq!(moves(&bed), 0, "it runs as before");
    bed.tell(Input::Claim { claim: ClaimId(1), identity: identity(1) });
    bed.complete(ITEM, Outcome::Done);
    assert!(bed.told(&Notice::Moved { item: ITEM, state: State::Ended(Ended::HandedOver) }));
    let handed = Handed::Done;
    assert!(bed.told(&Notice::HandedOver { claim: ClaimId(1), identity: identity(1), handed }));
}

/// An item that waits for another of its key is not ready, and no other state is blocked.
#[test]
fn only_a_ready_item_behind_another_of_its_key_is_blocked() {
    let mut bed = Bed::with(|policy| policy.max_in_flight = 1);
    bed.receive(1, 1, None, false);
    bed.receive(1, 2, Some(7), false);
    bed.receive(1, 3, Some(7), false);
    let blocked = |bed: &Bed| bed.core.views().map(|view| view.is_blocked).collect::<Vec<_>>();
    assert_eq!(blocked(&bed), [false, false, true], "the first of the key waits for a slot");
    bed.tell(Input::Act { item: ItemId(3), action: Action::Hold });
    assert_eq!(blocked(&bed), [false, false, false]);
    assert_eq!(bed.core.stats().blocked_by_key, 1, "it is still behind the first");
}

#[test]
fn the_next_of_a_key_starts_when_the_first_is_settled() {
    let mut bed = Bed::new();
    bed.receive(1, 1, Some(7), false);
    bed.receive(1, 2, Some(7), false);
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.started(), [ItemId(2)]);
    assert_eq!(bed.core.stats().blocked_by_key, 0);
}

#[test]
fn a_request_without_a_delivery_blocks_its_key_and_a_kept_result_does_not() {
    let mut bed = Bed::new();
    bed.receive(1, 1, Some(7), false);
    bed.reconnect(1);
    bed.receive(2, 2, Some(7), false);
    assert!(bed.started().is_empty());
    bed.complete(ITEM, Outcome::Done);
    assert_eq!(bed.started(), [ItemId(2)]);
}

#[test]
fn the_next_timer_is_the_earliest() {
    let mut bed = Bed::with(|policy| {
        policy.retry.backoff = Duration::from_secs(100);
        policy.retry.backoff_max = Duration::from_secs(100);
        policy.limit_step = SECOND;
    });
    assert_eq!(bed.core.poll_timeout(), None);
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, FAILED);
    let retry = bed.core.poll_timeout().expect("the retry");
    assert!(retry > SECOND * 50);
    bed.receive(1, 2, None, false);
    bed.receive(1, 3, None, false);
    bed.complete(ItemId(2), NOT_STARTED);
    assert_eq!(bed.core.poll_timeout(), Some(SECOND), "the step of the limit");
    bed.wait();
    assert_eq!(bed.core.stats().limit, 2);
    assert!(bed.core.poll_timeout() <= Some(retry));
}
