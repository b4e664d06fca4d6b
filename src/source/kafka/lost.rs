//! Partitions that have records and no committed offset, and that must not start by themselves:
//! the group has lost their offsets, or `start: refuse` asks for a decision.
//!
//! Such a partition waits. The problem names the number of records that would run, and a person
//! decides with `longhaul resume PIPELINE --from …`. The decision is committed for every partition
//! of these topics that has no offset, also for those of other members, which find it within
//! seconds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::mark::Mark;
use super::metadata::{self, Log};
use super::start::{Logs, NotReady};
use super::thread::Worker;
use super::tracker::Snapshot;
use crate::config::Start;
use crate::connect::kafka::notice::{Entry, Side, Topic};
use crate::connect::kafka::raw::{self, Question};
use crate::source::StartFrom;
use crate::telemetry::ProblemKind;

/// How long the poll thread may wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most partitions that a problem names.
const NAMED: usize = 5;

/// A partition that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub topic: String,
    pub partition: i32,
    /// The records in its log.
    pub records: i64,
    /// Whether it has had an offset; if not, `start: refuse` holds it back.
    pub was_started: bool,
}

impl Lost {
    pub fn is(&self, topic: &str, partition: i32) -> bool {
        self.topic == topic && self.partition == partition
    }
}

impl Worker {
    /// Those of the committed entries that must not start by themselves.
    pub(super) fn lost(
        &self,
        committed: &[Entry],
        logs: &Logs<'_>,
        mark: &Mark,
    ) -> Result<Vec<Lost>, NotReady> {
        let has_started = |entry: &Entry| {
            logs.get(entry.topic.as_str()).is_some_and(|log| mark.names(*log, entry.partition))
        };
        let without: Vec<(&Entry, bool)> = committed
            .iter()
            .filter(|entry| entry.error.is_none() && entry.offset < 0)
            .map(|entry| (entry, has_started(entry)))
            .filter(|(_, was_started)| *was_started || self.settings.start == Start::Refuse)
            .collect();
        if without.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<(&str, i32)> =
            without.iter().map(|(entry, _)| (entry.topic.as_str(), entry.partition)).collect();
        let starts = self.ends(&places, Side::Start)?;
        let ends = self.ends(&places, Side::End)?;
        let lost = without.into_iter().filter_map(|(entry, was_started)| {
            let place = (entry.topic.clone(), entry.partition);
            // Without a record there is nothing to decide.
            let records = ends.get(&place)? - starts.get(&place)?;
            (records > 0).then_some(Lost { topic: place.0, partition: place.1, records, was_started })
        });
        Ok(lost.collect())
    }

    /// Reports the partitions that wait for a decision, or that none does any more.
    pub(super) fn report_lost(&mut self) {
        let group = self.settings.group.clone();
        let lost = self.waiting.lost();
        if lost.is_empty() {
            return self.solved(ProblemKind::OffsetsLost, &group);
        }
        let records: i64 = lost.iter().map(|one| one.records).sum();
        let mut named: Vec<String> =
            lost.iter().take(NAMED).map(|one| format!("{}/{}", one.topic, one.partition)).collect();
        if lost.len() > NAMED {
            named.push(format!("{} more", lost.len() - NAMED));
        }
        let named = named.join(", ");
        let text = if lost.iter().any(|one| one.was_started) {
            format!(
                "group {group} has lost its committed offsets of {named}: {records} records would run, also those that are done"
            )
        } else {
            format!(
                "group {group} has no committed offset for {named} (start: refuse): {records} records would run"
            )
        };
        let help = format!(
            "`longhaul resume {} --from earliest` runs them, `--from latest` skips them, and `--from 2026-01-31T12:00:00Z` continues with the records since that time",
            self.settings.pipeline
        );
        self.problem(ProblemKind::OffsetsLost, &group, text, &help);
    }

