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
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_unix_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn requests_wait_for_a_cold_start_and_take_one_slot_each() {
        let mut pool = Pool::new(1, Duration::from_secs(2), 2);
        pool.enqueue("first").unwrap();
        pool.enqueue("second").unwrap();
        assert_eq!(pool.enqueue("third"), Err(Full));
        pool.resize(at(0), 1);
        pool.advance(at(1));
        assert_eq!(pool.assign(), None);
        assert_eq!(pool.next_ready(), Some(at(2)));
        pool.advance(at(2));
        let (waiter, replica) = pool.assign().unwrap();
        assert_eq!((waiter, pool.assign()), ("first", None));
        pool.release(replica);
        assert_eq!(pool.assign(), Some(("second", replica)));
    }

    #[test]
    fn a_busy_replica_that_is_taken_down_finishes_and_takes_nothing_new() {
        let mut pool = Pool::new(1, Duration::ZERO, 10);
        pool.resize(at(0), 2);
        pool.advance(at(0));
        pool.enqueue("old").unwrap();
        pool.enqueue("young").unwrap();
        let (_, old) = pool.assign().unwrap();
        let (_, young) = pool.assign().unwrap();
        pool.release(old);
        pool.resize(at(1), 1);
        assert_eq!(
            pool.phases(),
            Phases { starting: 0, ready: 1, terminating: 1 },
            "the youngest goes although it is busy"
        );
        pool.enqueue("next").unwrap();
        assert_eq!(pool.assign(), Some(("next", old)));
        pool.release(young);
        assert_eq!(pool.phases().terminating, 0);
    }

    #[test]
    fn replicas_that_still_start_go_first() {
        let mut pool: Pool<()> = Pool::new(1, Duration::from_secs(1), 10);
        pool.resize(at(0), 1);
        pool.advance(at(1));
        pool.resize(at(1), 3);
        pool.resize(at(1), 1);
        assert_eq!(pool.phases(), Phases { starting: 0, ready: 1, terminating: 0 });
    }

    #[test]
    fn who_leaves_the_queue_is_not_assigned() {
        let mut pool = Pool::new(0, Duration::ZERO, 10);
        let gone = pool.enqueue("gone").unwrap();
        pool.enqueue("stays").unwrap();
        pool.abandon(gone);
        pool.resize(at(0), 1);
        pool.advance(at(0));
        assert_eq!(pool.assign().map(|(waiter, _)| waiter), Some("stays"));
    }
}
