//! The commands that show and change a running bridge.

mod bulk;
mod counts;
mod load;
mod refusals;

use std::net::{SocketAddr, TcpListener};

use serde_json::Value;
use tokio::process::Command;

use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::process::Longhaul;
use crate::support::scripted::{BAD, Scripted};
use crate::support::{eventually, within};

/// The end of a command: exit code, standard output and error.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the program as a person would, without a terminal.
async fn longhaul(url: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(arguments).env_remove("LONGHAUL_TOKEN").env("LONGHAUL_URL", url).kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    let output = within(&format!("the end of {arguments:?}"), command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The JSON of a command that succeeds.
async fn json(url: &str, arguments: &[&str]) -> Value {
    let ended = longhaul(url, &[arguments, &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn config(source: &str, worker: &Scripted, admin: SocketAddr) -> String {
    format!(
        "pipelines:\n  - name: files\n    source: {source}\n    sink: {{ url: \"{}\" }}\n    max_in_flight: 20\n    \
         limits: {{ held_max: 10 }}\nadmin: {{ listen: \"{admin}\" }}\n",
        worker.url
    )
}

/// The ids of the items in this state.
async fn ids(url: &str, state: &str) -> Vec<String> {
    let list = json(url, &["items", "files", "--state", state]).await;
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// The number of items in each state is this.
async fn counts(url: &str, expected: &[(&str, u64)]) {
    eventually(&format!("{expected:?}"), async || {
        let ended = longhaul(url, &["ps", "--json"]).await;
        let list: Value = serde_json::from_str(&ended.out).unwrap_or_default();
        let counts = &list["pipelines"][0]["counts"];
        expected.iter().all(|(state, count)| counts[state].as_u64() == Some(*count))
    })
    .await;
}

async fn every_question_has_a_command<B: Backlog>() {
    let (backlog, worker, admin) = (B::create().await, Scripted::start().await, free_address());
    let bodies = ["slow", "slow", "bad", "bad", "bad", "good", "good", "good", "good"];
    backlog.fill(bodies.iter().map(|body| body.as_bytes().to_vec())).await;
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, admin));
    let url = format!("http://{admin}");
    counts(&url, &[("running", 2), ("held", 3), ("done", 4)]).await;

    looks(&url).await;
    acts(&url, &worker).await;

    // The log of the remaining running item is followed to the end of the item.
    let running = ids(&url, "running").await;
    let following = tokio::spawn({
        let (url, id) = (url.clone(), running[0].clone());
        async move { longhaul(&url, &["items", "tail", &id]).await }
    });
    worker.release_all();
    let ended = within("the end of the log", following).await.unwrap();
    assert!(ended.code == Some(0) && ended.err.contains("is done"), "{ended:?}");

    let ended = longhaul(&url, &["drain", "files"]).await;
    assert!(ended.code == Some(0) && ended.out.starts_with("pipeline files: drain"), "{ended:?}");
    eventually("the drain to be over", async || {
        json(&url, &["ps", "files"]).await["state"].as_str() == Some("drained")
    })
    .await;
    bridge.stop().await;
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    backlog.remove().await;
}

/// Which items run, wait and are held, since when, and why.
async fn looks(url: &str) {
    let ended = longhaul(url, &["ps"]).await;
    for part in ["files: 4 done", "in flight 2 of 20", "held 3"] {
        assert!(ended.out.contains(part), "{part}: {ended:?}");
    }
    let ended = longhaul(url, &["ps", "files"]).await;
    assert!(ended.out.contains("ID ") && ended.out.matches(" running ").count() >= 2, "{ended:?}");
    let held = ids(url, "held").await;
    let ended = longhaul(url, &["items", "--state", "held", "--reason", "rejected"]).await;
    assert!(held.iter().all(|id| ended.out.contains(id)) && ended.out.contains(BAD), "{ended:?}");
    let ended = longhaul(url, &["items", "show", &held[0]]).await;
    for part in ["held for", "rejected", "status 400", BAD] {
        assert!(ended.out.contains(part), "{part}: {ended:?}");
    }
    let list = json(url, &["items", "files", "--limit", "2"]).await;
    assert_eq!((list["items"].as_array().unwrap().len(), list["total"].as_u64()), (2, Some(9)));
    let ended = longhaul(url, &["health"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "ready\n"));
}

async fn acts(url: &str, worker: &Scripted) {
    // Without a terminal nobody can be asked, so nothing changes.
    let held = ["--pipeline", "files", "--state", "held"];
    let ended = longhaul(url, &[&["items", "drop"], &held[..]].concat()).await;
    assert!(ended.code == Some(64) && ended.err.contains("3 of 3 items"), "{ended:?}");
    let ended = longhaul(url, &[&["items", "drop", "--dry-run"], &held[..]].concat()).await;
    assert_eq!(ended.out, "3 of 3 items of files would be dropped\n");
    counts(url, &[("held", 3), ("dropped", 0)]).await;

    // One by its id, the others by the filter.
    let first = ids(url, "held").await.remove(0);
    let ended = longhaul(url, &["items", "drop", &first, "no-such-id"]).await;
    assert_eq!(ended.out, format!("{first}: dropped\n"), "{ended:?}");
    assert!(ended.code == Some(69) && ended.err.contains("no item here has the id no-such-id"), "{ended:?}");
    let ended = longhaul(url, &[&["items", "drop", "--yes"], &held[..]].concat()).await;
    assert_eq!(ended.out, "2 of 2 items of files dropped\n", "{ended:?}");
    counts(url, &[("held", 0), ("dropped", 3)]).await;

    // The worker sees the end of a cancelled request.
    assert_eq!(worker.open(), 2);
    let running = ids(url, "running").await;
    let ended = longhaul(url, &["items", "cancel", "--then", "drop", &running[0]]).await;
    assert_eq!(ended.out, format!("{}: cancelled\n", running[0]), "{ended:?}");
    eventually("the end of the request", async || worker.open() == 1).await;
    counts(url, &[("running", 1), ("dropped", 4)]).await;

    for (arguments, text) in [
        (&["resume", "files"][..], "nothing changed"),
        (&["pause", "files"], "paused: 1 running items go on"),
        (&["pause", "files"], "nothing changed"),
        (&["resume", "files"], "the pause is over"),
        (&["limit", "files", "3"], "the limit was 20 and is 3"),
        (&["limit", "files", "300"], "nothing changed"),
    ] {
        let ended = longhaul(url, arguments).await;
        assert!(ended.code == Some(0) && ended.out.contains(text), "{arguments:?}: {ended:?}");
    }
    let ended = longhaul(url, &["pause", "flies"]).await;
    assert!(ended.code == Some(69) && ended.err.contains("the bridge has no pipeline flies"), "{ended:?}");
    assert!(ended.err.contains("help: the pipelines are files"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_every_question_has_a_command() {
    every_question_has_a_command::<Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_every_question_has_a_command() {
    every_question_has_a_command::<Kafka>().await;
}

/// The commands for a token, and the reasons of a bridge that is not ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_a_problem_is_explained() {
    let (worker, admin) = (Scripted::start().await, free_address());
    let config = config("{ rabbitmq: { url: \"amqp://127.0.0.1:1\", queue: q } }", &worker, admin);
    let listen = format!("listen: \"{admin}\"");
    let bridge = Longhaul::run(&config.replace(&listen, &format!("{listen}, token: \"secret-of-the-test\"")));
    let url = format!("http://{admin}");
    eventually("a reason", async || {
        let ended = longhaul(&url, &["health"]).await;
        ended.code == Some(1) && ended.out.contains("files: ") && ended.out.contains("help: ")
    })
    .await;
    eventually("the sentence", async || longhaul(&url, &["ps"]).await.out.contains("files: stuck for")).await;
    let ended = longhaul(&url, &["pause", "files"]).await;
    assert!(ended.code == Some(69) && ended.err.contains("wants a token"), "{ended:?}");
    let ended = longhaul(&url, &["pause", "files", "--token", "wrong"]).await;
    assert!(ended.code == Some(69) && ended.err.contains("refuses this token"), "{ended:?}");
    let ended = longhaul(&url, &["pause", "files", "--token", "secret-of-the-test"]).await;
    assert!(ended.code == Some(0) && ended.out.contains("paused"), "{ended:?}");
    bridge.stop().await;
}
