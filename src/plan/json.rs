//! Writes a forecast as JSON. Times are in seconds, from the start of the load.

use serde::Serialize;
use serde_json::Value;

use super::advice::Advice;
use super::curve::Point;
use super::forecast::{Forecast, Spread};
use super::units::rounded;

#[derive(Serialize)]
struct Report<'a> {
    seed: u64,
    seeds: usize,
    scenarios: Vec<Entry<'a>>,
}

/// One scenario. A number that may differ between seeds is a median with its range.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    items: usize,
    max_in_flight: u32,
    drain_seconds: Option<Spread>,
    ideal_seconds: f64,
    times_ideal: Option<Spread>,
    first_start_to_last_answer_seconds: Spread,
    all_ready_seconds: Spread,
    last_answer_to_floor_seconds: Option<Spread>,
    /// Does not count replicas that were told to stop.
    most_replicas: Spread,
    /// Counts replicas that were told to stop, like the curve.
    most_paid_replicas: Spread,
    most_ready: Spread,
    cold_starts: Spread,
    replica_seconds: Spread,
    cost: Option<Spread>,
    idle_share: Spread,
    longest_wait_seconds: Spread,
    mean_wait_seconds: Spread,
    attempts: Spread,
    failed_attempts: Spread,
    cut_attempts: Spread,
    dead_lettered: Spread,
    /// The limits of the typical run, the longest first.
    limits: Vec<Limit>,
    advice: &'a [Advice],
    /// The curve of the typical run.
    curve: &'a [Point],
}

#[derive(Serialize)]
struct Limit {
    limit: &'static str,
    share: f64,
}

/// Returns the report as JSON.
///
/// # Errors
/// A number is infinite or not a number; no report holds one.
pub fn report(forecasts: &[(Forecast, Vec<Advice>)], seed: u64) -> serde_json::Result<Value> {
    serde_json::to_value(Report {
        seed,
        seeds: forecasts.first().map_or(0, |(forecast, _)| forecast.runs().len()),
        scenarios: forecasts.iter().map(|(forecast, advice)| entry(forecast, advice)).collect(),
    })
}

fn entry<'a>(forecast: &'a Forecast, advice: &'a [Advice]) -> Entry<'a> {
    let typical = forecast.typical();
    Entry {
        name: &forecast.scenario.name,
        items: typical.items,
        max_in_flight: forecast.scenario.bridge.in_flight(),
        drain_seconds: forecast.drain(),
        ideal_seconds: rounded(typical.ideal.as_secs_f64()),
        times_ideal: forecast.times_ideal(),
        first_start_to_last_answer_seconds: forecast.spread(|run| run.worked().as_secs_f64()),
        all_ready_seconds: forecast.spread(|run| run.all_ready.as_secs_f64()),
        last_answer_to_floor_seconds: forecast.to_floor(),
        most_replicas: forecast.spread(|run| f64::from(run.most_replicas)),
        most_paid_replicas: forecast.spread(|run| f64::from(run.most_paid)),
        most_ready: forecast.spread(|run| f64::from(run.most_ready)),
        cold_starts: forecast.spread(|run| f64::from(run.cold_starts)),
        replica_seconds: forecast.spread(|run| run.replica_seconds),
        cost: forecast.cost(),
        idle_share: forecast.spread(super::Run::idle_share),
        longest_wait_seconds: forecast.spread(|run| run.longest_wait.as_secs_f64()),
        mean_wait_seconds: forecast.spread(|run| run.mean_wait().as_secs_f64()),
        attempts: forecast.spread(|run| run.attempts as f64),
        failed_attempts: forecast.spread(|run| run.failed as f64),
        cut_attempts: forecast.spread(|run| run.cut as f64),
        dead_lettered: forecast.spread(|run| run.totals.dead_lettered as f64),
        limits: forecast
            .limits()
            .into_iter()
            .map(|(limit, share)| Limit { limit: limit.as_str(), share: rounded(share) })
            .collect(),
        advice,
        curve: typical.curve.points(),
    }
}
