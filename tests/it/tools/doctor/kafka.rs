use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{check, clean, only, pipeline, service};
use crate::run::backlog::{Backlog, Kafka};
use crate::support::eventually;

async fn configure(kafka: &Kafka, topic: &str, set: &[(&str, &str)]) {
    let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (name, value) in set {
        config = config.set(name, value);
    }
    let options = rdkafka::admin::AdminOptions::new();
    kafka.0.admin().alter_configs([&config], &options).await.unwrap().remove(0).unwrap();
}

const HOLD: &str = "    on_failed: hold\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_correct_topic_has_no_finding_and_planted_faults_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("url: '{}'", service().await);
    let kafka = Kafka::create().await;
    let config = pipeline(&kafka.source(), &sink, HOLD);
    clean(&[], check(folder.path(), &config, &[]).await);
    for (kind, set) in [
        ("retention", ("retention.ms", "3600000")),
        ("retention-bytes", ("retention.bytes", "1000000")),
        ("compaction", ("cleanup.policy", "compact")),
        ("item-bytes", ("max.message.bytes", "50000000")),
    ] {
        configure(&kafka, &kafka.0.name, &[set]).await;
        only(kind, check(folder.path(), &config, &[]).await);
    }
    configure(&kafka, &kafka.0.name, &[("retention.ms", "-1")]).await;
    only("offset-retention", check(folder.path(), &config, &["--outage", "240h"]).await);

    let (bootstrap, name) = (&kafka.0.bootstrap, &kafka.0.name);
    let of = |rest: &str| {
        format!("{{ kafka: {{ bootstrap_servers: [\"{bootstrap}\"], group: g-{name}, {rest} }} }}")
    };
    for (kind, source) in [
        ("topic-missing", of("topics: [no-such-topic]")),
        ("topic-missing", of("topics: [\"^no-such-.*\"]")),
        ("partitions", of(&format!("topics: [{name}], order: partition"))),
        ("broker", of(&format!("topics: [{name}]")).replace(bootstrap.as_str(), "127.0.0.1:9")),
    ] {
        only(kind, check(folder.path(), &pipeline(&source, &sink, HOLD), &[]).await);
    }
    kafka.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_deleted_before_they_have_run_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("url: '{}'", service().await);
    let kafka = Kafka::create().await;
    kafka.fill((0..5_u8).map(|number| vec![number])).await;
    kafka.0.commit(&kafka.0.name, 1, "");
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(&kafka.0.name, 0, Offset::Offset(4)).unwrap();
    kafka.0.admin().delete_records(&gone, &AdminOptions::new()).await.unwrap();
    let (code, findings) = check(folder.path(), &pipeline(&kafka.source(), &sink, HOLD), &[]).await;
    assert!(findings[0].fact.contains("is at offset 1 of"), "{findings:?}");
    only("lost-records", (code, findings));
    kafka.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_another_kind_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("url: '{}'", service().await);
    let kafka = Kafka::create().await;
    // A worker of Kafka Connect joins with a kind of its own: JoinGroup of version 2.
    let mut stream = TcpStream::connect(&kafka.0.bootstrap).await.unwrap();
    let text = |text: &str| [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat();
    let request = [
        &[0, 11, 0, 2, 0, 0, 0, 1][..],
        &text("connect-1"),
        &text(&kafka.0.name),
        &30_000_i32.to_be_bytes(),
        &30_000_i32.to_be_bytes(),
        &text(""),
        &text("connect"),
        &1_i32.to_be_bytes(),
        &text("default"),
        &0_i32.to_be_bytes(),
    ]
    .concat();
    stream.write_all(&(request.len() as i32).to_be_bytes()).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let config = pipeline(&kafka.source(), &sink, HOLD);
    eventually("a group of another kind", async || {
        let (_, findings) = check(folder.path(), &config, &[]).await;
        findings.iter().any(|it| it.kind == "group-kind" && it.fact.contains("kind connect"))
    })
    .await;
    drop(stream);
    kafka.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_another_program_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("url: '{}'", service().await);
    let kafka = Kafka::create().await;
    let other: BaseConsumer = kafka.0.client().set("client.id", "other").create().unwrap();
    other.subscribe(&[&kafka.0.name]).unwrap();
    let joined = tokio::task::spawn_blocking(move || {
        while other.assignment().unwrap().count() == 0 {
            other.poll(std::time::Duration::from_millis(100));
        }
        other
    });
    let other = crate::support::within("the member", joined).await.unwrap();
    only("group-members", check(folder.path(), &pipeline(&kafka.source(), &sink, HOLD), &[]).await);
    drop(other);
    kafka.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_of_the_topic_of_checkpoints_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("url: '{}'", service().await);
    let (kafka, checkpoints) = (Kafka::create().await, Kafka::create().await);
    let name = &checkpoints.0.name;
    let config = pipeline(&kafka.source(), &sink, &format!("{HOLD}    checkpoints: {{ topic: {name} }}\n"));
    let small = ("segment.bytes", "67108864");
    for (kind, set) in [
        (None, vec![("cleanup.policy", "compact"), small]),
        (Some("checkpoints-policy"), vec![("cleanup.policy", "delete"), small]),
        (Some("checkpoints-segment"), vec![("cleanup.policy", "compact"), ("segment.bytes", "1073741824")]),
        (
            Some("checkpoints-retention"),
            vec![("cleanup.policy", "compact,delete"), ("retention.ms", "60000"), small],
        ),
    ] {
        configure(&checkpoints, name, &set).await;
        let found = check(folder.path(), &config, &[]).await;
        match kind {
            Some(kind) => only(kind, found),
            None => clean(&[], found),
        }
    }
    let missing = config.replace(name, "no-such-topic");
    only("checkpoints-missing", check(folder.path(), &missing, &[]).await);
    kafka.remove().await;
    checkpoints.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_of_a_target_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("url: '{}'", service().await);
    let (kafka, letters) = (Kafka::create().await, Kafka::create().await);
    let config = pipeline(&kafka.source(), &sink, &format!("    dead_letter: {}\n", letters.target()));
    clean(&[], check(folder.path(), &config, &[]).await);
    for (kind, set) in [
        ("compaction", ("cleanup.policy", "compact")),
        ("retention", ("retention.ms", "60000")),
        ("in-sync", ("min.insync.replicas", "2")),
        ("item-bytes", ("max.message.bytes", "1000")),
    ] {
        configure(&letters, &letters.0.name, &[set]).await;
        only(kind, check(folder.path(), &config, &[]).await);
    }
    let missing = config.replace(&letters.0.name, "no-such-topic");
    only("target-refuses", check(folder.path(), &missing, &[]).await);
    kafka.remove().await;
    letters.remove().await;
}

/// A cluster of three brokers, which librdkafka plays.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_cluster_of_several_brokers_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("url: '{}'", service().await);
    let cluster = MockCluster::new(3).unwrap();
    for (topic, replicas) in [("single", 1), ("right", 3), ("headless", 3)] {
        cluster.create_topic(topic, 2, replicas).unwrap();
    }
    cluster.partition_leader("headless", 1, None).unwrap();
    let config = |topic: &str| {
        let servers = cluster.bootstrap_servers().replace(',', "', '");
        let source =
            format!("{{ kafka: {{ bootstrap_servers: ['{servers}'], topics: [{topic}], group: g }} }}");
        pipeline(&source, &sink, HOLD)
    };
    clean(
        &["topic-configuration", "broker-configuration"],
        check(folder.path(), &config("right"), &[]).await,
    );
    only("replicas", check(folder.path(), &config("single"), &[]).await);
    let (code, findings) = check(folder.path(), &config("headless"), &[]).await;
    assert!(
        findings.iter().any(|it| it.kind == "no-leader" && it.fact.contains("partitions 1 of")),
        "{findings:?}"
    );
    only("no-leader", (code, findings));
}
