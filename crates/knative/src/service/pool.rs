//! The replicas of a service and the requests that wait for one. No clock and no I/O: the time is
//! an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::kpa::Time;

/// The name of a replica, unique as long as the service lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaId(u64);

/// The name of a request, and the way that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    id: u64,
    way: Way,
}

/// How a request reaches its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the activator, which holds it until any replica has a free slot.
    Activator,
    /// It bypasses the activator and goes to a replica that was chosen at the arrival, where it
    /// waits behind the running requests.
    Direct,
}

/// The queue holds as many requests as it may, and refuses this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How the pool learns when a started replica is ready, and when a stopped one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// It is ready after this time, and gone when the last request that it runs is answered.
    After(Duration),
    /// The caller runs the replicas and reports these events: [`Pool::ready`], [`Pool::unready`],
    /// [`Pool::gone`].
    Announced,
}

/// Replicas to start and to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub started: Vec<ReplicaId>,
    pub stopped: Vec<ReplicaId>,
}

/// Replicas in the order of their starts, and the queue in front of them. `W` is the channel to a
/// waiting request.
#[derive(Debug)]
pub struct Pool<W> {
    /// Requests that one replica takes at once.
    slots: usize,
    starts: Starts,
    queue_depth: usize,
    replicas: Vec<Replica<W>>,
    waiting: VecDeque<(Ticket, W)>,
    /// Requests that wait at replicas.
    waiting_directly: usize,
    next_ticket: u64,
    next_replica: u64,
    /// The replica at which the next round begins.
    turn: usize,
    random: fastrand::Rng,
    changes: Changes,
}

#[derive(Debug)]
struct Replica<W> {
    id: ReplicaId,
    phase: Phase,
    busy: usize,
    /// Requests that bypassed the activator and found no free slot: the queue of the queue-proxy.
    waiting: VecDeque<(Ticket, W)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `None` if the caller will report the start.
    Starting {
        ready_at: Option<Time>,
    },
    Ready,
    /// It takes no new request.
    Terminating,
}

/// The most requests that wait at one replica, per slot (Knative Serving, `pkg/queue/sharedmain`).
const DIRECT_DEPTH_PER_SLOT: usize = 10;
/// With up to this many slots the activator fills replicas in their order; with more it goes round.
const FIRST_AVAILABLE_SLOTS_MAX: usize = 3;

/// The number of replicas in each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    pub starting: u32,
    pub ready: u32,
    pub terminating: u32,
}

impl<W> Pool<W> {
    /// Makes an empty pool. `slots` is `containerConcurrency`, 0 for no limit.
    pub fn new(slots: usize, cold_start: Duration, queue_depth: usize) -> Self {
        Pool::with_starts(slots, Starts::After(cold_start), queue_depth)
    }

    pub fn with_starts(slots: usize, starts: Starts, queue_depth: usize) -> Self {
        Pool {
            slots: if slots == 0 { usize::MAX } else { slots },
            starts,
            queue_depth,
            replicas: Vec::new(),
            waiting: VecDeque::new(),
            waiting_directly: 0,
            next_ticket: 0,
            next_replica: 0,
            turn: 0,
            random: fastrand::Rng::with_seed(0),
            changes: Changes::default(),
        }
    }

    /// Puts a request at the end of the queue.
    ///
    /// # Errors
    /// The queue is full: the request must be refused at once.
    pub fn enqueue(&mut self, waiter: W) -> Result<Ticket, Full> {
        if self.waiting.len() >= self.queue_depth {
            return Err(Full);
        }
        let ticket = Ticket { id: self.take_ticket(), way: Way::Activator };
        self.waiting.push_back((ticket, waiter));
        Ok(ticket)
    }

    /// Gives a request to the next ready replica in turn, past the shared queue. At least one must
    /// be ready; otherwise requests go to the activator.
    ///
    /// # Errors
    /// That replica's queue is full: the request must be refused at once, even if another replica
    /// is idle.
    pub fn enqueue_directly(&mut self, waiter: W) -> Result<Ticket, Full> {
        let ready = self.replicas.iter().filter(|replica| replica.phase == Phase::Ready).count();
        if ready == 0 {
            return Err(Full);
        }
        self.turn = self.turn.wrapping_add(1);
        let ticket = Ticket { id: self.take_ticket(), way: Way::Direct };
        let depth = self.slots.saturating_mul(DIRECT_DEPTH_PER_SLOT);
        let mut in_turn = self.replicas.iter_mut().filter(|replica| replica.phase == Phase::Ready);
        let chosen = in_turn.nth(self.turn % ready).ok_or(Full)?;
        if chosen.waiting.len() >= depth {
            return Err(Full);
        }
        chosen.waiting.push_back((ticket, waiter));
        self.waiting_directly += 1;
        Ok(ticket)
    }

    /// Takes a request out of the queue, if it still waits.
    pub fn abandon(&mut self, ticket: Ticket) {
        match ticket.way {
            Way::Activator => self.waiting.retain(|(waiting, _)| *waiting != ticket),
            Way::Direct => {
                for replica in &mut self.replicas {
                    replica.waiting.retain(|(waiting, _)| *waiting != ticket);
                }
                self.count_direct();
            }
        }
    }

