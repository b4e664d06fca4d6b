//! Names the setting that limits the speed, at one moment and over a run.

use std::time::Duration;

use super::scenario::Scenario;
use crate::knative::service::Counts;

/// The setting that would have to be larger or faster for the next item to start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Every item that has arrived runs.
    Arrivals,
    /// Items wait in the broker while the bridge holds all the requests open that it may.
    MaxInFlight,
    /// Items wait for the time that the bridge's `rate` gives them.
    Rate,
    /// Requests wait for a replica, and the service has its highest number of replicas.
    MaxScale,
    /// Requests wait for replicas that start.
    ColdStart,
    /// Requests wait, and the autoscaler does not yet see the whole load, because of averages,
    /// ticks or the panic threshold.
    Autoscaler,
    /// Requests wait, and the autoscaler has the replicas that its target asks for.
    Target,
    /// Items wait for their next attempt.
    Retries,
    /// The last items run; nothing else is left to start.
    Work,
}

impl Limit {
    pub const ALL: [Limit; 9] = [
        Limit::Arrivals,
        Limit::MaxInFlight,
        Limit::Rate,
        Limit::MaxScale,
        Limit::ColdStart,
        Limit::Autoscaler,
        Limit::Target,
        Limit::Retries,
        Limit::Work,
    ];

    /// Returns the name in the report. If the limit is a setting, this is the setting's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Arrivals => "arrivals",
            Limit::MaxInFlight => "max_in_flight",
            Limit::Rate => "rate",
            Limit::MaxScale => "max-scale",
            Limit::ColdStart => "cold start",
            Limit::Autoscaler => "autoscaler's reaction",
            Limit::Target => "target utilization",
            Limit::Retries => "retries",
            Limit::Work => "the last items' work",
        }
    }

    /// Returns the present limit, given the counts of waiting items.
    pub fn now(
        scenario: &Scenario,
        counts: &Counts,
        backlog: usize,
        unsettled: usize,
        more_to_come: More,
    ) -> Self {
        if counts.queued > 0 {
            return Limit::of_service(scenario, counts);
        }
        match more_to_come {
            _ if backlog > 0 && unsettled > counts.in_flight => Limit::Retries,
            _ if backlog > 0 => Limit::MaxInFlight,
            More::Arrivals => Limit::Arrivals,
            More::Nothing if counts.in_flight == 0 => Limit::Retries,
            More::Nothing => Limit::Work,
        }
    }

    fn of_service(scenario: &Scenario, counts: &Counts) -> Self {
        let config = &scenario.service.autoscaling;
        let wanted = (counts.in_flight as f64 / config.target_value).ceil();
        if counts.starting > 0 {
            Limit::ColdStart
        } else if config.max_scale != 0 && counts.desired >= config.max_scale {
            Limit::MaxScale
        } else if f64::from(counts.desired) < wanted {
            Limit::Autoscaler
        } else {
            Limit::Target
        }
    }
}

/// Whether items are still to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    Arrivals,
    Nothing,
}

/// The total time during which each limit held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    times: [Duration; Limit::ALL.len()],
}

impl Limits {
    pub fn add(&mut self, limit: Limit, time: Duration) {
        self.times[limit as usize] += time;
    }

    /// Returns every limit that held, with its share of the time, the longest first.
    pub fn shares(&self) -> Vec<(Limit, f64)> {
        let total: Duration = self.times.iter().sum();
        let share = |limit: Limit| self.times[limit as usize].as_secs_f64() / total.as_secs_f64();
        let mut shares: Vec<_> = Limit::ALL
            .into_iter()
            .filter(|limit| !self.times[*limit as usize].is_zero())
            .map(|limit| (limit, share(limit)))
            .collect();
        shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        shares
    }
}
