//! Simulates the service in virtual time: requests wait, run on a replica, and end by themselves or
//! at a deadline.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::random::{Purpose, Random};
use super::scenario::{Scenario, Start};
use crate::delivery::{ItemId, Outcome};
use crate::knative::kpa::{TICK, Time};
use crate::knative::service::{Counts, Pool, ReplicaId, Revision, Ticket};

/// Open requests and the revision that serves them. Times count from the first item's arrival,
/// which is `origin` on the revision's clock.
pub struct Requests<'a> {
    scenario: &'a Scenario,
    random: Random,
    revision: Revision<usize>,
    origin: Time,
    /// Open requests by slot. `free` lists the free slots, so memory grows only with the requests
    /// that are open at once.
    open: Vec<Option<Open>>,
    free: Vec<usize>,
    ends: BinaryHeap<Reverse<(Duration, usize)>>,
    /// Deadlines of waiting requests. All may wait equally long, so the list is in order. Entries
    /// of requests that run by now are skipped.
    deadlines: VecDeque<(Duration, usize, Ticket)>,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub bridge: usize,
    pub item: ItemId,
    pub attempt: u32,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub asked: Asked,
    pub outcome: Outcome,
    /// The time from its arrival until a replica took it or a timeout cut it.
    pub waited: Duration,
    pub ran: Duration,
}

struct Open {
    asked: Asked,
    arrived: Duration,
    ticket: Ticket,
    running: Option<Running>,
}

#[derive(Clone, Copy)]
struct Running {
    started: Duration,
    replica: ReplicaId,
    outcome: Outcome,
}

impl<'a> Requests<'a> {
    /// Starts with a `revision` that was driven up to the first arrival, which is at `origin` on
    /// its clock.
    pub fn new(scenario: &'a Scenario, random: Random, revision: Revision<usize>, origin: Time) -> Self {
        Requests {
            scenario,
            random,
            revision,
            origin,
            open: Vec::new(),
            free: Vec::new(),
            ends: BinaryHeap::new(),
            deadlines: VecDeque::new(),
        }
    }

    /// Takes a request. It waits at least until the next [`turn`](Self::turn). A full queue refuses
    /// it at once.
    pub fn arrive(&mut self, now: Duration, asked: Asked) -> Option<Ended> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.open.push(None);
            self.open.len() - 1
        });
        let Ok(ticket) = self.revision.arrive(self.origin + now, slot) else {
            self.free.push(slot);
            let outcome = Outcome::NotStarted { retry_after: None };
            return Some(Ended { asked, outcome, waited: Duration::ZERO, ran: Duration::ZERO });
        };
        self.open[slot] = Some(Open { asked, arrived: now, ticket, running: None });
        self.deadlines.push_back((self.scenario.deadline(now), slot, ticket));
        None
    }

    /// Performs everything that is due in the autoscaler and the replicas, and starts the requests
    /// that can start. Returns whether one started.
    pub fn turn(&mut self, now: Duration) -> bool {
        let started = self.revision.turn(self.origin + now);
        let any = !started.is_empty();
        for (slot, replica) in started {
            let Some(open) = self.open[slot].as_mut() else { continue };
            let (end, outcome) = ending(self.scenario, self.random, open.asked, open.arrived, now);
            open.running = Some(Running { started: now, replica, outcome });
            self.ends.push(Reverse((end, slot)));
        }
        any
    }

    /// Returns the next request that has ended by `now`, if any.
    pub fn pop_ended(&mut self, now: Duration) -> Option<Ended> {
        if self.ends.peek().is_some_and(|Reverse((end, _))| *end <= now) {
            let Reverse((_, slot)) = self.ends.pop()?;
            return self.close(slot, now);
        }
        self.skip_started();
        let (deadline, slot, _) = *self.deadlines.front()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_front();
        self.close(slot, now)
    }

    /// Returns the time of the next [`turn`](Self::turn), if nothing arrives before.
    pub fn next(&mut self) -> Duration {
        self.skip_started();
        let turn = self.revision.next_turn().since(self.origin);
        let end = self.ends.peek().map_or(Duration::MAX, |Reverse((end, _))| *end);
        let deadline = self.deadlines.front().map_or(Duration::MAX, |(deadline, ..)| *deadline);
        turn.min(end).min(deadline)
    }

    pub fn counts(&self) -> Counts {
        self.revision.counts()
    }

    fn close(&mut self, slot: usize, now: Duration) -> Option<Ended> {
        let open = self.open[slot].take()?;
        self.free.push(slot);
        self.revision.leave(self.origin + now, open.ticket);
        let ended = match open.running {
            Some(running) => {
                self.revision.release(running.replica);
                let waited = running.started - open.arrived;
                Ended { asked: open.asked, outcome: running.outcome, waited, ran: now - running.started }
            }
            // The activator answers 504 even for a request that never ran, so the bridge cannot
            // tell.
            None => Ended {
                asked: open.asked,
                outcome: Outcome::Unknown,
                waited: now - open.arrived,
                ran: Duration::ZERO,
            },
        };
        Some(ended)
    }

    /// Drops the deadlines of requests that run by now.
    fn skip_started(&mut self) {
        while let Some((_, slot, ticket)) = self.deadlines.front() {
            let waits = self.open[*slot]
                .as_ref()
                .is_some_and(|open| open.ticket == *ticket && open.running.is_none());
            if waits {
                return;
            }
            self.deadlines.pop_front();
        }
    }
}

