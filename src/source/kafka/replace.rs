//! Replaces a client that cannot continue by a new one.
//!
//! The usual reason is a second member with the same `instance_id`, which fences the first one.
//! Nobody can tell here which of the two is right. In a rolling restart it is the new one, and the
//! old one is stopped soon. So the new client waits before it joins, longer each time.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::by_hand::Paused;
use super::partition::Partition;
use super::thread::Worker;
use crate::source::{Command, Link, Settled, SourceEvent};
use crate::telemetry::{ProblemKind, Pulse};

const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const NAP: Duration = Duration::from_millis(500);

/// The state that a new client takes over from the old one.
#[derive(Default)]
pub struct Carried {
    pub start_is_decided: bool,
    /// The time at which `StopIntake` arrived.
    pub stopped_at: Option<Instant>,
    pub problems: HashMap<(ProblemKind, String), String>,
    pub paused_by_hand: Paused,
    clients: u32,
}

impl Carried {
    pub fn take_from(&mut self, worker: &Worker) {
        self.start_is_decided |= worker.start_is_decided;
        self.stopped_at = worker.stopped_at;
        self.problems.clone_from(&worker.problems);
        self.paused_by_hand.clone_from(&worker.paused_by_hand);
        self.clients += 1;
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Worker {
    /// Ends all sessions of a client that cannot continue. Their requests continue.
    pub(super) fn lose_everything(&mut self, code: Code, reason: &str) {
        let help = match code {
            Code::FencedInstanceId => {
                "another member of the group runs with the same instance_id; give each replica its own, such as the pod name of a StatefulSet"
            }
            _ => "see the text; longhaul tries again with a new client",
        };
        let group = self.settings.group.clone();
        self.problem(
            ProblemKind::SourceRefused,
            &group,
            format!("the kafka client can't continue: {reason}"),
            help,
        );
        let lost: Vec<Partition> = self.sessions.drain().collect();
        self.send(SourceEvent::Partitions(Vec::new()));
        for partition in &lost {
            self.end(partition, "the kafka client can't continue");
        }
    }
}

/// Answers the bridge until the next client may start. Returns `None` if the source must close.
pub fn wait(mut link: Link, carried: &mut Carried, pulse: Option<&Pulse>) -> Option<Link> {
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let delay = FIRST_WAIT.saturating_mul(1 << (carried.clients - 1).min(5)).min(LONGEST_WAIT);
    let until = Instant::now() + delay;
    loop {
        if let Some(pulse) = pulse {
            pulse.beat();
        }
        // If the intake has stopped, a new client would have nothing to do.
        if Instant::now() >= until && carried.stopped_at.is_none() {
            return Some(link);
        }
        match link.commands.poll_recv(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(Some(Command::Settle { delivery, .. })) => {
                // This fails only if the bridge is gone; the closed commands show that.
                let _ = link.events.send(SourceEvent::Settled { delivery, settled: Settled::Stale });
            }
            Poll::Ready(Some(Command::StopIntake)) => {
                carried.stopped_at.get_or_insert(Instant::now());
                let _ = link.events.send(SourceEvent::IntakeStopped);
            }
            Poll::Ready(Some(Command::Close) | None) => return None,
            Poll::Ready(Some(Command::PausePartition { topic, partition, is_paused })) => {
                carried.paused_by_hand.set(topic, partition, is_paused);
            }
            Poll::Ready(Some(
                Command::Note { .. }
                | Command::Prove { .. }
                | Command::SkipUndecodable { .. }
                | Command::StartFrom(_)
                | Command::LeaveToOthers,
            )) => {}
            Poll::Pending => thread::park_timeout(NAP),
        }
    }
}
