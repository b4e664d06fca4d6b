//! Other replicas of this bridge: find them, ask "does this item run with you?", and answer that
//! question.
//!
//! When an item is redelivered to another replica while its request still runs at the first, the
//! second must not start it again. It asks all others, and waits for the result if one of them has
//! it. Only the transport is here. [`Responder`] decides which result is handed over, and the
//! caller of [`Peers`] decides what a verdict means.
//!
//! * No answer means "does not run here": a replica that is gone has nothing to hand over.
//! * An answer counts only with a proof that its sender knows the secret and answers this very
//!   question ([`seal`]). The secret itself is never sent. A recorded question is refused
//!   ([`replay`]). Any other text is not an answer, and the item runs here: a second run is better
//!   than an item that is acked without a run (rule D1).
//! * A result is moved, never copied, and the move is idempotent: the same question (asker and
//!   delivery) gets the same answer each time, so that a lost answer is not a lost result.
//! * All peers are asked at once, and items can be alike byte for byte, so two of them may reserve
//!   a result for one delivery. The second one gets a [`Release`], and its result is free for
//!   another delivery again.
//! * People can put a request to any replica; that replica passes it on ([`Peers::call`]).
//! * "It runs here" is believed for a bounded time ([`Settings::patience`]), since no request runs
//!   longer.

use std::sync::Arc;

mod client;
mod discovery;
mod replay;
mod seal;
mod server;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{Peers, Settings, Told};
pub use discovery::Discovery;
pub use server::{ItemStatus, Responder, router};
pub use wire::{Call, Called, Claim, InFlight, Instance, Method, Release, Stay, Verdict};

/// Reads the secret that all replicas share. It is read again at each use, so that a rotated one is
/// seen. An error is for a person and holds nothing of the secret.
pub type Token = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The other replicas' knowledge of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It ended at another replica. Its verdict is for this delivery only.
    Finished(Verdict),
    /// It runs at another replica, in a session that lives and will settle it there.
    NotYours,
    /// No replica that answered knows it.
    Unknown,
    /// A replica said that it runs there, and did not give a result in time. Nobody can tell
    /// whether the work was done.
    Gone,
}
