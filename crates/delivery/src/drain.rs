//! The planned stop (guarantee G4): nothing new starts, what did not start is given back, what runs
//! goes on to its end.

use super::dispatcher::Dispatcher;
use super::item::{Item, ItemId, Phase, Rewrite};
use super::protocol::Effect;
use super::session::Settlement;

impl Dispatcher {
    pub(super) fn drain(&mut self, effects: &mut Vec<Effect>) {
        if self.draining {
            return;
        }
        self.draining = true;
        let all: Vec<ItemId> = self.items.keys().copied().collect();
        for id in all {
            self.give_back(id, effects);
        }
    }

    /// Whether in a drain anybody may still ask for an orphan: another replica; or RabbitMQ, which hands over again what a
    /// lost session had, and surely what was never settled.
    pub(super) fn may_be_asked_for(&self, id: ItemId) -> bool {
        let owed = self.items.get(&id).is_some_and(|item| item.owed);
        self.policy.peers || (self.policy.prefetched && (owed || self.live.is_empty()))
    }

    /// Returns an item for which nothing is under way.
    pub(super) fn give_back(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        // With a copy half written it waits: returned and copied, there would be two of it.
        let idle = |item: &&Item| is_idle(item.phase) && item.rewrite != Rewrite::Writing;
        let Some(item) = self.items.get(&id).filter(idle) else { return };
        let phase = item.phase;
        self.ready.remove(&id);
        match phase {
            Phase::Pending { .. } => return self.hasten(id, effects),
            Phase::Held { .. } => self.held -= 1,
            _ => {}
        }
        self.settle(id, Settlement::Return, false, effects);
    }
}

/// Whether nothing is under way for an item in this phase.
fn is_idle(phase: Phase) -> bool {
    match phase {
        Phase::Ready
        | Phase::Waiting { .. }
        | Phase::WriteWait { .. }
        | Phase::Held { .. }
        | Phase::Pending { .. } => true,
        // Asked for: it may run at another replica, and its result is ours alone by now.
        Phase::Running
        | Phase::Writing(_)
        | Phase::Settling(_)
        | Phase::Asking
        | Phase::Behind(_)
        | Phase::Acked => false,
    }
}
