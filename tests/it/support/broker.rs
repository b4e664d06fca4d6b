//! A RabbitMQ node of a test's own: it may be stopped, told to time out, or run out of memory, and
//! nobody else notices.

use std::path::Path;
use std::process::{Command, Output};

pub struct OwnRabbitmq {
    folder: tempfile::TempDir,
    kind: &'static str,
    pub url: String,
}

impl OwnRabbitmq {
    /// One of each version that the script can start here, one after the other.
    pub fn kinds() -> Vec<&'static str> {
        let is_here = |kind: &&str| match *kind {
            "rabbitmq-4" => std::env::var("LONGHAUL_TEST_AMQP_URL_4").is_ok(),
            "rabbitmq-4.3" => std::env::var("LONGHAUL_TEST_AMQP_URL_4_3").is_ok(),
            _ => true,
        };
        ["rabbitmq", "rabbitmq-4", "rabbitmq-4.3"].into_iter().filter(is_here).collect()
    }

    /// Blocks for some seconds.
    pub fn start(kind: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let started = script(&["start"], folder.path(), &[kind]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
        let url = env.lines().find_map(|line| line.split_once("_AMQP_URL")?.1.split_once('=')).unwrap().1;
        let url = url.trim_matches('\'').replace('\\', "");
        OwnRabbitmq { folder, kind, url }
    }

    /// `stop`, `start` or `kill` of the node, or `rabbitmqctl …`, which gives up too early on a
    /// busy machine and is asked again then.
    pub fn ctl(&self, arguments: &[&str]) {
        let ctl = self.folder.path().join(self.kind).join("ctl");
        let mut tries = if arguments[0] == "rabbitmqctl" { 4 } else { 1 };
        loop {
            let output = Command::new(&ctl).args(arguments).output().unwrap();
            tries -= 1;
            if output.status.success() {
                return;
            }
            assert!(tries > 0, "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// From 4.3 on a consumer of a quorum queue may say itself how long a delivery may stay
    /// unacked, and does.
    pub fn takes_the_consumers_word(&self) -> bool {
        self.kind == "rabbitmq-4.3"
    }

    /// How long a delivery may stay unacked, in channels that are opened from now on.
    pub fn set_ack_timeout(&self, milliseconds: u32) {
        self.ctl(&["rabbitmqctl", "eval", &format!("application:set_env(rabbit, consumer_timeout, {milliseconds}), application:set_env(rabbit, channel_tick_interval, 500).")]);
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
    // Otherwise it would take the brokers of the other tests for the wanted ones.
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
