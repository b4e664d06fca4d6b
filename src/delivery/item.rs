//! One item in the core's hands.

use std::time::Duration;

use super::outcome::Reason;
use super::protocol::{Time, Write};
use super::session::{DeliveryId, Identity, OrderKey, Settlement};

/// The core's name of an item, in order of arrival. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    /// The delivery that will be settled; none while the item is an orphan.
    pub delivery: Option<DeliveryId>,
    pub identity: Identity,
    pub redelivered: bool,
    pub order_key: Option<OrderKey>,
    pub bytes: u64,
    /// Counted attempts so far.
    pub attempts: u32,
    /// Time that workers spent on it in all counted attempts.
    pub worker_time: Duration,
    /// Since when no worker could be reached, and how many tries that were.
    pub not_started: Option<(Time, u32)>,
    /// Writes that failed in a row.
    pub write_failures: u32,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    /// May start as soon as there is a slot (and its key is free).
    Ready,
    /// Its request is open.
    Running,
    /// Its next attempt is due at this time.
    Waiting { until: Time },
    /// Its dead letter or reply is being written.
    Writing(Write),
    /// That write failed and is due again at this time.
    WriteWait { write: Write, until: Time },
    /// Failed for good and kept, because nothing else may be done with it.
    Held { reason: Reason },
    /// The settle is on its way to the broker.
    Settling(Settlement),
    /// An orphan that is not running: what to do once a redelivery adopts it.
    Pending { verdict: Verdict, since: Time },
}

/// What was decided about an item whose delivery is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Verdict {
    /// Everything is done: ack at once.
    Ack,
    /// Try again, not before this time.
    Retry {
        until: Time,
    },
    /// Write first, then ack.
    Write(Write),
    Hold {
        reason: Reason,
    },
}

impl Item {
    /// Whether the item has used a worker, or waited for one, so that a record of it is worth keeping.
    pub fn has_history(&self) -> bool {
        self.attempts > 0 || self.not_started.is_some()
    }
}
