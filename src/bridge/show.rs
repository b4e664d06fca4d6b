//! Shows the state of a pipeline: metrics, readiness, and a log line for each change.

use std::time::Duration;

use tokio::time::Instant;

use super::Pipeline;
use super::board::{SAMPLE_INTERVAL, Sample};
use super::list::seconds;
use super::overview::{in_hand, rough};
use super::work::Kept;
use crate::delivery::{NoRoom, OpenBreaker, StateKind, Stats, Time};
use crate::telemetry::{BreakerState, Problem, ProblemKind};
use crate::view::{Binding, Change};

/// A write that has failed for this long is a problem, and not a passing fault.
const WRITES_FAIL: Duration = Duration::from_secs(3);

/// The state that the metrics show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    stats: Stats,
    no_room: Option<NoRoom>,
    breaker: Option<OpenBreaker>,
    binding: Binding,
    /// Whether held items stop the pipeline. A pause does not hide that.
    is_held_full: bool,
}

impl Pipeline {
    /// Shows that the loop is alive, and checks for a lack of progress.
    pub(super) fn tick(&mut self) {
        self.status.beat();
        self.show_failing_writes();
        let stats = self.core.stats();
        self.sample(&stats);
        self.show_oldest();
        self.count_replicas();
        // Items that wait for a person, or for the time that the rate gives them, are not stalled.
        let waiting = stats.items.saturating_sub(stats.pending + stats.held_live);
        let is_waiting =
            waiting > 0 && stats.running == 0 && !self.core.is_paused() && !self.core.waits_for_rate();
        if !is_waiting {
            self.progress = Instant::now();
        }
        if self.progress.elapsed() < self.shared.stalled {
            return self.status.clear(ProblemKind::Stalled, "");
        }
        let time = rough(self.progress.elapsed());
        self.status.raise(Problem {
            kind: ProblemKind::Stalled,
            subject: String::new(),
            text: format!("{waiting} items wait, and none of them has made progress for {time}"),
            help:
                "see the other problems and the log for the cause; a restart returns the items to the broker"
                    .to_owned(),
        });
    }

    /// A target that exists may refuse every write, as a full queue does. Its probe does not show
    /// that.
    fn show_failing_writes(&mut self) {
        // An item that lost its delivery writes again only after its redelivery.
        let works = &self.works;
        self.failing_writes.retain(|item, _| matches!(works.get(item), Some(Kept::Whole(_))));
        let oldest = self.failing_writes.values().min_by_key(|(began, _)| *began);
        let Some((_, error)) = oldest.filter(|(began, _)| began.elapsed() > WRITES_FAIL) else {
            return self.status.clear(ProblemKind::TargetUnwritable, "writes");
        };
        self.status.raise(Problem {
            kind: ProblemKind::TargetUnwritable,
            subject: "writes".to_owned(),
            text: format!("{} items cannot be written: {error}", self.failing_writes.len()),
            help: "make room at the target, or allow writes to it; the items are kept until then".to_owned(),
        });
    }

    /// Updates metrics and readiness after a change.
    pub(super) fn show(&mut self) {
        let stats = self.core.stats();
        let no_room = self.core.no_room();
        let now = Shown {
            stats,
            no_room,
            breaker: self.core.open_breaker(),
            binding: self.binding(&stats, no_room),
            is_held_full: self.core.is_held_full() || self.has_only_held_slots(&stats),
        };
        let before = self.shown.replace(now);
        if before == Some(now) {
            return;
        }
        let Shown { stats, no_room, breaker, binding, is_held_full } = now;
        let metrics = &self.shared.metrics;
        metrics.in_flight.set(i64::from(stats.running));
        metrics.in_flight_limit.set(i64::from(stats.limit));
        metrics.held.set(i64::from(stats.states[StateKind::Held]));
        metrics.orphans.set(i64::from(stats.pending));
        metrics.blocked_by_key.set(i64::from(stats.blocked_by_key));
        metrics.message_bytes.set(i64::try_from(stats.bytes).unwrap_or(i64::MAX));
        metrics.items(in_hand(&stats));
        metrics.binding(binding);
        metrics.breaker(match breaker {
            None => BreakerState::Closed,
            Some(OpenBreaker { probe: None, .. }) => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        });
        metrics.paused.set(i64::from(self.core.is_paused()));
        metrics.draining.set(i64::from(self.core.is_draining()));
        if let Some(before) = before.filter(|before| before.stats.limit != stats.limit) {
            tell_limit(is_low(&before.stats), &stats);
        }
        if before.is_none_or(|before| before.is_held_full != is_held_full) {
            self.status.set_held_full(is_held_full);
        }
        if no_room == Some(NoRoom::Bytes) && before.is_none_or(|before| before.no_room != no_room) {
            tracing::warn!(
                bytes = stats.bytes,
                "No new items are taken: the messages in hand are at limits.held_bytes"
            );
        }
    }

    /// Shows the oldest request and the longest wait.
    fn show_oldest(&self) {
        let oldest = |times: &mut dyn Iterator<Item = Time>| {
            times.min().map_or(0, |time| seconds(self.board.wall(time)))
        };
        let metrics = &self.shared.metrics;
        metrics.oldest_attempt.set(oldest(&mut self.board.rows().filter_map(|row| row.started)));
        let waits = self.board.rows().filter(|row| row.started.is_none());
        metrics.oldest_wait.set(oldest(&mut waits.map(|row| row.since)));
        metrics.pods.set(i64::try_from(self.pods()).unwrap_or(i64::MAX));
    }

    /// Whether the broker hands out nothing more, because held items have all of its slots.
    fn has_only_held_slots(&self, stats: &Stats) -> bool {
        self.core.is_prefetched() && stats.held_live >= self.core.max_in_flight()
    }

    /// Counts the replicas, in a task because that may ask the name service.
    fn count_replicas(&mut self) {
        let Some(peers) = self.peers() else { return };
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            shared.metrics.replicas.set(i64::try_from(peers.count().await).unwrap_or(i64::MAX));
        });
    }

    /// Adds a point to the chart of the last hour, if it is due.
    fn sample(&mut self, stats: &Stats) {
        let at = self.started.elapsed();
        if self.board.samples.back().is_some_and(|latest| at < latest.at + SAMPLE_INTERVAL) {
            return;
        }
        self.board.sample(Sample {
            at,
            backlog: self.backlog.unwrap_or(0),
            running: stats.running,
            held: stats.states[StateKind::Held],
            totals: self.board.totals,
        });
        if self.board.has_readers() {
            let overview = self.overview(false);
            // Without a reader the change is for nobody.
            let _ = self.board.changes.send(Change::Pipeline(Box::new(overview)));
        }
    }
}

/// Whether the service did not start all requests. A person may have lowered the ceiling, and that
/// does not make the limit low.
fn is_low(stats: &Stats) -> bool {
    stats.limit < stats.ceiling
}

/// Logs once that the working limit fell, and once that it is back.
fn tell_limit(was_low: bool, stats: &Stats) {
    let (limit, ceiling) = (stats.limit, stats.ceiling);
    match (was_low, is_low(stats)) {
        (false, true) => tracing::warn!(
            limit,
            max_in_flight = ceiling,
            "The working limit fell: the service did not start all requests; the limit rises again with time"
        ),
        (true, false) => tracing::info!(limit, "The working limit is back at max_in_flight"),
        _ => {}
    }
}
