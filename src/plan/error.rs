//! Refuses scenarios that are too large or too long to run.

use std::time::Duration;

use super::LONGEST;
use super::arrivals::{ITEMS_MAX, TooMany};
use super::scenario::Scenario;
use super::words::human;

/// The longest span that an autoscaler setting may have. A run visits all ticks of the autoscaler,
/// one every two seconds, also before the first item and after the last.
const SETTING_MAX: Duration = Duration::from_secs(24 * 3600);

/// The reason why a scenario is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the load has more than {ITEMS_MAX} items")]
    TooManyItems,
    #[error("the load takes {} with every replica there from the start, and at most {} can be simulated", human(*.0), human(LONGEST))]
    LoadTooLong(Duration),
    #[error("{setting} is {}, and at most {} can be simulated", human(*.span), human(SETTING_MAX))]
    SettingTooLong { setting: &'static str, span: Duration },
}

impl Error {
    /// Returns the change that makes the scenario small enough to run.
    pub fn help(&self) -> &'static str {
        match self {
            Error::TooManyItems => "plan a part of the load: the rest takes as long again",
            Error::LoadTooLong(_) => "plan fewer items, shorter work, or more requests at once",
            Error::SettingTooLong { .. } => {
                "plan with a shorter one: an idle replica costs the same every hour"
            }
        }
    }
}

impl From<TooMany> for Error {
    fn from(_: TooMany) -> Self {
        Error::TooManyItems
    }
}

/// Refuses autoscaler settings that need too many ticks.
pub(super) fn check_settings(scenario: &Scenario) -> Result<(), Error> {
    let config = &scenario.service.autoscaling;
    let settings = [
        ("stable-window", config.stable_window),
        ("scale-down-delay", config.scale_down_delay),
        ("scale-to-zero-grace-period", config.scale_to_zero_grace_period),
        ("scale-to-zero-pod-retention-period", config.scale_to_zero_pod_retention),
        ("the cold start", scenario.service.cold_start),
    ];
    match settings.into_iter().find(|(_, span)| *span > SETTING_MAX) {
        Some((setting, span)) => Err(Error::SettingTooLong { setting, span }),
        None => Ok(()),
    }
}

/// Refuses a load that takes even the ideal service longer than [`LONGEST`]; a real service is
/// slower.
pub(super) fn check_load(ideal: Duration) -> Result<(), Error> {
    if ideal > LONGEST { Err(Error::LoadTooLong(ideal)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plan::with_defaults;
    use crate::knative::kpa::{Cluster, Config};
    use crate::plan::{Arrivals, Durations, Load, Service, Start, run};

    const HOUR: Duration = Duration::from_secs(3600);

    fn scenario(items: usize, work: Duration, cluster: &Cluster) -> Scenario {
        Scenario {
            name: "test".to_owned(),
            load: Load {
                arrivals: vec![Arrivals::Backlog(items)],
                durations: Durations::Fixed(work),
                failure_rate: 0.0,
            },
            bridge: with_defaults(1),
            service: Service::new(Config::resolve(cluster, &Default::default(), 1)),
            start: Start::Idle,
            price: None,
        }
    }

    #[test]
    fn a_load_of_more_than_a_year_is_refused_before_it_is_run() {
        let cluster = Cluster::default();
        let refused = run(&scenario(20, LONGEST, &cluster), 1).unwrap_err();
        assert_eq!(refused, Error::LoadTooLong(LONGEST * 20));
        assert!(refused.to_string().contains("takes 7300 d 0 h"), "{refused}");
        assert!(run(&scenario(20, HOUR, &cluster), 1).is_ok());
    }

    #[test]
    fn settings_of_more_than_a_day_are_refused_before_they_are_run() {
        let cluster = Cluster { scale_to_zero_grace_period: 100_000 * HOUR, ..Cluster::default() };
        let refused = run(&scenario(1, HOUR, &cluster), 1).unwrap_err();
        assert!(refused.to_string().starts_with("scale-to-zero-grace-period is 4166 d"), "{refused}");
        let cluster = Cluster { scale_to_zero_grace_period: 24 * HOUR, ..Cluster::default() };
        assert!(run(&scenario(1, HOUR, &cluster), 1).is_ok());
    }
}
