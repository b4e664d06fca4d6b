//! Several runs of one scenario, and their summary.

use std::time::Duration;

use serde::Serialize;

use super::error::Error;
use super::limit::Limit;
use super::run::Run;
use super::scenario::Scenario;
use super::units::rounded;
use super::world::run;

/// A scenario and its runs, one per seed; never empty.
#[derive(Clone, Debug)]
pub struct Forecast {
    pub scenario: Scenario,
    runs: Vec<Run>,
}

/// The median of several runs, and their range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Forecast {
    /// Runs `scenario` once for each of `seeds` seeds, starting with `seed`, and at least once.
    ///
    /// # Errors
    /// The scenario has too many items, or spans of time that are too long.
    pub fn make(scenario: Scenario, seed: u64, seeds: u32) -> Result<Self, Error> {
        let runs = (0..u64::from(seeds.max(1)))
            .map(|n| run(&scenario, seed.wrapping_add(n)))
            .collect::<Result<_, _>>()?;
        Ok(Forecast { scenario, runs })
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns the run whose time to drain is the median. The drawing shows this run.
    pub fn typical(&self) -> &Run {
        let mut by_drain: Vec<&Run> = self.runs.iter().collect();
        by_drain.sort_by_key(|run| run.drained.unwrap_or(Duration::MAX));
        by_drain[(by_drain.len() - 1) / 2]
    }

    /// Returns the spread of one number over all runs.
    pub fn spread(&self, number: impl Fn(&Run) -> f64) -> Spread {
        let mut numbers: Vec<f64> = self.runs.iter().map(number).collect();
        numbers.sort_by(f64::total_cmp);
        let (count, middle) = (numbers.len(), numbers.len() / 2);
        let median = if count.is_multiple_of(2) {
            (numbers[middle - 1] + numbers[middle]) / 2.0
        } else {
            numbers[middle]
        };
        Spread { median: rounded(median), lowest: rounded(numbers[0]), highest: rounded(numbers[count - 1]) }
    }

    /// Seconds until the last item is settled; `None` if a run never drains.
    pub fn drain(&self) -> Option<Spread> {
        let all = self.runs.iter().all(|run| run.drained.is_some());
        all.then(|| self.spread(|run| run.drained.unwrap_or_default().as_secs_f64()))
    }

    /// The time to drain divided by the ideal time; `None` if a run never drains, or if the ideal
    /// time is zero (observed durations of 0).
    pub fn times_ideal(&self) -> Option<Spread> {
        let some = self.runs.iter().all(|run| !run.ideal.is_zero());
        let ratio = |run: &Run| run.drained.unwrap_or_default().div_duration_f64(run.ideal);
        self.drain().filter(|_| some).map(|_| self.spread(ratio))
    }

    /// Seconds from the last answer until the service reached its smallest scale; `None` if it
    /// never did in some run.
    pub fn to_floor(&self) -> Option<Spread> {
        let all = self.runs.iter().all(|run| run.to_floor.is_some());
        all.then(|| self.spread(|run| run.to_floor.unwrap_or_default().as_secs_f64()))
    }

    /// The cost of the replicas, if a price is known.
    pub fn cost(&self) -> Option<Spread> {
        let price = self.scenario.price?;
        Some(self.spread(|run| run.replica_seconds / 3600.0 * price))
    }

    /// The limits of a typical run, the longest first.
    pub fn limits(&self) -> Vec<(Limit, f64)> {
        self.typical().limits.shares()
    }
}
