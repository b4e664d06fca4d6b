//! The work of the commands that a person needs before and after the bridge: [`enqueue`] items,
//! bring [`dead_letter`]s back, examine the connections ([`doctor`]). They use the bridge's
//! connections and its confirmed writes, and no other part of it.

pub mod bundle;
pub mod dead_letter;
pub mod doctor;
mod draft;
pub mod enqueue;
mod failure;
pub mod intake;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod place;
pub mod progress;
pub mod rabbitmq;
mod select;

pub use failure::{Failure, FailureKind};
pub use place::Place;
pub use progress::Progress;
pub use select::pipeline;
