use super::*;
use crate::guard::mark::{DELETION_COST, SAFE_TO_EVICT};

const AFTER: Duration = Duration::from_secs(10);

fn pod(name: &str) -> SeenPod {
    SeenPod {
        name: name.to_owned(),
        uid: format!("uid of {name}"),
        service: "hello".to_owned(),
        ..SeenPod::default()
    }
}

/// A world with a cluster that carries out each write, and a watch that shows it at once.
struct World {
    plan: Plan,
    now: Instant,
    cluster: BTreeMap<String, SeenPod>,
    busy: BTreeMap<String, Instant>,
    /// Whether queue-proxies answer, so that idle pods are known.
    answers: bool,
    writes: usize,
}

impl World {
    fn new(holder: &str, pods: &[&str]) -> Self {
        let cluster: BTreeMap<String, SeenPod> =
            pods.iter().map(|name| ((*name).to_owned(), pod(name))).collect();
        World::over(holder, cluster, Instant::now())
    }

    fn over(holder: &str, cluster: BTreeMap<String, SeenPod>, now: Instant) -> Self {
        let mut plan = Plan::new(
            holder.to_owned(),
            None,
            (now, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        );
        plan.restart(now, cluster.values().cloned().collect());
        World { plan, now, cluster, busy: BTreeMap::new(), answers: false, writes: 0 }
    }

    fn start(&mut self, name: &str) {
        self.busy.insert(name.to_owned(), self.now);
    }

    fn end(&mut self, name: &str) {
        self.busy.remove(name);
    }

    /// Passes seconds, with two possible writes in each.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..2 * seconds {
            self.look();
            if let Some(write) = self.plan.next(self.now) {
                self.carry_out(&write);
            }
            self.now += Duration::from_millis(500);
        }
    }

    fn look(&mut self) {
        let is_idle = |name: &&String| self.answers && !self.busy.contains_key(*name);
        let idle = self.cluster.keys().filter(is_idle).cloned().collect();
        let starts = |at: &Instant| self.now < *at + LINGER;
        let starting = self.busy.values().any(starts).then(|| "hello".to_owned()).into_iter().collect();
        self.plan.look(self.now, Sight { busy: self.busy.clone(), idle, starting });
    }

    /// Removes this many pods as the ReplicaSet controller does, with the worst choice among
    /// equals. Returns the busy ones.
    fn shrink(&mut self, count: usize) -> Vec<String> {
        let mut order: Vec<String> = self.cluster.keys().cloned().collect();
        order.sort_by_key(|name| (self.cost(name).unwrap_or(0), !self.busy.contains_key(name)));
        for name in &order[..count] {
            self.cluster.remove(name);
            self.plan.gone(name);
        }
        order.truncate(count);
        order.retain(|name| self.busy.contains_key(name));
        order
    }

    /// The number of pods with the lowest cost.
    fn lowest(&self) -> usize {
        self.cluster.keys().filter(|name| self.cost(name) == Some(i32::MIN)).count()
    }

    fn carry_out(&mut self, write: &Write) {
        self.writes += 1;
        apply(&mut self.cluster, write);
        self.plan.wrote(self.now, write, Wrote::Done);
        let shown = self.cluster[&write.pod].clone();
        self.plan.seen(self.now, shown);
    }

    fn cost(&self, name: &str) -> Option<i32> {
        self.cluster[name].annotations.get(DELETION_COST)?.parse().ok()
    }
}

fn apply(cluster: &mut BTreeMap<String, SeenPod>, write: &Write) {
    let annotations = &mut cluster.get_mut(&write.pod).unwrap().annotations;
    for (name, value) in &write.annotations {
        match value {
            Some(value) => annotations.insert(name.clone(), value.clone()),
            None => annotations.remove(name),
        };
    }
}

#[test]
fn a_pod_is_marked_after_a_while_and_released_soon_after_its_item() {
    let mut world = World::new("a", &["p", "q"]);
    world.start("p");
    world.pass(9);
    assert_eq!((world.writes, world.cost("p")), (0, None));
    world.pass(2);
    assert!(world.cost("p").is_some());
    assert!(ALL.iter().all(|name| world.cluster["p"].annotations.contains_key(*name)));
    assert_eq!((world.writes, world.cost("q"), world.plan.marked()), (1, None, 1));
    world.end("p");
    world.pass(4);
    assert!(world.cluster["p"].annotations.is_empty());
    assert_eq!(world.plan.marked(), 0);
}

