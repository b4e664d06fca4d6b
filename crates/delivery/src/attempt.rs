//! The end of an attempt: the rules of retries, budgets and failures.

use std::time::Duration;

use super::clock::StartTime;
use super::dispatcher::Dispatcher;
use super::item::{Decision, Doing, End, Item, ItemId, Place};
use super::outcome::{Outcome, Reason};
use super::policy::{OnFailed, OnUnknown};
use super::protocol::{AttemptEnd, Command, Effect, Notice, Write};
use super::session::DeliveryId;

/// The step after an ended attempt.
pub(super) enum Next {
    Done,
    Retry(Duration),
    Fail(Reason),
    Hold(Reason),
    /// Lost by choice.
    Drop,
}

impl Dispatcher {
    pub(super) fn completed(&mut self, id: ItemId, end: AttemptEnd, effects: &mut Vec<Effect>) {
        if !self.items.get(id).is_some_and(Item::is_running) {
            return;
        }
        let outcome = self.interrupted_too_often(id, end.outcome);
        let end = AttemptEnd { outcome, ..end };
        let others = self.items.counts().running - 1;
        match outcome {
            Outcome::NotStarted { .. } => self.limit.refused(self.now, others),
            Outcome::Misconfigured | Outcome::Interrupted => {}
            _ => self.limit.started(),
        }
        self.breaker.ended(self.now, id, outcome);
        let now = self.start_time();
        self.items.edit(id, |item| item.count(now, end));
        let Some(item) = self.items.get(id) else { return };
        let next = self.next_step(id, item, outcome);
        self.conclude(id, next, outcome, effects);
    }

    /// Lets the item go on after its request, with a delivery or without.
    pub(super) fn conclude(&mut self, id: ItemId, next: Next, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        match item.place {
            Place::Live { delivery, .. } => self.proceed(id, delivery, next, outcome, effects),
            _ => {
                let decision = self.decision(next, item.attempts);
                self.decide(id, decision, effects);
            }
        }
    }

    /// Returns the next state of an item with a delivery.
    fn proceed(
        &mut self,
        id: ItemId,
        delivery: DeliveryId,
        next: Next,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(item) = self.items.get(id) else { return };
        let attempts = item.attempts;
        if outcome.counts_as_attempt() && !matches!(next, Next::Done) {
            effects.push(Effect::Do(Command::Note { delivery, attempts }));
        }
        let doing = match next {
            Next::Done if self.policy.targets.reply => Doing::Writing(Write::Reply),
            Next::Done => Doing::Settling(End::Ack),
            Next::Fail(reason) => self.failed(reason, attempts),
            Next::Hold(reason) => self.held(item, reason),
            Next::Drop => Doing::Settling(End::Drop),
            Next::Retry(delay) => {
                // One copy is already being written; a parked copy would be a second one.
                let parks = self.policy.targets.park && outcome.counts_as_attempt() && !item.is_copying();
                if parks || !self.draining {
                    effects.push(Effect::Tell(Notice::Retrying { item: id, delay, attempts }));
                }
                if parks {
                    return self.park(id, delay, effects);
                }
                self.retry(item, delivery, delay)
            }
        };
        self.enter(id, doing, effects);
    }

    /// Returns the state of an item that waits in memory for `delay` before the next attempt.
    pub(super) fn retry(&self, item: &Item, delivery: DeliveryId, delay: Duration) -> Doing {
        self.pursue(item, Decision::Retry { until: self.now.saturating_add(delay) }, delivery.epoch)
    }

    /// After `retry.interruptions` in a row, an interruption counts as a failed attempt.
    fn interrupted_too_often(&self, id: ItemId, outcome: Outcome) -> Outcome {
        let interruptions = self.items.get(id).map_or(0, |item| item.interruptions);
        if outcome == Outcome::Interrupted && interruptions >= self.policy.retry.interruptions {
            return Outcome::Failed { retry_after: None };
        }
        outcome
    }

