use super::*;
use crate::config::{OnFailed, Order, QueueKind, Span};

const PRODUCT: &str = r#"
pipelines:
  - name: thumbnails
    source:
      rabbitmq:
        url: "amqp://${file:FILE}"
        queue: ${env:QUEUE}
        declare: { type: classic, arguments: { x-consumer-timeout: 43200000 }, bind: [{ exchange: e }] }
    sink:
      url: http://thumbs.default.svc.cluster.local
      host: thumbs.default.example.com
      timeout: 4h
      headers: { Authorization: "Bearer ${file:FILE}" }
    max_in_flight: ${env:SLOTS}          # per replica
    retry: { attempts: 5, backoff: 10s, backoff_max: 10m, unknown_backoff: 30s, worker_time_budget: 6h, not_started_for: 24h }
    on_unknown: retry
    dead_letter: { rabbitmq: { queue: thumbnails.dead } }
    reply: { kafka: { bootstrap_servers: [kafka:9092], topic: thumbnails.done } }
    breaker: { failures: 20, open: 60s }
    limits: { item_bytes: 16MiB, held_bytes: 256MiB, held_max: 5 }
  - name: records
    source:
      kafka:
        bootstrap_servers: ["a:9092,b:9092", "[::1]:9092"]
        topics: [thumbnails, "^orders-.+$"]
        group: thumbnails
        order: key
        start: earliest
        options: { security.protocol: sasl_ssl, socket.nagle.disable: true, fetch.wait.max.ms: 100 }
    sink:
      url: https://thumbs
    max_in_flight: 1
    on_failed: drop
admin: { listen: 0.0.0.0:9090, token: "${env:TOKEN}" }
drain: { timeout: 4h }
"#;

#[test]
fn the_documented_example_loads_without_a_warning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ann:pw@mq\n").unwrap();
    let Loaded { config, warnings } = loaded(&PRODUCT.replace("FILE", &file.path().display().to_string()));
    // The tests' token is short on purpose, so it gives a warning.
    let warnings = warnings.to_string();
    assert!(
        warnings.matches("warning").count() == 1 && warnings.contains("admin.token: the token has 7"),
        "{warnings}"
    );

    let rabbitmq = config.pipelines[0].source.rabbitmq.as_ref().unwrap();
    assert_eq!(rabbitmq.queue, "thumbnails");
    assert_eq!(rabbitmq.url.resolve().unwrap(), "amqp://ann:pw@mq");
    assert_eq!(rabbitmq.declare.as_ref().unwrap().kind, QueueKind::Classic);
    assert_eq!(rabbitmq.declare.as_ref().unwrap().arguments["x-consumer-timeout"], 43_200_000);
    assert_eq!(config.pipelines[0].max_in_flight, 20);
    let kafka = config.pipelines[1].source.kafka.as_ref().unwrap();
    assert_eq!((kafka.order, kafka.session_timeout), (Order::Key, Span::from_secs(6)));
    assert_eq!(kafka.options["fetch.wait.max.ms"].resolve().unwrap(), "100");
    assert_eq!(config.pipelines[1].on_failed, OnFailed::Drop);
    assert_eq!(config.admin.token.unwrap().resolve_with(&env).unwrap(), "hunter2");
}

#[test]
fn empty_keys_and_aliases_are_fine() {
    let text = "
pipelines:
- &first
  name: a
  source: { rabbitmq: { url: &mq amqp://mq, queue: q, declare: } }
  sink: &sink
    url: http://s
    headers:
  max_in_flight: 1
  dead_letter:
  on_failed: hold
- name: b
  source: { rabbitmq: { url: *mq, queue: r } }
  sink: *sink
  max_in_flight: 1
  on_failed: hold
admin:
";
    let config = loaded(text).config;
    assert_eq!(config.pipelines[1].sink.url.as_deref(), Some("http://s"));
    assert!(config.pipelines[0].dead_letter.is_none());
}

#[test]
fn k_sink_stands_in_for_the_address() {
    let with = |url: &'static str| {
        load("f.yaml", &rabbitmq(""), ALL, &|name| (name == "K_SINK").then(|| url.into()))
    };
    assert!(with("http://sink").is_ok());
    assert!(with("sink").unwrap_err().to_string().contains("the variable K_SINK: this is not a URL"));
}

#[test]
fn what_may_not_be_meant_is_a_warning() {
    let text = rabbitmq(
        "  sink: { url: http://s, timeout: 7h, tls: { ca_file: /dev/null } }
  dead_letter: { rabbitmq: { url: amqp://mq/, queue: d, tls: { ca_file: /dev/null } } }
  on_failed: hold",
    )
    .replace("queue: q", "queue: q, declare: { arguments: { x-delivery-limit: -1 } }");
    let expected = [
        "source.rabbitmq.declare.arguments.x-delivery-limit: -1 means no limit from RabbitMQ 4.0 on; before, the queue drops an item at its first return",
        "retry.worker_time_budget: an attempt may take `sink.timeout` (7h), longer than all attempts together (6h)",
        "sink.timeout: a request may take longer (7h) than `drain.timeout` (4h): a stop would cut it",
        "dead_letter.rabbitmq.url: the URI ends with `/`",
        "dead_letter.rabbitmq.tls: certificates have no effect with `amqp://`",
        "on_failed: this has no effect, since `dead_letter`",
    ];
    let warnings = brief(&loaded(&text).warnings);
    for expected in expected {
        let found = warnings.iter().any(|warning| warning.starts_with(&format!("pipelines[0].{expected}")));
        assert!(found, "{expected} is not in {warnings:#?}");
    }
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
}
