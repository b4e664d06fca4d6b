//! The rules of attempts, one by one: which endings count, and when an item is given up.

use std::time::Duration;

use crate::bed::{Bed, FAILED, ITEM, NOT_STARTED, SECOND, delivery};
use longhaul_delivery::{
    Action, AttemptEnd, Input, ItemId, Notice, Outcome, Reason, Settlement, Targets, Write,
};

const HOUR: Duration = Duration::from_secs(3600);

/// An item whose first attempt runs.
fn running() -> Bed {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    assert_eq!(bed.started(), [ITEM]);
    bed
}

/// Fires timers until the item runs again.
fn run_again(bed: &mut Bed) {
    bed.now = bed.core.poll_timeout().expect("the time of the next attempt");
    bed.tell(Input::Timer);
    assert_eq!(bed.started(), [ITEM]);
}

/// A running item of a pipeline that gives stuck records up after an hour of failures.
fn with_limit() -> Bed {
    let mut bed = Bed::with(|policy| policy.give_up_after = Some(HOUR));
    bed.receive(1, 1, None, false);
    bed
}

fn stuck(tag: u64) -> Input {
    Input::Stuck { delivery: delivery(1, tag) }
}

#[test]
fn all_attempts_are_made_and_counted() {
    for (last, reason) in [(FAILED, Reason::Attempts), (Outcome::Stalled, Reason::Stalled)] {
        let mut bed = running();
        for attempts in [1, 2] {
            bed.complete(ITEM, FAILED);
            assert_eq!((bed.noted(), bed.held()), (vec![attempts], None));
            run_again(&mut bed);
        }
        bed.complete(ITEM, last);
        assert_eq!((bed.noted(), bed.held()), (vec![3], Some(reason)));
    }
}

#[test]
fn interruptions_in_a_row_are_free_up_to_the_bound() {
    let mut bed = running();
    for counted in [1, 2] {
        for _ in 0..2 {
            bed.complete(ITEM, Outcome::Interrupted);
            assert!(bed.noted().is_empty(), "an interruption costs no attempt");
            assert_eq!(bed.started(), [ITEM], "it is tried again at once");
        }
        bed.complete(ITEM, Outcome::Interrupted);
        assert_eq!(bed.noted(), [counted], "one too many in a row");
        run_again(&mut bed);
    }
}

#[test]
fn a_service_that_starts_nothing_costs_no_attempt_but_not_for_ever() {
    let mut bed = running();
    bed.complete(ITEM, NOT_STARTED);
    for (second, reason) in [(999, None), (1000, Some(Reason::NotStarted))] {
        run_again(&mut bed);
        bed.now = Duration::from_secs(second);
        bed.complete(ITEM, NOT_STARTED);
        assert_eq!((bed.noted(), bed.held()), (vec![], reason), "{second} s");
    }
}

#[test]
fn worker_time_has_a_budget() {
    for (seconds, reason) in [(999, None), (1000, Some(Reason::Budget))] {
        let mut bed = running();
        let took = SECOND * seconds;
        let end = AttemptEnd { outcome: FAILED, took, answer_bytes: 0, has_checkpoint: false };
        bed.tell(Input::Completed { item: ITEM, end });
        assert_eq!(bed.held(), reason, "{seconds} s");
    }
}

#[test]
fn only_an_idle_item_that_was_tried_is_given_up() {
    let mut bed = with_limit();
    bed.tell(stuck(1));
    assert_eq!((bed.held(), bed.core.stats().running), (None, 1), "the first attempt has not failed");
    bed.complete(ITEM, FAILED);
    bed.now = HOUR - SECOND;
    bed.tell(stuck(1));
    assert_eq!(bed.held(), None, "too early");
    assert_eq!(bed.started(), [ITEM], "its timer was due");
    bed.now = HOUR * 2;
    bed.tell(stuck(1));
    assert_eq!((bed.held(), bed.core.stats().running), (None, 1), "a running item goes on");
    bed.complete(ITEM, FAILED);
    bed.tell(stuck(1));
    assert_eq!(bed.held(), Some(Reason::Stalled), "its first attempt failed two hours ago");

    let mut bed = with_limit();
    bed.receive(1, 2, Some(7), false);
    bed.receive(1, 3, Some(7), false);
    bed.now = HOUR * 2;
    bed.tell(stuck(3));
    assert_eq!(bed.held(), None, "an item that was never tried only waits for its key");
}

