//! What goes into the core and what comes out of it.

use std::time::Duration;

use super::item::ItemId;
use super::outcome::{Outcome, Reason};
use super::session::{DeliveryId, Epoch, Identity, Outline, Settlement};

/// Time since the pipeline started. It never runs backwards.
pub type Time = Duration;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A session came up; its deliveries follow.
    SessionUp(Epoch),
    /// A session will be lost within seconds, as planned: nothing of it starts any more, and what did not start
    /// is given back.
    SessionEnding(Epoch),
    /// A session is gone and its deliveries can't be settled any more.
    SessionLost(Epoch),
    /// The broker handed an item over.
    Received(Outline),
    /// The request of [`Effect::Dispatch`] ended after `took`.
    Completed { item: ItemId, outcome: Outcome, took: Duration },
    /// The write of [`Effect::Write`] ended.
    Written { item: ItemId, written: Written },
    /// The write of [`Effect::Rewrite`] ended.
    Rewritten { item: ItemId, written: Written },
    /// The broker's client took the settle of [`Effect::Settle`], or its session was already gone.
    Settled { id: DeliveryId, stale: bool },
    /// The broker has shown that it knows of the settle: this delivery never comes back.
    Proven { id: DeliveryId },
    /// The question of [`Effect::Ask`] was answered: what another replica made of the item, or `None`
    /// where it runs nowhere else.
    Answered { item: ItemId, handed: Option<Handed> },
    /// Another replica was handed this item and asks for the work that was begun here.
    Claim { claim: ClaimId, identity: Identity },
    /// What was handed over is not needed there after all.
    TakeBack { identity: Identity, handed: Handed },
    /// Whoever made the claim is gone.
    Unclaim { claim: ClaimId },
    /// The delivery is not worth waiting for any longer, whatever is under way for its item.
    GiveUp { id: DeliveryId, reason: Reason },
    /// A person says that the service works again: the breaker closes.
    Resume,
    /// Start nothing new, give back what did not start, finish the rest.
    Drain,
    /// Time passed [`super::Dispatcher::poll_timeout`].
    Timer,
}

/// Something for the shell to do. Each is done once and in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// An item is in the core's hands under this name; the shell keeps its message until `Forget`.
    Admit { item: ItemId, id: DeliveryId },
    /// The redelivery `id` belongs to `item`, which is known already: its message need not be kept.
    Adopt { item: ItemId, id: DeliveryId },
    /// Send the request; answered by exactly one [`Input::Completed`].
    Dispatch { item: ItemId, attempt: u32, redelivered: bool },
    /// Cut the request: nobody waits for its end, and no [`Input::Completed`] of it counts any more.
    Cancel { item: ItemId },
    /// Write the item somewhere; answered by exactly one [`Input::Written`].
    Write { item: ItemId, write: Write },
    /// Write the item anew to its own queue, with the name that the shell tells by
    /// [`super::Dispatcher::name`] before the write begins; answered by exactly one [`Input::Rewritten`].
    Rewrite { item: ItemId, attempts: u32 },
    /// Ask the other replicas for the item; answered by exactly one [`Input::Answered`].
    Ask { item: ItemId, id: DeliveryId, identity: Identity },
    /// Where the claim stands. `Running` is followed by another word once the request has ended.
    Claimed { claim: ClaimId, standing: Standing },
    /// Settle a delivery; answered by one [`Input::Settled`], unless its session is lost first.
    Settle { id: DeliveryId, how: Settlement, dropped: bool },
    /// Let the broker remember the count of attempts, where it can.
    Note { id: DeliveryId, attempts: u32 },
    /// The item failed for good and nothing may be done with it: tell people.
    Hold { item: ItemId, reason: Reason },
    /// The item will be tried again after `delay`.
    Retry { item: ItemId, delay: Duration },
    /// A copy of the item is in the broker, and the item is known by it from now on; its old delivery is
    /// `twin`'s.
    Copied { item: ItemId, twin: ItemId },
    /// The core may still recognise the item, but has no more use for its message.
    Release { item: ItemId },
    /// The core has no more use for the item.
    Forget { item: ItemId },
    /// An orphan was given up unadopted, because there were too many or it was too old. Its item will
    /// run again when the broker hands it over.
    OrphanExpired { item: ItemId },
    /// The breaker opened (`true`) or closed.
    Breaker { open: bool },
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// The worker's answer.
    Reply,
    /// The item itself, with the reason.
    DeadLetter { reason: Reason, attempts: u32 },
    /// The item itself, to where it comes back from after `delay`.
    Park { attempts: u32, delay: Duration },
}

/// A question of another replica, as this process numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u64);

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing that could be handed over: either nothing is known of the item, or it runs here under a
    /// delivery of a living session, which will settle it.
    NotYours,
    /// The request is still open; its result will be the claimant's.
    Running,
    /// The result, which is the claimant's from now on.
    Handed(Handed),
}

/// What one replica hands to another: all that is left to do with the item's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handed {
    /// Ack it.
    Done,
    /// Try it again, not before `delay` has passed.
    Retry { attempts: u32, delay: Duration },
    /// It failed for good: write the dead letter, or whatever is configured.
    Failed { reason: Reason, attempts: u32 },
    /// It failed for good and is to be held.
    Held { reason: Reason, attempts: u32 },
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// The target confirmed it.
    Confirmed,
    /// Not confirmed; it will be written again.
    Failed,
    /// It can never be written there: the item is held.
    Impossible,
}
