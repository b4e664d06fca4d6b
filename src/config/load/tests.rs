//! Loads whole files: good ones, and bad ones with the exact words of their mistakes.

use super::*;

mod bad;
mod damage;
mod good;
mod secrets;
mod values;

const ALL: Features = Features { kafka: true, kafka_tls: true, guard: true };

fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("hunter2".into()),
        "QUEUE" => Some("thumbnails".into()),
        "SLOTS" => Some("20".into()),
        _ => None,
    }
}

/// Returns the mistakes as they are printed.
fn mistakes(text: &str) -> String {
    match load("f.yaml", text, ALL, &env) {
        Ok(_) => "none".into(),
        Err(mistakes) => mistakes.to_string(),
    }
}

fn loaded(text: &str) -> Loaded {
    load("f.yaml", text, ALL, &env).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Returns the text of a correct pipeline with further keys.
fn rabbitmq(keys: &str) -> String {
    format!(
        "pipelines:\n- name: a\n  source: {{ rabbitmq: {{ url: amqp://mq, queue: q }} }}\n  max_in_flight: 1\n{keys}\n"
    )
}

/// Formats each mistake or warning as `path: reason` and `help`, without its place.
fn brief(mistakes: &Mistakes) -> Vec<String> {
    mistakes.list.iter().map(|it| format!("{}: {} | {}", it.path, it.reason, it.help)).collect()
}
