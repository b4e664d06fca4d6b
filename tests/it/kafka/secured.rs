//! A cluster with users and permissions: what is refused is named on `/readyz`, and work goes on
//! when it is allowed.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;

use super::acl::{Operation, Resource, allow, forbid};
use super::support::{Broker, until};
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::worker::Worker;

/// The listener for users of the broker under test; nothing where the broker is the caller's own.
fn secured() -> Option<String> {
    let address = std::env::var("LONGHAUL_TEST_KAFKA_SASL").ok();
    if address.is_none() {
        eprintln!("left out: LONGHAUL_TEST_KAFKA_SASL is not set; tests/brokers sets it");
    }
    address
}

/// The program, with one pipeline, as the user `tester`.
pub struct Secured {
    pub broker: Broker,
    worker: Worker,
    pub program: Longhaul,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

const LOGIN: &str = "security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: tester";

impl Secured {
    async fn start(test: &str, topics: &[&str], password: &str, more: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, password).unwrap();
        let options = format!("{LOGIN}, sasl.password: \"${{file:{}}}\"", file.display());
        Secured::with_options(test, topics, &options, more, folder).await
    }

    async fn with_options(
        test: &str,
        topics: &[&str],
        options: &str,
        more: &str,
        folder: tempfile::TempDir,
    ) -> Option<Self> {
        let address = secured()?;
        Some(Secured::at(&address, test, topics, options, more, folder, |_| StatusCode::OK).await)
    }

    /// Starts the program against this listener, with a worker that answers by `verdict`.
    pub async fn at(
        address: &str,
        test: &str,
        topics: &[&str],
        options: &str,
        more: &str,
        folder: tempfile::TempDir,
        verdict: fn(&[u8]) -> StatusCode,
    ) -> Self {
        let broker = Broker::real(test);
        let names: Vec<String> = topics.iter().map(|topic| format!("{}-{topic}", broker.name)).collect();
        for name in &names {
            broker.create_topic(name, 1).await;
        }
        let worker = Worker::with_verdict(Duration::ZERO, verdict).await;
        let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "pipelines:\n- name: p\n  source: {{ kafka: {{ bootstrap_servers: [\"{address}\"], topics: [{}], group: {}, session_timeout: 6s, options: {{ {options} }} }} }}\n  sink: {{ url: \"{}\" }}\n  max_in_flight: 4\n{}\nadmin: {{ listen: \"{admin}\" }}\n",
            names.iter().filter(|name| !name.ends_with("-dead")).cloned().collect::<Vec<_>>().join(", "),
            broker.name,
            worker.url,
            more.replace("NAME", &broker.name),
        );
        let program = Longhaul::run(&config);
        Secured { broker, worker, program, admin, folder }
    }

    pub fn topic(&self, topic: &str) -> String {
        format!("{}-{topic}", self.broker.name)
    }

    fn password(&self) -> std::path::PathBuf {
        Path::new(self.folder.path()).join("password")
    }

    pub fn allow(&self, resource: Resource, name: &str, operation: Operation) {
        allow(&self.broker, resource, name, operation);
    }

    pub fn allow_reading(&self, topic: &str) {
        self.allow(Resource::Topic, &self.topic(topic), Operation::Read);
    }

    pub fn allow_group(&self) {
        self.allow(Resource::Group, &self.broker.name, Operation::Read);
    }

    async fn readiness(&self) -> (StatusCode, String) {
        match crate::support::get(format!("http://{}/readyz", self.admin)).await {
            Ok(answer) => (answer.status(), answer.text().await.unwrap_or_default()),
            Err(error) => (StatusCode::IM_A_TEAPOT, error.to_string()),
        }
    }

    pub async fn says(&self, words: &[&str]) {
        eventually(&format!("{words:?} on /readyz"), async || {
            let (status, text) = self.readiness().await;
            status == StatusCode::SERVICE_UNAVAILABLE && words.iter().all(|word| text.contains(word))
        })
        .await;
    }

    pub async fn is_ready(&self) {
        eventually("the pipeline to be ready", async || self.readiness().await.0 == StatusCode::OK).await;
    }

    pub async fn runs(&self, items: usize) {
        eventually("the items to be done", async || self.worker.done() == items).await;
    }

    pub async fn produce(&self, topic: &str, items: usize) {
        self.broker
            .produce(&self.topic(topic), 0, (0..items).map(|number| format!("{topic} {number}")))
            .await;
    }

    /// Nothing ran twice, and everything is committed.
    pub async fn ends(self, topic: &str, items: i64) {
        until("everything is committed", || self.broker.committed(&self.topic(topic)).0 == items).await;
        assert_eq!(self.worker.log().second_runs(), 0);
        self.program.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_login_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(secured) = Secured::with_options("no-login", &["t"], "", "", folder).await else { return };
    secured.says(&["security.protocol"]).await;
    secured.program.stop().await;
}

