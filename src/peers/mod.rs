//! Other replicas of this bridge: find them, ask "does this item run with you?", and answer it.
//!
//! When an item is redelivered to another replica while its request still runs at the first, the second must not start
//! it again. It asks all others and waits for the result where one of them has it. Only the transport is here: what may
//! be handed over, and what a verdict says, is decided by whoever implements [`Answer`] and calls [`Peers`].
//!
//! * No answer means "does not run here": a replica that is gone has nothing to hand over.
//! * A handed-over result is moved, never copied, and the move is idempotent: the same question (asker and delivery)
//!   gets the same answer however often it is put, so that an answer lost on the way is not a result lost.
//! * All peers are asked at once, and items can be alike byte for byte, so two of them may reserve a result for one
//!   delivery. The one that is not needed is told so ([`Release`]), and the result is another delivery's again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

mod client;
mod discovery;
mod server;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{Peers, Settings};
pub use discovery::Discovery;
pub use server::{Answer, Status, router};
pub use wire::{Claim, InFlight, Instance, Release, Stay};

/// How long a replica may take to find out whether a session of its own is alive: ten seconds for the broker's answer, and
/// some for noticing that there is none.
pub const PROOF: Duration = Duration::from_secs(12);

/// The bearer token that all replicas share, read anew at each use, so that a rotated one is seen. Fails in words for a
/// person, with nothing of the token in them.
pub type Token = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the other replicas said about an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// It ended at another replica, whose verdict is ours now: nobody else gets it.
    Finished(Value),
    /// It runs at another replica, in a session that lives and will settle it there.
    NotYours,
    /// No replica that answered knows of it.
    Unknown,
    /// A replica said that it runs there and was gone before the end. Nobody can tell whether the work was done.
    Gone,
}
