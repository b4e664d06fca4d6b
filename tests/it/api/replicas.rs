//! Each replica can answer for all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use longhaul::config::QueueKind;
use serde_json::Value;

use super::{Admin, path_of};
use crate::run::backlog::{Backlog, Rabbitmq};
use crate::run::config;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::worker::Worker;
use crate::tools;

fn ids(list: &Value) -> BTreeSet<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

fn replicas(list: &Value) -> BTreeSet<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["replica"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_one_replica_answers_for_all() {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await);
    let worker = Worker::held().await;
    let admins = [Admin::free(), Admin::free()];
    let addresses = admins.each_ref().map(|admin| format!("\"http://{}\"", admin.0)).join(", ");
    let start = |admin: &Admin| {
        let more =
            format!("{}peers: {{ addresses: [{addresses}] }}\n", admin.config(", token: a-long-secret"));
        Longhaul::run(&config(&backlog.source(), &worker, 3, &more))
    };
    let (first, second) = (start(&admins[0]), start(&admins[1]));
    let admin = &admins[0];
    for (admin, bridge) in admins.iter().zip([&first, &second]) {
        eventually("a replica", async || {
            bridge.log().contains("is up") && admin.get("/livez").await.0 == 200
        })
        .await;
    }
    backlog.fill((0..6).map(|number| format!("item {number}").into_bytes())).await;
    eventually("all requests", async || worker.log().open == 6).await;

    let path = "/api/v1/pipelines/test/items";
    let (_, own) = admin.get(path).await;
    assert_eq!((own["total"].as_u64(), replicas(&own).len()), (Some(3), 1), "{own}");
    let (_, all) = admin.get(&format!("{path}?replicas=all")).await;
    assert_eq!((all["total"].as_u64(), ids(&all).len(), replicas(&all).len()), (Some(6), 6, 2), "{all}");
    assert_eq!(all["replicas"].as_array().unwrap().len(), 2, "{all}");
    let (mut paged, mut after) = (BTreeSet::new(), String::new());
    for page in 0.. {
        let (_, list) = admin.get(&format!("{path}?replicas=all&limit=2&after={after}")).await;
        let found = ids(&list);
        assert!(page < 2 && paged.is_disjoint(&found), "page {page}: {list}");
        paged.extend(found);
        match list["next"].as_str() {
            Some(next) => after = next.replace('~', "%7E"),
            None => break,
        }
    }
    assert_eq!(paged, ids(&all), "each item once");
    let (_, behind) = admin.get(&format!("{path}?after=no-item-has-this-id")).await;
    assert_eq!((behind["total"].as_u64(), ids(&behind).len()), (Some(3), 0), "an unknown place is the end");
    let (_, pipelines) = admin.get("/api/v1/pipelines?replicas=all").await;
    assert_eq!(pipelines["pipelines"].as_array().unwrap().len(), 2, "{pipelines}");
    assert_eq!(admin.get("/api/v1/pipelines?replicas=some").await.0, 400);

    // An item of the other replica is found, and can be acted on.
    let is_other = |item: &&Value| !ids(&own).contains(item["id"].as_str().unwrap());
    let other = all["items"].as_array().unwrap().iter().find(is_other).unwrap();
    let (_, found) = admin.get(&path_of(other)).await;
    assert_eq!(found["replica"], other["replica"], "{found}");
    assert_eq!(admin.get(&format!("{}?replicas=one", path_of(other))).await.0, 404);
    assert_eq!(admin.get(&format!("{}/log", path_of(other))).await.0, 200);
    let post = async |path: String| {
        let request = crate::support::http().post(format!("http://{}{path}", admin.0));
        Admin::send(request.bearer_auth("a-long-secret")).await
    };
    assert_eq!(admin.post(&format!("{}/cancel?then=drop", path_of(other))).await.0, 401, "without the token");
    let (_, dry) = post(format!("{}/cancel?then=drop&dry_run=true", path_of(other))).await;
    assert_eq!(dry["changed"].as_u64(), Some(1), "{dry}");
    let (_, changed) = post(format!("{}/cancel?then=drop", path_of(other))).await;
    assert_eq!(changed["changed"].as_u64(), Some(1), "{changed}");
    eventually("the closed request", async || worker.log().open == 5).await;
    assert!(second.log().contains("another replica"), "{}", second.log());
    assert_eq!(admin.get("/api/v1/items/none").await.0, 404);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://{}", admin.0);
    let ran = tools::run(folder.path(), &["items", "list", "test", "--url", &url]).await;
    assert!(ran.out.contains("REPLICA"), "{ran:?}");
    let ran = tools::run(folder.path(), &["ps", "--url", &url]).await;
    assert_eq!(ran.out.matches("test at ").count(), 2, "{ran:?}");

    // A replica that is gone is named, and delays the answer for a bounded time.
    second.kill().await;
    let asked = Instant::now();
    let (_, rest) = admin.get(&format!("{path}?replicas=all&state=running")).await;
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    assert!(rest["replicas"].to_string().contains(&admins[1].0), "{rest}");
    let (status, gone) = admin.get(&path_of(other)).await;
    assert!(status == 404 && gone["help"].as_str().unwrap().contains(&admins[1].0), "{gone}");
    worker.release_all();
    eventually("the broker to be empty", async || backlog.left().await == 0).await;
    eventually("the end of all items", async || admin.total("running").await == 0).await;
    first.stop().await;
    backlog.remove().await;
}

/// A replica with another secret gets no answer, and its own answer does not count.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_stranger_is_not_believed() {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await);
    let worker = Worker::held().await;
    let admins = [Admin::free(), Admin::free()];
    let addresses = admins.each_ref().map(|admin| format!("\"http://{}\"", admin.0)).join(", ");
    let start = |admin: &Admin, secret: &str| {
        let token = format!(", token: {secret}");
        let more = format!("{}peers: {{ addresses: [{addresses}] }}\n", admin.config(&token));
        Longhaul::run(&config(&backlog.source(), &worker, 1, &more))
    };
    let (first, second) = (start(&admins[0], "a-long-secret"), start(&admins[1], "another-secret"));
    for admin in &admins {
        eventually("a replica", async || admin.get("/livez").await.0 == 200).await;
    }
    let (_, list) = admins[0].get("/api/v1/pipelines?replicas=all").await;
    assert_eq!(list["pipelines"].as_array().unwrap().len(), 1, "{list}");
    let error = list["replicas"][1]["error"].as_str().unwrap();
    assert!(error.contains("401") && error.contains("another secret"), "{error}");
    first.stop().await;
    second.stop().await;
    backlog.remove().await;
}
