//! The view from outside: metrics, log lines, and each pipeline's condition.

mod logging;
mod metrics;
pub mod problem;
mod pulse;
mod status;

pub use logging::{LogFilter, LogFormat, init_logging};
pub use metrics::{Exposition, Metrics, PipelineMetrics, reference};
pub use problem::{Problem, ProblemKind};
pub use pulse::Pulse;
pub use status::{Reason, Status, remind};
