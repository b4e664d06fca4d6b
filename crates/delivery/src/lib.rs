//! The pure core: decides what happens to each item, and does nothing itself.
//!
//! No async, clock, randomness or I/O in here, and nothing but `std`. The shell (`bridge`) tells the
//! [`Dispatcher`] what happened with [`Dispatcher::handle`] and carries out the [`Effect`]s that it
//! answers; time comes in as an argument and goes out as [`Dispatcher::poll_timeout`]. The same code
//! therefore runs in production, in the exhaustive model (`tests/model.rs`), in the seeded simulation
//! (`tests/simulation.rs`) and in virtual time.
//!
//! One item's way:
//!
//! ```text
//!  Received ──► Ready ──► Running ──► Settling ──► forgotten          (Done)
//!                 ▲          │  └────► Writing ──► Settling           (Done with a reply; failed for good)
//!                 └ Waiting ◄┘            │ ▲
//!                    (retry)           WriteWait       Held           (failed for good, nowhere to write)
//! ```
//!
//! When its session is lost an item becomes an *orphan*: a running request goes on, and whatever else
//! was decided is kept as [`item::Phase::Pending`] until a redelivery of the same item adopts it.

mod adopt;
mod breaker;
mod claim;
mod complete;
mod copy;
mod dispatcher;
mod drain;
pub mod invariants;
mod item;
mod limit;
mod order;
mod orphan;
mod outcome;
mod policy;
mod protocol;
mod session;

pub use dispatcher::{Dispatcher, NoRoom, Stats};
pub use item::ItemId;
pub use outcome::{Outcome, Reason};
pub use policy::{Bounds, OnFailed, OnUnknown, Policy, Retry};
pub use protocol::{ClaimId, Effect, Handed, Input, Standing, Time, Write, Written};
pub use session::{DeliveryId, Digest, Epoch, Identity, LogId, Mark, OrderKey, Outline, Settlement};
