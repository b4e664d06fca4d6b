//! What the core asks for: the side of the bridge.

use longhaul::delivery::{DeliveryId, Effect, Input, ItemId, Mark, Write};

use super::broker::{Copy, Settle};
use super::{SessionState, World};

impl World {
    pub(super) fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        let draining = self.core.is_draining();
        self.core.handle(self.now, input, &mut effects);
        for effect in effects {
            self.obey(effect, draining);
        }
    }

    pub(super) fn obey(&mut self, effect: Effect, was_draining: bool) {
        match effect {
            Effect::Admit { item, id } => {
                if let Some(class) = self.class_of_delivery(id) {
                    self.classes.insert(item, class);
                }
                let name =
                    self.name_of_delivery(id).unwrap_or_else(|| Mark(u128::from(item.0).to_be_bytes()));
                self.names.insert(item, name);
            }
            Effect::Adopt { item, id } => {
                let (of_item, of_delivery) = (self.classes.get(&item).copied(), self.class_of_delivery(id));
                self.require("G3: an orphan is adopted by its own kind", of_item == of_delivery);
            }
            Effect::Dispatch { item, attempt, .. } => {
                let class = self.class(item);
                self.tallies[class].starts += 1;
                self.require("G4: nothing starts in a drain", !was_draining);
                self.require("attempt numbers are in bounds", attempt <= self.setting.policy.retry.attempts);
                let again = self.requests.insert(item, class).is_some();
                self.require("G3: one request an item", !again);
            }
            Effect::Cancel { item } => {
                let open = self.requests.remove(&item).is_some();
                self.require("what is cut was open", open);
            }
            Effect::Write { item, write } => {
                if matches!(write, Write::Park { .. }) {
                    self.core.name(item, self.names[&item]);
                }
                self.writes.insert(item, write);
            }
            Effect::Rewrite { item, attempts } => {
                let name = self.names[&item];
                self.core.name(item, name);
                let copy = Copy { class: self.class(item), name, attempts, landed: false };
                self.copying.insert(item, copy);
            }
            Effect::Copied { item, twin } => {
                let class = self.class(item);
                self.classes.insert(twin, class);
                self.names.insert(twin, self.names[&item]);
            }
            Effect::Ask { item, .. } => {
                self.asks.insert(item);
            }
            Effect::Claimed { claim, standing } => self.claimed(claim, standing),
            Effect::Settle { id, how, dropped } => {
                if let (true, Some(class)) = (dropped, self.class_of_delivery(id)) {
                    self.tallies[class].finished += 1;
                }
                self.settles.push(Settle { id, how });
            }
            Effect::Forget { item } => {
                self.require("no request outlives its item", !self.requests.contains_key(&item));
                self.classes.remove(&item);
                self.names.remove(&item);
            }
            _ => {}
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.session.state, SessionState::Up | SessionState::Ending)
    }

    pub(super) fn class(&self, item: ItemId) -> usize {
        self.classes.get(&item).copied().unwrap_or_default()
    }

    pub(super) fn class_of_delivery(&self, id: DeliveryId) -> Option<usize> {
        self.delivered.get(&id).copied()
    }
}
