//! When to commit, and what to make of the answer.
//!
//! The first change after a quiet time is committed within [`GATHER`], later ones every [`INTERVAL`],
//! all changed partitions in one request: what a crash repeats is what was in flight plus one interval.
//! At most one request is under way, because librdkafka keeps a commit while the coordinator is away and
//! sends it with whatever generation it has by then; a queue of them could overwrite the map of the
//! next owner. A refused commit changes nothing: the partition stays dirty and is committed again.
//!
//! A broker answers one request of a connection after the other, so a member that waits to join again
//! can't commit, for as long as the group waits for a dead member. What finishes then is lost if we die,
//! so nothing new is started while something has waited for its commit for [`LATE`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::raw::Entry;
use crate::delivery::Epoch;

const GATHER: Duration = Duration::from_millis(50);
const INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// More than a commit takes that is answered, and all that may be forgotten besides what is in flight.
const LATE: Duration = Duration::from_millis(300);
/// librdkafka answers every commit, at the latest when its request has timed out (60 s). Should an
/// answer get lost all the same, this is when the commit counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct Committer {
    dirty_since: Option<Instant>,
    /// Since when the oldest change waits for the answer to its commit.
    unconfirmed_since: Option<Instant>,
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
    /// What the tracker is to acknowledge.
    pub change: u64,
}

struct UnderWay {
    parts: Vec<Part>,
    sent: Instant,
}

impl Committer {
    /// Something finished.
    pub fn touch(&mut self, now: Instant) {
        self.dirty_since.get_or_insert(now);
        self.unconfirmed_since.get_or_insert(now);
    }

    /// Whether finished work waits for its commit for so long that no more should be begun.
    pub fn is_late(&self, now: Instant) -> bool {
        self.unconfirmed_since.is_some_and(|since| now.saturating_duration_since(since) >= LATE)
    }

    /// When the next commit is due, if any is.
    pub fn due(&self) -> Option<Instant> {
        let gathered = self.dirty_since? + GATHER;
        if let Some(under_way) = &self.under_way {
            return Some(under_way.sent + PATIENCE);
        }
        let spaced = self.last_sent.map(|sent| sent + INTERVAL);
        [Some(gathered), spaced, self.retry_at].into_iter().flatten().max()
    }

    /// Whether no commit is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Whether everything was taken by the broker.
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

    /// Whatever waited for a commit is in the hands of others by now.
    pub fn nothing_waits(&mut self) {
        self.unconfirmed_since = None;
    }

    /// There was nothing to commit after all.
    pub fn nothing_to_send(&mut self) {
        self.dirty_since = None;
        self.unconfirmed_since = None;
    }

    /// Finds the parts that an answer belongs to. None when it is the answer to a commit that was given
    /// up as failed: nobody waits for that one.
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

    /// Some of it was refused, or all.
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
        self.unconfirmed_since = self.dirty_since;
    }

    /// Whether the failure just noted is the first one in a row, which is worth a line.
    pub fn is_first_failure(&self) -> bool {
        self.failures == 1
    }
}

/// Refusals that say no more than that the group is busy with a rebalance, or moved on without us.
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

#[cfg(test)]
mod tests;
