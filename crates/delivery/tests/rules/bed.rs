//! A dispatcher that a test drives by hand.

use std::time::Duration;

use longhaul_delivery::{
    Attempt, Bounds, Command, DeliveryId, Digest, Dispatcher, Effect, Epoch, Identity, Input, ItemId, LogId,
    OnFailed, OnUnknown, OrderKey, Outcome, Outline, Policy, Retry, Time,
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const AGE: Duration = Duration::from_secs(1000);

/// A dispatcher with two slots and a live session.
pub struct Bed {
    pub core: Dispatcher,
    pub now: Time,
    pub effects: Vec<Effect>,
}

impl Bed {
    pub fn new() -> Self {
        Bed::with(|_| {})
    }

    /// A bed with other rules.
    pub fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy {
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
            start_every: Duration::ZERO,
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
        change(&mut policy);
        let mut bed = Bed { core: Dispatcher::new(policy), now: Time::ZERO, effects: Vec::new() };
        bed.tell(Input::SessionUp(Epoch(1)));
        bed
    }

    pub fn tell(&mut self, input: Input) {
        self.effects.clear();
        self.core.handle(self.now, input, &mut self.effects);
    }

    /// Hands item `tag` over, with 100 bytes of memory.
    pub fn receive(&mut self, epoch: u64, tag: u64, key: Option<u128>, near_limit: bool) {
        let outline = Outline { order_key: key.map(OrderKey), near_limit, ..outline(epoch, tag) };
        self.tell(Input::Received(outline));
    }

    pub fn complete(&mut self, item: ItemId, outcome: Outcome) {
        let attempt = Attempt { outcome, took: SECOND, answer_bytes: 7, has_checkpoint: false };
        self.tell(Input::Completed { item, attempt });
    }

    /// The items that the last input started.
    pub fn started(&self) -> Vec<ItemId> {
        let of = |effect: &Effect| match effect {
            Effect::Do(Command::Dispatch { item, .. }) => Some(*item),
            _ => None,
        };
        self.effects.iter().filter_map(of).collect()
    }
}

/// A record of the topic `t`, which takes 100 bytes of memory.
pub fn outline(epoch: u64, tag: u64) -> Outline {
    Outline {
        id: DeliveryId { epoch: Epoch(epoch), tag },
        identity: identity(tag),
        redelivered: false,
        attempts_before: 0,
        body_bytes: 1,
        kept_bytes: 100,
        order_key: None,
        near_limit: false,
        ask_peers: false,
        shared: false,
        undecodable: false,
    }
}

pub fn identity(tag: u64) -> Identity {
    Identity::Record {
        log: LogId(1),
        topic: "t".into(),
        partition: 0,
        offset: tag.cast_signed(),
        content: Digest::default(),
    }
}