#[test]
fn items_that_are_short_or_follow_each_other_cost_no_write() {
    let mut world = World::new("a", &["p"]);
    for _ in 0..20 {
        world.start("p");
        world.pass(9);
        world.end("p");
        world.pass(1);
    }
    assert_eq!(world.writes, 0);
    world.start("p");
    world.pass(12);
    for _ in 0..10 {
        world.end("p");
        world.pass(2);
        world.start("p");
        world.pass(3);
    }
    let beats = 50 / 5 + 1;
    assert!(world.cost("p").is_some());
    assert!(world.writes <= 1 + beats, "{} writes", world.writes);
}

#[test]
fn a_shorter_window_of_the_service_marks_earlier() {
    let mut world = World::new("a", &["p", "q"]);
    let short = SeenPod { window: Some(Duration::from_secs(6)), ..pod("q") };
    world.cluster.insert("q".to_owned(), short.clone());
    world.plan.seen(world.now, short);
    world.start("p");
    world.start("q");
    world.pass(2);
    assert!(world.cost("p").is_none() && world.cost("q").is_some());
    world.pass(9);
    assert!(world.cost("p").is_some());
}

#[test]
fn pods_that_vanished_while_the_watch_was_away_are_named() {
    let mut world = World::new("a", &["p", "q"]);
    let gone = world.plan.restart(world.now, vec![pod("q")]);
    assert_eq!(gone, [pod("p")]);
    assert!(world.plan.restart(world.now, vec![pod("q")]).is_empty());
}

#[test]
fn the_longest_item_is_protected_first_and_costs_most() {
    let mut world = World::new("a", &["p", "q", "r"]);
    for name in ["q", "r", "p"] {
        world.start(name);
        world.pass(2);
    }
    world.now += Duration::from_secs(30);
    let mut order = Vec::new();
    world.look();
    while let Some(write) = world.plan.next(world.now).filter(|_| order.len() < 3) {
        order.push(write.pod.clone());
        world.carry_out(&write);
    }
    assert_eq!(order, ["q", "r", "p"]);
    assert!(world.cost("q") > world.cost("r") && world.cost("r") > world.cost("p"));
}

#[test]
fn the_marks_of_a_dead_bridge_go_within_a_minute() {
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut old = World::new("old", &names);
    names.iter().for_each(|name| old.start(name));
    old.pass(25);
    assert_eq!(old.plan.marked(), 20);
    let mut new = World::over("new", old.cluster, old.now);
    new.pass(14);
    assert_eq!(new.writes, 0, "the other bridge may live");
    new.pass(46 - 14 - 1);
    assert!(new.cluster.values().all(|pod| pod.annotations.is_empty()));
    assert_eq!(new.writes, 20);
}

#[test]
fn the_marks_of_a_living_bridge_stay() {
    let mut first = World::new("first", &["p", "q"]);
    first.start("p");
    first.pass(12);
    let mut second = World::over("second", first.cluster.clone(), first.now);
    // The second bridge sees the pod as busy too, for example by its queue-proxy.
    second.start("p");
    for _ in 0..60 {
        first.pass(1);
        let shown = first.cluster["p"].clone();
        second.plan.seen(second.now, shown);
        second.pass(1);
    }
    assert_eq!(second.writes, 0);
    // The first bridge dies; the pod is still busy.
    second.pass(16);
    assert_eq!(second.plan.marked(), 1);
}

/// Pod names in the order of their numbers.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p{number:02}")).collect()
}

/// 20 of 29 pods get items at once, a window of 6 s, and the steps of a real scale-down
/// (knative-lab, run of 2026-11-30) after half of the items have ended.
#[test]
fn a_scale_down_soon_after_a_burst_removes_idle_pods_only() {
    let names = names(29);
    let mut world = World::new("a", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        let seen = SeenPod { window: Some(Duration::from_secs(6)), ..pod(name) };
        world.plan.seen(world.now, seen.clone());
        world.cluster.insert(name.clone(), seen);
    }
    names[..20].iter().for_each(|name| world.start(name));
    // Nothing is known of queue-proxies in the first seconds.
    world.pass(2);
    world.answers = true;
    world.pass(6);
    names[..20].iter().step_by(2).for_each(|name| world.end(name));
    for count in [5, 4, 5] {
        assert_eq!(world.shrink(count), Vec::<String>::new());
        world.pass(2);
    }
    world.pass(60);
    assert_eq!((world.plan.marked(), world.lowest(), world.cluster.len()), (10, 0, 15));
}

