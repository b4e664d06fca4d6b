//! Writes parts of the source as YAML again, and the Knative Service for the containers of a Job.

use std::fmt::Write as _;

use longhaul_places::yaml::{Content, Node};

use super::ledger::{Ledger, Part};
use super::text::span;

/// Fields of a container that a Knative Service may have.
const CONTAINER: [&str; 10] = [
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "resources",
    "securityContext",
];

/// Writes a value as YAML in flow style, which fits into one line.
pub(super) fn flow(node: &Node) -> String {
    match &node.content {
        Content::Scalar { text, plain: true } => {
            // A text that only looks plain in block style needs quotes inside of { } and [ ].
            let is_simple = !text.is_empty()
                && text.chars().all(|letter| letter.is_alphanumeric() || "-_./".contains(letter))
                && !text.starts_with('-');
            if is_simple { text.clone() } else { serde_json::Value::String(text.clone()).to_string() }
        }
        Content::Scalar { text, plain: false } => serde_json::Value::String(text.clone()).to_string(),
        Content::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Content::Map(entries) => {
            let pair = |entry: &longhaul_places::yaml::Entry| {
                format!("{}: {}", serde_json::Value::String(entry.key.clone()), flow(&entry.value))
            };
            format!("{{ {} }}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Writes the Knative Service whose container is that of a pod template.
pub(super) fn service(
    name: &str,
    template: &Part<'_>,
    seconds: u64,
    max_scale: u64,
    ledger: &mut Ledger,
) -> Option<String> {
    let spec = template.get("spec")?;
    let containers = spec.get("containers")?;
    let container = containers.items().into_iter().next()?;
    let mut text = format!(
        "# Made by `longhaul migrate`. The container took its items from the broker itself. Now it gets one item\n# in each HTTP request. Put longhaul-worker in front of its command, which gets the item on standard\n# input: docs/worker.md.\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: {name}\n  labels: {{ networking.knative.dev/visibility: cluster-local }}\nspec:\n  template:\n    metadata:\n      labels: {{ app.kubernetes.io/component: worker }}\n      annotations:\n        autoscaling.knative.dev/class: kpa.autoscaling.knative.dev\n        autoscaling.knative.dev/metric: concurrency\n        autoscaling.knative.dev/target-utilization-percentage: \"100\"\n        autoscaling.knative.dev/target-burst-capacity: \"-1\"\n        autoscaling.knative.dev/min-scale: \"0\"\n        autoscaling.knative.dev/max-scale: \"{max_scale}\"\n        autoscaling.knative.dev/scale-down-delay: 5m\n    spec:\n      containerConcurrency: 1\n      timeoutSeconds: {seconds}\n      responseStartTimeoutSeconds: 0\n      idleTimeoutSeconds: 0\n"
    );
    if let Some(account) = spec.get("serviceAccountName") {
        let _ = writeln!(text, "      serviceAccountName: {}", flow(account.node()));
        ledger.carry(&account, "serviceAccountName of the Knative Service");
    }
    if let Some(secrets) = spec.get("imagePullSecrets") {
        let _ = writeln!(text, "      imagePullSecrets: {}", flow(secrets.node()));
        ledger.carry(&secrets, "imagePullSecrets of the Knative Service");
    }
    text += "      containers:\n        -";
    let mut is_first = true;
    for (key, part) in container.entries() {
        if !CONTAINER.contains(&key) {
            ledger.without(&part, "not copied to the Knative Service, which limits this field: add it by hand if the worker needs it");
            continue;
        }
        let indent = if is_first { " " } else { "          " };
        let _ = writeln!(text, "{indent}{key}: {}", flow(part.node()));
        is_first = false;
        match key {
            "command" | "args" => ledger.change(
                &part,
                "put longhaul-worker in front of it: it starts the command for each item (docs/worker.md)",
            ),
            _ => ledger.carry(&part, "container of the Knative Service"),
        }
    }
    if is_first {
        return None;
    }
    for other in containers.items().iter().skip(1) {
        ledger.without(other, "a further container is not copied to the Knative Service");
    }
    let timeout = span(std::time::Duration::from_secs(seconds));
    ledger
        .change(&containers, format!("a Knative Service with one item per replica, at most {timeout} each"));
    if let Some(policy) = spec.get("restartPolicy") {
        ledger.improve(
            &policy,
            "a replica stays for the next item, and an attempt that fails is tried elsewhere",
        );
    }
    if let Some(grace) = spec.get("terminationGracePeriodSeconds") {
        ledger.improve(&grace, "a pod of the Knative Service gets as long as timeoutSeconds to finish");
    }
    Some(text)
}
