//! Checks the answers that a client sees, and the state of the slots.

use futures_util::StreamExt;

use super::*;
use crate::serve::{Command, Error, Server};

fn one_at_a_time(timeouts: &str, annotations: &[(&str, &str)]) -> Settings {
    settings(&format!("      containerConcurrency: 1\n{timeouts}"), annotations, "", sleeper())
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_runs_while_a_request_waits() {
    let world = World::start(one_at_a_time("      timeoutSeconds: 30\n", &[("max-scale", "1")]));
    let begun = Instant::now();
    let sent: Vec<_> = (0..3).map(|_| world.send(20.0)).collect();
    let mut statuses = Vec::new();
    for answer in sent {
        let (status, text) = answer.await.unwrap();
        assert!(status == 200 || text == "activator request timeout", "{text}");
        statuses.push(status);
    }
    statuses.sort_unstable();
    // Two requests exceed the limit: one ran for some seconds, the other never started. The client
    // sees the same answer.
    assert_eq!(statuses, [200, 504, 504]);
    assert_eq!(begun.elapsed().as_secs(), 30);
    let counts = *world.engine.counts().borrow();
    assert_eq!((counts.queued, counts.in_flight), (0, 0), "a timeout frees slot and place");
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_to_start_in_time_and_to_go_on() {
    for (limit, seconds) in [("responseStartTimeoutSeconds: 7", 7), ("idleTimeoutSeconds: 9", 9)] {
        let world = World::start(one_at_a_time(&format!("      timeoutSeconds: 60\n      {limit}\n"), &[]));
        let begun = Instant::now();
        assert_eq!(world.send(50.0).await.unwrap(), (504, "activator request timeout".into()), "{limit}");
        assert_eq!(begun.elapsed().as_secs(), seconds, "{limit}");
    }
}

/// Answers with this many parts and a pause of this many seconds between them.
fn parts(count: usize, pause: u64) -> Program {
    Program::BuiltIn(Arc::new(move |_: Request| async move {
        let parts = futures_util::stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Ok::<_, std::io::Error>("a")
        });
        Response::new(Body::from_stream(parts))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_keeps_its_slot_and_ends_with_the_text_when_the_time_is_over() {
    let cases: [(&str, usize, u64, &str); 4] = [
        ("timeoutSeconds: 60", 3, 10, "aaa"),
        ("timeoutSeconds: 25", 3, 10, "aaactivator request timeout"),
        ("idleTimeoutSeconds: 5", 3, 10, "request timeout"),
        ("idleTimeoutSeconds: 15", 3, 10, "aaa"),
    ];
    for (limit, count, pause, expected) in cases {
        let spec = format!("      containerConcurrency: 1\n      {limit}\n");
        let world = World::start(settings(&spec, &[], "", parts(count, pause)));
        let held = request::hold(Arc::clone(&world.engine), Request::new(Body::empty())).await;
        assert_eq!(world.engine.counts().borrow().in_flight, 1, "{limit}");
        assert_eq!(read(held).await, (200, expected.into()), "{limit}");
        assert_eq!(world.engine.counts().borrow().in_flight, 0, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_its_slot_or_its_place() {
    let world = World::start(one_at_a_time("      timeoutSeconds: 3600\n", &[("max-scale", "1")]));
    let running = world.send(3000.0);
    until(&world, 20, "it runs", |now| now.in_flight == 1 && now.queued == 0).await;
    let waiting = world.send(3000.0);
    let behind = world.send(3000.0);
    until(&world, 1, "two wait", |now| now.queued == 2).await;
    waiting.abort();
    until(&world, 1, "one waits", |now| now.queued == 1).await;
    running.abort();
    until(&world, 1, "the other runs", |now| now.queued == 0 && now.in_flight == 1).await;
    behind.abort();
    until(&world, 1, "none is left", |now| now.in_flight == 0).await;
}

#[tokio::test(start_paused = true)]
async fn past_the_activator_each_replica_has_a_queue_of_its_own() {
    let annotations = [("target-burst-capacity", "0"), ("max-scale", "1"), ("min-scale", "1")];
    let world = World::start(one_at_a_time("      timeoutSeconds: 55\n", &annotations));
    until(&world, 60, "it is ready", |now| now.ready == 1).await;
    // One runs, ten wait in the replica, and the next is refused at once.
    let held: Vec<_> = (0..11).map(|_| world.send(10.0)).collect();
    until(&world, 1, "eleven are held", |now| now.in_flight == 11).await;
    assert_eq!(world.send(10.0).await.unwrap(), (503, "pending request queue full\n".into()));
    let mut statuses = Vec::new();
    for answer in held {
        statuses.push(answer.await.unwrap());
    }
    let late = (504, "request timeout".to_owned());
    assert_eq!(statuses.iter().filter(|answer| **answer == late).count(), 6, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|(status, _)| *status == 200).count(), 5, "{statuses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_takes_as_many_as_its_concurrency() {
    for (concurrency, at_once) in [(1, 1), (3, 3), (0, 20)] {
        let spec = format!("      containerConcurrency: {concurrency}\n");
        let world = World::start(settings(&spec, &[("max-scale", "1")], "", sleeper()));
        let held: Vec<_> = (0..20).map(|_| world.send(20.0)).collect();
        until(&world, 10, "it is ready", |now| now.ready == 1).await;
        let counts = *world.engine.counts().borrow();
        assert_eq!(counts.in_flight - counts.queued, at_once, "at {concurrency}");
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_replica_fails_its_request_and_comes_back() {
    let mut chaotic = one_at_a_time("      timeoutSeconds: 60\n", &[]);
    chaotic.chaos = "kill=1".parse().unwrap();
    let world = World::start(chaotic);
    assert_eq!(world.send(30.0).await.unwrap(), (502, "EOF\n".into()));
    assert_eq!(world.send(0.0).await.unwrap(), (200, "done".into()), "it is started again");
    let mut refusing = one_at_a_time("", &[]);
    refusing.chaos = "refuse=1".parse().unwrap();
    let refused = "dial tcp 127.0.0.1:8080: connect: connection refused\n";
    assert_eq!(World::start(refusing).send(0.0).await.unwrap(), (502, refused.into()));
}

#[tokio::test(start_paused = true)]
async fn a_busy_replica_that_is_scaled_down_finishes() {
    let world = World::start(one_at_a_time("      timeoutSeconds: 3600\n", &[("window", "6s")]));
    let short: Vec<_> = (0..9).map(|_| world.send(5.0)).collect();
    let long: Vec<_> = (0..9).map(|_| world.send(60.0)).collect();
    for answer in short.into_iter().chain(long) {
        assert_eq!(answer.await.unwrap().0, 200);
    }
    until(&world, 60, "all are gone", |now| now.ready + now.starting + now.terminating == 0).await;
}

#[tokio::test]
async fn a_guard_that_cannot_start_is_named() {
    let program = Program::Command(Command {
        words: vec!["true".into()],
        longhaul: "/no/such/longhaul".into(),
        output: Arc::new(|_| {}),
    });
    let error = Server::start(settings("", &[], "", program)).await.err().unwrap();
    assert!(matches!(error, Error::Guard(_)), "{error}");
}
