//! No process outlives `serve`, however it ends.

use std::path::Path;

use super::super::support::eventually;
use super::support::{Manifest, Serve};
use super::worker;

/// Starts two replicas that each run a request and have a child process.
async fn busy() -> (Serve, Vec<u32>) {
    let manifest = Manifest::one_at_a_time().annotation("min-scale", 2).env("FORKS", "1");
    let serve = Serve::start(&manifest, &["--stop-grace", "1s"], &worker::words()).await;
    serve.until("both are ready", |now| now["ready"] == 2).await;
    serve.post("/sleep/60000");
    serve.post("/sleep/60000");
    serve.until("both are busy", |now| (0..2).all(|index| now["replicas"][index]["item"].is_string())).await;
    let pids: Vec<u32> = serve.output().iter().flat_map(|line| pids(line)).collect();
    assert_eq!(pids.len(), 4, "{:?}", serve.output());
    assert!(pids.iter().all(|pid| runs(*pid)));
    (serve, pids)
}

/// Returns the numbers in a line such as `[hello-1] pids [12, 13]`.
fn pids(line: &str) -> Vec<u32> {
    let Some((_, list)) = line.split_once("] pids [") else { return Vec::new() };
    list.trim_end_matches(']').split(", ").map(|pid| pid.parse().unwrap()).collect()
}

/// Whether the process runs. A zombie waits for its parent, which is another process, and does not
/// count.
fn runs(pid: u32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    status.is_ok_and(|status| !status.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

async fn assert_gone(pids: &[u32]) {
    eventually("no worker is left", async || !pids.iter().any(|pid| runs(*pid))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigterm_nothing_is_left() {
    let (mut serve, pids) = busy().await;
    serve.signal("-TERM");
    assert!(serve.wait().await.success());
    assert_gone(&pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_nothing_is_left() {
    let (mut serve, pids) = busy().await;
    serve.signal("-KILL");
    serve.wait().await;
    assert_gone(&pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_second_signal_nothing_is_left() {
    let manifest = Manifest::one_at_a_time().env("FORKS", "1");
    let mut serve =
        Serve::start(&manifest, &["--stop-grace", "1m"], &["sh".into(), "-c".into(), TRAPPING.into()]).await;
    eventually("it traps", async || serve.output().iter().any(|line| line.contains("pids"))).await;
    let pids: Vec<u32> = serve.output().iter().flat_map(|line| pids(line)).collect();
    serve.signal("-TERM");
    eventually("it has been told", async || serve.output().iter().any(|line| line.ends_with("told"))).await;
    serve.signal("-INT");
    assert_eq!(serve.wait().await.code(), Some(130));
    assert_gone(&pids).await;
}

/// A worker that ignores SIGTERM.
const TRAPPING: &str =
    "trap 'echo told' TERM; sleep 1000 & echo \"pids [$$, $!]\"; while true; do wait; sleep 1; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_runs_at_sigterm_is_answered() {
    // A second replica, which a slow start may cause, would run the request instead.
    let manifest = Manifest::one_at_a_time().env("WAITSECOND", "5s").annotation("max-scale", 1);
    let serve = Serve::start(&manifest, &[], &[]).await;
    let answer = serve.post("/");
    serve.until("it runs", |now| now["replicas"][0]["item"] == "POST /").await;
    serve.stop().await;
    assert!(answer.await.unwrap().ends_with("Hello World! wait time 5s"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_probe_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("sleep 1000 & echo $! >> {}; wait", file.display());
    let probe =
        format!("{{ exec: {{ command: [sh, -c, '{script}'] }}, periodSeconds: 1, timeoutSeconds: 1 }}");
    let manifest = Manifest { probe: Some(probe), ..Manifest::one_at_a_time() };
    let mut serve = Serve::start(&manifest, &[], &worker::words()).await;
    let asked = || -> Vec<u32> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    eventually("it was asked again", async || asked().len() >= 2).await;
    assert_gone(&asked()[..1]).await;
    eventually("a probe runs", async || asked().last().is_some_and(|pid| runs(*pid))).await;
    serve.signal("-KILL");
    serve.wait().await;
    assert_gone(&asked()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_sigterm_ends_with_the_last_worker() {
    let serve =
        Serve::start(&Manifest::one_at_a_time(), &["--stop-grace", "1h"], &["/bin/false".into()]).await;
    let waits = serve.post("/");
    serve.until("it waits", |now| now["queued"] == 1).await;
    serve.stop().await;
    assert_eq!(waits.await.unwrap(), "", "closed without an answer");
}
