//! Decides which marks must change: a function of the pods, the running items and the time.
//!
//! The caller reports pods as the watch shows them ([`Plan::seen`], [`Plan::gone`]) and the busy
//! ones ([`Plan::look`]), and asks for one write at a time ([`Plan::next`]). A pod is marked while
//! it is busy, from `after` on. Its mark stays for [`LINGER`] when it is idle, so that a pod that
//! gets its next item at once keeps its mark and costs no write.
//!
//! Writes are few, so after many items have started at once some busy pods wait for their marks.
//! While more than [`BEHIND`] pods of a Service wait, its idle pods are marked first, with the
//! lowest cost. Each such write gives the ReplicaSet controller a pod to remove, in whatever order
//! the busy ones are marked. A mark of a busy pod protects that pod only, and is lost if its item
//! ends before the scale-down. A pod counts as idle only if its queue-proxy says so, and is marked
//! only if no item has started in its Service lately.
//!
//! Each bridge renews one of its marks every [`BEAT`]. The marks of a bridge that does not are
//! removed after [`SILENCE`]. Only changes that this process has seen count as signs of life: the
//! clocks of two bridges are never compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::mark::{ALL, Annotations, Mark, OWN};
use crate::telemetry::GuardWrite;

/// How long an idle pod keeps the mark of its last item. It may get the next one at once.
pub const LINGER: Duration = Duration::from_secs(3);
/// With more waiting pods than this in a Service, idle ones are marked first. It is the number of
/// writes in two seconds.
pub const BEHIND: usize = 4;
/// How long an idle pod keeps its mark at least, although no busy pod waits any more. The number of
/// waiting pods may rise again.
const IDLE_LINGER: Duration = Duration::from_secs(30);
/// How often a bridge with marks renews one of them.
pub const BEAT: Duration = Duration::from_secs(5);
/// The time without a renewal after which a bridge counts as dead.
pub const SILENCE: Duration = Duration::from_secs(15);
/// How long the result of a write is believed, if the watch still shows an older state.
const BELIEF: Duration = Duration::from_secs(5);
/// A mark whose start is too early by more than this is written again, so that the order of busy
/// pods is right.
const SKEW: Duration = Duration::from_secs(60);
/// Pods that are remembered at most. Further ones are not guarded.
const PODS_MAX: usize = 10_000;
/// The window of a Service that names none, as in a new installation of Knative.
const WINDOW: Duration = Duration::from_secs(60);
/// The length at which Kubernetes cuts a pod's name to make its host name.
const HOST_NAME_MAX: usize = 63;

/// A pod as the API server shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenPod {
    pub name: String,
    pub uid: String,
    /// The Knative Service.
    pub service: String,
    pub address: Option<String>,
    /// The time over which the autoscaler averages, if the Service names it.
    pub window: Option<Duration>,
    /// Whether it is being deleted.
    pub is_stopping: bool,
    /// The annotations that the guard reads or writes.
    pub annotations: Annotations,
}

/// A change of one pod's annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub pod: String,
    /// A pod with the same name and another id is not changed.
    pub uid: String,
    /// The new values; `None` removes the annotation.
    pub annotations: BTreeMap<String, Option<String>>,
}

impl Write {
    pub fn kind(&self) -> GuardWrite {
        let own =
            self.annotations.iter().find(|(name, _)| *name == OWN).and_then(|(_, value)| value.as_ref());
        match own.map(|text| serde_json::from_str::<Mark>(text)) {
            Some(Ok(Mark { idle: true, .. })) => GuardWrite::Idle,
            Some(_) => GuardWrite::Mark,
            None => GuardWrite::Release,
        }
    }
}

/// The effect of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    Done,
    /// The pod does not exist any more.
    Gone,
    /// Nothing is known about it.
    Failed,
}

/// The pods as the running requests and the queue-proxies show them.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The busy pods, with the starts of their items.
    pub busy: BTreeMap<String, Instant>,
    /// The pods whose queue-proxies show that they are idle.
    pub idle: BTreeSet<String>,
    /// The Services in which requests have started in the last [`LINGER`].
    pub starting: BTreeSet<String>,
}

