//! The loops that send spans and records. A receiver that is away costs at most what the queues
//! hold.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::logs::LoggerProvider;
use opentelemetry_otlp::{LogExporter as OtlpLogs, SpanExporter as OtlpSpans};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::TraceCounts;
use super::http::Fault;
use super::recorder::{Queues, Recorder};
use super::settings::Settings;
use super::span::{Record, scope};
use crate::connect::http::shown_text;

/// The time between two looks for records that are due. A running attempt is visible after it.
const TICK: Duration = Duration::from_secs(1);

/// The pauses before a batch of spans is sent again. After the last one it is dropped.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

const FIRST_REMINDER: Duration = Duration::from_secs(60);
const LAST_REMINDER: Duration = Duration::from_secs(3600);

/// Sends everything that the recorder records.
pub struct Sending {
    spans: Spans,
    records: Option<Records>,
}

struct Spans {
    queue: mpsc::Receiver<SpanData>,
    exporter: OtlpSpans,
    batch: usize,
    delay: Duration,
    post: Post,
}

struct Records {
    recorder: Arc<Recorder>,
    starts: mpsc::Receiver<Record>,
    exporter: OtlpLogs,
    logger: SdkLogger,
    batch: usize,
    post: Post,
}

/// The result of the requests for one signal.
struct Post {
    signal: &'static str,
    endpoint: String,
    fault: Fault,
    sent: Counter,
    dropped: Counter,
    trouble: Option<Trouble>,
}

/// Requests that fail, one after the other.
struct Trouble {
    since: Instant,
    next: Instant,
    interval: Duration,
}

impl Sending {
    pub(super) fn new(
        settings: &Settings,
        replica: &str,
        recorder: Arc<Recorder>,
        queues: Queues,
        (mut exporter, fault): (OtlpSpans, Fault),
        records: Option<(OtlpLogs, Fault)>,
    ) -> Self {
        let resource = resource(settings, replica);
        exporter.set_resource(&resource);
        let TraceCounts { spans_sent, spans_dropped, records_sent, records_dropped } =
            recorder.counts().clone();
        let post = Post::new("spans", &settings.spans, fault, spans_sent, spans_dropped);
        let (batch, delay) = (settings.batch, settings.delay);
        let spans = Spans { queue: queues.spans, exporter, batch, delay, post };
        let records = records.zip(queues.starts).zip(settings.records.as_ref());
        let records = records.map(|(((mut exporter, fault), starts), endpoint)| {
            exporter.set_resource(&resource);
            let logger = SdkLoggerProvider::builder().build().logger_with_scope(scope());
            let post = Post::new("records", endpoint, fault, records_sent, records_dropped);
            Records { recorder, starts, exporter, logger, batch, post }
        });
        Sending { spans, records }
    }

    pub async fn run(self, stop: CancellationToken) {
        let Sending { spans, records } = self;
        let records = async {
            if let Some(records) = records {
                records.run(&stop).await;
            }
        };
        tokio::join!(spans.run(&stop), records);
    }
}

/// The description of this process. The variables win over our own names.
fn resource(settings: &Settings, replica: &str) -> Resource {
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", replica.to_owned()),
    ];
    let named = Resource::builder().build();
    let own = own.into_iter().filter(|own| named.get_ref(&own.key).is_none());
    let builder = Resource::builder().with_attributes(own);
    if settings.is_unnamed { builder.with_service_name("longhaul").build() } else { builder.build() }
}

