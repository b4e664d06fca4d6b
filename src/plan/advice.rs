//! Settings that hurt, the reasons, and the results of a run without them.

use std::time::Duration;

use serde::Serialize;

use super::forecast::Forecast;
use super::run::Run;
use super::scenario::{ResponseStart, Scenario};
use super::units::rounded;
use super::world::run;
use crate::knative::kpa::Metric;

mod rules;

/// One setting to look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    pub weight: Weight,
    /// The setting, by the name that it has where it is set.
    pub setting: &'static str,
    /// Its effect here.
    pub why: String,
    /// The text to write instead.
    pub help: String,
    /// The same load with the help; left out where it would take long to find out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Items are cut or lost.
    Harm,
    /// Time or money is.
    Cost,
    /// It can be, with another load.
    Note,
}

/// A run with one setting changed, beside the one without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Then {
    pub drain_seconds: Option<f64>,
    pub replica_seconds: f64,
}

/// Loads up to this size are run again for each advice.
const RERUN_MAX: usize = 20_000;

/// Everything that is to be said about a forecast, the worst first.
pub fn advise(forecast: &Forecast) -> Vec<Advice> {
    let typical = forecast.typical();
    let cheap = typical.items <= RERUN_MAX;
    let case = rules::Case::new(forecast);
    let mut all: Vec<Advice> = rules::ALL
        .iter()
        .filter_map(|rule| rule(&case))
        .map(|found| {
            let then = found.changed.filter(|_| cheap).and_then(|changed| then(&changed, typical.seed));
            Advice { weight: found.weight, setting: found.setting, why: found.why, help: found.help, then }
        })
        .collect();
    all.sort_by_key(|advice| advice.weight);
    all
}

fn then(changed: &Scenario, seed: u64) -> Option<Then> {
    let run = run(changed, seed).ok()?;
    Some(Then {
        drain_seconds: run.drained.map(|drained| rounded(drained.as_secs_f64())),
        replica_seconds: rounded(run.replica_seconds),
    })
}

#[cfg(test)]
mod tests;
