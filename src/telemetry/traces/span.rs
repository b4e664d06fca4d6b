//! The spans and the log records. Names and attributes follow the OpenTelemetry conventions for
//! messaging; our own attributes begin with `longhaul.`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, Severity};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::ids::Ids;
use super::{AttemptEnd, Item, ItemEnd, Place};
use crate::progress::Reported;

/// Characters of a text in a span or a record. The queues count records, so this bounds their
/// memory.
const TEXT_MAX: usize = 256;

/// An attempt without its end.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub ids: Ids,
    pub span: SpanId,
    pub began: SystemTime,
    pub attributes: Arc<[KeyValue]>,
}

/// A log record about a running attempt.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub attempt: Started,
    pub kind: Kind,
    pub at: SystemTime,
    pub reported: Reported,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    Heartbeat,
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("longhaul").with_version(env!("CARGO_PKG_VERSION")).build()
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// The attributes that all spans and records of an item have.
pub(super) fn of_item(item: &Item) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("longhaul.pipeline", short(&item.pipeline)),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.message.id", short(&item.id)),
        KeyValue::new("cloudevents.event_id", short(&item.id)),
        KeyValue::new("cloudevents.event_source", short(&item.source)),
    ];
    match &item.place {
        Place::Queue(queue) => attributes.extend([
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.destination.name", short(queue)),
        ]),
        Place::Partition { topic, partition, offset } => attributes.extend([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.destination.name", short(topic)),
            KeyValue::new("messaging.destination.partition.id", partition.to_string()),
            KeyValue::new("messaging.kafka.offset", *offset),
        ]),
    }
    attributes
}

/// A span of an item's trace, as far as all its spans are alike.
fn blank(ids: &Ids, span: SpanId) -> SpanData {
    SpanData {
        span_context: SpanContext::new(ids.trace, span, ids.flags(true), false, ids.state()),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "".into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope(),
    }
}

/// The span of an item that has ended.
pub(super) fn item(item: &Item, ids: &Ids, end: &ItemEnd, ended: SystemTime) -> SpanData {
    let mut attributes = of_item(item);
    attributes.push(KeyValue::new("longhaul.end", end.state));
    attributes.push(KeyValue::new("longhaul.attempts", i64::from(end.attempts)));
    attributes.extend(end.reason.map(|reason| KeyValue::new("longhaul.reason", reason)));
    let destination = match &item.place {
        Place::Queue(queue) => queue,
        Place::Partition { topic, .. } => topic,
    };
    let status = if end.is_success { Status::Unset } else { Status::error(end.reason.unwrap_or(end.state)) };
    let parent = ids.producer();
    SpanData {
        parent_span_id: parent,
        parent_span_is_remote: parent != SpanId::INVALID,
        span_kind: SpanKind::Consumer,
        name: format!("process {}", short(destination)).into(),
        start_time: item.since.min(ended),
        end_time: ended,
        attributes,
        status,
        ..blank(ids, ids.item)
    }
}

/// The span of an attempt that has ended. Without an end the attempt was cut.
pub(super) fn attempt(
    started: &Started,
    took: Duration,
    end: Option<AttemptEnd<'_>>,
    reported: &Reported,
) -> SpanData {
    let mut attributes = started.attributes.to_vec();
    attributes.extend(worker(reported));
    let outcome = end.map_or("cut", |end| end.outcome);
    attributes.push(KeyValue::new("longhaul.outcome", outcome));
    let status = end.and_then(|end| end.status);
    attributes.extend(status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
    let status = match end {
        Some(end) if end.is_success => Status::Unset,
        Some(end) => Status::error(short(end.detail)),
        None => Status::error("the request was cut"),
    };
    if status != Status::Unset {
        attributes.push(KeyValue::new("error.type", outcome));
    }
    let Started { ids, span, began, .. } = started;
    SpanData {
        parent_span_id: ids.item,
        span_kind: SpanKind::Client,
        name: "attempt".into(),
        start_time: *began,
        end_time: began.checked_add(took).unwrap_or(*began),
        attributes,
        status,
        ..blank(ids, *span)
    }
}

/// The latest report of the worker.
fn worker(reported: &Reported) -> Vec<KeyValue> {
    let percent = reported.percent.map(|percent| KeyValue::new("longhaul.progress.percent", percent));
    let note = reported.note.as_ref().map(|note| KeyValue::new("longhaul.progress.note", short(note)));
    let pod = reported.pod.as_ref().map(|pod| KeyValue::new("k8s.pod.name", short(pod)));
    [percent, note, pod].into_iter().flatten().collect()
}

impl Record {
    /// Makes the record of the library. A logger is the only way to one.
    pub fn into_record(self, logger: &SdkLogger) -> SdkLogRecord {
        let Record { attempt, kind, at, reported } = self;
        let mut record = logger.create_log_record();
        let (name, body) = match kind {
            Kind::Start => ("longhaul.attempt.start", "Attempt started"),
            Kind::Heartbeat => ("longhaul.attempt.heartbeat", "Attempt still runs"),
        };
        record.set_event_name(name);
        record.set_body(AnyValue::from(body));
        record.set_timestamp(at);
        record.set_observed_timestamp(at);
        record.set_severity_number(Severity::Info);
        record.set_severity_text("INFO");
        record.set_trace_context(attempt.ids.trace, attempt.span, Some(attempt.ids.flags(true)));
        let seconds = at.duration_since(attempt.began).unwrap_or_default().as_secs_f64();
        record.add_attribute("longhaul.seconds", seconds);
        for KeyValue { key, value, .. } in attempt.attributes.iter().cloned().chain(worker(&reported)) {
            let value = match value {
                Value::Bool(it) => AnyValue::from(it),
                Value::I64(it) => AnyValue::from(it),
                Value::F64(it) => AnyValue::from(it),
                other => AnyValue::from(other.as_str().into_owned()),
            };
            record.add_attribute(key, value);
        }
        record
    }
}
