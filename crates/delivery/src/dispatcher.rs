//! The dispatcher's state, its entry points, and what starts next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::breaker::Breaker;
use super::item::{Item, ItemId, Phase, Rewrite};
use super::limit::Limit;
use super::order::Lanes;
use super::policy::Policy;
use super::protocol::{ClaimId, Effect, Input, Time};
use super::session::{DeliveryId, Epoch, Identity, Mark, Settlement};

/// Decides for one pipeline. See the module's text for an item's way through it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatcher {
    pub(super) policy: Policy,
    pub(super) now: Time,
    next_item: u64,
    pub(super) items: BTreeMap<ItemId, Item>,
    /// Which item a live delivery belongs to.
    pub(super) deliveries: BTreeMap<DeliveryId, ItemId>,
    pub(super) live: BTreeSet<Epoch>,
    /// Of those, the ones that take nothing more.
    pub(super) ending: BTreeSet<Epoch>,
    /// Items that wait for a slot, oldest first; those behind another of their key are not in it.
    pub(super) ready: BTreeSet<ItemId>,
    pub(super) lanes: Lanes,
    /// Items without a delivery, by what a redelivery will be known by; oldest first.
    pub(super) orphans: BTreeMap<Identity, VecDeque<ItemId>>,
    /// When to look at an item again. Entries that its phase has moved past are skipped.
    pub(super) timers: BTreeSet<(Time, ItemId)>,
    pub(super) breaker: Breaker,
    pub(super) running: u32,
    /// Of those, the ones whose delivery is gone.
    pub(super) running_orphans: u32,
    pub(super) held: u32,
    pub(super) pending: u32,
    /// Items of which nothing is left but to recognise them if their ack did not count.
    pub(super) acked: u32,
    /// Bodies of all items that are neither pending nor acked. Those wait for a redelivery: if their bytes
    /// kept it out, they would wait for ever; their number and age are bounded instead.
    pub(super) bytes: u64,
    /// Items by the `longhaul-id` that they have, or that a copy of them has.
    pub(super) named: BTreeMap<Mark, ItemId>,
    /// Copies that wait for what becomes of the item that is in hand already.
    pub(super) behind: BTreeMap<ItemId, Vec<ItemId>>,
    pub(super) claims: BTreeMap<ClaimId, ItemId>,
    pub(super) limit: Limit,
    pub(super) draining: bool,
}

/// Why the core takes no new delivery now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoRoom {
    /// All slots are taken: the normal case with a backlog.
    Slots,
    /// As many items as allowed failed for good and are held; a person has to act.
    Held,
    /// The bodies in hand are at `limits.held_bytes`.
    Bytes,
    /// The breaker is open.
    Breaker,
    Draining,
}

/// What is in hand, for metrics and the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open requests.
    pub running: u32,
    /// Items in hand in all, orphans included.
    pub items: u32,
    /// Items that failed for good and are kept.
    pub held: u32,
    /// Orphans that are not running.
    pub pending: u32,
    /// Items that wait for another of their key.
    pub blocked_by_key: u32,
    /// Requests that may be open at once now; below `max_in_flight` after some could not be started.
    pub limit: u32,
    pub bytes: u64,
}

impl Dispatcher {
    pub fn new(policy: Policy) -> Self {
        let breaker = Breaker::new(policy.breaker_failures, policy.breaker_open);
        Dispatcher {
            limit: Limit::new(policy.max_in_flight, policy.limit_step),
            policy,
            now: Time::ZERO,
            next_item: 0,
            items: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            live: BTreeSet::new(),
            ending: BTreeSet::new(),
            ready: BTreeSet::new(),
            lanes: Lanes::default(),
            orphans: BTreeMap::new(),
            timers: BTreeSet::new(),
            breaker,
            running: 0,
            running_orphans: 0,
            held: 0,
            pending: 0,
            acked: 0,
            bytes: 0,
            named: BTreeMap::new(),
            behind: BTreeMap::new(),
            claims: BTreeMap::new(),
            draining: false,
        }
    }

