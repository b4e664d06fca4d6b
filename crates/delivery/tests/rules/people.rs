//! Actions of people: what each may do to an item in each state, and its effect.

use crate::bed::{Bed, FAILED, ITEM, NOT_STARTED, SECOND, delivery, outline};
use longhaul_delivery::{
    Action, Command, Effect, Epoch, Input, ItemId, Outcome, Outline, Policy, Reason, Settlement, Targets,
    Then, Write, Written,
};

fn act(bed: &mut Bed, action: Action) {
    bed.tell(Input::Act { item: ITEM, action });
}

/// Whether each of [`Action::ALL`] is allowed now.
fn allowed(bed: &Bed) -> [bool; 8] {
    Action::ALL.map(|action| bed.core.allows(ITEM, action))
}

fn letters(policy: &mut Policy) {
    policy.targets = Targets { dead_letter: true, ..Targets::default() };
}

/// A running item in a pipeline with these rules.
fn running(change: impl FnOnce(&mut Policy)) -> Bed {
    let mut bed = Bed::with(change);
    bed.receive(1, 1, None, false);
    bed
}

fn waiting(change: impl FnOnce(&mut Policy)) -> Bed {
    let mut bed = running(change);
    bed.complete(ITEM, FAILED);
    bed
}

fn held(change: impl FnOnce(&mut Policy)) -> Bed {
    let mut bed = running(change);
    bed.complete(ITEM, Outcome::Rejected);
    bed
}

/// An action that is not allowed changes nothing.
#[test]
fn each_state_has_its_actions() {
    let ready = |change: fn(&mut Policy)| {
        let mut bed = Bed::with(change);
        bed.tell(Input::Pause);
        bed.receive(1, 1, None, false);
        bed
    };
    let asking = || {
        let mut bed = Bed::with(letters);
        bed.tell(Input::Received(Outline { ask_peers: true, ..outline(1, 1) }));
        bed
    };
    let writing = || held(letters);
    let write_wait = || {
        let mut bed = held(letters);
        bed.tell(Input::Written { item: ITEM, written: Written::Failed });
        bed
    };
    let orphan = |change: fn(&mut Policy)| {
        let mut bed = running(change);
        bed.tell(Input::SessionLost(Epoch(1)));
        bed
    };
    let done = || {
        let mut bed = running(letters);
        bed.complete(ITEM, Outcome::Done);
        bed
    };
    let (yes, no) = (true, false);
    let none: fn(&mut Policy) = |_| {};
    let letters: fn(&mut Policy) = letters;
    //                         retry release hold drop letter cancel: requeue, letter, drop
    let table: [(&str, Bed, [bool; 8]); 12] = [
        ("ready", ready(none), [no, no, yes, yes, no, no, no, no]),
        ("ready", ready(letters), [no, no, yes, yes, yes, no, no, no]),
        ("asking", asking(), [no; 8]),
        ("running", running(none), [no, no, no, no, no, yes, no, yes]),
        ("running", running(letters), [no, no, no, no, no, yes, yes, yes]),
        ("waiting", waiting(none), [yes, no, yes, yes, no, no, no, no]),
        ("waiting", waiting(letters), [yes, no, yes, yes, yes, no, no, no]),
        ("held", held(none), [yes, yes, no, yes, no, no, no, no]),
        ("writing", writing(), [no; 8]),
        ("waits for its write", write_wait(), [yes, no, no, yes, yes, no, no, no]),
        ("running without a delivery", orphan(letters), [no, no, no, no, no, yes, yes, no]),
        ("settling", done(), [no; 8]),
    ];
    for (state, bed, expected) in table {
        assert_eq!(allowed(&bed), expected, "{state}");
        for action in Action::ALL.into_iter().filter(|action| !bed.core.allows(ITEM, *action)) {
            let mut core = bed.core.clone();
            let mut effects = Vec::new();
            core.handle(bed.now, Input::Act { item: ITEM, action }, &mut effects);
            assert!(core == bed.core && effects.is_empty(), "{state}, {action:?}: {effects:?}");
        }
    }
}

#[test]
fn in_a_drain_only_running_items_can_be_cancelled() {
    let mut bed = running(letters);
    bed.tell(Input::Drain);
    assert_eq!(allowed(&bed), [false, false, false, false, false, true, true, true]);
    let mut bed = held(|_| {});
    bed.tell(Input::Drain);
    assert_eq!(allowed(&bed), [false; 8]);
}

