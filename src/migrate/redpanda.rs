//! A pipeline of Redpanda Connect (Benthos): an input of RabbitMQ or Kafka, and an output to HTTP.

use std::time::Duration;

use longhaul_places::Report;

use super::draft::{DeadLetter, Declare, Draft, Kafka, Sink, Source};
use super::ledger::{Fate, Ledger, Part};
use super::text::{default_host, duration, interpolated, quoted, span};

/// Outputs that wrap another one in the same way.
const WRAPPERS: [&str; 2] = ["retry", "drop_on"];

pub(super) fn convert(root: &Part<'_>, ledger: &mut Ledger, report: &mut Report) -> Vec<Draft> {
    ledger.open(root);
    let (Some(input), Some(output)) = (root.get("input"), root.get("output")) else {
        report.at(
            root.at,
            &root.path,
            "a pipeline needs `input` and `output`",
            "add the missing one, or convert another document",
        );
        return Vec::new();
    };
    let brokered = input.at(&["broker", "inputs"]);
    let inputs = brokered.as_ref().map_or_else(|| vec![input.clone()], Part::items);
    let mut drafts = Vec::new();
    for input in &inputs {
        drafts.extend(source(input, ledger));
    }
    if drafts.is_empty() {
        let help = "longhaul reads amqp_0_9, kafka, kafka_franz and redpanda";
        report.at(input.at, &input.path, "this input is neither RabbitMQ nor Kafka", help);
        return Vec::new();
    }
    if !sink(&output, &mut drafts, ledger) {
        let help = "longhaul writes to http_client, also inside of retry, drop_on and fallback";
        report.at(output.at, &output.path, "this output is not a request over HTTP", help);
        return Vec::new();
    }
    for processor in root.at(&["pipeline", "processors"]).iter().flat_map(|part| part.items()) {
        ledger.without(&processor, "longhaul does not change items: do this in the worker, or keep a pipeline that writes to another topic");
    }
    for processor in
        input.get("processors").iter().chain(&output.get("processors")).flat_map(|part| part.items())
    {
        ledger.without(&processor, "longhaul does not change items: do this in the worker");
    }
    for (key, text) in [
        ("http", "admin.listen: health, metrics and the live page"),
        ("metrics", "/metrics on admin.listen, for Prometheus"),
        ("logger", "the flags --log and --log-format"),
        ("shutdown_timeout", "drain.timeout, which covers the longest item"),
        ("shutdown_delay", "not needed: the other replicas know a replica that drains"),
    ] {
        if let Some(part) = root.get(key) {
            ledger.change(&part, text);
        }
    }
    ledger.remark(root, Fate::Improves, "finished records behind an unfinished one are remembered over restarts, and an ack timeout of RabbitMQ runs nothing twice");
    drafts
}

/// Converts placeholders, and says what becomes of each.
fn value(part: &Part<'_>, ledger: &mut Ledger) -> String {
    let (text, variables) = interpolated(&part.text().unwrap_or_default());
    for (name, default) in variables {
        let note = match default {
            Some(default) => format!("set the variable {name} of the pod; the default {default:?} is gone"),
            None => format!("set the variable {name} of the pod"),
        };
        ledger.remark(part, Fate::Changes, note);
    }
    text
}

fn values(part: &Part<'_>, ledger: &mut Ledger) -> Vec<String> {
    let all: Vec<String> = part.items().iter().map(|item| value(item, ledger)).collect();
    all.iter()
        .flat_map(|text| text.split(','))
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect()
}

fn source(input: &Part<'_>, ledger: &mut Ledger) -> Option<Draft> {
    // The first versions named the kind beside its settings.
    if let Some(kind) = input.get("type") {
        ledger.silent(&kind);
    }
    let label = input.get("label");
    if let Some(label) = &label {
        ledger.carry(label, "the name of the pipeline");
    }
    let label = label.and_then(|label| label.text()).filter(|label| !label.is_empty());
    for (key, part) in input.entries() {
        let source = match key {
            "amqp_0_9" | "amqp" => rabbitmq(&part, ledger),
            "kafka" | "kafka_franz" | "redpanda" | "kafka_balanced" => kafka(&part, label.as_deref(), ledger),
            _ => continue,
        };
        let (source, prefetch) = source?;
        let name = label.clone().unwrap_or_else(|| match &source {
            Source::Rabbitmq { queue, .. } => queue.clone(),
            Source::Kafka(kafka) => kafka.topics.first().cloned().unwrap_or_default(),
        });
        let mut draft = Draft::new(&name, source, Sink::Worker);
        draft.max_in_flight = prefetch.unwrap_or(20).clamp(1, 10_000);
        return Some(draft);
    }
    ledger.without(input, "longhaul reads only RabbitMQ and Kafka");
    None
}