#[derive(Debug)]
pub struct Plan {
    /// The name of this bridge in its marks.
    holder: String,
    after: Option<Duration>,
    /// One moment on both clocks.
    clocks: (Instant, SystemTime),
    pods: BTreeMap<String, Pod>,
    /// The Services in which requests have just started.
    starting: BTreeSet<String>,
    /// When another bridge last changed one of its marks.
    holders: HashMap<String, Instant>,
    /// The time of the latest write with our name.
    beat: Option<Instant>,
}

#[derive(Debug)]
struct Pod {
    seen: SeenPod,
    mark: Option<Mark>,
    /// The annotations of our latest write, for as long as the watch may lag behind.
    written: Option<(Instant, Annotations)>,
    /// The start of its item.
    busy: Option<Instant>,
    /// When it was busy last.
    busy_last: Option<Instant>,
    /// Whether its queue-proxy shows that it has no request.
    is_idle: bool,
    /// When this bridge gave it the mark of an idle pod.
    lowered: Option<Instant>,
}

impl Plan {
    /// `clocks` is the present moment. Later times in marks are computed from it.
    pub fn new(holder: String, after: Option<Duration>, clocks: (Instant, SystemTime)) -> Self {
        Plan {
            holder,
            after,
            clocks,
            pods: BTreeMap::new(),
            starting: BTreeSet::new(),
            holders: HashMap::new(),
            beat: None,
        }
    }

    /// Takes a pod as the watch shows it.
    pub fn seen(&mut self, now: Instant, seen: SeenPod) {
        if self.pods.len() >= PODS_MAX && !self.pods.contains_key(&seen.name) {
            return;
        }
        let mark = Mark::of(&seen.annotations);
        if let Some(mark) = mark.as_ref().filter(|mark| mark.holder != self.holder) {
            let is_change = self.pods.get(&seen.name).is_some_and(|pod| pod.mark.as_ref() != Some(mark));
            if is_change || !self.holders.contains_key(&mark.holder) {
                self.holders.insert(mark.holder.clone(), now);
            }
        }
        let pod = self.pods.entry(seen.name.clone()).or_insert_with(|| Pod::new(seen.clone()));
        if pod.seen.uid != seen.uid {
            *pod = Pod::new(seen.clone());
        }
        if let Some((at, written)) = &pod.written {
            if *written != seen.annotations && now < *at + BELIEF {
                pod.seen = SeenPod { annotations: written.clone(), ..seen };
                return;
            }
            pod.written = None;
        }
        pod.mark = mark;
        pod.seen = seen;
    }

    /// Takes the complete list of pods, after a time in which changes may have been missed. Returns
    /// the pods that do not exist any more.
    pub fn restart(&mut self, now: Instant, all: Vec<SeenPod>) -> Vec<SeenPod> {
        let names: BTreeSet<&String> = all.iter().map(|pod| &pod.name).collect();
        let lost = |(name, pod): (&String, &Pod)| (!names.contains(name)).then(|| pod.seen.clone());
        let gone = self.pods.iter().filter_map(lost).collect();
        self.pods.retain(|name, _| names.contains(name));
        // Renewals may have been missed.
        self.holders.clear();
        all.into_iter().for_each(|pod| self.seen(now, pod));
        gone
    }

    pub fn gone(&mut self, name: &str) {
        self.pods.remove(name);
    }

    /// Takes the state of the pods. Pods that are not in it are neither busy nor known to be idle.
    pub fn look(&mut self, now: Instant, Sight { busy, idle, starting }: Sight) {
        self.starting = starting;
        for (name, pod) in &mut self.pods {
            pod.is_idle = idle.contains(name) && !busy.contains_key(name);
            pod.busy = busy.get(name).copied();
            if pod.busy.is_some() {
                pod.busy_last = Some(now);
            }
        }
    }

    /// The pod with this name. A worker reports its host name, which is the name of its pod, or the
    /// start of a long one.
    pub fn find(&self, reported: &str) -> Option<&SeenPod> {
        if let Some(pod) = self.pods.get(reported) {
            return Some(&pod.seen);
        }
        let range = self.pods.range(reported.to_owned()..);
        let mut found = range
            .map(|(_, pod)| &pod.seen)
            .take_while(|pod| pod.name.starts_with(reported))
            .filter(|pod| host_name(&pod.name) == reported);
        found.next().filter(|_| found.next().is_none())
    }

