//! ScaledJob and ScaledObject of KEDA.

use std::time::Duration;

use longhaul_places::Report;
use longhaul_places::yaml::Document;

use super::draft::{Draft, Kafka, Sink, Source};
use super::knative::{metadata, missing, percent};
use super::ledger::{Fate, Ledger, Part};
use super::text::default_host;
use super::worker;

/// KEDA's default of maxReplicaCount.
const REPLICAS: u64 = 100;

/// Settings of a trigger that measure the backlog.
const MEASURES: [&str; 24] = [
    "mode",
    "value",
    "queueLength",
    "lagThreshold",
    "activationLagThreshold",
    "activationValue",
    "protocol",
    "excludeUnacknowledged",
    "operation",
    "useRegex",
    "pageSize",
    "timeout",
    "metricName",
    "unsafeSsl",
    "allowIdleConsumers",
    "scaleToZeroOnInvalidOffset",
    "excludePersistentLag",
    "limitToPartitionsWithLag",
    "version",
    "partitionLimitation",
    "ensureEvenDistributionOfPartitions",
    "activationThreshold",
    "threshold",
    "workloadIdentityResource",
];

/// Settings of the object itself that have no meaning without Jobs and without a scaler.
const SCALING: [&str; 13] = [
    "pollingInterval",
    "cooldownPeriod",
    "initialCooldownPeriod",
    "idleReplicaCount",
    "minReplicaCount",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
    "scalingStrategy",
    "rollout",
    "rolloutStrategy",
    "envSourceContainerName",
    "advanced",
    "fallback",
];

/// A trigger with the objects around it.
struct Trigger<'a> {
    metadata: Part<'a>,
    /// The entries of `secretTargetRef` of its TriggerAuthentication.
    secrets: Vec<Part<'a>>,
    /// The containers that know the variables of `…FromEnv`.
    containers: Vec<Part<'a>>,
}

pub(super) fn convert(
    root: &Part<'_>,
    all: &[Document],
    ledger: &mut Ledger,
    report: &mut Report,
) -> Vec<Draft> {
    let (name, namespace) = metadata(root, ledger);
    let Some(spec) = root.get("spec") else {
        missing(root, "spec", report);
        return Vec::new();
    };
    let Some(triggers) = spec.get("triggers") else {
        missing(&spec, "triggers", report);
        return Vec::new();
    };
    let template = spec.at(&["jobTargetRef", "template"]);
    let containers = template.as_ref().and_then(|template| template.at(&["spec", "containers"]));
    let containers: Vec<Part<'_>> = containers.iter().flat_map(|part| part.items()).collect();
    let mut drafts = Vec::new();
    for trigger in triggers.items() {
        let kind = trigger.get("type");
        if let Some(kind) = &kind {
            ledger.silent(kind);
        }
        let secrets = authentication(&trigger, all, ledger);
        let Some(values) = trigger.get("metadata") else { continue };
        let trigger_parts = Trigger { metadata: values, secrets, containers: containers.clone() };
        let draft = match kind.and_then(|kind| kind.text()).as_deref() {
            Some("rabbitmq") => rabbitmq(&name, &trigger_parts, ledger, report),
            Some("kafka" | "apache-kafka") => kafka(&name, &trigger_parts, ledger, report),
            other => {
                let text =
                    format!("a trigger of type {} is not a queue that longhaul reads", other.unwrap_or("?"));
                ledger.without(&trigger, text);
                None
            }
        };
        drafts.extend(draft);
    }
    let Some(first) = drafts.first().cloned() else { return Vec::new() };
    let most = replicas(&spec, ledger);
    let timeout = job(&spec, ledger);
    let worker = template.as_ref().and_then(|template| {
        let worker_name = format!("{}-worker", first.name);
        let seconds = timeout.0.unwrap_or(Duration::from_secs(4 * 3600)).as_secs().saturating_sub(60).max(60);
        worker::service(&worker_name, template, seconds, most, ledger)
    });
    let target = target(&spec, &name, namespace.as_deref(), ledger);
    for (index, draft) in drafts.iter_mut().enumerate() {
        draft.namespace.clone_from(&namespace);
        draft.max_in_flight = most;
        draft.timeout = timeout.0;
        draft.attempts = timeout.1;
        draft.sink = match (&worker, index) {
            (Some(text), 0) => {
                draft.worker = Some(text.clone());
                Sink::Worker
            }
            (Some(_), _) => {
                Sink::Url(format!("http://{0}-{0}-worker.${{env:NAMESPACE}}.svc.cluster.local", first.name))
            }
            (None, _) => Sink::Url(target.clone()),
        };
    }
    ledger.remark(root, Fate::Improves, "each item is acked only after the service's answer, and a failed item is kept and shown; so far that was up to the container");
    ledger.remark(
        root,
        Fate::Improves,
        "a warm replica takes the next item: no pod is started for each item",
    );
    ledger.remark(
        root,
        Fate::Changes,
        "delete this object before the bridge starts, or both take items from the queue",
    );
    drafts
}

