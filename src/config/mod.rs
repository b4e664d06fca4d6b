//! The configuration file: its types, and how it is read and checked.
//!
//! The doc comments of the types are the reference: the JSON Schema and what `longhaul schema` prints
//! are generated from them. This module knows no component; each component makes its settings from it.
//!
//! A file is read in three steps, none of which stops at the first mistake: [`yaml`] makes a tree that knows
//! the place of each key, [`shape`] compares it with the schema, and [`validate`] looks at what the values mean.

pub mod load;
mod mistake;
pub(crate) mod path;
pub(crate) mod report;
pub mod schema;
pub mod secret;
pub(crate) mod shape;
mod template;
pub mod types;
pub mod units;
mod validate;
pub(crate) mod yaml;

pub use load::{Features, LoadError, Loaded, load, read};
pub use mistake::{Mistake, Mistakes, Severity};
pub use schema::schema;
pub use secret::Secret;
pub use template::{Env, process_env};
pub use types::*;
pub use units::{ByteCount, Span};
