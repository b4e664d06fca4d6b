//! When to commit, and what the answer means.
//!
//! The first change after a quiet time is committed within [`GATHER`], later ones every
//! [`INTERVAL`], all changed partitions in one request: a crash repeats the items in flight plus
//! one interval. At most one request is under way, because librdkafka keeps a commit while the
//! coordinator is away and sends it with the generation that it has by then; a queue of them could
//! overwrite the map of the next owner. A refused commit changes nothing: the partition stays dirty
//! and is committed again.
//!
//! A broker may refuse one partition (a topic that we may not read any more) and take the others,
//! so a refusal belongs to its [`Partition`](super::partition::Partition). Only a request that
//! failed as a whole delays the next request.
//!
//! A broker answers one request of a connection after the other, so a member that waits to join
//! again cannot commit for as long as the group waits for a dead member. Work that finishes then is
//! lost if we die, so a partition starts nothing new while its finished work waits for a commit for
//! long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::notice::Entry;
use crate::delivery::Epoch;

const GATHER: Duration = Duration::from_millis(50);
const INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// librdkafka answers every commit, at the latest when its request has timed out (60 s). Should an
/// answer get lost all the same, this is when the commit counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct Committer {
    dirty_since: Option<Instant>,
    /// When a partition whose commit was refused is tried again.
    refused_again_at: Option<Instant>,
    last_sent: Option<Instant>,
    under_way: Option<UnderWay>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// A partition's share of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub epoch: Epoch,
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// The change that the tracker is to acknowledge.
    pub change: u64,
}

struct UnderWay {
    parts: Vec<Part>,
    sent: Instant,
}

impl Committer {
    /// Something changed.
    pub fn touch(&mut self, now: Instant) {
        self.dirty_since.get_or_insert(now);
    }

    /// Partitions whose commit was refused are tried again at this time.
    pub fn refused_until(&mut self, again_at: Option<Instant>) {
        self.refused_again_at = again_at;
    }

    /// When the next commit is due, if any is.
    pub fn due(&self) -> Option<Instant> {
        if let Some(under_way) = &self.under_way {
            return Some(under_way.sent + PATIENCE);
        }
        let gathered = self.dirty_since.map(|since| since + GATHER);
        let first = [gathered, self.refused_again_at].into_iter().flatten().min()?;
        let spaced = self.last_sent.map(|sent| sent + INTERVAL);
        [Some(first), spaced, self.retry_at].into_iter().flatten().max()
    }

    /// Whether no commit is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Whether the broker took everything that it does not refuse.
    pub fn is_settled(&self) -> bool {
        self.dirty_since.is_none() && self.under_way.is_none()
    }

    /// Commits as soon as possible, for the end.
    pub fn hurry(&mut self) {
        self.last_sent = None;
        self.retry_at = None;
        self.dirty_since = self.dirty_since.map(|since| since.checked_sub(GATHER).unwrap_or(since));
    }

    pub fn sent(&mut self, parts: Vec<Part>, now: Instant) {
        self.dirty_since = None;
        self.last_sent = Some(now);
        self.under_way = Some(UnderWay { parts, sent: now });
    }

    /// There was nothing to commit after all.
    pub fn nothing_to_send(&mut self) {
        self.dirty_since = None;
    }

    /// Finds the parts that an answer belongs to. None when it is the answer to a commit that was
    /// given up as failed: nobody waits for that one.
    pub fn answered(&mut self, entries: &[Entry]) -> Option<Vec<Part>> {
        let under_way = self.under_way.take_if(|under_way| {
            let found = |part: &Part| {
                entries.iter().any(|entry| {
                    (entry.partition, entry.offset) == (part.partition, part.offset)
                        && *entry.topic == *part.topic
                })
            };
            entries.len() == under_way.parts.len() && under_way.parts.iter().all(found)
        })?;
        Some(under_way.parts)
    }

    /// The request failed as a whole.
    pub fn failed(&mut self, now: Instant) {
        self.under_way = None;
        let backoff = INTERVAL.saturating_mul(1 << self.failures.min(6)).min(LONGEST_BACKOFF);
        self.failures += 1;
        self.retry_at = Some(now + backoff);
        self.touch(now);
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }
}

/// Refusals that mean only that the group is busy with a rebalance, or went on without us.
pub fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        CoordinatorLoadInProgress, IllegalGeneration, NotCoordinator, RebalanceInProgress, StaleMemberEpoch,
        UnknownMemberId,
    };
    matches!(
        code,
        CoordinatorLoadInProgress
            | IllegalGeneration
            | NotCoordinator
            | RebalanceInProgress
            | StaleMemberEpoch
            | UnknownMemberId
    )
}

/// Refusals that concern one partition, also when the broker gives them for each partition of a
/// request.
pub fn is_of_partition(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        InvalidCommitOffsetSize, OffsetMetadataTooLarge, TopicAuthorizationFailed, UnknownTopicOrPartition,
    };
    matches!(
        code,
        InvalidCommitOffsetSize | OffsetMetadataTooLarge | TopicAuthorizationFailed | UnknownTopicOrPartition
    )
}

#[cfg(test)]
mod tests;
