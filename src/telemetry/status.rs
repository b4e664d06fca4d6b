//! A pipeline's condition. Its bridge writes it, the health endpoints read it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::problem::{Line, Open, Problem, ProblemKind, Register, timestamp};
use super::pulse::Pulse;

/// How often [`remind`] looks for log lines that are due.
const REMINDER: Duration = Duration::from_secs(1);

/// The condition of one pipeline.
#[derive(Debug)]
pub struct Status {
    pub name: String,
    state: Mutex<State>,
    stopped: AtomicBool,
    own_pulse: Arc<Pulse>,
    pulses: Mutex<Vec<Weak<Pulse>>>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: SystemTime,
    problems: Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Connected,
    Disconnected,
    Draining,
    Stopped,
}

/// The values of [`Reason::kind`] that are not a [`ProblemKind`].
pub(super) const OTHER_REASONS: [&str; 2] = [DRAINING, STOPPED];
const DRAINING: &str = "draining";
const STOPPED: &str = "stopped";

/// A reason why a pipeline is not ready.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    pub pipeline: String,
    /// A [`ProblemKind`], or `draining` or `stopped`.
    pub kind: &'static str,
    /// The affected object; empty if it is the pipeline itself.
    pub subject: String,
    /// The time at which the reason began, in RFC 3339.
    pub since: String,
    pub text: String,
    pub help: String,
}

impl Status {
    pub fn new(name: &str) -> Self {
        let state = State { phase: Phase::Starting, since: SystemTime::now(), problems: Register::default() };
        Status {
            name: name.to_owned(),
            state: Mutex::new(state),
            stopped: AtomicBool::new(false),
            own_pulse: Arc::new(Pulse::new("pipeline loop")),
            pulses: Mutex::default(),
        }
    }

    /// Records whether the source has a connection to its broker.
    pub fn set_connected(&self, connected: bool) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Starting | Phase::Connected | Phase::Disconnected) {
            // A source that never had a connection stays in its start phase.
            let is_first_failure = !connected && state.phase == Phase::Starting;
            let phase = if connected { Phase::Connected } else { Phase::Disconnected };
            if !is_first_failure {
                state.enter(phase);
            }
        }
    }

    /// Whether the source has a connection to its broker.
    pub fn is_connected(&self) -> bool {
        self.state().phase == Phase::Connected
    }

    /// Records whether as many items are held as `limits.held_max` allows.
    pub fn set_held_full(&self, full: bool) {
        if full {
            self.raise(Problem {
                kind: ProblemKind::HeldFull,
                subject: String::new(),
                text: "so many items are held that no new items are taken (limits.held_max; on RabbitMQ also max_in_flight)"
                    .to_owned(),
                help: "see them with `longhaul items --state held`, and retry, release, dead-letter or drop them; or \
                       configure dead_letter, or on_failed: drop, and restart"
                    .to_owned(),
            });
        } else {
            self.clear(ProblemKind::HeldFull, "");
        }
    }

    pub fn set_draining(&self) {
        self.state().enter(Phase::Draining);
    }

    /// Records that a drained pipeline connects to its broker again.
    pub fn start_again(&self) {
        self.state().enter(Phase::Starting);
    }

    /// Records that the pipeline has ended.
    pub fn set_stopped(&self) {
        self.state().enter(Phase::Stopped);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Reports a problem. The pipeline is not ready while the problem lasts. A new problem is
    /// logged at once and again at intervals; a solved problem that returns is logged when its next
    /// line is due. A report with the kind and subject of an open problem replaces its text.
    pub fn raise(&self, problem: Problem) {
        let line = self.state().problems.raise(problem, Instant::now(), SystemTime::now());
        self.write(line);
    }

    /// Reports that a problem is solved. Without an open problem of this kind and subject nothing
    /// happens.
    pub fn clear(&self, kind: ProblemKind, subject: &str) {
        let line = self.state().problems.clear(kind, subject, Instant::now());
        self.write(line);
    }

    /// Reports that the pipeline's loop still runs. Call it at least every ten seconds, even with
    /// nothing to do.
    pub fn beat(&self) {
        self.own_pulse.beat();
    }

    /// Returns a heartbeat for another loop of this pipeline. It is watched until its last handle
    /// is dropped.
    pub fn pulse(&self, name: &'static str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(name));
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.retain(|known| known.strong_count() > 0);
        pulses.push(Arc::downgrade(&pulse));
        pulse
    }

    /// Returns a problem for each loop that has been silent for too long. The list is empty after
    /// `set_stopped()`. The outage of another service does not silence a loop.
    pub fn wedged(&self) -> Vec<Problem> {
        if self.stopped.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let others: Vec<Arc<Pulse>> = {
            let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
            pulses.iter().filter_map(Weak::upgrade).collect()
        };
        let all = std::iter::once(&self.own_pulse).chain(&others);
        let wedged = all.filter_map(|pulse| Some((pulse.name(), pulse.silence()?)));
        let problem = |(name, silence): (&str, Duration)| Problem {
            kind: ProblemKind::Wedged,
            subject: name.to_owned(),
            text: format!("the {name} has not run for {} s", silence.as_secs()),
            help: "restart the process and report this defect of longhaul with the log".to_owned(),
        };
        wedged.map(problem).collect()
    }

    /// Returns everything that keeps the pipeline from being ready; empty if it is ready.
    pub fn reasons(&self) -> Vec<Reason> {
        let wedged = self.wedged();
        let state = self.state();
        let reason = |kind, subject: &str, since, text: &str, help: &str| Reason {
            pipeline: self.name.clone(),
            kind,
            subject: subject.to_owned(),
            since: timestamp(since),
            text: text.to_owned(),
            help: help.to_owned(),
        };
        let is_known = state.problems.open().any(|open| open.problem.kind.is_of_source());
        let unreachable = ProblemKind::SourceUnreachable.as_str();
        let phase = match state.phase {
            Phase::Stopped => Some((STOPPED, "the pipeline has ended", "see the log for the reason")),
            Phase::Draining => {
                Some((DRAINING, "the pipeline drains: it takes no new items", "wait for its end"))
            }
            Phase::Starting if !is_known => {
                Some((unreachable, "the broker is not connected yet", "see the log if this lasts"))
            }
            Phase::Disconnected if !is_known => {
                Some((unreachable, "the broker is not connected", "see the log for the broker's answer"))
            }
            _ => None,
        };
        let phase = phase.map(|(kind, text, help)| reason(kind, "", state.since, text, help));
        let mut problems: Vec<Open> = state.problems.open().cloned().collect();
        for problem in wedged {
            let is_new =
                |open: &Open| open.problem.kind != problem.kind || open.problem.subject != problem.subject;
            if problems.iter().all(is_new) {
                problems.push(Open { problem, since: SystemTime::now() });
            }
        }
        let problems = problems.iter().map(|Open { problem, since }| {
            reason(problem.kind.as_str(), &problem.subject, *since, &problem.text, &problem.help)
        });
        phase.into_iter().chain(problems).collect()
    }

    /// Writes the log lines that are due.
    fn remind(&self) {
        let wedged = self.wedged();
        let is_wedged = |subject: &str| wedged.iter().any(|problem| problem.subject == subject);
        let over: Vec<String> = {
            let state = self.state();
            let known = state.problems.open().filter(|open| open.problem.kind == ProblemKind::Wedged);
            known.map(|open| open.problem.subject.clone()).filter(|subject| !is_wedged(subject)).collect()
        };
        over.iter().for_each(|subject| self.clear(ProblemKind::Wedged, subject));
        wedged.into_iter().for_each(|problem| self.raise(problem));
        let lines = self.state().problems.due(Instant::now());
        lines.into_iter().for_each(|line| line.write(&self.name));
    }

    fn write(&self, line: Option<Line>) {
        if let Some(line) = line {
            line.write(&self.name);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.since = SystemTime::now();
        }
    }
}

