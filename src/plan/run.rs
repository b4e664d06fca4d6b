//! The results of one run.

use std::time::Duration;

use super::curve::Curve;
use super::limit::Limits;
use super::queue::Totals;
use crate::delivery::Outcome;

/// The results. All times count from the start of the load; sums are in seconds.
#[derive(Clone, Debug)]
pub struct Run {
    pub seed: u64,
    pub items: usize,
    pub totals: Totals,
    /// When the last item was settled; none if that did not come within two years after the last
    /// arrival, or if items are held.
    pub drained: Option<Duration>,
    /// When a worker began with the first item.
    pub first_start: Option<Duration>,
    pub last_answer: Duration,
    /// The time from the last answer until the service was at its smallest scale again; none if it
    /// never was.
    pub to_floor: Option<Duration>,
    /// The time that as many replicas as requests, all there from the start, would have taken.
    pub ideal: Duration,
    /// When as many replicas were ready as ever were.
    pub all_ready: Duration,
    /// Those that start or are ready, at most at once; of those told to stop, none.
    pub most_replicas: u32,
    /// All that are paid for, also those told to stop that still run a request. The curve shows
    /// this number.
    pub most_paid: u32,
    pub most_ready: u32,
    /// Replicas that were started.
    pub cold_starts: u32,
    /// The paid time: from each replica's start until it is gone.
    pub replica_seconds: f64,
    /// Slots of replicas that are paid for, and those of them that ran a request.
    pub slot_seconds: f64,
    pub busy_seconds: f64,
    pub attempts: usize,
    /// Attempts that the worker failed.
    pub failed: usize,
    /// Attempts that a timeout cut, waiting or running.
    pub cut: usize,
    pub longest_wait: Duration,
    pub total_wait: Duration,
    /// Requests that ran on a replica that was told to stop, at most at once.
    pub most_terminating: u32,
    pub limits: Limits,
    pub curve: Curve,
}

impl Run {
    pub(super) fn new(seed: u64, items: usize, ideal: Duration) -> Self {
        Run {
            seed,
            items,
            totals: Totals::default(),
            drained: None,
            first_start: None,
            last_answer: Duration::ZERO,
            to_floor: None,
            ideal,
            all_ready: Duration::ZERO,
            most_replicas: 0,
            most_paid: 0,
            most_ready: 0,
            cold_starts: 0,
            replica_seconds: 0.0,
            slot_seconds: 0.0,
            busy_seconds: 0.0,
            attempts: 0,
            failed: 0,
            cut: 0,
            longest_wait: Duration::ZERO,
            total_wait: Duration::ZERO,
            most_terminating: 0,
            limits: Limits::default(),
            curve: Curve::default(),
        }
    }

    pub(super) fn note_end(&mut self, now: Duration, outcome: &Outcome, waited: Duration) {
        self.last_answer = now;
        self.attempts += 1;
        self.longest_wait = self.longest_wait.max(waited);
        self.total_wait += waited;
        match outcome {
            Outcome::Failed { .. } => self.failed += 1,
            Outcome::Unknown => self.cut += 1,
            _ => {}
        }
    }

    /// The time from the first item's start at a worker to the last answer.
    pub fn worked(&self) -> Duration {
        self.last_answer.saturating_sub(self.first_start.unwrap_or_default())
    }

    /// How long a request waited for a replica, in the mean.
    pub fn mean_wait(&self) -> Duration {
        self.total_wait.div_f64(self.attempts.max(1) as f64)
    }

    /// The share of the paid time in which nothing ran.
    pub fn idle_share(&self) -> f64 {
        if self.slot_seconds == 0.0 { 0.0 } else { 1.0 - self.busy_seconds / self.slot_seconds }
    }
}
