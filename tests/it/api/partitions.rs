//! One Kafka partition is paused, and single records are skipped.

use std::time::Duration;

use serde_json::json;

use super::Admin;
use crate::run::backlog::{Backlog, Kafka};
use crate::run::config;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::worker::Worker;
use crate::tools;

#[tokio::test(flavor = "multi_thread")]
async fn kafka_partition_is_paused_and_records_are_skipped() {
    let (backlog, graveyard) = (Kafka::with_partitions(2).await, Kafka::create().await);
    let topic = backlog.0.name.clone();
    let worker = Worker::held().await;
    let admin = Admin::free();
    let more = format!("    dead_letter: {}\n{}", graveyard.target(), admin.config(""));
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 4, &more));
    let act = async |partition: i32, action: &str| {
        admin.post(&format!("/api/v1/pipelines/test/partitions/{topic}/{partition}/{action}")).await
    };
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}", admin.0);
    let command =
        async |arguments: &[&str]| tools::run(folder.path(), &[arguments, &["--url", &url]].concat()).await;
    eventually("the pause", async || act(0, "pause").await.1["changed"] == true).await;
    assert_eq!(act(0, "pause").await.1["changed"], false);
    assert_eq!(act(7, "pause").await.1["changed"], false, "there is no such partition");
    assert_eq!(admin.pipeline().await["paused_partitions"], json!([format!("{topic}/0")]));
    eventually("both partitions, the paused one first", async || {
        let shown = admin.pipeline().await["partitions"].clone();
        let field = |index: usize, name: &str| shown[index][name].clone();
        (field(0, "partition"), field(0, "paused")) == (json!(0), json!(true))
            && (field(1, "partition"), field(1, "paused")) == (json!(1), json!(false))
    })
    .await;
    assert!(admin.metrics().await.contains("longhaul_kafka_partitions_paused{pipeline=\"test\"} 1"));

    // Items 0 and 2 are in partition 0, items 1 and 3 in partition 1.
    backlog.spread(0..4, 2).await;
    eventually("the items of the other partition", async || worker.log().open == 2).await;
    let bodies = || worker.log().bodies.into_values().collect::<Vec<_>>();
    assert_eq!(bodies(), [b"item 1", b"item 3"]);
    let (_, dry) = act(0, "skip?offset=0&dry_run=true").await;
    assert_eq!(dry["changed"], true, "{dry}");
    let ran = command(&["items", "skip", "test", &format!("{topic}/0"), "0"]).await;
    assert!(ran.code == 0 && ran.out.contains("is dead-lettered"), "{ran:?}");
    let (_, running) = act(1, "skip?offset=0&then=drop").await;
    assert_eq!(running["changed"], true, "{running}");
    eventually("the closed request", async || worker.log().open == 1).await;
    eventually("the dropped item", async || admin.total("dropped").await == 1).await;
    let (_, ended) = act(1, "skip?offset=0&then=drop").await;
    assert!(ended["changed"] == false && ended["text"].as_str().unwrap().contains("has ended"), "{ended}");

    let ran = command(&["resume", "test", "--partition", &format!("{topic}/0")]).await;
    assert!(ran.code == 0 && ran.out.contains("is over"), "{ran:?}");
    eventually("the skipped record", async || admin.total("dead-lettered").await == 1).await;
    eventually("the record behind it", async || worker.log().open == 2).await;
    assert_eq!(bodies(), [b"item 2", b"item 1", b"item 3"], "the skipped record was not sent");
    worker.release_all();
    eventually("the other items", async || admin.total("done").await == 2).await;
    for (path, status) in
        [("skip", 400), ("skip?offset=-1", 400), ("skip?offset=1&then=burn", 400), ("burn", 404)]
    {
        assert_eq!(act(0, path).await.0, status, "{path}");
    }
    assert!(bridge.log().contains("A person acted on a partition"), "{}", bridge.log());
    bridge.stop().await;
    let letter = graveyard.messages(1).await.remove(0);
    assert_eq!(letter.body, "item 0");
    let committed = backlog.0.committed(&topic);
    assert_eq!(committed.0, 2, "the skipped record holds nothing up");
    backlog.remove().await;
    graveyard.remove().await;
}

/// A record that fails is skipped while it waits for its next attempt.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_record_is_skipped_between_its_attempts() {
    let backlog = Kafka::create().await;
    let fails = |_: &[u8]| axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    let worker = Worker::with_verdict(Duration::from_millis(5), fails).await;
    let admin = Admin::free();
    let more = format!("    retry: {{ backoff: 1h, backoff_max: 1h }}\n{}", admin.config(""));
    let bridge = Longhaul::run(&config(&backlog.source(), &worker, 1, &more));
    backlog.fill([b"item".to_vec()].into_iter()).await;
    eventually("the failed attempt", async || admin.total("retrying").await == 1).await;
    let path = format!("/api/v1/pipelines/test/partitions/{}/0/skip?offset=0", backlog.0.name);
    let (_, refused) = admin.post(&path).await;
    assert!(refused["text"].as_str().unwrap().contains("no dead_letter"), "{refused}");
    let (_, skipped) = admin.post(&format!("{path}&then=drop")).await;
    assert_eq!(skipped["changed"], true, "{skipped}");
    eventually("the end", async || admin.total("dropped").await == 1).await;
    bridge.stop().await;
    assert_eq!(backlog.left().await, 0);
    backlog.remove().await;
}
