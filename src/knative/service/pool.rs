//! The replicas of a service and the requests that wait for one. No clock and no I/O: the time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::knative::kpa::Time;

/// Names a replica for as long as the service lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaId(u64);

/// Names a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// The queue holds as many requests as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Replicas in the order of their starts, and the queue in front of them. `W` is how a waiting request is reached.
#[derive(Debug)]
pub struct Pool<W> {
    /// Requests that one replica takes at once.
    slots: usize,
    cold_start: Duration,
    queue_depth: usize,
    replicas: Vec<Replica>,
    waiting: VecDeque<(Ticket, W)>,
    next_id: u64,
}

#[derive(Clone, Copy, Debug)]
struct Replica {
    id: ReplicaId,
    phase: Phase,
    busy: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting {
        ready_at: Time,
    },
    Ready,
    /// Takes no request any more and goes when those that it runs are answered.
    Terminating,
}

/// How many replicas are in which phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    pub starting: u32,
    pub ready: u32,
    pub terminating: u32,
}

impl<W> Pool<W> {
    /// `slots` is `containerConcurrency`, 0 for no limit.
    pub fn new(slots: usize, cold_start: Duration, queue_depth: usize) -> Self {
        Pool {
            slots: if slots == 0 { usize::MAX } else { slots },
            cold_start,
            queue_depth,
            replicas: Vec::new(),
            waiting: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Puts a request behind those that wait already.
    ///
    /// # Errors
    /// The queue is full: the request is to be refused at once.
    pub fn enqueue(&mut self, waiter: W) -> Result<Ticket, Full> {
        if self.waiting.len() >= self.queue_depth {
            return Err(Full);
        }
        let ticket = Ticket(self.take_id());
        self.waiting.push_back((ticket, waiter));
        Ok(ticket)
    }

    /// Takes a request out of the queue, where it still waits.
    pub fn abandon(&mut self, ticket: Ticket) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
    }

    /// The next request that can run, and where: first come, first served, on the oldest replica with a free slot, as the activator
    /// does for small concurrencies. Call it until it answers `None`.
    pub fn assign(&mut self) -> Option<(W, ReplicaId)> {
        let free = self.replicas.iter_mut().find(|r| r.phase == Phase::Ready && r.busy < self.slots)?;
        let (_, waiter) = self.waiting.pop_front()?;
        free.busy += 1;
        Some((waiter, free.id))
    }

    /// A request on `id` has ended.
    pub fn release(&mut self, id: ReplicaId) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == id) {
            replica.busy = replica.busy.saturating_sub(1);
        }
        self.replicas.retain(|replica| replica.phase != Phase::Terminating || replica.busy > 0);
    }

    /// Starts or stops replicas until `wanted` are there. A ReplicaSet chooses the victims, and so does this: those that still start
    /// before ready ones, then the youngest first, whether busy or not. A busy one finishes, as a worker that traps SIGTERM does.
    pub fn resize(&mut self, now: Time, wanted: u32) {
        let there = self.replicas.iter().filter(|replica| replica.phase != Phase::Terminating).count();
        let wanted = wanted as usize;
        for _ in there..wanted {
            let id = ReplicaId(self.take_id());
            self.replicas.push(Replica {
                id,
                phase: Phase::Starting { ready_at: now + self.cold_start },
                busy: 0,
            });
        }
        for _ in wanted..there {
            let newest =
                |wanted: fn(Phase) -> bool| self.replicas.iter().rposition(|replica| wanted(replica.phase));
            let victim = newest(|phase| matches!(phase, Phase::Starting { .. }))
                .or_else(|| newest(|phase| phase == Phase::Ready));
            if let Some(victim) = victim {
                self.replicas[victim].phase = Phase::Terminating;
            }
        }
        self.replicas.retain(|replica| replica.phase != Phase::Terminating || replica.busy > 0);
    }

    /// Makes those ready whose cold start is over.
    pub fn advance(&mut self, now: Time) {
        for replica in &mut self.replicas {
            if matches!(replica.phase, Phase::Starting { ready_at } if ready_at <= now) {
                replica.phase = Phase::Ready;
            }
        }
    }

    /// When the next replica becomes ready.
    pub fn next_ready(&self) -> Option<Time> {
        let ready_at = |replica: &Replica| match replica.phase {
            Phase::Starting { ready_at } => Some(ready_at),
            _ => None,
        };
        self.replicas.iter().filter_map(ready_at).min()
    }

    pub fn phases(&self) -> Phases {
        let mut phases = Phases::default();
        for replica in &self.replicas {
            match replica.phase {
                Phase::Starting { .. } => phases.starting += 1,
                Phase::Ready => phases.ready += 1,
                Phase::Terminating => phases.terminating += 1,
            }
        }
        phases
    }

    pub fn queued(&self) -> usize {
        self.waiting.len()
    }

    pub fn running(&self) -> usize {
        self.replicas.iter().map(|replica| replica.busy).sum()
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
mod tests;
