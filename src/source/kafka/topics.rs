//! Asks regularly for the topics: whether they exist, whether we may read them, and whether one was
//! created again under the same name. In such a topic librdkafka continues at the old offset, which
//! would skip the records below it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::metadata;
use super::thread::Worker;
use crate::connect::kafka::notice::Topic;
use crate::connect::kafka::raw::Question;
use crate::telemetry::ProblemKind;

/// The longest time for which a topic that was created again is read as the old one.
const INTERVAL: Duration = Duration::from_secs(2);
/// The time until the next question after an error that such a topic may cause.
const HURRY: Duration = Duration::from_millis(100);
/// The first commits are done by then.
const FIRST_MARK: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long the poll thread may wait for the list of all topics. It asks only while it has no
/// partition.
const LIST_PATIENCE: Duration = Duration::from_secs(1);
/// How often patterns without a topic are compared with the list of all topics.
const LIST_INTERVAL: Duration = Duration::from_secs(5);
/// A refusal that a broker reports only as an error holds for this long.
const REFUSAL: Duration = Duration::from_secs(30);

pub struct Topics {
    question: Question,
    /// A broker that is known to exist. Some clusters do not tell their controller.
    pub broker: Option<i32>,
    asked_at: Option<Instant>,
    ask_at: Instant,
    list_at: Instant,
    /// When the mark of the group is looked at next.
    pub mark_at: Instant,
    /// When this member wrote it last.
    pub marked_at: Option<Instant>,
    /// When a pattern without a topic becomes a problem.
    matches_by: Instant,
    /// All topics of the first list, if a pattern is subscribed.
    existing: Option<BTreeSet<String>>,
    /// Topics that did not exist at the start. `start: latest` does not skip their records.
    late: BTreeSet<String>,
    is_first: bool,
    /// Topics whose fetches were refused, with the time.
    refused: BTreeMap<String, Instant>,
}

impl Topics {
    pub fn new(question: Question, now: Instant) -> Self {
        Topics {
            question,
            broker: None,
            asked_at: None,
            ask_at: now,
            list_at: now,
            mark_at: now + FIRST_MARK,
            marked_at: None,
            // A group needs a moment for its first join.
            matches_by: now + LIST_INTERVAL,
            existing: None,
            late: BTreeSet::new(),
            is_first: true,
            refused: BTreeMap::new(),
        }
    }

    pub fn due(&self) -> Instant {
        self.ask_at
    }

    /// Asks soon, because an error hints at a change.
    pub fn hurry(&mut self, now: Instant) {
        let soonest = self.asked_at.map_or(now, |asked| asked + HURRY).max(now);
        self.ask_at = self.ask_at.min(soonest);
    }

    /// Records that the broker refused a fetch from this topic.
    pub fn refused(&mut self, topic: &str, now: Instant) {
        self.refused.insert(topic.to_owned(), now);
        self.hurry(now);
    }

    /// Whether the topic did not exist when this source started.
    pub fn appeared_late(&self, topic: &str) -> bool {
        self.late.contains(topic) || self.existing.as_ref().is_some_and(|existing| !existing.contains(topic))
    }

    /// Whether the topic was just refused and the broker does not tell more.
    fn is_refused(&mut self, topic: &Topic, now: Instant) -> bool {
        let lasts =
            self.refused.get(&topic.name).is_some_and(|at| now.saturating_duration_since(*at) < REFUSAL);
        match topic.readable {
            Some(readable) => !readable,
            None => lasts,
        }
    }
}

