//! The classes of an attempt's end, and the reasons to give an item up.

use std::fmt;
use std::time::Duration;

/// The class of a request's end. `sink::classify` decides the class of each status and error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The work is done.
    Done,
    /// No worker code ran: free of charge, tried again.
    NotStarted { retry_after: Option<Duration> },
    /// The worker ran and failed; another attempt may help.
    Failed { retry_after: Option<Duration> },
    /// The worker (or the rules of HTTP) says that no attempt will ever help.
    Rejected,
    /// The request was sent and nobody can tell how it ended; the worker may still be running.
    Unknown,
    /// The answer concerns the configuration of the bridge and not the item: refused credentials, a
    /// redirect, a refused client certificate. The breaker opens and the item stays.
    Misconfigured,
    /// The worker was stopped before it finished, through no fault of the item.
    Interrupted,
    /// The service answered, but the answer is not valid HTTP.
    Unreadable,
    /// The worker reported nothing for too long, and its request was closed.
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

    /// Whether the ending is charged against `retry.attempts`.
    pub fn counts_as_attempt(self) -> bool {
        !matches!(self, Outcome::NotStarted { .. } | Outcome::Misconfigured | Outcome::Interrupted)
    }
}

/// Why an item failed for good. The words are API: header `longhaul-reason` and label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The worker rejected it, or it cannot be made into a request.
    Rejected,
    /// All of `retry.attempts` are used up.
    Attempts,
    /// `retry.worker_time_budget` is used up.
    Budget,
    /// No worker could be reached within `retry.not_started_for`.
    NotStarted,
    /// An unknown outcome, with `on_unknown: dead-letter` or `hold`.
    Unknown,
    /// The body is over `limits.item_bytes`.
    TooLarge,
    /// A Kafka record held its partition's committed offset up for longer than
    /// `stuck_head.dead_letter_after`, or the worker of its last attempt reported nothing for
    /// `stalled_after`.
    Stalled,
    /// A person held it, cancelled it, or asked for its dead letter.
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
    fn only_a_run_counts_as_an_attempt() {
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