    pub fn pods(&self) -> impl Iterator<Item = &SeenPod> {
        self.pods.values().map(|pod| &pod.seen)
    }

    /// The number of busy pods that carry our mark.
    pub fn marked(&self) -> usize {
        self.pods.values().filter(|pod| self.is_ours(pod) && !pod.is_lowest()).count()
    }

    /// The Services whose queue-proxies are to be asked which of their pods are idle.
    pub fn asking(&self, now: Instant) -> BTreeSet<&str> {
        let waiting = self.waiting(now);
        let behind = waiting.into_iter().filter(|(_, count)| *count > BEHIND).map(|(service, _)| service);
        let lowest = self.live().filter(|pod| self.is_ours(pod) && pod.is_lowest());
        behind.chain(lowest.map(|pod| pod.seen.service.as_str())).collect()
    }

    /// The most urgent write: protect a busy pod with the lowest cost, mark an idle pod while many
    /// busy ones wait, protect a busy pod, show that this bridge lives, release a pod, correct a
    /// start.
    pub fn next(&self, now: Instant) -> Option<Write> {
        // Also a mark of another bridge: it does not know the items of this one.
        let endangered = self.live().filter(|pod| pod.is_lowest() && pod.busy.is_some());
        if let Some(pod) = endangered.min_by_key(|pod| pod.busy) {
            return Some(self.protect(pod, now));
        }
        let doubtful = |pod: &&Pod| self.is_ours(pod) && pod.is_lowest() && !pod.is_idle;
        if let Some(pod) = self.live().find(doubtful) {
            return Some(release(pod));
        }
        let waiting = self.waiting(now);
        let waiting = |pod: &Pod| waiting.get(pod.seen.service.as_str()).copied().unwrap_or_default();
        let spare = self.live().filter(|pod| {
            let may_be_marked = pod.is_idle && !pod.is_lowest() && !self.is_held(pod, now);
            // While requests start, the next one may reach any idle pod.
            may_be_marked && waiting(pod) > BEHIND && !self.starting.contains(&pod.seen.service)
        });
        // A pod with the mark of its last item is behind all others, so it comes first.
        if let Some(pod) = spare.max_by_key(|pod| pod.mark.is_some()) {
            let mark = Mark::idle(&self.holder, self.wall(now), &pod.seen.annotations);
            return Some(write(pod, &mark.annotations()));
        }
        if let Some(pod) = self.live().filter(|pod| self.waits(pod, now)).min_by_key(|pod| pod.busy) {
            return Some(self.protect(pod, now));
        }
        if self.beat.is_none_or(|beat| now >= beat + BEAT)
            && let Some(pod) = self.live().find(|pod| self.is_ours(pod))
        {
            return Some(self.renew(pod, now));
        }
        let over = self.live().filter(|pod| match &pod.mark {
            Some(mark) if mark.idle && self.is_ours(pod) => {
                waiting(pod) == 0 && pod.lowered.is_none_or(|at| now >= at + IDLE_LINGER)
            }
            Some(_) => pod.is_unused(now) && !self.is_held(pod, now),
            None => false,
        });
        if let Some(pod) = over.min_by_key(|pod| pod.busy_last) {
            return Some(release(pod));
        }
        self.live().find_map(|pod| {
            let since = pod.busy.filter(|_| self.is_ours(pod))?;
            let marked = pod.mark.as_ref()?.start();
            let right = self.wall(since).checked_sub(SKEW)?;
            (marked < right).then(|| self.protect(pod, now))
        })
    }

