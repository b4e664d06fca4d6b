//! Stops the worker with SIGTERM, and loses its clients.

use std::time::Duration;

use super::shim::{Note, Shim, runs};
use crate::support::{eventually, within};

#[tokio::test]
async fn sigterm_lets_the_item_finish_and_starts_nothing_new() {
    let (started, go) = (Note::new(), Note::new());
    let script =
        format!("echo x > {}; while [ ! -s {} ]; do sleep 0.05; done; exit 65", started.path(), go.path());
    let mut shim = Shim::sh(&[], &script).await;
    let item = shim.begin("");
    started.filled().await;
    shim.terminate();
    shim.logged("Stopping busy=true").await;
    let refused = shim.item("").await;
    assert_eq!((refused.status, refused.body.as_str()), (503, "pending request queue full"));
    assert_eq!(crate::support::get(shim.url() + "readyz").await.unwrap().status(), 503);
    assert_eq!(crate::support::get(shim.url() + "livez").await.unwrap().status(), 200);
    std::fs::write(go.path(), "go").unwrap();
    assert_eq!(item.await.unwrap().status, 422);
    assert_eq!(shim.wait().await.code(), Some(0));
    assert_eq!(shim.left_files(), [""; 0]);
}

#[tokio::test]
async fn an_interrupted_item_has_its_checkpoint() {
    let started = Note::new();
    // Exit code 0 after SIGTERM does not mean that the item is finished.
    let script = format!(
        "trap 'echo ::checkpoint row 18; exit 0' TERM; echo ::checkpoint row 17; echo $$ > {}; sleep 1000 & wait",
        started.path()
    );
    let mut shim = Shim::sh(&["--on-stop", "interrupt"], &script).await;
    let item = shim.begin("");
    started.filled().await;
    shim.terminate();
    let answer = item.await.unwrap();
    assert_eq!((answer.status, answer.outcome()), (503, "interrupted"));
    assert_eq!(answer.reason(), "the worker is stopping");
    assert_eq!(answer.header("longhaul-checkpoint"), "row%2018");
    assert_eq!(shim.wait().await.code(), Some(75));
}

#[tokio::test]
async fn the_grace_period_and_a_second_signal_interrupt_too() {
    for flags in [&["--grace", "200ms", "--stop-timeout", "100ms"][..], &["--stop-timeout", "100ms"]] {
        let started = Note::new();
        // The command ignores SIGTERM.
        let script = format!("trap '' TERM; echo x > {}; while :; do sleep 1000; done", started.path());
        let mut shim = Shim::sh(flags, &script).await;
        let item = shim.begin("");
        started.filled().await;
        shim.terminate();
        if !flags.contains(&"--grace") {
            shim.logged("Stopping busy=true").await;
            shim.terminate();
        }
        let answer = item.await.unwrap();
        assert_eq!((answer.status, answer.outcome()), (503, "interrupted"));
        assert_eq!(shim.wait().await.code(), Some(75));
    }
}

#[tokio::test]
async fn sigterm_at_any_time_leaves_every_item_answered() {
    let seed = std::process::id().into();
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..20 {
        let flags: &[&str] = if round % 2 == 0 { &["--on-stop", "interrupt"] } else { &[] };
        let mut shim = Shim::sh(flags, "read seconds; sleep $seconds & wait; exit 65").await;
        let request = shim.post("0.05");
        let item = tokio::spawn(async move { request.send().await });
        tokio::time::sleep(Duration::from_millis(random.u64(0..80))).await;
        shim.terminate();
        let code = shim.wait().await.code();
        match within("an answer", item).await.unwrap() {
            Ok(answer) => {
                let outcome =
                    answer.headers().get("longhaul-outcome").map(|value| value.to_str().unwrap().to_owned());
                let status = answer.status().as_u16();
                let expected = match outcome.as_deref() {
                    Some("reject") => (422, Some(0)),
                    Some("interrupted") => (503, Some(75)),
                    None => (503, Some(0)),
                    other => panic!("{other:?}\n{}", shim.log()),
                };
                assert_eq!((status, code), expected, "round {round}\n{}", shim.log());
            }
            // The shim was gone, or went before it read the request, so the item was not started.
            Err(error) => {
                assert!(!shim.log().contains("Item started"), "round {round}: {error}\n{}", shim.log())
            }
        }
    }
}

#[tokio::test]
async fn a_lost_client_stops_the_command() {
    let (pid, marks) = (Note::new(), Note::new());
    let script = format!(
        "trap 'echo stopped >> {}; exit 0' TERM; echo $$ > {}; sleep 1000 & wait",
        marks.path(),
        pid.path()
    );
    let shim = Shim::sh(&[], &script).await;
    let item = shim.begin("");
    let number = pid.filled().await;
    item.abort();
    eventually("the command has ended", || {
        let has_ended = !runs(&number);
        async move { has_ended }
    })
    .await;
    assert_eq!(marks.text(), "stopped");
    shim.logged("outcome=interrupted seconds=").await;
    shim.logged("reason=\"the client has gone\"").await;
}

#[tokio::test]
async fn with_on_gone_finish_the_command_goes_on() {
    let (started, go) = (Note::new(), Note::new());
    let script = format!("echo x > {}; while [ ! -s {} ]; do sleep 0.05; done", started.path(), go.path());
    let shim = Shim::sh(&["--on-gone", "finish"], &script).await;
    let item = shim.begin("");
    started.filled().await;
    item.abort();
    assert!(item.await.is_err());
    assert_eq!(shim.item("").await.body, "pending request queue full");
    std::fs::write(go.path(), "go").unwrap();
    shim.logged("outcome=done").await;
}

#[tokio::test]
async fn no_answer_announces_the_end_of_its_connection() {
    // A server that closes idle connections announces that, or has a timeout that is too long for a
    // test; see `connection`.
    let shim = Shim::sh(&[], "exit 65").await;
    let answer = shim.item("").await;
    assert_eq!((answer.status, answer.header("connection"), answer.header("keep-alive")), (422, "", ""));
}
