//! Checks the exact words of mistakes, with place, excerpt and caret.

use super::*;

const SINK: &str = "  sink: { url: http://s }";

#[test]
fn shape_and_values_are_reported_in_one_run() {
    let text = "\
pipelines:
- nmae: a
  source: { rabbitmq: { url: http://x, queue: 5 } }
  sink: { url: http://s, timeout: 30 }
  max_in_flight: 0
";
    assert_eq!(
        mistakes(text),
        r#"f.yaml:2:3: pipelines[0].nmae: unknown key `nmae`
  2 | - nmae: …
    |   ^
  help: did you mean `name`?
f.yaml:3:30: pipelines[0].source.rabbitmq.url: the URI starts with neither `amqp://` nor `amqps://`
  3 |   source: { rabbitmq: { url: …, queue: 5 } }
    |                              ^
  help: write amqp://user:password@host:5672/vhost
f.yaml:3:47: pipelines[0].source.rabbitmq.queue: expected text, got a number, `5`
  3 |   source: { rabbitmq: { url: …, queue: 5 } }
    |                                        ^
  help: put it in quotes: "5"
f.yaml:4:35: pipelines[0].sink.timeout: expected a duration such as 30s or 1h 30m, got a number, `30`
  4 |   sink: { url: http://s, timeout: 30 }
    |                                   ^
  help: write 30s for seconds, 30m for minutes or 30h for hours
f.yaml:5:18: pipelines[0].max_in_flight: `0` is out of range
  5 |   max_in_flight: 0
    |                  ^
  help: write a number from 1 to 10000"#
    );
}

#[test]
fn what_is_left_of_a_broken_source_is_still_checked() {
    let text = "\
pipelines:
- name: a
  source:
    kafka:
      bootstrap_servers: kafka:9092
      topics: []
      group: g
      session_timeout: 10m
      options: { enable.auto.commit: true }
  max_in_flight: 1
";
    assert_eq!(
        mistakes(text),
        r#"f.yaml:2:3: pipelines[0].sink.url: the key `url` is missing, and the variable K_SINK is not set
  2 | - name: a
    |   ^
  help: add `sink: { url: "http://…" }`, or let a SinkBinding set K_SINK
f.yaml:5:26: pipelines[0].source.kafka.bootstrap_servers: expected a list, got text, `kafka:9092`
  5 |       bootstrap_servers: kafka:9092
    |                          ^
  help: write ["kafka:9092"]
f.yaml:6:15: pipelines[0].source.kafka.topics: the list is empty
  6 |       topics: []
    |               ^
  help: write at least one entry
f.yaml:8:24: pipelines[0].source.kafka.session_timeout: `10m` is out of range
  8 |       session_timeout: 10m
    |                        ^
  help: write a duration from 1s to 5m
f.yaml:9:38: pipelines[0].source.kafka.options."enable.auto.commit": an offset is committed when the work behind it is done, and by nothing else
  9 |       options: { enable.auto.commit: … }
    |                                      ^
  help: remove it"#
    );
}

#[test]
fn wrong_types_say_what_to_write() {
    let text = "\
pipelines:
- name: A b
  name: c
  source:
  max_in_flight:
  sink: http://x
  limits: { item_bytes: 1XB, held_max: 1.5 }
  reply: { wrap: yes }
- max_in_flight: x
  sink: { url: http://s }
";
    assert_eq!(
        mistakes(text),
        "f.yaml:2:9: pipelines[0].name: `A b` is not allowed here
  2 | - name: A b
    |         ^
  help: use 1 to 63 lower-case letters, digits and `-`, with no `-` at the ends
f.yaml:3:3: the key `name` is already given in line 2
  3 |   name: …
    |   ^
  help: keep one of the two
f.yaml:4:9: pipelines[0].source: expected a mapping (keys with values), got nothing
  4 |   source:
    |         ^
  help: write its keys under it; known are `rabbitmq` and `kafka`
f.yaml:5:16: pipelines[0].max_in_flight: expected a whole number, got nothing
  5 |   max_in_flight:
    |                ^
  help: write a whole number
f.yaml:6:9: pipelines[0].sink: expected a mapping (keys with values), got text
  6 |   sink: …
    |         ^
  help: write its keys under it; known are `url`, `host`, `timeout`, `connect_timeout`, `tcp_user_timeout`, `headers`, `tls`, `mode`, `require_outcome`, `reject_on` and `response_bytes`
f.yaml:7:25: pipelines[0].limits.item_bytes: `1XB` is not a size
  7 |   limits: { item_bytes: 1XB, held_max: 1.5 }
    |                         ^
  help: write a whole number of bytes, or one with KiB, MiB, GiB, kB, MB or GB, such as 16MiB
f.yaml:7:40: pipelines[0].limits.held_max: expected a whole number, got a number, `1.5`
  7 |   limits: { item_bytes: 1XB, held_max: 1.5 }
    |                                        ^
  help: write a whole number
f.yaml:8:10: pipelines[0].reply: one of `rabbitmq` or `kafka` must be given
  8 |   reply: { wrap: yes }
    |          ^
  help: add `rabbitmq` or `kafka`
f.yaml:8:18: pipelines[0].reply.wrap: expected true or false, got text, `yes`
  8 |   reply: { wrap: yes }
    |                  ^
  help: write true
f.yaml:9:3: pipelines[1].name: the key `name` is missing
  9 | - max_in_flight: x
    |   ^
  help: add `name:` in pipelines[1]
f.yaml:9:3: pipelines[1].source: the key `source` is missing
  9 | - max_in_flight: x
    |   ^
  help: add `source:` in pipelines[1]
f.yaml:9:18: pipelines[1].max_in_flight: expected a whole number, got text, `x`
  9 | - max_in_flight: x
    |                  ^
  help: write a whole number"
    );
}

#[test]
fn the_outermost_keys_are_checked_too() {
    assert_eq!(
        mistakes(
            "pipelines: { name: a }\nadmin: []\npeers: { dns: 'x:1', addresses: ['http://y'] }\nfoo: 1\n"
        ),
        "f.yaml:1:12: pipelines: expected a list, got a mapping
  1 | pipelines: …
    |            ^
  help: start each entry with `- `
f.yaml:2:8: admin: expected a mapping (keys with values), got a list
  2 | admin: …
    |        ^
  help: write its keys under it; known are `listen`, `token`, `read_token`, `url` and `tls`
f.yaml:3:22: peers: only one of `dns` or `addresses` may be given
  3 | peers: { dns: 'x:1', addresses: ['http://y'] }
    |                      ^
  help: remove one of the two
f.yaml:4:1: foo: unknown key `foo`
  4 | foo: …
    | ^
  help: known here are `pipelines`, `admin`, `peers`, `drain`, `alerts`, `guard` and `intake`"
    );
    assert_eq!(
        mistakes(""),
        "f.yaml:1:1: the file is empty\n  help: write at least `pipelines:` with one pipeline"
    );
    assert_eq!(
        mistakes("- name: a"),
        "f.yaml:1:1: expected a mapping (keys with values), got a list
  1 | …
    | ^
  help: write its keys under it; known are `pipelines`, `admin`, `peers`, `drain`, `alerts`, `guard` and `intake`"
    );
}

#[test]
fn yaml_that_cannot_be_read_is_placed_and_its_values_are_not_shown() {
    assert_eq!(
        mistakes("admin:\n  token: \"open\n  listen: x\n"),
        "f.yaml:2:10: this is not valid YAML: invalid indentation in quoted scalar
  2 |   token: …
    |          ^
  help: close the quotes; write '' for a ' inside of '…', and \\\" for a \" inside of \"…\""
    );
}

#[test]
fn a_typing_error_is_one_mistake_and_not_two() {
    for (wrong, right, meant) in [
        ("source:", "sorce:", "source"),
        ("max_in_flight:", "maxInFlight:", "max_in_flight"),
        ("max_in_flight:", "max-in-flight:", "max_in_flight"),
        ("{ url: http", "{ ulr: http", "url"),
        ("queue:", "queu:", "queue"),
    ] {
        let text = rabbitmq(SINK).replacen(wrong, right, 1);
        let Err(found) = load("f", &text, ALL, &env) else { panic!("{text} loads") };
        assert_eq!(found.list.len(), 1, "{found}");
        assert_eq!(found.list[0].help, format!("did you mean `{meant}`?"));
    }
}
