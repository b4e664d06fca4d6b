//! Breaks each rule about values with one file. The first key of `path` is always that of the only
//! pipeline.

use super::*;

const SINK: &str = "  sink: { url: http://s }\n";

/// Asserts that the file has exactly these mistakes; each is looked for in `path: reason | help`.
#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let Err(mistakes) = load("f", text, ALL, &env) else { panic!("this loads:\n{text}") };
    let brief: Vec<_> = brief(&mistakes).iter().map(|it| it.replace("pipelines[0].", "")).collect();
    assert_eq!(brief.len(), expected.len(), "{brief:#?}");
    for (found, expected) in brief.iter().zip(expected) {
        assert!(found.contains(expected), "{expected} is not in {found}");
    }
}

fn sink(keys: &str) -> String {
    rabbitmq(&format!("  sink: {{ url: http://s, {keys} }}"))
}

fn kafka(keys: &str) -> String {
    format!(
        "pipelines:\n- name: a\n  source: {{ kafka: {{ group: g, topics: [t], {keys} }} }}\n{SINK}  max_in_flight: 1\n"
    )
}

#[test]
fn the_rabbitmq_uri() {
    for (uri, expected) in [
        ("http://mq", "neither `amqp://` nor `amqps://`"),
        ("amqp://", "names no host"),
        ("mq", "this is not a URI"),
        ("amqp://u:a/b@mq", "this is not a URI | write amqp://user:password@host:5672/vhost, with /, @"),
        (
            "amqp://mq?heartbeat=x",
            "a number behind the `?` is not one, or out of range | write it as in ?heartbeat=60",
        ),
        ("amqp://mq?channel_max=2", "out of range | write at least ?channel_max=8"),
        ("amqp://mq?frame_max=16777216", "out of range | write bytes from 4096 to 1048576"),
        ("amqp://mq?heartbeta=5", "a parameter behind the `?` is unknown"),
        ("amqp://mq?verify=verify_none", "has no effect | name certificates under `tls:`"),
        ("amqp://mq?auth_mechanism=plane", "the `auth_mechanism` is unknown"),
        ("amqp://mq?heartbeat=5&heartbeat=6", "given twice"),
        ("'amqp://u:12/34@mq'", "an `@` behind the first `/` or `?`"),
        ("'amqp://u:12?34@mq'", "an `@` behind the first `/` or `?`"),
        ("'amqp://u:12#34@mq'", "everything from the `#` on"),
        ("'amqp://u:12#34@mq:5672/v?heartbeat=5'", "everything from the `#` on"),
        ("'amqp://u:100%@mq'", "a `%` is not followed by two hexadecimal digits"),
        ("'amqp://u:%ff@mq'", "not UTF-8"),
        ("'amqp://u:a b@mq'", "a space or a control character"),
    ] {
        refused(&rabbitmq(SINK).replace("amqp://mq", uri), &[expected]);
    }
    for uri in [
        "amqps://u:p%2F@mq:5671/vhost?heartbeat=60",
        "amqp://10.0.0.1/%2F?frame_max=131072",
        "'amqp://[::1]:5672'",
        "amqp://u:a@b:c@mq/v?auth_mechanism=external&connection_timeout=5000",
    ] {
        loaded(&rabbitmq(SINK).replace("amqp://mq", uri));
    }
}

#[test]
fn what_is_declared_and_published_to() {
    refused(
        &rabbitmq(SINK)
            .replace("queue: q", "queue: q, declare: { type: stream, arguments: { x-queue-type: a } }"),
        &[
            "declare.type: `stream` is none of the known values | write one of `quorum` and `classic`",
            "the key `type` says",
        ],
    );
    for (keys, expected) in [
        ("dead_letter: { rabbitmq: { queue: a, exchange: b } }", "only one of `queue` or `exchange`"),
        ("dead_letter: { rabbitmq: { routing_key: b } }", "one of `queue` or `exchange` must be given"),
        ("dead_letter: { rabbitmq: { queue: a, routing_key: b } }", "a routing key has no use"),
        ("dead_letter: { rabbitmq: , kafka: }", "one of `rabbitmq`, `kafka` or `http` must be given"),
        ("dead_letter: { http: { url: s } }", "http.url: this is not a URL"),
        (
            "dead_letter: { http: { url: http://s, headers: { Expect: x } } }",
            "queue-proxy turns every failure",
        ),
        ("dead_letter: { http: { url: http://s, timeout: 1h } }", "`1h` is out of range"),
        ("reply: { http: { url: http://s } }", "unknown key `http`"),
        (
            "dead_letter: { kafka: { topic: t } }",
            "kafka.bootstrap_servers: the key `bootstrap_servers` is missing",
        ),
    ] {
        refused(&rabbitmq(&format!("{SINK}  {keys}")), &[expected]);
    }
    let to_rabbitmq = kafka("bootstrap_servers: [k:9092]") + "  dead_letter: { rabbitmq: { queue: d } }";
    refused(&to_rabbitmq, &["dead_letter.rabbitmq.url: the key `url` is missing: the source is Kafka"]);
}

