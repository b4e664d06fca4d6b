//! Checks the HTTP entry point.

use super::Context;
use crate::config::path::Path;
use crate::config::types::{Config, Intake};

/// The longest body, in bytes.
const BODY_MAX: u64 = 64 << 20;

impl Context<'_> {
    pub(super) fn intake(&mut self, intake: &Intake, config: &Config, path: &Path) {
        self.listen(&intake.listen, 8080, &path.key("listen"));
        self.token(intake.token.as_ref(), &path.key("token"));
        if !(1..=BODY_MAX).contains(&intake.body_bytes.get()) {
            let help = "write a size such as 1MiB";
            self.report.mistake(&path.key("body_bytes"), "must be between 1B and 64MiB", help);
        }
        let names: Vec<&str> = config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        let key = path.key("pipeline");
        let help = format!("name one of: {}", names.join(", "));
        let pipeline = match (&intake.pipeline, config.pipelines.as_slice()) {
            (Some(name), all) => match all.iter().find(|pipeline| pipeline.name == *name) {
                Some(found) => found,
                None => return self.report.mistake(&key, "no pipeline has this name", &help),
            },
            (None, [only]) => only,
            (None, _) => {
                return self.report.mistake(path, "there are several pipelines, and none is named", &help);
            }
        };
        let topics = pipeline.source.kafka.as_ref().map(|kafka| kafka.topics.as_slice());
        let is_one = |topics: &[String]| matches!(topics, [one] if !one.starts_with('^'));
        if topics.is_some_and(|topics| !is_one(topics)) {
            let reason = format!("the pipeline {} reads several topics", pipeline.name);
            self.report.mistake(path, reason, "name a pipeline with one topic");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::{Features, load};

    fn found(intake: &str, more: &str) -> String {
        let pipeline = |name: &str| {
            format!(
                "- {{ name: {name}, source: {{ rabbitmq: {{ url: amqp://mq, queue: {name} }} }}, sink: {{ url: http://s }}, max_in_flight: 1, on_failed: hold }}"
            )
        };
        let text = format!("pipelines:\n{}\n{more}\nintake: {intake}\n", pipeline("a"));
        let text = text.replace("MORE", &pipeline("b"));
        match load("f", &text, Features::BUILD, &|_| None) {
            Ok(loaded) => loaded.warnings.to_string(),
            Err(mistakes) => mistakes.to_string(),
        }
    }

    #[test]
    fn the_pipeline_must_be_clear_and_the_address_right() {
        assert_eq!(found("{ listen: '0.0.0.0:8080' }", ""), "");
        assert_eq!(found("{ listen: '0.0.0.0:8080', pipeline: b }", "MORE"), "");
        for (intake, more, part) in [
            ("{ listen: here }", "", "intake.listen: this is not an address to listen on"),
            ("{ listen: '[::]:80', pipeline: c }", "", "intake.pipeline: no pipeline has this name"),
            ("{ listen: '[::]:80' }", "MORE", "intake: there are several pipelines, and none is named"),
            ("{ listen: '[::]:80', body_bytes: 1GiB }", "", "intake.body_bytes: must be between"),
            ("{ listen: '[::]:80', window: 0 }", "", "intake.window"),
            ("{ listen: '[::]:80', token: '' }", "", "intake.token: the token is empty"),
        ] {
            assert!(found(intake, more).contains(part), "{}", found(intake, more));
        }
    }
}
