//! The metrics of the guard of busy pods. They exist only if the guard is configured.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::Labels;
use super::{Labelled, Metrics};

/// Why a request of the guard to the API server did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardFailure {
    /// The bridge has no credentials for an API server.
    NoAccess,
    /// The API server refuses this kind of request.
    Refused,
    /// It answered with another status.
    Answered,
    /// It was not reached, or the connection ended.
    Unreachable,
    /// It did not answer in time.
    Late,
}

impl GuardFailure {
    pub const ALL: [Self; 5] = [Self::NoAccess, Self::Refused, Self::Answered, Self::Unreachable, Self::Late];

    /// The value of the label `failure`.
    pub fn as_str(self) -> &'static str {
        match self {
            GuardFailure::NoAccess => "no-access",
            GuardFailure::Refused => "refused",
            GuardFailure::Answered => "answered",
            GuardFailure::Unreachable => "unreachable",
            GuardFailure::Late => "late",
        }
    }
}

/// A write of the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardWrite {
    /// The mark of a busy pod, also when it is renewed.
    Mark,
    /// The mark of an idle pod, which is removed before all others.
    Idle,
    /// The end of a mark.
    Release,
}

impl GuardWrite {
    pub const ALL: [Self; 3] = [Self::Mark, Self::Idle, Self::Release];

    /// The value of the label `write`.
    pub fn as_str(self) -> &'static str {
        match self {
            GuardWrite::Mark => "mark",
            GuardWrite::Idle => "idle",
            GuardWrite::Release => "release",
        }
    }
}

/// The metrics of the guard, first at zero.
pub struct GuardMetrics {
    /// Busy pods that carry a mark of this bridge.
    pub marked: Gauge,
    /// In the order of [`GuardWrite::ALL`].
    writes: [Counter; GuardWrite::ALL.len()],
    /// In the order of [`GuardFailure::ALL`].
    failures: [Counter; GuardFailure::ALL.len()],
}

impl GuardMetrics {
    /// Counts a write that the API server carried out.
    pub fn wrote(&self, write: GuardWrite) {
        if let Some(index) = GuardWrite::ALL.iter().position(|known| *known == write) {
            self.writes[index].inc();
        }
    }

    /// Counts a failed write, or a failed watch.
    pub fn failed(&self, failure: GuardFailure) {
        if let Some(index) = GuardFailure::ALL.iter().position(|known| *known == failure) {
            self.failures[index].inc();
        }
    }
}

impl Metrics {
    /// Returns the metrics of the guard. From now on `/metrics` shows them.
    pub fn guard(&self) -> GuardMetrics {
        let Labelled { guard_marked, guard_writes, guard_failures, .. } = &self.families.labelled;
        GuardMetrics {
            marked: guard_marked.get_or_create_owned(&Labels::of_process([])),
            writes: GuardWrite::ALL.map(|write| {
                guard_writes.get_or_create_owned(&Labels::of_process([("write", write.as_str())]))
            }),
            failures: GuardFailure::ALL.map(|failure| {
                let labels = Labels::of_process([("failure", failure.as_str())]);
                guard_failures.get_or_create_owned(&labels)
            }),
        }
    }
}
