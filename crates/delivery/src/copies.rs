//! Copies: an item near its queue's delivery limit is written to the same queue again, and a parked
//! item is written to another queue. In a drain, an item with a new checkpoint is written to the
//! same queue again too.
//!
//! Each copy carries a [`Mark`], by which its delivery is told from those of other messages. From
//! the start of the write the item *expects* a delivery with this mark. One of three things
//! happens:
//!
//! * The write is confirmed. The old delivery is redundant and is acked; the item continues as an
//!   orphan, and the copy's delivery adopts it. (A confirmed parked copy is different: the item
//!   ends, and the copy comes back as a new item.)
//! * The copy's delivery arrives while the item has another one. One of the two is redundant and is
//!   acked.
//! * The confirm is lost and no copy has arrived yet. The item keeps expecting the mark, also after
//!   it is done, so that a copy that arrives late is acked and does not run again.
//!
//! A redundant delivery whose ack is on its way is a [`Spare`].

use super::dispatcher::Dispatcher;
use super::item::{Copying, Decision, Doing, Item, ItemId, Keep, Place};
use super::policy;
use super::protocol::{Command, Effect, Notice, Write, Written};
use super::session::{DeliveryId, Epoch, Identity, Mark, Outline, Settlement};

/// The largest number of marks that one item expects. Further writes use the last mark again. If
/// two copies with that mark arrive, the second one may run as a new item.
const MARKS_MAX: usize = 16;

/// A redundant delivery whose ack is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spare {
    /// The item of the delivery. It has another delivery, waits for one or is done, and it may be
    /// forgotten already.
    item: ItemId,
    name: Identity,
}

impl Dispatcher {
    /// Starts to write a copy of an item whose present delivery is this one, and near the delivery
    /// limit.
    pub(super) fn copy_near_limit(&mut self, id: ItemId, outline: &Outline, effects: &mut Vec<Effect>) {
        let is_present = self.items.get(id).and_then(Item::delivery) == Some(outline.id);
        if outline.near_limit && is_present && !self.draining {
            self.start_copy(id, effects);
        }
    }

    /// Starts to write a copy, unless one is being written, the queue has refused one, or the item
    /// does not need one.
    pub(super) fn start_copy(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let is_open = matches!(item.copying, Copying::NotNeeded | Copying::Wait { .. });
        match item.doing() {
            // A parked copy is being written. A copy in the item's own queue is needed only if that
            // write fails.
            Some(Doing::Writing(Write::Park { .. })) if is_open => return self.copy_later(id),
            None | Some(Doing::Settling(_) | Doing::Acked) => {
                self.items.edit(id, |item| item.copying = Copying::NotNeeded);
                return;
            }
            Some(_) if is_open => {}
            Some(_) => return,
        }
        let attempts = item.attempts;
        let Some(mark) = self.expect_copy(id) else { return };
        self.items.edit(id, |item| item.copying = Copying::Writing { mark });
        effects.push(Effect::Do(Command::Copy { item: id, mark, attempts }));
    }

    /// Whether a copy has to replace the item's message, because the message does not carry the
    /// worker's checkpoint and no copy was begun. Kafka's records cannot be replaced.
    pub(super) fn needs_copy(&self, item: &Item) -> bool {
        item.has_checkpoint && self.policy.prefetched && item.copying == Copying::NotNeeded
    }

    /// In a drain, starts to write a copy of a stopped item that would otherwise be returned
    /// without its checkpoint.
    pub(super) fn save_checkpoint(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let is_stopped = |item: &Item| item.doing() == Some(Doing::Stopped) && self.needs_copy(item);
        if self.draining && self.items.get(id).is_some_and(is_stopped) {
            self.start_copy(id, effects);
        }
    }

    fn copy_later(&mut self, id: ItemId) {
        let Some(item) = self.items.get(id) else { return };
        let wait = self.policy.write_backoff(id, item.write_failures.max(1));
        let until = self.now.saturating_add(wait);
        self.items.edit(id, |item| item.copying = Copying::Wait { until });
    }

    /// Mints a mark, and lets the item expect the delivery of a copy with it.
    pub(super) fn expect_copy(&mut self, id: ItemId) -> Option<Mark> {
        let item = self.items.get(id)?;
        let Place::Live { name, .. } = &item.place else { return None };
        let marks: Vec<Mark> = item.expected.iter().filter_map(Identity::mark).collect();
        if marks.len() >= MARKS_MAX {
            return marks.last().copied();
        }
        self.marks += 1;
        let mark = policy::mark(self.policy.seed, self.marks);
        let copy = name.copy(mark);
        self.items.edit(id, |item| {
            item.expected.push(copy);
            item.unseen_copies.push(mark);
        });
        Some(mark)
    }

    pub(super) fn copy_written(&mut self, id: ItemId, written: Written, effects: &mut Vec<Effect>) {
        let Some(Copying::Writing { mark }) = self.items.get(id).map(|item| item.copying) else { return };
        match written {
            Written::Confirmed => {
                self.items.edit(id, |item| {
                    item.copying = Copying::NotNeeded;
                    item.has_checkpoint = false;
                });
                self.wait_for_copy(id, mark, effects);
            }
            Written::Failed => {
                self.items.edit(id, |item| item.write_failures = item.write_failures.saturating_add(1));
                self.copy_later(id);
            }
            Written::TooLarge | Written::Impossible => {
                self.items.edit(id, |item| {
                    item.copying = Copying::Impossible;
                    item.unexpect_copy(mark);
                });
            }
        }
        if self.draining {
            self.give_back(id, effects);
        }
    }

