//! Moves the wall clock while work runs. Only names and timestamps depend on it: no request ends or
//! starts because of it, and no item is lost.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::run::config;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::worker::Worker;

const DAY: i64 = 24 * 60 * 60;

/// The wall clock of the programs that are started with its environment.
struct WallClock {
    file: std::fs::File,
    folder: tempfile::TempDir,
}

impl WallClock {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/clock/jump.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(folder.path().join("jump.so")).args([
            source,
            "-ldl",
            "-lpthread",
        ]);
        assert!(cc.status().expect("a C compiler").success());
        let clock = WallClock { file: std::fs::File::create(folder.path().join("ahead")).unwrap(), folder };
        clock.set_ahead(0);
        clock
    }

    /// Sets how many seconds it is ahead of the machine's clock.
    fn set_ahead(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn run(&self, config: &str) -> Longhaul {
        let at = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        Longhaul::run_with(config, "info", &[("LD_PRELOAD", at("jump.so")), ("CLOCK_JUMP", at("ahead"))])
    }
}

/// Moves the clock forward by a day while work runs, and then back by two.
async fn a_wall_clock_that_jumps(backlog: impl Backlog, source: &str) {
    backlog.fill((0..4).map(|number| format!("item {number}").into_bytes())).await;
    let worker = Worker::held().await;
    let clock = WallClock::new();
    let bridge = clock.run(&config(source, &worker, 8, ""));
    eventually("the work to run", async || worker.log().open == 4).await;
    clock.set_ahead(DAY);
    backlog.fill(std::iter::once(b"after the first jump".to_vec())).await;
    eventually("an item after the first jump", async || worker.log().open == 5).await;
    clock.set_ahead(-DAY);
    // The session timeout of Kafka and the heartbeats of RabbitMQ have to pass under the set clock.
    tokio::time::sleep(Duration::from_secs(10)).await;
    worker.release_all();
    eventually("the work to end", async || worker.done() >= 4).await;
    backlog.fill(std::iter::once(b"after the second jump".to_vec())).await;
    eventually("all to be done", async || worker.done() == 6).await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    let log = bridge.log();
    bridge.stop().await;
    assert_eq!(worker.log().second_runs(), 0, "{log}");
    assert!(!log.contains("Session lost"), "{log}");
    let days: BTreeSet<&str> = log.lines().filter_map(|line| Some(line.split_once('T')?.0)).collect();
    assert_eq!(days.len(), 3, "its clock did jump\n{log}");
    backlog.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_work_outlasts_a_wall_clock_that_jumps() {
    let backlog = Rabbitmq::create().await;
    let source = backlog.source();
    a_wall_clock_that_jumps(backlog, &source).await;
}

/// librdkafka waits by the wall clock, and must keep its place in the group for longer than the
/// session timeout.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_work_outlasts_a_wall_clock_that_jumps() {
    let backlog = Kafka::create().await;
    let source = backlog.source().replace(" group:", " session_timeout: 6s, group:");
    a_wall_clock_that_jumps(backlog, &source).await;
}