fn rabbitmq(part: &Part<'_>, ledger: &mut Ledger) -> Option<(Source, Option<u64>)> {
    let address = part.get("urls").or_else(|| part.get("url"))?;
    let urls = values(&address, ledger);
    let queue = part.get("queue")?;
    ledger.carry(&queue, "source.rabbitmq.queue");
    let first = urls.first().map(|url| default_host(url)).unwrap_or_default();
    if urls.len() > 1 {
        ledger.change(&address, "source.rabbitmq.url has one address: use a Service or a name that leads to all nodes; here it is the first");
    } else {
        ledger.carry(
            &address,
            "source.rabbitmq.url; move a password into a Secret: ${file:/etc/longhaul/rabbitmq-url}",
        );
    }
    let prefetch = part.get("prefetch_count");
    if let Some(part) = &prefetch {
        ledger.improve(part, "max_in_flight: requests and prefetch are the same number, so that no item waits unacked behind another one");
    }
    let mut declare = None;
    if let Some(queue_declare) = part.get("queue_declare") {
        let enabled = queue_declare.get("enabled").is_some_and(|part| part.is_true());
        ledger.change(&queue_declare, "source.rabbitmq.declare makes a durable queue: classic, as here; quorum is better. auto_delete has no counterpart");
        declare = enabled.then(|| Declare { classic: true, bind: Vec::new() });
    }
    for binding in part.get("bindings_declare").iter().flat_map(|part| part.items()) {
        let text = |key: &str| binding.get(key).and_then(|part| part.text()).unwrap_or_default();
        if text("exchange").is_empty() {
            continue;
        }
        declare
            .get_or_insert_with(|| Declare { classic: true, bind: Vec::new() })
            .bind
            .push((text("exchange"), text("key")));
        ledger.carry(&binding, "source.rabbitmq.declare.bind");
    }
    for (key, text) in [
        ("consumer_tag", "longhaul makes a tag of its own"),
        ("prefetch_size", "the prefetch counts items"),
        ("auto_ack", "an item is acked after the answer"),
        (
            "nack_reject_patterns",
            "the answer's status decides: sink.reject_on, or the header Longhaul-Outcome",
        ),
    ] {
        if let Some(part) = part.get(key) {
            ledger.change(&part, text);
        }
    }
    for (key, part) in part.get("tls").iter().flat_map(|part| part.entries()) {
        match key {
            "enabled" => ledger.change(&part, "write amqps:// in the address"),
            "root_cas_file" => ledger.change(&part, "write it as source.rabbitmq.tls.ca_file"),
            _ => ledger.without(&part, "write the keys of source.rabbitmq.tls by hand"),
        }
    }
    let source = Source::Rabbitmq { url: first, queue: queue.text().unwrap_or_default(), declare };
    Some((source, prefetch.and_then(|part| part.number())))
}

fn kafka(part: &Part<'_>, label: Option<&str>, ledger: &mut Ledger) -> Option<(Source, Option<u64>)> {
    let servers = part.get("seed_brokers").or_else(|| part.get("addresses"))?;
    let topics = part.get("topics")?;
    let mut kafka = Kafka {
        bootstrap_servers: values(&servers, ledger),
        topics: values(&topics, ledger),
        ..Kafka::default()
    };
    ledger.carry(&servers, "source.kafka.bootstrap_servers");
    ledger.carry(&topics, "source.kafka.topics");
    for topic in &mut kafka.topics {
        if let Some((name, partitions)) = topic.split_once(':') {
            ledger.change(&topics, format!("source.kafka.topics: all partitions of {name}; longhaul does not read single ones ({partitions})"));
            *topic = name.to_owned();
        }
    }
    if part.get("regexp_topics").is_some_and(|part| part.is_true()) {
        kafka.topics = kafka
            .topics
            .iter()
            .map(|topic| if topic.starts_with('^') { topic.clone() } else { format!("^{topic}") })
            .collect();
    }
    if let Some(part) = part.get("regexp_topics") {
        ledger.carry(&part, "a topic that starts with ^ is a regular expression");
    }
    kafka.group = label.unwrap_or("longhaul").to_owned();
    match part.get("consumer_group") {
        Some(part) => {
            kafka.group = value(&part, ledger);
            ledger.carry(&part, "source.kafka.group: the bridge continues at the committed offsets");
        }
        None => ledger.remark(
            part,
            Fate::Changes,
            format!("source.kafka.group: {}; without a group Connect reads partitions alone", kafka.group),
        ),
    }
    for key in ["start_from_oldest", "start_offset"] {
        if let Some(part) = part.get(key) {
            kafka.latest = matches!(part.text().as_deref(), Some("false" | "latest"));
            ledger.carry(&part, "source.kafka.start");
        }
    }
    let limit = part.get("checkpoint_limit");
    if let Some(part) = &limit {
        ledger.improve(
            part,
            "20,000 unfinished records of a partition fit into one commit, and survive a restart",
        );
    }
    options(part, &mut kafka, ledger);
    for key in [
        "commit_period",
        "max_processing_period",
        "session_timeout",
        "rebalance_timeout",
        "heartbeat_interval",
        "fetch_buffer_cap",
        "group",
        "client_id",
        "rack_id",
        "instance_id",
        "extract_tracing_map",
        "multi_header",
        "auto_replay_nacks",
        "batching",
        "target_version",
        "fetch_max_bytes",
        "fetch_min_bytes",
        "fetch_max_partition_bytes",
        "fetch_max_wait",
        "metadata_max_age",
        "transaction_isolation_level",
        "partition_buffer_bytes",
        "topic_lag_refresh_period",
    ] {
        if let Some(part) = part.get(key) {
            ledger.change(&part, "longhaul has a default for long work; a key of source.kafka or source.kafka.options if you need another value");
        }
    }
    Some((Source::Kafka(kafka), None))
}

