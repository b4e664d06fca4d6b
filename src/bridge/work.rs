//! An item as the shell keeps it: its message, its event and its latest answer.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use super::Shared;
use crate::checkpoints::Keeper;
use crate::delivery::{Digest, Ended, Remains};
use crate::event::{EncodedEvent, Message, Value, own};
use crate::progress::{CHECKPOINT_BYTES, Report};
use crate::sink::Answer;

/// A message that the core is handling.
pub(super) struct Incoming {
    pub message: Arc<Message>,
    pub content: Digest,
    /// Whether it is a copy with a valid seal.
    pub is_copy: bool,
    /// The place of its checkpoint, if checkpoints are stored.
    pub keeper: Option<Keeper>,
}

/// An item with its message.
pub(super) struct Work {
    pub message: Arc<Message>,
    /// The digest of its content, which a copy of it has too.
    pub content: Digest,
    /// The event is made at the first attempt and kept, so that every attempt has the same id
    /// (guarantee G5).
    event: OnceLock<EncodedEvent>,
    /// The event's id, from the first question for it on.
    id: OnceLock<String>,
    /// Whether the message is a copy with a valid seal.
    is_copy: bool,
    /// The place of its stored checkpoint.
    keeper: Option<Keeper>,
    /// The id of an item that arrived without one.
    fresh_id: OnceLock<String>,
    /// The latest answer, if a dead letter or a reply may be made of it.
    answer: Mutex<Option<Answer>>,
    /// The reports of its workers.
    report: OnceLock<Arc<Report>>,
    /// The start of the first attempt here with a span.
    pub(super) first_span: OnceLock<SystemTime>,
}

/// The part of an item that is kept while it waits for a redelivery, which brings its message
/// again.
#[derive(Default)]
pub(super) struct Rest {
    fresh_id: OnceLock<String>,
    answer: Option<Answer>,
    report: OnceLock<Arc<Report>>,
}

impl Rest {
    pub fn known_report(&self) -> Option<&Arc<Report>> {
        self.report.get()
    }
}

/// The part of an item that the shell keeps.
pub(super) enum Kept {
    Whole(Arc<Work>),
    Rest(Box<Rest>),
}

impl Work {
    pub fn new(incoming: Incoming) -> Self {
        Work::continued(incoming, Rest::default())
    }

    /// Returns the item with the message of its redelivery.
    pub fn continued(incoming: Incoming, rest: Rest) -> Self {
        let Incoming { message, content, is_copy, keeper } = incoming;
        Work {
            id: OnceLock::new(),
            is_copy,
            keeper,
            message,
            content,
            event: OnceLock::new(),
            fresh_id: rest.fresh_id,
            answer: Mutex::new(rest.answer),
            report: rest.report,
            first_span: OnceLock::new(),
        }
    }

    /// Returns the part that stays without the message, or `None` if no part of it is needed.
    pub fn rest(&self, remains: Remains) -> Option<Rest> {
        let answer = self.answer().filter(|_| remains == Remains::Answer);
        let checkpoint = self.report.get().and_then(|report| report.checkpoint());
        let is_needed = answer.is_some() || self.fresh_id.get().is_some() || checkpoint.is_some();
        (is_needed && remains != Remains::Nothing).then(|| Rest {
            fresh_id: self.fresh_id.clone(),
            answer,
            report: checkpoint
                .map(|text| Arc::new(Report::new(Some(text), self.keeper.clone())).into())
                .unwrap_or_default(),
        })
    }

    /// The reports of the item's workers. The first call takes the checkpoint from the message of a
    /// copy, or from the store.
    pub fn report(&self) -> &Arc<Report> {
        self.report.get_or_init(|| {
            let stored = || self.keeper.as_ref().and_then(Keeper::stored);
            Arc::new(Report::new(self.checkpoint().or_else(stored), self.keeper.clone()))
        })
    }

