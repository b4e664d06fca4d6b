//! A cluster that takes the place of another one behind the same address.

use std::path::Path;
use std::process::{Command, Output};

use super::support::{Broker, Relayed, Running, until};

/// A second broker, which sends its clients to the same relay.
struct OtherKafka {
    folder: tempfile::TempDir,
    /// The address behind the relay.
    upstream: String,
    direct: Broker,
}

impl OtherKafka {
    /// Blocks for some seconds.
    fn start(relayed: &Relayed) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = relayed.broker.bootstrap.rsplit_once(':').unwrap().1;
        let started = script("start", folder.path(), &["kafka"], &[("LONGHAUL_TEST_KAFKA_RELAY_PORT", port)]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap().replace('\\', "");
        let value = |name: &str| {
            let lines = env.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
            lines.clone().find(|(known, _)| *known == name).unwrap().1.to_owned()
        };
        let direct =
            Broker { bootstrap: value("LONGHAUL_TEST_KAFKA_BOOTSTRAP"), name: relayed.direct.name.clone() };
        let upstream = value("LONGHAUL_TEST_KAFKA_RELAYED").split(' ').next().unwrap().to_owned();
        OtherKafka { folder, upstream, direct }
    }
}

impl Drop for OtherKafka {
    fn drop(&mut self) {
        script("stop", self.folder.path(), &[], &[]);
    }
}

fn script(verb: &str, folder: &Path, kinds: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/brokers"));
    for name in ["LONGHAUL_TEST_KAFKA_BOOTSTRAP", "LONGHAUL_TEST_AMQP_URL"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).arg(verb).arg(folder).args(kinds).output().unwrap()
}

fn numbered(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}")).collect()
}

async fn bodies(source: &mut Running, count: usize) -> Vec<String> {
    let taken = source.take(count).await;
    taken.iter().map(|one| String::from_utf8_lossy(&one.message.body).into_owned()).collect()
}

/// All records of the new cluster run, and results of the old one settle none of them.
#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_at_the_same_address_is_read_from_its_beginning() {
    let Some(mut relayed) = Relayed::start("replaced").await else { return };
    let (broker, direct) = (relayed.broker.clone(), relayed.direct.clone());
    let topic = &direct.name;
    direct.create_topic(topic, 1).await;
    direct.produce(topic, 0, numbered("old", 10)).await;
    let mut source = broker.start(&[topic]);
    let old = source.take(10).await;
    old[..5].iter().for_each(|one| source.ack(one.outline.id));
    until("it is committed", || direct.committed(topic).0 == 5).await;
    let (offset, metadata) = direct.committed(topic);

    let (other, relayed_then) =
        tokio::task::spawn_blocking(move || (OtherKafka::start(&relayed), relayed)).await.unwrap();
    relayed = relayed_then;
    other.direct.create_topic(topic, 1).await;
    other.direct.produce(topic, 0, numbered("new", 15)).await;
    // A tool has copied the group's offsets, with the metadata.
    other.direct.commit(topic, offset, &metadata);
    relayed.lead_to(&other.upstream).await;

    // Records that were fetched before the change was noticed come once more.
    let mut new = Vec::new();
    while new.len() < 15 {
        let next = bodies(&mut source, 1).await.remove(0);
        if next == "new-0" {
            new.clear();
        }
        new.push(next);
    }
    assert_eq!(new, numbered("new", 15));
    old[5..].iter().for_each(|one| source.ack(one.outline.id));
    until("the new log is committed", || other.direct.committed(topic).0 == 0).await;
    source.close().await;

    // The same for a bridge that was down when the cluster was replaced.
    other.direct.commit(topic, offset, &metadata);
    let mut again = broker.start(&[topic]);
    assert_eq!(bodies(&mut again, 15).await, numbered("new", 15));
    again.close().await;
}
