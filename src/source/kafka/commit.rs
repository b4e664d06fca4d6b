//! Decides when to commit, and reads the broker's answer.
//!
//! The first change after a quiet time is committed within [`GATHER`], later ones every
//! [`INTERVAL`], all changed partitions in one request. So a crash repeats the items in flight and
//! the work of one interval. At most one request is under way: while the coordinator is away,
//! librdkafka keeps a commit and sends it later with the generation of that moment, and several of
//! these could overwrite the map of the next owner. A refused commit changes nothing: the partition
//! stays dirty and is committed again.
//!
//! A broker may refuse one partition (for example a topic that we may no longer read) and take the
//! others, so a refusal belongs to its [`Partition`](super::partition::Partition). Only a request
//! that failed as a whole delays the next request.
//!
//! A broker answers the requests of a connection in order. So a member that waits to join again
//! cannot commit while the group waits for a dead member. Work that finishes then is lost if this
//! process dies. So a partition starts nothing new once its finished work has waited too long for a
//! commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use crate::connect::kafka::notice::Entry;
use crate::delivery::Epoch;

const GATHER: Duration = Duration::from_millis(50);
const INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// After this time without an answer a commit counts as failed. librdkafka answers every commit at
/// the latest when its request has timed out (60 s), so this guards against a lost answer.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct Committer {
    dirty_since: Option<Instant>,
    /// The time at which a partition with a refused commit is tried again.
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
    /// The change that the tracker acknowledges after the commit.
    pub change: u64,
}

struct UnderWay {
    parts: Vec<Part>,
    sent: Instant,
}

impl Committer {
    /// Records that something has changed.
    pub fn touch(&mut self, now: Instant) {
        self.dirty_since.get_or_insert(now);
    }

    /// Sets the time at which partitions with a refused commit are tried again.
    pub fn refused_until(&mut self, again_at: Option<Instant>) {
        self.refused_again_at = again_at;
    }

    /// Returns the time of the next commit, if one is due.
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

    /// Whether the broker has taken everything, apart from the partitions that it refuses.
    pub fn is_settled(&self) -> bool {
        self.dirty_since.is_none() && self.under_way.is_none()
    }

    /// Commits as soon as possible, before the source ends.
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

    /// Records that there was nothing to commit.
    pub fn nothing_to_send(&mut self) {
        self.dirty_since = None;
    }

    /// Returns the parts that an answer belongs to. `None` if it answers a commit that already
    /// counts as failed.
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

    /// Records that the request failed as a whole.
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

/// Whether a refusal only means that the group is rebalancing, or continued without this member.
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

/// Whether a refusal concerns one partition, even if the broker gives it for each partition of a
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
