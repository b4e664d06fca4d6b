//! A revision's own settings: the annotations `autoscaling.knative.dev/…` on the Service's
//! `spec.template.metadata`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Cluster;
use super::error::{Error, Problem};
use super::text;
use crate::duration;

pub const GROUP: &str = "autoscaling.knative.dev/";

/// An annotation: its name behind the group, and the older camelCase name that Knative still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    name: &'static str,
    alias: Option<&'static str>,
}

pub const CLASS: Key = Key::plain("class");
pub const METRIC: Key = Key::plain("metric");
pub const AGGREGATION: Key = Key::with_alias("metric-aggregation-algorithm", "metricAggregationAlgorithm");
pub const TARGET: Key = Key::plain("target");
pub const TARGET_UTILIZATION: Key =
    Key::with_alias("target-utilization-percentage", "targetUtilizationPercentage");
pub const TARGET_BURST_CAPACITY: Key = Key::with_alias("target-burst-capacity", "targetBurstCapacity");
pub const WINDOW: Key = Key::plain("window");
pub const PANIC_WINDOW: Key = Key::with_alias("panic-window-percentage", "panicWindowPercentage");
pub const PANIC_THRESHOLD: Key = Key::with_alias("panic-threshold-percentage", "panicThresholdPercentage");
pub const SCALE_DOWN_DELAY: Key = Key::with_alias("scale-down-delay", "scaleDownDelay");
pub const POD_RETENTION: Key =
    Key::with_alias("scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod");
pub const INITIAL_SCALE: Key = Key::with_alias("initial-scale", "initialScale");
pub const ACTIVATION_SCALE: Key = Key::plain("activation-scale");
pub const MIN_SCALE: Key = Key::with_alias("min-scale", "minScale");
pub const MAX_SCALE: Key = Key::with_alias("max-scale", "maxScale");

/// All of them.
pub const ALL: [Key; 15] = [
    CLASS,
    METRIC,
    AGGREGATION,
    TARGET,
    TARGET_UTILIZATION,
    TARGET_BURST_CAPACITY,
    WINDOW,
    PANIC_WINDOW,
    PANIC_THRESHOLD,
    SCALE_DOWN_DELAY,
    POD_RETENTION,
    INITIAL_SCALE,
    ACTIVATION_SCALE,
    MIN_SCALE,
    MAX_SCALE,
];

/// Annotations by their full names. Like the autoscaler it reads leniently: a value that does not
/// parse counts as absent, because the webhook ([`Annotations::check`]) has refused it before.
#[derive(Clone, Copy, Debug)]
pub struct Annotations<'a>(pub &'a BTreeMap<String, String>);

