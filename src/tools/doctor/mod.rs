//! `longhaul check --connect`: examines every connection of a configuration as it is now, and the
//! manifests of the service and the bridge. Each [`Finding`] is a fact, its consequence and the
//! exact fix. A correct set-up has no finding.
//!
//! Nothing is changed: no message is taken or written, no request starts work.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Place;
use crate::config::{Config, Env, Pipeline, RabbitmqSource};

mod http;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "guard")]
mod kube;
mod manifests;
mod rabbitmq;
mod sink;
mod times;
mod topology;

pub use manifests::Manifests;

/// The longest time that a bridge is expected to be down, if nobody says it.
pub const OUTAGE: Duration = Duration::from_secs(24 * 3600);

/// The weight of a finding. The exit code reflects the heaviest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A fact that could not be checked.
    Note,
    /// Items are late, or are lost in a case that is not the normal one.
    Warning,
    /// Items do not run, or are lost.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub pipeline: String,
    /// A short name that stays the same between versions.
    pub kind: &'static str,
    pub fact: String,
    pub consequence: String,
    pub fix: String,
    /// Whether a broker or a server does not answer or refuses.
    pub is_unavailable: bool,
}

/// How closely the doctor looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    #[default]
    Whole,
    /// Only the source and the offline part of the chain of timeouts. Nothing is asked of other
    /// servers, and nothing takes longer than some requests to the broker.
    Glance,
}

/// The things that the doctor cannot know by itself.
#[derive(Debug, Default)]
pub struct Options {
    /// The longest time that the bridge may be down, for the retention of topics and offsets.
    pub outage: Duration,
    /// The management API of RabbitMQ; by default that of the broker's host.
    pub management: Option<String>,
    pub manifests: Manifests,
    pub depth: Depth,
}

/// The cluster of kubectl's configuration.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The context; `None` means the current context.
    pub context: Option<String>,
    pub kubeconfig: Option<PathBuf>,
}

impl Cluster {
    /// Whether a person has named the cluster.
    pub fn is_named(&self) -> bool {
        self.context.is_some() || self.kubeconfig.is_some()
    }
}

/// Adds the manifests of the cluster, if kubectl has a current context or one is named. Returns
/// notes about objects that cannot be read.
///
/// # Errors
/// The named file or context does not exist, or this build knows no cluster.
pub async fn of_cluster(
    config: &Config,
    cluster: &Cluster,
    manifests: &mut Manifests,
) -> Result<Vec<Finding>, super::Failure> {
    #[cfg(feature = "guard")]
    {
        let mut findings = Findings::of("");
        kube::read(config, cluster, manifests, &mut findings).await?;
        Ok(findings.list)
    }
    #[cfg(not(feature = "guard"))]
    {
        let _ = (config, manifests);
        match cluster.is_named() {
            true => Err(super::Failure::usage(
                "this build reads no cluster",
                "use a build with the feature `guard`, or name the manifests with -f",
            )),
            false => Ok(Vec::new()),
        }
    }
}

/// The findings of one pipeline, in the order in which they were found.
struct Findings<'a> {
    pipeline: &'a str,
    list: Vec<Finding>,
    /// Gets each finding at once. A later question may take long.
    tell: Option<&'a (dyn Fn(&Finding) + Sync)>,
}

impl<'a> Findings<'a> {
    fn of(pipeline: &'a str) -> Self {
        Findings { pipeline, list: Vec::new(), tell: None }
    }

    fn add(&mut self, finding: Finding) {
        if let Some(tell) = self.tell {
            tell(&finding);
        }
        self.list.push(finding);
    }

