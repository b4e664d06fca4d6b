//! The state of a pipeline for people: one sentence, the limit that binds, and a forecast.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Pipeline;
use super::board::Sample;
use crate::delivery::{NoRoom, State, StateKind, Stats, Time};
use crate::guard;
use crate::telemetry::{Reason, timestamp};
use crate::view::{self, Binding, ItemState, PipelineState, number};

/// The part of the last hour whose rates the forecast uses.
const WINDOW: Duration = Duration::from_secs(300);

/// A forecast needs samples over at least this time, unless the durations of items are known.
const WINDOW_MIN: Duration = Duration::from_secs(60);

impl Pipeline {
    pub(super) fn overview(&self, with_history: bool) -> view::Pipeline {
        let stats = self.core.stats();
        let problems: Vec<Reason> = self.status.reasons();
        let state = self.state_of(&problems);
        let forecast = self.forecast(&stats);
        view::Pipeline {
            name: self.shared.name.clone(),
            // The API adds it.
            replica: String::new(),
            source: self.shared.source.clone(),
            sink: self.shared.sink.destination().to_owned(),
            state,
            sentence: self.sentence(state, &stats, &problems, forecast.as_ref()),
            backlog: self.backlog,
            counts: self.counts(&stats),
            limit: self.limit_view(&stats),
            breaker: self.breaker_view(),
            problems: problems.into_iter().map(problem).collect(),
            forecast: forecast.map(|forecast| self.forecast_view(forecast)),
            done_per_minute: self.done_per_minute(),
            mean_seconds: self.board.duration().map(|(mean, _)| mean),
            pods: self.pods(),
            paused_partitions: self.partitions.paused(),
            partitions: if with_history { self.partitions.shown() } else { Vec::new() },
            guard: self.shared.guard.as_ref().map(guard_view),
            history: if with_history { self.history() } else { Vec::new() },
        }
    }

    /// The number of pods that reported a running item.
    pub(super) fn pods(&self) -> usize {
        let running = self.core.views().filter(|view| view.state == State::Running);
        let reports = running.filter_map(|view| self.report(view.item)?.pod());
        reports.collect::<BTreeSet<String>>().len()
    }

    fn state_of(&self, problems: &[Reason]) -> PipelineState {
        if self.is_at_rest {
            PipelineState::Drained
        } else if self.core.is_draining() {
            PipelineState::Draining
        } else if self.core.is_paused() {
            PipelineState::Paused
        } else if problems.is_empty() {
            PipelineState::Running
        } else {
            PipelineState::Stuck
        }
    }

    /// Items in each state. Every state is named, also one without items.
    fn counts(&self, stats: &Stats) -> BTreeMap<ItemState, u64> {
        let totals = self.board.totals;
        let in_hand = ItemState::UNFINISHED.into_iter().zip(in_hand(stats).map(u64::from));
        let finished = [
            (ItemState::Done, totals.done),
            (ItemState::DeadLettered, totals.dead_lettered),
            (ItemState::Dropped, totals.dropped),
        ];
        in_hand.chain(finished).collect()
    }

    fn limit_view(&self, stats: &Stats) -> view::Limit {
        view::Limit {
            max_in_flight: self.core.max_in_flight(),
            ceiling: stats.ceiling,
            working: stats.limit,
            running: stats.running,
            binding: self.binding(stats, self.core.no_room()),
        }
    }

    /// The bound that keeps further items from starting.
    pub(super) fn binding(&self, stats: &Stats, no_room: Option<NoRoom>) -> Binding {
        match no_room {
            Some(NoRoom::Draining) => Binding::Draining,
            Some(NoRoom::Paused) => Binding::Paused,
            Some(NoRoom::Held) => Binding::HeldMax,
            Some(NoRoom::Bytes) => Binding::HeldBytes,
            Some(NoRoom::Breaker) => Binding::Breaker,
            _ if self.core.waits_for_rate() => Binding::Rate,
            Some(NoRoom::Slots) if stats.limit < stats.ceiling => Binding::WorkingLimit,
            Some(NoRoom::Slots) if stats.ceiling < self.core.max_in_flight() => Binding::Ceiling,
            Some(NoRoom::Slots) => Binding::MaxInFlight,
            None if self.is_occupied(stats) => Binding::Occupied,
            None => Binding::Backlog,
        }
    }

