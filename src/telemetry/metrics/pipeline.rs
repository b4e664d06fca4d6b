//! The metrics of one pipeline that have more labels than its name.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Families;
use super::labels::{self, CANCELLED, Labels, NO_CODE, OUTCOMES};
use super::places::{PartitionState, Places};
use super::table::PipelineMetrics;
use crate::delivery::{Outcome, Reason, Settlement};
use crate::view::{Binding, ItemState};

/// The state of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open,
    /// One item tests the service.
    HalfOpen,
}

pub(super) struct Labelled {
    pipeline: String,
    attempts: Family<Labels, Counter>,
    /// In the order of [`OUTCOMES`].
    durations: [Histogram; OUTCOMES.len()],
    cancelled: Histogram,
    enqueue_to_done: Histogram,
    states: [Gauge; ItemState::UNFINISHED.len()],
    /// In the order of [`ItemState::FINISHED`].
    finished: [Counter; ItemState::FINISHED.len()],
    bindings: [Gauge; Binding::ALL.len()],
    breaker: [Gauge; BreakerState::ALL.len()],
    acked: Counter,
    returned: Counter,
    dropped: Counter,
    dead_lettered: [Counter; Reason::ALL.len()],
    places: Arc<Places>,
}

impl Labelled {
    pub fn new(pipeline: &str, families: &Families) -> Self {
        let all = &families.labelled;
        let with = |name, value| Labels::new(pipeline, [(name, value)]);
        // Without an attempt, every outcome has a sum of zero.
        for outcome in labels::outcomes() {
            let first = Labels::new(pipeline, [("outcome", outcome), ("code", NO_CODE)]);
            drop(all.attempts.get_or_create(&first));
        }
        let duration = |outcome| all.duration.get_or_create_owned(&with("outcome", outcome));
        let settled = |how| all.settled.get_or_create_owned(&with("how", how));
        Labelled {
            pipeline: pipeline.to_owned(),
            attempts: all.attempts.clone(),
            durations: OUTCOMES.map(|outcome| duration(outcome.label())),
            cancelled: duration(CANCELLED),
            enqueue_to_done: all.enqueue_to_done.get_or_create_owned(&Labels::new(pipeline, [])),
            states: ItemState::UNFINISHED
                .map(|state| all.items.get_or_create_owned(&with("state", state.as_str()))),
            finished: ItemState::FINISHED
                .map(|state| all.finished.get_or_create_owned(&with("end", state.as_str()))),
            bindings: Binding::ALL
                .map(|binding| all.bindings.get_or_create_owned(&with("binding", binding.as_str()))),
            breaker: BreakerState::ALL
                .map(|state| all.breaker.get_or_create_owned(&with("breaker", state.as_str()))),
            acked: settled("ack"),
            returned: settled("return"),
            dropped: settled("drop"),
            dead_lettered: Reason::ALL
                .map(|reason| all.dead_lettered.get_or_create_owned(&with("reason", reason.as_str()))),
            places: families.places.clone(),
        }
    }

    fn ended(&self, outcome: &str, status: Option<u16>) {
        let code = labels::code(status);
        let labels = Labels::new(&self.pipeline, [("outcome", outcome), ("code", &code)]);
        self.attempts.get_or_create(&labels).inc();
    }
}

impl PipelineMetrics {
    /// Counts the end of an attempt. `status` is that of the answer, if there was one.
    pub fn attempt(&self, outcome: Outcome, status: Option<u16>, took: Duration) {
        self.labelled.ended(outcome.label(), status);
        let same = |known: &Outcome| known.label() == outcome.label();
        if let Some(index) = OUTCOMES.iter().position(same) {
            self.labelled.durations[index].observe(took.as_secs_f64());
        }
    }

    /// Counts an attempt that a person cut.
    pub fn cancelled(&self, took: Duration) {
        self.labelled.ended(CANCELLED, None);
        self.labelled.cancelled.observe(took.as_secs_f64());
    }

    /// Counts an item that ended in this state.
    pub fn finished(&self, state: ItemState) {
        if let Some(index) = ItemState::FINISHED.iter().position(|known| *known == state) {
            self.labelled.finished[index].inc();
        }
    }

    /// Shows how long an item took that is done, with the time at which it was enqueued.
    pub fn done(&self, enqueued: SystemTime) {
        // A producer's clock may be ahead of ours.
        let took = SystemTime::now().duration_since(enqueued).unwrap_or_default();
        self.labelled.enqueue_to_done.observe(took.as_secs_f64());
    }

    /// Shows the number of items in each state of [`ItemState::UNFINISHED`].
    pub fn items(&self, counts: [u32; ItemState::UNFINISHED.len()]) {
        for (count, gauge) in counts.into_iter().zip(&self.labelled.states) {
            gauge.set(i64::from(count));
        }
    }

    /// Shows the bound that keeps further items from starting.
    pub fn binding(&self, binding: Binding) {
        for (other, gauge) in Binding::ALL.iter().zip(&self.labelled.bindings) {
            gauge.set(i64::from(*other == binding));
        }
    }

    pub fn breaker(&self, state: BreakerState) {
        self.breaker_open.set(i64::from(state != BreakerState::Closed));
        for (other, gauge) in BreakerState::ALL.iter().zip(&self.labelled.breaker) {
            gauge.set(i64::from(*other == state));
        }
    }

    pub fn settled(&self, how: Settlement, dropped: bool) {
        match how {
            Settlement::Ack if dropped => self.labelled.dropped.inc(),
            Settlement::Ack => self.labelled.acked.inc(),
            Settlement::Return => self.labelled.returned.inc(),
        };
    }

    /// Returns the number of acked deliveries.
    pub fn acks(&self) -> u64 {
        self.labelled.acked.get()
    }

    pub fn dead_lettered(&self, reason: Reason) {
        if let Some(index) = Reason::ALL.iter().position(|known| *known == reason) {
            self.labelled.dead_lettered[index].inc();
        }
    }

    /// The queue handed an item over, or took a settle.
    pub fn queue_progressed(&self, queue: &str) {
        self.labelled.places.queue_progressed(&self.labelled.pipeline, queue);
    }

    /// Shows these partitions instead of those that were shown before.
    pub fn partitions(&self, partitions: Vec<PartitionState>) {
        self.labelled.places.set_partitions(&self.labelled.pipeline, partitions);
    }
}

impl BreakerState {
    pub(super) const ALL: [BreakerState; 3] =
        [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}
