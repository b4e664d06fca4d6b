//! What follows when a request, a write or a settle has ended.

use std::time::Duration;

use super::dispatcher::Dispatcher;
use super::item::{ItemId, Phase, Rewrite, Verdict};
use super::outcome::{Outcome, Reason};
use super::policy::{OnFailed, OnUnknown};
use super::protocol::{Effect, Time, Write, Written};
use super::session::{DeliveryId, Settlement};

/// What an ended attempt comes to.
enum Next {
    Done,
    Retry(Duration),
    Fail(Reason),
    Hold(Reason),
}

impl Dispatcher {
    pub(super) fn completed(
        &mut self,
        id: ItemId,
        outcome: Outcome,
        took: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(item) = self.items.get_mut(&id) else { return };
        if item.phase != Phase::Running {
            return;
        }
        self.running -= 1;
        if item.delivery.is_none() {
            self.running_orphans -= 1;
        }
        item.phase = Phase::Ready;
        if outcome.counts_as_attempt() {
            item.attempts += 1;
            item.worker_time = item.worker_time.saturating_add(took);
            item.not_started = None;
        } else {
            let (since, tries) = item.not_started.unwrap_or((self.now, 0));
            item.not_started = Some((since, tries.saturating_add(1)));
        }
        let (delivery, attempts) = (item.delivery, item.attempts);
        // A copy that waits is one copy; with another on its way there would be two.
        let parks = self.policy.park && outcome.counts_as_attempt() && item.rewrite != Rewrite::Writing;
        self.breaker.ended(self.now, id, outcome);
        if !outcome.counts_as_attempt() {
            self.limit.fall(self.now, self.running);
        }
        let next = self.next_step(id, outcome);
        if let (Some(delivery), true, false) =
            (delivery, outcome.counts_as_attempt(), matches!(next, Next::Done))
        {
            effects.push(Effect::Note { id: delivery, attempts });
        }
        match (next, delivery) {
            (Next::Done, Some(_)) if self.policy.reply => self.write(id, Write::Reply, effects),
            (Next::Done, Some(_)) => self.settle(id, Settlement::Ack, false, effects),
            (Next::Retry(delay), Some(_)) if parks => {
                effects.push(Effect::Retry { item: id, delay });
                self.write(id, Write::Park { attempts, delay }, effects);
            }
            (Next::Retry(delay), Some(_)) => {
                if !self.draining {
                    effects.push(Effect::Retry { item: id, delay });
                }
                self.retry_in_memory(id, delay, effects);
            }
            (Next::Fail(reason), Some(_)) => self.fail(id, reason, effects),
            (Next::Hold(reason), Some(_)) => self.hold(id, reason, effects),
            (next, None) => {
                if let Some(item) = self.items.get_mut(&id) {
                    item.owed = true;
                }
                let verdict = self.verdict(next, attempts);
                self.make_pending(id, verdict, effects);
            }
        }
    }

    /// Fails an item for good in the middle of whatever it is at. One that is written or settled already goes on.
    pub(super) fn give_up(&mut self, delivery: DeliveryId, reason: Reason, effects: &mut Vec<Effect>) {
        let Some(id) = self.deliveries.get(&delivery).copied() else { return };
        let Some(item) = self.items.get(&id) else { return };
        match item.phase {
            Phase::Running => {
                self.running -= 1;
                // Nothing was learnt about the service, but a probe must not be waited for.
                self.breaker.ended(self.now, id, Outcome::Unknown);
                effects.push(Effect::Cancel { item: id });
            }
            Phase::Ready => {
                self.ready.remove(&id);
            }
            Phase::Waiting { .. } | Phase::Asking => {}
            _ => return,
        }
        self.fail(id, reason, effects);
    }

