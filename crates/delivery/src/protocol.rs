//! The inputs and the effects of the core.
//!
//! The core ([`Dispatcher`](super::Dispatcher)) decides, and does no I/O. The shell tells it each
//! [`Input`], and carries out the [`Effect`]s that it returns. These words have a fixed meaning:
//!
//! * A *session* is the time from a connection to the broker until its loss. Its [`Epoch`] names
//!   it.
//! * A *delivery* is one handing-over of an item in a session. An item may have several in turn.
//! * An *orphan* is an item whose request runs, or has ended, while it has no delivery.
//! * A *claim* is the request of another replica for the result of an item that runs here. That
//!   replica is the *claimant*.
//! * A *copy* is a message with the content of an item, in the item's own queue. Its *mark* names
//!   it.
//! * A *held* item has failed for good and waits for a person.
//! * The *breaker* stops all requests while the service or the configuration is broken.

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
    /// A session will be lost within seconds, as planned: no delivery of it is started, and the
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
    /// The broker's client has accepted the settlement of [`Command::Settle`]. `stale`: its session
    /// was already gone, so nothing was settled.
    Settled { delivery: DeliveryId, stale: bool },
    /// The broker has confirmed the ack: this delivery never comes back.
    AckConfirmed { delivery: DeliveryId },
    /// The question of [`Command::AskPeers`] was answered: the result that another replica handed
    /// over, or `None` if the item runs nowhere else.
    PeersAnswered { item: ItemId, handed: Option<Handed> },
    /// The broker handed this item to another replica, which asks for the result of the work here.
    /// It repeats the question until it has the result.
    Claim { claim: ClaimId, identity: Identity },
    /// The replica that made the claim has received its result.
    ClaimFetched { claim: ClaimId },
    /// The replica that made the claim does not need it any more.
    ClaimReleased { claim: ClaimId },
    /// This Kafka record holds back its partition's committed offset. It is given up if its
    /// attempts have been failing for longer than [`super::Policy::give_up_after`]. Repeat this
    /// input while the record is there.
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
    /// The time of [`super::Dispatcher::poll_timeout`] has come.
    Timer,
}

/// The end of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptEnd {
    pub outcome: Outcome,
    pub took: Duration,
    /// The memory of the stored part of the answer, in bytes.
    pub answer_bytes: u64,
    /// The worker left a checkpoint in its answer. The next request must carry it.
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
    /// Keep the message of this delivery as `item`, until `Release` or `Forget`.
    Admit { item: ItemId, delivery: DeliveryId },
    /// The delivery belongs to `item`, which is known already. Keep its message if there is no
    /// message of this item.
    Adopt { item: ItemId, delivery: DeliveryId },
    /// Send the request; answered by exactly one [`Input::Completed`]. `redelivered`: the item may
    /// have been started before.
    Dispatch { item: ItemId, attempt: u32, redelivered: bool },
    /// Cut the request. The core accepts no [`Input::Completed`] of it any more.
    Cancel { item: ItemId },
    /// Write the item; answered by exactly one [`Input::Written`].
    Write { item: ItemId, write: Write },
    /// Write a copy of the item to the item's own queue, with this mark; answered by exactly one
    /// [`Input::CopyWritten`].
    Copy { item: ItemId, mark: Mark, attempts: u32 },
    /// Ask the other replicas whether the item runs there; answered by exactly one
    /// [`Input::PeersAnswered`].
    AskPeers { item: ItemId, delivery: DeliveryId, identity: Identity },
    /// Ask the broker whether it knows the session; answered by [`Input::SessionAlive`] or
    /// [`Input::SessionLost`].
    Prove { epoch: Epoch },
    /// Tell the claimant the state of its claim. After `Running`, another answer follows.
    AnswerClaim { claim: ClaimId, standing: Standing },
    /// The claim is over: its number is never used again.
    EndClaim { claim: ClaimId },
    /// Settle a delivery; answered by one [`Input::Settled`], unless its session is lost first.
    /// `dropped`: a person dropped the item.
    Settle { delivery: DeliveryId, how: Settlement, dropped: bool },
    /// Store the number of attempts with the broker, if it can store such a number.
    Note { delivery: DeliveryId, attempts: u32 },
    /// Delete the item's message, and keep what `remains` says.
    Release { item: ItemId, remains: Remains },
    /// Delete all that is stored of the item.
    Forget { item: ItemId },
}

/// The part of an item that the shell keeps without its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remains {
    /// Nothing: the item is done.
    Nothing,
    /// The id of its event: the item may run again here, with the same id.
    Id,
    /// The worker's answer, which is still to be written.
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
    /// A second delivery of an item was acked. The item is in hand, or done, under another
    /// delivery.
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
    /// The item is in another state now. `Acked` may follow `Dropped`.
    Moved {
        item: ItemId,
        state: State,
    },
}

/// The content of a write, and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// The worker's answer, to the reply target.
    Reply,
    /// The item itself with the reason, to the dead letter.
    DeadLetter { reason: Reason, attempts: u32 },
    /// A copy of the item with this mark, to a queue from which it returns after `delay`.
    Park { mark: Mark, attempts: u32, delay: Duration },
}

/// The shell's number for a claim of another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u64);

/// The state of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing is known of the item.
    Unknown,
    /// The item has a delivery of a session that is still connected here, and will be settled in
    /// it.
    NotYours,
    /// The request is still open; its result will be handed to the claimant.
    Running,
    /// The result. From now on only the claimant has it.
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
    /// It is not confirmed. The core asks for the write again.
    Failed,
    /// The target never accepts an item of this size.
    TooLarge,
    /// The target never accepts this item, for another reason.
    Impossible,
}
