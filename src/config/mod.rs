//! The configuration file: its types, and how it is read and checked.
//!
//! The doc comments of the types are the reference. The JSON Schema and docs/configuration.md are
//! generated from them. This module knows no component; each component makes its settings from it.
//!
//! A file is read in three steps, none of which stops at the first mistake. The crate
//! `longhaul-places` makes a tree that knows the place of each key and compares it with the schema;
//! [`validate`] looks at the values.

pub mod load;
pub mod reference;
pub mod schema;
pub mod types;
mod validate;

use longhaul_places::{path, report, secret, shape, units, yaml};

pub use load::{Features, LoadError, Loaded, load, read};
pub use longhaul_places::template::{Env, process_env};
pub use longhaul_places::{ByteCount, Mistake, Mistakes, Rate, Secret, Severity, Span};
pub use reference::reference;
pub use schema::schema;
pub use types::*;
pub use validate::options::canonical as canonical_kafka_option;
