//! `longhaul intake`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use longhaul::config::QueueKind;
use tokio::process::Child;

use super::{Everything, command, queue_url};
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::rabbitmq::{Queue, address, brokers, through};
use crate::support::relay::Relay;
use crate::support::{eventually, within};

struct Intake {
    url: String,
    _child: Child,
}

impl Intake {
    async fn start(folder: &Path, to: &str, rest: &[&str]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let child =
            command(folder, &[&["intake", "--to", to, "--listen", &address], rest].concat()).spawn().unwrap();
        let url = format!("http://{address}");
        let intake = Intake { url, _child: child };
        eventually("the intake to be ready", async || {
            reqwest::get(format!("{}/readyz", intake.url)).await.is_ok_and(|it| it.status() == 200)
        })
        .await;
        intake
    }

    async fn post(&self, id: &str, body: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request =
            reqwest::Client::new().post(&self.url).header("longhaul-id", id).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        within("an answer", request.send()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_written_once_for_each_id() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Rabbitmq::create().await;
    let intake =
        Intake::start(folder.path(), &queue_url(&queue.0.url, queue.name()), &["--body-bytes", "100"]).await;
    for known in [false, true] {
        let answer = intake.post("a/b", "body", &[]).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
            (202, "/api/v1/items/a%2Fb")
        );
        let json: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({ "id": "a/b", "known": known }));
    }
    assert_eq!(intake.post("a/b", "another body", &[]).await.status(), 409);
    assert_eq!(intake.post("large", &"x".repeat(101), &[]).await.status(), 413);
    assert_eq!(intake.post("x", "x", &[("ce-specversion", "1.0")]).await.status(), 400);
    assert_eq!(reqwest::get(&intake.url).await.unwrap().status(), 405);
    let event = [("ce-specversion", "1.0"), ("ce-id", "e"), ("ce-source", "/s"), ("ce-type", "t")];
    assert_eq!(intake.post("ignored", "event", &event).await.status(), 202);
    let messages = queue.messages(2).await;
    assert_eq!(messages.iter().map(|it| it.body.clone()).collect::<Vec<_>>(), ["body", "event"]);
    assert!(messages[1].header("cloudEvents:type").is_some());
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_gets_items_too() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Kafka::create().await;
    let to = format!("kafka://{}/{}", topic.0.bootstrap, topic.0.name);
    let intake = Intake::start(folder.path(), &to, &[]).await;
    assert_eq!(intake.post("a", "body", &[]).await.status(), 202);
    let messages = topic.everything().await;
    assert_eq!((messages.len(), messages[0].body.as_ref()), (1, &b"body"[..]));
    topic.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_is_answered_with_429() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Rabbitmq::create().await;
    let to = queue_url(&queue.0.url, queue.name());
    let intake = Intake::start(folder.path(), &to, &["--backlog", "3"]).await;
    for number in 0..3 {
        assert_eq!(intake.post(&number.to_string(), "x", &[]).await.status(), 202);
    }
    let answer = intake.post("more", "x", &[]).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "5"));
    assert!(queue.0.get().await.is_some());
    eventually("room again", async || intake.post("more", "x", &[]).await.status() == 202).await;
    queue.remove().await;
}

/// Each id that got a 202 is in the queue exactly once, although the connection is cut all the
/// time.
#[tokio::test(flavor = "multi_thread")]
async fn every_202_is_in_the_queue_exactly_once() {
    const ITEMS: usize = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let broker = brokers().swap_remove(0);
    let queue = Queue::create(&broker, QueueKind::Quorum).await;
    let relay = Relay::start(address(&broker)).await;
    let to = queue_url(&through(&broker, relay.port()), &queue.name);
    let intake = Intake::start(folder.path(), &to, &[]).await;
    let client = reqwest::Client::new();
    let post = async |number: usize| {
        for _ in 0..200 {
            let request =
                client.post(&intake.url).header("longhaul-id", format!("{number}")).body(format!("{number}"));
            match request.send().await.unwrap().status().as_u16() {
                202 => return (number, true),
                // The item is in doubt.
                502 | 409 => return (number, false),
                503 => tokio::time::sleep(Duration::from_millis(100)).await,
                other => panic!("{other}"),
            }
        }
        panic!("{number} is never accepted");
    };
    let cutting = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            relay.cut_all();
        }
    };
    let posting = futures_util::stream::iter((0..ITEMS).map(post)).buffer_unordered(32).collect::<Vec<_>>();
    let ended = tokio::select! {
        ended = posting => ended,
        () = cutting => unreachable!(),
    };
    let accepted: BTreeSet<String> =
        ended.iter().filter(|(_, is_accepted)| *is_accepted).map(|(number, _)| number.to_string()).collect();
    assert!(accepted.len() > ITEMS / 2, "most are accepted: {}", accepted.len());
    let queue = Rabbitmq::of(queue);
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for message in queue.everything().await {
        *times.entry(String::from_utf8_lossy(&message.body).into_owned()).or_default() += 1;
    }
    let wrong: Vec<_> = accepted.iter().filter(|id| times.get(*id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not there exactly once: {wrong:?}");
    assert!(times.values().all(|times| *times == 1), "an item in doubt is there at most once");
    queue.remove().await;
}
