//! The labels of the metrics, and the bounds of their values.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use crate::delivery::Outcome;

/// The labels of one sample, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels(Vec<(&'static str, String)>);

/// One of each class. [`CANCELLED`] is the end of an attempt that a person cut.
pub(super) const OUTCOMES: [Outcome; 9] = [
    Outcome::Done,
    Outcome::NotStarted { retry_after: None },
    Outcome::Failed { retry_after: None },
    Outcome::Rejected,
    Outcome::Unknown,
    Outcome::Misconfigured,
    Outcome::Interrupted,
    Outcome::Unreadable,
    Outcome::Stalled,
];

/// The value of the label `outcome` for an attempt that a person cancelled.
pub(super) const CANCELLED: &str = "cancelled";

/// The value of the label `code` without an answer.
pub(super) const NO_CODE: &str = "none";

/// The status codes that are a value of the label `code`. All others count by their first digit, so
/// that a service cannot make new series without end.
pub(super) const CODES: [u16; 21] =
    [200, 201, 202, 204, 301, 302, 307, 308, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504];

impl Labels {
    pub fn new<const N: usize>(pipeline: &str, more: [(&'static str, &str); N]) -> Self {
        let more = more.map(|(name, value)| (name, value.to_owned()));
        Labels([("pipeline", pipeline.to_owned())].into_iter().chain(more).collect())
    }

    /// Labels without a pipeline.
    pub fn of_process<const N: usize>(labels: [(&'static str, &str); N]) -> Self {
        Labels(labels.map(|(name, value)| (name, value.to_owned())).into())
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// The values of the label `outcome`.
pub(super) fn outcomes() -> impl Iterator<Item = &'static str> {
    OUTCOMES.into_iter().map(Outcome::label).chain([CANCELLED])
}

/// The value of the label `code`.
pub(super) fn code(status: Option<u16>) -> String {
    match status {
        None => NO_CODE.to_owned(),
        Some(status) if CODES.contains(&status) => status.to_string(),
        Some(status) => format!("{}xx", status / 100),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_service_can_make_series_without_end() {
        let all: BTreeSet<String> = (100..1000).map(|status| code(Some(status))).collect();
        assert_eq!(all.len(), CODES.len() + 9, "{all:?}");
        assert_eq!(
            (code(Some(503)), code(Some(599)), code(None)),
            ("503".into(), "5xx".into(), "none".into())
        );
    }
}
