use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::*;
use crate::guard::Post;
use crate::guard::mark::OWN;
use crate::progress::Report;
use crate::telemetry::{GuardWrite, Metrics};

/// A cluster in memory.
#[derive(Clone)]
struct Fake(Arc<FakeInner>);

struct FakeInner {
    pods: Mutex<BTreeMap<String, SeenPod>>,
    writes: Mutex<Vec<(Instant, Write)>>,
    refusal: Mutex<Option<Failure>>,
    /// The time that a write takes.
    delay: Mutex<Duration>,
    events: mpsc::UnboundedSender<Result<Event, Failure>>,
    stream: Mutex<Option<mpsc::UnboundedReceiver<Result<Event, Failure>>>>,
}

/// A stream over a channel.
fn stream_of<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<T>) -> BoxStream<'static, T> {
    let next = |mut receiver: mpsc::UnboundedReceiver<T>| async move {
        let value = receiver.recv().await?;
        Some((value, receiver))
    };
    futures_util::stream::unfold(receiver, next).boxed()
}

impl Fake {
    fn with_pods(count: usize) -> Self {
        let (events, stream) = mpsc::unbounded_channel();
        let pods = (0..count).map(|number| {
            let name = format!("p{number}");
            let pod = SeenPod {
                uid: name.clone(),
                name: name.clone(),
                service: "s".to_owned(),
                ..SeenPod::default()
            };
            (name, pod)
        });
        let fake = Fake(Arc::new(FakeInner {
            pods: Mutex::new(pods.collect()),
            writes: Mutex::default(),
            refusal: Mutex::default(),
            delay: Mutex::default(),
            events,
            stream: Mutex::new(Some(stream)),
        }));
        let all = fake.0.pods.lock().unwrap().values().cloned().collect();
        fake.0.events.send(Ok(Event::All(all))).unwrap();
        fake
    }

    fn writes(&self) -> Vec<(Instant, Write)> {
        self.0.writes.lock().unwrap().clone()
    }

    fn marked(&self) -> usize {
        let pods = self.0.pods.lock().unwrap();
        pods.values().filter(|pod| pod.annotations.contains_key(OWN)).count()
    }

    fn refuse(&self, failure: Option<Failure>) {
        *self.0.refusal.lock().unwrap() = failure;
    }
}

impl Cluster for Fake {
    fn watch(&self) -> BoxStream<'static, Result<Event, Failure>> {
        stream_of(self.0.stream.lock().unwrap().take().expect("one watch"))
    }

    async fn write(&self, write: &Write) -> Result<Wrote, Failure> {
        self.0.writes.lock().unwrap().push((Instant::now(), write.clone()));
        if let Some(failure) = self.0.refusal.lock().unwrap().clone() {
            return Err(failure);
        }
        // The server carries the write out although its client has gone.
        let (fake, write, delay) = (self.clone(), write.clone(), *self.0.delay.lock().unwrap());
        let server = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            fake.apply(&write)
        });
        Ok(server.await.unwrap())
    }
}

impl Fake {
    fn apply(&self, write: &Write) -> Wrote {
        let mut pods = self.0.pods.lock().unwrap();
        let Some(pod) = pods.get_mut(&write.pod).filter(|pod| pod.uid == write.uid) else {
            return Wrote::Gone;
        };
        for (name, value) in &write.annotations {
            match value {
                Some(value) => pod.annotations.insert(name.clone(), value.clone()),
                None => pod.annotations.remove(name),
            };
        }
        let _ = self.0.events.send(Ok(Event::Seen(pod.clone())));
        Wrote::Done
    }
}

