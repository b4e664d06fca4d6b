//! What can be seen from outside: metrics, log lines, and each pipeline's condition.

mod logging;
mod metrics;
mod status;

pub use logging::{LogFormat, init_logging};
pub use metrics::{Metrics, PipelineMetrics};
pub use status::Status;