    /// Whether the broker hands out nothing more, because items that do not run have the slots.
    fn is_occupied(&self, stats: &Stats) -> bool {
        self.core.is_prefetched()
            && self.backlog.is_some_and(|backlog| backlog > 0)
            && stats.items >= self.core.max_in_flight()
    }

    fn breaker_view(&self) -> Option<view::Breaker> {
        let open = self.core.open_breaker()?;
        Some(view::Breaker {
            cause: open.cause.label().to_owned(),
            answer: self.last_failure.clone().unwrap_or_default(),
            since: self.board.stamp(open.since),
            probe: open.probe.map(|probe| self.board.stamp(probe)),
            resume: "the breaker closes, and waiting items start at once".to_owned(),
        })
    }

    fn sentence(
        &self,
        state: PipelineState,
        stats: &Stats,
        problems: &[Reason],
        forecast: Option<&Forecast>,
    ) -> String {
        let running = stats.running;
        match state {
            PipelineState::Drained => "drained: `longhaul resume` starts it again".to_owned(),
            PipelineState::Draining => format!("draining: {running} running items finish"),
            PipelineState::Paused => {
                let paused = format!("paused: {running} items run, and nothing new starts");
                if problems.is_empty() { paused } else { format!("{paused}; {}", stuck(problems)) }
            }
            PipelineState::Stuck => stuck(problems),
            PipelineState::Running => {
                let done = number(self.board.totals.done);
                match forecast {
                    None if running == 0 && self.remaining(stats) == 0 => format!("{done} done, idle"),
                    None => format!("{done} done, {} to go, no forecast yet", number(self.remaining(stats))),
                    Some(Forecast::Never) => format!("{done} done, growing: never clears at this rate"),
                    Some(Forecast::In { left, spread }) => {
                        let at = self.board.stamp(self.started.elapsed().saturating_add(*left));
                        let clock = at.get(11..16).unwrap_or_default();
                        format!("{done} done, clears at about {clock} UTC ± {}", rough(*spread))
                    }
                }
            }
        }
    }

    /// Items that are still to be done, as far as they are known.
    fn remaining(&self, stats: &Stats) -> u64 {
        let kinds = [StateKind::Waiting, StateKind::Asking, StateKind::Running, StateKind::Retrying];
        let in_hand: u64 = kinds.into_iter().map(|kind| u64::from(stats.states[kind])).sum();
        self.backlog.unwrap_or(0).saturating_add(in_hand)
    }

    /// Items done per second in the latest `window`, and the change of the backlog per second.
    fn rates(&self, window: Duration) -> Option<(f64, f64, Duration)> {
        let latest = self.board.samples.back()?;
        let from = latest.at.saturating_sub(window);
        let first = self.board.samples.iter().find(|sample| sample.at >= from)?;
        let time = latest.at.saturating_sub(first.at);
        let seconds = time.as_secs_f64();
        if seconds < 1.0 {
            return None;
        }
        let done = (latest.totals.done - first.totals.done) as f64;
        Some((done / seconds, (latest.backlog as f64 - first.backlog as f64) / seconds, time))
    }

    fn done_per_minute(&self) -> f64 {
        self.rates(WINDOW).map_or(0.0, |(done, _, _)| done * 60.0)
    }

