//! The planned stop (guarantee G4): nothing new starts, what did not start is given back, what runs
//! goes on to its end.

use super::dispatcher::Dispatcher;
use super::item::{ItemId, Phase};
use super::protocol::Effect;
use super::session::Settlement;

impl Dispatcher {
    pub(super) fn drain(&mut self, effects: &mut Vec<Effect>) {
        if self.draining {
            return;
        }
        self.draining = true;
        let idle: Vec<ItemId> =
            self.items.iter().filter(|(_, item)| is_idle(item.phase)).map(|(id, _)| *id).collect();
        for id in idle {
            self.ready.remove(&id);
            let Some(item) = self.items.get(&id) else { continue };
            match item.phase {
                Phase::Pending { .. } => self.expire(id, effects),
                Phase::Held { .. } => {
                    self.held -= 1;
                    self.settle(id, Settlement::Return, false, effects);
                }
                _ => self.settle(id, Settlement::Return, false, effects),
            }
        }
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
        Phase::Running | Phase::Writing(_) | Phase::Settling(_) => false,
    }
}
