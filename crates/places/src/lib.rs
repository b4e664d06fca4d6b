//! Checks a YAML file against a JSON Schema, with the place of every mistake.
//!
//! [`yaml`] reads the text into a tree that knows the line and column of each key and value.
//! [`shape`] compares the tree with the schema. [`report`] collects their mistakes, and those that
//! the caller finds in the values. None of the three stops at the first mistake, and no excerpt
//! shows a [`Secret`].
//!
//! This crate does not know longhaul's keys or Kubernetes' manifests. Other crates read both with
//! it.

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
pub use units::{ByteCount, Rate, Span};