#[test]
fn retry_ends_a_wait() {
    let mut bed = waiting(|_| {});
    act(&mut bed, Action::Retry);
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 2, redelivered: false }));

    let mut bed = held(letters);
    let letter = bed.write();
    bed.tell(Input::Written { item: ITEM, written: Written::Failed });
    act(&mut bed, Action::Retry);
    assert_eq!(bed.write(), letter);
    bed.tell(Input::Written { item: ITEM, written: Written::Failed });
    act(&mut bed, Action::DeadLetter);
    assert_eq!(bed.write(), letter, "the same letter, with its own reason");
}

#[test]
fn retry_gives_a_held_item_one_attempt_and_release_all_of_them() {
    let exhausted = || {
        let mut bed = running(|_| {});
        for _ in 0..2 {
            bed.complete(ITEM, FAILED);
            bed.wait();
        }
        bed.complete(ITEM, FAILED);
        assert_eq!(bed.held(), Some(Reason::Attempts));
        bed
    };
    let mut bed = exhausted();
    act(&mut bed, Action::Retry);
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 4, redelivered: false }));
    assert!(bed.noted().is_empty());
    bed.complete(ITEM, FAILED);
    assert_eq!(bed.held(), Some(Reason::Attempts));

    let mut bed = exhausted();
    act(&mut bed, Action::Release);
    assert_eq!(bed.noted(), [0]);
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 1, redelivered: false }));
    bed.complete(ITEM, FAILED);
    assert_eq!(bed.held(), None);
}

/// The time and the interruptions before do not count against the bounds any more.
#[test]
fn retry_and_release_start_the_bounds_again() {
    for action in [Action::Retry, Action::Release] {
        let mut bed = running(|_| {});
        bed.complete(ITEM, NOT_STARTED);
        bed.wait();
        bed.now = SECOND * 2000;
        bed.complete(ITEM, NOT_STARTED);
        assert_eq!(bed.held(), Some(Reason::NotStarted));
        act(&mut bed, action);
        bed.complete(ITEM, NOT_STARTED);
        assert_eq!(bed.held(), None, "{action:?}");

        let mut bed = running(|policy| policy.give_up_after = Some(SECOND * 100));
        bed.complete(ITEM, FAILED);
        bed.wait();
        bed.now = SECOND * 2000;
        bed.complete(ITEM, Outcome::Rejected);
        act(&mut bed, action);
        bed.complete(ITEM, Outcome::Interrupted);
        bed.tell(Input::Pause);
        assert_eq!(bed.core.stats().running, 1);
        bed.complete(ITEM, Outcome::Interrupted);
        bed.tell(Input::Resume);
        bed.complete(ITEM, NOT_STARTED);
        bed.tell(Input::Stuck { delivery: delivery(1, 1) });
        assert_eq!(bed.held(), None, "{action:?}: no attempt has failed since");
    }
    let budget = |action| {
        let mut bed = running(|policy| {
            policy.retry.attempts = 9;
            policy.retry.worker_time_budget = SECOND * 2;
        });
        bed.complete(ITEM, FAILED);
        bed.wait();
        bed.complete(ITEM, FAILED);
        assert_eq!(bed.held(), Some(Reason::Budget));
        act(&mut bed, action);
        bed.complete(ITEM, FAILED);
        bed.held()
    };
    assert_eq!(budget(Action::Retry), Some(Reason::Budget), "one attempt");
    assert_eq!(budget(Action::Release), None, "the whole budget");
}

/// A person held it, so it did not fail.
#[test]
fn release_of_an_item_that_a_person_held_keeps_its_attempts() {
    let mut bed = waiting(|_| {});
    act(&mut bed, Action::Hold);
    assert_eq!(bed.held(), Some(Reason::Cancelled));
    act(&mut bed, Action::Release);
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 2, redelivered: false }), "{:?}", bed.effects);
}

#[test]
fn an_undecodable_item_never_runs() {
    for action in [Action::Retry, Action::Release] {
        let mut bed = Bed::new();
        bed.tell(Input::Received(Outline { undecodable: true, ..outline(1, 1) }));
        act(&mut bed, action);
        assert_eq!((bed.started(), bed.held()), (vec![], Some(Reason::Undecodable)), "{action:?}");
    }
}

