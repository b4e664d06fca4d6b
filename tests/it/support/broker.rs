//! A RabbitMQ node for one test, which may stop it, shorten its timeouts or exhaust its memory
//! without disturbing others.

use std::path::Path;
use std::process::{Command, Output};

pub struct OwnRabbitmq {
    folder: tempfile::TempDir,
    kind: &'static str,
    pub url: String,
}

impl OwnRabbitmq {
    /// Whether the script can start this kind here. A later stage of tests/run has only one of the
    /// newer versions, and the stage before has run the tests of the others.
    pub fn can_be_had(kind: &str) -> bool {
        match kind {
            "rabbitmq-4" => std::env::var("LONGHAUL_TEST_AMQP_URL_4").is_ok(),
            "rabbitmq-4.3" => std::env::var("LONGHAUL_TEST_AMQP_URL_4_3").is_ok(),
            _ => !std::env::var("LONGHAUL_TEST_RABBITMQ_CTL").is_ok_and(|ctl| ctl.contains("rabbitmq-4")),
        }
    }

    /// Starts the node. Blocks for some seconds.
    pub fn start(kind: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let started = script(&["start"], folder.path(), &[kind]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
        let url = env.lines().find_map(|line| line.split_once("_AMQP_URL")?.1.split_once('=')).unwrap().1;
        let url = url.trim_matches('\'').replace('\\', "");
        OwnRabbitmq { folder, kind, url }
    }

    /// `stop`, `start` or `kill` of the node, or `rabbitmqctl …`. On a busy machine rabbitmqctl
    /// gives up too early, so it is asked several times.
    pub async fn ctl(&self, arguments: &[&str]) {
        let ctl = self.folder.path().join(self.kind).join("ctl");
        let mut tries = if arguments[0] == "rabbitmqctl" { 4 } else { 1 };
        loop {
            // A blocked thread would stop the test's clock and its workers.
            let output = tokio::process::Command::new(&ctl).args(arguments).output().await.unwrap();
            tries -= 1;
            if output.status.success() {
                return;
            }
            assert!(tries > 0, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Restarts the node with the management API, and returns its address.
    pub async fn enable_management(&self) -> String {
        let folder = self.folder.path().join(self.kind);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        std::fs::write(folder.join("enabled_plugins"), "[rabbitmq_management].\n").unwrap();
        let file = folder.join("rabbitmq.conf");
        let settings = std::fs::read_to_string(&file).unwrap();
        let listen = format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n");
        std::fs::write(&file, settings + &listen).unwrap();
        self.ctl(&["stop"]).await;
        self.ctl(&["start"]).await;
        format!("http://127.0.0.1:{port}")
    }

    /// From 4.3 on, the consumer of a quorum queue can set its own ack timeout, and longhaul does.
    pub fn takes_the_consumers_word(&self) -> bool {
        self.kind == "rabbitmq-4.3"
    }

    /// How long a delivery may stay unacked, in channels that are opened from now on.
    pub async fn set_ack_timeout(&self, timeout: std::time::Duration) {
        let milliseconds = timeout.as_millis();
        let setting = format!(
            "application:set_env(rabbit, consumer_timeout, {milliseconds}), application:set_env(rabbit, channel_tick_interval, 500)."
        );
        self.ctl(&["rabbitmqctl", "eval", &setting]).await;
    }
}

impl Drop for OwnRabbitmq {
    fn drop(&mut self) {
        script(&["stop"], self.folder.path(), &[]);
    }
}

fn script(verb: &[&str], folder: &Path, rest: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/brokers");
    let mut command = Command::new(script);
    // Otherwise the script would use the brokers of the other tests.
    for name in [
        "LONGHAUL_TEST_AMQP_URL",
        "LONGHAUL_TEST_AMQP_URL_4",
        "LONGHAUL_TEST_AMQP_URL_4_3",
        "LONGHAUL_TEST_KAFKA_BOOTSTRAP",
    ] {
        command.env_remove(name);
    }
    command.args(verb).arg(folder).args(rest).output().unwrap()
}
