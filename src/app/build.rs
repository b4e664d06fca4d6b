//! Makes the parts of a pipeline from the configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use super::brokers;
use super::error::BuildError;
use crate::bridge::{Parts, SealKey, Targets};
use crate::config::{self, Config, Env, Secret};
use crate::delivery::{self, Bounds, OnFailed, OnUnknown, Policy, Retry};
use crate::event::{self, Encoder, Overrides};
use crate::guard;
use crate::publish::hops::HopsKey;
use crate::publish::reply::{self, Wrap};
use crate::publish::{self, Broker, dead_letter};
use crate::sink::Sink;
use crate::sink::http::{Client, Environment, HeaderSource, Replies, Settings};
use crate::telemetry::{Metrics, Status, Traces};

/// The least bound on verdicts that are kept for redeliveries. The bound is ten per slot if that is
/// more.
const ORPHANS_MIN: u32 = 20_000;
/// The age at which a kept verdict is dropped. A redelivery normally comes within seconds of the
/// reconnect, but a broker may be away for hours.
const ORPHAN_AGE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The time of one step of the working limit. The limit is back at `max_in_flight` after at most
/// twenty steps.
const LIMIT_STEP: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) fn parts(
    pipeline: &config::Pipeline,
    config: &Config,
    metrics: &Metrics,
    env: Env<'_>,
) -> Result<Parts, BuildError> {
    let name = &pipeline.name;
    let overrides = Overrides::parse(&env("K_CE_OVERRIDES").unwrap_or_default()).map_err(|error| {
        BuildError::config(name, format!("K_CE_OVERRIDES: {error}"), "correct the SinkBinding's ceOverrides")
    })?;
    let encoder = Encoder::new(event::Settings {
        namespace: env("NAMESPACE").filter(|value| !value.is_empty()).unwrap_or_else(|| "default".to_owned()),
        name: name.clone(),
        mode: pipeline.sink.mode,
        event: pipeline.event.clone(),
        overrides,
    })
    .map_err(|error| BuildError::config(name, error, "correct the key `event` of the pipeline"))?;
    let sink = Client::new(Settings {
        sink: pipeline.sink.clone(),
        headers: header_sources(&pipeline.sink.headers),
        max_in_flight: pipeline.max_in_flight as usize,
        replies: if pipeline.reply.is_some() { Replies::Used } else { Replies::Ignored },
        environment: Environment::from_variables(env),
    })
    .map_err(|error| {
        BuildError::config(name, error, "correct the key `sink` of the pipeline, or the file that it names")
    })?;
    let dead_letter = match &pipeline.dead_letter {
        Some(target) => Some(dead_letter(pipeline, target, env)?),
        None => None,
    };
    let reply = match &pipeline.reply {
        Some(reply) => Some(reply::Target {
            publisher: brokers::publisher(pipeline, reply.rabbitmq.as_ref(), reply.kafka.as_ref())?,
            broker: if reply.kafka.is_some() { Broker::Kafka } else { Broker::Rabbitmq },
            wrap: if reply.wrap { Wrap::Any } else { Wrap::Never },
        }),
        None => None,
    };
    let status = Arc::new(Status::new(name));
    metrics.describe(name, &source_name(pipeline), sink.destination());
    Ok(Parts {
        name: name.clone(),
        source: source_name(pipeline),
        policy: Policy { peers: config.peers.is_some(), ..policy(pipeline) },
        encoder,
        sink: Arc::new(sink),
        request_timeout: pipeline.sink.timeout.get(),
        stalled_after: pipeline.stalled_after.map(|span| span.get()),
        stalled: config.alerts.stalled.get(),
        reports: Arc::default(),
        targets: Targets { dead_letter, reply, copies: brokers::copies(pipeline)? },
        seal: seal(pipeline, config),
        checkpoints: brokers::checkpoints(pipeline, &status)?,
        hops: hops(config),
        replicas: None,
        guard: None,
        traces: Traces::default(),
        control: None,
        metrics: metrics.pipeline(name, pipeline.max_in_flight),
        status,
        drain_timeout: config.drain.timeout.get(),
    })
}

fn dead_letter(
    pipeline: &config::Pipeline,
    target: &config::Target,
    env: Env<'_>,
) -> Result<dead_letter::Target, BuildError> {
    let Some(http) = &target.http else {
        let publisher = brokers::publisher(pipeline, target.rabbitmq.as_ref(), target.kafka.as_ref())?;
        let broker = if target.kafka.is_some() { Broker::Kafka } else { Broker::Rabbitmq };
        return Ok(dead_letter::Target::Broker(broker, publisher));
    };
    let environment = Environment::from_variables(env);
    let settings = publish::http::Settings {
        target: http.clone(),
        headers: header_sources(&http.headers),
        ca_certs: environment.k_ca_certs,
        trust_bundles: environment.trust_bundles,
        namespace: environment.namespace,
    };
    let client = publish::http::Client::new(settings).map_err(|error| {
        BuildError::config(&pipeline.name, error, "correct the key `dead_letter.http` of the pipeline")
    })?;
    Ok(dead_letter::Target::Http(Arc::new(client)))
}

/// The address at which workers reach the admin server. A wildcard is the address of no server.
pub(super) fn reachable(admin: &config::Admin) -> Option<String> {
    let listen = admin.listen.as_ref()?;
    let own = || {
        let address: SocketAddr = listen.parse().ok()?;
        let scheme = if admin.tls.is_some() { "https" } else { "http" };
        (!address.ip().is_unspecified()).then(|| format!("{scheme}://{address}"))
    };
    admin.url.clone().or_else(own)
}