#[test]
fn drop_acks_without_success() {
    let mut bed = held(|_| {});
    act(&mut bed, Action::Drop);
    let settle = Command::Settle { delivery: delivery(1, 1), how: Settlement::Ack, dropped: true };
    assert!(bed.did(&settle), "{:?}", bed.effects);
}

#[test]
fn a_dead_letter_has_the_reason_of_the_hold() {
    // Without confirm the target is unable to take it, so the item is held.
    let mut bed = held(letters);
    bed.tell(Input::Written { item: ITEM, written: Written::Impossible });
    act(&mut bed, Action::DeadLetter);
    assert_eq!(bed.write(), Some(Write::DeadLetter { reason: Reason::Rejected, attempts: 1 }));

    let mut bed = waiting(letters);
    act(&mut bed, Action::DeadLetter);
    assert_eq!(bed.write(), Some(Write::DeadLetter { reason: Reason::Cancelled, attempts: 1 }));
}

#[test]
fn a_cancelled_request_counts_as_an_attempt() {
    let cancelled = |then| {
        let mut bed = running(letters);
        act(&mut bed, Action::Cancel(then));
        assert!(bed.did(&Command::Cancel { item: ITEM }));
        assert_eq!((bed.core.stats().running, bed.noted()), (0, vec![1]));
        bed
    };
    let mut bed = cancelled(Then::Requeue);
    assert!(bed.started().is_empty());
    bed.wait();
    assert!(bed.did(&Command::Dispatch { item: ITEM, attempt: 2, redelivered: false }));
    assert_eq!(
        cancelled(Then::DeadLetter).write(),
        Some(Write::DeadLetter { reason: Reason::Cancelled, attempts: 1 })
    );
    assert_eq!(cancelled(Then::Drop).settled(), [(1, Settlement::Ack)]);

    let mut bed = running(letters);
    bed.tell(Input::SessionLost(Epoch(1)));
    act(&mut bed, Action::Cancel(Then::DeadLetter));
    assert_eq!(
        (bed.core.stats().running, bed.core.stats().pending),
        (0, 1),
        "its redelivery brings the message"
    );
}

/// The request of a person shows nothing about the service.
#[test]
fn a_cancelled_probe_is_followed_by_the_next() {
    let mut bed = running(|policy| policy.breaker_open = SECOND * 10);
    bed.receive(1, 2, None, false);
    bed.complete(ITEM, Outcome::Misconfigured);
    bed.complete(ItemId(2), FAILED);
    bed.now = SECOND * 10;
    bed.tell(Input::Timer);
    assert_eq!(bed.started(), [ITEM], "the probe");
    act(&mut bed, Action::Cancel(Then::Requeue));
    assert_eq!(bed.started(), [ItemId(2)], "the next probe");
    assert!(bed.core.open_breaker().is_some());
}

#[test]
fn a_pause_starts_nothing_until_resume() {
    let mut bed = Bed::new();
    assert!(!bed.core.is_paused());
    bed.tell(Input::Pause);
    bed.receive(1, 1, None, false);
    assert_eq!((bed.started(), bed.core.is_paused()), (vec![], true));
    bed.tell(Input::Resume);
    assert_eq!((bed.started(), bed.core.is_paused()), (vec![ITEM], false));
}

#[test]
fn a_limit_stays_within_its_range() {
    let mut bed = Bed::with(|policy| policy.max_in_flight = 4);
    for (most, limit) in [(0, 1), (3, 3), (9, 4)] {
        bed.tell(Input::Limit { most });
        assert_eq!((bed.core.stats().limit, bed.core.stats().ceiling), (limit, limit), "{most}");
    }
    bed.tell(Input::Limit { most: 1 });
    bed.receive(1, 1, None, false);
    bed.receive(1, 2, None, false);
    assert!(bed.started().is_empty());
    assert!(!bed.effects.iter().any(|effect| matches!(effect, Effect::Do(Command::Dispatch { .. }))));
    bed.tell(Input::Limit { most: 2 });
    assert_eq!(bed.started(), [ItemId(2)]);
}
