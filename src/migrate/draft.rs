//! A pipeline before it is written, and the text of the configuration.

use std::fmt::Write as _;
use std::time::Duration;

use super::text::{expanded, quoted, span};

/// Defaults of the configuration.
const BUDGET: Duration = Duration::from_secs(6 * 3600);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// One pipeline. Texts in `url`, `options` and `headers` may hold placeholders of longhaul; the
/// others are plain.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub name: String,
    pub namespace: Option<String>,
    pub source: Source,
    pub sink: Sink,
    pub timeout: Option<Duration>,
    pub headers: Vec<(String, String)>,
    pub max_in_flight: u64,
    pub attempts: Option<u64>,
    pub backoff: Option<Duration>,
    pub backoff_max: Option<Duration>,
    pub dead_letter: Option<DeadLetter>,
    pub reject_on: Vec<u64>,
    pub event: Vec<(String, String)>,
    pub extensions: Vec<(String, String)>,
    pub replicas: u64,
    pub secrets: Vec<SecretFile>,
    /// A Knative Service to write, as YAML.
    pub worker: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Rabbitmq { url: String, queue: String, declare: Option<Declare> },
    Kafka(Kafka),
}

/// A queue that the bridge creates.
#[derive(Clone, Debug, Default)]
pub(super) struct Declare {
    pub classic: bool,
    /// Exchange and routing key.
    pub bind: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Kafka {
    pub bootstrap_servers: Vec<String>,
    pub topics: Vec<String>,
    pub group: String,
    pub by_partition: bool,
    pub latest: bool,
    pub options: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(super) enum Sink {
    Url(String),
    /// The Knative Service that is written beside the configuration.
    Worker,
    /// An object whose address only Knative Eventing knows: the text of `spec.sink`.
    Reference(String),
}

#[derive(Clone, Debug)]
pub(super) enum DeadLetter {
    Http(String),
    Rabbitmq(String),
    Kafka(String),
}

/// A key of a Secret that becomes a file below /etc/longhaul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretFile {
    pub secret: String,
    pub key: String,
    pub file: String,
}

impl Draft {
    pub fn new(name: &str, source: Source, sink: Sink) -> Self {
        Draft {
            name: super::text::name(name),
            namespace: None,
            source,
            sink,
            timeout: None,
            headers: Vec::new(),
            max_in_flight: 20,
            attempts: None,
            backoff: None,
            backoff_max: None,
            dead_letter: None,
            reject_on: Vec::new(),
            event: Vec::new(),
            extensions: Vec::new(),
            replicas: 1,
            secrets: Vec::new(),
            worker: None,
        }
    }

    /// Mounts a key of a Secret, and returns the placeholder for it.
    pub fn secret(&mut self, secret: &str, key: &str, file: &str) -> String {
        let file = format!("{}-{file}", self.name);
        let new = SecretFile { secret: secret.to_owned(), key: key.to_owned(), file: file.clone() };
        if !self.secrets.contains(&new) {
            self.secrets.push(new);
        }
        format!("${{file:/etc/longhaul/{file}}}")
    }

    /// The longest attempt: the configured one, or longhaul's default.
    pub fn longest(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(4 * 3600))
    }
}

/// Gives equal names of pipelines a number, since names must be unique in one file.
pub(super) fn separate_names(drafts: &mut [Draft]) {
    for index in 1..drafts.len() {
        let base = drafts[index].name.clone();
        let mut number = 2;
        while drafts[..index].iter().any(|other| other.name == drafts[index].name) {
            drafts[index].name = format!("{base}-{number}");
            number += 1;
        }
    }
}

/// Writes the configuration of pipelines that share a bridge.
pub(super) fn configuration(origin: &str, drafts: &[&Draft]) -> String {
    let mut text = format!(
        "# Made by `longhaul migrate` from {origin}. Every key that is missing has a default that is safe for work\n# of hours.\npipelines:\n"
    );
    for draft in drafts {
        pipeline(draft, &drafts[0].name, &mut text);
    }
    let longest = drafts.iter().map(|draft| draft.longest()).max().unwrap_or_default();
    let drain = span(Duration::from_secs((longest.as_secs() / 60 + 5) * 60));
    text += "admin:\n  listen: 0.0.0.0:9090\n  token: \"${file:/etc/longhaul/token}\"\n";
    text += "  url: \"http://${env:POD_IP}:9090\" # workers report their progress there\n";
    text += "# Replicas ask each other before they run an item a second time.\npeers: { dns: \"${env:PEERS}:9090\" }\n";
    let _ = writeln!(
        text,
        "# Longer than sink.timeout, shorter than the pod's terminationGracePeriodSeconds.\ndrain: {{ timeout: {drain} }}"
    );
    text
}

