//! Single rules that the walks of the simulation and the models do not show: the numbers for
//! people, the bounds on kept results, and the timer of a copy. Mutation testing found them.

mod bed;

use bed::{AGE, Bed};
use longhaul_delivery::{Command, Effect, Epoch, Input, NoRoom, Notice, Outcome, Written};

fn expired(bed: &Bed) -> usize {
    let is_expired = |effect: &&Effect| matches!(effect, Effect::Tell(Notice::OrphanExpired { .. }));
    bed.effects.iter().filter(is_expired).count()
}

fn rewrites(bed: &Bed) -> usize {
    bed.effects.iter().filter(|effect| matches!(effect, Effect::Do(Command::Rewrite { .. }))).count()
}

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
    assert_eq!((stats.held, stats.pending, stats.bytes), (0, 0, 307), "the answer counts as memory");
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

#[test]
fn a_copy_that_was_not_confirmed_is_written_again() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, true);
    assert_eq!(rewrites(&bed), 1, "{:?}", bed.effects);
    let item = bed.started()[0];
    bed.tell(Input::Rewritten { item, written: Written::Failed });
    assert_eq!(rewrites(&bed), 0);
    bed.now = bed.core.poll_timeout().expect("the time of the next write");
    bed.tell(Input::Timer);
    assert_eq!(rewrites(&bed), 1, "{:?}", bed.effects);
    bed.tell(Input::Rewritten { item, written: Written::Impossible });
    assert_eq!(bed.core.poll_timeout(), None, "a copy that is never accepted is not written again");
}
