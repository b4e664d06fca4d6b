//! Carries out the commands of the core.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::attempt;
use super::board::LastAnswer;
use super::list::name_of;
use super::work::{Kept, Work};
use super::{Ended, Pipeline, writes};
use crate::delivery::{Command, DeliveryId, Effect, Input, ItemId, Mark, Remains, Write, Written};
use crate::progress::log_share;
use crate::source;

impl Pipeline {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Do(command) => self.carry_out(command),
            Effect::Tell(notice) => self.tell(notice),
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Admit { item, .. } => {
                if let Some(incoming) = self.incoming.take() {
                    self.works.insert(item, Kept::Whole(Arc::new(Work::new(incoming))));
                }
            }
            Command::Adopt { item, delivery } => self.adopt(item, delivery),
            Command::Dispatch { item, attempt, redelivered } => {
                self.request(item, attempt, redelivered);
            }
            Command::Cancel { item } => self.cancel(item),
            Command::Write { item, write } => self.write(item, write),
            Command::Copy { item, mark, attempts } => self.copy(item, mark, attempts),
            Command::AskPeers { item, delivery, identity } => self.ask(item, delivery, &identity),
            Command::Prove { epoch } => self.send(source::Command::Prove { epoch }),
            Command::AnswerClaim { claim, standing } => self.claims.answer(claim, standing),
            Command::EndClaim { claim } => self.claims.end(claim),
            Command::Settle { delivery, how, dropped } => {
                self.shared.metrics.settled(how, dropped);
                tracing::debug!(%delivery, ?how, "Settling");
                self.send(source::Command::Settle { delivery, how });
            }
            Command::Note { delivery, attempts } => {
                self.send(source::Command::Note { delivery, attempts });
            }
            Command::Release { item, remains } => self.release(item, remains),
            Command::Forget { item } => {
                self.gone(item);
                self.works.remove(&item);
                self.failing_writes.remove(&item);
            }
        }
    }

    /// Sends a command to the source. A source that has ended ignores it, and the loop notices its
    /// end.
    pub(super) fn send(&self, command: source::Command) {
        let _ = self.port.commands.send(command);
    }

    fn adopt(&mut self, item: ItemId, delivery: DeliveryId) {
        let kept = self.works.remove(&item);
        let kept = match (kept, self.incoming.take()) {
            (Some(Kept::Rest(rest)), Some(incoming)) => {
                Some(Kept::Whole(Arc::new(Work::continued(incoming, *rest))))
            }
            (None, Some(incoming)) => Some(Kept::Whole(Arc::new(Work::new(incoming)))),
            (kept, _) => kept,
        };
        if let Some(kept) = kept {
            self.works.insert(item, kept);
        }
        self.shared.metrics.adopted.inc();
        tracing::info!(
            id = self.id(item),
            %delivery,
            "Redelivery adopted: its work was begun before"
        );
    }

    fn release(&mut self, item: ItemId, remains: Remains) {
        let Some(Kept::Whole(work)) = self.works.get(&item) else { return };
        // An item that ends without a delivery is told as ended after this.
        if self.board.row(item).is_some() {
            self.board.keep_name(item, name_of(work, &self.shared));
        }
        match work.rest(remains) {
            Some(rest) => self.works.insert(item, Kept::Rest(Box::new(rest))),
            None => self.works.remove(&item),
        };
    }

    /// Returns the item, if its message is here.
    pub(super) fn work(&self, item: ItemId) -> Option<Arc<Work>> {
        match self.works.get(&item)? {
            Kept::Whole(work) => Some(work.clone()),
            Kept::Rest(_) => None,
        }
    }

    /// Reports the end of a task to the core.
    pub(super) fn ended(&mut self, ended: Ended) {
        match &ended.input {
            Input::Completed { item, end } => {
                let is_present = self.requests.get(item).map(|(number, _)| *number) == ended.request;
                if !is_present {
                    // A person cut this request while its end was on its way.
                    return;
                }
                self.requests.remove(item);
                let status = ended.last.as_ref().and_then(|last| last.status);
                self.shared.metrics.attempt(end.outcome, status, end.took);
                if let Some(report) = self.report(*item) {
                    // Many items may wait with their logs.
                    report.trim(log_share(self.core.stats().items as usize));
                }
                if let Some(last) = ended.last {
                    self.board.answered(*item, LastAnswer { at: self.started.elapsed(), ..last }, end.took);
                }
                if let Some(detail) = &ended.detail {
                    self.last_failure = Some(detail.clone());
                    tracing::warn!(
                        id = self.id(*item),
                        outcome = end.outcome.label(),
                        seconds = end.took.as_secs_f64(),
                        detail,
                        "Attempt ended without success"
                    );
                }
            }
            Input::Written { item, written } | Input::CopyWritten { item, written }
                if *written != Written::Confirmed =>
            {
                self.shared.metrics.write_failures.inc();
                let error = ended.detail.as_deref().unwrap_or_default();
                if *written == Written::Failed {
                    let began = self.failing_writes.get(item).map_or_else(Instant::now, |(began, _)| *began);
                    self.failing_writes.insert(*item, (began, error.to_owned()));
                }
                if let (true, Some(work)) = (*written != Written::Failed, self.work(*item)) {
                    work.explain(error);
                }
                tracing::warn!(
                    id = self.id(*item),
                    error,
                    is_permanent = *written != Written::Failed,
                    "Write not confirmed, so the item is not acked"
                );
            }
            Input::Written { item, .. } | Input::CopyWritten { item, .. } => {
                self.failing_writes.remove(item);
            }
            _ => {}
        }
        self.handle(ended.input);
    }

    fn request(&mut self, item: ItemId, number: u32, redelivered: bool) {
        let Some(work) = self.work(item) else { return };
        if self.partitions.is_skipping(self.core.view(item).and_then(|view| view.delivery)) {
            return;
        }
        let (shared, ended) = (self.shared.clone(), self.ended.clone());
        self.request_count += 1;
        let attempt = attempt::Attempt { item, number, redelivered, request: self.request_count };
        self.board.started(item, number, self.now);
        let request = async move {
            // The pipeline keeps the receiver for as long as it keeps this task.
            let _ = ended.send(attempt::run(&shared, &work, attempt).await);
        };
        let request = tokio::spawn(request.in_current_span());
        self.requests.insert(item, (self.request_count, AbortOnDropHandle::new(request)));
    }

    /// Cuts the request of an item. Its task ends here, so the attempt is counted here too.
    fn cancel(&mut self, item: ItemId) {
        if self.requests.remove(&item).is_none() {
            // A record that is skipped has no request.
            return;
        }
        let started = self.board.row(item).and_then(|row| row.started);
        let took = started.map_or(Duration::ZERO, |started| self.now.saturating_sub(started));
        self.shared.metrics.cancelled(took);
        tracing::info!(id = self.id(item), seconds = took.as_secs_f64(), "Request cancelled by a person");
    }

    fn write(&mut self, item: ItemId, write: Write) {
        self.board.writes(item, write);
        let Some(work) = self.work(item) else {
            return self.handle_later(Input::Written { item, written: Written::Failed });
        };
        let shared = self.shared.clone();
        self.spawn(async move { writes::run(&shared, &work, item, write).await });
    }

    fn copy(&mut self, item: ItemId, mark: Mark, attempts: u32) {
        let Some(work) = self.work(item) else {
            return self.handle_later(Input::CopyWritten { item, written: Written::Impossible });
        };
        let shared = self.shared.clone();
        self.spawn(async move { writes::copy_to_queue(&shared, &work, item, mark, attempts).await });
    }

    /// Starts a task, which reports its end to the loop.
    fn spawn(&mut self, task: impl Future<Output = Ended> + Send + 'static) {
        let ended = self.ended.clone();
        let task = async move {
            // The pipeline keeps the receiver for as long as it keeps this task.
            let _ = ended.send(task.await);
        };
        self.tasks.spawn(task.in_current_span());
    }

    /// Queues an input for the core. It follows the present input.
    pub(super) fn handle_later(&mut self, input: Input) {
        // The pipeline keeps the receiver, so this cannot fail.
        let _ = self.ended.send(Ended::of(input, None));
    }

    /// Returns the item's name for people: the id of its event.
    pub(super) fn id(&self, item: ItemId) -> String {
        self.work(item).map_or_else(|| "(message not kept)".to_owned(), |work| work.id(&self.shared))
    }
}
