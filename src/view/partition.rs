//! Changes to one Kafka partition.

use super::Then;

/// A change to one Kafka partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionChange {
    /// Start nothing new of it.
    Pause,
    Resume,
    /// Settle one record without its work.
    Skip {
        offset: i64,
        then: Then,
        dry_run: bool,
    },
}
