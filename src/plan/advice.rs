//! Finds settings that hurt, with the reason and the results of a run without them.

use std::time::Duration;

use serde::Serialize;

use super::forecast::Forecast;
use super::run::Run;
use super::scenario::{ResponseStart, Scenario};
use super::units::rounded;
use super::world::run;
use crate::knative::kpa::Metric;

mod rules;

/// Advice on one setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    pub weight: Weight,
    /// The name of the setting in the manifest or the configuration.
    pub setting: &'static str,
    /// The effect of the setting in this scenario.
    pub why: String,
    /// The text to write instead.
    pub help: String,
    /// The result of the same load with the changed setting; `None` if that run would take long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Items are cut or lost.
    Harm,
    /// Time or money is lost.
    Cost,
    /// Nothing is lost now, but another load could suffer.
    Note,
}

/// The results of a run with one setting changed, and of the run without the change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Then {
    pub drain_seconds: Option<f64>,
    pub replica_seconds: f64,
}

/// Loads up to this size are run again for each advice.
const RERUN_MAX: usize = 20_000;

/// Returns all advice on a forecast, the most severe first.
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
