//! Refuses targets whose messages come back to the queue that they left. Each round would run the
//! item again, without end.
//!
//! The check knows only this file: queues by name, and exchanges by the bindings under `declare`.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use super::super::Context;
use super::decoded;
use crate::config::path::Path;
use crate::config::secret::Secret;
use crate::config::types::{Config, Pipeline, RabbitmqTarget};

/// A queue of a broker: the broker's host, port and virtual host, then the queue's name.
type Queue = (String, String);

/// A write of one pipeline to a queue.
struct Flow {
    from: Queue,
    to: Queue,
    /// The target's key in the file.
    path: Path,
    word: &'static str,
}

impl Context<'_> {
    pub(in super::super) fn rabbitmq_loops(&mut self, config: &Config) {
        let flows = self.flows(config);
        let mut next: BTreeMap<&Queue, BTreeSet<&Queue>> = BTreeMap::new();
        for flow in &flows {
            next.entry(&flow.from).or_default().insert(&flow.to);
        }
        for flow in &flows {
            let name = &flow.from.1;
            let help = "write to another queue, and read that one with no pipeline that leads back here";
            if flow.to == flow.from {
                let reason = format!("the {} go to `{name}`, the source of this pipeline", flow.word);
                self.report.mistake(&flow.path, reason, help);
            } else if reaches(&next, &flow.to, &flow.from) {
                let reason = format!(
                    "the {} go to `{}`, and from there back to `{name}`, the source of this pipeline",
                    flow.word, flow.to.1
                );
                self.report.mistake(&flow.path, reason, help);
            }
        }
        self.parking(config);
    }

    fn flows(&self, config: &Config) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (index, pipeline) in config.pipelines.iter().enumerate() {
            let Some(source) = &pipeline.source.rabbitmq else { continue };
            let Some(broker) = self.broker(&source.url) else { continue };
            let path = Path::default().key("pipelines").item(index);
            let dead_letter = pipeline.dead_letter.as_ref().and_then(|target| target.rabbitmq.as_ref());
            let reply = pipeline.reply.as_ref().and_then(|target| target.rabbitmq.as_ref());
            for (target, key, word) in
                [(dead_letter, "dead_letter", "dead letters"), (reply, "reply", "replies")]
            {
                let Some(target) = target else { continue };
                let to = target.url.as_ref().map_or_else(|| Some(broker.clone()), |url| self.broker(url));
                for queue in to.iter().flat_map(|to| self.reached(target, to, &config.pipelines)) {
                    let from = (broker.clone(), source.queue.clone());
                    let path = path.key(key).key("rabbitmq");
                    flows.push(Flow { from, to: queue, path, word });
                }
            }
        }
        flows
    }

    /// Returns the queues of the file that the target leads to.
    fn reached(&self, target: &RabbitmqTarget, broker: &str, pipelines: &[Pipeline]) -> Vec<Queue> {
        let key = target.routing_key.clone().unwrap_or_default();
        let exchange = match (&target.exchange, &target.queue) {
            (Some(exchange), _) if !exchange.is_empty() => exchange,
            (Some(_), _) => return vec![(broker.to_owned(), key)],
            (None, queue) => return queue.iter().map(|queue| (broker.to_owned(), queue.clone())).collect(),
        };
        let mut reached = Vec::new();
        for source in pipelines.iter().filter_map(|pipeline| pipeline.source.rabbitmq.as_ref()) {
            let bindings = source.declare.iter().flat_map(|declare| &declare.bind);
            let mut leads = bindings.filter(|binding| binding.exchange == *exchange);
            let is_bound = leads.any(|binding| takes(&binding.routing_key, &key));
            if is_bound && self.broker(&source.url).is_some_and(|of_source| of_source == broker) {
                reached.push((broker.to_owned(), source.queue.clone()));
            }
        }
        reached
    }

    /// Returns host, port and virtual host; `None` if the URL is already reported.
    fn broker(&self, url: &Secret) -> Option<String> {
        let url = Url::parse(&url.resolve_with(self.env).ok()?).ok()?;
        let port = url.port().unwrap_or(if url.scheme() == "amqps" { 5671 } else { 5672 });
        let virtual_host = url.path().strip_prefix('/').map_or_else(|| Some("/".to_owned()), decoded)?;
        Some(format!("{}:{port}/{virtual_host}", url.host_str()?.to_lowercase()))
    }

    /// Refuses a parking queue that is also the source or target of a pipeline.
    fn parking(&mut self, config: &Config) {
        let parking = config.pipelines.iter().filter_map(|pipeline| {
            let source = pipeline.source.rabbitmq.as_ref()?;
            Some(format!("{}.{}.", pipeline.retry.queue.as_ref()?, source.queue))
        });
        let parking: Vec<String> = parking.collect();
        let is_parking = |queue: &str| parking.iter().any(|prefix| queue.starts_with(prefix.as_str()));
        for (index, pipeline) in config.pipelines.iter().enumerate() {
            let path = Path::default().key("pipelines").item(index);
            let source = pipeline.source.rabbitmq.as_ref().map(|source| (&source.queue, path.key("source")));
            let letter = pipeline.dead_letter.as_ref().and_then(|target| target.rabbitmq.as_ref());
            let letter = letter.and_then(|target| Some((target.queue.as_ref()?, path.key("dead_letter"))));
            let reply = pipeline.reply.as_ref().and_then(|target| target.rabbitmq.as_ref());
            let reply = reply.and_then(|target| Some((target.queue.as_ref()?, path.key("reply"))));
            for (queue, path) in [source, letter, reply].into_iter().flatten() {
                if is_parking(queue) {
                    self.report.mistake(
                        &path.key("rabbitmq").key("queue"),
                        "queues with this beginning are for items that wait, as a `retry.queue` says",
                        "choose another name here or there",
                    );
                }
            }
        }
    }
}

fn reaches(next: &BTreeMap<&Queue, BTreeSet<&Queue>>, from: &Queue, to: &Queue) -> bool {
    let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(queue) = open.pop() {
        if queue == to {
            return true;
        }
        open.extend(next.get(queue).into_iter().flatten().filter(|next| seen.insert(next)));
    }
    false
}

/// Whether a binding with this pattern takes the routing key. The pattern is exact for a direct
/// exchange; for a topic exchange `*` is one word and `#` any number.
fn takes(pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => (0..=key.len()).any(|skipped| words(rest, &key[skipped..])),
            (["*", rest @ ..], [_, key @ ..]) => words(rest, key),
            ([word, rest @ ..], [first, key @ ..]) => word == first && words(rest, key),
            _ => false,
        }
    }
    // The work grows with the number of `#` in a pattern; patterns have few of them.
    let pattern: Vec<&str> = pattern.split('.').collect();
    let key: Vec<&str> = key.split('.').collect();
    pattern == key || (pattern.iter().filter(|word| **word == "#").count() <= 4 && words(&pattern, &key))
}

#[cfg(test)]
mod tests {
    use super::takes;

    #[test]
    fn keys_and_patterns() {
        for (pattern, key) in
            [("a", "a"), ("#", ""), ("#", "a.b"), ("a.*", "a.b"), ("a.#", "a"), ("#.c", "a.b.c"), ("", "")]
        {
            assert!(takes(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [("a", "b"), ("a.*", "a"), ("*", "a.b"), ("a.#.c", "a.b")] {
            assert!(!takes(pattern, key), "{pattern} {key}");
        }
    }
}
