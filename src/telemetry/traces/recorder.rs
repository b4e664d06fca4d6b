//! The running attempts, and the bounded queues to the export.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample, SpanData};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ids::Ids;
use super::span::{self, Kind, Record, Started};
use super::{Attempt, AttemptEnd, Item, ItemEnd, TraceCounts, TracesError, http, settings};
use crate::config::Env;
use crate::event::TraceContext;
use crate::progress::{Report, Reported};

pub use super::export::Sending;

/// The time between two records of a running attempt.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Records the spans of all pipelines.
#[derive(Debug)]
pub struct Recorder {
    sampler: Sampler,
    spans: mpsc::Sender<SpanData>,
    /// The start records of attempts that ended before anybody asked for the record. `None` if no
    /// records are sent.
    starts: Option<mpsc::Sender<Record>>,
    /// The running attempts. `max_in_flight` bounds them.
    open: Mutex<HashMap<SpanId, Open>>,
    counts: TraceCounts,
}

/// A running attempt.
#[derive(Debug)]
struct Open {
    attempt: Started,
    report: Option<Arc<Report>>,
    since: Instant,
    /// When its next record is due. The first one is the start.
    next: Instant,
    is_told: bool,
}

impl Open {
    fn reported(&self) -> Reported {
        self.report.as_ref().map(|report| report.reported()).unwrap_or_default()
    }
}

/// The span of a running attempt. Dropping it records that the attempt was cut.
#[derive(Debug)]
pub struct Running {
    /// The context for the worker.
    context: TraceContext,
    /// `None` if the sampler leaves the trace out.
    open: Option<(Arc<Recorder>, SpanId)>,
}

/// Reads the variables. Returns `None` if the traces are off.
pub(super) fn start(
    env: Env<'_>,
    replica: &str,
    counts: TraceCounts,
) -> Result<Option<(Arc<Recorder>, Sending)>, TracesError> {
    let Some(settings) = settings::read(env)? else { return Ok(None) };
    let senders = http::spans(&settings)?;
    let records = match &settings.records {
        Some(endpoint) => Some(http::records(&settings, endpoint)?),
        None => None,
    };
    let (recorder, queues) =
        Recorder::new(settings.sampler.clone(), settings.queue, records.is_some(), counts);
    let sending = Sending::new(&settings, replica, recorder.clone(), queues, senders, records);
    Ok(Some((recorder, sending)))
}

/// The receiving ends of the queues.
#[derive(Debug)]
pub(super) struct Queues {
    pub spans: mpsc::Receiver<SpanData>,
    pub starts: Option<mpsc::Receiver<Record>>,
}

impl Recorder {
    pub(super) fn new(
        sampler: Sampler,
        queue: usize,
        has_records: bool,
        counts: TraceCounts,
    ) -> (Arc<Self>, Queues) {
        let (spans, spans_out) = mpsc::channel(queue);
        let (starts, starts_out) = has_records.then(|| mpsc::channel(queue)).unzip();
        let open = Mutex::default();
        let recorder = Arc::new(Recorder { sampler, spans, starts, open, counts });
        (recorder, Queues { spans: spans_out, starts: starts_out })
    }

    pub fn begin(self: &Arc<Self>, item: Item, attempt: Attempt) -> Option<Running> {
        let ids = Ids::of(&item);
        if !self.samples(&ids) {
            return unsampled(&ids, &item).map(|context| Running { context, open: None });
        }
        let span = fresh_span();
        let mut attributes = span::of_item(&item);
        attributes.push(KeyValue::new("longhaul.attempt", i64::from(attempt.number)));
        attributes.push(KeyValue::new("longhaul.redelivered", attempt.redelivered));
        let context = context_of(&ids, span, &item, true);
        let started = Started { ids, span, began: SystemTime::now(), attributes: attributes.into() };
        let now = Instant::now();
        let open = Open { attempt: started, report: attempt.report, since: now, next: now, is_told: false };
        self.open().insert(span, open);
        Some(Running { context, open: Some((self.clone(), span)) })
    }

    pub fn context(&self, item: &Item) -> Option<TraceContext> {
        let ids = Ids::of(item);
        match self.samples(&ids) {
            true => Some(context_of(&ids, ids.item, item, true)),
            false => unsampled(&ids, item),
        }
    }

    pub fn ended(&self, item: Item, end: ItemEnd) {
        let ids = Ids::of(&item);
        if self.samples(&ids) {
            self.push(span::item(&item, &ids, &end, SystemTime::now()));
        }
    }