    fn verdict(&self, next: Next, attempts: u32) -> Verdict {
        match next {
            Next::Done if self.policy.reply => Verdict::Write(Write::Reply),
            Next::Done => Verdict::Ack,
            Next::Retry(delay) => Verdict::Retry { until: self.now.saturating_add(delay) },
            Next::Fail(reason) => Verdict::Write(Write::DeadLetter { reason, attempts }),
            Next::Hold(reason) => Verdict::Hold { reason },
        }
    }

    /// The rules of product section 2: class, attempts, budget.
    fn next_step(&self, id: ItemId, outcome: Outcome) -> Next {
        let Some(item) = self.items.get(&id) else { return Next::Done };
        let retry = &self.policy.retry;
        let (least, asked) = match outcome {
            Outcome::Done => return Next::Done,
            Outcome::Rejected => return Next::Fail(Reason::Rejected),
            Outcome::NotStarted { retry_after } => {
                let (since, tries) = item.not_started.unwrap_or((self.now, 1));
                if self.now.saturating_sub(since) >= retry.not_started_for {
                    return Next::Fail(Reason::NotStarted);
                }
                (self.policy.backoff(id, tries), retry_after)
            }
            Outcome::Misconfigured | Outcome::Interrupted => return Next::Retry(Duration::ZERO),
            Outcome::Unknown | Outcome::Unreadable if self.policy.on_unknown == OnUnknown::DeadLetter => {
                return Next::Fail(Reason::Unknown);
            }
            Outcome::Unknown | Outcome::Unreadable if self.policy.on_unknown == OnUnknown::Hold => {
                return Next::Hold(Reason::Unknown);
            }
            Outcome::Unknown | Outcome::Unreadable => {
                (self.policy.backoff(id, item.attempts).max(retry.unknown_backoff), None)
            }
            Outcome::Failed { retry_after } => (self.policy.backoff(id, item.attempts), retry_after),
        };
        if item.attempts >= retry.attempts {
            return Next::Fail(Reason::Attempts);
        }
        if item.worker_time >= retry.worker_time_budget {
            return Next::Fail(Reason::Budget);
        }
        let asked = asked.unwrap_or_default().min(retry.backoff_max);
        Next::Retry(least.max(asked))
    }

    fn retry_in_memory(&mut self, id: ItemId, delay: Duration, effects: &mut Vec<Effect>) {
        if self.draining {
            return self.settle(id, Settlement::Return, false, effects);
        }
        self.wait(id, self.now.saturating_add(delay));
    }

    pub(super) fn wait(&mut self, id: ItemId, until: Time) {
        if let Some(item) = self.items.get_mut(&id) {
            item.phase = Phase::Waiting { until };
            self.timers.insert((until, id));
        }
    }

    /// The item failed for good.
    pub(super) fn fail(&mut self, id: ItemId, reason: Reason, effects: &mut Vec<Effect>) {
        match self.policy.on_failed {
            OnFailed::DeadLetter => {
                let attempts = self.items.get(&id).map_or(0, |item| item.attempts);
                self.write(id, Write::DeadLetter { reason, attempts }, effects);
            }
            OnFailed::Hold => self.hold(id, reason, effects),
            OnFailed::Drop => self.settle(id, Settlement::Ack, true, effects),
        }
    }

    /// A held item blocks its key: order is kept for as long as it is not decided.
    pub(super) fn hold(&mut self, id: ItemId, reason: Reason, effects: &mut Vec<Effect>) {
        if self.draining {
            return self.settle(id, Settlement::Return, false, effects);
        }
        if let Some(item) = self.items.get_mut(&id) {
            item.phase = Phase::Held { reason };
            self.held += 1;
            effects.push(Effect::Hold { item: id, reason });
        }
    }

    pub(super) fn write(&mut self, id: ItemId, write: Write, effects: &mut Vec<Effect>) {
        if let Some(item) = self.items.get_mut(&id) {
            item.phase = Phase::Writing(write);
            effects.push(Effect::Write { item: id, write });
        }
    }

