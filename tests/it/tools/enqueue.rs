//! `longhaul enqueue`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use longhaul::config::QueueKind;
use longhaul::event::{Message, Origin, Value};

use super::{Everything, Ran, command, queue_url, run, start};
use crate::run::backlog::{Backlog, Kafka, Rabbitmq};
use crate::support::rabbitmq::{Queue, brokers};
use crate::support::{eventually, is_full_size, within};

/// The place of a backlog for `--to`.
trait Target: Everything {
    fn url(&self) -> String;
    /// The id of a message, where this kind of broker has it.
    fn id(message: &Message) -> String;
}

impl Target for Rabbitmq {
    fn url(&self) -> String {
        queue_url(&self.0.url, &self.0.name)
    }

    fn id(message: &Message) -> String {
        let Origin::Rabbitmq(origin) = &message.origin else { panic!("not from RabbitMQ") };
        origin.properties.message_id.clone().expect("an id")
    }
}

impl Target for Kafka {
    fn url(&self) -> String {
        format!("kafka://{}/{}", self.0.bootstrap, self.0.name)
    }

    fn id(message: &Message) -> String {
        message.header("longhaul-id").and_then(Value::as_text).expect("an id").to_owned()
    }
}

fn pairs<T: Target>(messages: &[Arc<Message>]) -> BTreeMap<String, String> {
    messages.iter().map(|it| (T::id(it), String::from_utf8_lossy(&it.body).into_owned())).collect()
}

async fn enqueue(folder: &Path, to: &str, rest: &[&str]) -> Ran {
    run(folder, &[&["enqueue", "--to", to], rest].concat()).await
}

async fn every_input_arrives_with_its_id<T: Target>() {
    let target = T::create().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("lines"), "{\"n\": {\"id\": \"l1\"}}\n\n{\"n\": {\"id\": 2}}\n").unwrap();
    fs::write(path.join("rows.csv"), "id,text\nr1,\"a,b\"\nr2,é\n").unwrap();
    fs::create_dir(path.join("in")).unwrap();
    fs::write(path.join("in/a.bin"), [0xff, 0]).unwrap();
    let url = target.url();
    for (rest, count) in [
        (&["--json-lines", "lines", "--id-from", "/n/id"][..], 2),
        (&["--csv", "rows.csv", "--id-from", "id", "--cloudevents", "--type", "t", "--source", "/s"], 2),
        (&["--files", "in/*"], 1),
        (&["--count", "2", "--template", "{{\"n\": {n}}}"], 2),
    ] {
        let ran = enqueue(path, &url, rest).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        assert!(ran.out.starts_with(&format!("{count} items confirmed in ")), "{ran:?}");
    }
    let messages = target.messages(7).await;
    let events: Vec<_> = messages.iter().filter(|it| header(it, "specversion").is_some()).collect();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|it| header(it, "type") == Some("t") && header(it, "source") == Some("/s")));
    let ids: Vec<_> = events.iter().filter_map(|it| header(it, "id")).collect();
    assert!(ids.contains(&"r1") && ids.contains(&"r2"), "{ids:?}");
    let plain: Vec<_> = messages.iter().filter(|it| header(it, "specversion").is_none()).cloned().collect();
    let expected = [
        ("2", "{\"n\": {\"id\": 2}}"),
        ("in/a.bin", "\u{fffd}\0"),
        ("item-1", "{\"n\": 1}"),
        ("item-2", "{\"n\": 2}"),
        ("l1", "{\"n\": {\"id\": \"l1\"}}"),
    ];
    let expected = expected.map(|(id, body)| (id.to_owned(), body.to_owned())).into();
    assert_eq!(pairs::<T>(&plain), expected);
    target.remove().await;
}