#[test]
fn kafka_brokers_topics_and_options() {
    refused(
        &kafka("bootstrap_servers: ['http://k:9092', k, 'k:9092,']"),
        &[
            "[0]: a broker's address has no `://`",
            "[1]: this is not a `host:port`",
            "[2]: this is not a `host:port`",
        ],
    );
    let with = |keys: &str| kafka(&format!("bootstrap_servers: [k:9092], {keys}"));
    refused(
        &with("").replace("[t]", "[a/b, '', '^(']"),
        &["topics[0]: this cannot be", "topics[1]: this", "topics[2]: this is not a reg"],
    );
    refused(&with("session_timeout: 999ms"), &["`999ms` is out of range | write a duration from 1s to 5m"]);
    refused(&with("stuck_head: { report_after: 0s }"), &["`0s` is out of range"]);
    refused(&with("instance_id: ''"), &["instance_id: the text is empty"]);
    let skips = with("undecodable: skip");
    refused(&skips, &["undecodable: without `dead_letter` the skipped records are lost"]);
    refused(&(skips.clone() + "  on_failed: hold\n"), &["undecodable: without `dead_letter`"]);
    for place in ["on_failed: drop", "dead_letter: { kafka: { topic: d } }"] {
        let loaded = load("f", &format!("{skips}  {place}\n"), ALL, &env);
        assert!(loaded.is_ok(), "{place}");
    }
    for option in options_owned() {
        refused(&with(&format!("options: {{ {option}: x }}")), &[option]);
    }
    let producer = "reply: { kafka: { topic: t, bootstrap_servers: [k:9092], options: { acks: 1, transactional.id: x } } }";
    refused(
        &rabbitmq(&format!("{SINK}  {producer}")),
        &["options.acks: an item leaves", "\"transactional.id\": an"],
    );
}

#[test]
fn kafka_topics_that_would_run_what_nobody_enqueued() {
    let with = |topics: &str, keys: &str| {
        kafka("bootstrap_servers: ['k:9092,l:9092']").replace("[t]", topics) + keys
    };
    let letter = |topic: &str| format!("  dead_letter: {{ kafka: {{ topic: {topic} }} }}\n");
    refused(&with("[t, u, t]", ""), &["topics[2]: topics[0] is the same topic"]);
    refused(&with("['^.*']", ""), &["topics[0]: this matches Kafka's own topic __consumer_offsets"]);
    refused(
        &with("['^(?:a)']", ""),
        &["topics[0]: librdkafka's regular expressions do not know a group that starts"],
    );
    refused(&with("['^\\d+']", ""), &["topics[0]: librdkafka's regular expressions do not know a backslash"]);
    refused(
        &with("[t]", &letter("t")),
        &["dead_letter.kafka.topic: the source of this pipeline reads `t` too"],
    );
    refused(
        &with("['^t-.*']", &letter("t-dead")),
        &["dead_letter.kafka.topic: the source of this pipeline reads"],
    );
    let reply = "  reply: { kafka: { topic: t, bootstrap_servers: [l:9092] } }\n";
    refused(&with("[t]", reply), &["reply.kafka.topic: the source of this pipeline reads `t` too"]);
    let elsewhere = "  reply: { kafka: { topic: t, bootstrap_servers: [m:9092] } }\n";
    load("f", &with("[t]", elsewhere), ALL, &env).unwrap();
}

