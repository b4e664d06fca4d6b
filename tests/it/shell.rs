//! Tests the shell around the core without a broker: with the in-memory source, a scripted sink and
//! a paused clock, so that hours take milliseconds.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longhaul::app;
use longhaul::bridge::{Control, Parts, Person, Pipeline, Report, SealKey, Targets};
use longhaul::config::{self, Mode};
use longhaul::delivery::{Digest, Identity, Outcome};
use longhaul::event::{self, Encoder, Message, Origin, Overrides, RabbitmqOrigin};
use longhaul::progress::{PATH, Registry};
use longhaul::publish::hops::HopsKey;
use longhaul::sink::{Answer, Request, Sink};
use longhaul::source::memory;
use longhaul::telemetry::{Metrics, Status};
use longhaul::view::{Action, Filter, ItemState, Then};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// A service that works for an hour on each item.
struct Hours {
    outcome: Outcome,
    /// The worker reports once, after half of its work.
    reports: Option<Arc<Registry>>,
    started: AtomicU32,
    open: AtomicU32,
    most_open: AtomicU32,
}

impl Hours {
    fn ending_in(outcome: Outcome) -> Self {
        Hours {
            outcome,
            reports: None,
            started: AtomicU32::new(0),
            open: AtomicU32::new(0),
            most_open: AtomicU32::new(0),
        }
    }

    fn report(&self, request: &Request) {
        let Some(reports) = &self.reports else { return };
        let url = request.headers["ce-progressurl"].to_str().expect("an address");
        let (_, token) = url.rsplit_once(PATH).expect("a token");
        let post = serde_json::from_str(r#"{"percent": 50}"#).expect("a report");
        reports.of(token).expect("a running attempt").take(post, 0).expect("an accepted report");
    }
}

impl Sink for Hours {
    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(async move {
            self.started.fetch_add(1, Ordering::Relaxed);
            let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_open.fetch_max(open, Ordering::Relaxed);
            sleep(HOUR / 2).await;
            self.report(&request);
            sleep(HOUR / 2).await;
            self.open.fetch_sub(1, Ordering::Relaxed);
            Answer { outcome: self.outcome, status: Some(200), detail: String::new(), response: None }
        })
    }

    fn destination(&self) -> &str {
        "http://hours"
    }
}

struct Bed {
    sink: Arc<Hours>,
    queue: memory::Handle,
    control: mpsc::Sender<Control>,
    metrics: Metrics,
    status: Arc<Status>,
    drain: CancellationToken,
    pipeline: JoinHandle<Report>,
}

impl Bed {
    /// Returns a pipeline with four slots and this many items.
    fn start(items: usize, drain_timeout: Duration) -> Self {
        Bed::with(items, Hours::ending_in(Outcome::Done), |parts| parts.drain_timeout = drain_timeout)
    }

    /// Returns a pipeline with other parts.
    fn with(items: usize, sink: Hours, change: impl FnOnce(&mut Parts)) -> Self {
        let text = "pipelines: [{ name: test, source: { rabbitmq: { url: 'amqp://h', queue: q } }, \
                    sink: { url: 'http://hours' }, max_in_flight: 4 }]";
        let config = config::load("longhaul.yaml", text, config::Features::BUILD, &|_| None).unwrap().config;
        let encoder = Encoder::new(event::Settings {
            namespace: "default".to_owned(),
            name: "test".to_owned(),
            mode: Mode::Binary,
            event: config.pipelines[0].event.clone(),
            overrides: Overrides::default(),
        });
        let (sink, metrics, status) = (Arc::new(sink), Metrics::new(), Arc::new(Status::new("test")));
        let (control, requests) = mpsc::channel(1);
        let mut parts = Parts {
            name: "test".to_owned(),
            source: "a queue in memory".to_owned(),
            request_timeout: 1_000 * HOUR,
            stalled_after: None,
            stalled: 1_000 * HOUR,
            reports: sink.reports.clone().unwrap_or_default(),
            policy: app::policy(&config.pipelines[0]),
            encoder: encoder.expect("an encoder"),
            sink: sink.clone(),
            targets: Targets::default(),
            seal: SealKey::derived("secret", "test"),
            checkpoints: None,
            hops: HopsKey::derived("secret"),
            replicas: None,
            guard: None,
            traces: Default::default(),
            control: Some(requests),
            metrics: metrics.pipeline("test", 4),
            status: status.clone(),
            drain_timeout: HOUR,
        };
        change(&mut parts);
        let (source, queue) = memory::queue(parts.policy.max_in_flight as usize);
        for number in 0..items {
            let origin = Origin::Rabbitmq(RabbitmqOrigin::default());
            let message = Message { body: number.to_string().into(), headers: Vec::new(), origin };
            queue.push_as(Identity::Content(Digest([number as u8; 16])), message);
        }
        let drain = CancellationToken::new();
        let running = Pipeline::run(parts, source, drain.clone());
        let pipeline = tokio::spawn(async move { running.await.expect("an end without a fault") });
        Bed { sink, queue, control, metrics, status, drain, pipeline }
    }

