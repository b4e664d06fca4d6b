//! Runs a scenario in virtual time, from one event to the next.

use std::time::Duration;

use super::LONGEST;
use super::arrivals;
use super::curve::Point;
use super::error::{Error, check_load, check_settings};
use super::ideal;
use super::limit::{Limit, More};
use super::queue::Queue;
use super::random::Random;
use super::requests::{Asked, Requests, prepared};
use super::run::Run;
use super::scenario::Scenario;
use crate::knative::service::Counts;

/// Runs `scenario` with one seed.
///
/// # Errors
/// The scenario has too many items, or spans of time that are too long.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Run, Error> {
    check_settings(scenario)?;
    let random = Random::new(seed);
    let arrivals = arrivals::times(&scenario.load.arrivals, random)?;
    let ideal = ideal::time(scenario, &arrivals, random);
    check_load(ideal)?;
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
    world.wind_down();
    Ok(world.run)
}

/// How long after its last arrival a load may take. Then it counts as one that never drains.
const HORIZON: Duration = LONGEST.saturating_mul(2);

struct World<'a> {
    scenario: &'a Scenario,
    /// The number of items that have arrived.
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
    /// Moves to the time of the next event and performs everything that is due then.
    fn step(&mut self, arrivals: &[Duration]) {
        let arrival = arrivals.get(self.arrived).copied().unwrap_or(Duration::MAX);
        let next = arrival.min(self.requests.next()).min(self.queue.next()).max(self.now);
        self.pass(next, arrivals.len());
        let new = arrivals[self.arrived..].iter().take_while(|at| **at <= next).count();
        self.arrived += new;
        self.queue.enqueue(new);
        self.queue.turn(next, &mut self.asked);
        while let Some(ended) = self.requests.pop_ended(next) {
            self.run.note_end(next, &ended.outcome, ended.waited);
            self.queue.ended(next, ended, &mut self.asked);
        }
        self.queue.deliver(next, &mut self.asked);
        // A refused request may free the way for others. Those are sent after the requests of this
        // moment.
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

    /// Adds up the time until `next`, during which nothing changes.
    fn pass(&mut self, next: Duration, items: usize) {
        let time = next - self.now;
        self.now = next;
        if time.is_zero() {
            return;
        }
        let more = if self.arrived < items { More::Arrivals } else { More::Nothing };
        let limit = if self.queue.waits_for_rate() {
            Limit::Rate
        } else {
            Limit::now(self.scenario, &self.counts, self.queue.ready(), self.queue.unsettled(), more)
        };
        self.run.limits.add(limit, time);
        self.pay(time);
    }

    fn pay(&mut self, time: Duration) {
        let counts = &self.counts;
        let replicas = f64::from(counts.starting + counts.ready + counts.terminating);
        let running = (counts.in_flight - counts.queued) as f64;
        // Without a limit a replica counts as one slot, which is busy while any request runs on it.
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
        run.most_paid = run.most_paid.max(up(&counts) + counts.terminating);
        run.most_terminating = run.most_terminating.max(counts.terminating);
        if counts.ready > run.most_ready {
            run.most_ready = counts.ready;
            run.all_ready = self.now;
        }
        run.curve.note(Point::new(self.now, counts, self.queue.ready()));
    }

    /// Lets the service come down to its smallest scale, since idle replicas are paid for too.
    fn wind_down(&mut self) {
        let config = &self.scenario.service.autoscaling;
        let slow = config.stable_window + config.scale_down_delay + config.scale_to_zero_pod_retention;
        let patience = slow * 20 + config.scale_to_zero_grace_period + Duration::from_secs(600);
        let give_up = self.now.saturating_add(patience);
        let floor = self.scenario.service.floor();
        let at_floor = |counts: &Counts| {
            counts.desired <= floor && counts.starting + counts.ready + counts.terminating <= floor
        };
        while !at_floor(&self.counts) && self.now < give_up {
            let next = self.requests.next().max(self.now);
            self.pay(next - self.now);
            self.now = next;
            // Requests are left here only if the run stopped before the work was done.
            while self.requests.pop_ended(next).is_some() {}
            self.requests.turn(next);
            self.note_counts();
        }
        self.run.to_floor = at_floor(&self.counts).then(|| self.now.saturating_sub(self.run.last_answer));
        self.run.curve.finish(Point::new(self.now, self.counts, self.queue.ready()));
    }

    /// Whether only a person can continue: items are held, no request runs, no timer is set, and no
    /// other item may start. Items that are not held may be unable to start because too many are
    /// held.
    fn is_stuck(&self) -> bool {
        let nothing_to_start = self.arrived == self.run.items && self.queue.ready() == 0;
        self.queue.totals.held > 0
            && self.counts.in_flight == 0
            && self.queue.next() == Duration::MAX
            && (nothing_to_start || !self.queue.has_room())
    }

    fn settled(&self) -> usize {
        self.queue.totals.settled
    }
}
