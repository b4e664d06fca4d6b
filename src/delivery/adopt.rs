//! Deliveries that come, sessions that go, and how a redelivery finds what was begun before.

use super::dispatcher::Dispatcher;
use super::item::{Item, ItemId, Phase, Verdict};
use super::outcome::Reason;
use super::protocol::{Effect, Write};
use super::session::{Epoch, Identity, Outline, Settlement};

impl Dispatcher {
    pub(super) fn received(&mut self, outline: Outline, effects: &mut Vec<Effect>) {
        // A delivery of a lost session can't be settled; the broker hands its item over again.
        if !self.live.contains(&outline.id.epoch) || self.deliveries.contains_key(&outline.id) {
            return;
        }
        match self.take_orphan(&outline) {
            Some(orphan) => self.adopt(orphan, outline, effects),
            None => self.admit(outline, effects),
        }
    }

    /// The oldest orphan that this delivery is the return of. Taking it is a move: whatever is alike
    /// byte for byte and comes later finds the next one, or none (guarantee G3).
    fn take_orphan(&mut self, outline: &Outline) -> Option<ItemId> {
        // An item that was never handed over before can't be the return of anything, whatever it looks like.
        if !outline.identity.is_unique() && !outline.redelivered {
            return None;
        }
        let orphans = self.orphans.get_mut(&outline.identity)?;
        let oldest = orphans.pop_front();
        if orphans.is_empty() {
            self.orphans.remove(&outline.identity);
        }
        oldest
    }

    fn adopt(&mut self, id: ItemId, outline: Outline, effects: &mut Vec<Effect>) {
        effects.push(Effect::Adopt { item: id, id: outline.id });
        self.deliveries.insert(outline.id, id);
        let Some(item) = self.items.get_mut(&id) else { return };
        item.delivery = Some(outline.id);
        item.redelivered = true;
        if item.phase == Phase::Running {
            self.running_orphans -= 1;
        }
        let Phase::Pending { verdict, .. } = item.phase else { return };
        self.pending -= 1;
        self.bytes += item.bytes;
        item.phase = Phase::Ready;
        if let Some(key) = item.order_key {
            self.lanes.enter(key, id);
        }
        if self.draining && verdict != Verdict::Ack {
            return self.settle(id, Settlement::Return, false, effects);
        }
        self.carry_out(id, verdict, effects);
    }

    fn admit(&mut self, outline: Outline, effects: &mut Vec<Effect>) {
        let id = self.new_item_id();
        effects.push(Effect::Admit { item: id, id: outline.id });
        self.deliveries.insert(outline.id, id);
        self.bytes += outline.bytes;
        if let Some(key) = outline.order_key {
            self.lanes.enter(key, id);
        }
        // RabbitMQ's count of returns is an upper bound of the attempts, so an item known by nothing
        // better always gets a run here (guarantee G6). Our own header and Kafka's map are exact.
        let most = self.policy.retry.attempts;
        let exact = outline.identity.is_unique();
        let attempts = outline.attempts_before.min(if exact { most } else { most.saturating_sub(1) });
        let item = Item {
            delivery: Some(outline.id),
            identity: outline.identity,
            redelivered: outline.redelivered,
            order_key: outline.order_key,
            bytes: outline.bytes,
            attempts,
            worker_time: Default::default(),
            not_started: None,
            write_failures: 0,
            phase: Phase::Ready,
        };
        self.items.insert(id, item);
        if self.draining {
            self.settle(id, Settlement::Return, false, effects);
        } else if outline.bytes > self.policy.bounds.item_bytes {
            self.fail(id, Reason::TooLarge, effects);
        } else if attempts >= most {
            self.fail(id, Reason::Attempts, effects);
        } else {
            self.make_ready(id);
        }
    }

