//! One run: the whole scenario in virtual time, with one seed.

use std::time::Duration;

use super::arrivals::{self, TooMany};
use super::curve::{Curve, Point};
use super::ideal;
use super::limit::{Limit, Limits, More};
use super::queue::{Queue, Totals};
use super::random::Random;
use super::requests::{Asked, Requests, prepared};
use super::scenario::Scenario;
use crate::delivery::Outcome;
use crate::knative::service::Counts;

/// What came of it. All times count from the start of the load; sums are in seconds.
#[derive(Clone, Debug)]
pub struct Run {
    pub seed: u64,
    pub items: usize,
    pub totals: Totals,
    /// When the last item was settled; none if that did not come within [`HORIZON`] of the last arrival, or if items are held.
    pub drained: Option<Duration>,
    /// When a worker began with the first item.
    pub first_start: Option<Duration>,
    pub last_answer: Duration,
    /// From the last answer until the service was at its smallest scale again; none if it never was.
    pub to_floor: Option<Duration>,
    /// The time that as many replicas as requests, all there from the start, would have taken.
    pub ideal: Duration,
    /// When as many replicas were ready as ever were.
    pub all_ready: Duration,
    pub most_replicas: u32,
    pub most_ready: u32,
    /// Replicas that were started.
    pub cold_starts: u32,
    /// What is paid for: from a replica's start until it is gone.
    pub replica_seconds: f64,
    /// Slots of replicas that are paid for, and those of them that ran a request.
    pub slot_seconds: f64,
    pub busy_seconds: f64,
    pub attempts: usize,
    /// Attempts that the worker failed.
    pub failed: usize,
    /// Attempts that a timeout cut, waiting or running.
    pub cut: usize,
    pub longest_wait: Duration,
    pub total_wait: Duration,
    /// Requests that ran on a replica that was told to stop, at most at once.
    pub most_terminating: u32,
    pub limits: Limits,
    pub curve: Curve,
}

/// A load that is not through after ten years never will be.
const HORIZON: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Runs `scenario` with one seed.
///
/// # Errors
/// A load of too many items.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Run, TooMany> {
    let random = Random::new(seed);
    let arrivals = arrivals::times(&scenario.load.arrivals, random)?;
    let ideal = ideal::time(scenario, &arrivals, random);
    let (revision, origin) = prepared(scenario, random);
    let mut world = World {
        scenario,
        arrived: 0,
        queue: Queue::new(&scenario.bridge),
        requests: Requests::new(scenario, random, revision, origin),
        asked: Vec::new(),
        now: Duration::ZERO,
        counts: Counts::default(),
        run: Run::new(seed, arrivals.len(), ideal),
    };
    world.counts = world.requests.counts();
    let give_up = arrivals.last().copied().unwrap_or_default().saturating_add(HORIZON);
    while world.settled() < arrivals.len() && world.now < give_up && !world.is_stuck() {
        world.step(&arrivals);
    }
    world.run.totals = world.queue.totals;
    world.run.drained = (world.settled() == arrivals.len()).then_some(world.now);
    world.wind_down(&arrivals);
    Ok(world.run)
}

struct World<'a> {
    scenario: &'a Scenario,
    /// How many have arrived.
    arrived: usize,
    queue: Queue,
    requests: Requests<'a>,
    /// Requests that the bridge sends at this moment.
    asked: Vec<Asked>,
    now: Duration,
    counts: Counts,
    run: Run,
}

