//! Resolves the values for the decisions about one revision: its annotations over the cluster's
//! settings.

use std::collections::BTreeMap;
use std::time::Duration;

use super::annotations::{self as key, Annotations};
use super::buckets::Aggregation;
use super::cluster::Cluster;
use crate::duration;

/// The quantity that is counted (annotation `metric`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests in flight, including queued ones.
    Concurrency,
    /// Requests that arrive in a second.
    RequestsPerSecond,
}

/// Everything that the arithmetic of one revision depends on, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub metric: Metric,
    pub aggregation: Aggregation,
    /// The target value per replica; at least 0.01.
    pub target_value: f64,
    /// The value that a replica can take in all, before the target utilisation is applied.
    pub total_value: f64,
    /// -1 for unlimited.
    pub target_burst_capacity: f64,
    /// Whole seconds.
    pub stable_window: Duration,
    /// Whole seconds, at least one.
    pub panic_window: Duration,
    /// The ratio of wanted to ready replicas from which the autoscaler panics.
    pub panic_threshold: f64,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    /// The least number of replicas after a start from zero; below 2 it has no effect.
    pub activation_scale: i32,
    pub scale_down_delay: Duration,
    /// Whether a route leads to the revision. Without one it may go to zero in one step.
    pub reachable: bool,
    pub initial_scale: u32,
    pub min_scale: u32,
    /// 0 is unlimited.
    pub max_scale: u32,
    pub enable_scale_to_zero: bool,
    pub scale_to_zero_grace_period: Duration,
    pub scale_to_zero_pod_retention: Duration,
    /// How long replicas may take to become ready before they are given up
    /// (`serving.knative.dev/progress-deadline`).
    pub progress_deadline: Duration,
}

impl Config {
    /// Resolves the values of a reachable revision. `container_concurrency` is the revision's; 0 is
    /// unlimited.
    pub fn resolve(
        cluster: &Cluster,
        annotations: &BTreeMap<String, String>,
        container_concurrency: u32,
    ) -> Self {
        let read = Annotations(annotations);
        let metric = match read.text(key::METRIC) {
            Some("rps") => Metric::RequestsPerSecond,
            _ => Metric::Concurrency,
        };
        let aggregation = match read.text(key::AGGREGATION) {
            Some("weighted-exponential" | "weightedExponential") => Aggregation::WeightedExponential,
            _ => Aggregation::Linear,
        };
        let (target_value, total_value) = target(cluster, read, metric, container_concurrency);
        let stable_window = read.duration(key::WINDOW).unwrap_or(cluster.stable_window);
        let panic_window_percentage =
            read.number(key::PANIC_WINDOW).unwrap_or(cluster.panic_window_percentage);
        let panic_threshold_percentage =
            read.number(key::PANIC_THRESHOLD).unwrap_or(cluster.panic_threshold_percentage);
        let zero_refused = |scale: &u32| *scale > 0 || cluster.allow_zero_initial_scale;
        Config {
            metric,
            aggregation,
            target_value,
            total_value,
            target_burst_capacity: read
                .number(key::TARGET_BURST_CAPACITY)
                .unwrap_or(cluster.target_burst_capacity),
            stable_window,
            panic_window: panic_window(stable_window, panic_window_percentage),
            panic_threshold: panic_threshold_percentage / 100.0,
            max_scale_up_rate: cluster.max_scale_up_rate,
            max_scale_down_rate: cluster.max_scale_down_rate,
            activation_scale: read
                .count(key::ACTIVATION_SCALE)
                .map_or(0, |n| i32::try_from(n).unwrap_or(i32::MAX)),
            scale_down_delay: read.duration(key::SCALE_DOWN_DELAY).unwrap_or(cluster.scale_down_delay),
            reachable: true,
            initial_scale: read
                .count(key::INITIAL_SCALE)
                .filter(zero_refused)
                .unwrap_or(cluster.initial_scale),
            min_scale: read.count(key::MIN_SCALE).unwrap_or(cluster.min_scale),
            max_scale: read.count(key::MAX_SCALE).unwrap_or(cluster.max_scale),
            enable_scale_to_zero: cluster.enable_scale_to_zero,
            scale_to_zero_grace_period: cluster.scale_to_zero_grace_period,
            scale_to_zero_pod_retention: read
                .duration(key::POD_RETENTION)
                .unwrap_or(cluster.scale_to_zero_pod_retention),
            progress_deadline: annotations
                .get("serving.knative.dev/progress-deadline")
                .and_then(|text| duration::parse(text).ok())
                .unwrap_or(Duration::from_secs(600)),
        }
    }

    /// Whether the autoscaler also asks replicas for their metric. With an unlimited burst capacity
    /// only the activator reports, and its silence counts as zero.
    pub fn scrapes_replicas(&self) -> bool {
        self.target_burst_capacity != -1.0
    }
}

/// Returns the target value per replica, and the value that a replica can take in all.
fn target(
    cluster: &Cluster,
    read: Annotations<'_>,
    metric: Metric,
    container_concurrency: u32,
) -> (f64, f64) {
    let concurrency = f64::from(container_concurrency);
    let (default_total, default_utilization) = match metric {
        // The ConfigMap has no percentage for requests per second.
        Metric::RequestsPerSecond => (cluster.requests_per_second_target, 0.7),
        Metric::Concurrency if container_concurrency == 0 => {
            (cluster.concurrency_target, cluster.target_utilization)
        }
        Metric::Concurrency => (concurrency, cluster.target_utilization),
    };
    let total = match read.number(key::TARGET) {
        Some(target) if metric == Metric::Concurrency && container_concurrency != 0 => {
            target.min(concurrency)
        }
        Some(target) => target,
        None => default_total,
    };
    let utilization =
        read.number(key::TARGET_UTILIZATION).map_or(default_utilization, |percentage| percentage / 100.0);
    ((total * utilization).max(0.01), total)
}

/// Returns this share of the stable window in whole seconds, halves rounded up.
fn panic_window(stable_window: Duration, percentage: f64) -> Duration {
    let nanos = (stable_window.as_nanos() as f64 * percentage / 100.0) as u64;
    Duration::from_secs(((nanos + 500_000_000) / 1_000_000_000).max(1))
}

#[cfg(test)]
mod tests;