#[test]
fn kafka_items_that_would_go_round_through_another_pipeline() {
    let pipeline = |name: &str, topic: &str, letter: &str| {
        format!(
            "- name: {name}\n  source: {{ kafka: {{ bootstrap_servers: [k:9092], topics: [{topic}], group: g }} }}\n{SINK}  max_in_flight: 1\n  dead_letter: {{ kafka: {{ topic: {letter} }} }}\n"
        )
    };
    let all = |pipelines: [(&str, &str, &str); 3]| {
        let pipelines = pipelines.map(|(name, topic, letter)| pipeline(name, topic, letter)).concat();
        format!("pipelines:\n{pipelines}")
    };
    refused(
        &all([("a", "t", "u"), ("b", "u", "v"), ("c", "v", "t")]),
        &["dead_letter.kafka.topic: pipeline `c` reads"],
    );
    load("f", &all([("a", "t", "u"), ("b", "u", "v"), ("c", "v", "w")]), ALL, &env).unwrap();
}

#[test]
fn kafka_options_are_asked_of_librdkafka() {
    let with = |options: &str| kafka(&format!("bootstrap_servers: [k:9092], options: {{ {options} }}"));
    refused(
        &with("no.such.option: 1, fetch.wait.max.ms: soon"),
        &[
            "\"no.such.option\": librdkafka does not know",
            "\"fetch.wait.max.ms\": librdkafka refuses this value",
        ],
    );
    refused(
        &with("security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.mechanisms: PLAIN"),
        &["\"sasl.mechanisms\": `sasl.mechanism` is another name of the same option"],
    );
    refused(
        &with("sasl.username: u, sasl.password: p"),
        &["\"sasl.password\": this has no effect, because `security.protocol` is plaintext"],
    );
    refused(&with("security.protocol: ssl, sasl.username: u"), &["`security.protocol` is ssl"]);
    load("f", &with("security.protocol: sasl_plaintext, sasl.username: u"), ALL, &env).unwrap();
}

fn options_owned() -> [&'static str; 8] {
    [
        "enable.auto.commit",
        "enable.auto.offset.store",
        "group.id",
        "bootstrap.servers",
        "partition.assignment.strategy",
        "session.timeout.ms",
        "auto.offset.reset",
        "group.instance.id",
    ]
}

#[test]
fn what_this_build_lacks_is_named() {
    let text = kafka(
        "bootstrap_servers: [k:9092], options: { security.protocol: \"${env:PROTOCOL}\", ssl.ca.location: /x, sasl.mechanism: SCRAM-SHA-256 }",
    );
    let env = |name: &str| (name == "PROTOCOL").then(|| "SASL_SSL".to_owned());
    let load = |kafka, kafka_tls| load("f", &text, Features { kafka, kafka_tls, guard: false }, &env);
    let brief = |kafka| brief(&load(kafka, false).unwrap_err());
    assert_eq!(brief(true).len(), 3);
    assert!(
        brief(true)
            .iter()
            .all(|it| it.contains("without TLS and SASL/SCRAM for Kafka | use the released binary"))
    );
    assert!(brief(false)[0].contains("source.kafka: this program was built without Kafka"));
    assert!(load(true, true).is_ok());
}

#[test]
fn the_guard_needs_its_feature_and_a_short_wait() {
    let text = rabbitmq("  sink: { url: 'http://s' }")
        .replace("pipelines:", "guard: { namespace: jobs, after: 2h }\npipelines:");
    let load = |guard| load("f", &text, Features { kafka: true, kafka_tls: true, guard }, &|_| None);
    let without = brief(&load(false).unwrap_err());
    assert!(without[0].contains("guard: this program was built without the guard"), "{without:?}");
    let with = brief(&load(true).unwrap_err());
    assert_eq!(with.len(), 1, "{with:?}");
    assert!(with[0].contains("guard.after: `2h` is out of range"), "{with:?}");
}

#[test]
fn the_service() {
    for (url, expected) in [
        ("s", "sink.url: this is not a URL"),
        ("ftp://s", "neither `http://` nor `https://`"),
        ("http://u:p@s", "a user or password in the URL would be shown in logs"),
    ] {
        refused(&rabbitmq(&format!("  sink: {{ url: '{url}' }}")), &[expected]);
    }
    refused(&rabbitmq(""), &["sink.url: the key `url` is missing, and the variable K_SINK is not set"]);
    refused(&sink("host: 'http://x'"), &["sink.host: this is not a host name"]);
    refused(
        &sink("reject_on: [403, 200]"),
        &["sink.reject_on[1]: `200` is out of range | write a number from 300 to 599"],
    );
    refused(&sink("tls: { cert_file: /dev/null }"), &["sink.tls.cert_file: `key_file` is missing"]);
    refused(
        &sink("tls: { ca_file: /no/such }"),
        &["sink.tls.ca_file: this file cannot be read: No such file"],
    );
    refused(&sink("tls: { key_file: /dev/null }"), &["sink.tls.key_file: `cert_file` is missing"]);
    refused(
        &sink("timeout: 0s, connect_timeout: 0s, tcp_user_timeout: 25h"),
        &[
            "timeout: `0s` is out of",
            "connect_timeout: `0s` is",
            "`25h` is out of range | write a duration from 1s to 24h",
        ],
    );
}

