//! Tests the shell around the core without a broker: with the in-memory source, a scripted sink and
//! a paused clock, so that hours take milliseconds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longhaul::app;
use longhaul::bridge::{Parts, Pipeline, Report, SealKey};
use longhaul::config::{self, Mode};
use longhaul::delivery::{Digest, Identity, Outcome};
use longhaul::event::{self, Encoder, Message, Origin, Overrides, RabbitmqOrigin};
use longhaul::sink::{Answer, Request, Sink};
use longhaul::source::memory;
use longhaul::telemetry::{Metrics, Status};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);

/// A service that works for an hour on each item.
#[derive(Default)]
struct Hours {
    started: AtomicU32,
    open: AtomicU32,
    most_open: AtomicU32,
}

impl Sink for Hours {
    fn send(&self, _: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(async {
            self.started.fetch_add(1, Ordering::Relaxed);
            let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_open.fetch_max(open, Ordering::Relaxed);
            sleep(HOUR).await;
            self.open.fetch_sub(1, Ordering::Relaxed);
            Answer { outcome: Outcome::Done, status: Some(200), detail: String::new(), response: None }
        })
    }

    fn destination(&self) -> &str {
        "http://hours"
    }
}

struct Bed {
    sink: Arc<Hours>,
    queue: memory::Handle,
    drain: CancellationToken,
    pipeline: JoinHandle<Report>,
}

impl Bed {
    /// Returns a pipeline with four slots and this many items.
    fn start(items: usize, drain_timeout: Duration) -> Self {
        let text = "pipelines: [{ name: test, source: { rabbitmq: { url: 'amqp://h', queue: q } }, \
                    sink: { url: 'http://hours' }, max_in_flight: 4 }]";
        let config = config::load("longhaul.yaml", text, config::Features::BUILD, &|_| None).unwrap().config;
        let (source, queue) = memory::queue(4);
        for number in 0..items {
            let origin = Origin::Rabbitmq(RabbitmqOrigin::default());
            let message = Message { body: number.to_string().into(), headers: Vec::new(), origin };
            queue.push_as(Identity::Content(Digest([number as u8; 16])), message);
        }
        let encoder = Encoder::new(event::Settings {
            namespace: "default".to_owned(),
            name: "test".to_owned(),
            mode: Mode::Binary,
            event: config.pipelines[0].event.clone(),
            overrides: Overrides::default(),
        });
        let sink = Arc::new(Hours::default());
        let parts = Parts {
            name: "test".to_owned(),
            source: "a queue in memory".to_owned(),
            request_timeout: 1_000 * HOUR,
            stalled_after: None,
            stalled: 1_000 * HOUR,
            reports: Arc::default(),
            policy: app::policy(&config.pipelines[0]),
            encoder: encoder.expect("an encoder"),
            sink: sink.clone(),
            dead_letter: None,
            reply: None,
            copies: None,
            seal: SealKey::derived("secret", "test"),
            checkpoints: None,
            replicas: None,
            guard: None,
            control: None,
            metrics: Metrics::new().pipeline("test", 4),
            status: Arc::new(Status::new("test")),
            drain_timeout,
        };
        let drain = CancellationToken::new();
        let running = Pipeline::run(parts, source, drain.clone());
        let pipeline = tokio::spawn(async move { running.await.expect("an end without a fault") });
        Bed { sink, queue, drain, pipeline }
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
