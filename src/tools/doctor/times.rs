//! The chain of timeouts from the bridge to the worker. The shortest one ends every longer request.

use std::time::Duration;

use super::manifests::{Deployment, Manifests, Service};
use super::{Findings, shown};
use crate::config::{Config, Env, Pipeline};

/// Knative's own values, without a ConfigMap config-defaults.
const DEFAULT_TIMEOUT: u64 = 300;
const DEFAULT_MAX_TIMEOUT: u64 = 600;
/// Kubernetes' own value of terminationGracePeriodSeconds.
const DEFAULT_GRACE: u64 = 30;
/// Knative's own value for the activator.
const ACTIVATOR: &str = "activator";

pub(super) fn of_pipeline(
    pipeline: &Pipeline,
    manifests: &Manifests,
    env: Env<'_>,
    findings: &mut Findings<'_>,
) {
    let timeout = pipeline.sink.timeout.get();
    let budget = pipeline.retry.worker_time_budget.get();
    if budget < timeout {
        findings.warn(
            "budget",
            format!("retry.worker_time_budget is {}, and sink.timeout is {}", shown(budget), shown(timeout)),
            "a long item fails for good after its first attempt",
            format!("set retry.worker_time_budget to {} or more", shown(timeout * 2)),
        );
    }
    let Some(service) = service(pipeline, manifests, env) else {
        if manifests.are_given && manifests.services.len() > 1 {
            let names: Vec<&str> = manifests.services.iter().map(|service| service.name.as_str()).collect();
            findings.note(
                "service",
                format!("none of the services {} is the host of sink.url", names.join(", ")),
                "give the manifest of the service with -f",
            );
        }
        return;
    };
    limits(service, timeout, manifests, findings);
    graces(service, manifests, findings);
    scale(pipeline, service, manifests, findings);
}

/// The service of the sink's host, or the only one.
fn service<'a>(pipeline: &Pipeline, manifests: &'a Manifests, env: Env<'_>) -> Option<&'a Service> {
    let url = pipeline.sink.url.clone().or_else(|| env("K_SINK")).unwrap_or_default();
    let host = pipeline.sink.host.clone().or_else(|| {
        let url = url::Url::parse(&url).ok()?;
        url.host_str().map(str::to_owned)
    });
    let first = host.as_deref().unwrap_or_default().split('.').next().unwrap_or_default().to_owned();
    let named = manifests.services.iter().find(|service| service.name == first);
    match (named, manifests.services.as_slice()) {
        (Some(named), _) => Some(named),
        (None, [only]) => Some(only),
        _ => None,
    }
}

fn timeout_of(service: &Service, manifests: &Manifests) -> u64 {
    let default = manifests.defaults.as_ref().and_then(|defaults| defaults.timeout);
    service.timeout.or(default).unwrap_or(DEFAULT_TIMEOUT)
}

fn limits(service: &Service, timeout: Duration, manifests: &Manifests, findings: &mut Findings<'_>) {
    let name = &service.name;
    let seconds = timeout_of(service, manifests);
    let limit = Duration::from_secs(seconds);
    if timeout <= limit {
        findings.warn(
            "sink-timeout",
            format!("sink.timeout is {}, and timeoutSeconds of the service {name} is {}", shown(timeout), shown(limit)),
            "the bridge gives up before Knative answers, so the outcome is unknown while the worker still runs",
            format!("set sink.timeout to {}", shown(limit + Duration::from_secs(60))),
        );
    } else if timeout > limit + Duration::from_secs(600) {
        findings.error(
            "timeout-seconds",
            format!(
                "timeoutSeconds of the service {name} is {}, and sink.timeout is {}",
                shown(limit),
                shown(timeout)
            ),
            format!("Knative ends each request after {}", shown(limit)),
            format!(
                "set timeoutSeconds: {} in spec.template.spec of the service {name}",
                timeout.as_secs().saturating_sub(60)
            ),
        );
    }
    if let Some(defaults) = &manifests.defaults {
        let max = defaults.max_timeout.unwrap_or(DEFAULT_MAX_TIMEOUT);
        if seconds > max {
            findings.error(
                "max-revision-timeout",
                format!("timeoutSeconds of the service {name} is {seconds}, and max-revision-timeout-seconds is {max}"),
                "Knative refuses the service",
                format!("set max-revision-timeout-seconds: \"{seconds}\" in the ConfigMap config-defaults"),
            );
        }
    }
    // A value of 0 that is written switches it off.
    let of_defaults =
        |value: fn(&super::manifests::Defaults) -> Option<u64>| manifests.defaults.as_ref().and_then(value);
    let inherited =
        of_defaults(|it| it.response_start).or(of_defaults(|it| it.timeout)).unwrap_or(DEFAULT_TIMEOUT);
    let start = match service.response_start {
        Some(0) => None,
        Some(start) => Some((start, "is")),
        None if inherited > 0 && inherited < seconds => Some((inherited, "is missing, and becomes")),
        None => None,
    };
    if let Some((start, word)) = start.filter(|(start, _)| *start < seconds) {
        findings.error(
            "response-start",
            format!("responseStartTimeoutSeconds of the service {name} {word} {start}, and timeoutSeconds is {seconds}"),
            format!("Knative ends each request after {start} s in which the worker has sent nothing"),
            format!("set responseStartTimeoutSeconds: {seconds} in spec.template.spec of the service {name}"),
        );
    }
    let idle = service.idle.or(of_defaults(|it| it.idle)).filter(|idle| *idle > 0 && *idle < seconds);
    if let Some(idle) = idle {
        findings.error(
            "idle-timeout",
            format!("idleTimeoutSeconds of the service {name} is {idle}, and timeoutSeconds is {seconds}"),
            format!("Knative ends each request after {idle} s in which the worker has sent nothing"),
            format!("set idleTimeoutSeconds: 0 in spec.template.spec of the service {name}"),
        );
    }
}