#[test]
fn idle_pods_are_marked_only_while_many_busy_ones_wait() {
    let names = names(10);
    let mut world = World::new("a", &names.iter().map(String::as_str).collect::<Vec<_>>());
    world.answers = true;
    names[..BEHIND].iter().for_each(|name| world.start(name));
    world.pass(15);
    assert_eq!((world.plan.marked(), world.lowest()), (BEHIND, 0));
    names[..BEHIND].iter().for_each(|name| world.end(name));
    names[BEHIND..=2 * BEHIND].iter().for_each(|name| world.start(name));
    world.pass(11);
    assert_eq!((world.plan.marked(), world.lowest()), (0, 2), "old marks first");
    world.pass(8);
    assert_eq!((world.plan.marked(), world.lowest()), (BEHIND + 1, 5));
    world.pass(40);
    assert_eq!((world.plan.marked(), world.lowest()), (BEHIND + 1, 0));
}

#[test]
fn while_items_start_no_idle_pod_is_marked() {
    let names = names(12);
    let mut world = World::new("a", &names.iter().map(String::as_str).collect::<Vec<_>>());
    world.answers = true;
    names[..9].iter().for_each(|name| world.start(name));
    world.pass(9);
    world.start("p09");
    world.pass(3);
    assert_eq!((world.plan.marked(), world.lowest()), (4, 0));
    world.pass(2);
    assert_eq!((world.plan.marked(), world.lowest()), (6, 2), "no item has started for a while");
}

#[test]
fn an_idle_mark_ends_as_soon_as_the_pod_may_be_busy() {
    let names = names(8);
    let mut world = World::new("a", &names.iter().map(String::as_str).collect::<Vec<_>>());
    world.answers = true;
    names[..6].iter().for_each(|name| world.start(name));
    world.pass(12);
    assert_eq!(world.lowest(), 2);
    world.start("p06");
    world.pass(1);
    assert!(world.cost("p06").is_some_and(|cost| cost > 0), "before all others, without `after`");
    // Another bridge sees its own item in a pod that this one has marked as idle.
    let mut other = World::over("other", world.cluster.clone(), world.now);
    other.start("p07");
    other.pass(1);
    assert!(other.cost("p07").is_some_and(|cost| cost > 0));
    // Its queue-proxy does not answer, or shows a request of others.
    assert_eq!(world.cost("p07"), Some(i32::MIN));
    world.answers = false;
    world.pass(1);
    assert_eq!(world.cost("p07"), None);
}

#[test]
fn annotations_of_the_service_are_restored() {
    let mut world = World::new("a", &["p"]);
    let template = Annotations::from([(SAFE_TO_EVICT.to_owned(), "false".to_owned())]);
    world.cluster.get_mut("p").unwrap().annotations = template.clone();
    world.plan.seen(world.now, world.cluster["p"].clone());
    world.start("p");
    world.pass(60);
    assert!(world.cost("p").is_some());
    world.end("p");
    world.pass(4);
    assert_eq!(world.cluster["p"].annotations, template);
}

#[test]
fn a_watch_that_lags_behind_causes_no_second_write() {
    let mut world = World::new("a", &["p"]);
    world.start("p");
    world.now += AFTER;
    world.look();
    let write = world.plan.next(world.now).unwrap();
    world.plan.wrote(world.now, &write, Wrote::Done);
    world.plan.seen(world.now, pod("p"));
    assert_eq!(world.plan.next(world.now), None);
    // Somebody has removed the mark: it is written again.
    world.now += BELIEF;
    world.plan.seen(world.now, pod("p"));
    assert_eq!(world.plan.next(world.now).unwrap().pod, "p");
}

