//! RabbitmqSource and KafkaSource of Knative Eventing.

use longhaul_places::Report;

use super::delivery::{delivery, overrides, sink};
use super::draft::{Declare, Draft, Kafka, Source};
use super::ledger::{Fate, Ledger, Part};

/// Name and namespace of an object.
pub(super) fn metadata(root: &Part<'_>, ledger: &mut Ledger) -> (String, Option<String>) {
    ledger.open(root);
    for key in ["apiVersion", "kind"] {
        if let Some(part) = root.get(key) {
            ledger.silent(&part);
        }
    }
    let name = root.at(&["metadata", "name"]);
    let namespace = root.at(&["metadata", "namespace"]);
    if let Some(name) = &name {
        ledger.carry(name, "the name of the pipeline, and the prefix of the objects");
    }
    if let Some(namespace) = &namespace {
        ledger.carry(namespace, "the namespace of the bridge");
    }
    if let Some(status) = root.get("status") {
        ledger.silent(&status);
    }
    let name = name.and_then(|name| name.text()).unwrap_or_else(|| "work".to_owned());
    (name, namespace.and_then(|namespace| namespace.text()))
}

/// Reports that a required value is missing.
pub(super) fn missing(root: &Part<'_>, key: &str, report: &mut Report) {
    report.at(
        root.at,
        &root.path.key(key),
        format!("`{key}` is missing"),
        format!("add `{key}:`, or convert another document"),
    );
}

pub(super) fn rabbitmq(root: &Part<'_>, ledger: &mut Ledger, report: &mut Report) -> Vec<Draft> {
    let (name, namespace) = metadata(root, ledger);
    let Some(spec) = root.get("spec") else {
        missing(root, "spec", report);
        return Vec::new();
    };
    // The first versions had the queue in a mapping of its own.
    let old = ["queueConfig", "queue_config"].iter().find_map(|key| spec.at(&[key, "name"]));
    let resources = match (spec.get("rabbitmqResourcesConfig"), &old) {
        (Some(resources), _) => resources,
        (None, Some(_)) => spec.clone(),
        (None, None) => {
            missing(&spec, "rabbitmqResourcesConfig", report);
            return Vec::new();
        }
    };
    let Some(queue) = resources.get("queueName").or(old) else {
        missing(&resources, "queueName", report);
        return Vec::new();
    };
    let Some(sink) = sink(&spec, namespace.as_deref(), ledger, report) else { return Vec::new() };
    let queue_name = queue.text().unwrap_or_default();
    ledger.carry(&queue, "source.rabbitmq.queue");
    let source = Source::Rabbitmq { url: String::new(), queue: queue_name.clone(), declare: None };
    let mut draft = Draft::new(&name, source, sink);
    draft.namespace = namespace.clone();
    let url = rabbitmq_url(&spec, &resources, namespace.as_deref(), &mut draft, ledger);
    let declare = declare(&resources, ledger);
    draft.source = Source::Rabbitmq { url, queue: queue_name.clone(), declare };
    draft.max_in_flight = 1;
    match resources.get("parallelism") {
        Some(part) => {
            draft.max_in_flight = part.number().unwrap_or(1).clamp(1, 1000);
            ledger.improve(&part, format!("max_in_flight: {}, which is also the prefetch; the source prefetches 100 messages whatever this says", draft.max_in_flight));
        }
        None => ledger.remark(
            root,
            Fate::Changes,
            "max_in_flight: 1, the source's default parallelism; raise it to the service's max-scale",
        ),
    }
    delivery(&spec, 1, &mut draft, ledger);
    overrides(&spec, &mut draft, ledger);
    let place = format!(
        "/apis/v1/namespaces/{}/rabbitmqsources/{name}#{queue_name}",
        namespace.as_deref().unwrap_or("default")
    );
    // The default has the name of the pipeline, which may differ.
    if draft.name != name {
        draft.event.push(("source".to_owned(), place));
    }
    if draft.dead_letter.is_none() {
        ledger.remark(root, Fate::Improves, "a message that fails is kept and shown; the source drops it, or gives it to the queue's dead-letter exchange");
    }
    ledger.remark(root, Fate::Changes, "scale the source to zero or delete it before the bridge starts. Without `predeclared` its deletion also deletes its Queue object, and with it the queue: set deletionPolicy: retain on that object first");
    vec![draft]
}

