//! The rules, one function each. A rule looks at a scenario and its results.

use super::super::words::{human, plural};
use super::{Duration, Forecast, Metric, ResponseStart, Run, Scenario, Weight, run};

/// The finding of a rule, and the scenario with the setting changed.
pub struct Found {
    pub weight: Weight,
    pub setting: &'static str,
    pub why: String,
    pub help: String,
    pub changed: Option<Scenario>,
}

/// The input of the rules.
pub struct Case<'a> {
    pub forecast: &'a Forecast,
    /// The longest wait of a request for a replica, if no timeout cuts it short.
    pub longest_wait: Duration,
}

impl<'a> Case<'a> {
    pub fn new(forecast: &'a Forecast) -> Self {
        Case { forecast, longest_wait: longest_wait(forecast) }
    }

    /// The longest time that a request needs, waiting and running.
    fn needed(&self) -> Duration {
        self.forecast.scenario.load.durations.longest().saturating_add(self.longest_wait)
    }
}

/// Returns the longest wait for a replica. If a timeout cut a waiting request, the longest wait
/// seen is too short, so a run without timeouts measures it.
fn longest_wait(forecast: &Forecast) -> Duration {
    let longest = |runs: &[Run]| runs.iter().map(|run| run.longest_wait).max().unwrap_or_default();
    let was_cut = forecast.runs().iter().any(|run| run.cut > 0);
    let seeds = forecast.runs().iter().map(|run| run.seed);
    let uncut = was_cut.then(|| {
        let scenario = forecast.scenario.without_timeouts();
        seeds.map(|seed| run(&scenario, seed)).collect::<Result<Vec<_>, _>>().ok()
    });
    uncut.flatten().map_or_else(|| longest(forecast.runs()), |runs| longest(&runs))
}

