//! Decides which marks must change: a function of the pods, the running items and the time.
//!
//! The caller reports pods as the watch shows them ([`Plan::seen`], [`Plan::gone`]) and the busy
//! ones ([`Plan::busy`]), and asks for one write at a time ([`Plan::next`]). A pod is marked while
//! it is busy, from `after` on. Its mark stays for [`LINGER`] when it is idle, so that a pod that
//! gets its next item at once keeps its mark and costs no write.
//!
//! Each bridge renews one of its marks every [`BEAT`]. The marks of a bridge that does not are
//! removed after [`SILENCE`]. Only changes that this process has seen count as signs of life: the
//! clocks of two bridges are never compared.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::mark::{Annotations, Mark};

/// How long an idle pod keeps its mark.
pub const LINGER: Duration = Duration::from_secs(3);
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
    /// Whether it sets a mark, and does not remove one.
    pub fn is_mark(&self) -> bool {
        self.annotations.get(super::mark::OWN).is_some_and(Option::is_some)
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

#[derive(Debug)]
pub struct Plan {
    /// The name of this bridge in its marks.
    holder: String,
    after: Option<Duration>,
    /// One moment on both clocks.
    clocks: (Instant, SystemTime),
    pods: BTreeMap<String, Pod>,
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
}

impl Plan {
    /// `clocks` is the present moment. Later times in marks are computed from it.
    pub fn new(holder: String, after: Option<Duration>, clocks: (Instant, SystemTime)) -> Self {
        Plan { holder, after, clocks, pods: BTreeMap::new(), holders: HashMap::new(), beat: None }
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
        let names: std::collections::BTreeSet<&String> = all.iter().map(|pod| &pod.name).collect();
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

    /// Takes the pods that are busy now, with the starts of their items. All others are idle.
    pub fn busy(&mut self, now: Instant, busy: &BTreeMap<String, Instant>) {
        for (name, pod) in &mut self.pods {
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

    /// The number of pods that carry our mark.
    pub fn marked(&self) -> usize {
        self.pods.values().filter(|pod| self.is_ours(pod)).count()
    }

    /// The most urgent write: protect a busy pod, show that this bridge lives, release an idle pod,
    /// correct a start.
    pub fn next(&self, now: Instant) -> Option<Write> {
        let live = || self.pods.values().filter(|pod| !pod.seen.is_stopping);
        let unprotected = live().filter_map(|pod| {
            let after = self.after.unwrap_or_else(|| after(pod.seen.window));
            let since = pod.busy.filter(|since| now >= *since + after)?;
            (!self.is_ours(pod) && !self.is_held(pod, now)).then_some((since, pod))
        });
        if let Some((since, pod)) = unprotected.min_by_key(|(since, _)| *since) {
            return Some(self.protect(pod, since, now));
        }
        let mut ours = live().filter(|pod| self.is_ours(pod));
        if self.beat.is_none_or(|beat| now >= beat + BEAT)
            && let Some(pod) = ours.next()
        {
            return Some(self.renew(pod, now));
        }
        let idle = live().filter(|pod| pod.is_idle(now) && pod.mark.is_some() && !self.is_held(pod, now));
        if let Some(pod) = idle.min_by_key(|pod| pod.busy_last) {
            return Some(release(pod));
        }
        live().find_map(|pod| {
            let since = pod.busy.filter(|_| self.is_ours(pod))?;
            let marked = pod.mark.as_ref()?.start();
            let right = self.wall(since).checked_sub(SKEW)?;
            (marked < right).then(|| self.protect(pod, since, now))
        })
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

    fn protect(&self, pod: &Pod, since: Instant, now: Instant) -> Write {
        let mark = Mark::new(&self.holder, self.wall(since), self.wall(now), &pod.seen.annotations);
        write(pod, mark.annotations())
    }

    fn renew(&self, pod: &Pod, now: Instant) -> Write {
        let since = pod.mark.as_ref().map_or_else(|| self.wall(now), Mark::start);
        let mark = Mark::new(&self.holder, since, self.wall(now), &pod.seen.annotations);
        write(pod, mark.annotations())
    }
}

impl Pod {
    fn new(seen: SeenPod) -> Self {
        let mark = Mark::of(&seen.annotations);
        Pod { seen, mark, written: None, busy: None, busy_last: None }
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.busy.is_none() && self.busy_last.is_none_or(|last| now >= last + LINGER)
    }
}

fn write(pod: &Pod, annotations: Annotations) -> Write {
    let annotations = annotations.into_iter().map(|(name, value)| (name, Some(value))).collect();
    Write { pod: pod.seen.name.clone(), uid: pod.seen.uid.clone(), annotations }
}

/// Restores the annotations from before the mark.
fn release(pod: &Pod) -> Write {
    let was = pod.mark.as_ref().map(|mark| &mark.was);
    let before = |name: &str| was.and_then(|was| was.get(name)).cloned();
    let annotations = super::mark::ALL.iter().map(|name| ((*name).to_owned(), before(name))).collect();
    Write { pod: pod.seen.name.clone(), uid: pod.seen.uid.clone(), annotations }
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
