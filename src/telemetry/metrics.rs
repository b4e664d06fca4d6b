//! Every metric of longhaul, in one table. The table makes `/metrics` and docs/metrics.md. Names
//! are API: add, never rename.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::problem::ProblemKind;
use super::status::{OTHER_REASONS, Status};

mod exposition;
mod guard;
mod labels;
mod pipeline;
mod places;
mod process;
mod reference;
mod table;

pub use exposition::Exposition;
pub use guard::{GuardFailure, GuardMetrics, GuardWrite};
use labels::Labels;
pub use pipeline::BreakerState;
pub use places::PartitionState;
use places::Places;
pub use reference::reference;
pub use table::PipelineMetrics;
use table::{LABELLED, Labelled, PLAIN, Plain};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// As in `/metrics`, without the ending of a single sample such as `_bucket`.
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    families: Families,
    statuses: Mutex<Vec<Arc<Status>>>,
}

/// The counters of the spans and the log records.
#[derive(Clone, Debug)]
pub struct TraceCounts {
    pub spans_sent: Counter,
    pub spans_dropped: Counter,
    pub records_sent: Counter,
    pub records_dropped: Counter,
}

/// Counts the answers of the intake. By default nobody shows them.
#[derive(Clone, Debug, Default)]
pub struct IntakeCounts(Family<Labels, Counter>);

impl IntakeCounts {
    pub fn answered(&self, status: u16) {
        self.0.get_or_create(&Labels::of_process([("code", &labels::code(Some(status)))])).inc();
    }
}

#[derive(Default)]
struct Families {
    plain: Plain,
    labelled: Labelled,
    places: Arc<Places>,
}

impl Metrics {
    pub fn new() -> Self {
        let families = Families::default();
        let kafka = if cfg!(feature = "kafka") { "true" } else { "false" };
        let build = Labels::of_process([("version", env!("CARGO_PKG_VERSION")), ("kafka", kafka)]);
        families.labelled.build.get_or_create(&build).set(1);
        let mut registry = Registry::with_prefix("longhaul");
        families.plain.register(&mut registry);
        families.labelled.register(&mut registry);
        registry.register_collector(Box::new(families.places.clone()));
        let metrics = Metrics { registry: Mutex::new(registry), families, statuses: Mutex::default() };
        // All of them are served from the start, first at zero.
        let _ = metrics.traces();
        metrics
    }

    /// Returns the metrics of one pipeline. From now on `/metrics` shows all of them, first at
    /// zero.
    pub fn pipeline(&self, name: &str, max_in_flight: u32) -> PipelineMetrics {
        let metrics = PipelineMetrics::of(name, &self.families);
        metrics.in_flight_limit.set(i64::from(max_in_flight));
        metrics.max_in_flight.set(i64::from(max_in_flight));
        metrics.replicas.set(1);
        metrics
    }

    /// Returns the counters of the traces.
    pub fn traces(&self) -> TraceCounts {
        let Labelled { trace_sent, trace_dropped, .. } = &self.families.labelled;
        let of = |family: &Family<Labels, Counter>, signal| {
            family.get_or_create_owned(&Labels::of_process([("signal", signal)]))
        };
        TraceCounts {
            spans_sent: of(trace_sent, "spans"),
            spans_dropped: of(trace_dropped, "spans"),
            records_sent: of(trace_sent, "records"),
            records_dropped: of(trace_dropped, "records"),
        }
    }

    /// Returns the counter of the intake.
    pub fn intake(&self) -> IntakeCounts {
        IntakeCounts(self.families.labelled.intake_answers.clone())
    }

    /// Tells people the source and the address of the service of a pipeline.
    pub fn describe(&self, name: &str, source: &str, sink: &str) {
        let info = Labels::new(name, [("source", source), ("sink", sink)]);
        self.families.labelled.info.get_or_create(&info).set(1);
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
            let Labelled { ready, problems, .. } = &self.families.labelled;
            ready.get_or_create(&Labels::new(&status.name, [])).set(i64::from(reasons.is_empty()));
            for kind in problem_kinds() {
                let count = reasons.iter().filter(|reason| reason.kind == kind).count();
                let labels = Labels::new(&status.name, [("kind", kind)]);
                problems.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

/// The values of the label `kind`: every reason why a pipeline may not be ready.
fn problem_kinds() -> impl Iterator<Item = &'static str> {
    ProblemKind::ALL.into_iter().map(ProblemKind::as_str).chain(OTHER_REASONS)
}

/// Returns all rows of the table.
fn rows() -> impl Iterator<Item = &'static Row> {
    PLAIN.iter().chain(LABELLED).chain(places::ROWS).chain(process::ROWS)
}

#[cfg(test)]
mod tests;