pub const ALL: [fn(&Case<'_>) -> Option<Found>; 11] = [
    response_start,
    timeout_below_duration,
    timeout_below_wait,
    idle_timeout,
    sink_timeout,
    max_scale_low,
    utilization,
    panic_threshold,
    max_scale_high,
    busy_replicas_stopped,
    idle_after_the_work,
];

/// If `responseStartTimeoutSeconds` is left out, it cuts silent work after five minutes (Knative
/// Serving, `revision_defaults.go`).
fn response_start(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (limit, left_out) = match scenario.service.response_start {
        ResponseStart::Default(limit) => (limit, true),
        ResponseStart::Limit(limit) if limit < scenario.service.timeout => (limit, false),
        _ => return None,
    };
    let needed = case.needed();
    let cuts = needed > limit;
    if !cuts && !left_out {
        return None;
    }
    let is = if left_out { "is left out, so Knative sets" } else { "is" };
    let effect = if cuts {
        format!("an answer that takes up to {} is cut with 504 before that", human(needed))
    } else {
        "longer work would be cut with 504".to_owned()
    };
    Some(Found {
        weight: if cuts { Weight::Harm } else { Weight::Note },
        setting: "responseStartTimeoutSeconds",
        why: format!("{is} {}: {effect}", human(limit)),
        help: "responseStartTimeoutSeconds: 0".to_owned(),
        changed: cuts
            .then(|| changed(scenario, |changed| changed.service.response_start = ResponseStart::Unlimited)),
    })
}

fn timeout_below_duration(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (timeout, longest) = (scenario.service.timeout, scenario.load.durations.longest());
    if longest <= timeout {
        return None;
    }
    let why =
        format!("is {}, and an item takes up to {}: it can never end well", human(timeout), human(longest));
    let timeouts = enough(case);
    Some(Found {
        weight: Weight::Harm,
        setting: "timeoutSeconds",
        why,
        help: timeouts.written(),
        changed: Some(timeouts.of(scenario)),
    })
}

/// The timeout runs while a request waits for a replica (`pkg/activator`, 504
/// `activator request timeout`).
fn timeout_below_wait(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (timeout, longest) = (scenario.service.timeout, scenario.load.durations.longest());
    if longest > timeout || case.needed() <= timeout {
        return None;
    }
    let timeouts = enough(case);
    Some(Found {
        weight: Weight::Harm,
        setting: "timeoutSeconds",
        why: format!(
            "is {} and runs while a request waits for a replica: up to {} here, and {} of work after that",
            human(timeout),
            human(case.longest_wait),
            human(longest)
        ),
        help: format!("max_in_flight at most what the replicas take at once, or {}", timeouts.written()),
        changed: Some(timeouts.of(scenario)),
    })
}

/// A `timeoutSeconds` that is longer than any request of the load. A longer timeout makes Knative
/// set its default for the start of the answer, so the advice turns that off too.
struct Enough(u64);

fn enough(case: &Case<'_>) -> Enough {
    Enough(seconds(case.needed()))
}

impl Enough {
    fn written(&self) -> String {
        format!("timeoutSeconds: {} with responseStartTimeoutSeconds: 0", self.0)
    }

    fn of(&self, scenario: &Scenario) -> Scenario {
        changed(scenario, |changed| {
            changed.service.timeout = Duration::from_secs(self.0);
            changed.service.response_start = ResponseStart::Unlimited;
        })
    }
}

/// The idle timeout also runs while a request waits: the activator sees no byte before the answer.
fn idle_timeout(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (idle, needed) = (scenario.service.idle_timeout?, case.needed());
    if needed <= idle {
        return None;
    }
    Some(Found {
        weight: Weight::Harm,
        setting: "idleTimeoutSeconds",
        why: format!(
            "is {}: a request that is silent for longer, up to {} here with its wait for a replica, is cut with 504",
            human(idle),
            human(needed)
        ),
        help: "idleTimeoutSeconds: 0".to_owned(),
        changed: Some(changed(scenario, |changed| changed.service.idle_timeout = None)),
    })
}

/// The bridge ends a request after `sink.timeout`.
fn sink_timeout(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (timeout, needed) = (scenario.bridge.timeout, case.needed());
    if needed <= timeout {
        return None;
    }
    Some(Found {
        weight: Weight::Harm,
        setting: "sink.timeout",
        why: format!("is {}, and a request takes up to {}, waiting included", human(timeout), human(needed)),
        help: "sink.timeout: a little more than timeoutSeconds".to_owned(),
        changed: None,
    })
}

fn max_scale_low(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (max, slots) = (scenario.service.autoscaling.max_scale, scenario.service.container_concurrency);
    let in_flight = scenario.bridge.in_flight();
    if max == 0 || slots == 0 || max.saturating_mul(slots) >= in_flight {
        return None;
    }
    let takes = max * slots;
    let needed = in_flight.div_ceil(slots);
    Some(Found {
        weight: Weight::Cost,
        setting: "max-scale",
        why: format!(
            "is {max}, and the bridge holds {in_flight} requests open: {} only wait, and their timeout runs",
            in_flight - takes
        ),
        help: format!(
            "max-scale: \"{needed}\", or max_in_flight: {}",
            takes / scenario.bridge.replicas.max(1)
        ),
        changed: Some(changed(scenario, |changed| changed.service.autoscaling.max_scale = needed)),
    })
}

fn utilization(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let config = &scenario.service.autoscaling;
    if config.metric != Metric::Concurrency
        || scenario.service.container_concurrency != 1
        || config.target_value >= 1.0
    {
        return None;
    }
    let in_flight = scenario.bridge.in_flight();
    let asked = (f64::from(in_flight) / config.target_value).ceil() as u32;
    // If a bound holds the surplus back, the advice mentions that bound.
    let held_back = config.max_scale != 0 && config.max_scale <= in_flight;
    Some(Found {
        weight: if held_back { Weight::Note } else { Weight::Cost },
        setting: "target-utilization-percentage",
        why: format!(
            "is {} with one request per replica: {} ask for {}, and {}",
            (config.target_value * 100.0).round(),
            plural(in_flight as usize, "request"),
            plural(asked as usize, "replica"),
            if held_back { "only max-scale holds that back" } else { "the surplus stands idle" },
        ),
        help: "target-utilization-percentage: \"100\"".to_owned(),
        changed: Some(changed(scenario, |changed| {
            changed.service.autoscaling.target_value = changed.service.autoscaling.total_value;
        })),
    })
}

fn panic_threshold(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let config = &scenario.service.autoscaling;
    if config.panic_threshold < 2.0 {
        return None;
    }
    Some(Found {
        weight: Weight::Note,
        setting: "panic-threshold-percentage",
        why: format!(
            "is {}: a load that grows by less than that is met only as its average over {} grows",
            (config.panic_threshold * 100.0).round(),
            human(config.stable_window)
        ),
        help: "panic-threshold-percentage: \"110\"".to_owned(),
        changed: Some(changed(scenario, |changed| changed.service.autoscaling.panic_threshold = 1.1)),
    })
}

fn max_scale_high(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (max, slots) = (scenario.service.autoscaling.max_scale, scenario.service.container_concurrency);
    if slots == 0 {
        return None;
    }
    let in_flight = scenario.bridge.in_flight();
    let needed = in_flight.div_ceil(slots).max(scenario.service.autoscaling.min_scale);
    if max != 0 && max <= needed {
        return None;
    }
    let most = case.forecast.runs().iter().map(|run| run.most_replicas).max().unwrap_or_default();
    let is = if max == 0 { "is not set".to_owned() } else { format!("is {max}") };
    let above = most > needed;
    Some(Found {
        weight: if above { Weight::Cost } else { Weight::Note },
        setting: "max-scale",
        why: format!(
            "{is}, and {} fill {}: any above that {} idle",
            plural(in_flight as usize, "request"),
            plural(needed as usize, "replica"),
            if above { format!("({most} here) stand") } else { "would stand".to_owned() },
        ),
        help: format!("max-scale: \"{needed}\""),
        changed: above.then(|| changed(scenario, |changed| changed.service.autoscaling.max_scale = needed)),
    })
}

/// A ReplicaSet stops replicas without asking which are busy.
fn busy_replicas_stopped(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let most = case.forecast.runs().iter().map(|run| run.most_terminating).max().unwrap_or_default();
    // A worker that does not handle SIGTERM is killed thirty seconds after it.
    if most == 0 || scenario.load.durations.longest() <= Duration::from_secs(30) {
        return None;
    }
    Some(Found {
        weight: Weight::Note,
        setting: "scale-down-delay",
        why: format!(
            "is {}: up to {} told to stop while they work, and a worker that does not trap SIGTERM is cut",
            human(scenario.service.autoscaling.scale_down_delay),
            plural(most as usize, "replica"),
        ),
        help: "trap SIGTERM in the worker and finish; scale-down-delay: \"5m\" makes it rare".to_owned(),
        changed: None,
    })
}

/// Names the cost of the delay. Its benefit is that fewer busy replicas are stopped.
fn idle_after_the_work(case: &Case<'_>) -> Option<Found> {
    let scenario = &case.forecast.scenario;
    let (delay, idle) = (scenario.service.autoscaling.scale_down_delay, case.forecast.typical().idle_share());
    if delay.is_zero() || idle < 0.5 {
        return None;
    }
    Some(Found {
        weight: Weight::Cost,
        setting: "scale-down-delay",
        why: format!(
            "is {}: for a load as short as this one, replicas stand idle for {:.0} % of their time",
            human(delay),
            idle * 100.0
        ),
        help: "scale-down-delay: \"0s\", where the worker traps SIGTERM".to_owned(),
        changed: Some(changed(scenario, |changed| {
            changed.service.autoscaling.scale_down_delay = Duration::ZERO
        })),
    })
}

fn changed(scenario: &Scenario, change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut changed = scenario.clone();
    change(&mut changed);
    changed
}

/// Whole seconds, as in the manifest.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
