//! `longhaul intake`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use longhaul::config::QueueKind;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use super::{Everything, command, queue_url};
use crate::kafka::support::Relayed;
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{Queue, address, brokers, through};
use crate::support::relay::{Mode, Relay};
use crate::support::scripted::Scripted;
use crate::support::{eventually, is_full_size, within};

struct Intake {
    url: String,
    _child: Child,
}

impl Intake {
    async fn start(folder: &Path, to: &str, rest: &[&str]) -> Self {
        Intake::with(folder, &[&["--to", to], rest].concat()).await
    }

    async fn with(folder: &Path, rest: &[&str]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let child = command(folder, &[&["intake", "--listen", &address], rest].concat()).spawn().unwrap();
        let url = format!("http://{address}");
        let intake = Intake { url, _child: child };
        eventually("the intake to be ready", async || {
            crate::support::get(format!("{}/readyz", intake.url)).await.is_ok_and(|it| it.status() == 200)
        })
        .await;
        intake
    }

    async fn post(&self, id: &str, body: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request =
            crate::support::http().post(&self.url).header("longhaul-id", id).body(body.to_owned());
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
    assert_eq!(crate::support::get(&intake.url).await.unwrap().status(), 405);
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

/// Each id that got a 202 is there exactly once, although the connection is cut all the time and
/// every request is repeated.
async fn exactly_once(to: &str, relay: &Relay, backlog: &impl Everything) {
    let items = if is_full_size() { 10_000 } else { 1_000 };
    let folder = tempfile::tempdir().unwrap();
    let intake = Intake::start(folder.path(), to, &[]).await;
    let client = crate::support::http();
    let send = async |number: usize| {
        let request = client.post(&intake.url).header("longhaul-id", format!("{number}"));
        within("an answer", request.body(format!("{number}")).send()).await.unwrap().status().as_u16()
    };
    let post = async |number: usize| {
        for _ in 0..200 {
            match send(number).await {
                202 => return (number, send(number).await == 202),
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
    let posting = futures_util::stream::iter((0..items).map(post)).buffer_unordered(32).collect::<Vec<_>>();
    let ended = tokio::select! {
        ended = posting => ended,
        () = cutting => unreachable!(),
    };
    let accepted: BTreeSet<String> =
        ended.iter().filter(|(_, is_accepted)| *is_accepted).map(|(number, _)| number.to_string()).collect();
    assert!(accepted.len() > items / 2, "most are accepted: {}", accepted.len());
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for message in backlog.everything().await {
        *times.entry(String::from_utf8_lossy(&message.body).into_owned()).or_default() += 1;
    }
    let wrong: Vec<_> = accepted.iter().filter(|id| times.get(*id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not there exactly once: {wrong:?}");
    assert!(times.values().all(|times| *times == 1), "an item in doubt is there at most once");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_202_is_in_the_queue_exactly_once() {
    let broker = brokers().swap_remove(0);
    let queue = Queue::create(&broker, QueueKind::Quorum).await;
    let relay = Relay::start(address(&broker)).await;
    let to = queue_url(&through(&broker, relay.port()), &queue.name);
    let queue = Rabbitmq::of(queue);
    exactly_once(&to, &relay, &queue).await;
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_202_is_in_the_topic_exactly_once() {
    let Some(relayed) = Relayed::start("intake").await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    direct.create_topic(&direct.name, 1).await;
    let to = format!("kafka://{}/{}", broker.bootstrap, broker.name);
    exactly_once(&to, relay, &Kafka(direct.clone())).await;
}

/// A cluster that answers nothing holds up the count of the backlog, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_hangs_delays_no_connection() {
    let Some(relayed) = Relayed::start("hang").await else { return };
    let Relayed { broker, direct, relay, .. } = &relayed;
    direct.create_topic(&direct.name, 1).await;
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "pipelines: [{{ name: a, source: {{ kafka: {{ bootstrap_servers: ['{}'], topics: [{name}], group: {name} }} }}, \
         sink: {{ url: 'http://127.0.0.1:9/' }}, max_in_flight: 1, on_failed: hold }}]",
        broker.bootstrap,
        name = broker.name
    );
    std::fs::write(folder.path().join("c.yaml"), config).unwrap();
    let intake = Intake::with(folder.path(), &["-c", "c.yaml", "--backlog", "5"]).await;
    relay.set(Mode::Stall);
    // A count takes 15 s to fail. Twenty requests within three seconds meet it.
    for _ in 0..20 {
        let asking = crate::support::get(format!("{}/livez", intake.url));
        let answer = tokio::time::timeout(Duration::from_secs(10), asking).await.expect("an answer");
        assert_eq!(answer.unwrap().status(), 200);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Connections that send nothing, and heads that never end, keep nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_for_items() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Rabbitmq::create().await;
    let to = queue_url(&queue.0.url, queue.name());
    let intake = Intake::start(folder.path(), &to, &["--window", "4"]).await;
    let address = intake.url.strip_prefix("http://").unwrap();
    let mut idle = Vec::new();
    for _ in 0..60 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nhost: ").await.unwrap();
        idle.push(stream);
    }
    assert_eq!(intake.post("a", "x", &[]).await.status(), 202);
    let head = "x".repeat(64 * 1024);
    assert_eq!(intake.post("b", "x", &[("long", &head)]).await.status(), 431);
    queue.remove().await;
}

/// The bridge asks for the token of the file, which may change, and counts its answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_bridge_serves_the_intake() {
    let (queue, worker) = (Rabbitmq::create().await, Scripted::start().await);
    let [address, admin] =
        [(), ()].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "first-token-of-this-test").unwrap();
    let config = format!(
        "pipelines: [{{ name: a, source: {}, sink: {{ url: '{}' }}, max_in_flight: 2, on_failed: hold }}]\n\
         admin: {{ listen: '{admin}' }}\n\
         intake: {{ listen: '{address}', backlog: 1000, token: '${{file:{}}}' }}",
        queue.source(),
        worker.url,
        token.display()
    );
    let bridge = Longhaul::run(&config);
    let client = crate::support::http();
    let post = async |token: &str| {
        let request = client.post(format!("http://{address}")).header("longhaul-id", "a").body("slow");
        request.bearer_auth(token).send().await.map_or(0, |answer| answer.status().as_u16())
    };
    eventually("an accepted item", async || post("first-token-of-this-test").await == 202).await;
    assert_eq!(post("another-token").await, 401);
    std::fs::write(&token, "second-token-of-this-test").unwrap();
    assert_eq!(post("first-token-of-this-test").await, 401);
    assert_eq!(post("second-token-of-this-test").await, 202, "it is known");
    let metrics = crate::support::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    for line in
        ["longhaul_intake_answers_total{code=\"202\"} 2", "longhaul_intake_answers_total{code=\"401\"} 2"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    eventually("the item at its worker", async || worker.open() == 1).await;
    worker.release_all();
    bridge.stop().await;
    assert_eq!(queue.left().await, 0, "the item was done once");
    queue.remove().await;
}

/// A source that gives up ends the bridge. The intake is stopped before, and is not cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_gives_up_stops_the_intake_first() {
    // RabbitMQ 3 has no queue without a delivery limit, so this source gives up.
    let broker = brokers().swap_remove(0);
    let config = format!(
        "pipelines: [{{ name: a, source: {{ rabbitmq: {{ url: '{broker}', queue: no-such-queue, \
         declare: {{ arguments: {{ x-delivery-limit: -1 }} }} }} }}, sink: {{ url: 'http://127.0.0.1:9/' }}, \
         max_in_flight: 2, on_failed: hold }}]\nintake: {{ listen: '127.0.0.1:0' }}"
    );
    let mut bridge = Longhaul::run(&config);
    assert_eq!(bridge.wait().await.code(), Some(69));
    let log = bridge.log();
    assert!(log.contains("Pipeline stopped for good") && log.contains("Intake has ended"), "{log}");
}