#[test]
fn without_a_limit_nothing_is_given_up() {
    let mut bed = running();
    bed.complete(ITEM, FAILED);
    bed.tell(Input::Pause);
    bed.now = HOUR * 1000;
    bed.tell(Input::Resume);
    bed.complete(ITEM, FAILED);
    bed.tell(stuck(1));
    assert_eq!(bed.held(), None);
}

#[test]
fn time_in_a_pause_does_not_count() {
    let mut bed = running();
    bed.complete(ITEM, NOT_STARTED);
    bed.tell(Input::Pause);
    bed.now = HOUR * 100;
    bed.tell(Input::Resume);
    bed.complete(ITEM, NOT_STARTED);
    assert_eq!(bed.held(), None, "the pause does not count");
    bed.now += SECOND * 1000;
    bed.tell(Input::Timer);
    bed.complete(ITEM, NOT_STARTED);
    assert_eq!(bed.held(), Some(Reason::NotStarted), "1000 s without a worker do");

    let mut bed = with_limit();
    bed.complete(ITEM, FAILED);
    bed.tell(Input::Pause);
    bed.now = HOUR * 100;
    bed.tell(Input::Resume);
    bed.complete(ITEM, FAILED);
    bed.tell(stuck(1));
    assert_eq!(bed.held(), None, "the pause does not count");
    bed.now += HOUR;
    bed.tell(Input::Pause);
    bed.tell(stuck(1));
    assert_eq!(bed.held(), None, "nothing is given up in a pause");
    bed.tell(Input::Resume);
    bed.complete(ITEM, NOT_STARTED);
    bed.tell(stuck(1));
    assert_eq!(bed.held(), Some(Reason::Stalled), "an hour of failures, without the pauses");
}

#[test]
fn time_with_an_open_breaker_does_not_count() {
    let mut bed = Bed::with(|policy| {
        policy.breaker_failures = 1;
        policy.breaker_open = HOUR * 100;
    });
    bed.receive(1, 1, None, false);
    for _ in 0..3 {
        bed.complete(ITEM, NOT_STARTED);
        assert_eq!(bed.held(), None, "only the probes count, which took no time");
        while bed.started().is_empty() {
            bed.now = bed.core.poll_timeout().expect("the time of the next probe");
            bed.tell(Input::Timer);
        }
    }
    bed.now += SECOND * 1000;
    bed.complete(ITEM, NOT_STARTED);
    assert_eq!(bed.held(), Some(Reason::NotStarted), "a probe that takes 1000 s");
}

#[test]
fn time_with_as_many_held_items_as_allowed_does_not_count() {
    let mut bed = Bed::with(|policy| policy.bounds.held_max = 1);
    bed.receive(1, 1, None, false);
    bed.receive(1, 2, None, false);
    bed.complete(ITEM, NOT_STARTED);
    bed.complete(ItemId(2), Outcome::Rejected);
    assert!(bed.core.is_held_full());
    bed.now = HOUR * 100;
    bed.tell(Input::Timer);
    assert!(bed.started().is_empty());
    bed.tell(Input::Act { item: ItemId(2), action: Action::Drop });
    assert_eq!(bed.started(), [ITEM]);
    bed.complete(ITEM, NOT_STARTED);
    assert_eq!(bed.held(), None);
}

/// Three hundredths of the requests are refused, so the limit falls by three hundredths.
#[test]
fn the_working_limit_counts_the_requests_that_were_started() {
    let full = || {
        let mut bed = Bed::with(|policy| {
            policy.max_in_flight = 10;
            policy.limit_step = HOUR;
            policy.bounds.held_bytes = u64::MAX;
        });
        (1..=10).for_each(|tag| bed.receive(1, tag, None, false));
        assert_eq!(bed.core.stats().running, 10);
        bed.complete(ITEM, NOT_STARTED);
        assert_eq!(bed.core.stats().limit, 9, "nine others run");
        bed
    };
    for (others, limit) in [(Outcome::Done, 8), (Outcome::Misconfigured, 6)] {
        let mut bed = full();
        (2..=6).for_each(|number| bed.complete(ItemId(number), others));
        bed.complete(ItemId(7), NOT_STARTED);
        assert_eq!(bed.core.stats().limit, limit, "{others:?}");
    }
}