fn pipeline(draft: &Draft, prefix: &str, text: &mut String) {
    let _ = writeln!(text, "  - name: {}\n    source:", draft.name);
    match &draft.source {
        Source::Rabbitmq { url, queue, declare } => rabbitmq(url, queue, declare.as_ref(), text),
        Source::Kafka(kafka) => self::kafka(kafka, text),
    }
    *text += "    sink:\n";
    match &draft.sink {
        Sink::Url(url) => {
            let _ = writeln!(text, "      url: {}", expanded(url));
        }
        Sink::Worker => {
            let name = &draft.name;
            let _ = writeln!(
                text,
                "      url: \"http://{prefix}-{name}-worker.${{env:NAMESPACE}}.svc.cluster.local\""
            );
        }
        Sink::Reference(_) => {
            *text += "      # The key url is missing because the SinkBinding sets K_SINK.\n"
        }
    }
    let _ = writeln!(text, "      timeout: {}", span(draft.longest()));
    if !draft.headers.is_empty() {
        *text += "      headers:\n";
        for (name, value) in &draft.headers {
            let _ = writeln!(text, "        {}: {}", quoted(name), expanded(value));
        }
    }
    if !draft.reject_on.is_empty() {
        let _ = writeln!(text, "      reject_on: {:?}", draft.reject_on);
    }
    let _ = writeln!(text, "    max_in_flight: {} # for each replica", draft.max_in_flight);
    retry(draft, text);
    match &draft.dead_letter {
        Some(DeadLetter::Http(url)) => {
            let _ = writeln!(text, "    dead_letter:\n      http: {{ url: {} }}", expanded(url));
        }
        Some(DeadLetter::Rabbitmq(queue)) => {
            let _ = writeln!(
                text,
                "    dead_letter:\n      rabbitmq: {{ queue: {} }} # must exist",
                quoted(queue)
            );
        }
        Some(DeadLetter::Kafka(topic)) => {
            let _ = writeln!(
                text,
                "    dead_letter:\n      kafka:\n        topic: {} # must exist",
                quoted(topic)
            );
            if let Source::Kafka(kafka) = &draft.source {
                options(&kafka.options, "        ", text);
            }
        }
        None => {
            *text += "    # Items that failed for good are kept and shown. Better: `dead_letter:`.\n    on_failed: hold\n"
        }
    }
    if !draft.event.is_empty() || !draft.extensions.is_empty() {
        *text += "    event:\n";
        for (key, value) in &draft.event {
            let _ = writeln!(text, "      {key}: {}", quoted(value));
        }
        if !draft.extensions.is_empty() {
            *text += "      extensions:\n";
            for (key, value) in &draft.extensions {
                let _ = writeln!(text, "        {}: {}", quoted(key), quoted(value));
            }
        }
    }
}

fn rabbitmq(url: &str, queue: &str, declare: Option<&Declare>, text: &mut String) {
    let _ =
        writeln!(text, "      rabbitmq:\n        url: {}\n        queue: {}", expanded(url), quoted(queue));
    let Some(declare) = declare else { return };
    *text += "        # Creates the queue if it is missing. RabbitMQ takes an unacked item back after half a day.\n        declare:\n";
    let kind = if declare.classic { "classic" } else { "quorum" };
    let _ = writeln!(text, "          type: {kind}\n          arguments: {{ x-consumer-timeout: 43200000 }}");
    if !declare.bind.is_empty() {
        *text += "          bind:\n";
        for (exchange, key) in &declare.bind {
            let _ = writeln!(
                text,
                "            - {{ exchange: {}, routing_key: {} }}",
                quoted(exchange),
                quoted(key)
            );
        }
    }
}

fn kafka(kafka: &Kafka, text: &mut String) {
    let list = |values: &[String]| values.iter().map(|value| expanded(value)).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "      kafka:\n        bootstrap_servers: [{}]", list(&kafka.bootstrap_servers));
    let _ = writeln!(
        text,
        "        topics: [{}]\n        group: {}",
        list(&kafka.topics),
        expanded(&kafka.group)
    );
    if kafka.by_partition {
        *text += "        order: partition\n";
    }
    if kafka.latest {
        *text += "        start: latest\n";
    }
    options(&kafka.options, "        ", text);
}

fn options(options: &[(String, String)], indent: &str, text: &mut String) {
    if options.is_empty() {
        return;
    }
    let _ = writeln!(text, "{indent}options:");
    for (key, value) in options {
        let _ = writeln!(text, "{indent}  {key}: {}", expanded(value));
    }
}

fn retry(draft: &Draft, text: &mut String) {
    // The budget of an item must cover one attempt.
    let budget = (draft.longest() > BUDGET).then(|| draft.longest() * 2);
    if draft.attempts.is_none() && draft.backoff.is_none() && draft.backoff_max.is_none() && budget.is_none()
    {
        return;
    }
    *text += "    retry:\n";
    if let Some(attempts) = draft.attempts {
        let _ = writeln!(text, "      attempts: {attempts} # the first included");
    }
    if let Some(backoff) = draft.backoff {
        let _ = writeln!(text, "      backoff: {}", span(backoff));
    }
    let longest = draft.backoff_max.max(draft.backoff.filter(|backoff| *backoff > BACKOFF_MAX));
    if let Some(longest) = longest {
        let _ = writeln!(text, "      backoff_max: {}", span(longest));
    }
    if let Some(budget) = budget {
        let _ = writeln!(text, "      worker_time_budget: {}", span(budget));
    }
}
