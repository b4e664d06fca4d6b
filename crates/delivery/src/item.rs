//! One item in the core's hands, and where it is.

use std::time::Duration;

use super::clock::StartTime;
use super::outcome::Reason;
use super::protocol::{ClaimId, Time, Write};
use super::session::{DeliveryId, Group, Identity, Mark, OrderKey, Outline};

/// The core's name of an item, in order of arrival. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub place: Place,
    /// Identities under which another delivery of this item may still arrive: that of a lost
    /// delivery, and those of copies that were written or may have been. One delivery uses one of
    /// them up.
    pub expected: Vec<Identity>,
    /// The marks of the copies among them that no delivery has brought yet.
    pub unseen_copies: Vec<Mark>,
    pub redelivered: bool,
    pub order_key: Option<OrderKey>,
    pub group: Group,
    /// Memory of its message, in bytes.
    pub message_bytes: u64,
    /// Memory of its worker's latest answer, in bytes.
    pub answer_bytes: u64,
    /// Whether this process has made an attempt at it.
    pub is_tried: bool,
    /// Counted attempts so far.
    pub attempts: u32,
    /// Time that workers spent on it in all counted attempts.
    pub worker_time: Duration,
    /// Since when no worker could be reached, and the number of tries since then.
    pub not_started: Option<(StartTime, u32)>,
    /// When its first attempt failed.
    pub failing_since: Option<StartTime>,
    /// Whether a worker left a checkpoint that the item's message does not carry.
    pub has_checkpoint: bool,
    /// Attempts that were interrupted since the last counted one.
    pub interruptions: u32,
    /// Writes that failed in a row.
    pub write_failures: u32,
    pub copying: Copying,
}

/// Where an item is: under a delivery that can be settled, without one, or promised to another
/// replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// It has a delivery of a living session, which arrived under this identity.
    Live { delivery: DeliveryId, name: Identity, doing: Doing },
    /// Its delivery is gone, and a redelivery will adopt it.
    Orphan { doing: Left, keep: Keep },
    /// Another replica waits for its result.
    Claimed { by: ClaimId, doing: Left },
    /// Another replica was given its result. The item is kept for as long as that replica may ask
    /// again.
    Handed { to: ClaimId, decision: Decision, spent: bool },
}

/// The state of an item with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    /// It starts as soon as a slot is free and its key allows it.
    Ready,
    /// It does not start, because its session is about to end.
    Stopped,
    /// Other replicas are asked for it, or one of them runs it.
    Asking,
    /// Its request is open.
    Running,
    /// Its next attempt is due at this time.
    Waiting { until: Time },
    /// Its dead letter, reply or parked copy is being written.
    Writing(Write),
    /// That write failed and is due again at this time.
    WriteWait { write: Write, until: Time },
    /// It failed for good, and no rule allows anything but to keep it.
    Held { reason: Reason },
    /// The settlement is on its way to the broker.
    Settling(End),
    /// The broker's client took the ack. The broker has not shown yet that it knows of it.
    Acked,
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    Ack,
    /// Acked without success, because the configuration asks for that.
    Drop,
    Return,
}

/// The state of an item without a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Left {
    Asking,
    Running,
    Writing(Write),
    /// A claimed item whose reply could not be written yet.
    WriteWait {
        write: Write,
        until: Time,
    },
    Decided(Decision),
}

/// The next step of an item that waits for a delivery to take it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Decision {
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

/// How long an orphan is kept, and whether its result is still unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Keep {
    /// `None` keeps it without a limit in time: it runs, or its copy waits in the queue.
    pub until: Option<Time>,
    /// Its work ended after its delivery was lost. Without a redelivery that work is wasted.
    pub owed: bool,
}

/// The progress of the copy that an item gets in its own queue, near the delivery limit or in a
/// drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Copying {
    /// The item needs no copy.
    #[default]
    NotNeeded,
    Writing {
        mark: Mark,
    },
    /// The write was not confirmed and is due again at this time.
    Wait {
        until: Time,
    },
    /// The queue does not accept the copy. The broker may drop the item.
    Impossible,
}

impl Item {
    /// An item that has just arrived.
    pub fn new(outline: &Outline, attempts: u32) -> Self {
        let place = Place::Live { delivery: outline.id, name: outline.identity.clone(), doing: Doing::Ready };
        Item {
            redelivered: outline.redelivered,
            order_key: outline.order_key,
            message_bytes: outline.kept_bytes,
            attempts,
            ..Item::at(place, outline.identity.group())
        }
    }

    /// A record that acks the delivery of a finished item when it returns.
    pub fn finished(name: Identity, keep: Keep) -> Self {
        let group = name.group();
        let place = Place::Orphan { doing: Left::Decided(Decision::Ack), keep };
        Item { expected: vec![name], redelivered: true, ..Item::at(place, group) }
    }

    fn at(place: Place, group: Group) -> Self {
        Item {
            place,
            expected: Vec::new(),
            unseen_copies: Vec::new(),
            redelivered: false,
            order_key: None,
            group,
            message_bytes: 0,
            answer_bytes: 0,
            is_tried: false,
            attempts: 0,
            worker_time: Duration::ZERO,
            not_started: None,
            failing_since: None,
            has_checkpoint: false,
            interruptions: 0,
            write_failures: 0,
            copying: Copying::NotNeeded,
        }
    }

    /// Whether the item has used a worker, waited for one, or may have a copy, so that a record of
    /// it is worth keeping.
    pub fn has_history(&self) -> bool {
        self.attempts > 0 || self.interruptions > 0 || self.not_started.is_some() || !self.expected.is_empty()
    }

    pub fn delivery(&self) -> Option<DeliveryId> {
        match self.place {
            Place::Live { delivery, .. } => Some(delivery),
            _ => None,
        }
    }

    /// The state of an item that has a delivery.
    pub fn doing(&self) -> Option<Doing> {
        match self.place {
            Place::Live { doing, .. } => Some(doing),
            _ => None,
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(
            self.place,
            Place::Live { doing: Doing::Running, .. }
                | Place::Orphan { doing: Left::Running, .. }
                | Place::Claimed { doing: Left::Running, .. }
        )
    }

    /// The write that is under way, in any place of the item.
    pub fn writing(&self) -> Option<Write> {
        match self.place {
            Place::Live { doing: Doing::Writing(write), .. }
            | Place::Orphan { doing: Left::Writing(write), .. }
            | Place::Claimed { doing: Left::Writing(write), .. } => Some(write),
            _ => None,
        }
    }

    /// Whether nothing is left to do but to recognise a delivery that returns.
    pub fn is_remembered(&self) -> bool {
        matches!(self.place, Place::Live { doing: Doing::Acked, .. } | Place::Handed { spent: true, .. })
    }

    pub fn is_decided(&self) -> bool {
        matches!(self.place, Place::Orphan { doing: Left::Decided(_), .. })
    }

    pub fn is_copying(&self) -> bool {
        matches!(self.copying, Copying::Writing { .. })
    }

    /// Uses an expected identity up. Returns whether it was expected.
    pub fn take_expected(&mut self, name: &Identity) -> bool {
        let found = self.expected.iter().position(|expected| expected == name);
        if let Some(found) = found {
            self.expected.remove(found);
            self.unseen_copies.retain(|mark| name.mark() != Some(*mark));
        }
        found.is_some()
    }
}
