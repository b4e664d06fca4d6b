//! The guard's loop: watches pods, asks for the next write, and carries it out.
//!
//! A write sets or removes a mark, which is a set of annotations on a pod. The mark of a busy pod
//! tells the ReplicaSet controller to remove other pods first when Knative scales down, and node
//! autoscalers to leave its node alone. Without it they may stop a pod in the middle of an item.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::lookout::Lookout;
use super::plan::{Plan, SeenPod, Write, Wrote};
use super::trouble::{Failure, Trouble};
use crate::telemetry::{GuardFailure, GuardMetrics};

/// How often the guard looks for the next write.
const STEP_INTERVAL: Duration = Duration::from_millis(250);
/// The most writes in any second.
pub const WRITES_PER_SECOND: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
/// How often queue-proxies are asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for the removal of all marks at the end of the process.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(20);

/// A change of the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The complete list, first and after each interruption of the watch.
    All(Vec<SeenPod>),
    Seen(SeenPod),
    /// A pod as it was before it was deleted.
    Gone(SeenPod),
}

/// The pods of a cluster.
pub trait Cluster: Send + Sync {
    /// Watches the pods. After a failure the stream goes on, with a list of all pods.
    fn watch(&self) -> BoxStream<'static, Result<Event, Failure>>;

    /// Changes annotations of a pod.
    fn write(&self, write: &Write) -> impl Future<Output = Result<Wrote, Failure>> + Send;
}

/// Asks queue-proxies: which of these pods (name and address) handle a request?
pub trait Measure: Send + Sync {
    fn ask(&self, pods: Vec<(String, String)>) -> impl Future<Output = Vec<(String, bool)>> + Send;
}

/// The settings of the guard.
pub struct Settings {
    /// The name of this bridge in its marks. No other process has it.
    pub holder: String,
    /// A pod is marked once its item has run this long. Without a value, the window of its Service
    /// decides: see [`super::plan::after`].
    pub after: Option<Duration>,
    pub metrics: GuardMetrics,
}

/// Guards busy pods until `stop`, and removes its marks then.
pub async fn run(
    settings: Settings,
    cluster: impl Cluster,
    proxies: impl Measure,
    lookout: Arc<Lookout>,
    stop: CancellationToken,
) {
    let mut guard = Guard {
        // Items start at an `Instant`. The marks, which other bridges read, have the time of day.
        plan: Plan::new(settings.holder, settings.after, (Instant::now(), SystemTime::now())),
        allowance: Allowance::default(),
        trouble: Trouble::default(),
        metrics: settings.metrics,
        cluster,
        lookout,
    };
    guard.work(&proxies, &stop).await;
    let _ = tokio::time::timeout(RELEASE_TIMEOUT, guard.release_all()).await;
}

struct Guard<C> {
    plan: Plan,
    allowance: Allowance,
    trouble: Trouble,
    metrics: GuardMetrics,
    cluster: C,
    lookout: Arc<Lookout>,
}

/// Allows at most [`WRITES_PER_SECOND`] writes in any second.
#[derive(Debug, Default)]
struct Allowance {
    /// The ends of the latest writes, at most [`WRITES_PER_SECOND`]. The API server carries out a
    /// write at an unknown moment before its end, and after the end of the one before it. So three
    /// writes in a second are impossible there too.
    ends: VecDeque<Instant>,
}

impl Allowance {
    /// The time before which no further write may begin; `None` if one may begin at any time.
    fn opens(&self) -> Option<Instant> {
        let is_full = self.ends.len() == WRITES_PER_SECOND;
        self.ends.front().filter(|_| is_full).map(|end| *end + SECOND)
    }

    fn take(&mut self, end: Instant) {
        if self.ends.len() == WRITES_PER_SECOND {
            self.ends.pop_front();
        }
        self.ends.push_back(end);
    }
}

/// A round of questions to queue-proxies.
type Asking<'a> = Pin<Box<dyn Future<Output = Vec<(String, bool)>> + Send + 'a>>;

