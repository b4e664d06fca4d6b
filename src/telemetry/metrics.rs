//! Every metric of longhaul. The names are API (product section 4): add, never rename.

use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::delivery::{Outcome, Reason, Settlement};

/// Upper bounds of the duration buckets, in seconds: from a tenth of a second to a day.
const DURATION_BUCKETS: [f64; 14] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];

/// All metric families of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    families: Families,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PipelineLabel {
    pipeline: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    pipeline: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HowLabels {
    pipeline: String,
    how: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    pipeline: String,
    reason: &'static str,
}

type Durations = Family<PipelineLabel, Histogram, fn() -> Histogram>;

struct Families {
    received: Family<PipelineLabel, Counter>,
    in_flight: Family<PipelineLabel, Gauge>,
    in_flight_limit: Family<PipelineLabel, Gauge>,
    attempts: Family<OutcomeLabels, Counter>,
    duration: Durations,
    settled: Family<HowLabels, Counter>,
    held: Family<PipelineLabel, Gauge>,
    dead_lettered: Family<ReasonLabels, Counter>,
    replies: Family<PipelineLabel, Counter>,
    write_failures: Family<PipelineLabel, Counter>,
    redeliveries: Family<PipelineLabel, Counter>,
    adopted: Family<PipelineLabel, Counter>,
    rewritten: Family<PipelineLabel, Counter>,
    taken_over: Family<PipelineLabel, Counter>,
    handed_over: Family<PipelineLabel, Counter>,
    parked: Family<PipelineLabel, Counter>,
    orphans: Family<PipelineLabel, Gauge>,
    orphans_expired: Family<PipelineLabel, Counter>,
    stale_settles: Family<PipelineLabel, Counter>,
    blocked_by_key: Family<PipelineLabel, Gauge>,
    breaker_open: Family<PipelineLabel, Gauge>,
    sessions_lost: Family<PipelineLabel, Counter>,
    backlog: Family<PipelineLabel, Gauge>,
    connected: Family<PipelineLabel, Gauge>,
    kafka_head_age: Family<PipelineLabel, Gauge>,
}

/// One pipeline's metrics, resolved once so that counting costs no look-up.
pub struct PipelineMetrics {
    pub received: Counter,
    pub in_flight: Gauge,
    pub in_flight_limit: Gauge,
    pub held: Gauge,
    pub replies: Counter,
    pub write_failures: Counter,
    pub redeliveries: Counter,
    pub adopted: Counter,
    pub rewritten: Counter,
    /// Results that other replicas handed to this one.
    pub taken_over: Counter,
    /// Results that this replica handed to others.
    pub handed_over: Counter,
    pub parked: Counter,
    pub orphans: Gauge,
    pub orphans_expired: Counter,
    pub stale_settles: Counter,
    pub blocked_by_key: Gauge,
    pub breaker_open: Gauge,
    pub sessions_lost: Counter,
    pub backlog: Gauge,
    pub connected: Gauge,
    pub kafka_head_age: Gauge,
    pub duration: Histogram,
    attempts: [Counter; 8],
    acked: Counter,
    returned: Counter,
    dropped: Counter,
    dead_lettered: [Counter; Reason::ALL.len()],
}

impl Metrics {
    pub fn new() -> Self {
        let families = Families::new();
        let mut registry = Registry::with_prefix("longhaul");
        families.register(&mut registry);
        Metrics { registry: Mutex::new(registry), families }
    }