fn options(part: &Part<'_>, kafka: &mut Kafka, ledger: &mut Ledger) {
    let tls = part.at(&["tls", "enabled"]);
    let is_tls = tls.as_ref().is_some_and(|part| part.is_true());
    if let Some(part) = &tls {
        ledger.carry(part, "options: security.protocol");
    }
    if let Some(part) = part.at(&["tls", "root_cas_file"]) {
        kafka.options.push(("ssl.ca.location".to_owned(), value(&part, ledger)));
        ledger.carry(&part, "options: ssl.ca.location");
    }
    let sasl: Vec<Part<'_>> = part.get("sasl").iter().flat_map(|part| part.items()).collect();
    let mut has_sasl = false;
    for login in sasl.iter().take(1) {
        for (key, option) in [
            ("mechanism", "sasl.mechanism"),
            ("username", "sasl.username"),
            ("user", "sasl.username"),
            ("password", "sasl.password"),
        ] {
            if let Some(part) = login.get(key) {
                let text = value(&part, ledger);
                if text == "none" {
                    continue;
                }
                has_sasl = true;
                kafka.options.push((option.to_owned(), text));
                ledger.carry(&part, format!("options: {option}; move a password into a Secret: ${{file:…}}"));
            }
        }
    }
    let protocol = match (is_tls, has_sasl) {
        (true, true) => "sasl_ssl",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (false, false) => return,
    };
    kafka.options.insert(0, ("security.protocol".to_owned(), protocol.to_owned()));
}

/// Reads the output into all pipelines. Returns whether it is a request over HTTP.
fn sink(output: &Part<'_>, drafts: &mut [Draft], ledger: &mut Ledger) -> bool {
    if let Some(label) = output.get("label") {
        ledger.silent(&label);
    }
    for key in ["type", "max_in_flight"] {
        if let Some(part) = output.get(key) {
            ledger.silent(&part);
        }
    }
    for wrapper in WRAPPERS {
        let Some(part) = output.get(wrapper) else { continue };
        for (key, inner) in part.entries().into_iter().filter(|(key, _)| *key != "output") {
            ledger.improve(&inner, format!("`{key}` is not needed: retries have a count, a budget and growing waits, and nothing is dropped"));
        }
        return part.get("output").is_some_and(|inner| sink(&inner, drafts, ledger));
    }
    if let Some(fallback) = output.get("fallback").or_else(|| output.get("try")) {
        let outputs = fallback.items();
        let Some((first, others)) = outputs.split_first() else { return false };
        for other in others {
            dead_letter(other, drafts, ledger);
        }
        return sink(first, drafts, ledger);
    }
    let Some(http) = output.get("http_client") else { return false };
    request(&http, drafts, ledger);
    true
}

/// The second output of `fallback` takes what the first one refuses: a dead letter.
fn dead_letter(output: &Part<'_>, drafts: &mut [Draft], ledger: &mut Ledger) {
    let text = |kind: &str, key: &str| output.at(&[kind, key]).and_then(|part| part.text());
    let url = output.at(&["http_client", "url"]);
    let target = if let Some(url) = url {
        Some(DeadLetter::Http(value(&url, ledger)))
    } else if let Some(key) =
        text("amqp_0_9", "key").filter(|_| text("amqp_0_9", "exchange").is_none_or(|name| name.is_empty()))
    {
        Some(DeadLetter::Rabbitmq(key))
    } else {
        ["kafka", "kafka_franz", "redpanda"]
            .iter()
            .find_map(|kind| text(kind, "topic"))
            .map(DeadLetter::Kafka)
    };
    let mut is_used = false;
    for draft in drafts.iter_mut().filter(|draft| draft.dead_letter.is_none()) {
        let fits = matches!(
            (&target, &draft.source),
            (Some(DeadLetter::Http(_)), _)
                | (Some(DeadLetter::Rabbitmq(_)), Source::Rabbitmq { .. })
                | (Some(DeadLetter::Kafka(_)), Source::Kafka(_))
        );
        if fits {
            draft.dead_letter.clone_from(&target);
            is_used = true;
        }
    }
    if is_used {
        ledger.improve(output, "dead_letter: written and confirmed before the item leaves its broker; in the source's cluster unless you name another one");
        return;
    }
    ledger.without(output, "write it as dead_letter by hand, with the address of its broker");
}

