//! Sessions that end, and the orphans that they leave.

use super::dispatcher::{Dispatcher, Session};
use super::item::{Decision, Doing, End, Item, ItemId, Keep, Left, Place};
use super::lease::HAND_OVER;
use super::protocol::{Command, Effect, Notice, Remains, Time, Write};
use super::session::{Epoch, Identity};

impl Dispatcher {
    /// Returns the items that did not start, while the broker can still be told. An item with a
    /// history becomes an orphan when the session ends, so that its next owner need not start from
    /// the beginning.
    pub(super) fn session_ending(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if self.sessions.get(&epoch) != Some(&Session::Live) {
            return;
        }
        self.sessions.insert(epoch, Session::Ending);
        for id in self.items.of_session(epoch) {
            let Some(item) = self.items.get(id) else { continue };
            if item.doing() == Some(Doing::Ready) {
                let next = if item.has_history() { Doing::Stopped } else { Doing::Settling(End::Return) };
                self.enter(id, next, effects);
            }
        }
    }

    pub(super) fn session_lost(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if self.sessions.remove(&epoch).is_none() {
            return;
        }
        for id in self.items.of_session(epoch) {
            self.lose(id, effects);
        }
        self.lose_spares(epoch, effects);
        self.doubts_confirmed(epoch, effects);
    }

    /// Takes the delivery away from an item.
    pub(super) fn lose(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let Place::Live { name, doing, .. } = &item.place else { return };
        let left = left_of(*doing, item, self.now);
        let is_settled = matches!(doing, Doing::Settling(_) | Doing::Acked);
        // Nobody knows whether the ack counted. Equal bytes are not proof that a delivery is this
        // one.
        if !is_settled || name.is_unique() {
            self.items.edit(id, Item::expect_own_name);
        }
        self.orphan(id, left, effects);
    }

    /// Takes a redundant delivery away from an item that waits for its copy.
    pub(super) fn let_go(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let Some(doing) = item.doing() else { return };
        let left = left_of(doing, item, self.now);
        self.orphan(id, left, effects);
    }

    fn orphan(&mut self, id: ItemId, left: Option<Left>, effects: &mut Vec<Effect>) {
        match left {
            Some(Left::Decided(decision)) => self.keep_decision(id, decision, false, effects),
            Some(left) => {
                let keep = Keep { until: None, owed: false };
                self.items.edit(id, |item| item.place = Place::Orphan { doing: left, keep });
            }
            None => self.forget(id, effects),
        }
    }

    /// Keeps the decision about an item whose work ended without a delivery.
    pub(super) fn decide(&mut self, id: ItemId, decision: Decision, effects: &mut Vec<Effect>) {
        let owed = self.items.get(id).is_some_and(|item| item.delivery().is_none());
        self.keep_decision(id, decision, owed, effects);
    }

    fn keep_decision(&mut self, id: ItemId, decision: Decision, owed: bool, effects: &mut Vec<Effect>) {
        if let Some(Place::Claimed { by, .. }) = self.items.get(id).map(|item| &item.place) {
            return self.hand_over(id, *by, decision, effects);
        }
        let remains = match decision {
            Decision::Ack => Remains::Nothing,
            Decision::Retry { .. } | Decision::Hold { .. } | Decision::Write(Write::Park { .. }) => {
                Remains::Id
            }
            Decision::Write(Write::Reply | Write::DeadLetter { .. }) => Remains::Answer,
        };
        let now = self.now;
        let age = self.policy.bounds.orphan_age;
        self.items.edit(id, |item| {
            let until = (!item.waits_for_copy()).then(|| now.saturating_add(age));
            item.place = Place::Orphan { doing: Left::Decided(decision), keep: Keep { until, owed } };
            // The redelivery brings the message again.
            item.message_bytes = 0;
            item.answer_bytes = if remains == Remains::Answer { item.answer_bytes } else { 0 };
        });
        effects.push(Effect::Do(Command::Release { item: id, remains }));
        self.bound_orphans(effects);
        if self.draining {
            self.hasten(id, effects);
        }
    }

    fn bound_orphans(&mut self, effects: &mut Vec<Effect>) {
        let bounds = &self.policy.bounds;
        let (most, bytes) = (bounds.orphans_max, bounds.held_bytes);
        while let counts = self.items.counts()
            && (counts.decided > most || (counts.decided > 1 && counts.orphan_bytes > bytes))
            && let Some(oldest) = self.items.oldest_decided()
        {
            self.expire(oldest, effects);
        }
    }

    /// In a drain, an orphan waits no longer than another replica may take to ask for it.
    pub(super) fn hasten(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(Place::Orphan { keep, doing: Left::Decided(_) }) =
            self.items.get(id).map(|item| &item.place)
        else {
            return;
        };
        if !self.may_be_asked_for(*keep) {
            return self.expire(id, effects);
        }
        let by = self.now.saturating_add(HAND_OVER);
        self.items.edit(id, |item| {
            if let Place::Orphan { keep, .. } = &mut item.place {
                keep.until = Some(keep.until.map_or(by, |until: Time| until.min(by)));
            }
        });
    }

    /// Gives a decided orphan up: its item runs again when it comes back.
    pub(super) fn expire(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(Place::Orphan { keep, .. }) = self.items.get(id).map(|item| &item.place) else { return };
        // In a drain most orphans are settled already, and only remembered.
        if !self.draining || keep.owed {
            effects.push(Effect::Tell(Notice::OrphanExpired { item: id }));
        }
        self.forget(id, effects);
    }
}

/// The state of an item after the loss of its delivery. `None` means that nothing of it is worth
/// keeping.
fn left_of(doing: Doing, item: &Item, now: Time) -> Option<Left> {
    Some(match doing {
        // These end by themselves.
        Doing::Running => Left::Running,
        Doing::Asking => Left::Asking,
        Doing::Writing(write) => Left::Writing(write),
        Doing::Ready | Doing::Stopped if !item.has_history() => return None,
        Doing::Ready | Doing::Stopped => Left::Decided(Decision::Retry { until: now }),
        Doing::Waiting { until } => Left::Decided(Decision::Retry { until }),
        Doing::WriteWait { write, .. } => Left::Decided(Decision::Write(write)),
        Doing::Held { reason } => Left::Decided(Decision::Hold { reason }),
        Doing::Settling(End::Ack | End::Drop) | Doing::Acked if item.may_return() => {
            Left::Decided(Decision::Ack)
        }
        Doing::Settling(_) | Doing::Acked => return None,
    })
}

impl Item {
    /// The present delivery may arrive again under its name.
    pub(super) fn expect_own_name(&mut self) {
        if let Place::Live { name, .. } = &self.place {
            self.expected.push(name.clone());
        }
    }

    /// Whether a copy of it may wait in its queue, which takes as long as the backlog is.
    fn waits_for_copy(&self) -> bool {
        self.expected.iter().any(|name| matches!(name, Identity::Copy { .. }))
    }

    /// Whether a delivery that arrives after its ack can be told from every other item's.
    fn may_return(&self) -> bool {
        matches!(&self.place, Place::Live { name, .. } if name.is_unique()) || !self.expected.is_empty()
    }
}