#[test]
fn headers_that_harm_are_refused_with_the_reason() {
    for (header, expected) in [
        ("Expect: 100-continue", "turns every failure into 200"),
        ("Idempotency-Key: x", "would send a request again by themselves"),
        ("x-idempotency-key: x", "would send a request again by themselves"),
        ("K-Network-Probe: x", "answers it with 200 and runs nothing"),
        ("Host: x", "the key `host` sets this header | use `host:` beside `url:`"),
        ("Content-Length: '1'", "it follows from the body"),
        ("Transfer-Encoding: chunked", "the connection to the service is longhaul's own"),
        ("Connection: close", "the connection to the service is longhaul's own"),
        ("CE-Id: x", "headers with `ce-` are the event's attributes"),
        ("User-Agent: kube-probe/1.30", "takes this for a health check"),
        ("'a b': x", "this cannot be the name of a header"),
        ("X-A: \"a\\nb\"", "this cannot be the value of a header"),
        ("X-A: 1", "expected text, got a number | put it in quotes"),
    ] {
        refused(&sink(&format!("headers: {{ {header} }}")), &[expected]);
    }
    refused(&sink("headers: { X-A: a, x-a: b }"), &["headers.x-a: this header is given twice"]);
}

#[test]
fn values_that_do_not_fit_each_other_are_both_named() {
    refused(
        &rabbitmq(&format!("{SINK}  retry: {{ backoff: 20m }}\n  limits: {{ held_bytes: 1MiB }}")),
        &[
            "retry.backoff: the first wait `backoff` (20m) is longer than the longest, `backoff_max` (10m)",
            "limits.held_bytes: an item of `item_bytes` (16MiB) is larger than all that may be held, `held_bytes` (1MiB)",
        ],
    );
    refused(
        &rabbitmq(&format!("{SINK}  retry: {{ backoff: 0s, backoff_max: 0s }}\n  breaker: {{ open: 0s }}")),
        &["retry.backoff: `0s`", "retry.backoff_max: `0s`", "breaker.open: `0s`"],
    );
    let twice = rabbitmq(SINK) + &rabbitmq(SINK).replace("pipelines:\n", "");
    refused(&twice, &["pipelines[1].name: pipelines[0] in line 2 has the same name"]);
}

#[test]
fn event_and_admin() {
    refused(
        &rabbitmq(&format!("{SINK}  event: {{ type: '', extensions: {{ A-b: x, id: y, n: 1 }} }}")),
        &[
            "event.type: the text is empty",
            "A-b: this cannot be the name",
            "`id` is an attribute",
            "n: expected text",
        ],
    );
    refused(
        &rabbitmq(&format!("{SINK}  event: {{ id: {{ json: order.id, header: '' }} }}")),
        &["event.id.json: this is not a JSON pointer", "event.id.header: "],
    );
    refused(
        &rabbitmq(&format!("{SINK}  event: {{ id: {{}} }}")),
        &["event.id: this names no part of the message"],
    );
    refused(
        &format!("{}admin: {{ listen: ':9090', token: '' }}", rabbitmq(SINK)),
        &["admin.listen: this is not an address", "the token is empty"],
    );
    refused(&format!("{}admin: {{ token: \"a\\u00e9\" }}", rabbitmq(SINK)), &["cannot be sent in a header"]);
}

#[test]
fn peers() {
    let with = |admin: &str, peers: &str| format!("{}admin: {{{admin}}}\npeers: {{{peers}}}", rabbitmq(SINK));
    let admin = "listen: '0.0.0.0:9090', token: t";
    for right in [
        "dns: 'longhaul-headless.default.svc:9090'",
        "addresses: ['http://10.0.0.7:9090', 'http://b:80/']",
        "dns: 'a:1', token: own, timeout: 500ms",
        "addresses: ['https://10.0.0.7:9090'], tls: { ca_file: /dev/null }",
    ] {
        loaded(&with(admin, right));
    }
    refused(&with(admin, "dns: 'http://a:9090'"), &["peers.dns: this is not `host:port`"]);
    refused(
        &with(admin, "addresses: ['ftp://a:9090', 'a:9090', 'http://a/path', 'http://u:p@a']"),
        &["addresses[0]: this is not the address", "addresses[1]: ", "addresses[2]: ", "addresses[3]: "],
    );
    refused(&with(admin, "timeout: 1s"), &["one of `dns` or `addresses` must be given"]);
    refused(&with(admin, "dns: 'a:1', timeout: 1m, token: ''"), &["`1m` is out of range", "token is empty"]);
    refused(
        &with("", "dns: 'a:1'"),
        &[
            "admin.token: the key `token` is missing: replicas (`peers`) hand results only to those",
            "admin.listen: the key `listen` is missing: the other replicas (`peers`) ask at the admin",
        ],
    );
}

