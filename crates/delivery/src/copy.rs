//! Copies: an item near its broker's delivery limit is written anew to its own queue.
//!
//! The copy has a `longhaul-id`, so that it finds its item whenever it comes. Once it exists the item is known by
//! that name and waits for the copy like any orphan, and the old delivery, now a [twin](Dispatcher::split) of its own,
//! has nothing left but its ack. A copy whose confirm was lost may come all the same, so its name is kept for as long as
//! the item is.

use super::dispatcher::Dispatcher;
use super::item::{Item, ItemId, Phase, Rewrite, Verdict};
use super::protocol::{Effect, Write, Written};
use super::session::{Identity, Mark, Outline, Settlement};

impl Dispatcher {
    /// The `longhaul-id` of a copy that is about to be written of `item`. Call it before the write begins.
    pub fn name(&mut self, item: ItemId, name: Mark) {
        if let Some(it) = self.items.get_mut(&item) {
            it.copy = Some(name);
            self.named.insert(name, item);
        }
    }

    /// Begins to write the item anew, unless that is under way or useless.
    pub(super) fn rewrite(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let worth_it = item.delivery.is_some()
            && !matches!(item.phase, Phase::Settling(_) | Phase::Acked | Phase::Behind(_));
        if !worth_it || matches!(item.rewrite, Rewrite::Writing | Rewrite::Seen | Rewrite::Impossible) {
            return;
        }
        if matches!(item.phase, Phase::Writing(Write::Park { .. })) {
            // It is being written anew already; only if that fails is there something left to do.
            return self.rewrite_later(id);
        }
        // An earlier copy may be there, though nobody confirmed it.
        item.doubles += u32::from(item.copy.is_some());
        item.rewrite = Rewrite::Writing;
        effects.push(Effect::Rewrite { item: id, attempts: item.attempts });
    }

    pub(super) fn rewritten(&mut self, id: ItemId, written: Written, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get_mut(&id) else { return };
        if item.rewrite != Rewrite::Writing {
            item.rewrite = Rewrite::None;
            return;
        }
        match written {
            Written::Confirmed => {
                item.rewrite = Rewrite::None;
                self.split(id, effects);
            }
            Written::Failed => {
                item.write_failures = item.write_failures.saturating_add(1);
                self.rewrite_later(id);
            }
            Written::Impossible => item.rewrite = Rewrite::Impossible,
        }
        if self.draining {
            self.give_back(id, effects);
        }
    }