/// The proxies in front of the worker cut their requests when their own pods stop.
fn graces(service: &Service, manifests: &Manifests, findings: &mut Findings<'_>) {
    let seconds = timeout_of(service, manifests);
    for deployment in &manifests.deployments {
        let is_ingress =
            ["kourier", "ingressgateway", "contour", "envoy"].iter().any(|it| deployment.name.contains(it));
        let what = match deployment.name.as_str() {
            ACTIVATOR => "activator",
            _ if is_ingress && !deployment.name.contains("controller") => "ingress",
            _ => continue,
        };
        let grace = deployment.grace.unwrap_or(DEFAULT_GRACE);
        if grace < seconds {
            findings.warn(
                "proxy-grace",
                format!("the {what} {} has terminationGracePeriodSeconds {grace}, and timeoutSeconds of {} is {seconds}", deployment.name, service.name),
                format!("a restart of the {what} cuts the running requests, whose outcome is then unknown"),
                format!("set terminationGracePeriodSeconds: {seconds} in the Deployment {}", deployment.name),
            );
        }
    }
}

fn scale(pipeline: &Pipeline, service: &Service, manifests: &Manifests, findings: &mut Findings<'_>) {
    let name = &service.name;
    if service.concurrency != Some(1) {
        let shown = service
            .concurrency
            .map_or_else(|| "not set, which means no limit".to_owned(), |it| it.to_string());
        findings.warn(
            "concurrency",
            format!("containerConcurrency of the service {name} is {shown}"),
            "one replica gets several items at once",
            format!("set containerConcurrency: 1 in spec.template.spec of the service {name}"),
        );
    }
    if service.class.as_ref().is_some_and(|class| !class.starts_with("kpa.")) {
        findings.error(
            "autoscaler-class",
            format!("the service {name} is scaled by {}", service.class.as_deref().unwrap_or_default()),
            "it does not scale on the open requests, and not to zero",
            format!("remove the annotation autoscaling.knative.dev/class from the service {name}"),
        );
    }
    // The autoscaler of the class kpa also knows requests per second, which says nothing about long
    // ones.
    if let Some(metric) = service.metric.as_deref().filter(|metric| *metric != "concurrency") {
        findings.error(
            "autoscaler-metric",
            format!("the service {name} is scaled on the metric {metric}"),
            "long requests are few in a second, so it runs too few replicas, and may stop pods that work",
            format!("remove the annotation autoscaling.knative.dev/metric from the service {name}"),
        );
    }
    let replicas =
        manifests.deployments.iter().find(|it| it.is_bridge).and_then(|it| it.replicas).unwrap_or(1);
    let open = replicas * u64::from(pipeline.max_in_flight);
    let room = service.max_scale.filter(|it| *it > 0).map(|it| it * service.concurrency.unwrap_or(1).max(1));
    if let Some(room) = room.filter(|room| *room < open) {
        findings.warn(
            "max-scale",
            format!("{replicas} replicas of the bridge hold {open} requests open, and the service {name} runs at most {room}"),
            "the others wait in Knative while their timeout runs",
            format!("set max_in_flight to {}, or max-scale to {open}", (room / replicas).max(1)),
        );
    }
}

/// The bridge's own pod.
pub(super) fn of_bridge(config: &Config, manifests: &Manifests, findings: &mut Findings<'_>) {
    if manifests.are_given && manifests.services.is_empty() {
        findings.note(
            "service",
            "the manifests have no Knative Service",
            "give the manifest of the service with -f",
        );
    }
    let drain = config.drain.timeout.get();
    for bridge in manifests.deployments.iter().filter(|it| it.is_bridge) {
        let Deployment { name, grace, liveness, .. } = bridge;
        let grace = grace.unwrap_or(DEFAULT_GRACE);
        if Duration::from_secs(grace) <= drain {
            findings.error(
                "pod-grace",
                format!("the Deployment {name} has terminationGracePeriodSeconds {grace}, and drain.timeout is {}", shown(drain)),
                "Kubernetes kills the bridge in the middle of its drain, and cuts the running requests",
                format!("set terminationGracePeriodSeconds: {} in the Deployment {name}", drain.as_secs() + 300),
            );
        }
        if liveness.as_deref() == Some("/readyz") {
            findings.error(
                "liveness-probe",
                format!("the liveness probe of {name} asks /readyz"),
                "Kubernetes restarts the bridge and cuts its requests whenever a broker or the service is away",
                format!("let the livenessProbe of {name} ask /livez, and the readinessProbe /readyz"),
            );
        }
        let named = config.pipelines.iter().filter_map(|it| Some((it, it.source.kafka.as_ref()?)));
        for (pipeline, _) in named.filter(|(_, source)| source.instance_id.is_some()) {
            if bridge.has_stable_names {
                continue;
            }
            findings.warn(
                "instance-id",
                format!("pipeline {} has an instance_id, and {name} is a Deployment", pipeline.name),
                "replicas with one name end each other's membership; with the names of pods, partitions stay unread after each rollout until the session times out",
                format!("remove source.kafka.instance_id, or make {name} a StatefulSet and use the name of the pod"),
            );
        }
    }
}