    /// Commits the place where the partitions without an offset begin, and starts them.
    pub(super) fn start_from(&mut self, from: StartFrom, now: Instant) {
        let topics: HashSet<String> = self.waiting.lost().iter().map(|one| one.topic.clone()).collect();
        if topics.is_empty() {
            return tracing::info!(%from, "No partition waits for a decision where it starts");
        }
        match self.commit_starts(&topics, from) {
            Ok(partitions) => {
                tracing::info!(%from, partitions, "The partitions without offsets start as a person decided");
                self.start_waiting(now);
            }
            Err(error) => tracing::warn!(%from, %error,
                "The start could not be committed; ask again with `longhaul resume --from`"),
        }
    }

    fn commit_starts(&mut self, names: &HashSet<String>, from: StartFrom) -> Result<usize, NotReady> {
        let topics = self.describe(names).ok_or(NotReady::Topics)?;
        let logs = self.logs(&topics);
        let all = partitions_of(&topics);
        let committed = self.read_all_committed(&all)?;
        let without: Vec<(&str, i32)> = committed
            .iter()
            .filter(|entry| entry.offset < 0)
            .map(|entry| (entry.topic.as_str(), entry.partition))
            .collect();
        let offsets = match from {
            StartFrom::Earliest => self.ends(&without, Side::Start)?,
            StartFrom::Latest => self.ends(&without, Side::End)?,
            StartFrom::Time(time) => self.offsets_at(&without, time.as_millisecond())?,
        };
        self.commit_offsets(&offsets, &logs)?;
        Ok(offsets.len())
    }

    /// The first offsets whose records are not older than this time, in milliseconds since 1970.
    fn offsets_at(&self, partitions: &[(&str, i32)], time: i64) -> Result<Offsets, NotReady> {
        let mut offsets = self.ends(partitions, Side::End)?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, Offset::Offset(time)).map_err(|_| NotReady::Ends)?;
        }
        let time = self.patience.for_answer(PATIENCE).ok_or(NotReady::Ends)?;
        let found = self.consumer.offsets_for_times(list, time).map_err(|_| NotReady::Ends)?;
        // A partition without a record since then has no answer and starts at its end.
        for entry in raw::entries(&found).into_iter().filter(|entry| entry.offset >= 0) {
            offsets.insert((entry.topic, entry.partition), entry.offset);
        }
        Ok(offsets)
    }

    /// One end of the logs of all these partitions.
    pub(super) fn ends(&self, partitions: &[(&str, i32)], side: Side) -> Result<Offsets, NotReady> {
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let mut question = Question::new(self.consumer.client()).ok_or(NotReady::Ends)?;
        let time = self.patience.for_answer(PATIENCE).ok_or(NotReady::Ends)?;
        question.ask_offsets(&self.consumer, partitions, side, time);
        let ends = question.offsets(time).filter(|ends| ends.len() == partitions.len());
        let ends = ends.ok_or(NotReady::Ends)?;
        Ok(ends.into_iter().map(|end| ((end.topic, end.partition), end.offset)).collect())
    }

    /// Commits first offsets, each with an empty map that names its log.
    pub(super) fn commit_offsets(&self, offsets: &Offsets, logs: &Logs<'_>) -> Result<(), NotReady> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for ((topic, partition), offset) in offsets {
            let id = logs.get(topic.as_str()).copied().unwrap_or(0);
            let log = Log { id, is_replacement: false };
            let empty = Snapshot { base: *offset, end: *offset, incomplete: Vec::new(), change: 0 };
            let mut element = list.add_partition(topic, *partition);
            element.set_offset(Offset::Offset(*offset)).map_err(|_| NotReady::Ends)?;
            element.set_metadata(metadata::encode(log, &empty, metadata::CHARACTERS));
        }
        let time = self.patience.for_answer(PATIENCE);
        let time = time.ok_or(NotReady::Decision(RDKafkaErrorCode::OperationTimedOut))?;
        raw::commit_within(&self.consumer, &list, time).map_err(NotReady::Decision)
    }
}

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// All partitions of the topics that were described.
pub fn partitions_of(topics: &[Topic]) -> Vec<(&str, i32)> {
    let known = topics.iter().filter(|topic| topic.error.is_none());
    let all: BTreeSet<(&str, i32)> = known
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.as_str(), *partition)))
        .collect();
    all.into_iter().collect()
}
