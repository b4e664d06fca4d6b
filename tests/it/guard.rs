//! The guard's client against a Kubernetes API server. Without a cluster the server is a fake;
//! `tests/lab/contract` runs the same contract with a real one.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use kube::{Client, Config};
use longhaul::guard::kube::Pods;
use longhaul::guard::mark::{ALL, DELETION_COST, Mark, OWN};
use longhaul::guard::plan::{SeenPod, Write, Wrote};
use longhaul::guard::run::{Cluster, Event};
use longhaul::telemetry::GuardFailure;

mod fake;

use fake::Fake;

const PATIENCE: Duration = Duration::from_secs(30);

fn pods(fake: &Fake) -> Pods {
    let config = Config::new(fake.url().parse().unwrap());
    Pods::over(Client::try_from(config).unwrap(), "default")
}

/// A write that sets or removes the mark.
fn write(pod: &SeenPod, holder: Option<&str>) -> Write {
    let now = std::time::SystemTime::now();
    let annotations = match holder {
        Some(holder) => {
            let mark = Mark::new(holder, now, now, &pod.annotations).annotations();
            mark.into_iter().map(|(name, value)| (name, Some(value))).collect()
        }
        None => ALL.iter().map(|name| ((*name).to_owned(), None)).collect(),
    };
    Write { pod: pod.name.clone(), uid: pod.uid.clone(), annotations }
}

/// Waits until the watch shows this pod in the wanted state.
async fn until(
    watch: &mut (impl StreamExt<Item = Result<Event, longhaul::guard::trouble::Failure>> + Unpin),
    name: &str,
    holds: impl Fn(&SeenPod) -> bool,
) -> SeenPod {
    let search = async {
        loop {
            let all = match watch.next().await.unwrap().unwrap() {
                Event::All(all) => all,
                Event::Seen(pod) => vec![pod],
                Event::Gone(_) => Vec::new(),
            };
            if let Some(pod) = all.into_iter().find(|pod| pod.name == name && holds(pod)) {
                return pod;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("the watch shows the pod")
}

/// What the guard expects of an API server. `name` is a pod with the label of the service `hello`,
/// and with an annotation of its own.
async fn contract(pods: &Pods, name: &str) {
    let mut watch = pods.watch();
    let pod = until(&mut watch, name, |_| true).await;
    assert_eq!((pod.service.as_str(), pod.is_stopping), ("hello", false));
    assert_eq!(pod.annotations, BTreeMap::new(), "annotations of others are not kept");
    assert_eq!(pods.write(&write(&pod, Some("a"))).await, Ok(Wrote::Done));
    let marked = until(&mut watch, name, |pod| pod.annotations.contains_key(OWN)).await;
    assert_eq!(Mark::of(&marked.annotations).unwrap().holder, "a");
    assert!(marked.annotations[DELETION_COST].parse::<i32>().unwrap() > 1_000_000);
    let another = SeenPod { uid: "8bf6e0d1-6d5c-4ae1-a6b4-0a3f9a1c2b3d".to_owned(), ..marked.clone() };
    assert_eq!(pods.write(&write(&another, None)).await, Ok(Wrote::Gone), "a pod with another id");
    let missing = SeenPod { name: "no-such-pod".to_owned(), ..marked.clone() };
    assert_eq!(pods.write(&write(&missing, None)).await, Ok(Wrote::Gone));
    assert_eq!(pods.write(&write(&marked, None)).await, Ok(Wrote::Done));
    until(&mut watch, name, |pod| pod.annotations.is_empty()).await;
}

#[tokio::test]
async fn the_contract_with_the_fake() {
    let fake = Fake::start().await;
    fake.add("worker-1", "hello");
    contract(&pods(&fake), "worker-1").await;
    assert_eq!(fake.annotation("worker-1", "example.com/of-the-user").as_deref(), Some("kept"));
}

/// The same contract with a real API server: the pod named by LONGHAUL_TEST_POD, over KUBECONFIG.
/// `tests/lab/contract` makes such a pod.
#[tokio::test]
async fn the_contract_with_a_cluster() {
    let Ok(name) = std::env::var("LONGHAUL_TEST_POD") else { return };
    let namespace = std::env::var("LONGHAUL_TEST_NAMESPACE").ok();
    contract(&Pods::new(namespace.as_deref()).await.unwrap(), &name).await;
}

#[tokio::test]
async fn a_refusal_is_told_from_an_outage() {
    let fake = Fake::start().await;
    fake.add("worker-1", "hello");
    let pods = pods(&fake);
    let pod = until(&mut pods.watch(), "worker-1", |_| true).await;
    fake.refuse(Some(403));
    let refused = pods.write(&write(&pod, Some("a"))).await.unwrap_err();
    assert!(refused.kind == GuardFailure::Refused && refused.help.contains("Role"), "{refused:?}");
    let listed = pods.watch().next().await.unwrap().unwrap_err();
    assert!(listed.kind == GuardFailure::Refused, "{listed:?}");
    fake.refuse(Some(500));
    let failed = pods.write(&write(&pod, Some("a"))).await.unwrap_err();
    assert!(failed.kind == GuardFailure::Answered, "{failed:?}");
}

#[tokio::test]
async fn the_watch_goes_on_after_an_outage() {
    let fake = Fake::start().await;
    fake.refuse(Some(500));
    let pods = pods(&fake);
    let mut watch = pods.watch();
    watch.next().await.unwrap().unwrap_err();
    fake.refuse(None);
    fake.add("worker-1", "hello");
    let list = async {
        loop {
            if let Ok(Event::All(all)) = watch.next().await.unwrap() {
                return all;
            }
        }
    };
    let all = tokio::time::timeout(PATIENCE, list).await.unwrap();
    assert_eq!(all.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["worker-1"]);
}