fn two(first: &str, second: &str) -> String {
    let pipeline = |name: &str, source: &str, more: &str| {
        format!(
            "- name: {name}\n  source: {{ rabbitmq: {{ url: 'amqp://mq', queue: {source} }} }}\n  sink: {{ url: 'http://s' }}\n  max_in_flight: 1\n  {more}\n"
        )
    };
    format!("pipelines:\n{}{}", pipeline("a", "one", first), pipeline("b", "two", second))
}

#[test]
fn messages_that_come_back_to_their_queue() {
    let letter = |target: &str| format!("dead_letter: {{ rabbitmq: {{ {target} }} }}");
    let held = "on_failed: hold";
    let own = "the source of this pipeline";
    for target in ["queue: one", "url: 'amqp://u:p@MQ:5672/%2f', queue: one"] {
        refused(&two(&letter(target), held), &[own]);
    }
    refused(
        &two("reply: { rabbitmq: { queue: one } }\n  on_failed: hold", held),
        &["the replies go to `one`"],
    );
    // One dead letter that leads to the other queue is a chain; both together are a loop.
    loaded(&two(&letter("queue: two"), held));
    loaded(&two(&letter("url: 'amqp://other', queue: one"), held));
    let expected = ["go to `two`, and from there back to `one`", "go to `one`, and from there back to `two`"];
    refused(&two(&letter("queue: two"), &letter("queue: one")), &expected);
    // The same loop, closed by a binding.
    let bound = |key: &str| {
        two(&letter("exchange: x, routing_key: a.b"), held).replacen(
            "queue: one }",
            &format!("queue: one, declare: {{ bind: [{{ exchange: x, routing_key: '{key}' }}] }} }}"),
            1,
        )
    };
    refused(&bound("a.*"), &[own]);
    loaded(&bound("c"));
    // A queue in which items wait before a retry.
    let parked = "retry: { queue: wait }\n  on_failed: hold";
    refused(&two(parked, &letter("queue: wait.one.10s")), &["for items that wait"]);
}

#[test]
fn the_topic_of_checkpoints_is_no_topic_of_items() {
    let kafka = |topics: &str, more: &str| {
        format!(
            "pipelines:\n- name: a\n  source: {{ kafka: {{ bootstrap_servers: ['k:9092'], topics: [{topics}], group: g }} }}\n  sink: {{ url: 'http://s' }}\n  max_in_flight: 1\n  {more}\n"
        )
    };
    let hold = "on_failed: hold";
    loaded(&kafka("t", &format!("{hold}\n  checkpoints: {{ topic: c }}")));
    let own = kafka("'^c.*'", &format!("{hold}\n  checkpoints: {{ topic: c }}"));
    refused(&own, &["pipeline `a` reads this topic"]);
    let letters = kafka("t", "dead_letter: { kafka: { topic: c } }\n  checkpoints: { topic: c }");
    refused(&letters, &["`dead_letter` of pipeline `a` writes to this topic"]);
    let replies =
        kafka("t", &format!("reply: {{ kafka: {{ topic: c }} }}\n  {hold}\n  checkpoints: {{ topic: c }}"));
    refused(&replies, &["`reply` of pipeline `a`"]);
    let elsewhere = "checkpoints: { bootstrap_servers: ['other:9092'], topic: t }";
    loaded(&kafka("t", &format!("{hold}\n  {elsewhere}")));
    let rabbitmq = "pipelines:\n- name: a\n  source: { rabbitmq: { url: 'amqp://mq', queue: q } }\n  sink: { url: 'http://s' }\n  max_in_flight: 1\n  on_failed: hold\n  checkpoints: { bootstrap_servers: ['k:9092'], topic: c }\n";
    refused(rabbitmq, &["`checkpoints` needs a Kafka source"]);
}