    /// The item has ended. Its stored checkpoint is of no use any more, unless another replica has
    /// the item.
    pub fn end_checkpoint(&self, ended: Ended) {
        let Some(keeper) = &self.keeper else { return };
        match ended {
            Ended::Acked | Ended::Dropped => {
                let report = self.report.get();
                keeper.ended(report.is_some_and(|report| report.checkpoint().is_some()));
            }
            Ended::Returned | Ended::HandedOver => keeper.left(),
        }
    }

    /// The reports so far, if there are any.
    pub fn known_report(&self) -> Option<&Arc<Report>> {
        self.report.get()
    }

    /// Prepares the report of a new attempt. Returns `None` if there is nothing to tell the worker
    /// and nothing that it could report.
    pub fn begin_report(&self, shared: &Shared) -> Option<Arc<Report>> {
        let is_known = self.report.get().is_some() || self.keeper.is_some();
        let is_needed = shared.reports.is_reachable() || is_known;
        let report = (is_needed || self.checkpoint().is_some()).then(|| self.report().clone())?;
        report.begin();
        Some(report)
    }

    /// The checkpoint in the message of a copy.
    fn checkpoint(&self) -> Option<String> {
        let value = self.message.own_header(own::CHECKPOINT).filter(|_| self.is_copy)?;
        value.as_text().filter(|text| text.len() <= CHECKPOINT_BYTES).map(str::to_owned)
    }

    /// Whether a worker left a checkpoint that the message does not carry.
    pub fn has_new_checkpoint(&self) -> bool {
        let latest = self.report.get().and_then(|report| report.checkpoint());
        latest.is_some() && latest != self.checkpoint()
    }

    /// The checkpoint for the next attempt.
    pub fn latest_checkpoint(&self) -> Option<String> {
        match self.report.get() {
            Some(report) => report.checkpoint(),
            None => self.checkpoint(),
        }
    }

    /// Returns the event's id.
    pub fn id(&self, shared: &Shared) -> String {
        match self.event.get() {
            Some(event) => event.id().to_owned(),
            None => {
                let id = || shared.encoder.id(&self.message, &|| self.fresh_id().to_owned());
                self.id.get_or_init(id).clone()
            }
        }
    }

    /// Returns the `longhaul-id` for the item's copies: the item's own one if it has one, otherwise
    /// a fresh one.
    pub fn name(&self) -> &str {
        self.message.own_header(own::ID).and_then(Value::as_text).unwrap_or_else(|| self.fresh_id())
    }

    fn fresh_id(&self) -> &str {
        self.fresh_id.get_or_init(|| uuid::Uuid::new_v4().to_string())
    }

    /// Returns the event's attribute `source`. It is empty before the first attempt.
    pub fn source(&self) -> String {
        self.event.get().map(|event| event.source().to_owned()).unwrap_or_default()
    }

    /// The time at which the item was enqueued, if its message tells it.
    pub fn enqueued(&self) -> Option<SystemTime> {
        self.message.timestamp().or_else(|| self.event.get()?.time())
    }

    pub fn answer(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn keep_answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// Replaces the detail of the answer with the reason of a failed write, which the dead letter
    /// then shows.
    pub fn explain(&self, detail: &str) {
        if let Some(answer) = &mut *self.answer.lock().unwrap_or_else(PoisonError::into_inner) {
            detail.clone_into(&mut answer.detail);
        }
    }

    /// Returns the event, and encodes it at the first call.
    pub fn event(&self, shared: &Shared) -> Result<&EncodedEvent, String> {
        if let Some(event) = self.event.get() {
            return Ok(event);
        }
        let fresh_id = || self.fresh_id().to_owned();
        let event =
            shared.encoder.encode_with_id(&self.message, &fresh_id).map_err(|error| error.to_string())?;
        Ok(self.event.get_or_init(|| event))
    }
}

/// Returns the memory of an answer, in bytes.
pub(super) fn kept_bytes(answer: &Answer) -> u64 {
    let response = answer.response.as_ref().map_or(0, |response| {
        let headers: usize =
            response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        response.body.len() + headers
    });
    (answer.detail.len() + response) as u64
}
