//! The planned stop (guarantee G4): nothing new starts, the items that did not start are returned,
//! and open requests continue to their end.

use super::dispatcher::Dispatcher;
use super::item::{Doing, ItemId, Keep, Place};
use super::protocol::Effect;

impl Dispatcher {
    pub(super) fn drain(&mut self, effects: &mut Vec<Effect>) {
        if self.draining {
            return;
        }
        self.draining = true;
        let all: Vec<ItemId> = self.items.iter().map(|(id, _)| id).collect();
        for id in all {
            self.give_back(id, effects);
        }
        self.hasten_claims();
    }

    /// Whether anyone may still ask for an orphan in a drain: another replica, or RabbitMQ.
    /// RabbitMQ hands the deliveries of a lost session over again, certainly those that were never
    /// settled.
    pub(super) fn may_be_asked_for(&self, keep: Keep) -> bool {
        self.policy.peers || (self.policy.prefetched && (keep.owed || self.sessions.is_empty()))
    }

    /// Returns an item for which nothing is under way.
    pub(super) fn give_back(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let Place::Live { doing, .. } = item.place else { return self.hasten(id, effects) };
        match doing {
            Doing::Ready
            | Doing::Stopped
            | Doing::Waiting { .. }
            | Doing::WriteWait { .. }
            | Doing::Held { .. } => {
                let next = self.returned(item);
                self.enter(id, next, effects);
            }
            // Another replica may run an item in `Asking`, and then only this one gets its result.
            Doing::Asking | Doing::Running | Doing::Writing(_) | Doing::Settling(_) | Doing::Acked => {}
        }
    }
}
