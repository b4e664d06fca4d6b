//! The guard's client against a Kubernetes API server. Without a cluster the server is a fake;
//! `tests/lab/contract` runs the same contract with a real one.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client, Config};
use longhaul::guard::kube::Pods;
use longhaul::guard::mark::{ALL, DELETION_COST, Mark, OWN};
use longhaul::guard::plan::{SeenPod, Write, Wrote};
use longhaul::guard::run::{Cluster, Event};
use longhaul::guard::trouble::Failure;
use longhaul::telemetry::GuardFailure;

mod fake;

use fake::Fake;

const PATIENCE: Duration = Duration::from_secs(30);

fn pods(fake: &Fake) -> Pods {
    let config = Config::new(fake.url().parse().unwrap());
    Pods::over(Client::try_from(config).unwrap(), "default")
}

/// A write that sets this mark, or removes every mark.
fn write(pod: &SeenPod, mark: Option<Mark>) -> Write {
    let set = mark.map(|mark| mark.annotations()).unwrap_or_default();
    let annotations = ALL.iter().map(|name| ((*name).to_owned(), set.get(*name).cloned())).collect();
    Write { pod: pod.name.clone(), uid: pod.uid.clone(), annotations }
}

/// The mark of an item in this pod.
fn busy(pod: &SeenPod) -> Option<Mark> {
    let now = SystemTime::now();
    Some(Mark::new("a", now, now, &pod.annotations))
}

/// Waits until the watch shows this pod in the wanted state.
async fn until(
    watch: &mut (impl StreamExt<Item = Result<Event, Failure>> + Unpin),
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

/// The expectations of the guard of an API server. `name` is a pod with the label of the service
/// `hello`, and with an annotation of its own. `delete` removes it.
async fn contract(pods: &Pods, name: &str, delete: impl AsyncFnOnce()) {
    let mut watch = pods.watch();
    let pod = until(&mut watch, name, |_| true).await;
    assert_eq!((pod.service.as_str(), pod.is_stopping), ("hello", false));
    assert_eq!(pod.annotations, BTreeMap::new(), "annotations of others are not kept");
    assert_eq!(pods.write(&write(&pod, busy(&pod))).await, Ok(Wrote::Done));
    let marked = until(&mut watch, name, |pod| pod.annotations.contains_key(OWN)).await;
    assert_eq!(Mark::of(&marked.annotations).unwrap().holder, "a");
    assert!(marked.annotations[DELETION_COST].parse::<i32>().unwrap() > 1_000_000);
    let idle = Mark::idle("a", SystemTime::now(), &marked.annotations);
    assert_eq!(pods.write(&write(&marked, Some(idle))).await, Ok(Wrote::Done), "the lowest cost is valid");
    let is_lowest = |pod: &SeenPod| Mark::of(&pod.annotations).is_some_and(|mark| mark.idle);
    let lowest = until(&mut watch, name, is_lowest).await;
    assert_eq!(lowest.annotations.len(), 2, "{lowest:?}");
    let mut invalid = write(&marked, busy(&marked));
    invalid.annotations.insert(DELETION_COST.to_owned(), Some("2147483648".to_owned()));
    let refused = pods.write(&invalid).await.unwrap_err();
    assert!(refused.kind == GuardFailure::Answered && refused.text.contains("422"), "{refused:?}");
    let another = SeenPod { uid: "8bf6e0d1-6d5c-4ae1-a6b4-0a3f9a1c2b3d".to_owned(), ..marked.clone() };
    assert_eq!(pods.write(&write(&another, None)).await, Ok(Wrote::Gone), "a pod with another id");
    let missing = SeenPod { name: "no-such-pod".to_owned(), ..marked.clone() };
    assert_eq!(pods.write(&write(&missing, None)).await, Ok(Wrote::Gone));
    assert_eq!(pods.write(&write(&marked, None)).await, Ok(Wrote::Done));
    let pod = until(&mut watch, name, |pod| pod.annotations.is_empty()).await;
    delete().await;
    let gone =
        async { while !matches!(watch.next().await.unwrap(), Ok(Event::Gone(gone)) if gone.name == name) {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the watch shows the end");
    assert_eq!(pods.write(&write(&pod, busy(&pod))).await, Ok(Wrote::Gone));
}

/// The expectations of a server that refuses everything for want of rights.
async fn refusal(pods: &Pods, pod: &SeenPod) {
    let write = pods.write(&write(pod, busy(pod))).await.unwrap_err();
    let list = pods.watch().next().await.unwrap().unwrap_err();
    for refused in [write, list] {
        assert!(refused.kind == GuardFailure::Refused && refused.help.contains("Role"), "{refused:?}");
    }
}

#[tokio::test]
async fn the_contract_with_the_fake() {
    let fake = Fake::start().await;
    fake.add("worker-1", "hello");
    let delete = async || {
        assert_eq!(fake.annotation("worker-1", "example.com/of-the-user").as_deref(), Some("kept"));
        fake.delete("worker-1");
    };
    contract(&pods(&fake), "worker-1", delete).await;
}

/// The same contract with a real API server: the pod named by LONGHAUL_TEST_POD, over KUBECONFIG.
/// `tests/lab/contract` makes such a pod. With LONGHAUL_TEST_RBAC the server refuses requests of
/// the user `nobody`.
#[tokio::test]
async fn the_contract_with_a_cluster() {
    let Ok(name) = std::env::var("LONGHAUL_TEST_POD") else { return };
    let namespace = std::env::var("LONGHAUL_TEST_NAMESPACE").unwrap_or_else(|_| "default".to_owned());
    let mut config = Config::infer().await.unwrap();
    let api: Api<Pod> = Api::namespaced(Client::try_from(config.clone()).unwrap(), &namespace);
    let delete = async || {
        let pod = api.get(&name).await.unwrap();
        assert_eq!(pod.metadata.annotations.unwrap()["example.com/of-the-user"], "kept");
        api.delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    };
    contract(&Pods::new(Some(&namespace)).await.unwrap(), &name, delete).await;
    if std::env::var_os("LONGHAUL_TEST_RBAC").is_some() {
        config.auth_info.impersonate = Some("nobody".to_owned());
        let pods = Pods::over(Client::try_from(config).unwrap(), &namespace);
        refusal(&pods, &SeenPod { name, ..SeenPod::default() }).await;
    }
}

#[tokio::test]
async fn a_refusal_is_told_from_an_outage() {
    let fake = Fake::start().await;
    fake.add("worker-1", "hello");
    let pods = pods(&fake);
    let pod = until(&mut pods.watch(), "worker-1", |_| true).await;
    fake.refuse(Some(403));
    refusal(&pods, &pod).await;
    fake.refuse(Some(500));
    let failed = pods.write(&write(&pod, busy(&pod))).await.unwrap_err();
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
