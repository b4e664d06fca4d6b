//! Decides where an assigned partition begins.
//!
//! A committed offset counts only for the log that its metadata names. A topic that was deleted and
//! created again is another log, and is read from its beginning. Without a committed offset a
//! partition is read from its beginning too, unless the group has lost its offset (see
//! [`lost`](super::lost)). `start: latest` is therefore decided once for the whole group: a member
//! that finds no committed offset in any partition of the subscribed topics commits the present
//! ends of all of them before it starts. From then on every partition has an offset. A partition or
//! topic that appears later has none, and so loses nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use sha2::{Digest as _, Sha256};

use super::lost::{Lost, partitions_of};
use super::mark::{self, Mark};
use super::metadata::{self, Log};
use super::thread::Worker;
use super::tracker::Tracker;
use crate::config::Start;
use crate::connect::kafka::notice::{Entry, Side, Topic};
use crate::connect::kafka::raw::{self, Question};

/// How long the poll thread may wait for committed offsets. The coordinator has just let this
/// member join, so it answers in milliseconds or not at all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the poll thread may wait for the other answers.
const SHORT: Duration = Duration::from_secs(1);

/// How long the controller may take before another broker is asked.
const CONTROLLER: Duration = Duration::from_millis(500);

/// The ids of topics by their names.
pub type Logs<'a> = HashMap<&'a str, u128>;

/// A partition that can start.
#[derive(Debug)]
pub struct Ready {
    pub topic: String,
    pub partition: i32,
    pub log: Log,
    pub offset: Offset,
    /// `None` if nothing is known: the partition begins at its oldest record.
    pub tracker: Option<Tracker>,
}

/// The assigned partitions that can start, and those that cannot for a known reason.
#[derive(Debug, Default)]
pub struct Found {
    pub ready: Vec<Ready>,
    /// Partitions that their topics do not have.
    pub missing: Vec<(String, i32)>,
    /// Partitions that wait for a person's decision.
    pub lost: Vec<Lost>,
}

/// Why partitions cannot start yet.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("no broker answered for the topics")]
    Topics,
    #[error("committed offsets can't be read: {0}")]
    Committed(String),
    #[error("the ends of the logs can't be read")]
    Ends,
    #[error("the first offsets can't be committed: {0}")]
    Decision(RDKafkaErrorCode),
}

impl Worker {
    /// Those of the partitions that can start, with the place where they begin.
    pub(super) fn ready(&mut self, partitions: &[(String, i32)]) -> Result<Found, NotReady> {
        let decides = self.settings.start == Start::Latest && !self.start_is_decided;
        if partitions.is_empty() && !decides {
            return Ok(Found::default());
        }
        let mut names: HashSet<String> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
        if decides {
            names.extend(self.settings.plain_topics().map(str::to_owned));
        }
        let asked = self.ask_topics(&names).ok_or(NotReady::Topics)?;
        // The offsets are read while the topics are described, unless a decision comes first that
        // commits offsets.
        let early = if decides { None } else { Some(self.read_committed_and_mark(partitions)?) };
        let topics = self.described(asked, &names).ok_or(NotReady::Topics)?;
        let logs = self.logs(&topics);
        if decides {
            self.decide_start(&topics, &logs)?;
        }
        let described = |name: &str| topics.iter().find(|topic| topic.name == name && topic.error.is_none());
        let exists = |name: &str, partition: i32| {
            described(name).is_some_and(|topic| topic.partitions.contains(&partition))
        };
        let is_missing =
            |(name, partition): &&(String, i32)| described(name).is_some() && !exists(name, *partition);
        let missing = partitions.iter().filter(is_missing).cloned().collect();
        let mut committed = early.map_or_else(|| self.read_committed_and_mark(partitions), Ok)?;
        let mark = Mark::find(&committed).unwrap_or_default();
        committed.retain(|entry| {
            (entry.topic.as_str(), entry.partition) != mark::PLACE && exists(&entry.topic, entry.partition)
        });
        let failed = committed.iter().find_map(|entry| entry.error);
        let lost = self.lost(&committed, &logs, &mark)?;
        let is_lost = |entry: &Entry| lost.iter().any(|one| one.is(&entry.topic, entry.partition));
        let ready: Vec<Ready> = committed
            .iter()
            .filter(|entry| entry.error.is_none() && !is_lost(entry))
            .map(|entry| begin(entry, logs.get(entry.topic.as_str()).copied().unwrap_or(0)))
            .collect();
        match failed.filter(|_| ready.is_empty() && lost.is_empty()) {
            Some(code) => Err(NotReady::Committed(code.to_string())),
            None => Ok(Found { ready, missing, lost }),
        }
    }