    fn next_step(&self, id: ItemId, item: &Item, outcome: Outcome) -> Next {
        let retry = &self.policy.retry;
        let (least, asked) = match outcome {
            Outcome::Done => return Next::Done,
            Outcome::Rejected => return Next::Fail(Reason::Rejected),
            // The breaker is open now, and its probe is the next attempt.
            Outcome::Misconfigured => return Next::Retry(Duration::ZERO),
            Outcome::Interrupted => return Next::Retry(Duration::ZERO),
            Outcome::NotStarted { retry_after } => {
                let (since, tries) = item.not_started.unwrap_or((self.start_time(), 1));
                if self.start_time().since(since) >= retry.not_started_for {
                    return Next::Fail(Reason::NotStarted);
                }
                (self.policy.backoff(id, tries), retry_after)
            }
            Outcome::Unknown | Outcome::Unreadable => match self.policy.on_unknown {
                OnUnknown::DeadLetter => return Next::Fail(Reason::Unknown),
                OnUnknown::Hold => return Next::Hold(Reason::Unknown),
                OnUnknown::Retry => (self.policy.backoff(id, item.attempts).max(retry.unknown_backoff), None),
            },
            Outcome::Failed { retry_after } => (self.policy.backoff(id, item.attempts), retry_after),
            // The worker may still be running.
            Outcome::Stalled => (self.policy.backoff(id, item.attempts).max(retry.unknown_backoff), None),
        };
        if item.attempts >= retry.attempts {
            let is_stalled = outcome == Outcome::Stalled;
            return Next::Fail(if is_stalled { Reason::Stalled } else { Reason::Attempts });
        }
        if item.worker_time >= retry.worker_time_budget {
            return Next::Fail(Reason::Budget);
        }
        let asked = asked.unwrap_or_default().min(retry.backoff_max);
        Next::Retry(least.max(asked))
    }

    fn decision(&self, next: Next, attempts: u32) -> Decision {
        match next {
            Next::Done if self.policy.targets.reply => Decision::Write(Write::Reply),
            Next::Done | Next::Drop => Decision::Ack,
            Next::Retry(delay) => Decision::Retry { until: self.now.saturating_add(delay) },
            Next::Fail(reason) => Decision::Write(Write::DeadLetter { reason, attempts }),
            Next::Hold(reason) => Decision::Hold { reason },
        }
    }

    /// Returns the state of an item that failed for good.
    pub(super) fn failed(&self, reason: Reason, attempts: u32) -> Doing {
        if self.policy.targets.dead_letter {
            return Doing::Writing(Write::DeadLetter { reason, attempts });
        }
        match self.policy.on_failed {
            OnFailed::Hold if self.draining => Doing::Settling(End::Return),
            OnFailed::Hold => Doing::Held { reason },
            OnFailed::Drop => Doing::Settling(End::Drop),
        }
    }

    /// Returns the state of an item that can only be kept. It blocks its key until a person decides
    /// about it.
    pub(super) fn held(&self, item: &Item, reason: Reason) -> Doing {
        if self.draining { self.returned(item) } else { Doing::Held { reason } }
    }

    /// Fails an item whose record holds back its partition, and whose attempts have failed for too
    /// long. A running item continues. So does an item that was never tried, because it only waits
    /// for a slot. Nothing is given up while nothing may start.
    pub(super) fn stuck(&mut self, delivery: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(id) = self.items.of_delivery(delivery) else { return };
        let Some(item) = self.items.get(id) else { return };
        let (Some(since), Some(limit)) = (item.failing_since, self.policy.give_up_after) else { return };
        let is_idle = matches!(item.doing(), Some(Doing::Ready | Doing::Waiting { .. }));
        if is_idle && !self.is_stopped() && self.start_time().since(since) >= limit {
            let next = self.failed(Reason::Stalled, item.attempts);
            self.enter(id, next, effects);
        }
    }
}

impl Item {
    /// Charges an ended attempt.
    fn count(&mut self, now: StartTime, end: AttemptEnd) {
        let AttemptEnd { outcome, took, answer_bytes, has_checkpoint } = end;
        self.is_tried = true;
        self.answer_bytes = answer_bytes;
        self.has_checkpoint |= has_checkpoint;
        if outcome.counts_as_attempt() {
            self.attempts += 1;
            self.worker_time = self.worker_time.saturating_add(took);
            self.not_started = None;
            self.interruptions = 0;
            self.failing_since.get_or_insert(now);
        }
        match outcome {
            Outcome::NotStarted { .. } => {
                let (since, tries) = self.not_started.unwrap_or((now, 0));
                self.not_started = Some((since, tries.saturating_add(1)));
            }
            Outcome::Interrupted => self.interruptions += 1,
            _ => {}
        }
    }
}
