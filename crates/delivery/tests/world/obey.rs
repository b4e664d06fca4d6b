//! The bridge of a world: it carries out the commands of the core.

use longhaul_delivery::{Command, DeliveryId, Effect, Input, ItemId};

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
        self.check_failure(&effect);
        let Effect::Do(command) = effect else { return };
        match command {
            Command::Admit { item, delivery } => {
                if let Some(class) = self.class_of_delivery(delivery) {
                    self.classes.insert(item, class);
                }
            }
            Command::Adopt { item, delivery } => {
                let of_delivery = self.class_of_delivery(delivery);
                let of_item = self.classes.get(&item).copied();
                // The record of a redundant delivery has no message, so it has no class.
                let is_same = of_item.is_none() || of_item == of_delivery;
                self.require("G3: an orphan is adopted by its own kind", is_same);
            }
            Command::Dispatch { item, attempt, .. } => {
                let class = self.class(item);
                self.tallies[class].starts += 1;
                self.require("an undecodable item makes no request", !self.is_undecodable(class));
                self.require("G4: nothing starts in a drain", !was_draining);
                let most = self.setting.policy.retry.attempts + self.acts_so_far();
                self.require("attempt numbers are in bounds", attempt <= most);
                self.require("a pause starts nothing", !self.core.is_paused());
                let again = self.requests.insert(item, class).is_some();
                self.require("G3: one request an item", !again);
            }
            Command::Cancel { item } => {
                let open = self.requests.remove(&item).is_some();
                self.require("a cut request was open", open);
            }
            Command::Write { item, write } => {
                self.writes.insert(item, write);
            }
            Command::Copy { item, mark, attempts } => {
                let copy = Copy { class: self.class(item), mark, attempts, landed: false };
                self.copying.insert(item, copy);
            }
            Command::AskPeers { item, .. } => {
                self.asks.insert(item);
            }
            Command::Prove { epoch } => {
                self.doubts.insert(epoch);
            }
            Command::AnswerClaim { claim, standing } => self.claim_answered(claim, standing),
            Command::EndClaim { .. } | Command::Note { .. } | Command::Release { .. } => {}
            Command::Settle { delivery, how, dropped } => {
                if let (true, Some(class)) = (dropped, self.class_of_delivery(delivery)) {
                    self.tallies[class].finished += 1;
                }
                self.settles.push(Settle { id: delivery, how });
            }
            Command::Forget { item } => {
                self.require("no request outlives its item", !self.requests.contains_key(&item));
                self.classes.remove(&item);
            }
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
