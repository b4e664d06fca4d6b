//! The texts that people and scripts read. A change shows up in review as a change of a file below
//! `tests/it/snapshots`. To accept it: `INSTA_UPDATE=always cargo test --test it snapshots`.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use longhaul::config::{self, Features};
use longhaul::delivery::Outcome;
use longhaul::telemetry::{Metrics, Status};

/// Returns the commands that `longhaul help` lists, so that a new command is not forgotten here.
fn commands() -> Vec<String> {
    let help = longhaul(&["help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(Into::into)
        .collect()
}

/// Returns standard output and error of the program, without any setting from the environment.
fn longhaul(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(arguments)
        .env_clear()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap()
}

#[test]
fn help_of_every_command() {
    snapshot("help", &longhaul(&["help"]));
    for command in commands() {
        snapshot(&format!("help-{command}"), &longhaul(&["help", &command]));
    }
}

#[test]
fn mistakes_of_a_configuration() {
    let text = "\
pipelines:
  - name: Thumbs
    source: { rabbitmq: { url: amqp://u:secret@mq, queue: '' } }
    sink: { url: thumbs, timeout: 30 }
    max_in_flight: 0
    retry: { atempts: 3 }
  - name: files
    source: { rabbitmq: { url: amqp://mq, queue: a }, kafka: { bootstrap_servers: [], topics: ['^('], group: g } }
    max_in_flight: 5
    limits: { item_bytes: 16MB2 }
admin: { listen: here }
drain: 4h
";
    let features = Features { kafka: true, kafka_tls: true, guard: true };
    let mistakes = config::load("longhaul.yaml", text, features, &|_| None).unwrap_err();
    snapshot("configuration-mistakes", &mistakes.to_string());
}

#[test]
fn text_of_a_plan() {
    let load = [
        "plan",
        "--items=200",
        "--duration=90s±30s",
        "--max-in-flight=20",
        "--cold-start=20s",
        "--price=0.12",
    ];
    snapshot(
        "plan",
        &longhaul(
            &[&load[..], &["-f", "deploy/base/worker.yaml", "--try=max-in-flight=50,max-scale=50"]].concat(),
        ),
    );
}

/// Every family and label of `/metrics`, with the values left out.
#[test]
fn names_of_the_metrics() {
    let metrics = Metrics::new();
    metrics.pipeline("thumbnails", 20).attempt(Outcome::Done, Some(200), Duration::ZERO);
    metrics.describe("thumbnails", "queue thumbnails", "http://worker");
    metrics.watch(&[Arc::new(Status::new("thumbnails"))]);
    let text = metrics.render().unwrap();
    // The process's own metrics come from /proc, so only Linux has them.
    let lines: Vec<String> =
        text.lines().filter(|line| !line.contains("process_")).map(without_value).collect();
    // The samples of a family are in random order.
    let families = lines.chunk_by(|before, after| before.starts_with('#') == after.starts_with('#'));
    let mut sorted: Vec<String> = Vec::new();
    for lines in families {
        sorted.extend_from_slice(lines);
        if !lines[0].starts_with('#') {
            let start = sorted.len() - lines.len();
            sorted[start..].sort();
        }
    }
    snapshot("metrics", &sorted.join("\n"));
}

/// Masks the value of a sample, and the version in its labels.
fn without_value(line: &str) -> String {
    match line.rsplit_once(' ') {
        Some((sample, _)) if !line.starts_with('#') => {
            format!("{sample} VALUE").replace(env!("CARGO_PKG_VERSION"), "VERSION")
        }
        _ => line.to_owned(),
    }
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
