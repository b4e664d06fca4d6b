//! The traces at a receiver that decodes the real protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::eventually;
use crate::support::process::Longhaul;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PRODUCER: &str = "00f067aa0ba902b7";

/// A receiver of OTLP over HTTP.
#[derive(Clone, Default)]
struct Receiver {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    records: Arc<Mutex<Vec<LogRecord>>>,
    services: Arc<Mutex<Vec<String>>>,
    /// The replicas that sent a span of an item, by trace.
    replicas: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let receiver = Receiver { url, ..Receiver::default() };
        let router = axum::Router::new()
            .route("/v1/traces", post(take_spans))
            .route("/v1/logs", post(take_records))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.url.clone()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=bridge,team=a".to_owned()),
        ]
    }

    fn spans(&self, name: &str) -> Vec<Span> {
        let mut spans = self.spans.lock().unwrap().clone();
        spans.retain(|span| span.name.starts_with(name));
        spans
    }

    fn records(&self, event: &str) -> Vec<LogRecord> {
        let mut records = self.records.lock().unwrap().clone();
        records.retain(|record| record.event_name == event);
        records
    }
}

async fn take_spans(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if headers.get("authorization").is_none_or(|value| value != "Bearer secret") {
        return StatusCode::UNAUTHORIZED;
    }
    for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        receiver.services.lock().unwrap().push(text(&attributes, "service.name"));
        let spans: Vec<Span> = resource.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
        for span in &spans {
            let mut replicas = receiver.replicas.lock().unwrap();
            replicas.entry(hex(&span.trace_id)).or_default().insert(text(&attributes, "service.instance.id"));
        }
        receiver.spans.lock().unwrap().extend(spans);
    }
    StatusCode::OK
}

async fn take_records(State(receiver): State<Receiver>, body: Bytes) -> StatusCode {
    for resource in ExportLogsServiceRequest::decode(body).unwrap().resource_logs {
        let records = resource.scope_logs.into_iter().flat_map(|scope| scope.log_records);
        receiver.records.lock().unwrap().extend(records);
    }
    StatusCode::OK
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|it| it.key == key).and_then(|it| it.value.as_ref());
    match value {
        Some(AnyValue { value: Some(Any::StringValue(text)) }) => text.clone(),
        Some(AnyValue { value: Some(Any::IntValue(number)) }) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A worker that fails the first request, never answers the second one, and does the third.
#[derive(Clone, Default)]
struct Worker {
    parents: Arc<Mutex<Vec<String>>>,
    never: Arc<Notify>,
}

impl Worker {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(work).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn requests(&self) -> usize {
        self.parents.lock().unwrap().len()
    }
}

async fn work(State(worker): State<Worker>, headers: HeaderMap) -> StatusCode {
    let number = {
        let mut parents = worker.parents.lock().unwrap();
        parents.push(headers["traceparent"].to_str().unwrap().to_owned());
        parents.len()
    };
    match number {
        1 => StatusCode::INTERNAL_SERVER_ERROR,
        2 => {
            worker.never.notified().await;
            StatusCode::OK
        }
        _ => StatusCode::OK,
    }
}

/// Acceptance check 4 of the tools.
async fn a_trace_is_complete(backlog: &impl Backlog, has_producer: bool) {
    let (receiver, worker) = (Receiver::start().await, Worker::default());
    let config = config(backlog, &worker.start().await);
    let variables = receiver.variables();

    let first = Longhaul::run_with(&config, "info", &variables);
    eventually("the second attempt", async || worker.requests() == 2).await;
    eventually("both starts", async || receiver.records("longhaul.attempt.start").len() == 2).await;
    eventually("the failed attempt", async || receiver.spans("attempt").len() == 1).await;
    // The running attempt is visible before its end, with the ids that its worker got.
    let seen: Vec<String> =
        receiver.records("longhaul.attempt.start").iter().map(|it| hex(&it.span_id)).collect();
    let parents = worker.parents.lock().unwrap().clone();
    assert!(seen.iter().any(|span| parents[1].contains(span.as_str())), "{seen:?} {parents:?}");
    first.kill().await;

    let second = Longhaul::run_with(&config, "info", &variables);
    eventually("the item's end", async || receiver.spans("process").len() == 1).await;
    second.stop().await;

    let (attempts, item) = (receiver.spans("attempt"), receiver.spans("process").remove(0));
    let outcomes: Vec<String> =
        attempts.iter().map(|span| text(&span.attributes, "longhaul.outcome")).collect();
    assert_eq!(outcomes, ["failed", "done"], "the killed attempt has a start record only");
    let parents = worker.parents.lock().unwrap().clone();
    assert_eq!(parents.len(), 3);
    for span in &attempts {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&item.trace_id, &item.span_id));
    }
    for record in receiver.records("longhaul.attempt.start") {
        assert_eq!(record.trace_id, item.trace_id);
    }
    for parent in &parents {
        assert!(parent.starts_with(&format!("00-{}-", hex(&item.trace_id))), "{parent}");
    }
    if has_producer {
        assert_eq!((hex(&item.trace_id), hex(&item.parent_span_id)), (TRACE.to_owned(), PRODUCER.to_owned()));
    } else {
        assert!(item.parent_span_id.is_empty());
    }
    assert_eq!(text(&item.attributes, "longhaul.end"), "done");
    assert_eq!(receiver.services.lock().unwrap()[0], "bridge");
}

