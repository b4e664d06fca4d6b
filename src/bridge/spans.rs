//! The spans of items and attempts, for the traces.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::attempt::Attempt;
use super::work::{Kept, Work};
use super::{Pipeline, Shared};
use crate::delivery::{ItemId, Outcome};
use crate::event::{EncodedEvent, Origin, TraceContext};
use crate::progress::Report;
use crate::sink::Answer;
use crate::telemetry::traces::{self, AttemptEnd, ItemEnd, Place, Running};
use crate::view::ItemState;

/// The age of an enqueueing time that a span begins with. An older one is taken for a mistake of
/// the producer's clock.
const OLDEST: Duration = Duration::from_secs(30 * 24 * 3600);

impl Work {
    /// Begins the span of an attempt, if traces are on.
    pub(super) fn begin_span(
        &self,
        shared: &Shared,
        event: &EncodedEvent,
        attempt: &Attempt,
        report: Option<Arc<Report>>,
    ) -> Option<Running> {
        let attempt = traces::Attempt { number: attempt.number, redelivered: attempt.redelivered, report };
        shared.traces.begin(|| self.traced(shared, event), attempt)
    }

    /// Returns the trace context for a message that comes from the item: below the item's span, or
    /// that of the producer if no traces are sent.
    pub(super) fn context(&self, shared: &Shared) -> Option<TraceContext> {
        let event = self.event(shared).ok()?;
        shared.traces.context(|| self.traced(shared, event)).or_else(|| event.trace())
    }

    fn traced(&self, shared: &Shared, event: &EncodedEvent) -> traces::Item {
        let first = *self.first_span.get_or_init(SystemTime::now);
        let is_plausible = |at: &SystemTime| first.duration_since(*at).is_ok_and(|age| age <= OLDEST);
        traces::Item {
            pipeline: shared.name.clone(),
            place: match &self.message.origin {
                Origin::Rabbitmq(origin) => Place::Queue(origin.queue.clone()),
                Origin::Kafka(origin) => Place::Partition {
                    topic: origin.topic.clone(),
                    partition: origin.partition,
                    offset: origin.offset,
                },
            },
            id: event.id().to_owned(),
            source: event.source().to_owned(),
            content: self.content.0,
            context: event.trace(),
            since: self.enqueued().filter(is_plausible).unwrap_or(first),
        }
    }
}

/// Ends the span of an attempt.
pub(super) fn end(span: Option<Running>, answer: &Answer) {
    if let Some(span) = span {
        span.end(AttemptEnd {
            outcome: answer.outcome.label(),
            is_success: answer.outcome == Outcome::Done,
            status: answer.status,
            detail: &answer.detail,
        });
    }
}

impl Pipeline {
    /// Records the span of the item that has just ended.
    pub(super) fn end_span(&self, item: ItemId) {
        let traced = || match self.works.get(&item)? {
            Kept::Whole(work) => Some(work.traced(&self.shared, work.event(&self.shared).ok()?)),
            Kept::Rest(_) => None,
        };
        let end = || {
            let finished = self.board.finished().next().map(|(_, finished)| finished);
            ItemEnd {
                state: finished.map_or("", |finished| finished.state.as_str()),
                is_success: finished.is_some_and(|finished| finished.state == ItemState::Done),
                reason: finished.and_then(|finished| finished.reason).map(|reason| reason.as_str()),
                attempts: finished.map_or(0, |finished| finished.attempt),
            }
        };
        self.shared.traces.ended(traced, end);
    }
}
