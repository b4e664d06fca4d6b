//! Sessions that go, and what of their items is kept for the redelivery.

use std::time::Duration;

use super::dispatcher::Dispatcher;
use super::item::{Item, ItemId, Phase, Verdict};
use super::protocol::{Effect, Time};
use super::session::{Epoch, Identity, Settlement};

/// After a drain began, how long a verdict waits for another replica, or for a redelivery in a new session.
const HAND_OVER: Duration = Duration::from_secs(30);

impl Dispatcher {
    /// Gives back what did not start, while that can still be told. What has a past becomes an orphan with the session:
    /// whoever is handed the item then need not begin anew.
    pub(super) fn session_ending(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if self.live.contains(&epoch) && self.ending.insert(epoch) {
            for id in self.items_of(epoch) {
                let did_not_start = |item: &Item| item.phase == Phase::Ready && !item.has_history();
                if self.items.get(&id).is_some_and(did_not_start) {
                    self.give_back(id, effects);
                } else {
                    self.ready.remove(&id);
                }
            }
        }
    }

    fn items_of(&self, epoch: Epoch) -> Vec<ItemId> {
        let of_epoch =
            |(delivery, item): (&super::DeliveryId, &ItemId)| (delivery.epoch == epoch).then_some(*item);
        self.deliveries.iter().filter_map(of_epoch).collect()
    }

    pub(super) fn session_lost(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if !self.live.remove(&epoch) {
            return;
        }
        self.ending.remove(&epoch);
        let lost = self.items_of(epoch);
        self.deliveries.retain(|delivery, _| delivery.epoch != epoch);
        for id in lost {
            if let Some(item) = self.items.get_mut(&id) {
                item.delivery = None;
                self.orphan(id, effects);
            }
        }
    }

    /// Decides what of an item without a delivery is worth keeping for the redelivery.
    pub(super) fn orphan(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(item) = self.items.get_mut(&id) else { return };
        let verdict = match item.phase {
            // These end by themselves and then become pending.
            Phase::Running | Phase::Writing(_) | Phase::Asking => {
                if item.phase == Phase::Running {
                    self.running_orphans += 1;
                }
                return self.list_orphan(id);
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
            Phase::Settling(Settlement::Ack) | Phase::Acked if item.may_return_acked() => {
                if !item.identity.is_unique() {
                    return self.await_copy(id, effects);
                }
                Some(Verdict::Ack)
            }
            Phase::Settling(Settlement::Ack) | Phase::Acked if item.moved => {
                let name = item.identity.clone();
                self.expect_double(&name, id);
                None
            }
            // It comes again, and still has nothing to do but to wait for the first.
            Phase::Behind(first) => {
                if let Some(first) = self.items.get_mut(&first) {
                    first.doubles += 1;
                }
                None
            }
            Phase::Settling(_) | Phase::Acked | Phase::Pending { .. } => None,
        };
        match verdict {
            Some(verdict) => {
                self.list_orphan(id);
                self.make_pending(id, verdict, effects);
            }
            None => self.forget(id, effects),
        }
    }

    /// Keeps a verdict until a redelivery asks for it, or hands it to the replica that did.
    pub(super) fn make_pending(&mut self, id: ItemId, verdict: Verdict, effects: &mut Vec<Effect>) {
        self.ready.remove(&id);
        self.leave_lane(id);
        let age = if self.draining { HAND_OVER } else { self.policy.bounds.orphan_age };
        let Some(item) = self.items.get_mut(&id) else { return };
        if item.phase == Phase::Acked {
            self.acked -= 1;
        } else {
            self.bytes -= item.bytes;
        }
        let ageless = item.ageless && !self.draining;
        let until = if ageless { Time::MAX } else { self.now.saturating_add(age) };
        item.phase = Phase::Pending { verdict, until };
        self.pending += 1;
        if item.claim.is_some() {
            return self.hand_over(id, effects);
        }
        if until < Time::MAX {
            self.timers.insert((until, id));
        }
        if verdict == Verdict::Ack {
            // An ack needs no message.
            effects.push(Effect::Release { item: id });
        }
        if self.draining && !self.may_be_asked_for(id) {
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

    /// A drain began: what waits for a redelivery waits no longer than another replica may take to ask.
    pub(super) fn hasten(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        if !self.may_be_asked_for(id) {
            return self.expire(id, effects);
        }
        let by = self.now.saturating_add(HAND_OVER);
        if let Some(Phase::Pending { until, .. }) = self.items.get_mut(&id).map(|item| &mut item.phase)
            && *until > by
        {
            *until = by;
            self.timers.insert((by, id));
        }
    }

    /// Gives a pending orphan up: its item will run again when it comes back.
    pub(super) fn expire(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        self.unlist(id);
        self.pending -= 1;
        // In a drain most were settled before, and are only remembered.
        if !self.draining || self.items.get(&id).is_some_and(|item| item.owed) {
            effects.push(Effect::OrphanExpired { item: id });
        }
        self.forget(id, effects);
    }

    pub(super) fn list_orphan(&mut self, id: ItemId) {
        let Some(item) = self.items.get(&id) else { return };
        self.orphans.entry(item.identity.clone()).or_default().push_back(id);
    }

    /// Takes the oldest orphan of this identity: a move, so that nobody else finds it.
    pub(super) fn pop_orphan(&mut self, identity: &Identity) -> Option<ItemId> {
        let orphans = self.orphans.get_mut(identity)?;
        let oldest = orphans.pop_front();
        if orphans.is_empty() {
            self.orphans.remove(identity);
        }
        oldest
    }

    pub(super) fn unlist(&mut self, id: ItemId) {
        if let Some(identity) = self.items.get(&id).map(|item| item.identity.clone()) {
            self.unlist_orphan(&identity, id);
        }
    }

    pub(super) fn unlist_orphan(&mut self, identity: &Identity, id: ItemId) {
        if let Some(orphans) = self.orphans.get_mut(identity) {
            orphans.retain(|other| *other != id);
            if orphans.is_empty() {
                self.orphans.remove(identity);
            }
        }
    }
}