/// Returns the entries of the TriggerAuthentication that the trigger names, if it is in the file.
fn authentication<'a>(trigger: &Part<'_>, all: &'a [Document], ledger: &mut Ledger) -> Vec<Part<'a>> {
    let Some(reference) = trigger.get("authenticationRef") else { return Vec::new() };
    let name = reference.get("name").and_then(|name| name.text());
    let found = all.iter().map(|document| Part::root(&document.root)).find(|root| {
        let kind = root.get("kind").and_then(|kind| kind.text()).unwrap_or_default();
        kind.ends_with("TriggerAuthentication")
            && root.at(&["metadata", "name"]).and_then(|name| name.text()) == name
    });
    match found {
        Some(root) => {
            ledger.carry(&reference, "the Secrets that it names are mounted");
            root.at(&["spec", "secretTargetRef"]).iter().flat_map(|part| part.items()).collect()
        }
        None => {
            ledger.change(
                &reference,
                "its object is not in this file: put the same values into Secret longhaul",
            );
            Vec::new()
        }
    }
}

impl Trigger<'_> {
    /// Returns Secret and key of a parameter: from the TriggerAuthentication, or from the variable
    /// of a container that KEY`FromEnv` names.
    fn secret(&self, key: &str) -> Option<(String, String)> {
        let text = |part: &Part<'_>, key: &str| part.get(key).and_then(|value| value.text());
        let by_parameter = self.secrets.iter().find(|part| text(part, "parameter").as_deref() == Some(key));
        if let Some(part) = by_parameter {
            return text(part, "name").zip(text(part, "key"));
        }
        let variable = text(&self.metadata, &format!("{key}FromEnv"))?;
        let variables = self.containers.iter().filter_map(|container| container.get("env"));
        let entry = variables
            .flat_map(|env| env.items())
            .find(|entry| text(entry, "name").as_deref() == Some(&variable))?;
        let reference = entry.at(&["valueFrom", "secretKeyRef"])?;
        text(&reference, "name").zip(text(&reference, "key"))
    }
}

fn rabbitmq(name: &str, trigger: &Trigger<'_>, ledger: &mut Ledger, report: &mut Report) -> Option<Draft> {
    let values = &trigger.metadata;
    let Some(queue) = values.get("queueName") else {
        missing(values, "queueName", report);
        return None;
    };
    ledger.carry(&queue, "source.rabbitmq.queue");
    let queue = queue.text().unwrap_or_default();
    let source = Source::Rabbitmq { url: String::new(), queue: queue.clone(), declare: None };
    let mut draft = Draft::new(name, source, Sink::Worker);
    let vhost = values.get("vhostName");
    let host = values.get("host");
    let variable = values.get("hostFromEnv");
    let mut url = "${file:/etc/longhaul/rabbitmq-url}".to_owned();
    if let Some((secret, key)) = trigger.secret("host") {
        url = draft.secret(&secret, &key, "rabbitmq-url");
        for part in variable.iter().chain(&host) {
            ledger.carry(part, format!("source.rabbitmq.url, from Secret {secret}; it must be an address of amqp:// or amqps://, not of the management API"));
        }
    } else if let Some(part) = &host {
        match part.text().filter(|text| text.starts_with("amqp") && !text.contains('@') && vhost.is_none()) {
            Some(text) => {
                ledger.carry(part, "source.rabbitmq.url");
                url = default_host(&text.replace("${", "$${"));
                let login = trigger.secret("username").zip(trigger.secret("password"));
                if let (Some((scheme, rest)), Some((user, password))) = (url.clone().split_once("://"), login) {
                    let user = draft.secret(&user.0, &user.1, "user");
                    let password = draft.secret(&password.0, &password.1, "password");
                    url = format!("{scheme}://{user}:{password}@{rest}");
                }
            }
            None => ledger.change(part, "write it as amqp://user:password@host:5672/vhost into Secret longhaul, key rabbitmq-url: a password does not belong into a manifest"),
        }
    } else if let Some(part) = &variable {
        ledger.change(part, "write the value of this variable into Secret longhaul, key rabbitmq-url");
    } else {
        ledger.remark(
            values,
            Fate::Changes,
            "write the broker's address into Secret longhaul, key rabbitmq-url",
        );
    }
    if url == "${file:/etc/longhaul/rabbitmq-url}" {
        draft.secrets.clear();
    }
    if let Some(part) = vhost {
        let text = format!(
            "the end of the address in the Secret: /{}",
            percent(part.text().unwrap_or_default().trim_start_matches('/'))
        );
        ledger.change(&part, text);
    }
    measures(values, ledger);
    draft.source = Source::Rabbitmq { url, queue, declare: None };
    Some(draft)
}

