//! The state of the service, shared by all requests and replicas, and the loop that advances its
//! time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::replica::{self, Host, Runner, Target};
use super::settings::Settings;
use super::snapshot::{self, Snapshot, State};
use crate::kpa::Time;
use crate::service::{Counts, Pool, ReplicaId, Revision, Starts, Ticket};

/// The activator's own limit on the requests that it holds.
const QUEUE_DEPTH: usize = 10_000;

/// A running service without its listener.
pub struct Engine {
    pub settings: Settings,
    pub clock: Clock,
    state: Mutex<Shared>,
    counts: watch::Sender<Counts>,
    /// Counts every change that a snapshot shows.
    version: watch::Sender<u64>,
    /// Signals that the next turn may be due earlier.
    due: Notify,
    runner: Runner,
    /// The tasks of the replicas.
    replicas: TaskTracker,
    /// Cancelled when the whole service stops: every replica must end, without a drain.
    stopping: CancellationToken,
    /// Cancelled when the wait is over: every worker is killed.
    killing: CancellationToken,
    /// Cancelled when the last replica is gone and no other will start.
    over: CancellationToken,
}

struct Shared {
    revision: Revision<Waiter>,
    replicas: BTreeMap<ReplicaId, Entry>,
    runs: u64,
}

/// The channel to a waiting request.
struct Waiter {
    slot: oneshot::Sender<Slot>,
    item: String,
}

/// The state of a replica besides its slots.
struct Entry {
    name: Arc<str>,
    started: Time,
    state: State,
    /// `None` until it is ready for the first time.
    target: Option<Target>,
    /// The items that run there, in the order of their starts.
    items: BTreeMap<u64, String>,
    running: watch::Sender<usize>,
    stop: CancellationToken,
}

/// A request that counts as load. It is dropped when the answer is complete or the client is gone,
/// and then stops counting.
pub struct Held {
    engine: Arc<Engine>,
    ticket: Ticket,
    pub way: Way,
}

/// The component between client and replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Activator,
    Direct,
}

/// A slot of a replica. Dropping it frees the slot.
pub struct Slot {
    engine: Arc<Engine>,
    replica: ReplicaId,
    run: u64,
    pub target: Target,
}

/// The queue is full and refuses the request.
#[derive(Debug)]
pub struct Full;

impl Engine {
    /// Makes a service without replicas.
    ///
    /// # Errors
    /// The program that watches over the workers cannot be started.
    pub fn new(settings: Settings) -> std::io::Result<Arc<Self>> {
        let clock = Clock::start(settings.speed);
        let slots = settings.service.container_concurrency as usize;
        let pool = Pool::with_starts(slots, Starts::Announced, QUEUE_DEPTH);
        // A person who tries a worker twice should see the same result twice. `plan` shows the
        // effect of chance.
        let revision =
            Revision::new(settings.service.autoscaling.clone(), pool, clock.now()).waking_with_load();
        Ok(Arc::new(Engine {
            runner: Runner::new(&settings)?,
            state: Mutex::new(Shared { revision, replicas: BTreeMap::new(), runs: 0 }),
            counts: watch::Sender::default(),
            version: watch::Sender::default(),
            due: Notify::new(),
            replicas: TaskTracker::new(),
            stopping: CancellationToken::new(),
            killing: CancellationToken::new(),
            over: CancellationToken::new(),
            clock,
            settings,
        }))
    }