impl<'a> Annotations<'a> {
    /// Returns the text of `key`. The dashed name wins over the camelCase one.
    pub fn text(self, key: Key) -> Option<&'a str> {
        self.find(key).map(|(_, text)| text)
    }

    pub fn number(self, key: Key) -> Option<f64> {
        self.text(key).and_then(|text| text::number(text).ok())
    }

    pub fn count(self, key: Key) -> Option<u32> {
        self.text(key).and_then(|text| text::count(text).ok())
    }

    pub fn duration(self, key: Key) -> Option<Duration> {
        self.text(key).and_then(|text| duration::parse(text).ok())
    }

    /// Applies the rules of Knative's webhook.
    ///
    /// # Errors
    /// All problems at once, each under the name that was written.
    pub fn check(self, cluster: &Cluster) -> Result<(), Error> {
        let mut problems = Vec::new();
        self.check_names(&mut problems);
        self.check_number(PANIC_WINDOW, "must lie in 1..100", |n| (1.0..=100.0).contains(&n), &mut problems);
        self.check_number(
            PANIC_THRESHOLD,
            "must lie in 110..1000",
            |n| (110.0..=1000.0).contains(&n),
            &mut problems,
        );
        self.check_number(TARGET, "must be at least 0.01", |n| n >= 0.01, &mut problems);
        self.check_number(
            TARGET_UTILIZATION,
            "must lie in 1..100",
            |n| (1.0..=100.0).contains(&n),
            &mut problems,
        );
        let burst = |n| n >= 0.0 || n == -1.0;
        self.check_number(
            TARGET_BURST_CAPACITY,
            "must be at least 0, or -1 for unlimited",
            burst,
            &mut problems,
        );
        let seconds = Duration::from_secs;
        self.check_duration(WINDOW, seconds(6), "must be whole seconds in 6s..1h", &mut problems);
        self.check_duration(SCALE_DOWN_DELAY, seconds(0), "must be whole seconds in 0s..1h", &mut problems);
        if self.duration(POD_RETENTION).is_none_or(|d| d > seconds(3600)) {
            self.refuse(POD_RETENTION, "must lie in 0s..1h", &mut problems);
        }
        self.check_scales(cluster, &mut problems);
        Error::unless_empty(problems)
    }

    fn check_names(self, problems: &mut Vec<Problem>) {
        // Knative accepts other classes and leaves them to other controllers.
        if self.text(CLASS).is_some_and(|class| class != super::CLASS) {
            self.refuse(CLASS, &format!("only {} runs here", super::CLASS), problems);
        }
        let names: [(Key, &[&str]); 2] = [
            (METRIC, &["concurrency", "rps"]),
            (AGGREGATION, &["linear", "weighted-exponential", "weightedExponential"]),
        ];
        for (key, allowed) in names {
            if self.text(key).is_some_and(|text| !allowed.contains(&text)) {
                self.refuse(key, &format!("must be one of: {}", allowed.join(", ")), problems);
            }
        }
    }

    fn check_scales(self, cluster: &Cluster, problems: &mut Vec<Problem>) {
        for key in [MIN_SCALE, MAX_SCALE, INITIAL_SCALE, ACTIVATION_SCALE] {
            if self.count(key).is_none() {
                self.refuse(key, &format!("must be a whole number in 0..{}", i32::MAX), problems);
            }
        }
        // Compares only the revision's own bounds; the cluster's bounds do not matter here.
        let min = self.count(MIN_SCALE).unwrap_or(0);
        let max = self.count(MAX_SCALE).unwrap_or(0);
        if max != 0 && max < min {
            problems
                .push(Problem::new(MAX_SCALE.name(), format!("{max} is less than the min-scale of {min}")));
        }
        let limit = cluster.max_scale_limit;
        if limit != 0 && !(1..=limit).contains(&max) {
            self.refuse(
                MAX_SCALE,
                &format!("must lie in 1..{limit}, the cluster's max-scale-limit"),
                problems,
            );
        }
        if self.count(INITIAL_SCALE) == Some(0) && !cluster.allow_zero_initial_scale {
            self.refuse(
                INITIAL_SCALE,
                "must be at least 1: the cluster's allow-zero-initial-scale is false",
                problems,
            );
        }
        let activation_fits = |n: u32| n >= 2 && n >= min && (max == 0 || n <= max);
        if self.count(ACTIVATION_SCALE).is_some_and(|n| !activation_fits(n)) {
            self.refuse(
                ACTIVATION_SCALE,
                "must be at least 2 and lie between min-scale and max-scale",
                problems,
            );
        }
    }

    fn check_number(self, key: Key, rule: &str, fits: impl FnOnce(f64) -> bool, problems: &mut Vec<Problem>) {
        if !self.number(key).is_some_and(fits) {
            self.refuse(key, rule, problems);
        }
    }

    fn check_duration(self, key: Key, least: Duration, rule: &str, problems: &mut Vec<Problem>) {
        let fits = |d: Duration| d >= least && d <= Duration::from_secs(3600) && d.subsec_nanos() == 0;
        if !self.duration(key).is_some_and(fits) {
            self.refuse(key, rule, problems);
        }
    }

    /// Notes a problem with `key`, if the annotation exists.
    fn refuse(self, key: Key, rule: &str, problems: &mut Vec<Problem>) {
        if let Some((name, text)) = self.find(key) {
            problems.push(Problem::new(name, format!("{text:?} does not do: {rule}")));
        }
    }

    fn find(self, key: Key) -> Option<(&'a str, &'a str)> {
        let names = [Some(key.name), key.alias];
        names.into_iter().flatten().find_map(|name| {
            let (full, text) = self.0.get_key_value(&format!("{GROUP}{name}"))?;
            Some((full.as_str(), text.as_str()))
        })
    }
}

impl Key {
    const fn plain(name: &'static str) -> Self {
        Key { name, alias: None }
    }

    const fn with_alias(name: &'static str, alias: &'static str) -> Self {
        Key { name, alias: Some(alias) }
    }

    /// Returns the full name and, if it exists, the older name.
    pub fn names(self) -> impl Iterator<Item = String> {
        [Some(self.name), self.alias].into_iter().flatten().map(|name| format!("{GROUP}{name}"))
    }

    /// The full name.
    pub fn name(self) -> String {
        format!("{GROUP}{}", self.name)
    }
}
