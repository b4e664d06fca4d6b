//! Writes of dead letters, replies and parked copies.

use std::time::Duration;

use super::dispatcher::Dispatcher;
use super::item::{Decision, Doing, End, Item, ItemId, Left, Place};
use super::outcome::Reason;
use super::protocol::{Command, Effect, Write, Written};
use super::session::DeliveryId;

impl Dispatcher {
    /// Starts a write, or repeats it.
    pub(super) fn write(&mut self, id: ItemId, write: Write, effects: &mut Vec<Effect>) {
        self.items.edit(id, |item| match &mut item.place {
            Place::Live { doing, .. } => *doing = Doing::Writing(write),
            Place::Orphan { doing, .. } | Place::Claimed { doing, .. } => *doing = Left::Writing(write),
            Place::Handed { .. } => {}
        });
        effects.push(Effect::Do(Command::Write { item: id, write }));
    }

    /// Writes the item to a queue from which it returns after `delay`.
    pub(super) fn park(&mut self, id: ItemId, delay: Duration, effects: &mut Vec<Effect>) {
        let Some(mark) = self.expect_copy(id) else { return };
        let attempts = self.items.get(id).map_or(0, |item| item.attempts);
        self.write(id, Write::Park { mark, attempts, delay }, effects);
    }

    pub(super) fn written(&mut self, id: ItemId, written: Written, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let Some(write) = item.writing() else { return };
        if let Write::Park { mark, .. } = write
            && matches!(written, Written::Confirmed | Written::TooLarge | Written::Impossible)
        {
            // A confirmed copy replaces the item, and comes back as a new item. A refused copy
            // never comes.
            self.items.edit(id, |item| item.unexpect_copy(mark));
        }
        if written == Written::Failed {
            self.items.edit(id, |item| item.write_failures = item.write_failures.saturating_add(1));
        }
        let Some(item) = self.items.get(id) else { return };
        match item.place {
            Place::Live { delivery, .. } => {
                let next = self.after_write(id, item, delivery, write, written);
                self.enter(id, next, effects);
            }
            Place::Claimed { .. } if written == Written::Failed => {
                let until = self.write_again(id, item);
                self.items.edit(id, |item| {
                    if let Place::Claimed { doing, .. } = &mut item.place {
                        *doing = Left::WriteWait { write, until };
                    }
                });
            }
            _ => {
                let decision = self.decision_after_write(item, write, written);
                self.decide(id, decision, effects);
            }
        }
    }

    /// The next state of an item with a delivery.
    fn after_write(
        &self,
        id: ItemId,
        item: &Item,
        delivery: DeliveryId,
        write: Write,
        written: Written,
    ) -> Doing {
        match (written, write) {
            (Written::Confirmed, _) => Doing::Settling(End::Ack),
            (_, Write::Park { delay, .. }) => self.retry(item, delivery, delay),
            // Further tries would hold the drain up for as long as the target is away.
            (Written::Failed, _) if self.draining => self.returned(item),
            (Written::Failed, _) => Doing::WriteWait { write, until: self.write_again(id, item) },
            // The dead letter is the place for an item whose reply can never be written.
            (_, Write::Reply) => self.failed(reason_of(written), item.attempts),
            (_, Write::DeadLetter { reason, .. }) => self.held(item, reason),
        }
    }

    fn decision_after_write(&self, item: &Item, write: Write, written: Written) -> Decision {
        match (written, write) {
            (Written::Confirmed, _) => Decision::Ack,
            (_, Write::Park { delay, .. }) => Decision::Retry { until: self.now.saturating_add(delay) },
            (Written::Failed, _) => Decision::Write(write),
            (_, Write::Reply) => {
                let (reason, attempts) = (reason_of(written), item.attempts);
                Decision::Write(Write::DeadLetter { reason, attempts })
            }
            (_, Write::DeadLetter { reason, .. }) => Decision::Hold { reason },
        }
    }

    fn write_again(&self, id: ItemId, item: &Item) -> super::Time {
        self.now.saturating_add(self.policy.write_backoff(id, item.write_failures.max(1)))
    }
}

/// The reason of a dead letter for an item whose reply can never be written.
fn reason_of(written: Written) -> Reason {
    if written == Written::TooLarge { Reason::TooLarge } else { Reason::Rejected }
}