fn rabbitmq_url(
    spec: &Part<'_>,
    resources: &Part<'_>,
    namespace: Option<&str>,
    draft: &mut Draft,
    ledger: &mut Ledger,
) -> String {
    let vhost = resources.get("vhost");
    if let Some(vhost) = &vhost {
        ledger.carry(vhost, "the virtual host in source.rabbitmq.url");
    }
    let vhost = vhost.and_then(|vhost| vhost.text()).unwrap_or_default();
    let vhost = match vhost.trim_start_matches('/') {
        "" => String::new(),
        name => format!("/{}", percent(name)),
    };
    let cluster = spec.get("rabbitmqClusterReference");
    let secret = cluster.as_ref().and_then(|cluster| cluster.get("connectionSecret"));
    if let Some(secret) = secret {
        let name = secret.get("name").unwrap_or_else(|| secret.clone()).text().unwrap_or_default();
        let user = draft.secret(&name, "username", "user");
        let password = draft.secret(&name, "password", "password");
        let host = draft.secret(&name, "uri", "host");
        let port = draft.secret(&name, "port", "port");
        ledger.carry(&secret, format!("source.rabbitmq.url, from the keys username, password, uri and port of Secret {name}. `uri` must be a host without scheme, `port` must be there, and special characters in the password must be percent-encoded"));
        if let Some(part) = cluster.as_ref().and_then(|cluster| cluster.get("namespace")) {
            ledger.carry(&part, "the namespace of that Secret, which must be that of the bridge");
        }
        return format!("amqp://{user}:{password}@{host}:{port}{vhost}");
    }
    if let Some(broker) = ["broker", "brokers"].iter().find_map(|key| spec.get(key)) {
        return old_address(spec, &broker, draft, ledger) + &vhost;
    }
    let reference = cluster.as_ref().and_then(|cluster| cluster.get("name"));
    let Some(name) = reference.as_ref().and_then(|name| name.text()) else {
        ledger.remark(
            spec,
            Fate::Changes,
            "no RabbitMQ cluster is named: write the address into Secret longhaul, key rabbitmq-url",
        );
        return "${file:/etc/longhaul/rabbitmq-url}".to_owned();
    };
    let home = cluster.as_ref().and_then(|cluster| cluster.get("namespace"));
    let secret = format!("{name}-default-user");
    if let Some(reference) = &reference {
        ledger.carry(reference, format!("source.rabbitmq.url, with user and password of Secret {secret}, which must be in the bridge's namespace"));
    }
    if let Some(home) = &home {
        ledger.carry(home, "the host in source.rabbitmq.url");
    }
    let home = home.and_then(|home| home.text());
    let home = home.as_deref().or(namespace).unwrap_or("default");
    let user = draft.secret(&secret, "username", "user");
    let password = draft.secret(&secret, "password", "password");
    format!("amqp://{user}:{password}@{name}.{home}.svc:5672{vhost}")
}

/// The address in the first versions: host and port, and a Secret for each of user and password.
fn old_address(spec: &Part<'_>, broker: &Part<'_>, draft: &mut Draft, ledger: &mut Ledger) -> String {
    let place = broker.text().unwrap_or_default();
    ledger.carry(broker, "the host in source.rabbitmq.url");
    let mut login = Vec::new();
    for (key, file) in [("user", "user"), ("password", "password")] {
        let Some(part) = spec.get(key) else { continue };
        let reference = part.get("secretKeyRef").unwrap_or_else(|| part.clone());
        let text = |key: &str| reference.get(key).and_then(|value| value.text());
        if let (Some(name), Some(secret_key)) = (text("name"), text("key")) {
            login.push(draft.secret(&name, &secret_key, file));
            ledger.carry(&part, format!("source.rabbitmq.url, from Secret {name}"));
        }
    }
    let login = if login.len() == 2 { login.join(":") + "@" } else { String::new() };
    format!("amqp://{login}{}", place.trim_end_matches('/'))
}