    /// The metrics of one pipeline, all present from now on, at zero.
    pub fn pipeline(&self, name: &str, max_in_flight: u32) -> PipelineMetrics {
        let families = &self.families;
        let pipeline = PipelineLabel { pipeline: name.to_owned() };
        let attempts = |outcome: Outcome| {
            let labels = OutcomeLabels { pipeline: name.to_owned(), outcome: outcome.label() };
            families.attempts.get_or_create_owned(&labels)
        };
        let settled =
            |how| families.settled.get_or_create_owned(&HowLabels { pipeline: name.to_owned(), how });
        let dead_lettered = |reason: Reason| {
            let labels = ReasonLabels { pipeline: name.to_owned(), reason: reason.as_str() };
            families.dead_lettered.get_or_create_owned(&labels)
        };
        let in_flight_limit = families.in_flight_limit.get_or_create_owned(&pipeline);
        in_flight_limit.set(i64::from(max_in_flight));
        PipelineMetrics {
            received: families.received.get_or_create_owned(&pipeline),
            in_flight: families.in_flight.get_or_create_owned(&pipeline),
            in_flight_limit,
            held: families.held.get_or_create_owned(&pipeline),
            replies: families.replies.get_or_create_owned(&pipeline),
            write_failures: families.write_failures.get_or_create_owned(&pipeline),
            redeliveries: families.redeliveries.get_or_create_owned(&pipeline),
            adopted: families.adopted.get_or_create_owned(&pipeline),
            taken_over: families.taken_over.get_or_create_owned(&pipeline),
            handed_over: families.handed_over.get_or_create_owned(&pipeline),
            rewritten: families.rewritten.get_or_create_owned(&pipeline),
            parked: families.parked.get_or_create_owned(&pipeline),
            orphans: families.orphans.get_or_create_owned(&pipeline),
            orphans_expired: families.orphans_expired.get_or_create_owned(&pipeline),
            stale_settles: families.stale_settles.get_or_create_owned(&pipeline),
            blocked_by_key: families.blocked_by_key.get_or_create_owned(&pipeline),
            breaker_open: families.breaker_open.get_or_create_owned(&pipeline),
            sessions_lost: families.sessions_lost.get_or_create_owned(&pipeline),
            backlog: families.backlog.get_or_create_owned(&pipeline),
            connected: families.connected.get_or_create_owned(&pipeline),
            kafka_head_age: families.kafka_head_age.get_or_create_owned(&pipeline),
            duration: families.duration.get_or_create_owned(&pipeline),
            attempts: OUTCOMES.map(attempts),
            acked: settled("ack"),
            returned: settled("return"),
            dropped: settled("drop"),
            dead_lettered: Reason::ALL.map(dead_lettered),
        }
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// Only where formatting itself fails.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// One of each class, in the order of `PipelineMetrics::attempts`.
const OUTCOMES: [Outcome; 8] = [
    Outcome::Done,
    Outcome::NotStarted { retry_after: None },
    Outcome::Failed { retry_after: None },
    Outcome::Rejected,
    Outcome::Unknown,
    Outcome::Misconfigured,
    Outcome::Interrupted,
    Outcome::Unreadable,
];

impl PipelineMetrics {
    pub fn attempt(&self, outcome: Outcome) {
        let same = |known: &Outcome| known.label() == outcome.label();
        if let Some(index) = OUTCOMES.iter().position(same) {
            self.attempts[index].inc();
        }
    }

    pub fn settled(&self, how: Settlement, dropped: bool) {
        match how {
            Settlement::Ack if dropped => self.dropped.inc(),
            Settlement::Ack => self.acked.inc(),
            Settlement::Return => self.returned.inc(),
        };
    }

    /// Deliveries acked so far.
    pub fn acks(&self) -> u64 {
        self.acked.get()
    }

    pub fn dead_lettered(&self, reason: Reason) {
        if let Some(index) = Reason::ALL.iter().position(|known| *known == reason) {
            self.dead_lettered[index].inc();
        }
    }
}

impl Families {
    fn new() -> Self {
        Families {
            received: Family::default(),
            in_flight: Family::default(),
            in_flight_limit: Family::default(),
            attempts: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            settled: Family::default(),
            held: Family::default(),
            dead_lettered: Family::default(),
            replies: Family::default(),
            write_failures: Family::default(),
            redeliveries: Family::default(),
            adopted: Family::default(),
            rewritten: Family::default(),
            taken_over: Family::default(),
            handed_over: Family::default(),
            parked: Family::default(),
            orphans: Family::default(),
            orphans_expired: Family::default(),
            stale_settles: Family::default(),
            blocked_by_key: Family::default(),
            breaker_open: Family::default(),
            sessions_lost: Family::default(),
            backlog: Family::default(),
            connected: Family::default(),
            kafka_head_age: Family::default(),
        }
    }

    /// The names, without the prefix `longhaul_` and, for counters, without the suffix `_total`.
    fn register(&self, registry: &mut Registry) {
        registry.register("items_received", "Deliveries taken from the broker", self.received.clone());
        registry.register("items_in_flight", "Requests held open now", self.in_flight.clone());
        registry.register("items_in_flight_limit", "Most requests at once now", self.in_flight_limit.clone());
        registry.register("attempts", "Ended requests by class", self.attempts.clone());
        registry.register("attempt_duration_seconds", "Time from request to its end", self.duration.clone());
        registry.register("items_settled", "Deliveries settled with the broker", self.settled.clone());
        registry.register("items_held", "Items that failed for good and are kept", self.held.clone());
        registry.register("items_dead_lettered", "Confirmed dead letters", self.dead_lettered.clone());
        registry.register("replies_written", "Confirmed replies", self.replies.clone());
        registry.register(
            "write_failures",
            "Dead letters and replies not confirmed",
            self.write_failures.clone(),
        );
        registry.register(
            "redeliveries",
            "Deliveries that the broker made before",
            self.redeliveries.clone(),
        );
        registry.register("adopted", "Redeliveries that found their own work", self.adopted.clone());
        registry.register("items_rewritten", "Copies before a delivery limit", self.rewritten.clone());
        registry.register("results_taken_over", "Results had from other replicas", self.taken_over.clone());
        registry.register("results_handed_over", "Results given to other replicas", self.handed_over.clone());
        registry.register("items_parked", "Waits spent in the broker", self.parked.clone());
        registry.register("orphans", "Verdicts kept for a redelivery", self.orphans.clone());
        registry.register("orphans_expired", "Verdicts given up unadopted", self.orphans_expired.clone());
        registry.register("stale_settles", "Settles that came too late to count", self.stale_settles.clone());
        registry.register(
            "items_blocked_by_key",
            "Items behind another of their key",
            self.blocked_by_key.clone(),
        );
        registry.register("breaker_open", "1 while the breaker is not closed", self.breaker_open.clone());
        registry.register("sessions_lost", "Broker sessions that ended", self.sessions_lost.clone());
        registry.register("backlog_items", "Items in the broker not handed over yet", self.backlog.clone());
        registry.register("broker_connected", "1 while the broker can be reached", self.connected.clone());
        registry.register(
            "kafka_head_age_seconds",
            "Age of the oldest record that holds up a committed offset",
            self.kafka_head_age.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}