#[test]
fn stopping_pods_and_new_pods_with_an_old_name_are_left_alone() {
    let mut world = World::new("a", &["p"]);
    world.start("p");
    world.now += AFTER;
    world.look();
    let write = world.plan.next(world.now).unwrap();
    world.plan.seen(world.now, SeenPod { uid: "another".to_owned(), ..pod("p") });
    world.plan.wrote(world.now, &write, Wrote::Done);
    assert_eq!(world.plan.marked(), 0);
    world.plan.seen(world.now, SeenPod { uid: "another".to_owned(), is_stopping: true, ..pod("p") });
    world.look();
    assert_eq!(world.plan.next(world.now), None);
    world.plan.wrote(world.now, &write, Wrote::Gone);
    assert_eq!(world.plan.pods().count(), 0);
}

#[test]
fn at_the_end_all_own_marks_go() {
    let mut world = World::new("a", &["p", "q"]);
    world.start("p");
    world.start("q");
    world.pass(13);
    assert_eq!(world.plan.marked(), 2);
    let idle = Mark::idle("a", SystemTime::now(), &Annotations::new()).annotations();
    let r = SeenPod { annotations: idle, ..pod("r") };
    world.plan.seen(world.now, r.clone());
    world.cluster.insert("r".to_owned(), r);
    while let Some(write) = world.plan.next_release() {
        world.carry_out(&write);
    }
    assert!(world.cluster.values().all(|pod| pod.annotations.is_empty()));
}

#[test]
fn a_pod_is_found_by_its_host_name() {
    let long = format!("{}-00001-deployment-7d9f8b6c5-abcde", "x".repeat(40));
    let world = World::new("a", &["short", &long]);
    let find = |name: &str| world.plan.find(name).map(|pod| pod.name.as_str());
    assert_eq!(find("short"), Some("short"));
    assert_eq!(find(&long[..63]), Some(long.as_str()));
    assert_eq!(find("shor"), None);
    assert_eq!(find(&long[..62]), None);
    // Two pods with the same host name cannot be told apart.
    let other = format!("{}fghij", &long[..long.len() - 5]);
    let world = World::new("a", &[&long, &other]);
    assert!(long[..63] != other[..63] || world.plan.find(&long[..63]).is_none());
}

/// Items come and go at random in a hundred pods, with a bridge that dies now and then. Idle pods
/// never keep a mark for more than a minute, and a busy one is marked in time.
#[test]
fn in_random_walks_idle_pods_lose_their_marks_and_busy_ones_have_them() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let names: Vec<String> = (0..60).map(|number| format!("p{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut world = World::new("0", &names);
        let mut ends: BTreeMap<&str, Instant> = BTreeMap::new();
        let mut idle: BTreeMap<&str, Instant> = BTreeMap::new();
        let mut exposed: BTreeMap<&str, Instant> = BTreeMap::new();
        world.answers = seed % 2 == 0;
        for second in 0..300 {
            for name in &names {
                if ends.get(name).is_some_and(|end| world.now >= *end) {
                    ends.remove(name);
                    world.end(name);
                }
                if !ends.contains_key(name) && random.u32(..60) == 0 {
                    ends.insert(name, world.now + Duration::from_secs(random.u64(1..120)));
                    world.start(name);
                }
            }
            if random.u32(..150) == 0 {
                let cluster = std::mem::take(&mut world.cluster);
                let answers = world.answers;
                world = World { answers, ..World::over(&format!("{second}"), cluster, world.now) };
                ends.clear();
                idle.clear();
            }
            world.pass(1);
            for name in &names {
                if world.busy.contains_key(*name) || world.cost(name).is_none_or(|cost| cost < 0) {
                    idle.insert(name, world.now);
                }
                if !world.busy.contains_key(*name) || world.cost(name).is_none_or(|cost| cost > 0) {
                    exposed.insert(name, world.now);
                }
                let since = *exposed.entry(name).or_insert(world.now);
                assert!(world.now - since <= Duration::from_secs(5), "seed {seed}: {name} is exposed");
                let since = *idle.entry(name).or_insert(world.now);
                assert!(world.now - since <= Duration::from_secs(60), "seed {seed}: {name} stays marked");
            }
        }
        let late = |(name, since): (&String, &Instant)| {
            world.now - *since > AFTER + Duration::from_secs(30) && world.cost(name).is_none()
        };
        assert!(!world.busy.iter().any(late), "seed {seed}");
    }
}