    fn rewrite_later(&mut self, id: ItemId) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let until = self.now.saturating_add(self.policy.write_backoff(id, item.write_failures.max(1)));
        item.rewrite = Rewrite::Wait { until };
        self.timers.insert((until, id));
    }

    /// The item that has this name, or whose copy has it, and is in hand under another delivery.
    pub(super) fn known_by_name(&self, identity: &Identity) -> Option<ItemId> {
        let Identity::Copy { mark, .. } = identity else { return None };
        self.named.get(mark).copied()
    }

    /// A delivery came with a name that is in use.
    pub(super) fn copy_came(&mut self, first: ItemId, outline: Outline, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get_mut(&first) else { return };
        let is_copy = match &outline.identity {
            Identity::Copy { mark, .. } => item.copy == Some(*mark),
            _ => false,
        };
        if is_copy {
            // It is there, whether it was confirmed or not.
            let awaits_answer = item.rewrite == Rewrite::Writing;
            item.rewrite = if awaits_answer { Rewrite::Seen } else { Rewrite::None };
            self.split(first, effects);
            return self.take(outline, effects);
        }
        // Two copies of one id, after a crash between a confirm and an ack: one completion settles both.
        let done = matches!(item.phase, Phase::Acked);
        item.doubles = item.doubles.saturating_sub(1);
        let id = self.admit(&outline, effects);
        if let Some(item) = self.items.get_mut(&id) {
            item.phase = Phase::Behind(first);
        }
        if done {
            return self.settle(id, Settlement::Ack, false, effects);
        }
        self.behind.entry(first).or_default().push(id);
    }

    /// The item's copy exists: from now on it is known by the copy's name and waits for it, and its old delivery is
    /// acked by a twin that is nothing but this ack.
    pub(super) fn split(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let twin_id = self.new_item_id();
        let Some(item) = self.items.get_mut(&id) else { return };
        let Some(name) = item.copy.take() else { return };
        let (delivery, phase) = (item.delivery.take(), item.phase);
        let mut twin = Item::twin(item, delivery);
        item.identity = Identity::Copy { mark: name, content: item.identity.content() };
        item.ageless = true;
        let renamed = twin.identity != item.identity;
        if let (true, Identity::Copy { mark, .. }) = (renamed, &twin.identity) {
            self.named.insert(*mark, twin_id);
        }
        effects.push(Effect::Copied { item: id, twin: twin_id });
        let Some(delivery) = delivery else {
            return self.split_orphan(id, twin_id, twin, effects);
        };
        self.deliveries.insert(delivery, twin_id);
        // What is on its way to the broker already is the twin's.
        if matches!(phase, Phase::Settling(_) | Phase::Acked) {
            twin.phase = phase;
            self.acked += u32::from(phase == Phase::Acked);
        }
        let is_to_be_acked = twin.phase == Phase::Ready;
        self.items.insert(twin_id, twin);
        if is_to_be_acked {
            self.settle(twin_id, Settlement::Ack, false, effects);
        }
        self.orphan(id, effects);
    }

    /// Nobody acked the old delivery, so it comes back, and has to be acked then.
    fn split_orphan(&mut self, id: ItemId, twin_id: ItemId, mut twin: Item, effects: &mut Vec<Effect>) {
        self.unlist_orphan(&twin.identity, id);
        let Some(item) = self.items.get_mut(&id) else { return };
        let (renamed, is_claimed) = (item.identity != twin.identity, item.claim.is_some());
        if !renamed {
            // Nothing tells the old delivery from the copy: whichever comes second is one too many.
            item.doubles += 1;
        }
        if !is_claimed {
            self.list_orphan(id);
        }
        if renamed {
            twin.claim = None;
            self.items.insert(twin_id, twin);
            self.list_orphan(twin_id);
            self.make_pending(twin_id, Verdict::Ack, effects);
        }
    }

    /// The work is done and its delivery gone; a copy that may have been written is acked should it come.
    pub(super) fn await_copy(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let Some(name) = item.copy.take() else { return };
        let copy = Identity::Copy { mark: name, content: item.identity.content() };
        let old = std::mem::replace(&mut item.identity, copy);
        if let Identity::Copy { mark: name, .. } = &old
            && old != item.identity
        {
            self.named.remove(name);
        }
        item.rewrite = Rewrite::None;
        self.list_orphan(id);
        self.make_pending(id, Verdict::Ack, effects);
    }

    /// The ack of `twin` may not have counted: its delivery then comes again, under the name that the copy has too.
    pub(super) fn expect_double(&mut self, name: &Identity, twin: ItemId) {
        let first = self.known_by_name(name).filter(|first| *first != twin);
        if let Some(item) = first.and_then(|first| self.items.get_mut(&first)) {
            item.doubles += 1;
        }
    }

    /// What becomes of copies that waited for `first`, which has left in this phase. Where it `moved`, what it moved to
    /// stands for them as well.
    pub(super) fn let_copies_go(
        &mut self,
        first: ItemId,
        phase: Phase,
        moved: bool,
        effects: &mut Vec<Effect>,
    ) {
        if let Phase::Behind(other) = phase
            && let Some(others) = self.behind.get_mut(&other)
        {
            others.retain(|behind| *behind != first);
            if others.is_empty() {
                self.behind.remove(&other);
            }
        }
        let done = matches!(phase, Phase::Acked | Phase::Settling(Settlement::Ack));
        for copy in self.behind.remove(&first).unwrap_or_default() {
            if done {
                if let Some(item) = self.items.get_mut(&copy) {
                    item.moved |= moved;
                }
                self.settle(copy, Settlement::Ack, false, effects);
            } else if self.draining {
                self.settle(copy, Settlement::Return, false, effects);
            } else {
                self.make_ready(copy);
            }
        }
    }

    /// The copy carries the item on: whatever comes under its name has nothing to do with this delivery any more.
    pub(super) fn move_on(&mut self, id: ItemId) {
        let Some(item) = self.items.get_mut(&id) else { return };
        item.moved = true;
        let (identity, copy) = (item.identity.clone(), item.copy.take());
        self.unname(id, &identity, copy.as_ref());
    }

    /// Nothing that comes under these names is this item's any more.
    pub(super) fn unname(&mut self, id: ItemId, identity: &Identity, copy: Option<&Mark>) {
        let own = match identity {
            Identity::Copy { mark, .. } => Some(mark),
            _ => None,
        };
        for name in own.into_iter().chain(copy) {
            if self.named.get(name) == Some(&id) {
                self.named.remove(name);
            }
        }
    }
}
