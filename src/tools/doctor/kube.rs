//! Reads the manifests of the chain of timeouts from a cluster, with kubectl's configuration.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config as Access};
use serde_json::{Value as Json, json};

use super::{Cluster, Findings, Manifests};
use crate::config::Config;
use crate::tools::Failure;

/// The longest time of all questions together.
const LIMIT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The namespaces of Knative and of its ingresses.
const SYSTEMS: [&str; 4] = ["knative-serving", "kourier-system", "istio-system", "contour-external"];

/// Adds the objects of the cluster. A cluster that does not answer, and an object that this user
/// may not read, are notes.
///
/// # Errors
/// The named file or context does not exist.
pub(super) async fn read(
    config: &Config,
    cluster: &Cluster,
    manifests: &mut Manifests,
    findings: &mut Findings<'_>,
) -> Result<(), Failure> {
    let Some(access) = access(cluster).await? else { return Ok(()) };
    let address = access.cluster_url.to_string();
    let asking = tokio::time::timeout(LIMIT, ask(config, access, manifests, findings));
    if asking.await.is_err() {
        let fact = format!("the API server {address} did not answer all questions within {LIMIT:?}");
        findings.note("cluster", fact, "name the manifests with -f, or another --context");
    }
    Ok(())
}

/// Returns the access to the cluster, or `None` if nobody has chosen one.
async fn access(cluster: &Cluster) -> Result<Option<Access>, Failure> {
    let is_named = cluster.is_named();
    let refused = |error: &dyn std::fmt::Display| {
        Failure::usage(
            format!("kubectl's configuration cannot be used: {error}"),
            "correct --kubeconfig and --context; `kubectl config get-contexts` lists them",
        )
    };
    let file = match &cluster.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let file = match file {
        Ok(file) => file,
        Err(error) if is_named => return Err(refused(&error)),
        Err(_) => return Ok(None),
    };
    if !is_named && file.current_context.as_ref().is_none_or(String::is_empty) {
        return Ok(None);
    }
    let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
    match Access::from_custom_kubeconfig(file, &options).await {
        Ok(mut access) => {
            access.connect_timeout = Some(CONNECT_TIMEOUT);
            Ok(Some(access))
        }
        Err(error) if is_named => Err(refused(&error)),
        Err(error) => {
            tracing::debug!(%error, "The current context of kubectl cannot be used");
            Ok(None)
        }
    }
}

async fn ask(config: &Config, access: Access, manifests: &mut Manifests, findings: &mut Findings<'_>) {
    let (address, own) = (access.cluster_url.to_string(), access.default_namespace.clone());
    let client = match Client::try_from(access) {
        Ok(client) => client,
        Err(error) => return unanswered(&address, &error, findings),
    };
    let services = services(config, &own).into_iter();
    let mut paths: Vec<String> = services
        .map(|(namespace, name)| {
            format!("/apis/serving.knative.dev/v1/namespaces/{namespace}/services/{name}")
        })
        .collect();
    paths.push("/api/v1/namespaces/knative-serving/configmaps/config-defaults".to_owned());
    let namespaces = SYSTEMS.into_iter().chain([own.as_str()]);
    paths.extend(namespaces.map(|namespace| format!("/apis/apps/v1/namespaces/{namespace}/deployments")));
    for path in paths {
        match get(&client, &path).await {
            Ok(object) => manifests.add_json(&path, &with_kinds(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                findings.note(
                    "cluster",
                    format!("the API server {address} does not show {path}: {}", status.message),
                    "give this user the right get, or list, there; or name the manifest with -f",
                );
            }
            Err(error) => return unanswered(&address, &error, findings),
        }
    }
}

async fn get(client: &Client, path: &str) -> Result<Json, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

fn unanswered(address: &str, error: &kube::Error, findings: &mut Findings<'_>) {
    findings.note(
        "cluster",
        format!("the API server {address} of kubectl's context does not answer: {error}"),
        "name the manifests with -f, or another --context",
    );
}

/// The namespaces and the names of the Knative Services that the sinks name.
fn services(config: &Config, own: &str) -> Vec<(String, String)> {
    let host = |sink: &crate::config::Sink| {
        let of_url = || url::Url::parse(sink.url.as_ref()?).ok()?.host_str().map(str::to_owned);
        sink.host.clone().or_else(of_url)
    };
    let mut all: Vec<(String, String)> = Vec::new();
    for host in config.pipelines.iter().filter_map(|pipeline| host(&pipeline.sink)) {
        let host = host.split(':').next().unwrap_or_default().to_owned();
        if host.parse::<std::net::IpAddr>().is_ok() {
            continue;
        }
        let mut parts = host.split('.');
        let name = parts.next().unwrap_or_default().to_owned();
        all.push((parts.next().unwrap_or(own).to_owned(), name));
    }
    all.sort_unstable();
    all.dedup();
    all.retain(|(namespace, name)| is_name(namespace) && is_name(name));
    all
}

/// Whether the text can be a part of a path.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The objects in a list of the API server do not name their kind.
fn with_kinds(mut object: Json) -> Json {
    let kind = object["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
    if let (Some(kind), Some(items)) = (kind, object["items"].as_array_mut()) {
        items.iter_mut().for_each(|item| item["kind"] = json!(kind));
        object["kind"] = json!("List");
    }
    object
}