    /// When the backlog will be gone. All slots are busy while there is a backlog, so the service
    /// does as many items at once as the working limit and the rate allow, each for the mean
    /// duration. Items that arrive take a part of that rate.
    fn forecast(&self, stats: &Stats) -> Option<Forecast> {
        let remaining = self.remaining(stats) as f64;
        if remaining == 0.0 {
            return None;
        }
        let (mean, deviation) = self.board.duration()?;
        let mean = mean.max(0.001);
        let capacity = (f64::from(stats.limit) / mean).min(self.core.starts_per_second());
        let is_measured = |time: &Duration| *time >= WINDOW_MIN;
        // A batch that arrived at once is not a stream: the backlog grows only if it also grew in
        // the last minute.
        let recent = self.rates(WINDOW_MIN).map_or(f64::INFINITY, |(_, growth, _)| growth);
        let measured = self.rates(WINDOW).filter(|(_, _, time)| is_measured(time));
        let measured = measured.map(|(done, growth, time)| (done, growth.min(recent), time));
        let (rate, arrivals) = match measured {
            // Other replicas and a service that is slow to scale show in the measured rate.
            Some((done, growth, _)) if done > 0.0 => (done, (done + growth).max(0.0)),
            // Items take longer than the window, so none of them ended in it.
            Some((_, growth, _)) => (capacity, growth.max(0.0)),
            None => (capacity, 0.0),
        };
        let net = rate - arrivals;
        let backlog = self.backlog.unwrap_or(0);
        if net <= 0.0 && backlog > 0 {
            return Some(Forecast::Never);
        }
        // The rest of the queue, and then the last items run to their end.
        let left = if net > 0.0 { remaining / net } else { mean }.max(mean / 2.0);
        let spread = left * deviation / mean / remaining.sqrt() * 2.0 + mean.min(left) / 2.0;
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        Some(Forecast::In { left: seconds(left)?, spread: seconds(spread)? })
    }

    fn forecast_view(&self, forecast: Forecast) -> view::Forecast {
        let now = self.started.elapsed();
        let stamp = |time: Time| Some(self.board.stamp(now.saturating_add(time)));
        match forecast {
            Forecast::Never => view::Forecast { clears_at: None, low: None, high: None, never: true },
            Forecast::In { left, spread } => view::Forecast {
                clears_at: stamp(left),
                low: stamp(left.saturating_sub(spread)),
                high: stamp(left.saturating_add(spread)),
                never: false,
            },
        }
    }

    fn history(&self) -> Vec<view::Sample> {
        let sample = |sample: &Sample| view::Sample {
            at: self.board.stamp(sample.at),
            backlog: sample.backlog,
            running: sample.running,
            held: sample.held,
            done: sample.totals.done,
            failed: sample.totals.dead_lettered + sample.totals.dropped,
        };
        self.board.samples.iter().map(sample).collect()
    }
}

/// The number of items in each state of [`ItemState::UNFINISHED`].
pub(super) fn in_hand(stats: &Stats) -> [u32; ItemState::UNFINISHED.len()] {
    let of = |kind| stats.states[kind];
    let blocked = stats.blocked_by_key.min(of(StateKind::Waiting));
    [
        of(StateKind::Waiting) - blocked,
        of(StateKind::Asking),
        of(StateKind::Running),
        of(StateKind::Retrying),
        of(StateKind::Writing),
        of(StateKind::Held),
        blocked,
    ]
}

/// When the backlog will be gone.
enum Forecast {
    Never,
    In { left: Duration, spread: Duration },
}

fn guard_view(post: &guard::Post) -> view::Guard {
    let guard::Shown { marked, stopping, trouble } = post.shown();
    let pod = |(name, since)| view::StoppingPod { name, since: timestamp(since) };
    view::Guard { marked, stopping: stopping.into_iter().map(pod).collect(), problem: trouble }
}

fn problem(reason: Reason) -> view::Problem {
    view::Problem {
        kind: reason.kind.to_owned(),
        subject: reason.subject,
        since: reason.since,
        text: reason.text,
        help: reason.help,
    }
}

/// The oldest problem, and for how long it lasts.
fn stuck(problems: &[Reason]) -> String {
    let Some(oldest) = problems.iter().min_by(|one, other| one.since.cmp(&other.since)) else {
        return "stuck".to_owned();
    };
    let since = oldest.since.parse::<jiff::Timestamp>().ok();
    let lasted =
        since.and_then(|since| Duration::try_from(jiff::Timestamp::now().duration_since(since)).ok());
    format!("stuck for {}: {}", rough(lasted.unwrap_or_default()), oldest.text)
}

/// A duration in its largest unit, rounded.
pub(super) fn rough(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=90 => format!("{seconds} s"),
        seconds @ 91..=5_400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1_800) / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!([0, 999, 1_240, 1_234_567].map(number), ["0", "999", "1,240", "1,234,567"]);
        let times = [0, 90, 100, 3_599, 100_000].map(|seconds| rough(Duration::from_secs(seconds)));
        assert_eq!(times, ["0 s", "90 s", "2 min", "60 min", "28 h"]);
    }
}
