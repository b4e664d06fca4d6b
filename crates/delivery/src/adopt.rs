//! Deliveries that come: new items, and redeliveries of what was begun before.

use super::dispatcher::Dispatcher;
use super::item::{Item, ItemId, Phase, Verdict};
use super::outcome::Reason;
use super::protocol::{Effect, Write};
use super::session::{Identity, Outline, Settlement};

impl Dispatcher {
    pub(super) fn received(&mut self, outline: Outline, effects: &mut Vec<Effect>) {
        // A delivery of a lost session can't be settled; the broker hands its item over again.
        if !self.live.contains(&outline.id.epoch) || self.deliveries.contains_key(&outline.id) {
            return;
        }
        match self.known_by_name(&outline.identity) {
            Some(first) if !self.orphans.contains_key(&outline.identity) => {
                self.copy_came(first, outline, effects)
            }
            _ => self.take(outline, effects),
        }
    }

    pub(super) fn take(&mut self, outline: Outline, effects: &mut Vec<Effect>) {
        let id = match self.take_orphan(&outline) {
            Some(orphan) => {
                self.adopt(orphan, &outline, effects);
                orphan
            }
            None => {
                let id = self.admit(&outline, effects);
                self.begin(id, &outline, effects);
                id
            }
        };
        if outline.near_limit && !self.draining {
            self.rewrite(id, effects);
        }
    }

    /// The oldest orphan that this delivery is the return of. Taking it is a move: whatever is alike
    /// byte for byte and comes later finds the next one, or none (guarantee G3).
    fn take_orphan(&mut self, outline: &Outline) -> Option<ItemId> {
        // An item that was never handed over before can't be the return of anything, whatever it looks like.
        if !outline.identity.is_unique() && (outline.shared || !outline.redelivered) {
            return None;
        }
        self.pop_orphan(&outline.identity)
    }

    fn adopt(&mut self, id: ItemId, outline: &Outline, effects: &mut Vec<Effect>) {
        effects.push(Effect::Adopt { item: id, id: outline.id });
        self.deliveries.insert(outline.id, id);
        let Some(item) = self.items.get_mut(&id) else { return };
        item.delivery = Some(outline.id);
        item.redelivered = true;
        item.ageless = false;
        item.owed = false;
        if item.attempts > 0 {
            // The new session has not heard of them.
            effects.push(Effect::Note { id: outline.id, attempts: item.attempts });
        }
        if item.phase == Phase::Running {
            self.running_orphans -= 1;
        }
        let Phase::Pending { verdict, .. } = item.phase else { return };
        self.pending -= 1;
        self.bytes += item.bytes;
        item.phase = Phase::Ready;
        if let Some(key) = item.order_key {
            self.lanes.enter(key, id);
        }
        if self.draining && !matches!(verdict, Verdict::Ack | Verdict::Write(_)) {
            return self.settle(id, Settlement::Return, false, effects);
        }
        self.carry_out(id, verdict, effects);
    }

    /// Takes an item in hand under a new name. What becomes of it is for the caller to say.
    pub(super) fn admit(&mut self, outline: &Outline, effects: &mut Vec<Effect>) -> ItemId {
        let id = self.new_item_id();
        effects.push(Effect::Admit { item: id, id: outline.id });
        self.deliveries.insert(outline.id, id);
        self.bytes += outline.kept_bytes;
        if let Some(key) = outline.order_key {
            self.lanes.enter(key, id);
        }
        if let Identity::Copy { mark, .. } = &outline.identity {
            self.named.entry(*mark).or_insert(id);
        }
        // RabbitMQ's count of returns is an upper bound of the attempts, so an item known by nothing
        // better always gets a run here (guarantee G6). Our own header and Kafka's map are exact.
        let most = self.policy.retry.attempts;
        let exact = outline.identity.is_unique();
        let attempts = outline.attempts_before.min(if exact { most } else { most.saturating_sub(1) });
        self.items.insert(id, Item::new(outline, attempts));
        id
    }

    fn begin(&mut self, id: ItemId, outline: &Outline, effects: &mut Vec<Effect>) {
        let attempts = self.items.get(&id).map_or(0, |item| item.attempts);
        if self.draining || self.ending.contains(&outline.id.epoch) {
            self.settle(id, Settlement::Return, false, effects);
        } else if outline.body_bytes > self.policy.bounds.item_bytes {
            self.fail(id, Reason::TooLarge, effects);
        } else if attempts >= self.policy.retry.attempts {
            self.fail(id, Reason::Attempts, effects);
        } else if outline.ask_peers {
            self.ask(id, effects);
        } else {
            self.make_ready(id);
        }
    }

    /// Does what was decided, now that there is a delivery to do it with.
    pub(super) fn carry_out(&mut self, id: ItemId, verdict: Verdict, effects: &mut Vec<Effect>) {
        match verdict {
            Verdict::Ack => self.settle(id, Settlement::Ack, false, effects),
            Verdict::Retry { until } if until <= self.now => self.make_ready(id),
            Verdict::Retry { until } => self.wait(id, until),
            Verdict::Write(Write::DeadLetter { reason, .. }) => self.fail(id, reason, effects),
            Verdict::Write(write) => self.write(id, write, effects),
            Verdict::Hold { reason } => self.hold(id, reason, effects),
        }
    }
}