/// The file of the password is read again, and the program goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_until_its_file_is_corrected() {
    let Some(secured) = Secured::start("password", &["t"], "wrong", "").await else { return };
    secured.allow_reading("t");
    secured.allow_group();
    secured.produce("t", 5).await;
    secured.says(&["sasl.password", "uthentication"]).await;
    std::fs::write(secured.password(), "right").unwrap();
    secured.runs(5).await;
    secured.is_ready().await;
    secured.ends("t", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_may_not_be_read_is_named_until_it_may() {
    let Some(secured) = Secured::start("no-read", &["t"], "right", "").await else { return };
    secured.allow_group();
    secured.allow(Resource::Topic, &secured.topic("t"), Operation::Describe);
    secured.produce("t", 5).await;
    secured.says(&["read", &secured.topic("t")]).await;
    secured.allow_reading("t");
    secured.runs(5).await;
    secured.is_ready().await;
    secured.ends("t", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_may_not_be_joined_is_named_until_it_may() {
    let Some(secured) = Secured::start("no-group", &["t"], "right", "").await else { return };
    secured.allow_reading("t");
    secured.produce("t", 5).await;
    secured.says(&["Read the group"]).await;
    secured.allow_group();
    secured.runs(5).await;
    secured.is_ready().await;
    secured.ends("t", 5).await;
}

/// Nothing has to fail first: the permission is looked up.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_may_not_be_written_is_named_until_it_may() {
    let more = "  dead_letter: { kafka: { topic: NAME-dead } }";
    let Some(secured) = Secured::start("no-write", &["t", "dead"], "right", more).await else { return };
    secured.allow_reading("t");
    secured.allow_group();
    secured.allow(Resource::Topic, &secured.topic("dead"), Operation::Describe);
    secured.produce("t", 5).await;
    secured.says(&["write", &secured.topic("dead")]).await;
    secured.allow(Resource::Topic, &secured.topic("dead"), Operation::Write);
    secured.is_ready().await;
    secured.runs(5).await;
    secured.ends("t", 5).await;
}

/// A topic that may not be read any more stops alone, and costs nothing when it may be read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_lost_stops_its_topic_only() {
    let Some(secured) = Secured::start("lost-read", &["kept", "lost"], "right", "").await else { return };
    secured.allow_group();
    secured.allow_reading("kept");
    secured.allow_reading("lost");
    secured.produce("kept", 3).await;
    secured.produce("lost", 3).await;
    // The two topics have events of the same ids.
    let runs = || secured.worker.log().started.values().sum::<u32>();
    eventually("all to run", async || runs() == 6).await;
    secured.is_ready().await;
    let lost = secured.topic("lost");
    forbid(&secured.broker, Resource::Topic, &lost, Operation::Read);
    secured.says(&[&lost]).await;
    secured.produce("lost", 3).await;
    secured.produce("kept", 3).await;
    until("the other topic is committed", || secured.broker.committed(&secured.topic("kept")).0 == 6).await;
    secured.allow_reading("lost");
    secured.is_ready().await;
    eventually("the rest to run", async || runs() == 12).await;
    until("all is committed", || secured.broker.committed(&lost).0 == 6).await;
    secured.program.stop().await;
}

/// The client that counts for the intake outlives a change of the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_counted_again_after_its_password_is_corrected() {
    use longhaul::tools::Place;
    use longhaul::tools::kafka::Lag;
    let Some(address) = secured() else { return };
    let (broker, folder) = (Broker::real("lag"), tempfile::tempdir().unwrap());
    broker.create_topic(&broker.name, 1).await;
    broker.produce(&broker.name, 0, ["one", "two"].map(str::to_owned)).await;
    allow(&broker, Resource::Topic, &broker.name, Operation::Read);
    allow(&broker, Resource::Group, &broker.name, Operation::Read);
    let file = folder.path().join("password");
    let password = format!("${{file:{}}}", file.display());
    let options = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "tester"),
        ("sasl.password", &password),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).into();
    std::fs::write(&file, "wrong").unwrap();
    let place = Place::parse(&format!("kafka://{address}/{}", broker.name), &options).unwrap();
    let Place::Kafka(place) = place else { unreachable!() };
    let lag = Lag::of(&place, &broker.name).unwrap();
    assert!(lag.count().await.is_err(), "the password is wrong");
    std::fs::write(&file, "right").unwrap();
    assert_eq!(lag.count().await.unwrap(), 2);
    assert_eq!(lag.count().await.unwrap(), 2, "the client that works is kept");
}

/// Such a user sees the topic and gets no record.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_a_topic_that_may_not_be_read() {
    let Some(address) = secured() else { return };
    let (broker, folder) = (Broker::real("doctor"), tempfile::tempdir().unwrap());
    let name = &broker.name;
    broker.create_topic(name, 1).await;
    allow(&broker, Resource::Topic, name, Operation::Describe);
    allow(&broker, Resource::Group, name, Operation::Read);
    let config = format!(
        "pipelines: [{{ name: a, source: {{ kafka: {{ bootstrap_servers: ['{address}'], topics: [{name}], group: {name}, \
         options: {{ {LOGIN}, sasl.password: right }} }} }}, sink: {{ url: 'http://127.0.0.1:9/' }}, max_in_flight: 2, \
         on_failed: hold }}]"
    );
    std::fs::write(folder.path().join("longhaul.yaml"), config).unwrap();
    let is_refused = async || {
        let ran = crate::tools::run(folder.path(), &["check", "--connect", "--json"]).await;
        ran.json()["findings"].as_array().unwrap().iter().any(|finding| finding["kind"] == "topic-refused")
    };
    assert!(is_refused().await);
    allow(&broker, Resource::Topic, name, Operation::Read);
    eventually("the right to read", async || !is_refused().await).await;
}
