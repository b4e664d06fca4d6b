//! The dispatcher's state, its entry point, and the choice of the item that starts next.

use std::collections::BTreeMap;

use super::breaker::{Breaker, OpenBreaker};
use super::claims::Claims;
use super::clock::{StartClock, StartTime};
use super::copies::Spare;
use super::item::{Copying, Doing, Item, ItemId, Left, Place};
use super::items::Items;
use super::limit::Limit;
use super::policy::Policy;
use super::protocol::{Command, Effect, Input, Notice, Time};
use super::rate::Rate;
use super::session::{DeliveryId, Epoch, Group};
use super::state::PerState;

/// Decides for one pipeline. The crate's documentation describes the way of an item through it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatcher {
    pub(super) policy: Policy,
    pub(super) now: Time,
    pub(super) items: Items,
    pub(super) sessions: BTreeMap<Epoch, Session>,
    pub(super) breaker: Breaker,
    pub(super) limit: Limit,
    rate: Rate,
    pub(super) claims: Claims,
    /// Redundant deliveries whose acks are on their way.
    pub(super) spares: BTreeMap<DeliveryId, Spare>,
    /// The group that started an item last.
    turn: Group,
    /// Marks that were minted so far.
    pub(super) marks: u64,
    pub(super) draining: bool,
    /// Whether a person has paused the pipeline.
    pub(super) paused: bool,
    start_clock: StartClock,
}

/// A session that is not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Session {
    Live,
    /// It will be lost within seconds, and starts nothing more.
    Ending,
}

/// Why the core takes no new delivery now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoRoom {
    /// All slots are taken: the normal case with a backlog.
    Slots,
    /// As many items as allowed failed for good and are held; a person has to act.
    Held,
    /// The messages in hand are at `limits.held_bytes`.
    Bytes,
    /// The breaker is open.
    Breaker,
    /// A person has paused the pipeline.
    Paused,
    Draining,
}

/// The number of items in each state, for metrics and the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open requests.
    pub running: u32,
    /// All items in hand, orphans included.
    pub items: u32,
    /// Held items that have a delivery. `limits.held_max` bounds them.
    pub held_live: u32,
    /// Orphans whose work has ended.
    pub pending: u32,
    /// Items that wait for another of their key.
    pub blocked_by_key: u32,
    /// Requests that may be open now. It is below `max_in_flight` after the service refused some.
    pub limit: u32,
    /// The most that `limit` rises to: `max_in_flight`, or less if a person asked for it.
    pub ceiling: u32,
    /// Memory of the messages in hand, in bytes.
    pub bytes: u64,
    /// The unfinished items in each state.
    pub states: PerState,
}

impl Dispatcher {
    pub fn new(policy: Policy) -> Self {
        Dispatcher {
            breaker: Breaker::new(policy.breaker_failures, policy.breaker_open),
            limit: Limit::new(policy.max_in_flight, policy.limit_step),
            rate: Rate::new(policy.start_every),
            policy,
            now: Time::ZERO,
            items: Items::default(),
            sessions: BTreeMap::new(),
            claims: Claims::default(),
            spares: BTreeMap::new(),
            turn: Group::default(),
            marks: 0,
            draining: false,
            paused: false,
            start_clock: StartClock::default(),
        }
    }