    /// The ids of the topics that exist.
    pub(super) fn logs<'a>(&self, topics: &'a [Topic]) -> Logs<'a> {
        let cluster = topics.iter().any(|topic| topic.id.is_none()).then(|| self.cluster_id()).flatten();
        let known = topics.iter().filter(|topic| topic.error.is_none());
        known.map(|topic| (topic.name.as_str(), log_id(topic, cluster.as_deref()))).collect()
    }

    /// The id of the cluster. It takes the place of the ids of topics where a broker has none.
    fn cluster_id(&self) -> Option<String> {
        self.consumer.client().fetch_cluster_id(self.patience.for_answer(SHORT)?)
    }

    /// Asks for these topics. Returns `None` if there is no time left.
    fn ask_topics(&mut self, names: &HashSet<String>) -> Option<Question> {
        // Some clusters do not tell their controller.
        if self.topics.broker.is_none() && !raw::knows_controller(&self.consumer) {
            self.choose_broker(names)?;
        }
        let client = self.consumer.client();
        let mut question = Question::new(client)?;
        question.ask_topics(client, self.topics.broker, names.iter().map(String::as_str), SHORT);
        Some(question)
    }

    /// Chooses a broker that answers, to ask it instead of the controller. It costs a request.
    fn choose_broker(&mut self, names: &HashSet<String>) -> Option<()> {
        let Some(name) = names.iter().next() else { return Some(()) };
        let time = self.patience.for_answer(SHORT)?;
        if let Ok(metadata) = self.consumer.fetch_metadata(Some(name), time) {
            self.topics.broker = metadata.brokers().first().map(|broker| broker.id());
        }
        Some(())
    }

    /// Waits for the description of the topics. Returns `None` if no broker answers in time.
    fn described(&mut self, mut asked: Question, names: &HashSet<String>) -> Option<Vec<Topic>> {
        if names.is_empty() {
            return Some(Vec::new());
        }
        if self.topics.broker.is_none() {
            let told = asked.topics(self.patience.for_answer(CONTROLLER)?);
            if let Some(topics) = told.filter(|topics| !topics.is_empty()) {
                return Some(topics);
            }
            // The controller that the cluster tells may be gone, or may never have existed.
            self.choose_broker(names)?;
            asked = self.ask_topics(names)?;
        }
        asked.topics(self.patience.for_answer(SHORT)?).filter(|topics| !topics.is_empty())
    }

    /// Describes these topics. Returns `None` if no broker answers in time.
    pub(super) fn describe(&mut self, names: &HashSet<String>) -> Option<Vec<Topic>> {
        let asked = self.ask_topics(names)?;
        self.described(asked, names)
    }

    pub(super) fn read_committed(&self, partitions: &[(&str, i32)]) -> Result<Vec<Entry>, NotReady> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let no_time = || NotReady::Committed("no answer in time".to_owned());
        let time = self.patience.for_answer(PATIENCE).ok_or_else(no_time)?;
        let read = || -> KafkaResult<Vec<Entry>> {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in partitions {
                list.add_partition(topic, *partition);
            }
            Ok(raw::entries(&self.consumer.committed_offsets(list, time)?))
        };
        read().map_err(|error| NotReady::Committed(error.to_string()))
    }

    /// Like [`read_committed`](Self::read_committed), but an offset that cannot be read is an
    /// error.
    pub(super) fn read_all_committed(&self, partitions: &[(&str, i32)]) -> Result<Vec<Entry>, NotReady> {
        let committed = self.read_committed(partitions)?;
        match committed.iter().find_map(|entry| entry.error) {
            Some(code) => Err(NotReady::Committed(code.to_string())),
            None => Ok(committed),
        }
    }

    /// Reads the committed offsets of these partitions, and the mark of the group, in one request.
    fn read_committed_and_mark(&self, partitions: &[(String, i32)]) -> Result<Vec<Entry>, NotReady> {
        let wanted = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition));
        let wanted: Vec<(&str, i32)> = wanted.chain([mark::PLACE]).collect();
        self.read_committed(&wanted)
    }

    /// Commits the ends of all partitions, unless the group has an offset in any of them.
    fn decide_start(&mut self, topics: &[Topic], logs: &Logs<'_>) -> Result<(), NotReady> {
        let mut all = partitions_of(topics);
        all.retain(|(topic, _)| !self.topics.appeared_late(topic));
        let committed = self.read_all_committed(&all)?;
        let is_new = committed.iter().all(|entry| entry.offset < 0) && !self.has_started_before()?;
        if !all.is_empty() && is_new {
            let ends = self.ends(&all, Side::End)?;
            self.commit_offsets(&ends, logs)?;
            tracing::info!(
                partitions = ends.len(),
                "The group is new and starts at the present ends of the logs"
            );
        }
        self.mark(&Mark::default());
        self.start_is_decided = true;
        Ok(())
    }
}

