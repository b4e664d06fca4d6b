//! Knative's pod autoscaler (KPA) as arithmetic, without clock and I/O. The rules are those of
//! Knative Serving 1.15 and later. `tests/it/kpa.rs` compares them with recorded decisions of the
//! real autoscaler, one by one.
//!
//! Read in this order: [`Config`] (the settings of one revision), [`Buckets`] (a metric over a
//! window), [`Decider`] (one decision), [`Autoscaler`] (all three), [`Applied`] (from a decision to
//! replicas), [`Scaler`] (everything together, driven by reports and time).

/// The name of this autoscaler in `pod-autoscaler-class` and in the annotation `class`.
pub const CLASS: &str = "kpa.autoscaling.knative.dev";

mod activity;
pub mod annotations;
mod apply;
mod autoscaler;
mod buckets;
mod cluster;
mod config;
mod decide;
mod delay;
mod error;
mod exponent;
mod scaler;
pub(super) mod text;
mod time;

pub use activity::{Activity, Load};
pub use annotations::Annotations;
pub use apply::{Applied, Condition, Observed};
pub use autoscaler::Autoscaler;
pub use buckets::{Aggregation, Buckets};
pub use cluster::Cluster;
pub use config::{Config, Metric};
pub use decide::{Decider, Decision};
pub use error::{Error, Problem};
pub use scaler::{Averages, Scaler, TICK};
pub use time::Time;
