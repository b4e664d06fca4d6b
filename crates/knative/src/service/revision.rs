//! One revision as a state machine: requests arrive and leave, time passes, and the autoscaler
//! starts and stops replicas.

use std::time::Duration;

use super::pool::{Changes, Full, Pool, ReplicaId, Ticket, Way};
use crate::kpa::{Activity, Config, Load, Scaler, Time};

/// The interval at which an activator reports to the autoscaler, and the autoscaler scrapes
/// replicas.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Activator, autoscaler and replicas of one service. It has no clock: the caller must call
/// [`turn`](Self::turn) after every other call and at the time of [`next_turn`](Self::next_turn).
/// `W` is the channel to a waiting request.
#[derive(Debug)]
pub struct Revision<W> {
    scaler: Scaler,
    /// The requests that the activator holds.
    activity: Activity,
    /// The requests that bypassed the activator, as the replicas report them.
    direct: Load,
    pool: Pool<W>,
    next_report: Time,
    desired: u32,
    most_ready_ever: u32,
}

/// The counts of a service at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The wanted number of replicas, after the scale bounds.
    pub desired: u32,
    pub ready: u32,
    pub starting: u32,
    /// Replicas that were told to stop and still run a request.
    pub terminating: u32,
    pub most_ready_ever: u32,
    /// Requests that wait for a replica.
    pub queued: usize,
    /// All requests: the queued ones and those that run.
    pub in_flight: usize,
}

impl<W> Revision<W> {
    pub fn new(config: Config, pool: Pool<W>, now: Time) -> Self {
        Revision {
            scaler: Scaler::new(config, now),
            activity: Activity::new(now),
            direct: Load::new(now),
            pool,
            next_report: now + REPORT_INTERVAL,
            desired: 0,
            most_ready_ever: 0,
        }
    }

    /// Makes the first report come at `first`. The activator is a separate process, so its reports
    /// do not keep the rhythm of the autoscaler's ticks.
    pub fn reporting_from(mut self, first: Time) -> Self {
        self.next_report = first;
        self
    }

    /// See [`Scaler::waking_with_load`].
    pub fn waking_with_load(mut self) -> Self {
        self.scaler = self.scaler.waking_with_load();
        self
    }

    /// Takes a request. It counts as load until [`leave`](Self::leave), whether it waits or runs.
    ///
    /// # Errors
    /// The queue is full; the request does not count.
    pub fn arrive(&mut self, now: Time, waiter: W) -> Result<Ticket, Full> {
        if !self.scaler.is_proxied() && self.pool.phases().ready > 0 {
            let ticket = self.pool.enqueue_directly(waiter)?;
            self.direct.arrive(now);
            return Ok(ticket);
        }
        let ticket = self.pool.enqueue(waiter)?;
        if let Some(report) = self.activity.arrive(now) {
            self.scaler.report(now, report);
        }
        Ok(ticket)
    }

    /// Records that a request was answered, timed out, or lost its client.
    pub fn leave(&mut self, now: Time, ticket: Ticket) {
        self.pool.abandon(ticket);
        match ticket.way() {
            Way::Activator => self.activity.leave(now),
            Way::Direct => self.direct.leave(now),
        }
    }

    /// Frees the slot of a request that ran.
    pub fn release(&mut self, replica: ReplicaId) {
        self.pool.release(replica);
    }

    /// Does everything that is due, and returns the requests that start now, each with its replica.
    pub fn turn(&mut self, now: Time) -> Vec<(W, ReplicaId)> {
        self.pool.advance(now);
        self.report(now);
        self.desired = self.scaler.poll(now, self.pool.phases().ready);
        self.pool.resize(now, self.desired);
        // A replica without a cold start is ready in the same turn.
        self.pool.advance(now);
        self.most_ready_ever = self.most_ready_ever.max(self.pool.phases().ready);
        std::iter::from_fn(|| self.pool.assign()).collect()
    }

    /// Returns the time of the next turn, if nothing happens before.
    pub fn next_turn(&self) -> Time {
        let scaler = self.scaler.next_poll().min(self.next_report);
        self.pool.next_ready().map_or(scaler, |ready| ready.min(scaler))
    }

    pub fn counts(&self) -> Counts {
        let phases = self.pool.phases();
        let queued = self.pool.queued();
        Counts {
            desired: self.desired,
            ready: phases.ready,
            starting: phases.starting,
            terminating: phases.terminating,
            most_ready_ever: self.most_ready_ever,
            queued,
            in_flight: queued + self.pool.running(),
        }
    }

    /// Records that a replica takes requests from now on, as the caller reports.
    pub fn ready(&mut self, replica: ReplicaId) {
        self.pool.ready(replica);
    }

    /// Records that a replica takes no requests for now: its worker has ended, or fails its probe.
    pub fn unready(&mut self, replica: ReplicaId) {
        self.pool.unready(replica);
    }

    /// Records that a replica has ended, as the caller reports.
    pub fn gone(&mut self, replica: ReplicaId) {
        self.pool.gone(replica);
    }

    /// Returns the replicas that the caller must start and stop since the last call.
    pub fn take_changes(&mut self) -> Changes {
        self.pool.take_changes()
    }

    pub fn scaler(&self) -> &Scaler {
        &self.scaler
    }

    fn report(&mut self, now: Time) {
        if now < self.next_report {
            return;
        }
        // The rhythm stays even if a turn is late; otherwise some second would get no report.
        while self.next_report <= now {
            self.next_report = self.next_report + REPORT_INTERVAL;
        }
        if let Some(mean) = self.activity.report(now) {
            self.scaler.report(now, mean);
        }
        // The activator has already counted its own requests. For the others even a zero must be
        // reported.
        let direct = self.direct.take_mean(now);
        if self.scaler.config().scrapes_replicas() && self.pool.phases().ready > 0 {
            self.scaler.report(now, direct);
        }
    }
}
