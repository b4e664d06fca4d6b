//! The running requests and the pods, shared between the pipelines and the guard.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::plan::{LINGER, Plan, SeenPod, Sight, host_name};
use crate::progress::Report;

/// After the start of a pod's end, new requests wait this long, because the routes may still lead
/// to the pod (knative/serving#15211).
const SETTLING: Duration = Duration::from_secs(2);
/// The longest such wait, if one pod after the other ends. Knative looks every two seconds.
const SETTLING_MAX: Duration = Duration::from_secs(6);
/// How long a worker of a service whose workers report may take to do so, before queue-proxies are
/// asked.
const REPORT_TIME: Duration = Duration::from_secs(5);
/// How long a pod must have shown that it is idle until it counts as idle. A single answer does not
/// know a request that has just begun.
const IDLE_PROOF: Duration = Duration::from_millis(900);
/// How long an answer of a queue-proxy is believed.
const ANSWER_BELIEF: Duration = Duration::from_secs(5);
/// How long a pod is remembered after its end, because the end of its request may be noticed later.
const MEMORY: Duration = Duration::from_secs(30);

/// What the guard and the pipelines know together.
#[derive(Debug, Default)]
pub struct Lookout {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: HashMap<u64, Running>,
    /// The number of the latest request.
    count: u64,
    /// The latest start of a request to each service, as far as its name is known.
    started: HashMap<Option<String>, Instant>,
    /// Services that have pods, or had some.
    services: BTreeSet<String>,
    stopping: BTreeMap<String, Stopping>,
    /// The start of the latest end of a pod, for each service.
    shrunk: HashMap<String, Instant>,
    /// Services whose workers report their pods.
    reporting: BTreeSet<Option<String>>,
    /// The answers of queue-proxies, by pod.
    measured: BTreeMap<String, Answers>,
    marked: usize,
    trouble: Option<String>,
}

#[derive(Debug)]
struct Running {
    service: Option<String>,
    since: Instant,
    report: Option<Arc<Report>>,
}

/// The latest answers of a queue-proxy that say the same.
#[derive(Clone, Copy, Debug)]
struct Answers {
    is_busy: bool,
    first: Instant,
    latest: Instant,
}

/// A pod that is being deleted, or that has been deleted lately.
#[derive(Clone, Debug)]
struct Stopping {
    service: String,
    began: SystemTime,
    /// When it was gone.
    gone: Option<Instant>,
    /// Whether a request may run in it without having told so.
    is_busy: bool,
}

/// The state of the guard for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The number of pods that carry a mark of this bridge.
    pub marked: usize,
    /// The pods of the service that are being deleted, with the start of the deletion.
    pub stopping: Vec<(String, SystemTime)>,
    /// Why marks cannot be written now.
    pub trouble: Option<String>,
}

/// The guard as one pipeline sees it.
#[derive(Clone, Debug)]
pub struct Post {
    lookout: Arc<Lookout>,
    /// The Knative Service of the pipeline, if its address tells.
    service: Option<String>,
}

/// A running request. Its pod is busy until this is dropped.
#[derive(Debug)]
pub struct Ticket {
    post: Post,
    number: u64,
}

impl Post {
    pub fn new(lookout: Arc<Lookout>, service: Option<String>) -> Self {
        Post { lookout, service }
    }

    /// Waits until no pod of the service has begun to end for [`SETTLING`], at most
    /// [`SETTLING_MAX`].
    pub async fn settle(&self) {
        let last = Instant::now() + SETTLING_MAX;
        while let Some(until) = self.settled().filter(|until| Instant::now() < last.min(*until)) {
            tokio::time::sleep_until(until.min(last)).await;
        }
    }

    /// The time at which the service has settled, if one of its pods has begun to end lately.
    fn settled(&self) -> Option<Instant> {
        let inner = self.lookout.lock();
        let shrunk = inner.shrunk.iter().filter(|(service, _)| inner.concerns(&self.service, service));
        shrunk.map(|(_, at)| *at + SETTLING).max()
    }

    /// Registers a request that starts now. `report` has the name of its pod once the worker has
    /// reported it.
    pub fn begin(&self, report: Option<Arc<Report>>) -> Ticket {
        let mut inner = self.lookout.lock();
        inner.count += 1;
        inner.started.insert(self.service.clone(), Instant::now());
        let number = inner.count;
        let running = Running { service: self.service.clone(), since: Instant::now(), report };
        inner.running.insert(number, running);
        Ticket { post: self.clone(), number }
    }

