//! Checks the ranges of durations and sizes, and whether they fit together. A finding about two
//! values names both.

use std::net::SocketAddr;

use super::Context;
use crate::config::path::Path;
use crate::config::types::{Alerts, Config, Pipeline};
use crate::config::units::Span;

impl Context<'_> {
    pub(super) fn times(&mut self, pipeline: &Pipeline, config: &Config, path: &Path) {
        let retry = path.key("retry");
        let Pipeline { retry: values, sink, breaker, .. } = pipeline;
        // Without a wait, an unreachable service would get requests as fast as it can refuse them.
        let least = Span::from_millis(1);
        self.range(&retry.key("backoff"), values.backoff, least, Span::MAX);
        self.range(&retry.key("backoff_max"), values.backoff_max, least, Span::MAX);
        self.range(&retry.key("worker_time_budget"), values.worker_time_budget, least, Span::MAX);
        self.range(&path.key("breaker").key("open"), breaker.open, least, Span::MAX);
        if values.backoff > values.backoff_max {
            self.report.mistake(
                &self.given(&retry, ["backoff", "backoff_max"]),
                format!(
                    "the first wait `backoff` ({}) is longer than the longest, `backoff_max` ({})",
                    values.backoff, values.backoff_max
                ),
                "shorten `backoff`, or lengthen `backoff_max`",
            );
        }
        if let Some(stalled_after) = pipeline.stalled_after {
            let path = path.key("stalled_after");
            self.range(&path, stalled_after, Span::from_secs(1), Span::MAX);
            let is_wildcard = config.admin.listen.as_ref().is_some_and(|listen| {
                listen.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified())
            });
            if config.admin.listen.is_none() || (is_wildcard && config.admin.url.is_none()) {
                self.report.mistake(
                    &path,
                    "workers cannot report, so each attempt would end after this time",
                    "set `admin.listen`, and with a wildcard such as 0.0.0.0 also `admin.url`",
                );
            }
        }
        if values.worker_time_budget < sink.timeout {
            self.report.warning(
                &retry.key("worker_time_budget"),
                format!(
                    "an attempt may take `sink.timeout` ({}), longer than all attempts together ({})",
                    sink.timeout, values.worker_time_budget
                ),
                "lengthen `retry.worker_time_budget`, or shorten `sink.timeout`",
            );
        }
        if config.drain.timeout < sink.timeout {
            self.report.warning(
                &path.key("sink").key("timeout"),
                format!(
                    "a request may take longer ({}) than `drain.timeout` ({}): a stop would cut it",
                    sink.timeout, config.drain.timeout
                ),
                "lengthen `drain.timeout`, and the pod's terminationGracePeriodSeconds with it",
            );
        }
    }

    pub(super) fn alerts(&mut self, alerts: &Alerts, path: &Path) {
        self.range(&path.key("stalled"), alerts.stalled, Span::from_secs(1), Span::MAX);
    }

    pub(super) fn limits(&mut self, pipeline: &Pipeline, path: &Path) {
        let (limits, values) = (path.key("limits"), &pipeline.limits);
        for (key, bytes) in [("item_bytes", values.item_bytes), ("held_bytes", values.held_bytes)] {
            if bytes.get() == 0 {
                self.report.mistake(
                    &limits.key(key),
                    "nothing fits into 0 bytes",
                    "write a size such as 16MiB",
                );
            }
        }
        if values.item_bytes > values.held_bytes {
            self.report.mistake(
                &self.given(&limits, ["item_bytes", "held_bytes"]),
                format!(
                    "an item of `item_bytes` ({}) is larger than all that may be held, `held_bytes` ({})",
                    values.item_bytes, values.held_bytes
                ),
                "lower `item_bytes`, or raise `held_bytes`",
            );
        }
    }

    /// Returns the path of the first key if the file has it, or else of the second. A default value
    /// has no position in the file that a finding could show.
    fn given(&self, path: &Path, keys: [&str; 2]) -> Path {
        let [first, second] = keys.map(|key| path.key(key));
        if self.report.is_given(&first) { first } else { second }
    }
}