/// Names the log of a topic. A broker before Kafka 2.8 has no ids of topics; the log is then one of
/// this name in this cluster, and the form of the number says so. 0 if nothing is known.
fn log_id(topic: &Topic, cluster: Option<&str>) -> u128 {
    match (topic.id, cluster) {
        (Some(id), _) => id,
        (None, None) => 0,
        (None, Some(cluster)) => {
            let hash = Sha256::new().chain_update(cluster).chain_update([0]).chain_update(&topic.name);
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&hash.finalize()[..16]);
            metadata::derived(u128::from_be_bytes(bytes))
        }
    }
}

/// Decides where a partition of this log begins, from its committed offset and map.
fn begin(committed: &Entry, id: u128) -> Ready {
    let Entry { topic, partition, offset, .. } = committed;
    let (offset, tracker, is_replacement) = match restore(committed, id) {
        Restored::Tracker { tracker, is_replacement } => {
            (Offset::Offset(*offset), Some(*tracker), is_replacement)
        }
        Restored::Nothing => (Offset::Beginning, None, false),
        Restored::OtherLog => (Offset::Beginning, Some(new_log()), true),
    };
    let log = Log { id, is_replacement };
    Ready { topic: topic.clone(), partition: *partition, log, offset, tracker }
}

/// Returns the tracker of a log that has replaced another one. Its first commit replaces the old
/// log's.
pub fn new_log() -> Tracker {
    let mut tracker = Tracker::new(0);
    tracker.touch();
    tracker
}

#[derive(Debug)]
enum Restored {
    Tracker { tracker: Box<Tracker>, is_replacement: bool },
    Nothing,
    OtherLog,
}