/// The guard as the pipeline sees it, with the Knative Service that its address names.
pub(super) fn post(pipeline: &config::Pipeline, lookout: &Arc<guard::Lookout>, env: Env<'_>) -> guard::Post {
    let url = pipeline.sink.url.clone().or_else(|| env("K_SINK"));
    let of_url = || url::Url::parse(&url?).ok()?.host_str().map(str::to_owned);
    let host = pipeline.sink.host.clone().or_else(of_url);
    guard::Post::new(lookout.clone(), host.as_deref().and_then(guard::service_of))
}

/// The name of this replica for people: the name of its pod or machine, and the port.
pub(super) fn replica_name(config: &Config, env: Env<'_>) -> String {
    let host = env("HOSTNAME").filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned());
    let port = config.admin.listen.as_ref().and_then(|listen| listen.rsplit_once(':'));
    port.map_or(host.clone(), |(_, port)| format!("{host}:{port}"))
}

/// The source of a pipeline, for people.
fn source_name(pipeline: &config::Pipeline) -> String {
    match (&pipeline.source.rabbitmq, &pipeline.source.kafka) {
        (Some(rabbitmq), _) => format!("RabbitMQ queue {}", rabbitmq.queue),
        (None, Some(kafka)) => format!("Kafka topics {} of group {}", kafka.topics.join(", "), kafka.group),
        (None, None) => String::new(),
    }
}

/// The key of the seals on copies. Its secret is the administrator's token, or else the address of
/// the source with its password. If neither can be read, a copy that outlives the process counts as
/// a new item.
fn seal(pipeline: &config::Pipeline, config: &Config) -> SealKey {
    let url = pipeline.source.rabbitmq.as_ref().map(|source| &source.url);
    let secret = first(config.admin.token.as_ref().into_iter().chain(url));
    let secret = secret.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let queue = pipeline.source.rabbitmq.as_ref().map_or("", |source| &source.queue);
    SealKey::derived(&secret, &format!("{} {queue}", pipeline.name))
}

/// The key of the counts of hops, which is the same in all pipelines of this process. If the file
/// has no secret, a restart begins all counts again.
fn hops(config: &Config) -> HopsKey {
    static RANDOM: LazyLock<String> = LazyLock::new(|| uuid::Uuid::new_v4().to_string());
    let sources = config.pipelines.iter().filter_map(|pipeline| pipeline.source.rabbitmq.as_ref());
    let secret = first(config.admin.token.as_ref().into_iter().chain(sources.map(|source| &source.url)));
    HopsKey::derived(&secret.unwrap_or_else(|| RANDOM.clone()))
}

/// Returns the first secret that can be read.
fn first<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Option<String> {
    secrets.filter_map(|secret| secret.resolve().ok()).find(|secret| !secret.is_empty())
}

/// Returns the core's rules for a pipeline, without its targets.
pub fn policy(pipeline: &config::Pipeline) -> Policy {
    let (retry, limits) = (&pipeline.retry, &pipeline.limits);
    let stuck_head = pipeline.source.kafka.as_ref().map(|kafka| &kafka.stuck_head);
    Policy {
        max_in_flight: pipeline.max_in_flight,
        retry: Retry {
            attempts: retry.attempts,
            backoff: retry.backoff.get(),
            backoff_max: retry.backoff_max.get(),
            unknown_backoff: retry.unknown_backoff.get(),
            worker_time_budget: retry.worker_time_budget.get(),
            not_started_for: retry.not_started_for.get(),
            interruptions: retry.interruptions,
        },
        on_unknown: match pipeline.on_unknown {
            config::OnUnknown::Retry => OnUnknown::Retry,
            config::OnUnknown::DeadLetter => OnUnknown::DeadLetter,
            config::OnUnknown::Hold => OnUnknown::Hold,
        },
        on_failed: match pipeline.on_failed {
            config::OnFailed::Hold => OnFailed::Hold,
            config::OnFailed::Drop => OnFailed::Drop,
        },
        targets: delivery::Targets::default(),
        give_up_after: stuck_head.and_then(|stuck| stuck.dead_letter_after).map(|after| after.get()),
        prefetched: pipeline.source.rabbitmq.is_some(),
        peers: false,
        limit_step: LIMIT_STEP,
        start_every: pipeline.rate.map(config::Rate::start_every).unwrap_or_default(),
        breaker_failures: pipeline.breaker.failures,
        breaker_open: pipeline.breaker.open.get(),
        bounds: Bounds {
            item_bytes: limits.item_bytes.get(),
            held_bytes: limits.held_bytes.get(),
            held_max: limits.held_max,
            orphans_max: pipeline.max_in_flight.saturating_mul(10).max(ORPHANS_MIN),
            orphan_age: ORPHAN_AGE,
        },
        seed: uuid::Uuid::new_v4().as_u128(),
    }
}

/// A header's value from the configuration. It is read again when a file in it changes.
struct SecretHeader(Secret);

impl HeaderSource for SecretHeader {
    fn resolve(&self) -> Result<String, String> {
        self.0.resolve().map_err(|error| error.to_string())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.0.files().map(Into::into).collect()
    }
}

fn header_sources(headers: &BTreeMap<String, Secret>) -> Vec<(String, Arc<dyn HeaderSource>)> {
    let source = |value: &Secret| Arc::new(SecretHeader(value.clone())) as Arc<dyn HeaderSource>;
    headers.iter().map(|(name, value)| (name.clone(), source(value))).collect()
}
