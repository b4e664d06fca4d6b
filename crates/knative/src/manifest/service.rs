//! Reads a Knative Service (`serving.knative.dev/v1`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Settings;
use super::container::{self, Container};
use super::env::Variable;
use super::probe::Probe;
use super::timeouts::{self, Timeouts, Written};
use super::tree::Mapping;
use super::{annotations, documents, is_kind, missing, open, peek};
use crate::kpa;
use longhaul_places::report::Report;
use longhaul_places::yaml::Document;

/// The settings of a revision, with every default filled in.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub namespace: String,
    /// The name of the revision: from the template, or else Knative's name for the first revision.
    pub revision: String,
    /// The annotations of `spec.template.metadata`, by full name.
    pub annotations: BTreeMap<String, String>,
    /// The annotations over the cluster's settings.
    pub autoscaling: kpa::Config,
    /// Requests that one replica takes at once; 0 is unlimited.
    pub container_concurrency: u32,
    pub timeouts: Timeouts,
    /// The timeouts as the manifest has them.
    pub written_timeouts: Written,
    pub image: String,
    /// `command` and `args` of the container, which name programs of the image.
    pub command: Vec<String>,
    /// The variables in the order of the manifest, with `$(NAME)` expanded.
    pub env: Vec<Variable>,
    /// The port that the worker would listen on in a pod.
    pub port: u16,
    pub readiness: Probe,
}

/// Where the value of an environment variable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Value(String),
    /// A ConfigMap, a Secret or a field of the pod, none of which this machine has.
    Elsewhere,
}

impl Service {
    /// Returns how long a stopped replica may go on. Knative gives the pod its `timeoutSeconds` for
    /// that.
    pub fn termination_grace(&self) -> Duration {
        self.timeouts.request
    }
}

/// Reads the Service of a file, which may also hold other objects.
pub fn read(text: &str, settings: &Settings, report: &mut Report) -> Option<Service> {
    let documents = documents(text, report)?;
    let services: Vec<&Document> = documents.iter().filter(|document| is_kind(document, "Service")).collect();
    // A Service of Kubernetes has the same kind, and may be in the same file.
    let is_knatives = |document: &&&Document| {
        peek(document, "apiVersion").is_some_and(|version| version.starts_with("serving.knative.dev/"))
    };
    let mut knatives = services.iter().filter(is_knatives);
    let Some(document) = knatives.next().or(services.first()) else {
        missing("Service", "name a file with a document of `kind: Service`", report);
        return None;
    };
    let root = open(document, report)?;
    if let Some(second) = knatives.next() {
        let reason = "this is a second Service";
        report.at(second.root.range.start, &root.path, reason, "give each its own file and its own `serve`");
    }
    root.only(&["apiVersion", "kind", "metadata", "spec", "status"], report);
    check_version(&root, report);
    let metadata = root.required_mapping("metadata", report)?;
    let name = metadata.required_text("name", report)?;
    check_name(&name, &metadata, "a Service", report);
    annotations::of_service(&metadata, report);
    let spec = root.required_mapping("spec", report)?;
    spec.only(&["template", "traffic"], report);
    let template = spec.required_mapping("template", report)?;
    template.only(&["metadata", "spec"], report);
    let template_metadata = template.mapping("metadata", report);
    let revision = revision(template_metadata.as_ref(), &name, report);
    let annotations = annotations::of_revision(template_metadata.as_ref(), &settings.autoscaler, report);
    let spec = template.required_mapping("spec", report)?;
    spec.only(REVISION_FIELDS, report);
    let container_concurrency = settings.defaults.concurrency(&spec, report);
    let (written_timeouts, timeouts) = timeouts::read(&spec, &settings.defaults, report);
    let Container { image, command, env, port, readiness } = container::read(&spec, report)?;
    Some(Service {
        autoscaling: kpa::Config::resolve(&settings.autoscaler, &annotations, container_concurrency),
        namespace: metadata.text("namespace", report).unwrap_or_else(|| "default".into()),
        name,
        revision,
        annotations,
        container_concurrency,
        timeouts,
        written_timeouts,
        image,
        command,
        env,
        port,
        readiness,
    })
}

/// The fields of `RevisionSpec`, with the pod fields that Knative allows, including those behind
/// feature flags (`fieldmask.go`).
const REVISION_FIELDS: &[&str] = &[
    "containerConcurrency",
    "timeoutSeconds",
    "responseStartTimeoutSeconds",
    "idleTimeoutSeconds",
    "containers",
    "initContainers",
    "volumes",
    "serviceAccountName",
    "imagePullSecrets",
    "enableServiceLinks",
    "automountServiceAccountToken",
    "affinity",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "shareProcessNamespace",
    "tolerations",
    "topologySpreadConstraints",
];

fn check_version(root: &Mapping<'_>, report: &mut Report) {
    let version = root.required_text("apiVersion", report);
    let reason = match version.as_deref() {
        None | Some("serving.knative.dev/v1") => return,
        Some("v1") => "this is a Service of Kubernetes, not of Knative",
        Some(_) => "only version v1 of Knative's Service is known",
    };
    report.mistake(&root.path.key("apiVersion"), reason, "write `apiVersion: serving.knative.dev/v1`");
}

/// Checks for a DNS label (RFC 1035), because Kubernetes makes a Service with this name.
fn check_name(name: &str, metadata: &Mapping<'_>, owner: &str, report: &mut Report) {
    let fits = name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !fits {
        let help = "write at most 63 of a-z, 0-9 and -, a letter first and no - last";
        report.mistake(&metadata.path.key("name"), format!("this is not a name for {owner}"), help);
    }
}

/// Returns the template's name for its revision, or Knative's name for the first revision.
fn revision(metadata: Option<&Mapping<'_>>, service: &str, report: &mut Report) -> String {
    let given = metadata.and_then(|metadata| Some((metadata, metadata.text("name", report)?)));
    let Some((metadata, name)) = given.filter(|(_, name)| !name.is_empty()) else {
        return format!("{service}-00001");
    };
    if name.starts_with(&format!("{service}-")) {
        check_name(&name, metadata, "a revision", report);
    } else {
        let reason = "the name of a revision must begin with that of its Service";
        let help = format!("write `{service}-` before it, or leave the name out");
        report.mistake(&metadata.path.key("name"), reason, help);
    }
    name
}