    /// A copy with this mark is in the queue, so the present delivery is redundant: it is acked,
    /// and the item waits for the copy.
    fn wait_for_copy(&mut self, id: ItemId, mark: Mark, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let Place::Live { delivery, name, doing } = &item.place else { return };
        // Nothing remains to do if the copy has arrived already, or if the present delivery is
        // being settled or was acked.
        let is_expected = item.expected.contains(&name.copy(mark));
        if !is_expected || matches!(doing, Doing::Settling(_) | Doing::Acked) {
            return;
        }
        let (delivery, name) = (*delivery, name.clone());
        effects.push(Effect::Tell(Notice::Copied { item: id }));
        self.let_go(id, effects);
        self.ack_spare(delivery, Spare { item: id, name }, effects);
    }

    /// Another replica has the copy that is being written, so the delivery here is redundant.
    pub(super) fn copy_arrived_elsewhere(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(Copying::Writing { mark }) = self.items.get(id).map(|item| item.copying) else { return };
        self.wait_for_copy(id, mark, effects);
    }

    /// A delivery arrived for an item that has one. Both are in the broker, so one of them is
    /// redundant.
    pub(super) fn ack_one_of_two(&mut self, id: ItemId, outline: &Outline, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let Place::Live { delivery, name, doing } = &item.place else { return };
        let is_settled = matches!(doing, Doing::Settling(_) | Doing::Acked);
        let replaces = match (&outline.identity, item.copying) {
            // A copy is being written. The new delivery replaces the old one, unless the old one is
            // that copy.
            (Identity::Copy { .. }, Copying::Writing { mark }) => *name != name.copy(mark),
            // The latest write was not confirmed or was refused, but a copy has arrived. It
            // replaces the old delivery.
            (Identity::Copy { .. }, Copying::Wait { .. } | Copying::Impossible) => true,
            // The new delivery is not a copy, or the item does not need one. The old delivery
            // stays.
            _ => false,
        };
        let (old, old_name) = (*delivery, name.clone());
        if is_settled || !replaces {
            let spare = Spare { item: id, name: outline.identity.clone() };
            return self.ack_spare(outline.id, spare, effects);
        }
        self.items.edit(id, |item| {
            if let Place::Live { delivery, name, .. } = &mut item.place {
                *delivery = outline.id;
                *name = outline.identity.clone();
            }
            if !item.is_copying() {
                item.copying = Copying::NotNeeded;
            }
        });
        effects.push(Effect::Do(Command::Adopt { item: id, delivery: outline.id }));
        effects.push(Effect::Tell(Notice::Copied { item: id }));
        self.ack_spare(old, Spare { item: id, name: old_name }, effects);
    }

    pub(super) fn ack_spare(&mut self, delivery: DeliveryId, spare: Spare, effects: &mut Vec<Effect>) {
        self.spares.insert(delivery, spare);
        effects.push(Effect::Tell(Notice::Redundant { delivery }));
        effects.push(Effect::Do(Command::Settle { delivery, how: Settlement::Ack, dropped: false }));
    }

    /// Returns whether the delivery was a spare.
    pub(super) fn spare_settled(
        &mut self,
        delivery: DeliveryId,
        stale: bool,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(spare) = self.spares.get(&delivery) else { return false };
        if !stale && spare.name.is_unique() {
            // The ack can still be lost with the session. The spare stays until the broker has
            // proven that it knows of the ack.
            return true;
        }
        // A stale ack did not leave this process, so the broker hands the delivery over again. It
        // is expected even if its identity is not unique.
        if let (Some(spare), true) = (self.spares.remove(&delivery), stale) {
            self.expect_spare(spare, effects);
        }
        true
    }

    /// Handles the spares of a lost session. It is unknown whether the broker received their acks.
    pub(super) fn lose_spares(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        let lost: Vec<DeliveryId> =
            self.spares.range(epoch.deliveries()).map(|(delivery, _)| *delivery).collect();
        for delivery in lost {
            // The delivery may never arrive again. Without a unique identity an equal message could
            // be another item, which would be acked without a run.
            if let Some(spare) = self.spares.remove(&delivery).filter(|spare| spare.name.is_unique()) {
                self.expect_spare(spare, effects);
            }
        }
    }

    /// Expects the delivery of the spare again, which is still redundant when it arrives. If the
    /// item is not here any more, a record of a finished item expects it.
    fn expect_spare(&mut self, spare: Spare, effects: &mut Vec<Effect>) {
        let Spare { item, name } = spare;
        let is_in_hand = matches!(
            self.items.get(item).map(|item| &item.place),
            Some(Place::Live { .. } | Place::Orphan { .. })
        );
        if is_in_hand {
            self.items.edit(item, |item| item.expected.push(name));
            return;
        }
        let id = self.items.insert(Item::finished(name, Keep { until: None, owed: false }));
        self.decide(id, Decision::Ack, effects);
    }
}

impl Item {
    /// Stops expecting a copy with this mark. If one arrives all the same, it is a new item.
    pub(super) fn unexpect_copy(&mut self, mark: Mark) {
        self.expected.retain(|name| name.mark() != Some(mark));
        self.unseen_copies.retain(|awaited| *awaited != mark);
    }
}
