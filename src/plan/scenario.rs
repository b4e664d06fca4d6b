//! The input of a plan: a load, the bridge that moves it, and the service that does the work.

use std::time::Duration;

use super::arrivals::Arrivals;
use super::durations::Durations;
use crate::delivery::Policy;
use crate::knative::kpa;

/// Everything that a forecast depends on, apart from its seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub load: Load,
    pub bridge: Bridge,
    pub service: Service,
    pub start: Start,
    /// The cost of one replica per hour, in any currency.
    pub price: Option<f64>,
}

/// The work.
#[derive(Clone, Debug)]
pub struct Load {
    pub arrivals: Vec<Arrivals>,
    pub durations: Durations,
    /// The share of attempts that fail, in 0..=1. A failed attempt takes its full time.
    pub failure_rate: f64,
}

/// The bridge between queue and service.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Replicas of the bridge on one queue, at least 1.
    pub replicas: u32,
    /// The longest request (`sink.timeout`), waiting and running together.
    pub timeout: Duration,
    /// The rules of each replica of the bridge; `max_in_flight` is per replica.
    pub policy: Policy,
}

/// The Knative Service.
#[derive(Clone, Debug)]
pub struct Service {
    pub autoscaling: kpa::Config,
    /// Requests that one replica takes at once; 0 is unlimited.
    pub container_concurrency: u32,
    /// `timeoutSeconds`: waiting and running together.
    pub timeout: Duration,
    /// The limit until the first byte of the answer, which batch work sends at its end.
    pub response_start: ResponseStart,
    /// The limit on silence, counted from the arrival: the activator's clock runs while a request
    /// waits, and a worker sends nothing before its answer.
    pub idle_timeout: Option<Duration>,
    /// The time from the decision for a replica until it takes requests.
    pub cold_start: Duration,
}

/// `responseStartTimeoutSeconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseStart {
    /// The manifest leaves it out. Knative then sets this default, if the timeout is longer.
    Default(Duration),
    Limit(Duration),
    /// The manifest says 0, or leaves it out and the timeout does not exceed the default.
    Unlimited,
}

/// The state of the service when the first item arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It has been idle for long, so it is at its smallest scale.
    Idle,
    /// It was deployed about this long ago, with its initial scale.
    Fresh(Duration),
}

impl ResponseStart {
    pub fn limit(self) -> Option<Duration> {
        match self {
            ResponseStart::Default(limit) | ResponseStart::Limit(limit) => Some(limit),
            ResponseStart::Unlimited => None,
        }
    }
}

impl Scenario {
    /// Returns the latest end of a request that arrived at `arrived`.
    pub fn deadline(&self, arrived: Duration) -> Duration {
        let service = &self.service;
        let until_first_byte = [service.response_start.limit(), service.idle_timeout];
        let most = service.timeout.min(self.bridge.timeout);
        arrived.saturating_add(until_first_byte.into_iter().flatten().fold(most, Duration::min))
    }

    /// Returns the same scenario without any timeout.
    pub fn without_timeouts(&self) -> Self {
        let mut uncut = self.clone();
        uncut.bridge.timeout = Duration::MAX;
        uncut.service.timeout = Duration::MAX;
        uncut.service.response_start = ResponseStart::Unlimited;
        uncut.service.idle_timeout = None;
        uncut
    }
}

impl Service {
    /// Returns Knative's defaults around `autoscaling`, with one request per replica and a cold
    /// start of a second.
    pub fn new(autoscaling: kpa::Config) -> Self {
        Service {
            autoscaling,
            container_concurrency: 1,
            timeout: Duration::from_secs(300),
            // The default of 300 s is not below the timeout, so Knative does not set it.
            response_start: ResponseStart::Unlimited,
            idle_timeout: None,
            cold_start: Duration::from_secs(1),
        }
    }

    /// Returns the smallest scale, which is reached without work.
    pub fn floor(&self) -> u32 {
        let least = if self.autoscaling.enable_scale_to_zero { 0 } else { 1 };
        self.autoscaling.min_scale.max(least)
    }
}

impl Bridge {
    /// Returns how many requests all replicas of the bridge may hold open.
    pub fn in_flight(&self) -> u32 {
        self.policy.max_in_flight.saturating_mul(self.replicas)
    }
}
