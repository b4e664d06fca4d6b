//! Settlements: acks, returns, and acks with an unknown result.

use super::dispatcher::Dispatcher;
use super::item::{Decision, Doing, End, Item, Place};
use super::protocol::{Command, Effect, Remains};
use super::session::{DeliveryId, Settlement};

impl End {
    pub(super) fn command(self, delivery: DeliveryId) -> Command {
        let how = match self {
            End::Ack | End::Drop => Settlement::Ack,
            End::Return => Settlement::Return,
        };
        Command::Settle { delivery, how, dropped: self == End::Drop }
    }
}

impl Dispatcher {
    /// The state of an item that is returned to the broker. While a copy of it is being written it
    /// waits: a returned item with a copy would be in the queue twice.
    pub(super) fn returned(&self, item: &Item) -> Doing {
        let waits = item.is_copying() || self.needs_copy(item);
        if waits { Doing::Stopped } else { Doing::Settling(End::Return) }
    }

    pub(super) fn settled(&mut self, delivery: DeliveryId, stale: bool, effects: &mut Vec<Effect>) {
        if self.spare_settled(delivery, stale, effects) {
            return;
        }
        // An answer for an unknown delivery belongs to a lost session. The shell counts it.
        let Some(id) = self.items.of_delivery(delivery) else { return };
        let Some(item) = self.items.get(id) else { return };
        let Place::Live { name, doing: Doing::Settling(end), .. } = &item.place else { return };
        let is_unique = name.is_unique();
        match (end, stale) {
            (End::Return, _) => self.forget(id, effects),
            (End::Ack | End::Drop, false) if is_unique => {
                self.items.edit(id, |item| {
                    item.answer_bytes = 0;
                    item.message_bytes = 0;
                });
                self.enter(id, Doing::Acked, effects);
                effects.push(Effect::Do(Command::Release { item: id, remains: Remains::Nothing }));
            }
            // An item without a unique identity could not be recognised after its ack. Only its
            // copies can.
            (End::Ack | End::Drop, false) => self.finish(id, effects),
            // The ack did not leave this process. The broker hands the item over again, and its
            // work is done.
            (End::Ack | End::Drop, true) => {
                self.items.edit(id, Item::expect_own_name);
                self.finish(id, effects);
            }
        }
    }

    /// The broker has forgotten the delivery. Copies of its item may still arrive.
    pub(super) fn proven(&mut self, delivery: DeliveryId, effects: &mut Vec<Effect>) {
        if self.spares.remove(&delivery).is_some() {
            return;
        }
        let Some(id) = self.items.of_delivery(delivery) else { return };
        if self.items.get(id).and_then(Item::doing) == Some(Doing::Acked) {
            self.finish(id, effects);
        }
    }

    /// The item is done and its delivery gone. It is remembered if another delivery of it may
    /// arrive.
    fn finish(&mut self, id: super::ItemId, effects: &mut Vec<Effect>) {
        if self.items.get(id).is_some_and(|item| item.expected.is_empty()) {
            return self.forget(id, effects);
        }
        self.decide(id, Decision::Ack, effects);
    }
}
