//! The parts of Kubernetes manifests that decide how long a request may last.

use std::path::{Path, PathBuf};

use longhaul_places::yaml::{self, Content, Node};

use crate::tools::Failure;

/// What the manifests say.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    pub services: Vec<Service>,
    pub deployments: Vec<Deployment>,
    pub defaults: Option<Defaults>,
    /// Whether any file was given.
    pub are_given: bool,
}

/// A Knative Service.
#[derive(Clone, Debug, Default)]
pub struct Service {
    pub name: String,
    pub timeout: Option<u64>,
    pub response_start: Option<u64>,
    pub idle: Option<u64>,
    pub concurrency: Option<u64>,
    pub max_scale: Option<u64>,
    pub class: Option<String>,
    pub metric: Option<String>,
}

/// A Deployment: the bridge's, the activator's or the ingress's.
#[derive(Clone, Debug, Default)]
pub struct Deployment {
    pub name: String,
    pub is_bridge: bool,
    pub grace: Option<u64>,
    pub replicas: Option<u64>,
    /// Whether its pods keep their names (a StatefulSet).
    pub has_stable_names: bool,
    /// The path of the bridge's liveness probe.
    pub liveness: Option<String>,
}

/// The ConfigMap config-defaults.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    pub timeout: Option<u64>,
    pub max_timeout: Option<u64>,
    pub response_start: Option<u64>,
    pub idle: Option<u64>,
}

impl Manifests {
    /// # Errors
    /// Returns an error if a file cannot be read, or is not YAML.
    pub fn read(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut manifests = Manifests { are_given: !files.is_empty(), ..Manifests::default() };
        for file in files {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::usage(
                    format!("{} cannot be read: {error}", file.display()),
                    "name a manifest with -f",
                )
            })?;
            manifests.add(file, &text)?;
        }
        Ok(manifests)
    }

    fn add(&mut self, file: &Path, text: &str) -> Result<(), Failure> {
        let documents = yaml::documents(text).map_err(|error| {
            let line = error.at.start.line;
            Failure::usage(format!("{}:{line}: {}", file.display(), error.reason), error.help)
        })?;
        for document in &documents {
            self.object(&document.root);
        }
        Ok(())
    }

    /// Adds an object of the API server. JSON is YAML too.
    #[cfg(feature = "guard")]
    pub(super) fn add_json(&mut self, place: &str, object: &serde_json::Value) {
        if let Err(error) = self.add(Path::new(place), &object.to_string()) {
            tracing::debug!(place, error = error.what, "An object of the cluster cannot be read");
        }
        self.are_given = true;
    }

    fn object(&mut self, root: &Node) {
        let kind = text(root, &["kind"]).unwrap_or_default();
        if kind == "List"
            && let Some(Content::List(items)) = at(root, &["items"]).map(|node| &node.content)
        {
            items.iter().for_each(|item| self.object(item));
            return;
        }
        let name = text(root, &["metadata", "name"]).unwrap_or_default();
        let is_knative = text(root, &["apiVersion"]).is_some_and(|it| it.starts_with("serving.knative.dev/"));
        match kind.as_str() {
            "Service" if is_knative => self.services.push(service(root, name)),
            "Deployment" | "StatefulSet" => self.deployments.push(deployment(root, name)),
            "ConfigMap" if name == "config-defaults" => {
                let value = |key: &str| text(root, &["data", key]).and_then(|it| it.trim().parse().ok());
                self.defaults = Some(Defaults {
                    timeout: value("revision-timeout-seconds"),
                    max_timeout: value("max-revision-timeout-seconds"),
                    response_start: value("revision-response-start-timeout-seconds"),
                    idle: value("revision-idle-timeout-seconds"),
                });
            }
            _ => {}
        }
    }
}

fn service(root: &Node, name: String) -> Service {
    let spec = |key: &str| number(root, &["spec", "template", "spec", key]);
    let annotation = |key: &str| {
        let key = format!("autoscaling.knative.dev/{key}");
        text(root, &["spec", "template", "metadata", "annotations", &key])
    };
    Service {
        name,
        timeout: spec("timeoutSeconds"),
        response_start: spec("responseStartTimeoutSeconds"),
        idle: spec("idleTimeoutSeconds"),
        concurrency: spec("containerConcurrency"),
        max_scale: annotation("max-scale").or_else(|| annotation("maxScale")).and_then(|it| it.parse().ok()),
        class: annotation("class"),
        metric: annotation("metric"),
    }
}

fn deployment(root: &Node, name: String) -> Deployment {
    let pod = ["spec", "template", "spec"];
    let containers = at(root, &[&pod[..], &["containers"]].concat()).map(|node| &node.content);
    let bridge = match containers {
        Some(Content::List(containers)) => containers.iter().find(|container| {
            let image = text(container, &["image"]).unwrap_or_default();
            let image = image.rsplit('/').next().unwrap_or_default();
            let is_ours = image.split([':', '@']).next() == Some("longhaul");
            is_ours && !has_argument(container, "serve")
        }),
        _ => None,
    };
    Deployment {
        name,
        is_bridge: bridge.is_some(),
        grace: number(root, &[&pod[..], &["terminationGracePeriodSeconds"]].concat()),
        replicas: number(root, &["spec", "replicas"]),
        has_stable_names: text(root, &["kind"]).as_deref() == Some("StatefulSet"),
        liveness: bridge.and_then(|container| text(container, &["livenessProbe", "httpGet", "path"])),
    }
}

fn has_argument(container: &Node, word: &str) -> bool {
    ["args", "command"].iter().any(|key| match at(container, &[key]).map(|node| &node.content) {
        Some(Content::List(words)) => {
            words.iter().any(|it| matches!(&it.content, Content::Scalar { text, .. } if text == word))
        }
        _ => false,
    })
}

fn at<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    let Some((first, rest)) = path.split_first() else { return Some(node) };
    let Content::Map(entries) = &node.content else { return None };
    at(&entries.iter().find(|entry| entry.key == *first)?.value, rest)
}

fn text(node: &Node, path: &[&str]) -> Option<String> {
    match &at(node, path)?.content {
        Content::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

fn number(node: &Node, path: &[&str]) -> Option<u64> {
    text(node, path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_of_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = ["deploy/base/worker.yaml", "deploy/base/bridge.yaml"].map(|file| root.join(file));
        let found = Manifests::read(&files).unwrap();
        assert_eq!(found.services.len(), 1, "{found:?}");
        assert_eq!(found.services[0].concurrency, Some(1));
        let bridge = found.deployments.iter().find(|deployment| deployment.is_bridge).unwrap();
        assert!(bridge.grace.unwrap() > 3600, "{bridge:?}");
    }

    #[test]
    fn a_list_and_a_file_that_is_not_yaml() {
        let mut found = Manifests::default();
        let list = "kind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: config-defaults}, data: {max-revision-timeout-seconds: '600'}}\n";
        found.add(Path::new("a"), list).unwrap();
        assert_eq!(found.defaults.unwrap().max_timeout, Some(600));
        let error = Manifests::default().add(Path::new("a"), "a: [").unwrap_err();
        assert!(error.what.starts_with("a:"), "{error}");
    }
}