impl World<'_> {
    /// Goes on to the next moment at which anything happens, and lets all of it happen.
    fn step(&mut self, arrivals: &[Duration]) {
        let arrival = arrivals.get(self.arrived).copied().unwrap_or(Duration::MAX);
        let next = arrival.min(self.requests.next()).min(self.queue.next()).max(self.now);
        self.pass(next, arrivals.len());
        let come = arrivals[self.arrived..].iter().take_while(|at| **at <= next).count();
        self.arrived += come;
        self.queue.enqueue(come);
        self.queue.turn(next, &mut self.asked);
        while let Some(ended) = self.requests.pop_ended(next) {
            self.run.note_end(next, &ended.outcome, ended.waited);
            self.queue.ended(next, ended, &mut self.asked);
        }
        self.queue.deliver(next, &mut self.asked);
        // A refused one may free the way for others, which are sent after those that were asked for before.
        let mut sent = 0;
        while let Some(asked) = self.asked.get(sent).copied() {
            sent += 1;
            if let Some(refused) = self.requests.arrive(next, asked) {
                self.queue.ended(next, refused, &mut self.asked);
            }
        }
        self.asked.clear();
        if self.requests.turn(next) {
            self.run.first_start.get_or_insert(next);
        }
        self.note_counts();
    }

    /// Adds up the time until `next`, in which nothing changes.
    fn pass(&mut self, next: Duration, items: usize) {
        let time = next - self.now;
        self.now = next;
        if time.is_zero() {
            return;
        }
        let more = if self.arrived < items { More::Arrivals } else { More::Nothing };
        let limit = Limit::now(self.scenario, &self.counts, self.queue.ready(), self.queue.unsettled(), more);
        self.run.limits.add(limit, time);
        self.pay(time);
    }

    fn pay(&mut self, time: Duration) {
        let counts = &self.counts;
        let replicas = f64::from(counts.starting + counts.ready + counts.terminating);
        let running = (counts.in_flight - counts.queued) as f64;
        // Without a limit a replica counts as one slot, busy as soon as anything runs on it.
        let slots = f64::from(self.scenario.service.container_concurrency.max(1));
        let seconds = time.as_secs_f64();
        self.run.replica_seconds += replicas * seconds;
        self.run.slot_seconds += replicas * slots * seconds;
        self.run.busy_seconds += running.min(replicas * slots) * seconds;
    }

    fn note_counts(&mut self) {
        let (before, counts) = (self.counts, self.requests.counts());
        self.counts = counts;
        let up = |counts: &Counts| counts.starting + counts.ready;
        let run = &mut self.run;
        run.cold_starts += up(&counts).saturating_sub(up(&before));
        run.most_replicas = run.most_replicas.max(up(&counts));
        run.most_terminating = run.most_terminating.max(counts.terminating);
        if counts.ready > run.most_ready {
            run.most_ready = counts.ready;
            run.all_ready = self.now;
        }
        run.curve.note(Point::new(self.now, counts, self.queue.ready()));
    }

    /// Lets the service come down to its smallest scale: idle replicas are paid for too.
    fn wind_down(&mut self, arrivals: &[Duration]) {
        let config = &self.scenario.service.autoscaling;
        let slow = config.stable_window + config.scale_down_delay + config.scale_to_zero_pod_retention;
        let patience = slow * 20 + config.scale_to_zero_grace_period + Duration::from_secs(600);
        let give_up = self.now.saturating_add(patience);
        let floor = self.scenario.service.floor();
        let at_floor = |counts: &Counts| {
            counts.desired <= floor && counts.starting + counts.ready + counts.terminating <= floor
        };
        while !at_floor(&self.counts) && self.now < give_up {
            let next = self.requests.next().min(self.queue.next()).max(self.now);
            let time = next - self.now;
            self.pay(time);
            self.now = next;
            debug_assert_eq!(self.arrived, arrivals.len());
            self.requests.turn(next);
            self.note_counts();
        }
        self.run.to_floor = at_floor(&self.counts).then(|| self.now.saturating_sub(self.run.last_answer));
        self.run.curve.finish(Point::new(self.now, self.counts, self.queue.ready()));
    }

    /// Whether only a person can go on: what is in hand is held, and nothing else may start.
    fn is_stuck(&self) -> bool {
        let held = self.queue.totals.held;
        held > 0 && held == self.queue.unsettled() && !self.queue.has_room()
            || held > 0
                && held == self.queue.unsettled()
                && self.arrived == self.run.items
                && self.queue.ready() == 0
    }

    fn settled(&self) -> usize {
        self.queue.totals.settled
    }
}

impl Run {
    fn new(seed: u64, items: usize, ideal: Duration) -> Self {
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

    fn note_end(&mut self, now: Duration, outcome: &Outcome, waited: Duration) {
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

    /// From the first item's start at a worker to the last answer.
    pub fn worked(&self) -> Duration {
        self.last_answer.saturating_sub(self.first_start.unwrap_or_default())
    }

    /// The share of what is paid for in which nothing ran.
    pub fn idle_share(&self) -> f64 {
        if self.slot_seconds == 0.0 { 0.0 } else { 1.0 - self.busy_seconds / self.slot_seconds }
    }
}
