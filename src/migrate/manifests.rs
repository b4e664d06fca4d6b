//! The files around a configuration: a kustomization over the base of deploy/.

use std::fmt::Write as _;
use std::time::Duration;

use super::File;
use super::draft::{self, Draft, SecretFile, Sink};
use super::text::quoted;

/// The base of deploy/, so that the result needs no other file.
const BASE: [(&str, &str); 7] = [
    ("kustomization.yaml", include_str!("../../deploy/base/kustomization.yaml")),
    ("names.yaml", include_str!("../../deploy/base/names.yaml")),
    ("bridge.yaml", include_str!("../../deploy/base/bridge.yaml")),
    ("peers.yaml", include_str!("../../deploy/base/peers.yaml")),
    ("disruption.yaml", include_str!("../../deploy/base/disruption.yaml")),
    ("network.yaml", include_str!("../../deploy/base/network.yaml")),
    ("worker.yaml", include_str!("../../deploy/base/worker.yaml")),
];

/// Returns one folder for each namespace, because a pod reads only Secrets of its own. If there is
/// only one, its files have no folder.
pub(super) fn files(origin: &str, drafts: &[Draft]) -> Vec<File> {
    let mut namespaces: Vec<Option<&str>> = Vec::new();
    for draft in drafts {
        if !namespaces.contains(&draft.namespace.as_deref()) {
            namespaces.push(draft.namespace.as_deref());
        }
    }
    let mut files = Vec::new();
    for namespace in &namespaces {
        let folder = if namespaces.len() == 1 {
            String::new()
        } else {
            format!("{}/", namespace.unwrap_or("default"))
        };
        let members: Vec<&Draft> =
            drafts.iter().filter(|draft| draft.namespace.as_deref() == *namespace).collect();
        files.extend(
            bridge(origin, *namespace, &members)
                .into_iter()
                .map(|file| File { path: folder.clone() + &file.path, ..file }),
        );
    }
    files
}

fn bridge(origin: &str, namespace: Option<&str>, drafts: &[&Draft]) -> Vec<File> {
    let file = |path: &str, text: String| File { path: path.to_owned(), text };
    let mut files = vec![
        file("longhaul.yaml", draft::configuration(origin, drafts)),
        file("kustomization.yaml", kustomization(origin, namespace, drafts)),
    ];
    let reference = drafts.iter().find_map(|draft| match &draft.sink {
        Sink::Reference(text) => Some(text),
        Sink::Url(_) | Sink::Worker => None,
    });
    if let Some(reference) = reference {
        files.push(file("sinkbinding.yaml", sink_binding(reference)));
    }
    for draft in drafts {
        if let Some(worker) = &draft.worker {
            files.push(file(&format!("{}-worker.yaml", draft.name), worker.clone()));
        }
    }
    files.extend(BASE.map(|(name, text)| file(&format!("base/{name}"), text.to_owned())));
    files
}

fn kustomization(origin: &str, namespace: Option<&str>, drafts: &[&Draft]) -> String {
    let first = &drafts[0].name;
    let mut text = format!(
        "# Made by `longhaul migrate` from {origin}. It needs a Secret `longhaul` with the key token:\n#\n#   kubectl create secret generic longhaul --from-literal=token=\"$(openssl rand -hex 32)\"\n#   kubectl apply -k .\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    );
    if let Some(namespace) = namespace {
        let _ = writeln!(text, "namespace: {namespace}");
    }
    let _ = writeln!(text, "namePrefix: {first}-\nresources:\n  - base");
    if drafts.iter().any(|draft| matches!(draft.sink, Sink::Reference(_))) {
        text += "  - sinkbinding.yaml\n";
    }
    for draft in drafts.iter().filter(|draft| draft.worker.is_some()) {
        let _ = writeln!(text, "  - {}-worker.yaml", draft.name);
    }
    text += "configMapGenerator:\n  - name: longhaul\n    files: [longhaul.yaml]\n";
    let _ = writeln!(
        text,
        "images:\n  - name: longhaul\n    newName: longhaul # the registry path of the image of deploy/Dockerfile\n    newTag: \"{}\"",
        env!("CARGO_PKG_VERSION")
    );
    let replicas = drafts.iter().map(|draft| draft.replicas).max().unwrap_or(1);
    let _ = writeln!(text, "replicas:\n  - {{ name: longhaul, count: {replicas} }}");
    text += "patches:\n  # The sample worker of the base.\n  - patch: |-\n      apiVersion: serving.knative.dev/v1\n      kind: Service\n      metadata: { name: worker }\n      $patch: delete\n";
    times(drafts, &mut text);
    secrets(drafts, &mut text);
    text
}

/// Gives the pod longer to stop than the drain of the configuration takes.
fn times(drafts: &[&Draft], text: &mut String) {
    let longest = drafts.iter().map(|draft| draft.longest()).max().unwrap_or(Duration::ZERO);
    let grace = (longest.as_secs() / 60 + 10) * 60;
    let _ = writeln!(
        text,
        "  - target: {{ kind: Deployment, name: longhaul }}\n    patch: |-\n      - {{ op: replace, path: /spec/template/spec/terminationGracePeriodSeconds, value: {grace} }}\n      - {{ op: replace, path: /spec/progressDeadlineSeconds, value: {} }}",
        grace + 600
    );
}

fn secrets(drafts: &[&Draft], text: &mut String) {
    let mut all: Vec<&SecretFile> = Vec::new();
    for secret in drafts.iter().flat_map(|draft| &draft.secrets) {
        if !all.contains(&secret) {
            all.push(secret);
        }
    }
    if all.is_empty() {
        return;
    }
    *text += "  # The Secrets that the source has used so far, as files in /etc/longhaul.\n  - target: { kind: Deployment, name: longhaul }\n    patch: |-\n";
    for SecretFile { secret, key, file } in all {
        let _ = writeln!(
            text,
            "      - op: add\n        path: /spec/template/spec/volumes/0/projected/sources/-\n        value: {{ secret: {{ name: {}, items: [{{ key: {}, path: {} }}] }} }}",
            quoted(secret),
            quoted(key),
            quoted(file)
        );
    }
}

fn sink_binding(reference: &str) -> String {
    let mut text = "apiVersion: sources.knative.dev/v1\nkind: SinkBinding\nmetadata: { name: longhaul }\nspec:\n  subject: { apiVersion: apps/v1, kind: Deployment, name: longhaul }\n  sink:\n".to_owned();
    for line in reference.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}