    /// Returns the next request that can run, and its replica. Requests that wait at a replica come
    /// first, then those that wait for any replica, in the order of their arrival. Call it until it
    /// returns `None`.
    pub fn assign(&mut self) -> Option<(W, ReplicaId)> {
        if self.waiting_directly > 0 {
            let slots = self.slots;
            let can_run = |replica: &&mut Replica<W>| {
                !replica.waiting.is_empty() && replica.busy < slots && !replica.is_starting()
            };
            if let Some(replica) = self.replicas.iter_mut().find(can_run)
                && let Some((_, waiter)) = replica.waiting.pop_front()
            {
                replica.busy += 1;
                self.waiting_directly -= 1;
                return Some((waiter, replica.id));
            }
        }
        if self.waiting.is_empty() {
            return None;
        }
        let free = self.choose()?;
        let (_, waiter) = self.waiting.pop_front()?;
        self.replicas[free].busy += 1;
        Some((waiter, self.replicas[free].id))
    }

    /// Chooses like the activator (`pkg/activator/net/lb_policy.go`): the first replica with a free
    /// slot if replicas take few requests at once, in turn if they take more, and the less busy of
    /// two if they take any number.
    fn choose(&mut self) -> Option<usize> {
        let is_free = |replica: &Replica<W>| replica.phase == Phase::Ready && replica.busy < self.slots;
        if self.slots <= FIRST_AVAILABLE_SLOTS_MAX {
            return self.replicas.iter().position(is_free);
        }
        let free = self.replicas.iter().enumerate().filter(|(_, replica)| is_free(replica));
        let free: Vec<usize> = free.map(|(index, _)| index).collect();
        if free.is_empty() {
            return None;
        }
        if self.slots == usize::MAX {
            let (one, other) = (free[self.random.usize(..free.len())], free[self.random.usize(..free.len())]);
            return Some(if self.replicas[other].busy < self.replicas[one].busy { other } else { one });
        }
        self.turn = self.turn.wrapping_add(1);
        Some(free[self.turn % free.len()])
    }

    /// Frees the slot of a request on `id` that has ended.
    pub fn release(&mut self, id: ReplicaId) {
        if let Some(replica) = self.find(id) {
            replica.busy = replica.busy.saturating_sub(1);
        }
        self.remove_finished();
    }

    /// Records that a replica takes requests from now on, as the caller reports.
    pub fn ready(&mut self, id: ReplicaId) {
        if let Some(replica) = self.find(id).filter(|replica| replica.is_starting()) {
            replica.phase = Phase::Ready;
        }
    }

    /// Records that a replica takes no requests until it is ready again.
    pub fn unready(&mut self, id: ReplicaId) {
        if let Some(replica) = self.find(id).filter(|replica| replica.phase == Phase::Ready) {
            replica.phase = Phase::Starting { ready_at: None };
        }
    }

    /// Records that a replica has ended. The requests that waited at it are dropped.
    pub fn gone(&mut self, id: ReplicaId) {
        self.replicas.retain(|replica| replica.id != id);
        self.count_direct();
    }

    /// Returns the replicas that the caller must start and stop since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Starts or stops replicas until `wanted` are there. It chooses like a ReplicaSet: replicas
    /// that are still starting go before ready ones, then the youngest first, busy or not. A busy
    /// one finishes its requests, like a worker that handles SIGTERM.
    pub fn resize(&mut self, now: Time, wanted: u32) {
        let there = self.replicas.iter().filter(|replica| replica.phase != Phase::Terminating).count();
        let wanted = wanted as usize;
        for _ in there..wanted {
            self.next_replica += 1;
            let id = ReplicaId(self.next_replica);
            let ready_at = match self.starts {
                Starts::After(cold_start) => Some(now + cold_start),
                Starts::Announced => {
                    self.changes.started.push(id);
                    None
                }
            };
            let phase = Phase::Starting { ready_at };
            self.replicas.push(Replica { id, phase, busy: 0, waiting: VecDeque::new() });
        }
        for _ in wanted..there {
            let newest =
                |wanted: fn(Phase) -> bool| self.replicas.iter().rposition(|replica| wanted(replica.phase));
            let victim = newest(|phase| matches!(phase, Phase::Starting { .. }))
                .or_else(|| newest(|phase| phase == Phase::Ready));
            if let Some(victim) = victim {
                self.replicas[victim].phase = Phase::Terminating;
                if self.starts == Starts::Announced {
                    self.changes.stopped.push(self.replicas[victim].id);
                }
            }
        }
        self.remove_finished();
    }

    /// Makes the replicas ready whose cold start is over.
    pub fn advance(&mut self, now: Time) {
        for replica in &mut self.replicas {
            if matches!(replica.phase, Phase::Starting { ready_at: Some(ready_at) } if ready_at <= now) {
                replica.phase = Phase::Ready;
            }
        }
    }

    /// Returns the time at which the next replica becomes ready.
    pub fn next_ready(&self) -> Option<Time> {
        let ready_at = |replica: &Replica<W>| match replica.phase {
            Phase::Starting { ready_at } => ready_at,
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
        self.waiting.len() + self.waiting_directly
    }

    pub fn running(&self) -> usize {
        self.replicas.iter().map(|replica| replica.busy).sum()
    }

    fn take_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn find(&mut self, id: ReplicaId) -> Option<&mut Replica<W>> {
        self.replicas.iter_mut().find(|replica| replica.id == id)
    }

    fn remove_finished(&mut self) {
        if self.starts != Starts::Announced {
            self.replicas.retain(|replica| {
                replica.phase != Phase::Terminating || replica.busy > 0 || !replica.waiting.is_empty()
            });
        }
    }

    fn count_direct(&mut self) {
        self.waiting_directly = self.replicas.iter().map(|replica| replica.waiting.len()).sum();
    }
}

impl<W> Replica<W> {
    fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }
}

impl Ticket {
    /// Whether the request bypassed the activator and went to a replica's own queue.
    pub fn is_direct(self) -> bool {
        self.way == Way::Direct
    }

    pub(super) fn way(self) -> Way {
        self.way
    }
}

impl ReplicaId {
    /// Counts up from 1.
    pub fn number(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
