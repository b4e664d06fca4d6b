//! The parts that both sources of Knative Eventing share: delivery, sink and overrides.

use std::time::Duration;

use longhaul_places::Report;

use super::draft::{DeadLetter, Draft, Sink, Source};
use super::knative::missing;
use super::ledger::{Fate, Ledger, Part};
use super::text::{duration, span};
use super::worker::flow;

/// `spec.delivery` of both sources.
pub(super) fn delivery(spec: &Part<'_>, attempts_without: u64, draft: &mut Draft, ledger: &mut Ledger) {
    let is_kafka = matches!(draft.source, Source::Kafka(_));
    let Some(delivery) = spec.get("delivery") else {
        if is_kafka {
            draft.attempts = Some(attempts_without);
            ledger.remark(
                spec,
                Fate::Carries,
                format!("retry.attempts: {attempts_without}, the source's default of 10 retries"),
            );
            ledger.remark(
                spec,
                Fate::Improves,
                "sink.timeout: 4h. The source ends a request after 10 minutes and tries again",
            );
        } else {
            ledger.remark(
                spec,
                Fate::Improves,
                "retry.attempts: 5 with growing waits. The source does not retry",
            );
        }
        return;
    };
    let retry = delivery.get("retry");
    let retries = retry.as_ref().and_then(|part| part.number()).unwrap_or(0);
    draft.attempts = Some((retries + 1).clamp(1, 255));
    if let Some(part) = retry {
        ledger.improve(
            &part,
            format!(
                "retry.attempts: {}, the first included; the count survives a restart of the bridge",
                retries + 1
            ),
        );
    }
    if let Some(part) = delivery.get("backoffDelay") {
        match part.text().as_deref().and_then(duration) {
            Some(delay) => {
                draft.backoff = Some(delay.max(Duration::from_millis(1)));
                ledger.carry(&part, format!("retry.backoff: {}; waits vary by up to a quarter", span(delay)));
            }
            None => ledger.without(&part, "this is not a duration"),
        }
    }
    if let Some(part) = delivery.get("backoffPolicy") {
        match part.text().as_deref() {
            Some("linear") => ledger.change(
                &part,
                "waits double with each failure, up to retry.backoff_max; longhaul has no linear policy",
            ),
            _ => ledger.carry(&part, "waits double with each failure, up to retry.backoff_max"),
        }
    }
    if let Some(part) = delivery.get("retryAfterMax") {
        draft.backoff_max = part.text().as_deref().and_then(duration);
        ledger.carry(&part, "retry.backoff_max also limits Retry-After");
    }
    match delivery.get("timeout") {
        Some(part) => match part.text().as_deref().and_then(duration) {
            Some(timeout) if !timeout.is_zero() => {
                draft.timeout = Some(timeout);
                ledger.improve(&part, format!("sink.timeout: {}; an attempt that ends there is not repeated blindly, see on_unknown", span(timeout)));
            }
            _ => ledger.without(&part, "this is not a duration"),
        },
        None if is_kafka => ledger.remark(
            &delivery,
            Fate::Improves,
            "sink.timeout: 4h. The source ends a request after 10 minutes and tries again",
        ),
        None => {}
    }
    if let Some(part) = delivery.get("deadLetterSink") {
        match address(&part, draft.namespace.as_deref()) {
            Some(url) => {
                ledger.improve(
                    &part,
                    format!(
                        "dead_letter.http.url: {url}; the item leaves the broker only after the answer 2xx"
                    ),
                );
                draft.dead_letter = Some(DeadLetter::Http(url));
            }
            None => ledger.without(
                &part,
                "only Knative Eventing knows the address of this object: write it as dead_letter.http.url",
            ),
        }
    }
    if let Some(part) = delivery.get("format") {
        ledger.change(&part, "sink.mode: structured, if it is json; binary is the default");
    }
}

pub(super) fn overrides(spec: &Part<'_>, draft: &mut Draft, ledger: &mut Ledger) {
    for (key, part) in spec.at(&["ceOverrides", "extensions"]).iter().flat_map(|part| part.entries()) {
        draft.extensions.push((key.to_owned(), part.text().unwrap_or_default()));
        ledger.carry(&part, "event.extensions");
    }
    if let Some(part) = spec.get("serviceAccountName") {
        ledger.without(&part, "the bridge has a ServiceAccount of its own without rights");
    }
    if let Some(part) = spec.get("adapterContainerName") {
        ledger.without(&part, "the container has the name longhaul");
    }
}

pub(super) fn sink(
    spec: &Part<'_>,
    namespace: Option<&str>,
    ledger: &mut Ledger,
    report: &mut Report,
) -> Option<Sink> {
    let Some(sink) = spec.get("sink") else {
        missing(spec, "sink", report);
        return None;
    };
    if let Some(url) = address(&sink, namespace) {
        ledger.carry(&sink, format!("sink.url: {url}"));
        return Some(Sink::Url(url));
    }
    let reference = sink.get("ref").unwrap_or_else(|| sink.clone());
    if reference.get("kind").is_none() {
        missing(&sink, "ref", report);
        return None;
    }
    ledger.carry(&sink, "a SinkBinding, because only Knative Eventing knows the address of this object");
    Some(Sink::Reference(format!("ref: {}\n", flow(reference.node()))))
}

/// The address of a destination: its `uri`, or that of a Service.
fn address(sink: &Part<'_>, namespace: Option<&str>) -> Option<String> {
    let uri = sink.get("uri").and_then(|uri| uri.text());
    let reference = sink.get("ref").unwrap_or_else(|| sink.clone());
    if reference.get("kind").is_none() {
        return uri;
    }
    if reference.get("kind")?.text()? != "Service" {
        return None;
    }
    let name = reference.get("name")?.text()?;
    let home = reference.get("namespace").and_then(|home| home.text());
    let home = home.as_deref().or(namespace).unwrap_or("default");
    let path = uri.filter(|uri| uri.starts_with('/')).unwrap_or_default();
    Some(format!("http://{name}.{home}.svc.cluster.local{path}"))
}
