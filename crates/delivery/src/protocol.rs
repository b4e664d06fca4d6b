//! The inputs and the effects of the core.

use std::time::Duration;

use super::item::ItemId;
use super::outcome::{Outcome, Reason};
use super::people::Action;
use super::session::{DeliveryId, Epoch, Identity, Mark, Outline, Settlement};
use super::state::State;

/// Time since the pipeline started. It never runs backwards.
pub type Time = Duration;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A session came up; its deliveries follow.
    SessionUp(Epoch),
    /// A session will be lost within seconds, as planned: nothing of it starts any more, and the
    /// items that did not start are returned.
    SessionEnding(Epoch),
    /// A session is gone and its deliveries cannot be settled any more.
    SessionLost(Epoch),
    /// The answer to [`Command::Prove`]: the broker knows this session.
    SessionAlive(Epoch),
    /// The broker handed an item over.
    Received(Outline),
    /// The request of [`Command::Dispatch`] ended.
    Completed { item: ItemId, end: AttemptEnd },
    /// The write of [`Command::Write`] ended.
    Written { item: ItemId, written: Written },
    /// The write of [`Command::Copy`] ended.
    CopyWritten { item: ItemId, written: Written },
    /// The broker's client took the settlement of [`Command::Settle`], or its session was already
    /// gone.
    Settled { delivery: DeliveryId, stale: bool },
    /// The broker has shown that it knows of the ack: this delivery never comes back.
    Proven { delivery: DeliveryId },
    /// The question of [`Command::Ask`] was answered: the result that another replica handed over,
    /// or `None` if the item runs nowhere else.
    Answered { item: ItemId, handed: Option<Handed> },
    /// Another replica was handed this item and asks for the work that was begun here, for the
    /// first time or again.
    Claim { claim: ClaimId, identity: Identity },
    /// The replica that made the claim has received its result.
    Fetched { claim: ClaimId },
    /// The replica that made the claim does not need it any more.
    Released { claim: ClaimId },
    /// This Kafka record holds back its partition's committed offset. It is given up if its
    /// attempts have failed for [`super::Policy::give_up_after`]. Repeat this input while the
    /// record is there.
    Stuck { delivery: DeliveryId },
    /// A person acts on an item. Nothing happens if [`super::Dispatcher::allows`] is false.
    Act { item: ItemId, action: Action },
    /// A person pauses the pipeline: nothing new starts until `Resume`.
    Pause,
    /// A person ends a pause, or says that the service works again: the breaker closes.
    Resume,
    /// A person bounds the open requests by `most`, from 1 to `max_in_flight`.
    Limit { most: u32 },
    /// Start nothing new, return the items that did not start, finish the rest.
    Drain,
    /// Time passed [`super::Dispatcher::poll_timeout`].
    Timer,
}

/// The end of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptEnd {
    pub outcome: Outcome,
    pub took: Duration,
    /// Memory of the kept part of the answer, in bytes.
    pub answer_bytes: u64,
    /// The worker left a checkpoint that the item's message does not carry.
    pub has_checkpoint: bool,
}

/// One result of [`super::Dispatcher::handle`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The shell carries it out, once and in the order given.
    Do(Command),
    /// The shell tells people about it. Nothing depends on it.
    Tell(Notice),
}

/// Something for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// An item is in the core's hands under this name. The shell keeps its message until `Release`
    /// or `Forget`.
    Admit { item: ItemId, delivery: DeliveryId },
    /// The delivery belongs to `item`, which is known already. The shell keeps the message if it
    /// has none.
    Adopt { item: ItemId, delivery: DeliveryId },
    /// Send the request; answered by exactly one [`Input::Completed`].
    Dispatch { item: ItemId, attempt: u32, redelivered: bool },
    /// Cut the request. The core accepts no [`Input::Completed`] of it any more.
    Cancel { item: ItemId },
    /// Write the item; answered by exactly one [`Input::Written`].
    Write { item: ItemId, write: Write },
    /// Write a copy of the item to its own queue, with this mark; answered by exactly one
    /// [`Input::CopyWritten`].
    Copy { item: ItemId, mark: Mark, attempts: u32 },
    /// Ask the other replicas for the item; answered by exactly one [`Input::Answered`].
    Ask { item: ItemId, delivery: DeliveryId, identity: Identity },
    /// Ask the broker whether it knows the session; answered by [`Input::SessionAlive`] or
    /// [`Input::SessionLost`].
    Prove { epoch: Epoch },
    /// Tell the replica that made the claim where it stands. `Running` is followed by another
    /// answer.
    Answer { claim: ClaimId, standing: Standing },
    /// The claim is over: its number is never used again.
    EndClaim { claim: ClaimId },
    /// Settle a delivery; answered by one [`Input::Settled`], unless its session is lost first.
    Settle { delivery: DeliveryId, how: Settlement, dropped: bool },
    /// Let the broker remember the count of attempts, where it can.
    Note { delivery: DeliveryId, attempts: u32 },
    /// The item's message is not needed any more.
    Release { item: ItemId, remains: Remains },
    /// The item is gone.
    Forget { item: ItemId },
}

/// The part of an item that the shell keeps without its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remains {
    /// The item is done.
    Nothing,
    /// The item runs again: its event keeps its id.
    Id,
    /// Its worker's answer is still to be written.
    Answer,
}

/// Something for people to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The item failed for good and is held.
    Held {
        item: ItemId,
        reason: Reason,
    },
    /// The item will be tried again after `delay`.
    Retrying {
        item: ItemId,
        delay: Duration,
        attempts: u32,
    },
    /// A copy of the item is in its queue, and its old delivery is acked.
    Copied {
        item: ItemId,
    },
    /// A delivery of an item that is in hand or done under another delivery is acked.
    Redundant {
        delivery: DeliveryId,
    },
    /// An orphan was given up, because there were too many or it was too old. Its item runs again
    /// when the broker hands it over.
    OrphanExpired {
        item: ItemId,
    },
    /// The result was handed to the replica that made the claim.
    HandedOver {
        claim: ClaimId,
        identity: Identity,
        handed: Handed,
    },
    /// The breaker opened because of this outcome.
    BreakerOpened {
        cause: Outcome,
    },
    BreakerClosed,
    /// The item is in another state now. An item that was dropped while it was being settled is
    /// told as acked later.
    Moved {
        item: ItemId,
        state: State,
    },
}

/// The target of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// The worker's answer, to the reply target.
    Reply,
    /// The item itself with the reason, to the dead letter.
    DeadLetter { reason: Reason, attempts: u32 },
    /// A copy of the item with this mark, to a queue from which it returns after `delay`.
    Park { mark: Mark, attempts: u32, delay: Duration },
}

/// The claim of another replica, as the shell numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u64);

/// The state of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing is known of the item.
    Unknown,
    /// The item has a delivery of a living session here, which will settle it.
    NotYours,
    /// The request is still open; its result will be the claimant's.
    Running,
    /// The result, which is the claimant's from now on.
    Handed(Handed),
}

/// The result that one replica hands to another: the remaining step for the item's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handed {
    /// Ack it.
    Done,
    /// Try it again, not before `delay` has passed.
    Retry { attempts: u32, delay: Duration },
    /// It failed for good: write the dead letter, or do what the configuration says instead.
    Failed { reason: Reason, attempts: u32 },
    /// It failed for good and is to be held.
    Held { reason: Reason, attempts: u32 },
}

/// The end of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// The target confirmed it.
    Confirmed,
    /// It is not confirmed and will be written again.
    Failed,
    /// The target never accepts an item of this size.
    TooLarge,
    /// The target never accepts this item, for another reason.
    Impossible,
}