    pub fn shown(&self) -> Shown {
        let inner = self.lookout.lock();
        let stopping = inner.stopping.iter().filter(|(_, pod)| pod.gone.is_none());
        let of_service = stopping.filter(|(_, pod)| inner.concerns(&self.service, &pod.service));
        Shown {
            marked: inner.marked,
            stopping: of_service.map(|(name, pod)| (name.clone(), pod.began)).collect(),
            trouble: inner.trouble.clone(),
        }
    }

    /// Whether this pod is being deleted.
    pub fn is_stopping(&self, pod: &str) -> bool {
        self.lookout.lock().stopping_pod(pod).is_some()
    }
}

impl Ticket {
    /// The name of the stopping pod that cut this request, if one did. A pod that the worker did
    /// not report counts once, if it was busy when its end began.
    pub fn cut_by(&self) -> Option<String> {
        let mut inner = self.post.lookout.lock();
        let running = inner.running.get(&self.number)?;
        if let Some(pod) = running.pod() {
            return inner.stopping_pod(&pod).cloned();
        }
        let service = running.service.clone();
        let busy = inner.stopping.iter().filter(|(_, pod)| pod.is_busy);
        let of_service = busy.filter(|(_, pod)| inner.concerns(&service, &pod.service));
        let name = of_service.min_by_key(|(_, pod)| pod.began).map(|(name, _)| name.clone())?;
        inner.stopping.get_mut(&name)?.is_busy = false;
        Some(name)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.post.lookout.lock().running.remove(&self.number);
    }
}

impl Lookout {
    /// The busy pods with the starts of their items, by the names of `plan`.
    pub fn busy(&self, plan: &Plan) -> BTreeMap<String, Instant> {
        let inner = self.lock();
        let (mut busy, mut unlocated) = (BTreeMap::new(), Vec::new());
        for running in inner.running.values() {
            let Some(reported) = running.pod() else {
                unlocated.push(running);
                continue;
            };
            let pod = plan.find(&reported).filter(|pod| inner.concerns(&running.service, &pod.service));
            if let Some(pod) = pod {
                let start = busy.entry(pod.name.clone()).or_insert(running.since);
                *start = running.since.min(*start);
            }
        }
        let may_run = |pod: &str| {
            let service = plan.find(pod).map(|pod| pod.service.as_str());
            service.is_some_and(|name| unlocated.iter().any(|running| inner.concerns(&running.service, name)))
        };
        let is_further = |(pod, answers): &(&String, &Answers)| {
            answers.is_busy && !busy.contains_key(*pod) && may_run(pod)
        };
        let mut measured: Vec<_> = inner.measured.iter().filter(is_further).collect();
        measured.sort_unstable_by_key(|(_, answers)| answers.first);
        unlocated.sort_unstable_by_key(|running| running.since);
        // The pod that has been busy for the longest time has the oldest of these requests. There
        // may be more pods than requests: a request has just ended, or the pod works for others.
        // Nobody knows which pods these are, so all of them count as busy.
        let starts = unlocated.iter().map(|running| Some(running.since)).chain(std::iter::repeat(None));
        let found = measured.into_iter().zip(starts);
        let found: Vec<_> =
            found.map(|((pod, answers), start)| (pod.clone(), start.unwrap_or(answers.first))).collect();
        busy.extend(found);
        busy
    }

    /// The state of the pods of `plan`.
    pub fn sight(&self, now: Instant, plan: &Plan) -> Sight {
        Sight { busy: self.busy(plan), idle: self.idle(now), starting: self.starting(now) }
    }

    /// The services in which requests have just started.
    fn starting(&self, now: Instant) -> BTreeSet<String> {
        let inner = self.lock();
        let latest = inner.started.iter().filter(|(_, at)| now < **at + LINGER);
        let latest: Vec<_> = latest.map(|(service, _)| service).collect();
        let is_it = |name: &&String| latest.iter().any(|service| inner.concerns(service, name));
        inner.services.iter().filter(is_it).cloned().collect()
    }

    /// The pods that are idle, as their queue-proxies show.
    pub fn idle(&self, now: Instant) -> BTreeSet<String> {
        let inner = self.lock();
        let idle = inner.measured.iter().filter(|(_, answers)| {
            let Answers { is_busy, first, latest } = answers;
            !is_busy && *latest >= *first + IDLE_PROOF && now < *latest + ANSWER_BELIEF
        });
        idle.map(|(pod, _)| pod.clone()).collect()
    }

