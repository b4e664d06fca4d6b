//! The pure core: decides what happens to each item, and performs nothing itself.
//!
//! It contains no async code, clock, randomness or I/O, and uses `std` only. The shell (`bridge`)
//! tells the [`Dispatcher`] about each event with [`Dispatcher::handle`] and carries out the
//! [`Command`]s that it returns. Time is an argument, and [`Dispatcher::poll_timeout`] says when to
//! call again. The same code therefore runs in production, in the exhaustive model
//! (`tests/model.rs`), in the seeded simulation (`tests/simulation.rs`) and in virtual time
//! (`plan`). The same inputs at the same times always give the same effects, so a log of inputs can
//! be replayed.
//!
//! The way of one item:
//!
//! ```text
//!  Received ──► Ready ──► Running ──► Settling ──► forgotten  (Done)
//!                 ▲          │  └────► Writing ──► Settling   (Done with a reply; failed for good)
//!                 └ Waiting ◄┘            │ ▲
//!                    (retry)           WriteWait       Held (failed for good, no target)
//! ```
//!
//! When its session is lost, an item becomes an *orphan*: an open request continues, and any other
//! decision is kept until a redelivery of the same item adopts it (`place::Orphan`). A replica that
//! was given the item may claim it.
//!
//! Read in this order: `dispatcher` (entry point), `receive`, `attempt`, `write`, `settle`, `lost`;
//! then `items` (the owner of all indexes), `copies` and `claims`; then `state`
//! (an item as people see it) and `people` (their actions).

mod attempt;
mod breaker;
mod claims;
mod clock;
mod copies;
mod dispatcher;
mod drain;
pub mod invariants;
mod item;
mod items;
pub mod lease;
mod limit;
mod lost;
mod outcome;
mod people;
mod policy;
mod protocol;
mod rate;
mod receive;
mod session;
mod settle;
mod state;
mod write;

pub use breaker::OpenBreaker;
pub use dispatcher::{Dispatcher, NoRoom, Stats};
pub use item::ItemId;
pub use outcome::{Outcome, Reason};
pub use people::{Action, Then};
pub use policy::{Bounds, OnFailed, OnUnknown, Policy, Retry, Targets};
pub use protocol::{
    AttemptEnd, ClaimId, Command, Effect, Handed, Input, Notice, Remains, Standing, Time, Write, Written,
};
pub use session::{DeliveryId, Digest, Epoch, Group, Identity, LogId, Mark, OrderKey, Outline, Settlement};
pub use state::{Ended, ItemView, PerState, State, StateKind};
