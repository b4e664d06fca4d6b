//! Carries out what the core decided, and says so.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::attempt::{self, Attempt, Work};
use super::{Ended, Pipeline, writes};
use crate::delivery::{Effect, Input, ItemId, Write, Written};
use crate::source::Command;

impl Pipeline {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Admit { item, .. } => {
                if let Some(message) = self.incoming.take() {
                    self.works.insert(item, Arc::new(Work::new(message)));
                }
            }
            Effect::Adopt { item, id } => {
                // What another replica gave back came without its message.
                if let Some(message) = self.incoming.take() {
                    self.works.entry(item).or_insert_with(|| Arc::new(Work::new(message)));
                }
                self.shared.metrics.adopted.inc();
                tracing::info!(pipeline = self.shared.name, id = self.id(item), delivery = %id, "Redelivery adopted: its work was begun before");
            }
            Effect::Dispatch { item, attempt, redelivered } => {
                self.request(Attempt { item, number: attempt, redelivered });
            }
            Effect::Cancel { item } => {
                if self.requests.remove(&item).is_some() {
                    tracing::warn!(
                        pipeline = self.shared.name,
                        id = self.id(item),
                        "Request cut: its item is given up"
                    );
                }
            }
            Effect::Write { item, write } => {
                if matches!(write, Write::Park { .. }) {
                    self.name_copy(item);
                }
                self.write(item, write);
            }
            Effect::Rewrite { item, attempts } => self.rewrite(item, attempts),
            Effect::Copied { item, .. } => {
                self.shared.metrics.rewritten.inc();
                tracing::info!(
                    pipeline = self.shared.name,
                    id = self.id(item),
                    "Item written anew to its queue, whose delivery limit was near; its old delivery is acked"
                );
            }
            Effect::Ask { item, id, identity } => self.ask(item, id, &identity),
            Effect::Claimed { claim, standing } => self.claimed(claim, standing),
            Effect::Settle { id, how, dropped } => {
                self.shared.metrics.settled(how, dropped);
                tracing::debug!(pipeline = self.shared.name, delivery = %id, ?how, "Settling");
                // A source that has ended settles nothing any more; its end is noticed by itself.
                let _ = self.port.commands.send(Command::Settle { id, how });
            }
            Effect::Note { id, attempts } => {
                let _ = self.port.commands.send(Command::Note { id, attempts });
            }
            Effect::Hold { item, reason } => tracing::error!(
                pipeline = self.shared.name, id = self.id(item), %reason,
                "Item failed for good and is held: it stays with the broker, unsettled"
            ),
            Effect::Retry { item, delay } => tracing::info!(
                pipeline = self.shared.name,
                id = self.id(item),
                seconds = delay.as_secs_f64(),
                "Item will be tried again"
            ),
            Effect::Release { item } | Effect::Forget { item } => {
                self.works.remove(&item);
            }
            Effect::OrphanExpired { item } => {
                self.shared.metrics.orphans_expired.inc();
                self.forgone += usize::from(self.core.is_draining());
                tracing::warn!(
                    pipeline = self.shared.name,
                    id = self.id(item),
                    "No redelivery asked for this item's result; it will run again if it comes back"
                );
            }
            Effect::Breaker { open } => {
                self.shared.metrics.breaker_open.set(i64::from(open));
                if open {
                    tracing::warn!(
                        pipeline = self.shared.name,
                        "Breaker open: the service only fails, nothing new starts until a probe ends well"
                    );
                } else {
                    tracing::info!(pipeline = self.shared.name, "Breaker closed: the service works again");
                }
            }
        }
    }

    /// Tells the core that a task ended.
    pub(super) fn ended(&mut self, ended: Ended) {
        match &ended.input {
            Input::Completed { item, outcome, took } => {
                self.requests.remove(item);
                if let Some(detail) = &ended.detail {
                    tracing::warn!(
                        pipeline = self.shared.name,
                        id = self.id(*item),
                        outcome = outcome.label(),
                        seconds = took.as_secs_f64(),
                        detail,
                        "Attempt ended without success"
                    );
                }
            }
            Input::Written { item, written } | Input::Rewritten { item, written }
                if *written != Written::Confirmed =>
            {
                self.shared.metrics.write_failures.inc();
                tracing::warn!(
                    pipeline = self.shared.name,
                    id = self.id(*item),
                    error = ended.detail,
                    "Write not confirmed; the item stays and is written again"
                );
            }
            _ => {}
        }
        self.handle(ended.input);
    }

    fn request(&mut self, attempt: Attempt) {
        let Some(work) = self.works.get(&attempt.item).cloned() else { return };
        let (shared, ended) = (self.shared.clone(), self.ended.clone());
        let item = attempt.item;
        let request = tokio::spawn(async move {
            // The pipeline holds the receiver for as long as it holds this task.
            let _ = ended.send(attempt::run(&shared, &work, attempt).await);
        });
        self.requests.insert(item, AbortOnDropHandle::new(request));
    }

    fn write(&mut self, item: ItemId, write: Write) {
        let Some(work) = self.works.get(&item).cloned() else { return };
        let (shared, ended) = (self.shared.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            let _ = ended.send(writes::run(&shared, &work, item, write).await);
        });
    }

    fn rewrite(&mut self, item: ItemId, attempts: u32) {
        let Some(work) = self.works.get(&item).cloned() else {
            return self.handle_later(Input::Rewritten { item, written: Written::Impossible });
        };
        self.name_copy(item);
        let (shared, ended) = (self.shared.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            let _ = ended.send(writes::rewrite(&shared, &work, item, attempts).await);
        });
    }

    /// Tells the core what the copy will be called, before there can be one.
    fn name_copy(&mut self, item: ItemId) {
        if let Some(work) = self.works.get(&item) {
            self.core.name(item, work.mark());
        }
    }

    /// Answers the core after it has answered us.
    pub(super) fn handle_later(&mut self, input: Input) {
        // The pipeline holds the receiver.
        let _ = self.ended.send(Ended { input, detail: None });
    }

    /// What people know an item by.
    pub(super) fn id(&self, item: ItemId) -> String {
        self.works.get(&item).map_or_else(|| "?".to_owned(), |work| work.id())
    }
}
