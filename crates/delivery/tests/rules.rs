//! Single rules that the walks of the simulation and the models do not show: the numbers for
//! people, the bounds on kept results, and the timer of a copy. Mutation testing found them.

use std::time::Duration;

use longhaul_delivery::{
    Attempt, Bounds, Command, DeliveryId, Digest, Dispatcher, Effect, Epoch, Identity, Input, ItemId, LogId,
    NoRoom, Notice, OnFailed, OnUnknown, OrderKey, Outcome, Outline, Policy, Retry, Time, Written,
};

const SECOND: Duration = Duration::from_secs(1);
const AGE: Duration = Duration::from_secs(1000);

/// A dispatcher with two slots and a live session.
struct Bed {
    core: Dispatcher,
    now: Time,
    effects: Vec<Effect>,
}

impl Bed {
    fn new() -> Self {
        let policy = Policy {
            max_in_flight: 2,
            retry: Retry {
                attempts: 3,
                backoff: SECOND,
                backoff_max: SECOND,
                unknown_backoff: SECOND,
                worker_time_budget: SECOND * 1000,
                not_started_for: SECOND * 1000,
                interruptions: 2,
            },
            on_unknown: OnUnknown::Retry,
            on_failed: OnFailed::Hold,
            reply: false,
            park: false,
            prefetched: false,
            peers: false,
            limit_step: Duration::ZERO,
            breaker_failures: 0,
            breaker_open: SECOND,
            bounds: Bounds {
                item_bytes: 1000,
                held_bytes: 1000,
                held_max: 5,
                orphans_max: 1,
                orphan_age: AGE,
            },
            seed: 0,
        };
        let mut bed = Bed { core: Dispatcher::new(policy), now: Time::ZERO, effects: Vec::new() };
        bed.tell(Input::SessionUp(Epoch(1)));
        bed
    }

    fn tell(&mut self, input: Input) {
        self.effects.clear();
        self.core.handle(self.now, input, &mut self.effects);
    }

    /// Hands item `tag` over, with 100 bytes of memory.
    fn receive(&mut self, epoch: u64, tag: u64, key: Option<u128>, near_limit: bool) {
        self.tell(Input::Received(Outline {
            id: DeliveryId { epoch: Epoch(epoch), tag },
            identity: Identity::Record {
                log: LogId(1),
                topic: "t".into(),
                partition: 0,
                offset: tag.cast_signed(),
                content: Digest::default(),
            },
            redelivered: false,
            attempts_before: 0,
            body_bytes: 1,
            kept_bytes: 100,
            order_key: key.map(OrderKey),
            near_limit,
            ask_peers: false,
            shared: false,
        }));
    }

    fn complete(&mut self, item: ItemId, outcome: Outcome) {
        let attempt = Attempt { outcome, took: SECOND, answer_bytes: 7, has_checkpoint: false };
        self.tell(Input::Completed { item, attempt });
    }

    /// The items that the last input started.
    fn started(&self) -> Vec<ItemId> {
        let of = |effect: &Effect| match effect {
            Effect::Do(Command::Dispatch { item, .. }) => Some(*item),
            _ => None,
        };
        self.effects.iter().filter_map(of).collect()
    }

    fn expired(&self) -> usize {
        let is_expired = |effect: &&Effect| matches!(effect, Effect::Tell(Notice::OrphanExpired { .. }));
        self.effects.iter().filter(is_expired).count()
    }

    fn rewrites(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Do(Command::Rewrite { .. }))).count()
    }
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
    assert_eq!((bed.core.stats().pending, bed.expired()), (1, 0));
    bed.complete(second, Outcome::Done);
    assert_eq!(bed.core.stats().pending, 1);
    assert!(bed.effects.contains(&Effect::Tell(Notice::OrphanExpired { item: first })), "{:?}", bed.effects);
    assert_eq!(bed.core.poll_timeout(), Some(AGE));
    bed.now = AGE;
    bed.tell(Input::Timer);
    assert_eq!((bed.core.stats().pending, bed.expired()), (0, 1));
    assert!(bed.core.is_empty());
}

#[test]
fn a_copy_that_was_not_confirmed_is_written_again() {
    let mut bed = Bed::new();
    bed.receive(1, 1, None, true);
    assert_eq!(bed.rewrites(), 1, "{:?}", bed.effects);
    let item = bed.started()[0];
    bed.tell(Input::Rewritten { item, written: Written::Failed });
    assert_eq!(bed.rewrites(), 0);
    bed.now = bed.core.poll_timeout().expect("the time of the next write");
    bed.tell(Input::Timer);
    assert_eq!(bed.rewrites(), 1, "{:?}", bed.effects);
    bed.tell(Input::Rewritten { item, written: Written::Impossible });
    assert_eq!(bed.core.poll_timeout(), None, "a copy that is never accepted is not written again");
}
