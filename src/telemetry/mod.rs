//! Shows the program to the outside: metrics, log lines, and the condition of each pipeline.

mod logging;
mod metrics;
pub mod problem;
mod pulse;
mod status;
pub mod traces;

pub use logging::{LogFilter, LogFormat, init_logging};
pub use metrics::{
    BreakerState, Exposition, GuardFailure, GuardMetrics, GuardWrite, IntakeCounts, Metrics, PartitionState,
    PipelineMetrics, TraceCounts, reference,
};
pub use problem::{Problem, ProblemKind, timestamp};
pub use pulse::Pulse;
pub use status::{Reason, Status, remind};
pub use traces::Traces;
