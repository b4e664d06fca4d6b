//! Knative's pod autoscaler (KPA) as arithmetic: no clock, no I/O, the standard library alone. The rules are those of Knative Serving
//! 1.15 and later; recorded decisions of the real autoscaler must come out the same, one by one (`tests/it/kpa.rs`).
//!
//! Read in this order: [`Config`] (what one revision's decisions depend on), [`Buckets`] (a metric over a window), [`Decider`] (one
//! decision), [`Autoscaler`] (all three).

pub mod annotations;
mod autoscaler;
mod buckets;
mod cluster;
mod config;
mod decide;
mod delay;
mod error;
mod exponent;
mod text;
mod time;

pub use annotations::Annotations;
pub use autoscaler::Autoscaler;
pub use buckets::{Aggregation, Buckets};
pub use cluster::Cluster;
pub use config::{Config, Metric};
pub use decide::{Decider, Decision};
pub use error::{Error, Problem};
pub use time::Time;
