//! Every metric of longhaul, in one table. The table makes `/metrics` and docs/metrics.md. Names
//! are API: add, never rename.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::problem::ProblemKind;
use super::status::Status;
use crate::delivery::{Outcome, Reason, Settlement};
use crate::view::{Binding, ItemState};

mod exposition;
mod process;
mod reference;

pub use exposition::Exposition;
pub use reference::reference;

/// Upper bounds of the duration buckets, in seconds: from a tenth of a second to a day.
const DURATION_BUCKETS: [f64; 14] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// As in `/metrics`, without the ending of a single sample such as `_bucket`.
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    pipeline: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BindingLabels {
    pipeline: String,
    binding: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    pipeline: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    kafka: &'static str,
}

type Durations = Family<PipelineLabel, Histogram, fn() -> Histogram>;

/// Makes three things from one list: the metric families, their rows of the table, and the counters
/// of one pipeline. An entry is the field, its type, the name without prefix and `_total`, the unit
/// if the name ends with one, and the help.
macro_rules! pipeline_metrics {
    ($($(#[$comment:meta])* $field:ident: $type:ident $name:literal $(($unit:ident $suffix:literal))? $help:literal;)*) => {
        /// The metrics with only the label `pipeline`.
        #[derive(Default)]
        struct Plain {
            $($field: Family<PipelineLabel, $type>,)*
        }

        const PLAIN: &[Row] = &[$(Row {
            name: concat!("longhaul_", $name $(, "_", $suffix)?, total!($type)),
            kind: kind!($type),
            labels: &["pipeline"],
            help: $help,
        },)*];

        /// The metrics of one pipeline. Counting needs no look-up.
        pub struct PipelineMetrics {
            $($(#[$comment])* pub $field: $type,)*
            pub duration: Histogram,
            attempts: [Counter; OUTCOMES.len()],
            cancelled: Counter,
            states: [Gauge; ItemState::UNFINISHED.len()],
            bindings: [Gauge; Binding::ALL.len()],
            acked: Counter,
            returned: Counter,
            dropped: Counter,
            dead_lettered: [Counter; Reason::ALL.len()],
        }

        impl Plain {
            fn register(&self, registry: &mut Registry) {
                $(register!(registry, $name, $help, self.$field.clone() $(, $unit)?);)*
            }
        }

        impl Metrics {
            /// Returns the metrics of one pipeline. From now on `/metrics` shows all of them, first
            /// at zero.
            pub fn pipeline(&self, name: &str, max_in_flight: u32) -> PipelineMetrics {
                let Families { plain, duration, .. } = &self.families;
                let pipeline = PipelineLabel { pipeline: name.to_owned() };
                let metrics = PipelineMetrics {
                    $($field: plain.$field.get_or_create_owned(&pipeline),)*
                    duration: duration.get_or_create_owned(&pipeline),
                    attempts: OUTCOMES.map(|outcome| self.families.attempts(name, outcome.label())),
                    cancelled: self.families.attempts(name, "cancelled"),
                    states: ItemState::UNFINISHED.map(|state| self.families.items(name, state)),
                    bindings: Binding::ALL.map(|binding| self.families.binding(name, binding)),
                    acked: self.families.settled(name, "ack"),
                    returned: self.families.settled(name, "return"),
                    dropped: self.families.settled(name, "drop"),
                    dead_lettered: Reason::ALL.map(|reason| self.families.dead_lettered(name, reason)),
                };
                metrics.in_flight_limit.set(i64::from(max_in_flight));
                metrics.max_in_flight.set(i64::from(max_in_flight));
                metrics
            }
        }
    };
}

macro_rules! register {
    ($registry:ident, $name:literal, $help:literal, $metric:expr) => {
        $registry.register($name, $help, $metric)
    };
    ($registry:ident, $name:literal, $help:literal, $metric:expr, $unit:ident) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric)
    };
}

macro_rules! kind {
    (Counter) => {
        "counter"
    };
    (Gauge) => {
        "gauge"
    };
}

macro_rules! total {
    (Counter) => {
        "_total"
    };
    (Gauge) => {
        ""
    };
}

pipeline_metrics! {
    received: Counter "items_received" "Deliveries taken from the broker";
    in_flight: Gauge "items_in_flight" "Open requests";
    in_flight_limit: Gauge "items_in_flight_limit" "Working limit of open requests, at most max_in_flight";
    held: Gauge "items_held" "Items that failed for good and are held";
    replies: Counter "replies_written" "Confirmed replies";
    write_failures: Counter "write_failures" "Dead letters, replies and copies that were not confirmed";
    redeliveries: Counter "redeliveries" "Deliveries that the broker made before";
    adopted: Counter "adopted" "Redeliveries that found their own request or result";
    rewritten: Counter "items_rewritten" "Copies written before the queue's delivery limit";
    /// Results that other replicas handed to this one.
    taken_over: Counter "results_taken_over" "Results that other replicas handed to this one";
    /// Results that this replica handed to others.
    handed_over: Counter "results_handed_over" "Results that this replica handed to others";
    parked: Counter "items_parked" "Waits for a retry in the broker";
    orphans: Gauge "orphans" "Results kept for a redelivery";
    orphans_expired: Counter "orphans_expired" "Results that no redelivery came for";
    stale_settles: Counter "stale_settles" "Settles of a session that was already lost";
    blocked_by_key: Gauge "items_blocked_by_key" "Items that wait for another one with the same key";
    breaker_open: Gauge "breaker_open" "1 while the breaker is not closed";
    sessions_lost: Counter "sessions_lost" "Broker sessions that ended";
    backlog: Gauge "backlog_items" "Items in the broker that were not delivered yet";
    connected: Gauge "broker_connected" "1 while the broker is connected";
    last_success: Gauge "last_success_timestamp" (Seconds "seconds") "Time of the latest item done, since the Unix epoch; 0 before the first";
    oldest_attempt: Gauge "oldest_attempt_start_timestamp" (Seconds "seconds") "Start of the oldest open request, since the Unix epoch; 0 without one";
    oldest_wait: Gauge "oldest_wait_start_timestamp" (Seconds "seconds") "Start of the longest wait of an item in hand without an open request, since the Unix epoch; 0 without one";
    message_bytes: Gauge "messages_in_hand" (Bytes "bytes") "Memory of the messages and answers in hand, which limits.held_bytes bounds";
    max_in_flight: Gauge "max_in_flight" "Configured bound of open requests";
    paused: Gauge "pipeline_paused" "1 while a person has paused the pipeline";
    draining: Gauge "pipeline_draining" "1 while the pipeline drains, and after that";
    pods: Gauge "worker_pods" "Worker pods that reported a running item";
    kafka_head_age: Gauge "kafka_head_age" (Seconds "seconds") "Age of the oldest record that holds up a committed offset";
    kafka_partitions_paused: Gauge "kafka_partitions_paused" "Partitions that a person has paused";
    kafka_partitions_full: Gauge "kafka_partitions_full" "Partitions that take in nothing new, because a commit can name no more unfinished records";
}

/// The metrics with other labels, and those of the whole process.
const OTHERS: &[Row] = &[
    Row {
        name: "longhaul_attempts_total",
        kind: "counter",
        labels: &["pipeline", "outcome"],
        help: "Ended requests by outcome",
    },
    Row {
        name: "longhaul_attempt_duration_seconds",
        kind: "histogram",
        labels: &["pipeline"],
        help: "Time from the start of a request to its end",
    },
    Row {
        name: "longhaul_items",
        kind: "gauge",
        labels: &["pipeline", "state"],
        help: "Items in hand by state, as in the item list",
    },
    Row {
        name: "longhaul_limit_binding",
        kind: "gauge",
        labels: &["pipeline", "binding"],
        help: "1 for the bound that keeps further items from starting now",
    },
    Row {
        name: "longhaul_items_settled_total",
        kind: "counter",
        labels: &["pipeline", "how"],
        help: "Deliveries settled with the broker",
    },
    Row {
        name: "longhaul_items_dead_lettered_total",
        kind: "counter",
        labels: &["pipeline", "reason"],
        help: "Confirmed dead letters by reason",
    },
    Row {
        name: "longhaul_pipeline_ready",
        kind: "gauge",
        labels: &["pipeline"],
        help: "1 while the pipeline is ready",
    },
    Row {
        name: "longhaul_problems",
        kind: "gauge",
        labels: &["pipeline", "kind"],
        help: "Open problems by kind, as in /readyz",
    },
    Row {
        name: "longhaul_build_info",
        kind: "gauge",
        labels: &["version", "kafka"],
        help: "Always 1, with the version of longhaul",
    },
];

/// All metrics of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    families: Families,
    statuses: Mutex<Vec<Arc<Status>>>,
}

struct Families {
    plain: Plain,
    attempts: Family<OutcomeLabels, Counter>,
    duration: Durations,
    items: Family<StateLabels, Gauge>,
    bindings: Family<BindingLabels, Gauge>,
    settled: Family<HowLabels, Counter>,
    dead_lettered: Family<ReasonLabels, Counter>,
    ready: Family<PipelineLabel, Gauge>,
    problems: Family<KindLabels, Gauge>,
    build: Family<BuildLabels, Gauge>,
}

/// One of each class, in the order of `PipelineMetrics::attempts`.
const OUTCOMES: [Outcome; 9] = [
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

impl Metrics {
    pub fn new() -> Self {
        let families = Families::new();
        let mut registry = Registry::with_prefix("longhaul");
        families.register(&mut registry);
        Metrics { registry: Mutex::new(registry), families, statuses: Mutex::default() }
    }

    /// Shows the readiness of these pipelines from now on.
    pub fn watch(&self, statuses: &[Arc<Status>]) {
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses.to_vec();
    }

    /// Formats all metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Only if formatting itself fails.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        self.show_readiness();
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry)?;
        text.truncate(text.trim_end_matches("# EOF\n").len());
        process::write(&mut text)?;
        text.push_str("# EOF\n");
        Ok(text)
    }

    /// Every kind always has a value, so that an alert can compare it with zero.
    fn show_readiness(&self) {
        for status in self.statuses.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let reasons = status.reasons();
            let pipeline = PipelineLabel { pipeline: status.name.clone() };
            self.families.ready.get_or_create(&pipeline).set(i64::from(reasons.is_empty()));
            for kind in ProblemKind::ALL.map(ProblemKind::as_str) {
                let count = reasons.iter().filter(|reason| reason.kind == kind).count();
                let labels = KindLabels { pipeline: status.name.clone(), kind };
                self.families.problems.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }
}

impl PipelineMetrics {
    /// Counts an attempt that ended in this way after this time.
    pub fn attempt(&self, outcome: Outcome, took: Duration) {
        let same = |known: &Outcome| known.label() == outcome.label();
        if let Some(index) = OUTCOMES.iter().position(same) {
            self.attempts[index].inc();
        }
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts an attempt that a person cancelled after this time.
    pub fn cancelled(&self, took: Duration) {
        self.cancelled.inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Shows the number of items in each state of [`ItemState::UNFINISHED`].
    pub fn items(&self, counts: [u32; ItemState::UNFINISHED.len()]) {
        for (count, gauge) in counts.into_iter().zip(&self.states) {
            gauge.set(i64::from(count));
        }
    }

    /// Shows the bound that keeps further items from starting.
    pub fn binding(&self, binding: Binding) {
        for (other, gauge) in Binding::ALL.iter().zip(&self.bindings) {
            gauge.set(i64::from(*other == binding));
        }
    }

    pub fn settled(&self, how: Settlement, dropped: bool) {
        match how {
            Settlement::Ack if dropped => self.dropped.inc(),
            Settlement::Ack => self.acked.inc(),
            Settlement::Return => self.returned.inc(),
        };
    }

    /// Returns the number of acked deliveries.
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
        let build = Family::<BuildLabels, Gauge>::default();
        let kafka = if cfg!(feature = "kafka") { "true" } else { "false" };
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION"), kafka }).set(1);
        Families {
            plain: Plain::default(),
            attempts: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            items: Family::default(),
            bindings: Family::default(),
            settled: Family::default(),
            dead_lettered: Family::default(),
            ready: Family::default(),
            problems: Family::default(),
            build,
        }
    }

    fn register(&self, registry: &mut Registry) {
        self.plain.register(registry);
        let help = |name: &str| OTHERS.iter().find(|row| row.name == name).map_or("", |row| row.help);
        registry.register("attempts", help("longhaul_attempts_total"), self.attempts.clone());
        let duration = help("longhaul_attempt_duration_seconds");
        registry.register_with_unit("attempt_duration", duration, Unit::Seconds, self.duration.clone());
        registry.register("items", help("longhaul_items"), self.items.clone());
        registry.register("limit_binding", help("longhaul_limit_binding"), self.bindings.clone());
        registry.register("items_settled", help("longhaul_items_settled_total"), self.settled.clone());
        let dead_lettered = help("longhaul_items_dead_lettered_total");
        registry.register("items_dead_lettered", dead_lettered, self.dead_lettered.clone());
        registry.register("pipeline_ready", help("longhaul_pipeline_ready"), self.ready.clone());
        registry.register("problems", help("longhaul_problems"), self.problems.clone());
        registry.register("build_info", help("longhaul_build_info"), self.build.clone());
    }

    fn attempts(&self, pipeline: &str, outcome: &'static str) -> Counter {
        let labels = OutcomeLabels { pipeline: pipeline.to_owned(), outcome };
        self.attempts.get_or_create_owned(&labels)
    }

    fn items(&self, pipeline: &str, state: ItemState) -> Gauge {
        let labels = StateLabels { pipeline: pipeline.to_owned(), state: state.as_str() };
        self.items.get_or_create_owned(&labels)
    }

    fn binding(&self, pipeline: &str, binding: Binding) -> Gauge {
        let labels = BindingLabels { pipeline: pipeline.to_owned(), binding: binding.as_str() };
        self.bindings.get_or_create_owned(&labels)
    }

    fn settled(&self, pipeline: &str, how: &'static str) -> Counter {
        self.settled.get_or_create_owned(&HowLabels { pipeline: pipeline.to_owned(), how })
    }

    fn dead_lettered(&self, pipeline: &str, reason: Reason) -> Counter {
        let labels = ReasonLabels { pipeline: pipeline.to_owned(), reason: reason.as_str() };
        self.dead_lettered.get_or_create_owned(&labels)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

/// Returns all rows of the table.
fn rows() -> impl Iterator<Item = &'static Row> {
    PLAIN.iter().chain(OTHERS).chain(process::ROWS)
}

#[cfg(test)]
mod tests;
