//! The pure core.

mod outcome;
mod session;

pub use outcome::{Outcome, Reason};
pub use session::{DeliveryId, Epoch, Identity, OrderKey, Outline, Settlement};