fn config(backlog: &impl Backlog, worker: &str) -> String {
    format!(
        "pipelines: [{{ name: traced, source: {}, sink: {{ url: '{worker}' }}, max_in_flight: 2, on_failed: hold, \
         retry: {{ backoff: 100ms, unknown_backoff: 100ms }} }}]",
        backlog.source()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_items_have_one_trace_across_a_retry_and_a_restart() {
    let queue = Rabbitmq::create().await;
    let mut headers = FieldTable::default();
    let parent = format!("00-{TRACE}-{PRODUCER}-01");
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
    let properties = BasicProperties::default().with_headers(headers).with_message_id("one".into());
    queue.0.publish(b"one", properties).await;
    a_trace_is_complete(&queue, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_items_without_a_producers_context_have_one_trace_too() {
    let topic = Kafka::create().await;
    topic.fill([b"one".to_vec()].into_iter()).await;
    a_trace_is_complete(&topic, false).await;
}

/// A receiver that is away, and then one that never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_delays_no_item() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for endpoint in [closed, silent.local_addr().unwrap()] {
        let (queue, worker) = (Rabbitmq::create().await, Worker::default());
        worker.parents.lock().unwrap().extend([String::new(), String::new()]);
        queue.fill((0..200).map(|number: u32| number.to_string().into_bytes())).await;
        let config = config(&queue, &worker.start().await);
        let variables = [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("http://{endpoint}/traces?api-key=hunter2")),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", format!("http://{endpoint}/logs?api-key=hunter2")),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "1".to_owned()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000".to_owned()),
        ];
        let bridge = Longhaul::run_with(&config, "info", &variables);
        eventually("all items", async || worker.requests() == 202).await;
        eventually("an empty queue", async || queue.left().await == 0).await;
        eventually("a warning", async || bridge.log().contains("The receiver of traces takes none")).await;
        let log = bridge.log();
        bridge.stop().await;
        assert!(log.matches("The receiver of traces takes none").count() <= 2, "one for each signal: {log}");
        assert!(log.contains("/traces") && !log.contains("hunter2"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_is_not_supported_is_refused() {
    let queue = Rabbitmq::create().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://receiver:4317".to_owned()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned()),
    ];
    let mut bridge = Longhaul::run_with(&config(&queue, "http://127.0.0.1:9/"), "info", &variables);
    assert_eq!(bridge.wait().await.code(), Some(78));
    assert!(bridge.log().contains("OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\" is not supported"));
}

/// The error names the variable, and shows no part that may be secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_endpoint_or_header_is_refused_without_its_secret() {
    let queue = Rabbitmq::create().await;
    let config = config(&queue, "http://127.0.0.1:9/");
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@receiver:port"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@receiver:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[receiver?key=hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer hunter2"),
    ] {
        let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://receiver:4318".to_owned())];
        variables.retain(|(name, _)| *name != variable);
        variables.push((variable, value.to_owned()));
        let mut bridge = Longhaul::run_with(&config, "debug", &variables);
        assert_eq!(bridge.wait().await.code(), Some(78), "{variable}: {}", bridge.log());
        let log = bridge.log();
        assert!(log.contains("OTEL_EXPORTER_OTLP_") && log.contains("help: "), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
    queue.remove().await;
}

/// The attempts of an item are in both replicas, because its wait is parked in the broker.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_moves_between_two_replicas_has_one_trace() {
    const ITEMS: usize = 12;
    let (queue, receiver) = (Rabbitmq::create().await, Receiver::start().await);
    queue.fill((0..ITEMS).map(|number| number.to_string().into_bytes())).await;
    let seen: Arc<Mutex<BTreeMap<Bytes, usize>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let worker = format!("http://{}/", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(async move |body: Bytes| {
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(body).or_default();
        *times += 1;
        if *times < 4 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let config = config(&queue, &worker)
        .replace("backoff: 100ms,", &format!("queue: {}.retry, backoff: 1s, backoff_max: 1s,", queue.name()));
    let replicas = ["one", "two"].map(|name| {
        let mut variables = receiver.variables();
        variables.push(("HOSTNAME", name.to_owned()));
        Longhaul::run_with(&config, "info", &variables)
    });
    eventually("the ends of all items", async || receiver.spans("process").len() == ITEMS).await;
    eventually("all attempts", async || receiver.spans("attempt").len() == 4 * ITEMS).await;
    for replica in replicas {
        replica.stop().await;
    }
    for item in receiver.spans("process") {
        let attempts = receiver.spans("attempt");
        let own = attempts.iter().filter(|span| span.trace_id == item.trace_id);
        let mut numbers: Vec<String> = own
            .inspect(|span| assert_eq!(span.parent_span_id, item.span_id))
            .map(|span| text(&span.attributes, "longhaul.attempt"))
            .collect();
        numbers.sort();
        assert_eq!(numbers, ["1", "2", "3", "4"]);
    }
    let moved = receiver.replicas.lock().unwrap().values().filter(|replicas| replicas.len() == 2).count();
    assert!(moved > 0, "no item was in both replicas: {:?}", receiver.replicas.lock().unwrap());
    queue.remove().await;
}

/// The reply continues the trace, with and without traces of our own.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_continues_the_trace_of_its_item() {
    let receiver = Receiver::start().await;
    for variables in [receiver.variables(), Vec::new()] {
        let (queue, replies) = (Rabbitmq::create().await, Kafka::create().await);
        let parent = format!("00-{TRACE}-{PRODUCER}-01");
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(parent.as_str().into()));
        headers.insert("tracestate".into(), AMQPValue::LongString("vendor=1".into()));
        queue.0.publish(b"one", BasicProperties::default().with_headers(headers)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(
            async move { axum::serve(listener, axum::Router::new().fallback(async || "made")).await },
        );
        let target = replies.target().replacen('{', "{ wrap: true,", 1);
        let config =
            config(&queue, &worker).replace("max_in_flight", &format!("reply: {target}, max_in_flight"));
        let bridge = Longhaul::run_with(&config, "info", &variables);
        eventually("a reply", async || replies.left().await == 1).await;
        bridge.stop().await;
        let reply = replies.messages(1).await.remove(0);
        let text = |name| reply.header(name).and_then(longhaul::event::Value::plain);
        assert_eq!(text("tracestate").as_deref(), Some("vendor=1"));
        let expected = match variables.is_empty() {
            true => parent,
            false => format!("00-{TRACE}-{}-01", hex(&receiver.spans("process").remove(0).span_id)),
        };
        assert_eq!(text("traceparent"), Some(expected));
        queue.remove().await;
        replies.remove().await;
    }
}