fn kafka(name: &str, trigger: &Trigger<'_>, ledger: &mut Ledger, report: &mut Report) -> Option<Draft> {
    let values = &trigger.metadata;
    let (servers, topic) = (values.get("bootstrapServers"), values.get("topic"));
    if values.get("bootstrapServersFromEnv").is_none() && servers.is_none() {
        missing(values, "bootstrapServers", report);
        return None;
    }
    let Some(topic) = topic else {
        missing(values, "topic", report);
        return None;
    };
    let mut kafka = Kafka { topics: topic.texts(), ..Kafka::default() };
    ledger.carry(&topic, "source.kafka.topics");
    match &servers {
        Some(servers) => {
            kafka.bootstrap_servers = servers.texts();
            ledger.carry(servers, "source.kafka.bootstrap_servers");
        }
        None => {
            kafka.bootstrap_servers = vec!["kafka:9092".to_owned()];
            if let Some(part) = values.get("bootstrapServersFromEnv") {
                ledger.change(&part, "write the value of this variable as source.kafka.bootstrap_servers, in place of kafka:9092");
            }
        }
    }
    kafka.group = name.to_owned();
    match values.get("consumerGroup") {
        Some(part) => {
            kafka.group = part.text().unwrap_or_default();
            ledger.carry(&part, "source.kafka.group: the bridge continues at the committed offsets");
        }
        None => ledger.remark(
            values,
            Fate::Changes,
            format!(
                "source.kafka.group: {name}; name the group of the containers to continue at its offsets"
            ),
        ),
    }
    // KEDA's default is latest.
    let policy = values.get("offsetResetPolicy");
    kafka.latest = policy.as_ref().and_then(|part| part.text()).is_none_or(|text| text == "latest");
    match policy {
        Some(part) => ledger.carry(&part, "source.kafka.start"),
        None => ledger.remark(values, Fate::Carries, "start: latest, KEDA's default"),
    }
    let mut draft = Draft::new(name, Source::Kafka(Kafka::default()), Sink::Worker);
    kafka.options = options(trigger, &mut draft, ledger);
    measures(values, ledger);
    draft.source = Source::Kafka(kafka);
    Some(draft)
}

fn options(trigger: &Trigger<'_>, draft: &mut Draft, ledger: &mut Ledger) -> Vec<(String, String)> {
    let values = &trigger.metadata;
    let (sasl, tls) = (values.get("sasl"), values.get("tls"));
    let mechanism = match sasl.as_ref().and_then(|part| part.text()).as_deref() {
        Some("plaintext") => Some("PLAIN"),
        Some("scram_sha256") => Some("SCRAM-SHA-256"),
        Some("scram_sha512") => Some("SCRAM-SHA-512"),
        Some("oauthbearer") => Some("OAUTHBEARER"),
        _ => None,
    };
    let is_tls = tls.as_ref().and_then(|part| part.text()).is_some_and(|text| text == "enable");
    let mut options = Vec::new();
    let protocol = match (is_tls, mechanism.is_some()) {
        (true, true) => "sasl_ssl",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (false, false) => "",
    };
    if !protocol.is_empty() {
        options.push(("security.protocol".to_owned(), protocol.to_owned()));
    }
    if let Some(mechanism) = mechanism {
        options.push(("sasl.mechanism".to_owned(), mechanism.to_owned()));
    }
    for part in tls.iter().chain(&sasl) {
        let text = part.text().unwrap_or_default();
        if matches!(text.as_str(), "enable" | "disable" | "none") || mechanism.is_some() {
            ledger.carry(
                part,
                format!(
                    "options: security.protocol: {}",
                    if protocol.is_empty() { "plaintext" } else { protocol }
                ),
            );
        } else {
            ledger.without(part, "write the options of librdkafka for this by hand");
        }
    }
    for (key, option) in [
        ("username", "sasl.username"),
        ("password", "sasl.password"),
        ("ca", "ssl.ca.pem"),
        ("cert", "ssl.certificate.pem"),
        ("key", "ssl.key.pem"),
    ] {
        if let Some((secret, secret_key)) = trigger.secret(key) {
            let value = draft.secret(&secret, &secret_key, &option.replace('.', "-"));
            options.push((option.to_owned(), value));
        } else if let Some(part) = values.get(key) {
            options.push((option.to_owned(), part.text().unwrap_or_default().replace("${", "$${")));
            ledger.carry(&part, format!("options: {option}"));
        }
    }
    options
}