    /// Advances time. Runs until it is dropped.
    pub async fn drive(self: Arc<Self>) {
        loop {
            self.turn();
            let next = self.clock.instant(self.shared().revision.next_turn());
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.due.notified() => {}
            }
        }
    }

    /// Takes a request. The receiver gets its slot; it fails if the replica at which the request
    /// waited is gone.
    ///
    /// # Errors
    /// The queue is full.
    pub fn arrive(self: &Arc<Self>, item: String) -> Result<(Held, oneshot::Receiver<Slot>), Full> {
        let (sender, receiver) = oneshot::channel();
        let (ticket, way) = {
            let mut shared = self.shared();
            let waiter = Waiter { slot: sender, item };
            let ticket = shared.revision.arrive(self.clock.now(), waiter).map_err(|_| Full)?;
            let way = if ticket.is_direct() { Way::Direct } else { Way::Activator };
            (ticket, way)
        };
        let held = Held { engine: Arc::clone(self), ticket, way };
        self.turn();
        self.due.notify_one();
        Ok((held, receiver))
    }

    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub fn snapshot(&self) -> Snapshot {
        let shared = self.shared();
        let now = self.clock.now();
        let counts = shared.revision.counts();
        let scaler = shared.revision.scaler();
        let replica = |entry: &Entry| snapshot::Replica {
            name: entry.name.to_string(),
            state: entry.state,
            age: now.since(entry.started),
            item: entry.items.values().next().cloned(),
        };
        Snapshot {
            desired: counts.desired,
            ready: counts.ready,
            panic: scaler.is_panicking(),
            stable_average: scaler.averages().stable,
            panic_average: scaler.averages().panic,
            queued: counts.queued,
            replicas: shared.replicas.values().map(replica).collect(),
        }
    }

    /// Tells every replica to end, at once.
    pub fn stop(&self) {
        // The lock keeps a turn that has begun from starting a replica afterwards.
        let _shared = self.shared();
        self.stopping.cancel();
        self.replicas.close();
    }

    /// Kills every worker.
    pub fn kill(&self) {
        self.stop();
        self.killing.cancel();
    }

    /// Waits until no replica is left. Call it only after [`stop`](Self::stop).
    pub async fn stopped(&self) {
        self.replicas.wait().await;
        self.over.cancel();
    }

    /// Returns the token that is cancelled when no replica is left that could take a waiting
    /// request.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    fn change(self: &Arc<Self>, id: ReplicaId, act: impl FnOnce(&mut Revision<Waiter>, &mut Entry)) {
        {
            let mut shared = self.shared();
            let Shared { revision, replicas, .. } = &mut *shared;
            if let Some(entry) = replicas.get_mut(&id) {
                act(revision, entry);
            }
        }
        self.turn();
        self.due.notify_one();
    }

    /// Does everything that is due. Slots are handed out after the lock is released, because the
    /// slot of a request that has just gone comes back at once.
    fn turn(self: &Arc<Self>) {
        let assigned = {
            let mut shared = self.shared();
            let now = self.clock.now();
            let assigned = if self.stopping.is_cancelled() { Vec::new() } else { shared.revision.turn(now) };
            self.apply_changes(&mut shared, now);
            let assigned: Vec<(Waiter, Slot)> =
                assigned.into_iter().filter_map(|(waiter, id)| self.begin(&mut shared, waiter, id)).collect();
            let counts = shared.revision.counts();
            // The lock keeps an older count from overtaking a newer one.
            self.counts.send_if_modified(|last| std::mem::replace(last, counts) != counts);
            assigned
        };
        self.version.send_modify(|version| *version += 1);
        for (waiter, slot) in assigned {
            drop(waiter.slot.send(slot));
        }
    }

    fn apply_changes(self: &Arc<Self>, shared: &mut Shared, now: Time) {
        let changes = shared.revision.take_changes();
        for id in changes.started {
            let name: Arc<str> = format!("{}-{}", self.settings.service.name, id.number()).into();
            let stop = CancellationToken::new();
            let entry = Entry {
                name: Arc::clone(&name),
                started: now,
                state: State::Starting,
                target: None,
                items: BTreeMap::new(),
                running: watch::Sender::new(0),
                stop: stop.clone(),
            };
            shared.replicas.insert(id, entry);
            self.replicas.spawn(replica::live(Arc::new(Arc::clone(self)), id, name, stop));
        }
        for id in changes.stopped {
            if let Some(entry) = shared.replicas.get_mut(&id) {
                entry.state = State::Terminating;
                entry.stop.cancel();
            }
        }
    }

    /// Gives a waiting request its slot.
    fn begin(
        self: &Arc<Self>,
        shared: &mut Shared,
        mut waiter: Waiter,
        id: ReplicaId,
    ) -> Option<(Waiter, Slot)> {
        shared.runs += 1;
        let run = shared.runs;
        let entry = shared.replicas.get_mut(&id)?;
        let target = entry.target.clone()?;
        entry.items.insert(run, std::mem::take(&mut waiter.item));
        entry.running.send_modify(|running| *running += 1);
        Some((waiter, Slot { engine: Arc::clone(self), replica: id, run, target }))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Arc<Engine> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn runner(&self) -> &Runner {
        &self.runner
    }

    fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    fn killing(&self) -> &CancellationToken {
        &self.killing
    }

    fn ready(&self, id: ReplicaId, target: Target) {
        self.change(id, |revision, entry| {
            if entry.state != State::Terminating {
                entry.state = State::Ready;
                entry.target = Some(target);
                revision.ready(id);
            }
        });
    }

    fn unready(&self, id: ReplicaId, state: State) {
        self.change(id, |revision, entry| {
            if entry.state != State::Terminating {
                entry.state = state;
            }
            revision.unready(id);
        });
    }

    fn gone(&self, id: ReplicaId) {
        {
            let mut shared = self.shared();
            shared.revision.gone(id);
            shared.replicas.remove(&id);
        }
        self.turn();
    }

    fn running(&self, id: ReplicaId) -> Option<watch::Receiver<usize>> {
        self.shared().replicas.get(&id).map(|entry| entry.running.subscribe())
    }
}

impl Held {
    /// Converts a span of the service's time into real time.
    pub fn outside(&self, span: Duration) -> Duration {
        self.engine.clock.outside(span)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine.shared().revision.leave(self.engine.clock.now(), self.ticket);
        self.engine.turn();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut shared = self.engine.shared();
            shared.revision.release(self.replica);
            if let Some(entry) = shared.replicas.get_mut(&self.replica) {
                entry.items.remove(&self.run);
                entry.running.send_modify(|running| *running = running.saturating_sub(1));
            }
        }
        self.engine.turn();
    }
}