    /// Sends a request of a person who does not wait for the answer.
    async fn send(&self, control: Control) {
        self.control.send(control).await.expect("a running pipeline");
    }

    /// The sum of a metric of the pipeline over all samples with this label.
    fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics.render().expect("the metrics");
        let start = format!("{name}{{pipeline=\"test\"");
        let samples = text.lines().filter(|line| line.starts_with(&start) && line.contains(label));
        let values = samples.map(|line| line.rsplit_once(' ').expect("a value").1);
        let values: Vec<u64> = values.map(|value| value.parse().expect("a number")).collect();
        assert!(!values.is_empty(), "{name} {label}");
        values.iter().sum()
    }

    fn problems(&self) -> Vec<&'static str> {
        self.status.reasons().iter().map(|reason| reason.kind).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Bed) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < 100 * HOUR, "never: {what}");
            sleep(Duration::from_secs(1)).await;
        }
    }

    fn started(&self) -> u32 {
        self.sink.started.load(Ordering::Relaxed)
    }

    fn acked(&self) -> usize {
        self.queue.counts().acked
    }

    async fn drained(self) -> (Report, memory::Counts) {
        self.drain.cancel();
        (self.pipeline.await.expect("an end"), self.queue.counts())
    }
}

#[tokio::test(start_paused = true)]
async fn ten_items_of_an_hour_take_three_hours_with_four_slots() {
    let began = Instant::now();
    let bed = Bed::start(10, HOUR);
    bed.until("all acks", |bed| bed.acked() == 10).await;
    let hours = began.elapsed().as_secs_f64() / HOUR.as_secs_f64();
    assert!((3.0..3.1).contains(&hours), "{hours} h");
    assert_eq!(bed.sink.most_open.load(Ordering::Relaxed), 4);
    assert_eq!(bed.drained().await.0, Report { cut: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_open_requests_and_returns_the_rest() {
    let bed = Bed::start(10, 2 * HOUR);
    bed.until("four requests", |bed| bed.started() == 4).await;
    let sink = bed.sink.clone();
    let (report, counts) = bed.drained().await;
    assert_eq!((report, counts.acked), (Report { cut: 0 }, 4));
    assert_eq!(sink.started.load(Ordering::Relaxed), 4, "nothing starts in a drain");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_cuts_and_acks_nothing() {
    let bed = Bed::start(10, HOUR / 2);
    bed.until("four requests", |bed| bed.started() == 4).await;
    let (report, counts) = bed.drained().await;
    assert_eq!((report.cut, counts.acked), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_lost_every_eleven_minutes_run_nothing_twice() {
    let bed = Bed::start(8, HOUR);
    // The cut never meets an ack, because a cut ack could not be told from a lost one.
    for _ in 0..12 {
        sleep(Duration::from_secs(11 * 60)).await;
        bed.queue.cut();
    }
    bed.until("all acks", |bed| bed.acked() == 8).await;
    assert_eq!(bed.started(), 8);
    assert_eq!(bed.drained().await.0, Report { cut: 0 });
}

fn person() -> Person {
    Person { right: "admin.token", from: ([127, 0, 0, 1], 4711).into() }
}

/// Collects the log lines of this thread while the guard lives.
fn log() -> (tracing::subscriber::DefaultGuard, impl Fn() -> String) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let text = move || String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    (tracing::subscriber::set_default(subscriber), text)
}

#[tokio::test(start_paused = true)]
async fn an_action_leaves_its_line_and_its_count_if_the_person_has_left() {
    let (_guard, log) = log();
    let bed = Bed::start(1, HOUR);
    bed.until("a request", |bed| bed.started() == 1).await;
    let filter = Filter { states: vec![ItemState::Running], ..Filter::default() };
    let (action, then, answer) = (Action::Cancel, Then::Drop, oneshot::channel().0);
    bed.send(Control::Act { filter, action, then, dry_run: false, by: person(), answer }).await;
    bed.until("the ack", |bed| bed.acked() == 1).await;
    let log = log();
    let line = log.lines().find(|line| line.contains("A person acted on items"));
    let line = line.unwrap_or_else(|| panic!("no line in {log}"));
    for part in ["admin.token", "127.0.0.1:4711", "cancel", "changed=1"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(bed.metric("longhaul_attempts_total", "outcome=\"cancelled\""), 1);
    assert_eq!(bed.metric("longhaul_attempt_duration_seconds_count", ""), 1);
    assert_eq!(bed.drained().await.0, Report { cut: 0 });
}

/// An action on many items leaves room for other work: a person sees its first part done and its
/// last part not.
#[tokio::test(start_paused = true)]
async fn an_action_on_many_items_is_carried_out_in_portions() {
    const ITEMS: usize = 200;
    let bed = Bed::with(ITEMS, Hours::ending_in(Outcome::Rejected), |parts| {
        parts.policy.bounds.held_max = 1000;
        parts.policy.max_in_flight = ITEMS as u32;
    });
    let held = |bed: &Bed| bed.metric("longhaul_items", "state=\"held\"");
    bed.until("all to be held", |bed| held(bed) == ITEMS as u64).await;
    let filter = Filter { states: vec![ItemState::Held], ..Filter::default() };
    let (answer, mut acted) = oneshot::channel();
    let (action, then) = (Action::Drop, Then::Drop);
    bed.send(Control::Act { filter, action, then, dry_run: false, by: person(), answer }).await;
    let (answer, seen) = oneshot::channel();
    bed.send(Control::Overview { with_history: false, answer }).await;
    let seen = seen.await.expect("an overview").counts[&ItemState::Held];
    assert!((1..ITEMS as u64).contains(&seen), "{seen}");
    let matched = (&mut acted).await.expect("a result");
    assert_eq!((matched.matched, matched.changed), (ITEMS, ITEMS));
    bed.until("all acks", |bed| bed.acked() == ITEMS).await;
    assert_eq!(bed.drained().await.0, Report { cut: 0 });
}

/// The items are held, then a person pauses the pipeline, then the session is lost. A paused
/// pipeline that is not prefetched takes no redelivery.
#[tokio::test(start_paused = true)]
async fn a_pause_hides_no_problem_and_the_metrics_of_held_items_agree() {
    let bed = Bed::with(3, Hours::ending_in(Outcome::Rejected), |parts| {
        parts.policy.bounds.held_max = 3;
        parts.policy.prefetched = false;
    });
    let by_state = |bed: &Bed| bed.metric("longhaul_items", "state=\"held\"");
    bed.until("three held items", |bed| by_state(bed) == 3).await;
    assert_eq!(bed.metric("longhaul_items_held", ""), 3);
    assert_eq!(bed.problems(), ["held-full"]);
    bed.send(Control::Pause { by: person(), answer: oneshot::channel().0 }).await;
    bed.until("the pause", |bed| bed.metric("longhaul_pipeline_paused", "") == 1).await;
    assert_eq!(bed.problems(), ["held-full"]);
    bed.queue.cut();
    bed.until("no delivery", |bed| bed.problems().is_empty()).await;
    assert_eq!((by_state(&bed), bed.metric("longhaul_items_held", "")), (3, 3));
    bed.send(Control::Resume { from: None, by: person(), answer: oneshot::channel().0 }).await;
    bed.until("their redelivery", |bed| bed.problems() == ["held-full"]).await;
    assert_eq!(bed.started(), 3);
}

/// Nobody knows whether a worker has started before it reports.
#[tokio::test(start_paused = true)]
async fn a_worker_that_has_not_reported_is_not_silent() {
    let bed = Bed::with(1, Hours::ending_in(Outcome::Done), |parts| {
        parts.stalled_after = Some(MINUTE);
        parts.reports = Arc::new(Registry::new(Some("http://bridge".to_owned())));
    });
    bed.until("the ack", |bed| bed.acked() == 1).await;
    assert_eq!(bed.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_falls_silent_after_its_report_is_cut() {
    let began = Instant::now();
    let reports = Some(Arc::new(Registry::new(Some("http://bridge".to_owned()))));
    let sink = Hours { reports, ..Hours::ending_in(Outcome::Done) };
    let bed = Bed::with(1, sink, |parts| parts.stalled_after = Some(MINUTE));
    let stalled = |bed: &Bed| bed.metric("longhaul_attempts_total", "outcome=\"stalled\"");
    bed.until("the first end", |bed| stalled(bed) == 1).await;
    let took = began.elapsed();
    assert!(took > HOUR / 2 + MINUTE && took < HOUR / 2 + 2 * MINUTE, "{took:?}");
    bed.until("the second end", |bed| stalled(bed) == 2).await;
}