/// The queue to create, unless the source says that it exists.
fn declare(resources: &Part<'_>, ledger: &mut Ledger) -> Option<Declare> {
    let exchange = resources.get("exchangeName");
    let predeclared = resources.get("predeclared");
    if let Some(part) = &predeclared {
        ledger.carry(part, "whether source.rabbitmq.declare creates the queue");
    }
    if predeclared.is_some_and(|part| part.is_true()) {
        if let Some(exchange) = &exchange {
            ledger.carry(exchange, "nothing to do: the binding of a predeclared queue exists");
        }
        return None;
    }
    let mut bind = Vec::new();
    if let Some(exchange) = exchange {
        ledger.change(
            &exchange,
            "source.rabbitmq.declare.bind; longhaul binds the queue, and the exchange must exist",
        );
        bind.push((exchange.text().unwrap_or_default(), String::new()));
    }
    bind.retain(|(exchange, _)| !exchange.is_empty() && exchange != "amq.default");
    Some(Declare { classic: false, bind })
}

pub(super) fn percent(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

pub(super) fn kafka(root: &Part<'_>, ledger: &mut Ledger, report: &mut Report) -> Vec<Draft> {
    let (name, namespace) = metadata(root, ledger);
    let Some(spec) = root.get("spec") else {
        missing(root, "spec", report);
        return Vec::new();
    };
    let (servers, topics) = (spec.get("bootstrapServers"), spec.get("topics"));
    let (Some(servers), Some(topics)) = (servers, topics) else {
        for key in ["bootstrapServers", "topics"].into_iter().filter(|key| spec.get(key).is_none()) {
            missing(&spec, key, report);
        }
        return Vec::new();
    };
    let Some(sink) = sink(&spec, namespace.as_deref(), ledger, report) else { return Vec::new() };
    let mut kafka = Kafka {
        bootstrap_servers: servers.texts(),
        topics: topics.texts(),
        group: name.clone(),
        ..Kafka::default()
    };
    ledger.carry(&servers, "source.kafka.bootstrap_servers");
    ledger.carry(&topics, "source.kafka.topics");
    match spec.get("consumerGroup") {
        Some(group) => {
            kafka.group = group.text().unwrap_or_default();
            ledger.carry(&group, "source.kafka.group: the bridge continues at the committed offsets");
        }
        None => ledger.remark(root, Fate::Changes, format!("source.kafka.group: {name}. The source made up a group, knative-kafka-source-…: name that one to continue at its offsets")),
    }
    let ordering = spec.get("ordering");
    kafka.by_partition = ordering.as_ref().and_then(|part| part.text()).is_none_or(|text| text == "ordered");
    if let Some(part) = &ordering {
        ledger.improve(
            part,
            if kafka.by_partition {
                "order: partition; `order: key` runs several items of a partition at once"
            } else {
                "order: none, with max_in_flight as the exact limit"
            },
        );
    } else {
        ledger.remark(root, Fate::Carries, "order: partition, the source's default");
    }
    let offset = spec.get("initialOffset");
    kafka.latest = offset.as_ref().and_then(|part| part.text()).is_none_or(|text| text == "latest");
    if let Some(part) = &offset {
        ledger.carry(part, "source.kafka.start");
    } else {
        ledger.remark(root, Fate::Carries, "start: latest, the source's default");
    }
    let mut draft = Draft::new(&name, Source::Kafka(Kafka::default()), sink);
    draft.namespace.clone_from(&namespace);
    if let Some(net) = spec.get("net") {
        kafka.options = options(&net, &mut draft, ledger);
    }
    if let Some(consumers) = spec.get("consumers") {
        draft.replicas = consumers.number().unwrap_or(1).clamp(1, 3);
        ledger.change(
            &consumers,
            format!("{} replicas of the bridge: one replica reads all partitions at once", draft.replicas),
        );
    }
    let ordered = kafka.by_partition;
    draft.max_in_flight = if ordered { 20 } else { 50 };
    ledger.remark(
        root,
        Fate::Improves,
        format!(
            "max_in_flight: {}, an exact limit. The source has {}; set the service's max-scale here",
            draft.max_in_flight,
            if ordered { "one request per partition" } else { "up to 99 requests" }
        ),
    );
    annotations(root, ledger);
    delivery(&spec, 11, &mut draft, ledger);
    overrides(&spec, &mut draft, ledger);
    let topic = kafka.topics.first().cloned().unwrap_or_default();
    if kafka.topics.len() == 1 {
        let place = format!(
            "/apis/v1/namespaces/{}/kafkasources/{name}#{topic}",
            namespace.as_deref().unwrap_or("default")
        );
        if draft.name != name {
            draft.event.push(("source".to_owned(), place));
        }
    }
    draft.source = Source::Kafka(kafka);
    if draft.dead_letter.is_none() {
        ledger.remark(
            root,
            Fate::Improves,
            "a record that fails for good is kept and shown; the source commits past it and drops it",
        );
    }
    ledger.remark(root, Fate::Changes, "delete the source before the bridge starts: both would be members of one group with different assignors");
    vec![draft]
}

/// `net.tls` and `net.sasl` as options of librdkafka.
fn options(net: &Part<'_>, draft: &mut Draft, ledger: &mut Ledger) -> Vec<(String, String)> {
    let mut options = Vec::new();
    let is_on = |section: &str| net.at(&[section, "enable"]).is_some_and(|part| part.is_true());
    let (tls, sasl) = (is_on("tls"), is_on("sasl"));
    let protocol = match (tls, sasl) {
        (true, true) => "sasl_ssl",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (false, false) => "plaintext",
    };
    options.push(("security.protocol".to_owned(), protocol.to_owned()));
    for section in ["tls", "sasl"] {
        if let Some(enable) = net.at(&[section, "enable"]) {
            ledger.carry(&enable, format!("options: security.protocol: {protocol}"));
        }
    }
    let keys = [
        ("tls", "caCert", "ssl.ca.pem", tls),
        ("tls", "cert", "ssl.certificate.pem", tls),
        ("tls", "key", "ssl.key.pem", tls),
        ("sasl", "user", "sasl.username", sasl),
        ("sasl", "password", "sasl.password", sasl),
        ("sasl", "type", "sasl.mechanism", sasl),
    ];
    for (section, key, option, used) in keys {
        let Some(part) = net.at(&[section, key]) else { continue };
        let reference = part.get("secretKeyRef").unwrap_or_else(|| part.clone());
        let names = (
            reference.get("name").and_then(|name| name.text()),
            reference.get("key").and_then(|key| key.text()),
        );
        match names {
            (Some(secret), Some(secret_key)) if used => {
                let value = draft.secret(&secret, &secret_key, &option.replace('.', "-"));
                options.push((option.to_owned(), value));
                ledger.carry(&part, format!("options: {option}, from Secret {secret}"));
            }
            _ => ledger.without(&part, "not in use: the section is not enabled, or no Secret is named"),
        }
    }
    if sasl && !options.iter().any(|(name, _)| name == "sasl.mechanism") {
        options.push(("sasl.mechanism".to_owned(), "PLAIN".to_owned()));
        ledger.remark(net, Fate::Carries, "options: sasl.mechanism: PLAIN, the source's default");
    }
    options
}

fn annotations(root: &Part<'_>, ledger: &mut Ledger) {
    let Some(metadata) = root.get("metadata") else { return };
    for (key, part) in metadata.get("annotations").iter().flat_map(|part| part.entries()) {
        if key.contains("autoscaling") {
            ledger.without(&part, "it scales the source. The bridge is not scaled by lag by default: deploy/components/keda does that; the service follows the open requests");
        }
    }
    for (key, part) in metadata.get("labels").iter().flat_map(|part| part.entries()) {
        if key.ends_with("key-type") {
            match part.text().as_deref() {
                Some("string") => ledger.carry(&part, "a key that is text becomes partitionkey as it is"),
                _ => ledger.change(&part, "a key that is not text becomes partitionkey in base64"),
            }
        }
    }
}