/// The settings by which KEDA counts. longhaul needs none of them.
fn measures(values: &Part<'_>, ledger: &mut Ledger) {
    for (key, part) in values.entries() {
        if MEASURES.contains(&key) {
            ledger.improve(
                &part,
                "not needed: the open requests set the number of replicas, one for each item",
            );
        } else if key.ends_with("FromEnv") && !matches!(key, "hostFromEnv" | "bootstrapServersFromEnv") {
            ledger.carry(
                &part,
                "the Secret behind this variable is mounted, if a container of the file names it",
            );
        }
    }
}

/// `max_in_flight`, and the settings of the scaler.
fn replicas(spec: &Part<'_>, ledger: &mut Ledger) -> u64 {
    for key in SCALING {
        if let Some(part) = spec.get(key) {
            ledger.improve(
                &part,
                "not needed: Knative scales the service by its open requests, to zero without them",
            );
        }
    }
    match spec.get("maxReplicaCount") {
        Some(part) => {
            let most = part.number().unwrap_or(REPLICAS).clamp(1, 10_000);
            ledger.improve(
                &part,
                format!("max_in_flight: {most}, and the service's max-scale: an exact limit"),
            );
            most
        }
        None => {
            ledger.remark(
                spec,
                Fate::Carries,
                format!("max_in_flight: {REPLICAS}, KEDA's default of maxReplicaCount"),
            );
            REPLICAS
        }
    }
}

/// The longest attempt and the number of attempts of a Job.
fn job(spec: &Part<'_>, ledger: &mut Ledger) -> (Option<Duration>, Option<u64>) {
    let Some(job) = spec.get("jobTargetRef") else { return (None, None) };
    let timeout = job.get("activeDeadlineSeconds").and_then(|part| {
        let seconds = part.number().filter(|seconds| (1..=31_536_000).contains(seconds))?;
        ledger.carry(&part, "sink.timeout, and a minute less as timeoutSeconds of the Knative Service");
        Some(Duration::from_secs(seconds.max(120)))
    });
    let attempts = job.get("backoffLimit").and_then(|part| {
        let retries = part.number()?.min(254);
        ledger.improve(
            &part,
            format!("retry.attempts: {}, the first included, with growing waits", retries + 1),
        );
        Some(retries + 1)
    });
    for key in [
        "parallelism",
        "completions",
        "completionMode",
        "ttlSecondsAfterFinished",
        "podFailurePolicy",
        "selector",
        "suspend",
    ] {
        if let Some(part) = job.get(key) {
            ledger.improve(&part, "not needed: an item is a request, not a Job");
        }
    }
    (timeout, attempts)
}

/// The address of the Deployment that a ScaledObject scales.
fn target(spec: &Part<'_>, name: &str, namespace: Option<&str>, ledger: &mut Ledger) -> String {
    let reference = spec.get("scaleTargetRef");
    let service = reference.as_ref().and_then(|part| part.get("name")).and_then(|name| name.text());
    let url = format!(
        "http://{}.{}.svc.cluster.local",
        service.as_deref().unwrap_or(name),
        namespace.unwrap_or("default")
    );
    if let Some(part) = reference {
        ledger.change(&part, format!("sink.url: {url}. These containers take items from the broker themselves: make a Knative Service of them with one item per request, by longhaul-worker (docs/worker.md)"));
    }
    url
}
