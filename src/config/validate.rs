//! Checks the values, each alone and in combination. Values that the check against the schema
//! refused are not checked again.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Env;
use super::load::Features;
use super::path::Path;
use super::report::Report;
use super::types::{Config, KafkaTarget, Pipeline, RabbitmqTarget, Tls};
use super::units::Span;

mod admin;
mod checkpoints;
mod event;
mod guard;
mod intake;
mod kafka;
pub(crate) mod options;
mod peers;
mod rabbitmq;
mod sink;
mod times;

pub(super) fn check(config: &Config, features: Features, env: Env<'_>, report: &mut Report) {
    let mut context = Context { features, env, report };
    let root = Path::default();
    let mut names = HashMap::new();
    for (index, pipeline) in config.pipelines.iter().enumerate() {
        let path = root.key("pipelines").item(index);
        context.unique_name(&pipeline.name, index, &path, &mut names);
        context.pipeline(pipeline, config, &path);
    }
    context.rabbitmq_loops(config);
    context.kafka_cycles(&config.pipelines, &root.key("pipelines"));
    context.admin(&config.admin, &root.key("admin"));
    context.alerts(&config.alerts, &root.key("alerts"));
    if let Some(guard) = &config.guard {
        context.guard(guard, &root.key("guard"));
    }
    if let Some(intake) = &config.intake {
        context.intake(intake, config, &root.key("intake"));
    }
    if let Some(peers) = &config.peers {
        context.peers(peers, &config.admin, &root.key("peers"));
    }
}

/// The data that every check needs.
struct Context<'a> {
    features: Features,
    env: Env<'a>,
    report: &'a mut Report,
}

impl Context<'_> {
    fn unique_name<'a>(
        &mut self,
        name: &'a str,
        index: usize,
        path: &Path,
        names: &mut HashMap<&'a str, usize>,
    ) {
        if let Some(first) = names.insert(name, index) {
            let line = self.report.line(&Path::default().key("pipelines").item(first).key("name"));
            let reason = format!("pipelines[{first}] in line {line} has the same name");
            self.report.mistake(&path.key("name"), reason, "give each pipeline a name of its own");
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, config: &Config, path: &Path) {
        let source = path.key("source");
        if let Some(rabbitmq) = &pipeline.source.rabbitmq {
            self.rabbitmq_source(rabbitmq, &source.key("rabbitmq"));
        }
        if let Some(kafka) = &pipeline.source.kafka {
            self.kafka_source(kafka, pipeline, &source.key("kafka"));
        }
        self.sink(&pipeline.sink, &path.key("sink"));
        if let Some(target) = &pipeline.dead_letter {
            let path = path.key("dead_letter");
            self.broker_target(target.rabbitmq.as_ref(), target.kafka.as_ref(), pipeline, &path);
            if let Some(http) = &target.http {
                self.http_target(http, &path.key("http"));
            }
        }
        if let Some(reply) = &pipeline.reply {
            self.broker_target(reply.rabbitmq.as_ref(), reply.kafka.as_ref(), pipeline, &path.key("reply"));
        }
        if let Some(target) = &pipeline.checkpoints {
            self.checkpoints(target, pipeline, config, &path.key("checkpoints"));
        }
        self.times(pipeline, config, path);
        self.limits(pipeline, path);
        self.event(&pipeline.event, &path.key("event"));
        self.failed_items(pipeline, path);
    }

    fn broker_target(
        &mut self,
        rabbitmq: Option<&RabbitmqTarget>,
        kafka: Option<&KafkaTarget>,
        pipeline: &Pipeline,
        path: &Path,
    ) {
        if let Some(rabbitmq) = rabbitmq {
            self.rabbitmq_target(rabbitmq, pipeline, &path.key("rabbitmq"));
        }
        if let Some(kafka) = kafka {
            self.kafka_target(kafka, pipeline, &path.key("kafka"));
        }
    }

    fn failed_items(&mut self, pipeline: &Pipeline, path: &Path) {
        let on_failed = path.key("on_failed");
        match (pipeline.dead_letter.is_some(), self.report.is_given(&on_failed)) {
            (false, false) => self.report.warning(
                &path.key("dead_letter"),
                format!(
                    "items that fail for good are held, and {} of them stop this pipeline",
                    pipeline.limits.held_max
                ),
                "add `dead_letter:`, or `on_failed: hold` if this is meant",
            ),
            (true, true) => self.report.warning(
                &on_failed,
                "this has no effect, since `dead_letter` takes what fails for good",
                "remove `on_failed`",
            ),
            (false, true) | (true, false) => {}
        }
    }

    fn tls(&mut self, tls: &Tls, path: &Path) {
        match (&tls.cert_file, &tls.key_file) {
            (Some(_), None) => self.lone_file(&path.key("cert_file"), "key_file"),
            (None, Some(_)) => self.lone_file(&path.key("key_file"), "cert_file"),
            _ => {}
        }
        let files = [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)];
        for (key, file) in files {
            if let Some(file) = file {
                self.readable(&path.key(key), file);
            }
        }
    }

    /// Reports a file that cannot be read; `run` would refuse it later.
    fn readable(&mut self, path: &Path, file: &std::path::Path) {
        if let Err(error) = std::fs::File::open(file) {
            let reason = format!("this file cannot be read: {error}");
            self.report.mistake(path, reason, "create it, or correct the path");
        }
    }

    fn lone_file(&mut self, path: &Path, other: &str) {
        self.report.mistake(
            path,
            format!("`{other}` is missing; the two go together"),
            format!("add `{other}:`"),
        );
    }

    /// Reports a value outside of `least..=most`.
    fn range(&mut self, path: &Path, value: Span, least: Span, most: Span) {
        if value < least || most < value {
            let help = format!("write a duration from {least} to {most}");
            self.report.mistake(path, format!("`{value}` is out of range"), help);
        }
    }

    /// Checks an address to listen on. `port` is the one in the example.
    fn listen(&mut self, address: &str, port: u16, path: &Path) {
        if address.parse::<SocketAddr>().is_err() {
            let help = format!("write an IP address and a port, such as 0.0.0.0:{port} or [::1]:{port}");
            self.report.mistake(path, "this is not an address to listen on", help);
        }
    }

    fn not_empty(&mut self, path: &Path, text: Option<&str>) {
        if text == Some("") {
            self.report.mistake(path, "the text is empty", "write a text, or remove the key");
        }
    }
}