/// Queue-proxies of which these pods are busy.
struct Busy(Vec<&'static str>);

impl Measure for Busy {
    async fn ask(&self, pods: Vec<(String, String)>) -> Vec<(String, bool)> {
        let answer = |(name, _): (String, String)| (name.clone(), self.0.contains(&name.as_str()));
        pods.into_iter().map(answer).collect()
    }
}

struct Bed {
    fake: Fake,
    lookout: Arc<Lookout>,
    stop: CancellationToken,
    guard: tokio::task::JoinHandle<()>,
    metrics: Metrics,
}

fn guard_of(fake: Fake, proxies: Busy) -> Bed {
    let (lookout, stop) = (Arc::new(Lookout::default()), CancellationToken::new());
    let metrics = Metrics::new();
    let settings = Settings { holder: "me".to_owned(), after: None, metrics: metrics.guard() };
    let guard = tokio::spawn(run(settings, fake.clone(), proxies, lookout.clone(), stop.clone()));
    Bed { fake, lookout, stop, guard, metrics }
}

fn begin(lookout: &Arc<Lookout>, pod: &str) -> crate::guard::Ticket {
    let report = Arc::new(Report::default());
    report.take(serde_json::from_str(&format!("{{\"pod\": \"{pod}\"}}")).unwrap(), 100).unwrap();
    Post::new(lookout.clone(), None).begin(Some(report))
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_items_at_once_cost_two_writes_in_any_second() {
    let bed = guard_of(Fake::with_pods(100), Busy(Vec::new()));
    let tickets: Vec<_> = (0..100).map(|number| begin(&bed.lookout, &format!("p{number}"))).collect();
    pass(65).await;
    assert_eq!(bed.fake.marked(), 100);
    drop(tickets);
    pass(65).await;
    assert_eq!(bed.fake.marked(), 0);
    let writes = bed.fake.writes();
    for three in writes.windows(WRITES_PER_SECOND + 1) {
        assert!(three[WRITES_PER_SECOND].0 - three[0].0 >= SECOND, "{three:?}");
    }
    assert!(writes.len() <= 230, "{} writes", writes.len());
}

#[tokio::test(start_paused = true)]
async fn at_the_end_the_marks_go() {
    let bed = guard_of(Fake::with_pods(3), Busy(Vec::new()));
    let _tickets = [begin(&bed.lookout, "p0"), begin(&bed.lookout, "p1")];
    pass(15).await;
    assert_eq!(bed.fake.marked(), 2);
    bed.stop.cancel();
    bed.guard.await.unwrap();
    assert_eq!(bed.fake.marked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_has_begun_before_the_end_is_finished_and_undone() {
    let bed = guard_of(Fake::with_pods(3), Busy(Vec::new()));
    *bed.fake.0.delay.lock().unwrap() = Duration::from_millis(700);
    let _tickets = ["p0", "p1", "p2"].map(|pod| begin(&bed.lookout, pod));
    while bed.fake.writes().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bed.fake.marked(), 0, "it has begun");
    bed.stop.cancel();
    bed.guard.await.unwrap();
    pass(5).await;
    let writes: Vec<_> =
        bed.fake.writes().into_iter().map(|(_, write)| (write.pod.clone(), write.kind())).collect();
    let pod = || "p0".to_owned();
    assert_eq!(writes, [(pod(), GuardWrite::Mark), (pod(), GuardWrite::Release)]);
    assert_eq!(bed.fake.marked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_queue_proxy_stands_for_a_worker_that_does_not_report() {
    let fake = Fake::with_pods(2);
    for pod in fake.0.pods.lock().unwrap().values_mut() {
        pod.address = Some("10.0.0.1".to_owned());
        let _ = fake.0.events.send(Ok(Event::Seen(pod.clone())));
    }
    let bed = guard_of(fake, Busy(vec!["p1"]));
    let _ticket = Post::new(bed.lookout.clone(), None).begin(None);
    pass(13).await;
    let marked: Vec<String> = bed.fake.writes().into_iter().map(|(_, write)| write.pod).collect();
    assert_eq!(marked, ["p1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_tried_rarely_and_everything_goes_on_after_it() {
    let bed = guard_of(Fake::with_pods(2), Busy(Vec::new()));
    let failure =
        Failure { text: "forbidden".to_owned(), help: "create the Role", kind: GuardFailure::Refused };
    bed.fake.refuse(Some(failure));
    let _ticket = begin(&bed.lookout, "p0");
    pass(120).await;
    let tries = bed.fake.writes().len();
    assert!((2..=9).contains(&tries), "{tries} tries in two minutes");
    let post = Post::new(bed.lookout.clone(), None);
    assert_eq!(post.shown().trouble.as_deref(), Some("forbidden"));
    bed.fake.refuse(None);
    pass(31).await;
    assert_eq!((bed.fake.marked(), post.shown().trouble), (1, None));
    let metrics = bed.metrics.render().unwrap();
    assert!(!metrics.contains("longhaul_guard_writes_total{write=\"mark\"} 0"), "{metrics}");
    for line in [
        "longhaul_guard_pods_marked 1",
        &format!("longhaul_guard_failures_total{{failure=\"refused\"}} {tries}"),
        "longhaul_guard_failures_total{failure=\"late\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_does_not_stop_the_guard() {
    let bed = guard_of(Fake::with_pods(1), Busy(Vec::new()));
    let _ticket = begin(&bed.lookout, "p0");
    pass(1).await;
    let failure = Failure { text: "away".to_owned(), help: "wait", kind: GuardFailure::Unreachable };
    bed.fake.0.events.send(Err(failure)).unwrap();
    pass(14).await;
    assert_eq!(bed.fake.marked(), 1);
}
