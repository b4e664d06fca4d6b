//! The cluster's settings: the ConfigMap `config-autoscaler`, read and refused as Knative's own
//! parser does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{Error, Problem};
use super::text::Reader;

/// Every key of `config-autoscaler` that affects a decision or its application. Percentages are
/// kept as written, apart from the target utilisation, which is a fraction.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// `container-concurrency-target-percentage` as a fraction in (0, 1].
    pub target_utilization: f64,
    /// The target concurrency if `containerConcurrency` is 0 (unlimited).
    pub concurrency_target: f64,
    pub requests_per_second_target: f64,
    /// -1 always keeps the activator in the path, 0 only at zero replicas.
    pub target_burst_capacity: f64,
    pub stable_window: Duration,
    pub panic_window_percentage: f64,
    pub panic_threshold_percentage: f64,
    /// One decision asks for at most the ready replicas times this.
    pub max_scale_up_rate: f64,
    /// One decision asks for at least the ready replicas divided by this.
    pub max_scale_down_rate: f64,
    pub enable_scale_to_zero: bool,
    pub scale_to_zero_grace_period: Duration,
    pub scale_to_zero_pod_retention: Duration,
    pub scale_down_delay: Duration,
    pub initial_scale: u32,
    pub allow_zero_initial_scale: bool,
    pub min_scale: u32,
    /// 0 is unlimited.
    pub max_scale: u32,
    /// The highest `max-scale` that a revision may ask for; 0 is unlimited.
    pub max_scale_limit: u32,
    pub activator_capacity: f64,
}

impl Default for Cluster {
    /// Returns Knative's own defaults, as for an empty ConfigMap.
    fn default() -> Self {
        Cluster {
            target_utilization: 0.7,
            concurrency_target: 100.0,
            requests_per_second_target: 200.0,
            target_burst_capacity: 211.0,
            stable_window: Duration::from_secs(60),
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            enable_scale_to_zero: true,
            scale_to_zero_grace_period: Duration::from_secs(30),
            scale_to_zero_pod_retention: Duration::ZERO,
            scale_down_delay: Duration::ZERO,
            initial_scale: 1,
            allow_zero_initial_scale: false,
            min_scale: 0,
            max_scale: 0,
            max_scale_limit: 0,
            activator_capacity: 100.0,
        }
    }
}

impl Cluster {
    /// The keys that [`parse`](Self::parse) reads.
    pub const KEYS: [&'static str; 19] = [
        "container-concurrency-target-percentage",
        "container-concurrency-target-default",
        "requests-per-second-target-default",
        "target-burst-capacity",
        "panic-window-percentage",
        "panic-threshold-percentage",
        "max-scale-up-rate",
        "max-scale-down-rate",
        "activator-capacity",
        "initial-scale",
        "min-scale",
        "max-scale",
        "max-scale-limit",
        "stable-window",
        "scale-to-zero-grace-period",
        "scale-to-zero-pod-retention-period",
        "scale-down-delay",
        "enable-scale-to-zero",
        "allow-zero-initial-scale",
    ];

    /// Reads the ConfigMap's `data`. Like Knative it ignores unknown keys, such as `_example`.
    ///
    /// # Errors
    /// All values that do not parse or lie outside of Knative's ranges, in one error.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut read = Reader::new(data);
        let mut cluster = Cluster::default();
        for (key, field) in [
            ("container-concurrency-target-percentage", &mut cluster.target_utilization),
            ("container-concurrency-target-default", &mut cluster.concurrency_target),
            ("requests-per-second-target-default", &mut cluster.requests_per_second_target),
            ("target-burst-capacity", &mut cluster.target_burst_capacity),
            ("panic-window-percentage", &mut cluster.panic_window_percentage),
            ("panic-threshold-percentage", &mut cluster.panic_threshold_percentage),
            ("max-scale-up-rate", &mut cluster.max_scale_up_rate),
            ("max-scale-down-rate", &mut cluster.max_scale_down_rate),
            ("activator-capacity", &mut cluster.activator_capacity),
        ] {
            read.number(key, field);
        }
        for (key, field) in [
            ("initial-scale", &mut cluster.initial_scale),
            ("min-scale", &mut cluster.min_scale),
            ("max-scale", &mut cluster.max_scale),
            ("max-scale-limit", &mut cluster.max_scale_limit),
        ] {
            read.count(key, field);
        }
        for (key, field) in [
            ("stable-window", &mut cluster.stable_window),
            ("scale-to-zero-grace-period", &mut cluster.scale_to_zero_grace_period),
            ("scale-to-zero-pod-retention-period", &mut cluster.scale_to_zero_pod_retention),
            ("scale-down-delay", &mut cluster.scale_down_delay),
        ] {
            read.duration(key, field);
        }
        read.flag("enable-scale-to-zero", &mut cluster.enable_scale_to_zero);
        read.flag("allow-zero-initial-scale", &mut cluster.allow_zero_initial_scale);
        // Older files write a fraction: a percentage of at most 1 counts as one.
        if cluster.target_utilization > 1.0 {
            cluster.target_utilization /= 100.0;
        }
        let mut problems = read.into_problems();
        cluster.check(&mut problems);
        Error::unless_empty(problems).map(|()| cluster)
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        let mut require = |holds: bool, key: &str, rule: &str| {
            if !holds {
                problems.push(Problem::new(key, rule));
            }
        };
        let utilization = self.target_utilization;
        require(
            utilization > 0.0 && utilization <= 1.0,
            "container-concurrency-target-percentage",
            "must be above 0 and at most 100",
        );
        require(
            utilization * self.concurrency_target >= 0.01,
            "container-concurrency-target-default",
            "times container-concurrency-target-percentage must be at least 0.01",
        );
        require(
            self.requests_per_second_target >= 0.01,
            "requests-per-second-target-default",
            "must be at least 0.01",
        );
        require(
            self.target_burst_capacity >= 0.0 || self.target_burst_capacity == -1.0,
            "target-burst-capacity",
            "must be at least 0, or -1 for unlimited",
        );
        require(
            (1.0..=100.0).contains(&self.panic_window_percentage),
            "panic-window-percentage",
            "must lie in 1..100",
        );
        require(self.max_scale_up_rate > 1.0, "max-scale-up-rate", "must be above 1");
        require(self.max_scale_down_rate > 1.0, "max-scale-down-rate", "must be above 1");
        require(self.activator_capacity >= 1.0, "activator-capacity", "must be at least 1");
        let window = self.stable_window;
        require(
            window.as_secs() >= 6 && window <= Duration::from_secs(3600),
            "stable-window",
            "must lie in 6s..1h",
        );
        require(window.subsec_nanos() == 0, "stable-window", "must be whole seconds");
        require(self.scale_down_delay.subsec_nanos() == 0, "scale-down-delay", "must be whole seconds");
        require(!self.scale_to_zero_grace_period.is_zero(), "scale-to-zero-grace-period", "must be above 0");
        require(
            self.initial_scale > 0 || self.allow_zero_initial_scale,
            "initial-scale",
            "must be at least 1 unless allow-zero-initial-scale is true",
        );
        let limit = self.max_scale_limit;
        require(
            limit == 0 || (1..=limit).contains(&self.max_scale),
            "max-scale",
            "must lie in 1..max-scale-limit",
        );
        require(
            self.max_scale == 0 || self.min_scale <= self.max_scale,
            "min-scale",
            "must be at most max-scale",
        );
    }
}
