//! Kills a process without a warning, and counts the records that run again and those that are read
//! again.
//!
//! The first record is held and those behind it finish at 1,000 a second. Then the process dies.
//! `LONGHAUL_TEST_RECORDS=100000` runs it at full length (two and a half minutes for each case):
//!
//! ```text
//! LONGHAUL_TEST_RECORDS=100000 cargo test --test it kafka::kill -- --nocapture --test-threads 1
//! ```

use std::io::{BufRead, BufReader};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use super::support::{Broker, Relayed, Running, offsets};

/// Tells the child process to be the [`victim`], with its topic and group.
const VICTIM: &str = "LONGHAUL_TEST_VICTIM";
/// The size of a record in bytes.
const SIZE: usize = 1024;
/// The number of records in the victim's hands when it dies: only the held one.
const IN_FLIGHT: u64 = 1;
/// The timeout is short because the next process waits for it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2);

fn records() -> u64 {
    std::env::var("LONGHAUL_TEST_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4000)
}

/// A hand-written bridge runs all of them again, and Confluent's parallel consumer 6 to 7 of 100.
#[tokio::test(flavor = "multi_thread")]
async fn while_work_finishes_repeats_what_a_commit_interval_holds() {
    // 0.35 % of 100,000 are 0.35 s of work, for a run of any length.
    recovers("kill", Duration::ZERO, IN_FLIGHT + 350).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_after_the_last_finished_repeats_what_was_held() {
    recovers("kill-later", Duration::from_secs(1), IN_FLIGHT + 20).await;
}

async fn recovers(test: &str, kill_after: Duration, most_again: u64) {
    let Some(relayed) = Relayed::start(test).await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    let (topic, records) = (&direct.name, records());
    direct.create_topic(topic, 1).await;
    for start in (0..=records).step_by(10_000) {
        let end = (start + 10_000).min(records + 1);
        direct.produce(topic, 0, (start..end).map(|number| format!("{number:SIZE$}"))).await;
    }
    let mut victim = Victim::start(topic);
    victim.until_done();
    tokio::time::sleep(kill_after).await;
    victim.kill();

    let (restarted, before) = (Instant::now(), relay.answered());
    let mut source = Running::start(settings(broker));
    assert_eq!(offsets(&source.take(1).await), [0]);
    let waited = restarted.elapsed();
    direct.produce(topic, 0, ["new".to_owned()]).await;
    let mut again = IN_FLIGHT;
    while source.take(1).await[0].outline.id.tag <= records {
        again += 1;
    }
    let refetched = relay.answered() - before;
    println!("{test}: of {records} done {again} again, {refetched} bytes fetched, first after {waited:?}");
    assert!(again <= most_again, "{again} run again");
    // 2 % of 100,000 records are two fetches of at most 1 MiB each; the rest is for the messages of
    // the group.
    let most_refetched = (2 * SIZE as u64 * 1024).max(records * SIZE as u64 / 50) + 64 * 1024;
    assert!(refetched <= most_refetched, "{refetched} bytes fetched");
    assert!(waited < SESSION_TIMEOUT + Duration::from_secs(10), "{waited:?} to the first record");
    source.close().await;
    direct.delete_topic(topic).await;
}

fn settings(broker: &Broker) -> longhaul::source::kafka::Settings {
    let mut settings = broker.settings(&[&broker.name]);
    settings.session_timeout = SESSION_TIMEOUT;
    settings
}

struct Victim(Child);

impl Victim {
    fn start(topic: &str) -> Self {
        let arguments = ["--exact", "kafka::kill::victim", "--ignored", "--nocapture"];
        let mut process = Process::new(std::env::current_exe().unwrap());
        process.args(arguments).env(VICTIM, topic).stdout(Stdio::piped());
        Victim(process.spawn().unwrap())
    }

    fn until_done(&mut self) {
        let output = BufReader::new(self.0.stdout.take().unwrap());
        let line = output.lines().map(Result::unwrap).find(|line| line.contains("all done"));
        assert!(line.is_some(), "the victim ended early");
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// Finishes everything apart from the first record, one per millisecond, and then waits to be
/// killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process that another test starts and kills"]
async fn victim() {
    let topic = std::env::var(VICTIM).unwrap();
    let broker = Broker { name: topic, ..Broker::real("victim") };
    let mut source = Running::start(settings(&broker));
    source.take(1).await;
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..records() {
        let delivery = source.take(1).await.remove(0);
        pace.tick().await;
        source.ack(delivery.outline.id);
        source.events.clear();
    }
    println!("all done");
    std::future::pending::<()>().await;
}