fn request(http: &Part<'_>, drafts: &mut [Draft], ledger: &mut Ledger) {
    let url = http.get("url").map(|part| {
        let text = value(&part, ledger);
        if text.contains("$${!") {
            ledger.change(
                &part,
                "sink.url is one address for all items: a part of it is computed from the item here",
            );
        } else {
            ledger.carry(&part, "sink.url");
        }
        text
    });
    let time = |key: &str| {
        http.get(key)
            .and_then(|part| duration(&part.text()?).filter(|time| !time.is_zero()).map(|time| (part, time)))
    };
    for draft in drafts.iter_mut() {
        draft.sink = Sink::Url(url.clone().unwrap_or_default());
    }
    match time("timeout") {
        Some((part, timeout)) => {
            drafts.iter_mut().for_each(|draft| draft.timeout = Some(timeout));
            ledger.carry(&part, format!("sink.timeout: {}", span(timeout)));
        }
        None => ledger.remark(http, Fate::Improves, "sink.timeout: 4h. Connect ends a request after 5 s"),
    }
    if let Some(part) = http.get("retries") {
        let attempts = part.number().unwrap_or(3).min(254) + 1;
        drafts.iter_mut().for_each(|draft| draft.attempts = Some(attempts));
        ledger.improve(&part, format!("retry.attempts: {attempts}, the first included; then the item goes to the dead letter, or is kept"));
    }
    if let Some((part, backoff)) = time("retry_period") {
        drafts.iter_mut().for_each(|draft| draft.backoff = Some(backoff.max(Duration::from_millis(1))));
        ledger.carry(&part, "retry.backoff");
    }
    if let Some((part, longest)) = time("max_retry_backoff") {
        let longest_of = |draft: &Draft| longest.max(draft.backoff.unwrap_or(Duration::from_secs(10)));
        drafts.iter_mut().for_each(|draft| draft.backoff_max = Some(longest_of(draft)));
        ledger.carry(&part, "retry.backoff_max");
    }
    if let Some(part) = http.get("max_in_flight") {
        if let Some(limit) = part.number() {
            drafts.iter_mut().for_each(|draft| draft.max_in_flight = limit.clamp(1, 10_000));
        }
        ledger.improve(&part, "max_in_flight, an exact limit of requests and of unacked items");
    }
    headers(http, drafts, ledger);
    if let Some(part) = http.get("drop_on") {
        let statuses: Vec<u64> = part
            .items()
            .iter()
            .filter_map(Part::number)
            .filter(|status| (300..=599).contains(status))
            .collect();
        drafts.iter_mut().for_each(|draft| draft.reject_on.clone_from(&statuses));
        ledger.improve(
            &part,
            "sink.reject_on: such an item goes to the dead letter, or is kept; Connect drops it",
        );
    }
    for (key, text) in [
        ("verb", "longhaul sends POST"),
        ("backoff_on", "429 and 503 wait as long as Retry-After says, up to retry.backoff_max"),
        ("successful_on", "2xx is success; the worker can say more with the header Longhaul-Outcome"),
        ("propagate_response", "`reply` writes the answer to a queue or topic, before the item is acked"),
        ("parallel", "max_in_flight"),
        ("batching", "one item is one request"),
        ("batch_as_multipart", "one item is one request"),
    ] {
        if let Some(part) = http.get(key) {
            ledger.change(&part, text);
        }
    }
}

fn headers(http: &Part<'_>, drafts: &mut [Draft], ledger: &mut Ledger) {
    for (name, part) in http.get("headers").iter().flat_map(|part| part.entries()) {
        let text = value(&part, ledger);
        if text.contains("$${!") {
            ledger.without(
                &part,
                "a header that is computed from the item: CloudEvent attributes are headers already",
            );
        } else if name.eq_ignore_ascii_case("content-type") {
            ledger.change(&part, "the content type of the item; give it to the message");
        } else {
            ledger.carry(&part, format!("sink.headers: {}", quoted(name)));
            drafts.iter_mut().for_each(|draft| draft.headers.push((name.to_owned(), text.clone())));
        }
    }
}
