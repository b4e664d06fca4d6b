//! `longhaul demo`: everything on this machine. A broker, a service that is scaled by Knative's own
//! arithmetic, and the bridge between them, built from a configuration as `longhaul run` builds it.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::exit;
use crate::app::{App, End};
use crate::config::{self, MAX_IN_FLIGHT_MAX, process_env};
use crate::knative::serve::Handle;
use crate::telemetry::PipelineMetrics;

mod board;
mod broker;
mod kafka;
mod rabbitmq;
mod service;
mod worker;

use board::{Board, Picture};
use broker::Broker;
use service::{Runs, Tally};
pub use worker::{WORKER_COMMAND, work};

/// How long the demo waits beyond the ideal time before it gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a broker may take to count the items that are left.
const COUNT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many items to enqueue.
    #[arg(long, env = "LONGHAUL_ITEMS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    items: u32,
    /// How long the work on one item takes, such as `2s`.
    #[arg(long, env = "LONGHAUL_WAIT", default_value = "2s", value_parser = super::duration)]
    wait: Duration,
    /// Requests held open at once, and the most replicas.
    #[arg(long, env = "LONGHAUL_MAX_IN_FLIGHT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_IN_FLIGHT_MAX)))]
    max_in_flight: u32,
    /// A real broker: `amqp://…`, or a Kafka `host:port`. Without it a broker runs in this process.
    #[arg(long, env = "LONGHAUL_BROKER")]
    broker: Option<String>,
}

/// Runs the demo. Returns 0 only if every item ran exactly once and was acked.
///
/// # Errors
/// If `out` cannot be written, or the runtime cannot be started.
pub fn run(options: &Options, out: &mut impl Write, err: &mut dyn Write) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shown = runtime.block_on(show(options, out));
    runtime.shutdown_background();
    match shown {
        Ok(code) => Ok(code),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Part { what, hint }) => {
            exit::say(err, &what, hint)?;
            Ok(exit::UNAVAILABLE)
        }
    }
}

/// The reason why the demo cannot continue.
#[derive(Debug)]
enum Failure {
    Output(io::Error),
    Part { what: String, hint: &'static str },
}

impl Failure {
    fn part(what: impl std::fmt::Display, hint: &'static str) -> Self {
        Failure::Part { what: what.to_string(), hint }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

async fn show(options: &Options, out: &mut impl Write) -> Result<u8, Failure> {
    let mut broker = Broker::start(options.broker.as_deref()).await?;
    let runs = Arc::new(Runs::default());
    let service = service::start(options.wait, options.max_in_flight, runs.clone()).await?;
    writeln!(
        out,
        "longhaul demo: {} items of {:?}, {} at once, {}\n",
        options.items,
        options.wait,
        options.max_in_flight,
        broker.describe()
    )?;
    broker.enqueue(options.items).await?;

    let text = configuration(&broker, &service, options);
    let loaded = config::load("demo", &text, config::Features::BUILD, &process_env)
        .map_err(|mistakes| Failure::part(mistakes, "this is a defect of longhaul: please report it"))?;
    let app = App::build(&loaded.config, &process_env)
        .await
        .map_err(|error| Failure::part(error, "correct the environment variable that it names"))?;
    let metrics = app.metrics().pipeline("demo", options.max_in_flight);
    let drain = CancellationToken::new();
    let mut bridge = tokio::spawn(app.run(drain.clone()));

    let started = Instant::now();
    let scene = Scene { options, started, service: &service, metrics: &metrics };
    let mut board = Board::new(out);
    let all_done = tokio::select! {
        watched = watch(&scene, &mut board) => watched?,
        ended = &mut bridge => return Err(refused(ended)),
    };
    drain.cancel();
    let end = bridge.await;
    let left = timeout(COUNT_TIMEOUT, broker.left()).await.ok().flatten();
    broker.clean_up().await;
    let most_replicas = service.counts().borrow().most_ready_ever;
    let drained = matches!(end, Ok(End::Drained));
    service.stop().await;
    let tally = runs.tally();
    let once = tally.once == options.items && tally.more_than_once == 0;
    let perfect = all_done && drained && once && left == Some(0);
    board.finish()?;
    summarise(out, options, &tally, most_replicas, left)?;
    Ok(if perfect { exit::OK } else { 1 })
}

fn refused(ended: Result<End, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(End::Refused(error)) => {
            Failure::part(error, "check --broker: address, user, password, virtual host")
        }
        other => Failure::part(
            format!("the bridge ended early: {other:?}"),
            "please report it with LONGHAUL_LOG=debug",
        ),
    }
}

/// The parts of the running demo that can be observed.
struct Scene<'a> {
    options: &'a Options,
    started: Instant,
    service: &'a Handle,
    metrics: &'a PipelineMetrics,
}

impl Scene<'_> {
    fn picture(&self) -> Picture {
        let counts = *self.service.counts().borrow();
        Picture {
            elapsed: self.started.elapsed(),
            items: u64::from(self.options.items),
            backlog: u64::from(self.options.items).saturating_sub(self.metrics.received.get()),
            in_flight: u64::try_from(self.metrics.in_flight.get()).unwrap_or_default(),
            replicas: u64::from(counts.ready),
            starting: u64::from(counts.starting),
            most_replicas: u64::from(self.options.max_in_flight),
            done: self.metrics.acks(),
        }
    }
}

/// Shows a picture every second until all items are done and no replica is left. Returns whether
/// that happened in time.
async fn watch(scene: &Scene<'_>, board: &mut Board<'_, impl Write>) -> Result<bool, Failure> {
    let give_up = scene.started + ideal(scene.options) * 3 + PATIENCE;
    let mut next = scene.started + Duration::from_secs(1);
    loop {
        sleep_until(next).await;
        next += Duration::from_secs(1);
        let picture = scene.picture();
        board.show(&picture)?;
        if picture.done >= picture.items && picture.replicas + picture.starting == 0 {
            return Ok(true);
        }
        if Instant::now() > give_up {
            return Ok(false);
        }
    }
}

/// Returns the time that no bridge can beat.
fn ideal(options: &Options) -> Duration {
    options.wait * options.items.div_ceil(options.max_in_flight)
}

fn summarise(
    out: &mut impl Write,
    options: &Options,
    tally: &Tally,
    most_replicas: u32,
    left: Option<u64>,
) -> io::Result<()> {
    let left = left.map_or("unknown: the broker did not say".to_owned(), |left| left.to_string());
    writeln!(out, "items            {}", options.items)?;
    writeln!(out, "ran exactly once {}", tally.once)?;
    writeln!(out, "ran again        {}", tally.more_than_once)?;
    writeln!(out, "left in broker   {left}")?;
    writeln!(out, "most replicas    {most_replicas}, and none at the end")?;
    writeln!(
        out,
        "time             {:.1} s from the first request to the last answer",
        tally.took.as_secs_f64()
    )?;
    writeln!(
        out,
        "ideal time       {:.1} s, with every replica there from the start",
        ideal(options).as_secs_f64()
    )
}

fn configuration(broker: &Broker, service: &Handle, options: &Options) -> String {
    format!(
        "pipelines:\n  - name: demo\n    source: {}\n    sink: {{ url: \"http://{}/\", timeout: 1h, require_outcome: true }}\n    max_in_flight: {}\n    on_failed: hold\n",
        broker.source(),
        service.address(),
        options.max_in_flight
    )
}
