//! The breaker: when it opens, and how a probe closes it.

use crate::bed::{Bed, FAILED, ITEM, NOT_STARTED, SECOND};
use longhaul_delivery::{Effect, Input, ItemId, Notice, OpenBreaker, Outcome};

/// A pipeline with three slots whose breaker opens after two failures, with three running items.
fn bed() -> Bed {
    let mut bed = Bed::with(|policy| {
        policy.max_in_flight = 3;
        policy.breaker_failures = 2;
        policy.breaker_open = SECOND * 10;
    });
    (1..=3).for_each(|tag| bed.receive(1, tag, None, false));
    bed
}

fn notices(bed: &Bed) -> (usize, usize) {
    let count = |holds: fn(&Notice) -> bool| {
        bed.effects.iter().filter(|effect| matches!(effect, Effect::Tell(notice) if holds(notice))).count()
    };
    let opened = count(|notice| matches!(notice, Notice::BreakerOpened { .. }));
    (opened, count(|notice| matches!(notice, Notice::BreakerClosed)))
}

#[test]
fn it_opens_after_failures_in_a_row() {
    for (between, opens) in [
        (Outcome::Interrupted, true),
        (Outcome::Done, false),
        (FAILED, false),
        (Outcome::Unknown, false),
        (Outcome::Unreadable, false),
        (Outcome::Stalled, false),
    ] {
        let mut bed = bed();
        bed.complete(ITEM, NOT_STARTED);
        assert_eq!((notices(&bed), bed.core.open_breaker()), ((0, 0), None));
        bed.complete(ItemId(2), between);
        bed.complete(ItemId(3), Outcome::Rejected);
        assert_eq!(bed.core.open_breaker().is_some(), opens, "{between:?}");
        assert_eq!(notices(&bed), (usize::from(opens), 0), "{between:?}");
    }
}

#[test]
fn a_misconfigured_bridge_opens_it_at_once() {
    let mut bed = bed();
    bed.complete(ITEM, Outcome::Misconfigured);
    let cause = Outcome::Misconfigured;
    assert!(bed.told(&Notice::BreakerOpened { cause }));
    let open = OpenBreaker { cause, since: std::time::Duration::ZERO, probe: Some(SECOND * 10) };
    assert_eq!(bed.core.open_breaker(), Some(open));
    assert!(bed.started().is_empty(), "its retry waits for the probe");
}

/// Requests that began before do not move it.
#[test]
fn only_its_probe_moves_an_open_breaker() {
    let mut bed = bed();
    bed.complete(ITEM, Outcome::Misconfigured);
    bed.complete(ItemId(2), Outcome::Done);
    assert!(bed.core.open_breaker().is_some());
    bed.now = SECOND * 5;
    bed.tell(Input::Timer);
    assert!(bed.started().is_empty());
    bed.now = SECOND * 10;
    bed.tell(Input::Timer);
    assert_eq!(bed.started(), [ITEM]);
    assert_eq!(bed.core.open_breaker().map(|open| open.probe), Some(None));
    bed.complete(ItemId(3), Outcome::Done);
    assert!(bed.core.open_breaker().is_some(), "it is not the probe");
    bed.receive(1, 4, None, false);
    assert!(bed.started().is_empty(), "one probe at a time");
    bed.complete(ITEM, Outcome::Done);
    assert_eq!((notices(&bed), bed.core.open_breaker()), ((0, 1), None));
    assert_eq!(bed.started(), [ItemId(4)]);
}

#[test]
fn a_probe_that_fails_opens_it_again_since_the_first_failure() {
    let mut bed = bed();
    bed.complete(ITEM, Outcome::Misconfigured);
    bed.wait();
    bed.complete(ITEM, FAILED);
    assert_eq!(notices(&bed), (0, 0), "it was open");
    let open = bed.core.open_breaker().expect("an open breaker");
    assert_eq!((open.cause, open.since), (FAILED, std::time::Duration::ZERO));
    assert_eq!(open.probe, Some(SECOND * 20));
}

#[test]
fn an_interrupted_probe_is_followed_by_the_next() {
    let mut bed = bed();
    bed.complete(ITEM, Outcome::Misconfigured);
    bed.wait();
    bed.complete(ITEM, Outcome::Interrupted);
    assert_eq!(bed.started(), [ITEM], "it tells nothing about the service");
    assert!(bed.core.open_breaker().is_some());
}

#[test]
fn a_person_closes_it_and_its_count_starts_again() {
    let mut bed = bed();
    bed.complete(ITEM, Outcome::Misconfigured);
    bed.tell(Input::Resume);
    assert_eq!((notices(&bed), bed.core.open_breaker()), ((0, 1), None));
    assert_eq!(bed.started(), [ITEM]);
    bed.complete(ItemId(2), NOT_STARTED);
    assert_eq!(bed.core.open_breaker(), None);
    bed.tell(Input::Resume);
    bed.complete(ItemId(3), NOT_STARTED);
    assert_eq!(bed.core.open_breaker(), None, "the failure before does not count");
}

#[test]
fn without_a_threshold_only_a_misconfiguration_opens_it() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, false);
    bed.complete(ITEM, Outcome::Rejected);
    assert_eq!(bed.core.open_breaker(), None);
}
