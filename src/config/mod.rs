//! The configuration file: its types, and how it is read and checked.
//!
//! The doc comments of the types are the reference: the JSON Schema and what `longhaul schema` prints
//! are generated from them. This module knows no component; each component makes its settings from it.

pub mod load;
pub mod secret;
pub mod types;
pub mod units;
mod validate;

pub use load::{Mistake, Mistakes, load};
pub use secret::Secret;
pub use types::*;
pub use units::{ByteCount, Span};
