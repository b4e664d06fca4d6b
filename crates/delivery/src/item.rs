//! One item in the core's hands.

use std::time::Duration;

use super::outcome::Reason;
use super::protocol::{ClaimId, Time, Write};
use super::session::{DeliveryId, Epoch, Identity, Mark, OrderKey, Outline, Settlement};

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
    pub rewrite: Rewrite,
    /// The `longhaul-id` of a copy in the broker that was written, or may have been.
    pub copy: Option<Mark>,
    /// A copy carries the item on, so that this ack says nothing about its work.
    pub moved: bool,
    /// Further deliveries of the same name that may come: old ones of which nobody knows whether their acks counted,
    /// and copies that were written while a session was lost.
    pub doubles: u32,
    /// Kept without a bound in age: its copy is in the queue, however long that is.
    pub ageless: bool,
    /// Its work has ended with no delivery to settle: should none come, it was for nothing.
    pub owed: bool,
    /// Another replica waits for what comes of it; it is no orphan any more.
    pub claim: Option<ClaimId>,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    /// May start as soon as there is a slot (and its key is free).
    Ready,
    /// Its request is open.
    Running,
    /// Other replicas are asked for it, or one of them runs it.
    Asking,
    /// A copy of an item that is in hand already, and waits for what becomes of that one.
    Behind(ItemId),
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
    /// Acked, and known well enough to be recognised if the ack did not count after all.
    Acked,
    /// An orphan that is not running: what to do once a redelivery adopts it, and until when to wait for that.
    Pending { verdict: Verdict, until: Time },
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

/// How far the copy of an item near its delivery limit has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Rewrite {
    #[default]
    None,
    Writing,
    /// The copy came before the answer to its write, which is still to come.
    Seen,
    /// Not confirmed, and due again at this time.
    Wait {
        until: Time,
    },
    /// The queue does not take it: the item stays as it is, and the broker may drop it.
    Impossible,
}

impl Item {
    pub fn new(outline: &Outline, attempts: u32) -> Self {
        Item {
            delivery: Some(outline.id),
            identity: outline.identity.clone(),
            redelivered: outline.redelivered,
            order_key: outline.order_key,
            bytes: outline.kept_bytes,
            attempts,
            worker_time: Duration::ZERO,
            not_started: None,
            write_failures: 0,
            rewrite: Rewrite::None,
            copy: None,
            moved: false,
            doubles: 0,
            ageless: false,
            owed: false,
            claim: None,
            phase: Phase::Ready,
        }
    }

    /// What is known of an item whose message is not here.
    pub fn orphan(identity: Identity, attempts: u32) -> Self {
        let id = DeliveryId { epoch: Epoch(0), tag: 0 };
        let outline = Outline {
            id,
            identity,
            redelivered: true,
            attempts_before: 0,
            body_bytes: 0,
            kept_bytes: 0,
            order_key: None,
            near_limit: false,
            ask_peers: false,
            shared: false,
        };
        Item { delivery: None, ..Item::new(&outline, attempts) }
    }

    /// Nothing but the old delivery of `item`, which goes on under the name of its copy.
    pub fn twin(item: &Item, delivery: Option<DeliveryId>) -> Self {
        Item {
            delivery,
            order_key: None,
            bytes: 0,
            rewrite: Rewrite::None,
            copy: None,
            moved: true,
            owed: false,
            phase: Phase::Ready,
            ..item.clone()
        }
    }

    /// Whether the item has used a worker, waited for one, or may have a copy, so that a record of it is
    /// worth keeping.
    pub fn has_history(&self) -> bool {
        self.attempts > 0 || self.not_started.is_some() || self.copy.is_some() || self.doubles > 0
    }

    /// Whether a delivery of it that comes after its ack can be told from every other item's.
    pub fn may_return_acked(&self) -> bool {
        !self.moved && (self.identity.is_unique() || self.copy.is_some())
    }

    /// Whether its body counts against `held_bytes`.
    pub fn weighs(&self) -> bool {
        !matches!(self.phase, Phase::Pending { .. } | Phase::Acked)
    }
}