    fn finding(
        &self,
        severity: Severity,
        kind: &'static str,
        fact: impl Into<String>,
        consequence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            pipeline: self.pipeline.to_owned(),
            kind,
            fact: fact.into(),
            consequence: consequence.into(),
            fix: fix.into(),
            is_unavailable: false,
        }
    }

    fn error(
        &mut self,
        kind: &'static str,
        fact: impl Into<String>,
        consequence: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(self.finding(Severity::Error, kind, fact, consequence, fix));
    }

    fn warn(
        &mut self,
        kind: &'static str,
        fact: impl Into<String>,
        consequence: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(self.finding(Severity::Warning, kind, fact, consequence, fix));
    }

    fn note(&mut self, kind: &'static str, fact: impl Into<String>, fix: impl Into<String>) {
        self.add(self.finding(Severity::Note, kind, fact, "it could not be checked", fix));
    }

    fn unavailable(
        &mut self,
        kind: &'static str,
        fact: impl Into<String>,
        consequence: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let finding = self.finding(Severity::Error, kind, fact, consequence, fix);
        self.add(Finding { is_unavailable: true, ..finding });
    }
}

/// Examines all pipelines.
pub async fn examine(config: &Config, options: &Options, env: Env<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    for pipeline in &config.pipelines {
        let mut findings = Findings::of(&pipeline.name);
        one(pipeline, options, env, &mut findings).await;
        all.append(&mut findings.list);
    }
    let mut findings = Findings::of("");
    times::of_bridge(config, &options.manifests, &mut findings);
    all.append(&mut findings.list);
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    all
}

/// Looks at the source of one pipeline that runs, and tells each fact that a person should change
/// as soon as it is known. A broker that does not answer is reported by the pipeline itself.
pub fn glance<'a>(
    pipeline: &'a Pipeline,
    env: Env<'_>,
    tell: &'a (dyn Fn(&Finding) + Sync),
) -> impl Future<Output = ()> + use<'a> {
    let options = Options { outage: OUTAGE, depth: Depth::Glance, ..Options::default() };
    let mut findings = Findings { tell: Some(tell), ..Findings::of(&pipeline.name) };
    times::of_pipeline(pipeline, &options.manifests, env, &mut findings);
    async move { source(pipeline, &options, &mut findings).await }
}

async fn source(pipeline: &Pipeline, options: &Options, findings: &mut Findings<'_>) {
    if let Some(source) = &pipeline.source.rabbitmq {
        rabbitmq::source(pipeline, source, options, findings).await;
    }
    #[cfg(feature = "kafka")]
    if let Some(source) = &pipeline.source.kafka {
        kafka::source(pipeline, source, options, findings).await;
    }
}

async fn one(pipeline: &Pipeline, options: &Options, env: Env<'_>, findings: &mut Findings<'_>) {
    source(pipeline, options, findings).await;
    let dead_letter = pipeline.dead_letter.as_ref();
    if let Some(target) = dead_letter.filter(|target| target.http.is_none()) {
        let place = Place::target(pipeline, target.rabbitmq.as_ref(), target.kafka.as_ref());
        self::target(pipeline, "dead_letter", place, options, findings).await;
    }
    if let Some(url) = dead_letter.and_then(|target| target.http.as_ref()).map(|http| &http.url) {
        sink::reaches("dead_letter.http", url, findings).await;
    }
    if let Some(reply) = &pipeline.reply {
        let place = Place::target(pipeline, reply.rabbitmq.as_ref(), reply.kafka.as_ref());
        self::target(pipeline, "reply", place, options, findings).await;
    }
    #[cfg(feature = "kafka")]
    if let Some(checkpoints) = &pipeline.checkpoints {
        kafka::checkpoints::examine(pipeline, checkpoints, findings).await;
    }
    times::of_pipeline(pipeline, &options.manifests, env, findings);
    sink::examine(pipeline, env, findings).await;
}