    /// Takes one input and appends its effects. Call it for each input in the order in which things
    /// happened. The results of [`Dispatcher::poll_timeout`] and [`Dispatcher::no_room`] may change
    /// with each call.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        let was_closed = self.breaker.is_closed();
        match input {
            Input::SessionUp(epoch) => {
                self.sessions.insert(epoch, Session::Live);
            }
            Input::SessionEnding(epoch) => self.session_ending(epoch, effects),
            Input::SessionLost(epoch) => self.session_lost(epoch, effects),
            Input::SessionAlive(epoch) => self.session_alive(epoch, effects),
            Input::Received(outline) => self.received(&outline, effects),
            Input::Completed { item, end } => self.completed(item, end, effects),
            Input::Written { item, written } => self.written(item, written, effects),
            Input::CopyWritten { item, written } => self.copy_written(item, written, effects),
            Input::Settled { delivery, stale } => self.settled(delivery, stale, effects),
            Input::AckConfirmed { delivery } => self.proven(delivery, effects),
            Input::PeersAnswered { item, handed } => self.answered(item, handed, effects),
            Input::Claim { claim, identity } => self.claim(claim, &identity, effects),
            Input::ClaimFetched { claim } => self.fetched(claim),
            Input::ClaimReleased { claim } => self.released(claim, effects),
            Input::Stuck { delivery } => self.stuck(delivery, effects),
            Input::Act { item, action } => self.act(item, action, effects),
            Input::Pause => self.pause(),
            Input::Resume => self.resume(),
            Input::Limit { most } => self.lower_limit(most),
            Input::Drain => self.drain(effects),
            Input::Timer => {}
        }
        self.fire_timers(effects);
        self.start_ready(effects);
        self.start_clock.set_stopped(self.now, self.is_stopped());
        match (was_closed, self.breaker.open()) {
            (true, Some(OpenBreaker { cause, .. })) => {
                effects.push(Effect::Tell(Notice::BreakerOpened { cause }));
            }
            (false, None) => effects.push(Effect::Tell(Notice::BreakerClosed)),
            _ => {}
        }
        for item in self.items.take_moved() {
            if let Some(state) = self.items.get(item).map(Item::state) {
                effects.push(Effect::Tell(Notice::Moved { item, state }));
            }
        }
        #[cfg(debug_assertions)]
        super::invariants::check(self).unwrap_or_else(|broken| panic!("invariant broken: {broken}"));
    }

    /// Returns the next time at which [`Dispatcher::handle`] should be called with
    /// [`Input::Timer`], if no other input comes before. The value may change with each input.
    pub fn poll_timeout(&self) -> Option<Time> {
        let rate = self.waits_for_rate().then(|| self.rate.next());
        let all = [
            self.items.next_timer(),
            self.breaker.timeout(),
            self.limit.timeout(),
            self.claims.timeout(),
            rate,
        ];
        all.into_iter().flatten().min()
    }

    /// Returns why no delivery should be taken now, or `None` if one may be. A delivery that is
    /// taken all the same is kept until there is a slot.
    pub fn no_room(&self) -> Option<NoRoom> {
        let counts = self.items.counts();
        let bounds = &self.policy.bounds;
        if self.draining {
            return Some(NoRoom::Draining);
        }
        if self.paused {
            return Some(NoRoom::Paused);
        }
        if self.is_held_full() {
            return Some(NoRoom::Held);
        }
        if counts.bytes > 0 && counts.bytes >= bounds.held_bytes {
            return Some(NoRoom::Bytes);
        }
        let is_probe_waiting = self.items.next_ready(self.turn).is_some();
        if !self.breaker.is_closed() && (!self.breaker.may_start() || is_probe_waiting) {
            return Some(NoRoom::Breaker);
        }
        // An orphan does not count: it waits for a redelivery, which must be taken to adopt it.
        // Another delivery that comes instead waits for a slot. A retry does not count either, so
        // that the retries of one partition keep no other partition's record out, and neither does
        // an item that waits for another of its key.
        let owned = counts.running - counts.running_orphans;
        (owned.saturating_add(self.items.fresh()) >= self.limit.current()).then_some(NoRoom::Slots)
    }

    /// Whether deliveries are taken now. RabbitMQ's prefetch bounds the deliveries that it hands
    /// over, so all of them are taken: one that is near its delivery limit must be seen, whether it
    /// may start or not.
    pub fn takes(&self) -> bool {
        self.policy.prefetched || self.no_room().is_none()
    }

    pub fn stats(&self) -> Stats {
        let counts = self.items.counts();
        Stats {
            running: counts.running,
            items: self.items.len() as u32 - counts.remembered,
            held_live: counts.held,
            pending: counts.decided,
            blocked_by_key: self.items.blocked(),
            limit: self.limit.current(),
            ceiling: self.limit.ceiling(),
            states: counts.states,
            bytes: counts.bytes + counts.orphan_bytes,
        }
    }

    /// The state of the breaker, if it is open.
    pub fn open_breaker(&self) -> Option<OpenBreaker> {
        self.breaker.open()
    }

    /// Whether nothing is in hand: after a drain, the moment to leave the broker.
    pub fn is_empty(&self) -> bool {
        self.items.len() == self.items.counts().remembered as usize
    }

    pub fn max_in_flight(&self) -> u32 {
        self.policy.max_in_flight
    }

    /// The most requests that the rate lets start in a second; infinite without a rate.
    pub fn starts_per_second(&self) -> f64 {
        self.policy.start_every.as_secs_f64().recip()
    }

    /// Whether the broker itself bounds the deliveries that it hands over.
    pub fn is_prefetched(&self) -> bool {
        self.policy.prefetched
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns whether an item would start now but for the rate.
    pub fn waits_for_rate(&self) -> bool {
        !self.rate.may_start(self.now) && self.next_start().is_some()
    }

    /// Whether as many items are held as `limits.held_max` allows.
    pub fn is_held_full(&self) -> bool {
        self.items.counts().held >= self.policy.bounds.held_max
    }

    /// Whether nothing may start by order: of a person, of the open breaker or of
    /// `limits.held_max`.
    pub(super) fn is_stopped(&self) -> bool {
        self.paused || self.breaker.is_waiting() || self.is_held_full()
    }

    /// The present time, for the rules that give an item up.
    pub(super) fn start_time(&self) -> StartTime {
        self.start_clock.at(self.now)
    }

    /// Starts items while there are slots.
    fn start_ready(&mut self, effects: &mut Vec<Effect>) {
        while self.rate.may_start(self.now)
            && let Some((group, item)) = self.next_start()
        {
            self.turn = group;
            self.rate.started(self.now);
            self.breaker.started(item);
            self.enter(item, Doing::Running, effects);
        }
    }

    /// The item that starts next, unless a bound other than the rate forbids it.
    fn next_start(&self) -> Option<(Group, ItemId)> {
        let counts = self.items.counts();
        let may_start = !self.draining
            && !self.is_stopped()
            && counts.running < self.limit.current()
            && self.breaker.may_start();
        if may_start { self.items.next_ready(self.turn) } else { None }
    }

    /// Acts on every timer that is due.
    fn fire_timers(&mut self, effects: &mut Vec<Effect>) {
        self.breaker.timer(self.now);
        self.limit.timer(self.now);
        while let Some(claim) = self.claims.due(self.now) {
            self.claim_timer(claim, effects);
        }
        while let Some(id) = self.items.due(self.now) {
            self.item_timer(id, effects);
        }
    }

    fn item_timer(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(item) = self.items.get(id) else { return };
        if matches!(item.copying, Copying::Wait { until } if until <= now) {
            return self.start_copy(id, effects);
        }
        match item.place {
            Place::Live { doing: Doing::Waiting { .. }, .. } => self.make_ready(id, effects),
            Place::Live { doing: Doing::WriteWait { write, .. }, .. }
            | Place::Claimed { doing: Left::WriteWait { write, .. }, .. } => self.write(id, write, effects),
            Place::Orphan { .. } => self.expire(id, effects),
            _ => {}
        }
    }

    /// Puts an item with a delivery into a state, and emits the command that belongs to the state.
    pub(super) fn enter(&mut self, id: ItemId, next: Doing, effects: &mut Vec<Effect>) {
        let change = |item: &mut Item| {
            let Place::Live { doing, .. } = &mut item.place else { return };
            *doing = next;
        };
        self.items.edit(id, change);
        self.announce(id, effects);
        self.save_checkpoint(id, effects);
    }

    /// Emits the command that belongs to the state of an item with a delivery.
    pub(super) fn announce(&self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let Place::Live { delivery, name, doing } = &item.place else { return };
        let delivery = *delivery;
        effects.push(match *doing {
            Doing::Running => Effect::Do(Command::Dispatch {
                item: id,
                attempt: item.attempts + 1,
                redelivered: item.redelivered,
            }),
            Doing::Asking => Effect::Do(Command::AskPeers { item: id, delivery, identity: name.clone() }),
            Doing::Writing(write) => Effect::Do(Command::Write { item: id, write }),
            Doing::Held { reason } => Effect::Tell(Notice::Held { item: id, reason }),
            Doing::Settling(end) => Effect::Do(end.command(delivery)),
            Doing::Ready
            | Doing::Stopped
            | Doing::Waiting { .. }
            | Doing::WriteWait { .. }
            | Doing::Acked => return,
        });
    }

    /// The item starts when a slot is free and its key allows it.
    pub(super) fn make_ready(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(delivery) = self.items.get(id).and_then(Item::delivery) else { return };
        let next = self.ready_in(delivery.epoch);
        self.enter(id, next, effects);
    }

    /// The state of an item of this session that could start.
    pub(super) fn ready_in(&self, epoch: Epoch) -> Doing {
        match self.sessions.get(&epoch) {
            Some(Session::Live) => Doing::Ready,
            Some(Session::Ending) | None => Doing::Stopped,
        }
    }

    pub(super) fn forget(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        if self.items.remove(id).is_some() {
            effects.push(Effect::Do(Command::Forget { item: id }));
        }
    }
}