/// A CloudEvent's attribute, by either broker's name.
fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let found =
        message.header(&format!("cloudEvents:{name}")).or_else(|| message.header(&format!("ce_{name}")));
    found.and_then(Value::as_text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_input_arrives_in_a_queue() {
    every_input_arrives_with_its_id::<Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_input_arrives_in_a_topic() {
    every_input_arrives_with_its_id::<Kafka>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_and_a_configuration() {
    let target = Rabbitmq::create().await;
    let folder = tempfile::tempdir().unwrap();
    let source = target.source();
    let config = format!(
        "pipelines: [{{ name: a, source: {source}, sink: {{ url: 'http://h' }}, max_in_flight: 1, on_failed: hold }}]\n"
    );
    fs::write(folder.path().join("longhaul.yaml"), config).unwrap();
    fs::write(folder.path().join("input"), "one\r\ntwo").unwrap();
    // The file is found without a flag.
    let mut command = command(folder.path(), &["enqueue", "-", "--json"]);
    command.stdin(fs::File::open(folder.path().join("input")).unwrap());
    let ran: Ran = within("the end", command.output()).await.unwrap().into();
    assert_eq!((ran.code, ran.json()["confirmed"].as_u64()), (0, Some(2)), "{ran:?}");
    let bodies: Vec<_> = target.messages(2).await.iter().map(|it| it.body.clone()).collect();
    assert_eq!(bodies, ["one", "two"]);
    target.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_queue_is_refused_or_created() {
    let folder = tempfile::tempdir().unwrap();
    let items = ["--count", "1", "--template", "x"];
    for broker in brokers() {
        let queue = Queue::unborn(&broker).await;
        let url = queue_url(&broker, &queue.name);
        let ran = enqueue(folder.path(), &url, &items).await;
        assert_eq!(ran.code, 69, "{ran:?}");
        assert!(ran.err.contains("does not exist") && ran.err.contains("--create"), "{ran:?}");
        let ran = enqueue(folder.path(), &url, &[&items[..], &["--create", "--dry-run"]].concat()).await;
        assert_eq!((ran.code, ran.out.contains("would be created")), (0, true), "{ran:?}");
        assert_eq!(enqueue(folder.path(), &url, &items).await.code, 69, "a dry run creates nothing");
        let ran = enqueue(folder.path(), &url, &[&items[..], &["--create"]].concat()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        // The queue is a quorum queue: an equal declaration is accepted.
        queue.declare(QueueKind::Quorum).await;
        assert_eq!(queue.ready().await, 1);
        queue.delete().await;
    }
    let kafka = Kafka::create().await;
    let name = format!("{}-created", kafka.0.name);
    let url = format!("kafka://{}/{name}", kafka.0.bootstrap);
    assert_eq!(enqueue(folder.path(), &url, &items).await.code, 69);
    let ran = enqueue(folder.path(), &url, &[&items[..], &["--create", "--partitions", "3"]].concat()).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    kafka.0.delete_topic(&name).await;
    kafka.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_input_writes_nothing_unless_it_is_left_out() {
    let target = Rabbitmq::create().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.csv"), "id,text\n1,a\n,b\n3\n4,d\n").unwrap();
    let items = ["--csv", "rows.csv", "--id-from", "id"];
    let ran = enqueue(folder.path(), &target.url(), &items).await;
    assert_eq!((ran.code, target.left().await), (64, 0), "{ran:?}");
    for expected in [
        "line 3 has no id: column id is empty",
        "line 4 is not a row: it has 1 fields",
        "nothing was written",
    ] {
        assert!(ran.err.contains(expected), "{expected}: {ran:?}");
    }
    let ran = enqueue(folder.path(), &target.url(), &[&items[..], &["--skip-invalid"]].concat()).await;
    // The exit code says that not all of the input was written.
    assert_eq!((ran.code, target.left().await), (69, 2), "{ran:?}");
    target.remove().await;
}

/// Lines of a state file that begin with this letter.
fn lines(path: &Path, kind: &str) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().filter(|line| line.starts_with(kind)).count())
}

async fn a_kill_loses_nothing_and_doubles_only_the_listed<T: Target>() {
    let items = if is_full_size() { 100_000 } else { 10_000 };
    let target = T::create().await;
    let folder = tempfile::tempdir().unwrap();
    let (url, count) = (target.url(), items.to_string());
    let arguments =
        ["enqueue", "--to", &url, "--count", &count, "--template", "body {n}", "--state", "state"];
    let state = folder.path().join("state");
    for confirmed in [1_000, 4_000] {
        let mut child = start(folder.path(), &arguments);
        eventually("some confirms", async || lines(&state, "c ") >= confirmed).await;
        child.kill().await.unwrap();
    }
    let ran = run(folder.path(), &[&arguments[..], &["--json"]].concat()).await;
    let summary = ran.json();
    assert_eq!((ran.code, summary["confirmed"].as_u64()), (0, Some(items as u64)), "{}", ran.err);
    assert!(summary["earlier"].as_u64() >= Some(4_000), "continued: {}", ran.err);
    assert!(!state.exists(), "the state is removed at the end");
    let doubtful: Vec<&str> =
        summary["doubtful"].as_array().unwrap().iter().filter_map(|it| it["id"].as_str()).collect();
    assert!(doubtful.len() <= 2 * 256, "no more than two windows: {}", doubtful.len());
    let listed = fs::read_to_string(folder.path().join("state.doubtful")).unwrap_or_default();
    assert_eq!(listed.lines().count(), doubtful.len());

    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for message in target.everything().await {
        let id = T::id(&message);
        assert_eq!(message.body, format!("body {}", id.trim_start_matches("item-")));
        *times.entry(id).or_default() += 1;
    }
    assert_eq!(times.len(), items, "every item is there");
    for (id, _) in times.iter().filter(|(_, times)| **times > 1) {
        assert!(doubtful.contains(&id.as_str()), "{id} is there twice and not listed");
    }
    target.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_writing_to_a_queue() {
    a_kill_loses_nothing_and_doubles_only_the_listed::<Rabbitmq>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_writing_to_a_topic() {
    a_kill_loses_nothing_and_doubles_only_the_listed::<Kafka>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_leaves_no_doubt_and_a_changed_input_is_refused() {
    let target = Rabbitmq::create().await;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("lines");
    let text: String = (0..500).map(|number| format!("{number}\n")).collect();
    fs::write(&input, &text).unwrap();
    let url = target.url();
    let arguments =
        ["enqueue", "--to", &url, "--json-lines", "lines", "--id-from", "number", "--state", "state"];
    let mut child = start(folder.path(), &[&arguments[..], &["--rate", "50/s"]].concat());
    let state = folder.path().join("state");
    eventually("some confirms", async || lines(&state, "c ") >= 10).await;
    let pid = child.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(within("the end", child.wait()).await.unwrap().code(), Some(75));
    assert_eq!(lines(&state, "s "), lines(&state, "c "), "all that was sent is confirmed");

    fs::write(&input, format!("{text}500\n")).unwrap();
    let ran = run(folder.path(), &arguments).await;
    assert_eq!((ran.code, ran.err.contains("--restart")), (64, true), "{ran:?}");
    fs::write(&input, &text).unwrap();
    let ran = run(folder.path(), &[&arguments[..], &["--json"]].concat()).await;
    let summary = ran.json();
    assert_eq!((ran.code, summary["confirmed"].as_u64()), (0, Some(500)), "{ran:?}");
    assert_eq!(summary["doubtful"], serde_json::json!([]));
    assert_eq!(target.left().await, 500, "exactly");
    target.remove().await;
}
