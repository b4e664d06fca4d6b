//! How one attempt can end, and why an item is given up.

use std::fmt;
use std::time::Duration;

/// How one attempt ended. The function `sink::classify` of the bridge finds it from each status and
/// error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The work is done.
    Done,
    /// The worker's code did not run. This does not count as an attempt, and the item is tried
    /// again.
    NotStarted { retry_after: Option<Duration> },
    /// The worker ran and failed; another attempt may help.
    Failed { retry_after: Option<Duration> },
    /// The worker says that no attempt will ever help, or its status says so, such as 400.
    Rejected,
    /// The request was sent and nobody can tell how it ended; the worker may still be running.
    /// `on_unknown` decides whether the item is tried again.
    Unknown,
    /// The configuration of the bridge is the cause, and not the item: refused credentials, a
    /// redirect, a refused client certificate. The breaker opens, and the item is tried again when
    /// the breaker closes.
    Misconfigured,
    /// The worker was stopped before it finished, for example because its pod was deleted. The item
    /// is tried again.
    Interrupted,
    /// The service answered, but the answer is not valid HTTP. Another attempt may help.
    Unreadable,
    /// The worker reported nothing for too long, and its request was closed. Another attempt may
    /// help.
    Stalled,
}

impl Outcome {
    /// The value of the label `outcome` in the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::NotStarted { .. } => "not-started",
            Outcome::Failed { .. } => "failed",
            Outcome::Rejected => "rejected",
            Outcome::Unknown => "unknown",
            Outcome::Misconfigured => "misconfigured",
            Outcome::Interrupted => "interrupted",
            Outcome::Unreadable => "unreadable",
            Outcome::Stalled => "stalled",
        }
    }

    /// Whether the attempt counts towards `retry.attempts`.
    pub fn counts_as_attempt(self) -> bool {
        !matches!(self, Outcome::NotStarted { .. } | Outcome::Misconfigured | Outcome::Interrupted)
    }
}

/// Why an item failed for good. The texts are public API: header `longhaul-reason` and label
/// `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The worker rejected it, or the bridge cannot make a request of it.
    Rejected,
    /// All of `retry.attempts` are used up.
    Attempts,
    /// `retry.worker_time_budget` is used up.
    Budget,
    /// No worker could be reached within `retry.not_started_for`.
    NotStarted,
    /// The outcome was unknown, and `on_unknown` is `dead-letter` or `hold`.
    Unknown,
    /// The body is over `limits.item_bytes`.
    TooLarge,
    /// A Kafka record held its partition's committed offset up for longer than
    /// `stuck_head.dead_letter_after`, or the worker of its last attempt reported nothing for
    /// `stalled_after`.
    Stalled,
    /// A person gave it up: held it, cancelled it, or asked for its dead letter.
    Cancelled,
    /// The source could not decode it.
    Undecodable,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::Rejected,
        Reason::Attempts,
        Reason::Budget,
        Reason::NotStarted,
        Reason::Unknown,
        Reason::TooLarge,
        Reason::Stalled,
        Reason::Cancelled,
        Reason::Undecodable,
    ];

    /// The reason with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Attempts => "attempts",
            Reason::Budget => "budget",
            Reason::NotStarted => "not-started",
            Reason::Unknown => "unknown",
            Reason::TooLarge => "too-large",
            Reason::Stalled => "stalled",
            Reason::Cancelled => "cancelled",
            Reason::Undecodable => "undecodable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_way_through_a_header() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(&reason.to_string()), Some(reason));
        }
        assert_eq!(Reason::parse("Rejected"), None);
    }

    #[test]
    fn an_end_without_a_fault_of_the_item_does_not_count() {
        let counted = [
            Outcome::Done,
            Outcome::Failed { retry_after: None },
            Outcome::Rejected,
            Outcome::Unknown,
            Outcome::Unreadable,
            Outcome::Stalled,
        ];
        let free = [Outcome::NotStarted { retry_after: None }, Outcome::Misconfigured, Outcome::Interrupted];
        assert!(counted.iter().all(|outcome| outcome.counts_as_attempt()));
        assert!(!free.iter().any(|outcome| outcome.counts_as_attempt()));
        let labels = counted.iter().chain(&free).map(|outcome| outcome.label());
        let names = [
            "done",
            "failed",
            "rejected",
            "unknown",
            "unreadable",
            "stalled",
            "not-started",
            "misconfigured",
            "interrupted",
        ];
        assert!(labels.eq(names), "the labels are API");
    }
}