    fn live(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|pod| !pod.seen.is_stopping)
    }

    /// Whether the pod has been busy for long enough, and nobody has marked it.
    fn waits(&self, pod: &Pod, now: Instant) -> bool {
        let after = self.after.unwrap_or_else(|| after(pod.seen.window));
        let is_due = pod.busy.is_some_and(|since| now >= since + after);
        is_due && !self.is_ours(pod) && !self.is_held(pod, now)
    }

    /// The number of pods of each Service that wait for their marks.
    fn waiting(&self, now: Instant) -> BTreeMap<&str, usize> {
        let mut waiting = BTreeMap::new();
        for pod in self.live().filter(|pod| self.waits(pod, now)) {
            *waiting.entry(pod.seen.service.as_str()).or_default() += 1;
        }
        waiting
    }

    /// The next write at the end of this process: our marks go, whether or not their pods are busy.
    pub fn next_release(&self) -> Option<Write> {
        let pod = self.pods.values().find(|pod| self.is_ours(pod) && !pod.seen.is_stopping)?;
        Some(release(pod))
    }

    /// Takes the effect of a write.
    pub fn wrote(&mut self, now: Instant, write: &Write, wrote: Wrote) {
        match wrote {
            Wrote::Failed => return,
            Wrote::Gone => return self.gone(&write.pod),
            Wrote::Done => {}
        }
        let Some(pod) = self.pods.get_mut(&write.pod).filter(|pod| pod.seen.uid == write.uid) else { return };
        let annotations = &mut pod.seen.annotations;
        for (name, value) in &write.annotations {
            match value {
                Some(value) => annotations.insert(name.clone(), value.clone()),
                None => annotations.remove(name),
            };
        }
        pod.mark = Mark::of(annotations);
        pod.written = Some((now, annotations.clone()));
        pod.lowered = pod.is_lowest().then(|| pod.lowered.unwrap_or(now));
        if pod.mark.is_some() {
            self.beat = Some(now);
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        pod.mark.as_ref().is_some_and(|mark| mark.holder == self.holder)
    }

    /// Whether another bridge, which lives, has marked the pod.
    fn is_held(&self, pod: &Pod, now: Instant) -> bool {
        let Some(mark) = pod.mark.as_ref().filter(|mark| mark.holder != self.holder) else { return false };
        self.holders.get(&mark.holder).is_some_and(|sign| now < *sign + SILENCE)
    }

    /// The time of day at a moment.
    fn wall(&self, at: Instant) -> SystemTime {
        let (instant, time) = self.clocks;
        let later = time.checked_add(at.saturating_duration_since(instant));
        let earlier = later.and_then(|later| later.checked_sub(instant.saturating_duration_since(at)));
        earlier.unwrap_or(time)
    }

    fn protect(&self, pod: &Pod, now: Instant) -> Write {
        let since = self.wall(pod.busy.unwrap_or(now));
        let mark = Mark::new(&self.holder, since, self.wall(now), &pod.seen.annotations);
        write(pod, &mark.annotations())
    }

    fn renew(&self, pod: &Pod, now: Instant) -> Write {
        let start = pod.mark.as_ref().map_or_else(|| self.wall(now), Mark::start);
        let mark = Mark::new(&self.holder, start, self.wall(now), &pod.seen.annotations);
        write(pod, &Mark { idle: pod.is_lowest(), ..mark }.annotations())
    }
}

impl Pod {
    fn new(seen: SeenPod) -> Self {
        let mark = Mark::of(&seen.annotations);
        Pod { seen, mark, written: None, busy: None, busy_last: None, is_idle: false, lowered: None }
    }

    /// Whether it carries the mark of an idle pod.
    fn is_lowest(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.idle)
    }

    /// Whether none of our items has run in it for a while.
    fn is_unused(&self, now: Instant) -> bool {
        self.busy.is_none() && self.busy_last.is_none_or(|last| now >= last + LINGER)
    }
}

/// Gives the pod these annotations, and removes the others of the guard.
fn write(pod: &Pod, annotations: &Annotations) -> Write {
    let annotations = ALL.iter().map(|name| ((*name).to_owned(), annotations.get(*name).cloned())).collect();
    Write { pod: pod.seen.name.clone(), uid: pod.seen.uid.clone(), annotations }
}

/// Restores the annotations from before the mark.
fn release(pod: &Pod) -> Write {
    let was = pod.mark.as_ref().map(|mark| mark.was.clone()).unwrap_or_default();
    write(pod, &was)
}

/// How long an item runs before its pod is marked: a sixth of the window of the Service. A shorter
/// window lets the autoscaler choose pods sooner after the start of their items.
pub fn after(window: Option<Duration>) -> Duration {
    window.unwrap_or(WINDOW) / 6
}

/// The host name that Kubernetes gives to a pod.
pub fn host_name(pod: &str) -> &str {
    match pod.get(..HOST_NAME_MAX) {
        Some(start) => start.trim_end_matches(['-', '.']),
        None => pod,
    }
}

#[cfg(test)]
mod tests;
