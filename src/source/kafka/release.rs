//! Gives partitions back as planned: to a member that joined, or to all others in a drain.
//!
//! The group waits for our answer while polling goes on, so the release can be delayed a little. No
//! record is taken any more, requests that are about to end may end, and finished work is
//! committed, so that the next owner does not run it again. Requests that run longer continue as
//! orphans. The delay is short because the group stands still meanwhile: a member that joins gets
//! nothing before we have answered.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::thread::Worker;
use crate::source::SourceEvent;

/// How long running requests may continue after the intake stopped, before their partitions are
/// given up.
const RUN_OUT: Duration = Duration::from_secs(2);
/// The longest delay of a release, for a broker that does not answer commits.
const LONGEST: Duration = Duration::from_secs(5);

/// A revocation that is not answered yet.
pub struct Release {
    partitions: Vec<(String, i32)>,
    began: Instant,
}

impl Worker {
    /// Takes nothing more from these partitions, and gives them back when that costs nothing, or
    /// when the time is over.
    pub fn begin_release(&mut self, partitions: Vec<(String, i32)>, now: Instant) {
        for (topic, number) in &partitions {
            let Some(partition) = self.sessions.find(topic, *number) else { continue };
            let epoch = partition.place.epoch;
            partition.retire(self.intake.forget(epoch));
            self.send(SourceEvent::Releasing { epoch });
        }
        self.hurry_commits(now);
        // librdkafka revokes nothing more before the answer. If it did, both would be answered at
        // once.
        let before = self.release.take();
        let (mut all, began) = before.map_or((Vec::new(), now), |one| (one.partitions, one.began));
        all.extend(partitions);
        self.release = Some(Release { partitions: all, began });
        self.release_when_ready(now);
    }

    pub fn release_when_ready(&mut self, now: Instant) {
        let Some(release) = &self.release else { return };
        let waited = now.saturating_duration_since(release.began);
        let (mut busy, mut dirty) = (0, false);
        for (topic, number) in &release.partitions {
            let Some(partition) = self.sessions.find(topic, *number) else { continue };
            busy += partition.in_flight();
            dirty |= partition.is_dirty();
        }
        let stopped = self.stopped_at.map_or(release.began, |stopped| stopped.min(release.began));
        let has_run_out = now.saturating_duration_since(stopped) >= RUN_OUT;
        // A partition that is not dirty has no commit under way either.
        let ready = !dirty && (busy == 0 || has_run_out);
        if !ready && waited < LONGEST && !self.consumer.assignment_lost() {
            return;
        }
        if dirty {
            tracing::warn!(
                "Partitions are given back before their last commit; the records that finished last may run again"
            );
        }
        self.finish_release();
    }

    /// Answers the group, even if commits or requests are under way.
    pub fn finish_release(&mut self) {
        if let Some(release) = self.release.take() {
            self.give_back(release.partitions, "the group gave it to another member");
        }
    }
}