    pub(super) fn written(&mut self, id: ItemId, written: Written, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let Phase::Writing(write) = item.phase else { return };
        let (live, claimed) = (item.delivery.is_some(), item.claim.is_some());
        if let Write::Park { attempts: _, delay } = write {
            if written == Written::Confirmed {
                // The copy is the item from now on, and nothing here is to answer for it.
                self.move_on(id);
            } else if live {
                return self.retry_in_memory(id, delay, effects);
            }
        }
        let Some(item) = self.items.get_mut(&id) else { return };
        match written {
            Written::Confirmed if live => self.settle(id, Settlement::Ack, false, effects),
            Written::Confirmed if item.moved && item.identity.is_unique() => {
                self.unlist(id);
                self.forget(id, effects);
            }
            Written::Confirmed => self.make_pending(id, Verdict::Ack, effects),
            Written::Failed if !live && !claimed => self.make_pending(id, Verdict::Write(write), effects),
            // Trying on would hold the drain up for as long as the target is down.
            Written::Failed if self.draining && live => self.settle(id, Settlement::Return, false, effects),
            Written::Failed => {
                item.write_failures = item.write_failures.saturating_add(1);
                let until = self.now.saturating_add(self.policy.write_backoff(id, item.write_failures));
                item.phase = Phase::WriteWait { write, until };
                self.timers.insert((until, id));
            }
            Written::Impossible => {
                let reason = match write {
                    Write::DeadLetter { reason, .. } => reason,
                    Write::Reply | Write::Park { .. } => Reason::TooLarge,
                };
                if live {
                    self.hold(id, reason, effects);
                } else {
                    self.make_pending(id, Verdict::Hold { reason }, effects);
                }
            }
        }
    }

    pub(super) fn settled(&mut self, id: DeliveryId, stale: bool, effects: &mut Vec<Effect>) {
        // An answer that names a delivery we no longer know is of a lost session: counted by the shell.
        let Some(item_id) = self.deliveries.get(&id).copied() else { return };
        let Some(item) = self.items.get_mut(&item_id) else { return };
        let Phase::Settling(how) = item.phase else { return };
        let to_prove = item.may_return_acked() || item.identity.is_unique();
        if !stale && how == Settlement::Ack && to_prove {
            let moved = item.moved;
            item.phase = Phase::Acked;
            self.acked += 1;
            self.bytes -= item.bytes;
            effects.push(Effect::Release { item: item_id });
            return self.let_copies_go(item_id, Phase::Acked, moved, effects);
        }
        if !stale || how == Settlement::Return {
            return self.forget(item_id, effects);
        }
        // A copy under the same name would be taken for this delivery, and this one for the copy.
        if item.moved && item.identity.is_unique() {
            let name = item.identity.clone();
            self.expect_double(&name, item_id);
            return self.forget(item_id, effects);
        }
        // The ack did not leave this process, so the item comes back for certain, and its work is done.
        self.deliveries.remove(&id);
        item.delivery = None;
        self.list_orphan(item_id);
        self.make_pending(item_id, Verdict::Ack, effects);
    }

    /// The broker has forgotten the item. A copy of it may still come.
    pub(super) fn proven(&mut self, id: DeliveryId, effects: &mut Vec<Effect>) {
        let Some(item_id) = self.deliveries.get(&id).copied() else { return };
        let Some(item) = self.items.get_mut(&item_id) else { return };
        if item.phase != Phase::Acked {
            return;
        }
        // What comes under the name of an item that moved is what it moved to, which has yet to run.
        let (copied, doubled) = (item.copy.is_some(), item.doubles > 0 && !item.moved);
        if !copied && !doubled {
            return self.forget(item_id, effects);
        }
        item.delivery = None;
        self.deliveries.remove(&id);
        if copied {
            // The doubles that are expected come beside the copy.
            return self.await_copy(item_id, effects);
        }
        item.doubles -= 1;
        self.list_orphan(item_id);
        self.make_pending(item_id, Verdict::Ack, effects);
    }
}