impl<C: Cluster> Guard<C> {
    /// Works until `stop`. A write that has begun is finished before: otherwise nobody would know
    /// whether its pod carries a mark.
    async fn work(&mut self, proxies: &impl Measure, stop: &CancellationToken) {
        let mut pods = self.cluster.watch();
        let mut step = Instant::now();
        let mut ask = tokio::time::interval(ASK_INTERVAL);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking: Option<Asking<'_>> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = pods.next() => match event {
                    Some(event) => self.event(event),
                    // The watch never ends by itself.
                    None => pods = self.cluster.watch(),
                },
                answers = answers(&mut asking) => {
                    asking = None;
                    self.lookout.measured(Instant::now(), &answers);
                }
                _ = ask.tick(), if asking.is_none() => {
                    let pods = self.lookout.to_ask(Instant::now(), &self.plan);
                    if !pods.is_empty() {
                        asking = Some(Box::pin(proxies.ask(pods)));
                    }
                }
                () = tokio::time::sleep_until(step) => step = self.step(stop).await,
            }
        }
    }

    fn event(&mut self, event: Result<Event, Failure>) {
        let now = Instant::now();
        if event.is_ok() {
            self.trouble.watch_works(now);
        }
        match event {
            Ok(Event::All(all)) => {
                self.lookout.restart(now, &all);
                for pod in self.plan.restart(now, all) {
                    self.lookout.gone(now, &pod);
                }
            }
            Ok(Event::Seen(pod)) => {
                self.lookout.seen(now, &pod);
                self.plan.seen(now, pod);
            }
            Ok(Event::Gone(pod)) => {
                self.lookout.gone(now, &pod);
                self.plan.gone(&pod.name);
            }
            Err(failure) => self.failed(now, failure),
        }
    }

    fn failed(&mut self, now: Instant, failure: Failure) {
        self.metrics.failed(failure.kind);
        self.trouble.raise(now, failure);
    }

    /// Makes the writes that are due and allowed, the most urgent one first. Returns the time of
    /// the next look.
    async fn step(&mut self, stop: &CancellationToken) -> Instant {
        let mut now = Instant::now();
        self.plan.look(now, self.lookout.sight(now, &self.plan));
        while !stop.is_cancelled()
            && self.allowance.opens().is_none_or(|next| now >= next)
            && self.trouble.may_try(now)
            && let Some(write) = self.plan.next(now)
        {
            self.write(&write).await;
            now = Instant::now();
        }
        let marked = self.plan.marked();
        self.metrics.marked.set(i64::try_from(marked).unwrap_or(i64::MAX));
        self.lookout.show(marked, self.trouble.text(now));
        let later = now + STEP_INTERVAL;
        self.allowance.opens().filter(|next| now < *next).map_or(later, |next| next.min(later))
    }

    /// Carries out a write. Returns whether it succeeded.
    async fn write(&mut self, write: &Write) -> bool {
        let written = tokio::time::timeout(WRITE_TIMEOUT, self.cluster.write(write)).await;
        let late = || Failure {
            text: format!("no answer of the API server within {WRITE_TIMEOUT:?}"),
            help: "check the connection to the API server",
            kind: GuardFailure::Late,
        };
        let now = Instant::now();
        let succeeded = match written.unwrap_or_else(|_| Err(late())) {
            Ok(wrote) => {
                let kind = write.kind();
                tracing::debug!(pod = write.pod, write = kind.as_str(), ?wrote, "Pod annotated");
                self.metrics.wrote(kind);
                self.plan.wrote(now, write, wrote);
                self.trouble.clear(now);
                true
            }
            Err(failure) => {
                self.plan.wrote(now, write, Wrote::Failed);
                self.failed(now, failure);
                false
            }
        };
        // After the line of the log, so that the bound also holds in the log.
        self.allowance.take(Instant::now());
        succeeded
    }

    /// Removes all marks of this process. Gives up at the first failure: the next bridge removes
    /// the rest.
    async fn release_all(&mut self) {
        while let Some(write) = self.plan.next_release() {
            if let Some(next) = self.allowance.opens() {
                tokio::time::sleep_until(next).await;
            }
            if !self.write(&write).await {
                return;
            }
        }
    }
}

async fn answers(future: &mut Option<Asking<'_>>) -> Vec<(String, bool)> {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
