//! `--try KEY=VALUE,…`: changes a few settings of a scenario, without further files.

use super::load;
use super::scenarios::{Base, set_timeouts};
use crate::config::MAX_IN_FLIGHT_MAX;
use crate::knative::kpa::annotations::{ALL, GROUP};
use crate::knative::kpa::{Annotations, Config, Metric};
use crate::knative::manifest::Remark;
use crate::plan::Scenario;

/// The settings, in the order in which they were written.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    text: String,
    settings: Vec<(String, String)>,
}

impl Variant {
    pub fn parse(text: &str) -> Result<Self, String> {
        let setting = |pair: &str| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no `=`"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        };
        let settings = text.split(',').map(setting).collect::<Result<_, String>>()?;
        Ok(Variant { text: text.to_owned(), settings })
    }

    /// Applies the settings to `base`. Knative's own rules hold for the annotations and the
    /// timeouts.
    ///
    /// # Errors
    /// A key does not exist, or cannot have its value.
    pub fn apply(&self, base: &Base) -> Result<Scenario, String> {
        let mut base = base.clone();
        for (key, value) in &self.settings {
            set(&mut base, key, value)?;
        }
        Annotations(&base.annotations).check(&base.cluster).map_err(|error| error.to_string())?;
        let mut scenario = base.scenario;
        let concurrency = scenario.service.container_concurrency;
        scenario.service.autoscaling = Config::resolve(&base.cluster, &base.annotations, concurrency);
        if scenario.service.autoscaling.metric != Metric::Concurrency {
            return Err("metric=rps can't be planned: only concurrency can".to_owned());
        }
        let resolved = base.timeouts.resolve(&base.defaults);
        if !resolved.mistakes.is_empty() {
            let reason = |Remark { field, reason, help }| format!("{field}: {reason}; {help}");
            return Err(resolved.mistakes.into_iter().map(reason).collect::<Vec<_>>().join("\n"));
        }
        set_timeouts(&mut scenario.service, resolved.timeouts);
        scenario.name = self.text.clone();
        Ok(scenario)
    }
}

fn set(base: &mut Base, key: &str, value: &str) -> Result<(), String> {
    let full = format!("{GROUP}{key}");
    if let Some(known) = ALL.into_iter().find(|known| known.names().any(|name| name == full)) {
        // An annotation has two spellings, and the one in the manifest could win.
        base.annotations.retain(|name, _| known.names().all(|spelling| spelling != *name));
        base.annotations.insert(full, value.to_owned());
        return Ok(());
    }
    let (scenario, timeouts) = (&mut base.scenario, &mut base.timeouts);
    let seconds = |least| number(key, value, least, i32::MAX as u32).map(Some);
    let (service, bridge) = (&mut scenario.service, &mut scenario.bridge);
    match key {
        "containerConcurrency" => service.container_concurrency = number(key, value, 0, 1_000)?,
        "timeoutSeconds" => timeouts.request = seconds(1)?,
        "responseStartTimeoutSeconds" => timeouts.response_start = seconds(0)?,
        "idleTimeoutSeconds" => timeouts.idle = seconds(0)?,
        "max-in-flight" => bridge.policy.max_in_flight = number(key, value, 1, MAX_IN_FLIGHT_MAX)?,
        "bridges" => bridge.replicas = number(key, value, 1, 100)?,
        "cold-start" => service.cold_start = load::cold_start(value)?,
        "failure-rate" => scenario.load.failure_rate = load::share(value)?,
        "price" => scenario.price = Some(load::price(value)?),
        _ => return Err(format!("--try knows no key {key:?}")),
    }
    Ok(())
}

fn number(key: &str, value: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{key} must be a whole number in {least}..{most}, not {value:?}"))
}
