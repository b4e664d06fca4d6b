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
    /// The time at which the last item was settled; `None` if that took more than two years from
    /// the last arrival, or if items are held.
    pub drained: Option<Duration>,
    /// The time at which the first item started at a worker.
    pub first_start: Option<Duration>,
    pub last_answer: Duration,
    /// The time from the last answer until the service was at its smallest scale again; `None` if
    /// it never was.
    pub to_floor: Option<Duration>,
    /// The time that a service with a ready replica for each request would have taken.
    pub ideal: Duration,
    /// The time at which the highest number of replicas was ready.
    pub all_ready: Duration,
    /// The highest number of replicas that were starting or ready at once, without those told to
    /// stop.
    pub most_replicas: u32,
    /// The highest number of replicas that were paid for at once: also those told to stop that
    /// still ran a request. The curve shows this number.
    pub most_paid: u32,
    pub most_ready: u32,
    /// Replicas that were started.
    pub cold_starts: u32,
    /// The paid time: from each replica's start until it is gone.
    pub replica_seconds: f64,
    /// Slot time of replicas that are paid for, and the part of it in which a request ran.
    pub slot_seconds: f64,
    pub busy_seconds: f64,
    pub attempts: usize,
    /// Attempts that the worker failed.
    pub failed: usize,
    /// Attempts that a timeout cut, waiting or running.
    pub cut: usize,
    pub longest_wait: Duration,
    pub total_wait: Duration,
    /// The highest number of requests that ran at once on replicas told to stop.
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

    /// Returns the time from the first item's start at a worker to the last answer.
    pub fn worked(&self) -> Duration {
        self.last_answer.saturating_sub(self.first_start.unwrap_or_default())
    }

    /// Returns the mean wait of a request for a replica.
    pub fn mean_wait(&self) -> Duration {
        self.total_wait.div_f64(self.attempts.max(1) as f64)
    }

    /// Returns the share of the paid time without work.
    pub fn idle_share(&self) -> f64 {
        if self.slot_seconds == 0.0 { 0.0 } else { 1.0 - self.busy_seconds / self.slot_seconds }
    }
}