/// Reads the base and the map of a committed offset. A map that cannot be trusted is dropped, and
/// the records that finished behind the base run again.
fn restore(committed: &Entry, log: u128) -> Restored {
    let Entry { topic, partition, offset, metadata, .. } = committed;
    if *offset < 0 {
        return Restored::Nothing;
    }
    let only_offset =
        || Restored::Tracker { tracker: Box::new(Tracker::new(*offset)), is_replacement: false };
    let map = match metadata::decode(metadata, *offset) {
        Ok(Some(map)) => map,
        Ok(None) => return only_offset(),
        Err(error) => {
            tracing::warn!(topic, partition, offset, %error,
                "The committed metadata is not a map and is ignored; records after this offset may run again");
            return only_offset();
        }
    };
    match map.log {
        // Ids of two kinds cannot be compared: the brokers were updated.
        Some(other)
            if other.id != 0
                && log != 0
                && other.id != log
                && metadata::is_derived(other.id) == metadata::is_derived(log) =>
        {
            tracing::warn!(
                topic,
                partition,
                offset,
                "The committed offset belongs to another log: the topic was created again, and starts at its beginning"
            );
            Restored::OtherLog
        }
        Some(same) if same.id == log => {
            let unfinished = map.incomplete.len();
            tracing::debug!(topic, partition, offset, end = map.end, unfinished, "Map read back");
            let tracker = Box::new(Tracker::restore(map.base, map.end, &map.incomplete));
            Restored::Tracker { tracker, is_replacement: same.is_replacement }
        }
        // An offset without a log may come from any other client and counts. A map without a log
        // does not.
        _ => {
            if !map.incomplete.is_empty() || map.end > map.base {
                tracing::warn!(
                    topic,
                    partition,
                    offset,
                    "The committed map does not name its log and is ignored; records after this offset may run again"
                );
            }
            only_offset()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tracker::Snapshot;
    use super::*;

    fn committed(offset: i64, metadata: String) -> Entry {
        Entry { topic: "t".into(), partition: 0, offset, metadata: metadata.into_bytes(), error: None }
    }

    fn map(id: u128) -> String {
        metadata::encode(
            Log { id, is_replacement: true },
            &Snapshot { base: 5, end: 9, incomplete: vec![(5, 0), (7, 0)], change: 0 },
            metadata::CHARACTERS,
        )
    }

    #[test]
    fn without_ids_of_topics_a_log_is_named_by_its_cluster() {
        let topic = |name: &str, id| Topic {
            name: name.to_owned(),
            id,
            partitions: vec![0],
            readable: None,
            writable: None,
            error: None,
        };
        let ids = [("t", "a"), ("t", "b"), ("u", "a")]
            .map(|(name, cluster)| log_id(&topic(name, None), Some(cluster)));
        assert!(
            ids[0] != ids[1] && ids[0] != ids[2] && ids.iter().all(|id| metadata::is_derived(*id)),
            "{ids:?}"
        );
        assert_eq!(log_id(&topic("t", Some(7)), Some("a")), 7);
        assert_eq!(log_id(&topic("t", None), None), 0);
        let other = begin(&committed(5, map(ids[0])), ids[1]);
        assert!(other.offset == Offset::Beginning && other.log.is_replacement, "another cluster");
        // The brokers were updated, and have ids now: the offset counts, the map does not.
        let updated = begin(&committed(5, map(ids[0])), 0x4000 << 64);
        assert!(updated.offset == Offset::Offset(5) && !is_known(&updated, 6));
    }

    fn is_known(ready: &Ready, offset: i64) -> bool {
        ready.tracker.as_ref().is_some_and(|tracker| tracker.is_done(offset))
    }

    #[test]
    fn a_map_counts_for_its_own_log_only() {
        let same = begin(&committed(5, map(7)), 7);
        assert!(same.offset == Offset::Offset(5) && is_known(&same, 6) && !is_known(&same, 7));
        assert!(same.log.is_replacement, "it stays one after a restart");
        let other = begin(&committed(5, map(7)), 8);
        assert!(other.log == Log { id: 8, is_replacement: true });
        assert!(other.offset == Offset::Beginning && !is_known(&other, 0));
        assert!(other.tracker.unwrap().is_dirty(), "its first commit replaces the old one");
    }

    #[test]
    fn a_map_without_a_log_is_only_an_offset() {
        // Version 1 wrote this text: base 2, end 100, unfinished 2, 3, 6 and 8.
        let old = begin(&committed(2, "k1.AQDFCINCAmIAAAIB".into()), 7);
        assert!(old.offset == Offset::Offset(2) && is_known(&old, 1) && !is_known(&old, 4));
        for (wrote, has) in [(0, 7), (7, 0)] {
            let ready = begin(&committed(5, map(wrote)), has);
            assert!(ready.offset == Offset::Offset(5) && !is_known(&ready, 6), "{wrote} {has}");
        }
        assert!(is_known(&begin(&committed(5, map(0)), 0), 6), "a broker without ids");
    }

    #[test]
    fn nothing_committed_is_the_beginning() {
        let ready = begin(&committed(-1001, String::new()), 7);
        assert!(ready.offset == Offset::Beginning && ready.tracker.is_none());
    }
}