    /// Takes one input and appends what is to be done. Call it for each input in the order in which
    /// things happened, and look at [`Dispatcher::poll_timeout`] and [`Dispatcher::no_room`] anew after it.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        let was_open = !self.breaker.is_closed();
        match input {
            Input::SessionUp(epoch) => {
                self.live.insert(epoch);
            }
            Input::SessionEnding(epoch) => self.session_ending(epoch, effects),
            Input::SessionLost(epoch) => self.session_lost(epoch, effects),
            Input::Received(outline) => self.received(outline, effects),
            Input::Completed { item, outcome, took } => self.completed(item, outcome, took, effects),
            Input::Written { item, written } => self.written(item, written, effects),
            Input::Rewritten { item, written } => self.rewritten(item, written, effects),
            Input::Settled { id, stale } => self.settled(id, stale, effects),
            Input::Proven { id } => self.proven(id, effects),
            Input::Answered { item, handed } => self.answered(item, handed, effects),
            Input::Claim { claim, identity } => self.claim(claim, &identity, effects),
            Input::TakeBack { identity, handed } => self.take_back(identity, handed, effects),
            Input::Unclaim { claim } => self.unclaim(claim, effects),
            Input::GiveUp { id, reason } => self.give_up(id, reason, effects),
            Input::Resume => self.breaker.close(),
            Input::Drain => self.drain(effects),
            Input::Timer => {}
        }
        self.fire_timers(effects);
        self.start_ready(effects);
        let is_open = !self.breaker.is_closed();
        if was_open != is_open {
            effects.push(Effect::Breaker { open: is_open });
        }
        #[cfg(debug_assertions)]
        super::invariants::check(self).unwrap_or_else(|broken| panic!("invariant broken: {broken}"));
    }

    /// When to call [`Dispatcher::handle`] with [`Input::Timer`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Time> {
        let first = self.timers.first().map(|(time, _)| *time);
        first.into_iter().chain(self.breaker.timeout()).chain(self.limit.timeout()).min()
    }

    /// Whether a delivery may be taken now, and if not, why. A delivery that is taken all the same is
    /// kept until there is a slot.
    pub fn no_room(&self) -> Option<NoRoom> {
        if self.draining {
            return Some(NoRoom::Draining);
        }
        if self.held >= self.policy.bounds.held_max {
            return Some(NoRoom::Held);
        }
        if self.bytes > 0 && self.bytes >= self.policy.bounds.held_bytes {
            return Some(NoRoom::Bytes);
        }
        let waiting = self.ready.len() as u32;
        if !self.breaker.is_closed() && (!self.breaker.may_start() || waiting > 0) {
            return Some(NoRoom::Breaker);
        }
        // Orphans don't count: each waits for a redelivery, which has to be taken for it to be adopted.
        // Whatever else comes instead waits for a slot.
        let owned = self.running - self.running_orphans;
        if owned.saturating_add(waiting) >= self.limit.current() {
            return Some(NoRoom::Slots);
        }
        None
    }

    /// Whether deliveries are taken now. What RabbitMQ hands over is ours already, bounded by the prefetch, and one near its
    /// delivery limit has to be seen for something to be done about it, whether it may start or not.
    pub fn takes(&self) -> bool {
        self.policy.prefetched || self.no_room().is_none()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            running: self.running,
            items: self.items.len() as u32 - self.acked,
            held: self.held,
            pending: self.pending,
            blocked_by_key: self.lanes.blocked() as u32,
            limit: self.limit.current(),
            bytes: self.bytes,
        }
    }

    /// Whether nothing at all is in hand: after a drain, the moment to leave the broker.
    pub fn is_empty(&self) -> bool {
        self.items.len() == self.acked as usize
    }

    pub fn max_in_flight(&self) -> u32 {
        self.policy.max_in_flight
    }

    /// Whether the broker hands over no more than fits by itself.
    pub fn is_prefetched(&self) -> bool {
        self.policy.prefetched
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn new_item_id(&mut self) -> ItemId {
        self.next_item += 1;
        ItemId(self.next_item)
    }

    /// Starts items while there are slots.
    fn start_ready(&mut self, effects: &mut Vec<Effect>) {
        while !self.draining
            && self.held < self.policy.bounds.held_max
            && self.running < self.limit.current()
            && self.breaker.may_start()
        {
            let Some(id) = self.ready.pop_first() else { return };
            let Some(item) = self.items.get_mut(&id) else { continue };
            item.phase = Phase::Running;
            self.running += 1;
            self.breaker.started(id);
            effects.push(Effect::Dispatch {
                item: id,
                attempt: item.attempts + 1,
                redelivered: item.redelivered,
            });
        }
    }

    /// Acts on every timer that is due.
    fn fire_timers(&mut self, effects: &mut Vec<Effect>) {
        self.breaker.timer(self.now);
        self.limit.timer(self.now);
        while let Some((time, id)) = self.timers.first().copied() {
            if time > self.now {
                return;
            }
            self.timers.pop_first();
            let Some(item) = self.items.get(&id) else { continue };
            let phase = item.phase;
            if item.rewrite == (Rewrite::Wait { until: time }) {
                self.rewrite(id, effects);
            }
            match phase {
                Phase::Waiting { until } if until == time => self.make_ready(id),
                Phase::WriteWait { write, until } if until == time => self.write(id, write, effects),
                Phase::Pending { until, .. } if until == time => self.expire(id, effects),
                _ => {}
            }
        }
    }

    /// The item may start when a slot is free, or as soon as it is first of its key.
    pub(super) fn make_ready(&mut self, id: ItemId) {
        let Some(item) = self.items.get_mut(&id) else { return };
        item.phase = Phase::Ready;
        self.queue_up(id);
    }

    /// Puts a ready item among those that may start, unless another of its key is before it, or its session is given back.
    fn queue_up(&mut self, id: ItemId) {
        let Some(item) = self.items.get(&id) else { return };
        let first_of_key = item.order_key.is_none_or(|key| self.lanes.is_first(key, id));
        if item.phase == Phase::Ready && first_of_key && !self.is_ending(item) {
            self.ready.insert(id);
        }
    }

    /// Whether the item's session takes nothing more.
    pub(super) fn is_ending(&self, item: &Item) -> bool {
        item.delivery.is_some_and(|delivery| self.ending.contains(&delivery.epoch))
    }

    /// Lets the next item of this one's key go ahead.
    pub(super) fn leave_lane(&mut self, id: ItemId) {
        let Some(key) = self.items.get(&id).and_then(|item| item.order_key) else { return };
        if let Some(next) = self.lanes.leave(key, id) {
            self.queue_up(next);
        }
    }

    /// Settles the item's delivery and waits for the answer.
    pub(super) fn settle(&mut self, id: ItemId, how: Settlement, dropped: bool, effects: &mut Vec<Effect>) {
        self.leave_lane(id);
        let Some(item) = self.items.get_mut(&id) else { return };
        let Some(delivery) = item.delivery else { return };
        item.phase = Phase::Settling(how);
        effects.push(Effect::Settle { id: delivery, how, dropped });
    }

    /// Drops every trace of an item.
    pub(super) fn forget(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        self.leave_lane(id);
        self.ready.remove(&id);
        let Some(item) = self.items.remove(&id) else { return };
        if let Some(delivery) = item.delivery {
            self.deliveries.remove(&delivery);
        }
        if item.weighs() {
            self.bytes -= item.bytes;
        }
        if item.phase == Phase::Acked {
            self.acked -= 1;
        }
        self.unname(id, &item.identity, item.copy.as_ref());
        effects.push(Effect::Forget { item: id });
        self.let_copies_go(id, item.phase, item.moved, effects);
    }
}