/// Repeats the log line of every lasting problem. Runs until it is dropped.
pub async fn remind(statuses: Vec<Arc<Status>>) {
    let mut ticks = tokio::time::interval(REMINDER);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        statuses.iter().for_each(|status| status.remind());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(status: &Status) -> Vec<&'static str> {
        status.reasons().iter().map(|reason| reason.kind).collect()
    }

    fn missing() -> Problem {
        Problem {
            kind: ProblemKind::SourceMissing,
            subject: "q".to_owned(),
            text: "no queue q".to_owned(),
            help: "create it".to_owned(),
        }
    }

    #[test]
    fn all_reasons_are_listed_and_a_solved_one_goes() {
        let status = Status::new("p");
        assert_eq!(kinds(&status), ["source-unreachable"]);
        status.raise(missing());
        assert_eq!(kinds(&status), ["source-missing"], "the source's own word says more");
        status.set_connected(true);
        status.set_held_full(true);
        assert_eq!(kinds(&status), ["source-missing", "held-full"]);
        assert_eq!(
            (status.reasons()[0].text.as_str(), status.reasons()[0].help.as_str()),
            ("no queue q", "create it")
        );
        status.clear(ProblemKind::SourceMissing, "q");
        status.set_held_full(false);
        assert_eq!(kinds(&status), [""; 0]);
        status.set_connected(false);
        assert_eq!(kinds(&status), ["source-unreachable"]);
        status.set_draining();
        status.set_connected(true);
        assert_eq!(kinds(&status), ["draining"]);
        status.set_stopped();
        assert_eq!(kinds(&status), ["stopped"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stops_beating_is_wedged_and_an_outage_is_not() {
        let status = Status::new("p");
        let poll = status.pulse("kafka poll thread");
        status.set_connected(false);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(status.wedged(), [], "before the first beat nothing is known");
        status.beat();
        poll.beat();
        tokio::time::advance(Duration::from_secs(59)).await;
        status.beat();
        assert_eq!(status.wedged(), []);
        tokio::time::advance(Duration::from_secs(2)).await;
        let wedged = status.wedged();
        assert_eq!((wedged.len(), wedged[0].subject.as_str()), (1, "kafka poll thread"));
        assert!(kinds(&status).contains(&"wedged"));
        drop(poll);
        assert_eq!(status.wedged(), [], "a loop that ended is not stuck");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(status.wedged().len(), 1);
        status.set_stopped();
        assert_eq!(status.wedged(), []);
    }
}