impl Worker {
    pub fn look_at_topics(&mut self, now: Instant) {
        if let Some(topics) = self.topics.question.topics(Duration::ZERO) {
            topics.iter().for_each(|topic| self.look_at_topic(topic, now));
            if topics.is_empty() {
                // This broker may be gone for good.
                self.topics.broker = None;
            } else {
                self.topics.is_first = false;
            }
        }
        if now < self.topics.ask_at {
            return;
        }
        self.topics.ask_at = now + INTERVAL;
        self.topics.asked_at = Some(now);
        let sessions = self.sessions.iter().map(|one| &*one.place.topic);
        let names: BTreeSet<String> = sessions
            .chain(self.waiting.topics())
            .chain(self.settings.plain_topics())
            .map(str::to_owned)
            .collect();
        if !names.is_empty() {
            self.health.asked(now);
        }
        let client = self.consumer.client();
        self.topics.question.ask_topics(client, self.topics.broker, names.into_iter(), TIMEOUT);
        self.look_for_matches(now);
        self.look_at_mark(now);
    }

    fn look_at_topic(&mut self, topic: &Topic, now: Instant) {
        let name = &topic.name;
        match topic.error {
            None => {
                self.solved(ProblemKind::SourceMissing, name);
                if self.topics.is_refused(topic, now) {
                    let text = format!("this user may not read kafka topic {name}");
                    self.problem(ProblemKind::SourceRefused, name, text, "allow this user to Read the topic");
                } else {
                    self.solved(ProblemKind::SourceRefused, name);
                }
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId) => {
                if self.topics.is_first {
                    self.topics.late.insert(name.clone());
                }
                let text = format!("kafka topic {name} does not exist");
                let help = "create it, or correct source.kafka.topics";
                self.problem(ProblemKind::SourceMissing, name, text, help);
            }
            Some(Code::TopicAuthorizationFailed) => {
                let text = format!("this user may not describe kafka topic {name}");
                let help = "allow this user to Read and Describe the topic";
                self.problem(ProblemKind::SourceRefused, name, text, help);
            }
            Some(code) => tracing::debug!(topic = %name, error = %code, "Topic can't be described"),
        }
        let Some(log) = topic.id.filter(|_| topic.error.is_none()) else { return };
        // An id that was made of names cannot be compared with one of the broker.
        let is_other = |known: u128| {
            known != 0 && known != log && metadata::is_derived(known) == metadata::is_derived(log)
        };
        let changed: Vec<i32> = self
            .sessions
            .iter()
            .filter(|one| *one.place.topic == *name && is_other(one.place.log.id))
            .map(|one| one.place.partition)
            .collect();
        for partition in changed {
            if topic.partitions.contains(&partition) {
                self.change_log(name, partition, log, now);
            } else {
                self.vanish(name, partition, now);
            }
        }
    }

    /// Reports a pattern that matches no topic as a missing source.
    fn look_for_matches(&mut self, now: Instant) {
        let patterns: Vec<String> =
            self.settings.topics.iter().filter(|topic| topic.starts_with('^')).cloned().collect();
        if !self.sessions.is_empty() {
            patterns.iter().for_each(|pattern| self.solved(ProblemKind::SourceMissing, pattern));
            return;
        }
        if patterns.is_empty() || now < self.topics.list_at {
            return;
        }
        let Some(time) = self.patience.for_answer(LIST_PATIENCE).filter(|_| !self.is_closing()) else {
            return;
        };
        self.topics.list_at = now + LIST_INTERVAL;
        // If another member has all partitions, this one has none, which is fine.
        self.health.asked(now);
        let Ok(metadata) = self.consumer.fetch_metadata(None, time) else { return };
        let names: BTreeSet<String> = metadata.topics().iter().map(|topic| topic.name().to_owned()).collect();
        if now < self.topics.matches_by {
            self.topics.existing.get_or_insert(names);
            return;
        }
        for pattern in patterns {
            // librdkafka's dialect differs in details. A pattern that this engine cannot read
            // counts as a match.
            let matches = regex::Regex::new(&pattern)
                .map_or(true, |pattern| names.iter().any(|name| pattern.is_match(name)));
            if matches {
                self.solved(ProblemKind::SourceMissing, &pattern);
            } else {
                let text = format!("no kafka topic matches {pattern}");
                let help = "create a topic that matches, or correct source.kafka.topics";
                self.problem(ProblemKind::SourceMissing, &pattern, text, help);
            }
        }
    }
}