    /// The decision depends on the trace alone, so all processes decide alike.
    fn samples(&self, ids: &Ids) -> bool {
        let kind = SpanKind::Consumer;
        let result = self.sampler.should_sample(Some(&ids.parent), ids.trace, "process", &kind, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn end(&self, span: SpanId, end: Option<AttemptEnd<'_>>) {
        let Some(open) = self.open().remove(&span) else { return };
        let reported = open.reported();
        if let Some(starts) = self.starts.as_ref().filter(|_| !open.is_told) {
            let (attempt, at) = (open.attempt.clone(), open.attempt.began);
            let record = Record { attempt, kind: Kind::Start, at, reported: reported.clone() };
            if starts.try_send(record).is_err() {
                self.counts.records_dropped.inc();
            }
        }
        self.push(span::attempt(&open.attempt, open.since.elapsed(), end, &reported));
    }

    fn push(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.counts.spans_dropped.inc();
        }
    }

    /// Returns the records of running attempts that are due now.
    pub(super) fn due(&self, now: Instant) -> Vec<Record> {
        let mut due = Vec::new();
        for open in self.open().values_mut().filter(|open| open.next <= now) {
            let began = open.attempt.began;
            let (kind, at) = match open.is_told {
                true => (Kind::Heartbeat, began + now.saturating_duration_since(open.since)),
                false => (Kind::Start, began),
            };
            (open.is_told, open.next) = (true, now + HEARTBEAT);
            due.push(Record { attempt: open.attempt.clone(), kind, at, reported: open.reported() });
        }
        due
    }

    pub(super) fn counts(&self) -> &TraceCounts {
        &self.counts
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SpanId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// The context for the worker: its own spans belong below the attempt's.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    pub fn end(mut self, end: AttemptEnd<'_>) {
        if let Some((recorder, span)) = self.open.take() {
            recorder.end(span, Some(end));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((recorder, span)) = self.open.take() {
            recorder.end(span, None);
        }
    }
}

/// The context of an item whose trace the sampler leaves out; `None` if the producer's own context
/// says so already. Without one, the next program would begin a trace of its own.
fn unsampled(ids: &Ids, item: &Item) -> Option<TraceContext> {
    (ids.producer() == SpanId::INVALID).then(|| context_of(ids, ids.item, item, false))
}

fn context_of(ids: &Ids, span: SpanId, item: &Item, is_sampled: bool) -> TraceContext {
    let flags = ids.flags(is_sampled).to_u8();
    let has_parent = ids.producer() != SpanId::INVALID;
    let state = item.context.as_ref().filter(|_| has_parent).and_then(|context| context.state.clone());
    TraceContext { parent: format!("00-{}-{span}-{flags:02x}", ids.trace), state }
}

fn fresh_span() -> SpanId {
    SpanId::from(fastrand::u64(1..))
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;
    use crate::progress::Post;

    fn item(context: Option<&str>) -> Item {
        Item {
            pipeline: "p".to_owned(),
            place: Place::Queue("q".to_owned()),
            id: "a".to_owned(),
            source: "/s".to_owned(),
            content: [7; 16],
            context: context.map(|parent| TraceContext { parent: parent.to_owned(), state: None }),
            since: SystemTime::UNIX_EPOCH,
        }
    }

    fn recorder(sampler: Sampler) -> Arc<Recorder> {
        Recorder::new(sampler, 10, true, crate::telemetry::Metrics::new().traces()).0
    }

    /// A person sees that the attempt still runs, and how far it is.
    #[test]
    fn a_running_attempt_has_a_start_and_then_heartbeats_with_its_progress() {
        let recorder = recorder(Sampler::AlwaysOn);
        let report = Arc::new(Report::new(None, None));
        report.begin();
        let attempt = Attempt { number: 1, redelivered: false, report: Some(report.clone()) };
        let running = recorder.begin(item(None), attempt).unwrap();
        let (start, kinds) = (Instant::now(), |records: &[Record]| -> Vec<Kind> {
            records.iter().map(|record| record.kind).collect()
        });
        let first = recorder.due(start);
        assert_eq!(kinds(&first), [Kind::Start]);
        assert!(recorder.due(start + HEARTBEAT - Duration::from_secs(1)).is_empty());
        let post: Post = serde_json::from_str(r#"{"percent": 40}"#).unwrap();
        report.take(post, 1000).unwrap();
        let second = recorder.due(start + HEARTBEAT);
        assert_eq!((kinds(&second), second[0].reported.percent), (vec![Kind::Heartbeat], Some(40.0)));
        assert_eq!(
            (second[0].attempt.span, second[0].attempt.ids.trace),
            (first[0].attempt.span, first[0].attempt.ids.trace)
        );
        assert_eq!(recorder.due(start + HEARTBEAT * 2).len(), 1);
        drop(running);
        assert!(recorder.due(start + HEARTBEAT * 9).is_empty(), "an attempt that was cut is silent");
    }

    #[test]
    fn messages_that_come_from_an_item_have_its_span_as_their_parent() {
        let producer = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (all, none) = (recorder(Sampler::AlwaysOn), recorder(Sampler::AlwaysOff));
        let ids = Ids::of(&item(Some(producer)));
        let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", ids.item);
        assert_eq!(all.context(&item(Some(producer))).unwrap().parent, expected);
        assert_eq!(none.context(&item(Some(producer))), None, "the producer's own context passes on");
        assert!(none.context(&item(None)).unwrap().parent.ends_with("-00"));
    }
}
