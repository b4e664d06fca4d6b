//! Actions of people: on one item, and on the whole pipeline.

use std::time::Duration;

use super::attempt::Next;
use super::dispatcher::Dispatcher;
use super::item::{Doing, End, Item, ItemId, Place};
use super::outcome::{Outcome, Reason};
use super::protocol::{Command, Effect, Write};

/// An action of a person on one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the next attempt, or repeat the failed write, without a further wait. A held item gets
    /// one more attempt.
    Retry,
    /// End the hold. An item that failed for good gets all its attempts again.
    Release,
    /// Keep the item with the broker, unsettled, until a person decides.
    Hold,
    /// Ack the item without success: it is lost by choice.
    Drop,
    /// Write the dead letter, then ack.
    DeadLetter,
    /// Close the open request, which counts as an attempt.
    Cancel(Then),
}

impl Action {
    pub const ALL: [Action; 8] = [
        Action::Retry,
        Action::Release,
        Action::Hold,
        Action::Drop,
        Action::DeadLetter,
        Action::Cancel(Then::Requeue),
        Action::Cancel(Then::DeadLetter),
        Action::Cancel(Then::Drop),
    ];
}

/// The next step of an item whose request a person closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// It is tried again after a wait.
    Requeue,
    DeadLetter,
    Drop,
}

/// The change that an action makes.
enum Change {
    /// The item goes on in this state, with the same record of attempts.
    To(Doing),
    /// The item goes on in this state. Only its attempts count against a bound from now on.
    Again(Doing),
    /// The item starts from the beginning.
    Afresh(Doing),
    /// The request is closed.
    Cut(Next),
}

impl Dispatcher {
    /// Whether the action would change the item now.
    pub fn allows(&self, item: ItemId, action: Action) -> bool {
        self.change(item, action).is_some()
    }

    pub(super) fn act(&mut self, id: ItemId, action: Action, effects: &mut Vec<Effect>) {
        let Some(change) = self.change(id, action) else { return };
        match change {
            Change::To(doing) => self.enter(id, doing, effects),
            Change::Again(doing) => {
                self.items.edit(id, Item::forget_lost_time);
                self.enter(id, doing, effects);
            }
            Change::Afresh(doing) => {
                self.items.edit(id, |item| {
                    item.forget_lost_time();
                    item.attempts = 0;
                    item.worker_time = Duration::ZERO;
                });
                if let Some(delivery) = self.items.get(id).and_then(Item::delivery) {
                    effects.push(Effect::Do(Command::Note { delivery, attempts: 0 }));
                }
                self.enter(id, doing, effects);
            }
            Change::Cut(next) => {
                effects.push(Effect::Do(Command::Cancel { item: id }));
                // The request shows nothing about the service. If it was the probe of an open
                // breaker, then the next item probes.
                self.breaker.ended(self.now, id, Outcome::Interrupted);
                self.items.edit(id, |item| {
                    item.is_tried = true;
                    item.attempts = item.attempts.saturating_add(1);
                    item.forget_lost_time();
                });
                self.conclude(id, next, Outcome::Failed { retry_after: None }, effects);
            }
        }
    }

    fn change(&self, id: ItemId, action: Action) -> Option<Change> {
        let item = self.items.get(id)?;
        if let Action::Cancel(then) = action {
            return item.is_running().then(|| self.cut(id, item, then)).flatten();
        }
        // In a drain, the items that do not run are on their way back to the broker.
        if self.draining {
            return None;
        }
        let Place::Live { delivery, doing, .. } = item.place else { return None };
        let ready = self.ready_in(delivery.epoch);
        match (action, doing) {
            (Action::Retry, Doing::Waiting { .. }) => Some(Change::To(ready)),
            (Action::Retry, Doing::WriteWait { write, .. }) => Some(Change::To(Doing::Writing(write))),
            // There is nothing to run, but its dead letter may be possible by now.
            (Action::Retry | Action::Release, Doing::Held { reason: Reason::Undecodable }) => {
                Some(Change::To(self.failed(Reason::Undecodable, item.attempts)))
            }
            (Action::Retry, Doing::Held { .. }) => Some(Change::Again(ready)),
            (Action::Release, Doing::Held { reason: Reason::Cancelled }) => Some(Change::Again(ready)),
            (Action::Release, Doing::Held { .. }) => Some(Change::Afresh(ready)),
            (Action::Hold, Doing::Ready | Doing::Waiting { .. }) => {
                Some(Change::To(Doing::Held { reason: Reason::Cancelled }))
            }
            (
                Action::Drop,
                Doing::Ready | Doing::Waiting { .. } | Doing::WriteWait { .. } | Doing::Held { .. },
            ) => Some(Change::To(Doing::Settling(End::Drop))),
            (Action::DeadLetter, Doing::WriteWait { write: write @ Write::DeadLetter { .. }, .. }) => {
                Some(Change::To(Doing::Writing(write)))
            }
            (
                Action::DeadLetter,
                Doing::Ready | Doing::Waiting { .. } | Doing::WriteWait { .. } | Doing::Held { .. },
            ) if self.policy.targets.dead_letter => {
                let reason = if let Doing::Held { reason } = doing { reason } else { Reason::Cancelled };
                Some(Change::To(Doing::Writing(Write::DeadLetter { reason, attempts: item.attempts })))
            }
            _ => None,
        }
    }

    /// A running item is cut, whether it has a delivery or not.
    fn cut(&self, id: ItemId, item: &Item, then: Then) -> Option<Change> {
        let next = match then {
            Then::Requeue => Next::Retry(self.policy.backoff(id, item.attempts.saturating_add(1))),
            Then::DeadLetter if !self.policy.targets.dead_letter => return None,
            Then::DeadLetter => Next::Fail(Reason::Cancelled),
            // Without a delivery there is nothing to ack, so the item would count as done.
            Then::Drop if item.delivery().is_none() => return None,
            Then::Drop => Next::Drop,
        };
        Some(Change::Cut(next))
    }

    /// Starts nothing new and takes nothing new, until [`super::Input::Resume`]. Running items go
    /// on.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
        self.breaker.close();
    }

    /// Bounds the open requests by `most` until the process ends, or until the next call. The range
    /// is 1 to `max_in_flight`. Running items go on.
    pub(super) fn lower_limit(&mut self, most: u32) {
        self.limit.set_ceiling(most.clamp(1, self.policy.max_in_flight));
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }
}

impl Item {
    /// The time so far does not count any more, neither without a worker nor of failures.
    fn forget_lost_time(&mut self) {
        self.not_started = None;
        self.failing_since = None;
        self.interruptions = 0;
    }
}
