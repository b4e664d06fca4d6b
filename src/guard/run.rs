//! The guard's loop: watches pods, asks for the next write, and carries it out.

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

/// How often the guard looks for the next write.
const STEP: Duration = Duration::from_millis(250);
/// The time in which one further write is allowed: two in a second in the long run.
pub const PACE: Duration = Duration::from_millis(500);
/// The most writes at once, after a time with fewer of them.
pub const BURST: u32 = 10;
/// How often queue-proxies are asked.
const ASK: Duration = Duration::from_secs(2);
/// The longest time of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the marks are removed at the end of the process.
const LAST_WRITES: Duration = Duration::from_secs(20);

/// A change of the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The complete list, first and after each interruption of the watch.
    All(Vec<SeenPod>),
    Seen(SeenPod),
    /// The name of a deleted pod.
    Gone(String),
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
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this bridge in its marks. No other process has it.
    pub holder: String,
    /// A pod is marked once its item has run this long.
    pub after: Duration,
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
        plan: Plan::new(settings.holder, settings.after, (Instant::now(), SystemTime::now())),
        allowance: Allowance::full(Instant::now()),
        trouble: Trouble::default(),
        cluster,
        lookout,
    };
    tokio::select! {
        () = guard.work(&proxies) => {}
        () = stop.cancelled() => {}
    }
    let _ = tokio::time::timeout(LAST_WRITES, guard.release_all()).await;
}

struct Guard<C> {
    plan: Plan,
    allowance: Allowance,
    trouble: Trouble,
    cluster: C,
    lookout: Arc<Lookout>,
}

/// The writes that are allowed now. One is added every [`PACE`], up to [`BURST`].
#[derive(Debug)]
struct Allowance {
    /// The time at which all of [`BURST`] are allowed again.
    full: Instant,
}

impl Allowance {
    fn full(now: Instant) -> Self {
        Allowance { full: now }
    }

    /// The time at which the next write is allowed.
    fn next(&self) -> Instant {
        self.full - (BURST - 1) * PACE
    }

    fn take(&mut self, now: Instant) {
        self.full = self.full.max(now) + PACE;
    }
}

/// A round of questions to queue-proxies.
type Asking<'a> = Pin<Box<dyn Future<Output = Vec<(String, bool)>> + Send + 'a>>;

impl<C: Cluster> Guard<C> {
    async fn work(&mut self, proxies: &impl Measure) {
        let mut pods = self.cluster.watch();
        let mut step = tokio::time::interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ask = tokio::time::interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking: Option<Asking<'_>> = None;
        loop {
            tokio::select! {
                biased;
                event = pods.next() => match event {
                    Some(event) => self.event(event),
                    // The watch never ends by itself.
                    None => pods = self.cluster.watch(),
                },
                answers = next(&mut asking) => {
                    asking = None;
                    self.lookout.measured(Instant::now(), &answers);
                }
                _ = ask.tick(), if asking.is_none() => {
                    let unlocated = self.lookout.unlocated(Instant::now(), &self.plan);
                    if !unlocated.is_empty() {
                        asking = Some(Box::pin(proxies.ask(unlocated)));
                    }
                }
                _ = step.tick() => self.step().await,
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
                self.plan.restart(now, all);
            }
            Ok(Event::Seen(pod)) => {
                self.lookout.seen(now, &pod);
                self.plan.seen(now, pod);
            }
            Ok(Event::Gone(name)) => {
                self.lookout.gone(now, &name);
                self.plan.gone(&name);
            }
            Err(failure) => self.trouble.raise(now, failure),
        }
    }

    /// Makes the writes that are due and allowed, the most urgent one first.
    async fn step(&mut self) {
        let mut now = Instant::now();
        self.plan.busy(now, &self.lookout.busy(&self.plan));
        while now >= self.allowance.next()
            && self.trouble.may_try(now)
            && let Some(write) = self.plan.next(now)
        {
            self.write(&write).await;
            now = Instant::now();
        }
        self.lookout.show(self.plan.marked(), self.trouble.text(now));
    }

    /// Carries out a write. Returns whether the API server answered.
    async fn write(&mut self, write: &Write) -> bool {
        self.allowance.take(Instant::now());
        let written = tokio::time::timeout(WRITE_TIMEOUT, self.cluster.write(write)).await;
        let late = || Failure {
            text: format!("no answer of the API server within {WRITE_TIMEOUT:?}"),
            help: "check the connection to the API server",
            is_refusal: false,
        };
        match written.unwrap_or_else(|_| Err(late())) {
            Ok(wrote) => {
                tracing::debug!(pod = write.pod, marked = write.is_mark(), ?wrote, "Pod annotated");
                self.plan.wrote(Instant::now(), write, wrote);
                self.trouble.clear(Instant::now());
                true
            }
            Err(failure) => {
                self.plan.wrote(Instant::now(), write, Wrote::Failed);
                self.trouble.raise(Instant::now(), failure);
                false
            }
        }
    }

    /// Removes all marks of this process. Gives up at the first failure: the next bridge removes
    /// the rest.
    async fn release_all(&mut self) {
        while let Some(write) = self.plan.next_release() {
            tokio::time::sleep_until(self.allowance.next()).await;
            if !self.write(&write).await {
                return;
            }
        }
    }
}

async fn next(future: &mut Option<Asking<'_>>) -> Vec<(String, bool)> {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
