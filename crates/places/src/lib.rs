//! A YAML file that is checked against a JSON Schema, with the place of every mistake.
//!
//! [`yaml`] reads the text into a tree that knows the line and column of each key and value.
//! [`shape`] compares the tree with the schema. [`report`] collects the mistakes of both, and those
//! that the caller finds in the values. None of the three stops at the first mistake, and no
//! excerpt shows a [`Secret`].
//!
//! This crate knows no key of longhaul's configuration and no Kubernetes manifest. Both are read
//! with it.

pub mod mistake;
pub mod path;
pub mod report;
pub mod secret;
pub mod shape;
pub mod template;
pub mod units;
pub mod yaml;

pub use mistake::{Mistake, Mistakes, Severity};
pub use path::Path;
pub use report::Report;
pub use secret::Secret;
pub use template::{Env, process_env};
pub use units::{ByteCount, Span};