    pub(super) fn session_lost(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if !self.live.remove(&epoch) {
            return;
        }
        let of_epoch =
            |(delivery, item): (&super::DeliveryId, &ItemId)| (delivery.epoch == epoch).then_some(*item);
        let lost: Vec<ItemId> = self.deliveries.iter().filter_map(of_epoch).collect();
        self.deliveries.retain(|delivery, _| delivery.epoch != epoch);
        for id in lost {
            self.orphan(id, effects);
        }
    }

    /// Takes the delivery from an item and decides what of it is worth keeping for the redelivery.
    fn orphan(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(item) = self.items.get_mut(&id) else { return };
        item.delivery = None;
        let verdict = match item.phase {
            // These end by themselves and then become pending.
            Phase::Running | Phase::Writing(_) => {
                if item.phase == Phase::Running {
                    self.running_orphans += 1;
                }
                self.orphans.entry(item.identity.clone()).or_default().push_back(id);
                return;
            }
            Phase::Ready if !item.has_history() => None,
            Phase::Ready => Some(Verdict::Retry { until: now }),
            Phase::Waiting { until } => Some(Verdict::Retry { until }),
            Phase::WriteWait { write, .. } => Some(Verdict::Write(write)),
            Phase::Held { reason } => {
                self.held -= 1;
                Some(Verdict::Hold { reason })
            }
            // Nobody knows whether the ack counted. The record is kept only where it can't be taken for
            // another item's: a twin's redelivery that found it would be acked without ever running.
            Phase::Settling(Settlement::Ack) if item.identity.is_unique() => Some(Verdict::Ack),
            Phase::Settling(_) => None,
            Phase::Pending { .. } => None,
        };
        match verdict {
            Some(verdict) => {
                self.orphans.entry(item.identity.clone()).or_default().push_back(id);
                self.make_pending(id, verdict, effects);
            }
            None => self.forget(id, effects),
        }
    }

    /// Keeps a verdict until a redelivery asks for it. The item is in `orphans` already.
    pub(super) fn make_pending(&mut self, id: ItemId, verdict: Verdict, effects: &mut Vec<Effect>) {
        self.ready.remove(&id);
        self.leave_lane(id);
        let Some(item) = self.items.get_mut(&id) else { return };
        item.phase = Phase::Pending { verdict, since: self.now };
        self.pending += 1;
        self.bytes -= item.bytes;
        self.timers.insert((self.now.saturating_add(self.policy.bounds.orphan_age), id));
        if self.draining {
            // No delivery follows a drain, so nobody will ask.
            return self.expire(id, effects);
        }
        if self.pending > self.policy.bounds.orphans_max {
            let is_pending = |item: &&Item| matches!(item.phase, Phase::Pending { .. });
            let oldest = self.items.iter().find(|(_, item)| is_pending(item)).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.expire(oldest, effects);
            }
        }
    }

    /// Gives a pending orphan up: its item will run again when it comes back.
    pub(super) fn expire(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(&id) else { return };
        let identity = item.identity.clone();
        self.unlist_orphan(&identity, id);
        self.pending -= 1;
        if !self.draining {
            effects.push(Effect::OrphanExpired { item: id });
        }
        self.forget(id, effects);
    }

    pub(super) fn unlist_orphan(&mut self, identity: &Identity, id: ItemId) {
        if let Some(orphans) = self.orphans.get_mut(identity) {
            orphans.retain(|other| *other != id);
            if orphans.is_empty() {
                self.orphans.remove(identity);
            }
        }
    }

    /// Does what was decided, now that there is a delivery to do it with.
    pub(super) fn carry_out(&mut self, id: ItemId, verdict: Verdict, effects: &mut Vec<Effect>) {
        match verdict {
            Verdict::Ack => self.settle(id, Settlement::Ack, false, effects),
            Verdict::Retry { until } if until <= self.now => self.make_ready(id),
            Verdict::Retry { until } => self.wait(id, until),
            Verdict::Write(Write::DeadLetter { reason, .. }) => self.fail(id, reason, effects),
            Verdict::Write(write) => self.write(id, write, effects),
            Verdict::Hold { reason } => self.hold(id, reason, effects),
        }
    }
}
