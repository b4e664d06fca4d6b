//! Deliveries that arrive: new items, redeliveries of items that were begun before, and redundant
//! copies.

use super::dispatcher::{Dispatcher, Session};
use super::item::{Copying, Decision, Doing, End, Item, ItemId, Left, Place};
use super::outcome::Reason;
use super::protocol::{Command, Effect, Write};
use super::session::Outline;

impl Dispatcher {
    /// Handles a delivery. `spares` are redundant deliveries whose acks are not confirmed yet.
    pub(super) fn received(&mut self, outline: &Outline, effects: &mut Vec<Effect>) {
        let is_known = self.items.of_delivery(outline.id).is_some() || self.spares.contains_key(&outline.id);
        // A delivery of a lost session cannot be settled. The broker hands its item over again.
        if is_known || !self.sessions.contains_key(&outline.id.epoch) {
            return;
        }
        let Some(id) = self.expecting(outline, effects) else { return self.admit(outline, effects) };
        self.items.edit(id, |item| item.take_expected(&outline.identity));
        match self.items.get(id).map(|item| &item.place) {
            Some(Place::Live { .. }) => self.ack_one_of_two(id, outline, effects),
            _ => self.adopt(id, outline, effects),
        }
        self.copy_near_limit(id, outline, effects);
    }

    /// Returns the oldest item that this delivery belongs to. Ends the claim of another replica on
    /// it, because that replica does not have the delivery any more. The caller takes the expected
    /// identity from the item, so an equal delivery finds the next item, or none (guarantee G3).
    fn expecting(&mut self, outline: &Outline, effects: &mut Vec<Effect>) -> Option<ItemId> {
        // Equal bytes are not proof. A delivery that was never handed over before is a new item,
        // and so is one that another consumer may have enqueued, finished and returned (rule D1).
        if !outline.identity.is_unique() && (outline.shared || !outline.redelivered) {
            return None;
        }
        let name = &outline.identity;
        let expecting = self.items.expecting(name);
        let found = expecting.or_else(|| self.claimed_item(name))?;
        // The broker flags a delivery that comes again. Without the flag, a copy is one that this
        // process has written, or the duplicate that somebody else made of one.
        let is_ours = |mark| {
            outline.redelivered
                || self.items.get(found).is_some_and(|item| item.unseen_copies.contains(&mark))
        };
        if !name.mark().is_none_or(is_ours) {
            return None;
        }
        if expecting.is_none() {
            self.supersede(name, effects);
        }
        Some(found)
    }

    /// Continues an item that has lost its delivery with this one.
    fn adopt(&mut self, id: ItemId, outline: &Outline, effects: &mut Vec<Effect>) {
        effects.push(Effect::Do(Command::Adopt { item: id, delivery: outline.id }));
        let Some(item) = self.items.get(id) else { return };
        if item.attempts > 0 {
            // The new session has not heard of the attempts.
            effects.push(Effect::Do(Command::Note { delivery: outline.id, attempts: item.attempts }));
        }
        let Place::Orphan { doing: left, .. } = item.place else { return };
        let doing = match left {
            Left::Running => Doing::Running,
            Left::Asking => Doing::Asking,
            Left::Writing(write) => Doing::Writing(write),
            Left::WriteWait { write, until } => Doing::WriteWait { write, until },
            Left::Decided(decision) => self.pursue(item, decision, outline.id.epoch),
        };
        self.items.edit(id, |item| {
            item.place = Place::Live { delivery: outline.id, name: outline.identity.clone(), doing };
            item.redelivered = true;
            item.message_bytes = outline.kept_bytes;
            item.order_key = outline.order_key;
            if !item.is_copying() {
                item.copying = Copying::NotNeeded;
            }
        });
        // The command of any other state is under way already.
        if matches!(left, Left::Decided(_)) {
            self.announce(id, effects);
            self.save_checkpoint(id, effects);
        }
    }

    /// Takes a new item in hand.
    fn admit(&mut self, outline: &Outline, effects: &mut Vec<Effect>) {
        // RabbitMQ's count of returns is an upper bound of the attempts, and any producer can set a
        // header. So an item without a unique identity always gets a run (guarantee G6). The
        // bridge's own copies and Kafka's committed metadata are exact.
        let most = self.policy.retry.attempts;
        let is_exact = outline.identity.is_unique();
        let attempts = outline.attempts_before.min(if is_exact { most } else { most.saturating_sub(1) });
        let id = self.items.insert(Item::new(outline, attempts));
        effects.push(Effect::Do(Command::Admit { item: id, delivery: outline.id }));
        let first = self.first_step(outline, attempts);
        self.enter(id, first, effects);
        self.copy_near_limit(id, outline, effects);
    }

    fn first_step(&self, outline: &Outline, attempts: u32) -> Doing {
        if self.draining || self.sessions.get(&outline.id.epoch) == Some(&Session::Ending) {
            Doing::Settling(End::Return)
        } else if outline.undecodable {
            self.failed(Reason::Undecodable, attempts)
        } else if outline.body_bytes > self.policy.bounds.item_bytes {
            self.failed(Reason::TooLarge, attempts)
        } else if attempts >= self.policy.retry.attempts {
            self.failed(Reason::Attempts, attempts)
        } else if outline.ask_peers {
            Doing::Asking
        } else {
            Doing::Ready
        }
    }

    /// The state in which an item with a delivery follows a decision.
    pub(super) fn pursue(&self, item: &Item, decision: Decision, epoch: super::Epoch) -> Doing {
        match decision {
            Decision::Ack => Doing::Settling(End::Ack),
            Decision::Retry { .. } if self.draining => self.returned(item),
            Decision::Retry { until } if until <= self.now => self.ready_in(epoch),
            Decision::Retry { until } => Doing::Waiting { until },
            Decision::Write(Write::DeadLetter { reason, attempts }) => self.failed(reason, attempts),
            Decision::Write(write) => Doing::Writing(write),
            Decision::Hold { reason } => self.held(item, reason),
        }
    }
}
