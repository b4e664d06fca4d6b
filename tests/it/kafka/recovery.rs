//! What is remembered across a restart.

use std::io::{BufRead, BufReader};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use longhaul::source::{Command, SourceEvent};

use super::support::{Broker, Running, offsets, until};

/// Names topic and group for [`victim`], in the child process.
const VICTIM: &str = "LONGHAUL_TEST_VICTIM";

#[tokio::test(flavor = "multi_thread")]
async fn only_the_unfinished_come_again_after_a_restart() {
    let broker = Broker::real("restart");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, (0..200).map(|number| format!("item {number}"))).await;

    let mut source = broker.start(&[topic]);
    let mut taken = source.take(200).await;
    assert_eq!(offsets(&taken), (0..200).collect::<Vec<_>>());
    fastrand::shuffle(&mut taken);
    let unfinished = [0, 17, 150];
    for delivery in taken.iter().filter(|delivery| !unfinished.contains(&delivery.outline.id.tag)) {
        source.ack(delivery.outline.id);
    }
    let failed = taken.iter().find(|delivery| delivery.outline.id.tag == 17).unwrap().outline.id;
    source.command(Command::Note { id: failed, attempts: 3 });
    source.close().await;
    let (offset, metadata) = broker.committed(topic);
    assert_eq!((offset, &metadata[..3], metadata.len() < 64), (0, "k1.", true), "{metadata}");

    let mut again = broker.start(&[topic]);
    let rest = again.take(3).await;
    assert_eq!(offsets(&rest), unfinished);
    let attempts: Vec<_> = rest.iter().map(|delivery| delivery.outline.attempts_before).collect();
    assert_eq!(attempts, [0, 3, 0]);
    assert!(again.anything_within(Duration::from_millis(500)).await.is_empty());
    rest.iter().for_each(|delivery| again.ack(delivery.outline.id));
    until("everything is committed", || broker.committed(topic).0 == 200).await;
    again.wait_for(|event| *event == SourceEvent::Backlog(0)).await;
    again.close().await;
}

/// Killed without any warning, a process loses at most what it did since its last commit, and the next
/// one starts within the session timeout.
#[tokio::test(flavor = "multi_thread")]
async fn kill_repeats_at_most_the_last_commit_interval() {
    let broker = Broker::real("kill");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    broker.produce(topic, 0, (0..2000).map(|number| format!("item {number}"))).await;

    let mut victim = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "kafka::recovery::victim", "--ignored", "--nocapture"])
        .env(VICTIM, topic)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(victim.stdout.take().unwrap());
    let line = output.lines().map(Result::unwrap).find(|line| line.contains("done 1000"));
    assert!(line.is_some(), "the victim ended early");
    victim.kill().unwrap();
    victim.wait().unwrap();

    let restarted = Instant::now();
    let mut source = broker.start(&[topic]);
    assert_eq!(offsets(&source.take(1).await), [0]);
    let waited = restarted.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?} to the first record");
    let next = source.take(1).await.remove(0).outline.id.tag;
    let repeated = 1 + 1000_u64.saturating_sub(next);
    println!("first record after {waited:?}, {repeated} of 1,001 again");
    // A millisecond each, so 200 ms are 200 records; twice that for a slow machine.
    assert!(repeated <= 400, "{repeated} again");
    source.close().await;
}

/// Finishes everything but the first record, a millisecond each, and then waits to be killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process that kill_repeats_at_most_the_last_commit_interval starts and kills"]
async fn victim() {
    let topic = std::env::var(VICTIM).unwrap();
    let broker = Broker { name: topic.clone(), ..Broker::real("victim") };
    let mut source = Running::start(broker.settings(&[&topic]));
    source.take(1).await;
    for done in 1..=1000 {
        let delivery = source.take(1).await.remove(0);
        tokio::time::sleep(Duration::from_millis(1)).await;
        source.ack(delivery.outline.id);
        if done == 1000 {
            println!("done 1000");
        }
    }
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_others_is_tolerated() {
    for (index, foreign) in ["written by someone else\0", "k1.AAAA", "\0", ""].iter().enumerate() {
        let broker = Broker::real("foreign");
        let topic = &broker.name;
        broker.create_topic(topic, 1).await;
        broker.produce(topic, 0, (0..5).map(|number| format!("item {number}"))).await;
        broker.commit(topic, 2, foreign);
        let mut source = broker.start(&[topic]);
        assert_eq!(offsets(&source.take(3).await), [2, 3, 4], "text {index}");
        source.close().await;
    }
}

/// A long run of finished records is jumped over, not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_skips_long_runs_of_finished_records() {
    let broker = Broker::real("skip");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    for thousand in 0..20 {
        broker
            .produce(
                topic,
                0,
                (0..1000).map(|number| format!("{} {number}", "x".repeat(500) + &thousand.to_string())),
            )
            .await;
    }
    let mut source = broker.start(&[topic]);
    for _ in 0..20_000 {
        let delivery = source.take(1).await.remove(0);
        if ![0, 12_345].contains(&delivery.outline.id.tag) {
            source.ack(delivery.outline.id);
        }
        source.events.clear();
    }
    source.close().await;
    broker.produce(topic, 0, ["new".to_owned()]).await;

    let mut again = broker.start(&[topic]);
    assert_eq!(offsets(&again.take(3).await), [0, 12_345, 20_000]);
    again.close().await;
}
