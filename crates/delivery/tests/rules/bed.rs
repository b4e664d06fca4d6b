//! A dispatcher that a test drives by hand.

use std::time::Duration;

use longhaul_delivery::{
    AttemptEnd, Bounds, Command, DeliveryId, Digest, Dispatcher, Effect, Epoch, Identity, Input, ItemId,
    LogId, Mark, Notice, OnFailed, OnUnknown, OrderKey, Outcome, Outline, Policy, Reason, Retry, Settlement,
    Targets, Time, Write,
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const AGE: Duration = Duration::from_secs(1000);
pub const FAILED: Outcome = Outcome::Failed { retry_after: None };
pub const NOT_STARTED: Outcome = Outcome::NotStarted { retry_after: None };
/// The first item of each test.
pub const ITEM: ItemId = ItemId(1);
const CONTENT: Digest = Digest([1; 16]);

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
            targets: Targets::default(),
            give_up_after: None,
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
        let end = AttemptEnd { outcome, took: SECOND, answer_bytes: 7, has_checkpoint: false };
        self.tell(Input::Completed { item, end });
    }

    /// A pipeline of RabbitMQ, which hands over no more than fits.
    pub fn rabbitmq() -> Self {
        Bed::with(|policy| policy.prefetched = true)
    }

    /// Loses this session and starts the next one.
    pub fn reconnect(&mut self, lost: u64) {
        self.tell(Input::SessionLost(Epoch(lost)));
        self.tell(Input::SessionUp(Epoch(lost + 1)));
    }

    /// Fires the next timer.
    pub fn wait(&mut self) {
        self.now = self.core.poll_timeout().expect("a timer");
        self.tell(Input::Timer);
    }

    /// Whether the last input led to this command.
    pub fn did(&self, command: &Command) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Do(done) if done == command))
    }

    /// Whether the last input led to this notice.
    pub fn told(&self, notice: &Notice) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Tell(told) if told == notice))
    }

    /// The settlements that the last input asked for, by the tags of their deliveries.
    pub fn settled(&self) -> Vec<(u64, Settlement)> {
        let of = |effect: &Effect| match effect {
            Effect::Do(Command::Settle { delivery, how, .. }) => Some((delivery.tag, *how)),
            _ => None,
        };
        self.effects.iter().filter_map(of).collect()
    }

    /// The write that the last input started.
    pub fn write(&self) -> Option<Write> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Do(Command::Write { write, .. }) => Some(*write),
            _ => None,
        })
    }

    /// The marks of the copies whose writes the last input started.
    pub fn copies(&self) -> Vec<Mark> {
        let of = |effect: &Effect| match effect {
            Effect::Do(Command::Copy { mark, .. }) => Some(*mark),
            _ => None,
        };
        self.effects.iter().filter_map(of).collect()
    }

    /// The attempts that the last input told the broker to remember.
    pub fn noted(&self) -> Vec<u32> {
        let of = |effect: &Effect| match effect {
            Effect::Do(Command::Note { attempts, .. }) => Some(*attempts),
            _ => None,
        };
        self.effects.iter().filter_map(of).collect()
    }

    /// The reason for which the last input held an item.
    pub fn held(&self) -> Option<Reason> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Tell(Notice::Held { reason, .. }) => Some(*reason),
            _ => None,
        })
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

/// A message of RabbitMQ. All of them are alike.
pub fn message(epoch: u64, tag: u64) -> Outline {
    Outline { identity: Identity::Content(CONTENT), ..outline(epoch, tag) }
}

/// The delivery of a copy of such a message.
pub fn copy(epoch: u64, tag: u64, mark: Mark) -> Outline {
    Outline { identity: Identity::Copy { mark, content: CONTENT }, ..outline(epoch, tag) }
}

pub fn delivery(epoch: u64, tag: u64) -> DeliveryId {
    DeliveryId { epoch: Epoch(epoch), tag }
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