/// Returns when and how a request ends that starts to run now.
fn ending(
    scenario: &Scenario,
    random: Random,
    asked: Asked,
    arrived: Duration,
    now: Duration,
) -> (Duration, Outcome) {
    let item = item_key(asked.bridge, asked.item.0);
    let end = now.saturating_add(scenario.load.durations.draw(random, item, asked.attempt));
    let deadline = scenario.deadline(arrived);
    if end > deadline {
        return (deadline.max(now), Outcome::Unknown);
    }
    let rate = scenario.load.failure_rate;
    let fails = rate > 0.0 && random.unit(Purpose::Failure, [item, u64::from(asked.attempt)]) < rate;
    (end, if fails { Outcome::Failed { retry_after: None } } else { Outcome::Done })
}

/// Returns the key of an item among the items of all replicas of the bridge. Each replica counts
/// its own from 1.
pub fn item_key(bridge: usize, number: u64) -> u64 {
    number | (bridge as u64) << 48
}

/// Returns a revision that waits for the first item, and the item's arrival on the revision's
/// clock.
///
/// The autoscaler ticks every two seconds, the activator reports every second, and the autoscaler's
/// buckets are seconds of the Unix clock. Their position relative to the load is chance, so the
/// seed decides it.
pub fn prepared(scenario: &Scenario, random: Random) -> (Revision<usize>, Time) {
    let service = &scenario.service;
    let phase = |of: u64, span: Duration| span.mul_f64(random.unit(Purpose::Phase, [of, 0]));
    let age = match scenario.start {
        Start::Fresh(age) => age,
        Start::Idle => settled_after(scenario),
    };
    let created = Time::from_unix_nanos(EPOCH) + phase(0, SECOND);
    let origin = created + age + phase(1, TICK);
    // The activator limits each of its replicas to ten thousand requests. Here only memory limits
    // them.
    let pool = Pool::new(service.container_concurrency as usize, service.cold_start, usize::MAX);
    let mut revision =
        Revision::new(service.autoscaling.clone(), pool, created).reporting_from(created + phase(2, SECOND));
    loop {
        let next = revision.next_turn();
        if next >= origin {
            return (revision, origin);
        }
        revision.turn(next);
    }
}

/// The start of the revision's clock; any whole second works.
const EPOCH: i64 = 1_700_000_000_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// Returns the time without work after which a revision no longer changes.
fn settled_after(scenario: &Scenario) -> Duration {
    let config = &scenario.service.autoscaling;
    let to_zero = config.scale_to_zero_grace_period.max(config.scale_to_zero_pod_retention);
    let all = config.stable_window * 2 + config.scale_down_delay + to_zero + scenario.service.cold_start;
    all + Duration::from_secs(60)
}
