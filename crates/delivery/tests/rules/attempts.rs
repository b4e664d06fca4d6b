//! The rules of attempts, one by one: which endings count, and when an item is given up.

mod bed;

use std::time::Duration;

use bed::{Bed, SECOND};
use longhaul_delivery::{
    Attempt, Command, DeliveryId, Effect, Epoch, Input, ItemId, Notice, Outcome, Reason,
};

const ITEM: ItemId = ItemId(1);
const FAILED: Outcome = Outcome::Failed { retry_after: None };
const NOT_STARTED: Outcome = Outcome::NotStarted { retry_after: None };

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

/// The attempts that the last input told the broker to remember.
fn noted(bed: &Bed) -> Vec<u32> {
    let of = |effect: &Effect| match effect {
        Effect::Do(Command::Note { attempts, .. }) => Some(*attempts),
        _ => None,
    };
    bed.effects.iter().filter_map(of).collect()
}

/// The reason for which the last input held the item.
fn held(bed: &Bed) -> Option<Reason> {
    bed.effects.iter().find_map(|effect| match effect {
        Effect::Tell(Notice::Held { reason, .. }) => Some(*reason),
        _ => None,
    })
}

#[test]
fn all_attempts_are_made_and_counted() {
    for (last, reason) in [(FAILED, Reason::Attempts), (Outcome::Stalled, Reason::Stalled)] {
        let mut bed = running();
        for attempts in [1, 2] {
            bed.complete(ITEM, FAILED);
            assert_eq!((noted(&bed), held(&bed)), (vec![attempts], None));
            run_again(&mut bed);
        }
        bed.complete(ITEM, last);
        assert_eq!((noted(&bed), held(&bed)), (vec![3], Some(reason)));
    }
}

#[test]
fn interruptions_in_a_row_are_free_up_to_the_bound() {
    let mut bed = running();
    for counted in [1, 2] {
        for _ in 0..2 {
            bed.complete(ITEM, Outcome::Interrupted);
            assert!(noted(&bed).is_empty(), "an interruption costs no attempt");
            assert_eq!(bed.started(), [ITEM], "it is tried again at once");
        }
        bed.complete(ITEM, Outcome::Interrupted);
        assert_eq!(noted(&bed), [counted], "one too many in a row");
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
        assert_eq!((noted(&bed), held(&bed)), (vec![], reason), "{second} s");
    }
}

#[test]
fn worker_time_has_a_budget() {
    for (seconds, reason) in [(999, None), (1000, Some(Reason::Budget))] {
        let mut bed = running();
        let took = SECOND * seconds;
        let attempt = Attempt { outcome: FAILED, took, answer_bytes: 0, has_checkpoint: false };
        bed.tell(Input::Completed { item: ITEM, attempt });
        assert_eq!(held(&bed), reason, "{seconds} s");
    }
}

#[test]
fn only_an_idle_item_that_was_tried_is_given_up() {
    let mut bed = running();
    let give_up =
        |tag| Input::GiveUp { delivery: DeliveryId { epoch: Epoch(1), tag }, reason: Reason::Stalled };
    bed.tell(give_up(1));
    assert_eq!((held(&bed), bed.core.stats().running), (None, 1), "a running item goes on");
    bed.complete(ITEM, FAILED);
    bed.tell(give_up(1));
    assert_eq!(held(&bed), Some(Reason::Stalled));

    let mut bed = Bed::new();
    bed.receive(1, 1, Some(7), false);
    bed.receive(1, 2, Some(7), false);
    bed.tell(give_up(2));
    assert_eq!(held(&bed), None, "an item that was never tried only waits for its key");
}