impl Spans {
    async fn run(mut self, stop: &CancellationToken) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                () = collect(&mut self.queue, &mut batch, self.batch, self.delay) => {}
                () = stop.cancelled() => {}
            }
            let is_last = stop.is_cancelled();
            while is_last && let Ok(span) = self.queue.try_recv() {
                batch.push(span);
            }
            for batch in batch.chunks(self.batch) {
                self.send(batch, stop).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn send(&mut self, batch: &[SpanData], stop: &CancellationToken) {
        let mut pauses = PAUSES.into_iter();
        while let Err(error) = self.exporter.export(batch.to_vec()).await {
            let is_passing = self.post.failed(&error);
            let pause = pauses.next().filter(|_| is_passing && !stop.is_cancelled());
            let Some(pause) = pause else {
                self.post.dropped.inc_by(batch.len() as u64);
                return;
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        self.post.succeeded(batch.len());
    }
}

/// Waits for a first span, and then at most `delay` for more of them.
async fn collect(
    queue: &mut mpsc::Receiver<SpanData>,
    batch: &mut Vec<SpanData>,
    most: usize,
    delay: Duration,
) {
    if queue.recv_many(batch, most).await == 0 {
        // The recorder is gone. Only the stop ends the loop.
        return std::future::pending().await;
    }
    let end = Instant::now() + delay;
    while batch.len() < most {
        match timeout_at(end, queue.recv_many(batch, most - batch.len())).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

impl Records {
    async fn run(mut self, stop: &CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => {}
            }
            let is_last = stop.is_cancelled();
            let mut due = self.recorder.due(Instant::now());
            while let Ok(start) = self.starts.try_recv() {
                due.push(start);
            }
            while !due.is_empty() {
                let rest = due.split_off(due.len().min(self.batch));
                self.send(std::mem::replace(&mut due, rest)).await;
            }
            if is_last {
                return;
            }
        }
    }

    /// Sends records once. A lost record costs little: the next heartbeat follows.
    async fn send(&mut self, batch: Vec<Record>) {
        let scope = scope();
        let records: Vec<_> = batch.into_iter().map(|record| record.into_record(&self.logger)).collect();
        let batch: Vec<_> = records.iter().map(|record| (record, &scope)).collect();
        match self.exporter.export(LogBatch::new(&batch)).await {
            Ok(()) => self.post.succeeded(records.len()),
            Err(error) => {
                self.post.failed(&error);
                self.post.dropped.inc_by(records.len() as u64);
            }
        }
    }
}

impl Post {
    fn new(signal: &'static str, endpoint: &str, fault: Fault, sent: Counter, dropped: Counter) -> Self {
        let endpoint = shown_text(endpoint);
        Post { signal, endpoint, fault, sent, dropped, trouble: None }
    }

    /// Warns of the first failure, and then at growing intervals. Returns whether the request may
    /// succeed later.
    fn failed(&mut self, error: &dyn Display) -> bool {
        let reason = self.fault.take();
        let text = reason.as_ref().map_or_else(|| error.to_string(), |reason| reason.text.clone());
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert(Trouble { since: now, next: now, interval: FIRST_REMINDER });
        if now >= trouble.next {
            trouble.next = now + trouble.interval;
            trouble.interval = (trouble.interval * 2).min(LAST_REMINDER);
            tracing::warn!(
                endpoint = self.endpoint,
                signal = self.signal,
                error = text,
                seconds = (now - trouble.since).as_secs(),
                dropped = self.dropped.get(),
                help = help(self.signal),
                "The receiver of traces takes none; items are delivered as before"
            );
        }
        reason.is_none_or(|reason| reason.is_passing)
    }

    fn succeeded(&mut self, count: usize) {
        self.sent.inc_by(count as u64);
        if let Some(trouble) = self.trouble.take() {
            let seconds = trouble.since.elapsed().as_secs();
            tracing::info!(
                signal = self.signal,
                seconds,
                dropped = self.dropped.get(),
                "The receiver of traces works again"
            );
        }
    }
}

fn help(signal: &str) -> &'static str {
    match signal {
        "spans" => "check OTEL_EXPORTER_OTLP_ENDPOINT: http/protobuf usually has the port 4318",
        _ => "set OTEL_LOGS_EXPORTER=none if the receiver takes no logs",
    }
}