/// The refused request itself does not run.
#[test]
fn the_working_limit_falls_to_the_requests_that_run() {
    let mut bed = Bed::with(|policy| {
        policy.max_in_flight = 10;
        policy.limit_step = HOUR;
    });
    (1..=3).for_each(|tag| bed.receive(1, tag, None, false));
    bed.complete(ITEM, NOT_STARTED);
    assert_eq!(bed.core.stats().limit, 2);
}

/// Answers tell nothing about an item that does not run: they are late, and count for nothing.
#[test]
fn a_late_end_of_an_attempt_changes_nothing() {
    let mut bed = running();
    bed.complete(ITEM, FAILED);
    let before = bed.core.clone();
    bed.complete(ITEM, FAILED);
    assert!(bed.core == before && bed.effects.is_empty(), "{:?}", bed.effects);
}

#[test]
fn a_success_notes_no_attempt_and_a_retry_is_told() {
    let mut bed = running();
    bed.complete(ITEM, FAILED);
    assert!(bed.told(&Notice::Retrying { item: ITEM, delay: bed.core.poll_timeout().unwrap(), attempts: 1 }));
    run_again(&mut bed);
    bed.complete(ITEM, Outcome::Done);
    assert_eq!((bed.noted(), bed.settled()), (vec![], vec![(1, Settlement::Ack)]));
}

#[test]
fn only_a_counted_attempt_is_parked() {
    let parking = || {
        let mut bed = Bed::with(|policy| {
            policy.prefetched = true;
            policy.targets = Targets { park: true, ..Targets::default() };
        });
        bed.receive(1, 1, None, false);
        bed
    };
    let is_retry = |effect: &longhaul_delivery::Effect| {
        matches!(effect, longhaul_delivery::Effect::Tell(Notice::Retrying { .. }))
    };
    let mut bed = parking();
    bed.complete(ITEM, FAILED);
    assert!(matches!(bed.write(), Some(Write::Park { attempts: 1, delay: SECOND, .. })), "{:?}", bed.effects);
    assert!(bed.effects.iter().any(is_retry));

    let mut bed = parking();
    bed.complete(ITEM, NOT_STARTED);
    assert_eq!(bed.write(), None, "its number of attempts did not change");

    let mut bed = parking();
    bed.tell(Input::Drain);
    bed.complete(ITEM, FAILED);
    assert!(matches!(bed.write(), Some(Write::Park { .. })));
    assert!(bed.effects.iter().any(is_retry), "it will be tried again, by another process");

    let mut bed = running();
    bed.tell(Input::Drain);
    bed.complete(ITEM, FAILED);
    assert!(!bed.effects.iter().any(is_retry), "this process does not try it again");
    assert_eq!(bed.settled(), [(1, Settlement::Return)]);
}

/// A copy that is being written and a parked copy would be two.
#[test]
fn an_item_with_a_copy_is_not_parked() {
    let mut bed = Bed::with(|policy| {
        policy.prefetched = true;
        policy.targets = Targets { park: true, ..Targets::default() };
    });
    bed.receive(1, 1, None, true);
    assert_eq!(bed.copies().len(), 1);
    bed.complete(ITEM, FAILED);
    assert_eq!(bed.write(), None);
    assert_eq!(bed.core.poll_timeout(), Some(SECOND));
}

#[test]
fn an_item_that_fails_for_good_in_a_drain_is_returned() {
    let mut bed = running();
    bed.tell(Input::Drain);
    bed.complete(ITEM, Outcome::Rejected);
    assert_eq!((bed.held(), bed.settled()), (None, vec![(1, Settlement::Return)]));
}