async fn target(
    pipeline: &Pipeline,
    key: &'static str,
    place: Result<Place, super::Failure>,
    options: &Options,
    findings: &mut Findings<'_>,
) {
    let place = match place {
        Ok(place) => place,
        Err(failure) => {
            return findings.error("target", failure.what, "nothing can be written there", failure.help);
        }
    };
    let written = match key {
        "reply" => "the worker's answers",
        _ => "dead letters",
    };
    let probed = match place.publisher() {
        Ok(publisher) => publisher.probe().await.map_err(|error| error.what),
        Err(failure) => Err(failure.what),
    };
    if let Err(error) = probed {
        let fix = fix_of_target(&place, &error);
        let consequence = format!(
            "{written} cannot be written; their items keep their slots until the pipeline stands still"
        );
        return findings.unavailable("target-refuses", format!("{key}: {error}"), consequence, fix);
    }
    match &place {
        Place::Rabbitmq(queue) => rabbitmq::target(pipeline, key, queue, options, findings).await,
        #[cfg(feature = "kafka")]
        Place::Kafka(topic) => kafka::target::examine(pipeline, key, topic, options, findings).await,
        #[cfg(not(feature = "kafka"))]
        Place::Kafka(_) => {}
    }
}

fn fix_of_target(place: &Place, error: &str) -> String {
    let name = place.name().unwrap_or_default();
    let is_missing =
        ["404", "does not exist", "does not know", "no queue takes"].iter().any(|part| error.contains(part));
    match place {
        Place::Rabbitmq(_) if error.contains("403") || error.contains("ACCESS_REFUSED") => {
            "give the user the right to write: rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ"
                .to_owned()
        }
        Place::Rabbitmq(_) if is_missing => {
            format!(
                "create it: rabbitmqadmin declare queue name={name} durable=true arguments='{{\"x-queue-type\":\"quorum\"}}'"
            )
        }
        Place::Kafka(_) if is_missing => {
            format!(
                "create it: kafka-topics.sh --bootstrap-server HOST:9092 --create --topic {name} --partitions 3"
            )
        }
        Place::Rabbitmq(_) => {
            "check address, user and password, and that the broker has memory and disk".to_owned()
        }
        Place::Kafka(_) => "check the addresses, and the options for TLS and SASL".to_owned(),
    }
}

/// The arguments of a queue, policies included, as far as they are known.
pub async fn topology(pipeline: &Pipeline, options: &Options) -> serde_json::Value {
    topology::of(pipeline, options).await
}

/// The longest time from the delivery of an item to its ack: it may wait for a replica, and then
/// run.
fn longest(pipeline: &Pipeline) -> Duration {
    pipeline.sink.timeout.get()
}

/// The bridge writes a copy of an item before it has been returned this often.
fn delivery_limit(source: &RabbitmqSource) -> u32 {
    let declared = source.declare.as_ref().and_then(|declare| declare.arguments.get("x-delivery-limit"));
    let declared = declared.and_then(serde_json::Value::as_u64).and_then(|limit| u32::try_from(limit).ok());
    source.delivery_limit.or(declared).unwrap_or(20)
}

/// A broker's number of milliseconds. A negative number counts as zero.
fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}

fn shown(duration: Duration) -> String {
    longhaul_places::Span::from_secs(duration.as_secs()).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::{Features, load};

    /// The broker takes the connection and never answers.
    #[tokio::test]
    async fn a_finding_is_told_before_the_end_of_the_glance() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!(
            "pipelines: [{{ name: a, source: {{ rabbitmq: {{ url: 'amqp://{}', queue: q }} }}, sink: {{ url: http://s, timeout: 2h }}, \
             max_in_flight: 1, on_failed: hold, retry: {{ worker_time_budget: 1h }} }}]",
            silent.local_addr().unwrap()
        );
        let config = load("f", &text, Features::BUILD, &|_| None).unwrap().config;
        let told = Mutex::new(Vec::new());
        let tell = |finding: &Finding| told.lock().unwrap().push(finding.kind);
        let look = glance(&config.pipelines[0], &|_| None, &tell);
        assert!(tokio::time::timeout(Duration::from_millis(100), look).await.is_err());
        assert_eq!(*told.lock().unwrap(), ["budget"]);
    }
}