    /// The pods whose queue-proxies are to be asked, by name and address: requests may run in them
    /// that have not told their pods, or the plan needs to know the idle ones.
    pub fn to_ask(&self, now: Instant, plan: &Plan) -> Vec<(String, String)> {
        let mut inner = self.lock();
        let reporting = inner.running.values().filter(|running| running.pod().is_some());
        let reporting: Vec<_> = reporting.map(|running| running.service.clone()).collect();
        inner.reporting.extend(reporting);
        let is_unlocated = |running: &&Running| {
            let has_time = inner.reporting.contains(&running.service) && now < running.since + REPORT_TIME;
            running.pod().is_none() && !has_time
        };
        let services: BTreeSet<_> =
            inner.running.values().filter(is_unlocated).map(|running| running.service.clone()).collect();
        let asking = plan.asking(now);
        if services.is_empty() && asking.is_empty() {
            inner.measured.clear();
        }
        let asked = plan.pods().filter(|pod| {
            let may_run = services.iter().any(|service| inner.concerns(service, &pod.service));
            may_run || asking.contains(pod.service.as_str())
        });
        asked.filter_map(|pod| Some((pod.name.clone(), pod.address.clone()?))).collect()
    }

    /// Takes the answers of queue-proxies: each pod that answered, and whether it is busy.
    pub fn measured(&self, now: Instant, answers: &[(String, bool)]) {
        let mut inner = self.lock();
        for (pod, is_busy) in answers {
            let earlier = inner.measured.get(pod).filter(|earlier| {
                earlier.is_busy == *is_busy && (*is_busy || now < earlier.latest + ANSWER_BELIEF)
            });
            let first = earlier.map_or(now, |earlier| earlier.first);
            inner.measured.insert(pod.clone(), Answers { is_busy: *is_busy, first, latest: now });
            // A request may also have reached the pod after its end had begun.
            if let Some(stopping) = inner.stopping.get_mut(pod) {
                stopping.is_busy = *is_busy;
            }
        }
    }

    /// Takes a pod as the watch shows it.
    pub fn seen(&self, now: Instant, pod: &SeenPod) {
        let mut inner = self.lock();
        inner.services.insert(pod.service.clone());
        if pod.is_stopping {
            inner.stops(now, pod);
        }
    }

    /// Takes the end of a pod. A pod that is deleted by force ends without having been seen as
    /// stopping.
    pub fn gone(&self, now: Instant, pod: &SeenPod) {
        let mut inner = self.lock();
        inner.stops(now, pod).gone.get_or_insert(now);
        inner.measured.remove(&pod.name);
        inner.forget(now);
    }

    /// Takes the complete list of pods.
    pub fn restart(&self, now: Instant, all: &[SeenPod]) {
        let names: BTreeSet<&str> = all.iter().map(|pod| pod.name.as_str()).collect();
        {
            let mut inner = self.lock();
            let inner = &mut *inner;
            inner.measured.retain(|name, _| names.contains(name.as_str()));
            for (_, pod) in inner.stopping.iter_mut().filter(|(name, _)| !names.contains(name.as_str())) {
                pod.gone.get_or_insert(now);
            }
            inner.forget(now);
        }
        all.iter().for_each(|pod| self.seen(now, pod));
    }

    /// Shows the state of the marks.
    pub fn show(&self, marked: usize, trouble: Option<String>) {
        let mut inner = self.lock();
        inner.marked = marked;
        inner.trouble = trouble;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Remembers that the pod is being deleted.
    fn stops(&mut self, now: Instant, pod: &SeenPod) -> &mut Stopping {
        let is_busy = self.measured.get(&pod.name).is_some_and(|answers| answers.is_busy);
        self.stopping.entry(pod.name.clone()).or_insert_with(|| {
            self.shrunk.insert(pod.service.clone(), now);
            Stopping { service: pod.service.clone(), began: SystemTime::now(), gone: None, is_busy }
        })
    }

    /// Whether a pipeline with this service, as far as known, sends requests to `pod_service`. A
    /// name that no pod has is not the name of a service, but for example a domain of its own.
    fn concerns(&self, service: &Option<String>, pod_service: &str) -> bool {
        service.as_ref().is_none_or(|name| name == pod_service || !self.services.contains(name))
    }

    /// The name of the stopping pod that a worker reported by its name or its host name.
    fn stopping_pod(&self, reported: &str) -> Option<&String> {
        let is_it = |name: &&String| *name == reported || host_name(name) == reported;
        self.stopping.keys().find(is_it)
    }

    fn forget(&mut self, now: Instant) {
        self.stopping.retain(|_, pod| pod.gone.is_none_or(|gone| now < gone + MEMORY));
        self.shrunk.retain(|_, at| now < *at + SETTLING);
    }
}

impl Running {
    /// The pod that the worker has reported.
    fn pod(&self) -> Option<String> {
        self.report.as_ref().and_then(|report| report.pod())
    }
}

#[cfg(test)]
mod tests;
