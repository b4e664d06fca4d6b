//! Judges the properties of queues. No connection is used here.

use std::time::Duration;

use super::super::http::Known;
use super::super::{Findings, delivery_limit, longest, millis, shown};
use super::arguments::Properties;
use crate::config::{Declare, Pipeline, QueueKind, RabbitmqSource};
use crate::connect::rabbitmq::Server;

/// RabbitMQ's own limit of returns from 4.0 on.
const DEFAULT_LIMIT: i64 = 20;
/// Below it the bridge has no return left before its copy.
const LOWEST_LIMIT: i64 = 3;

pub(super) fn work_queue(
    pipeline: &Pipeline,
    source: &RabbitmqSource,
    found: &Properties,
    server: &Server,
    findings: &mut Findings<'_>,
) {
    let queue = &source.queue;
    let kind = found.text("x-queue-type").unwrap_or("classic");
    if kind == "stream" {
        findings.error(
            "queue-type",
            format!("{queue} is a stream"),
            "a stream has no acks for single items, so the bridge refuses it",
            format!("create a quorum queue, bind it to the same exchange, and name it in source.rabbitmq.queue instead of {queue}"),
        );
        return;
    }
    if kind == "quorum" {
        limit(source, found, server, findings);
    }
    ack_timeout(pipeline, source, found, server, kind, findings);
    lifetime(queue, found, findings);
    capacity(queue, found, findings);
    if found.is_auto_delete {
        findings.error(
            "auto-delete",
            format!("the queue {queue} deletes itself with its last consumer"),
            "a restart of the bridge deletes the queue with all of its items",
            format!("create the queue {queue} again without auto_delete"),
        );
    }
    if found.is_transient {
        findings.error(
            "not-durable",
            format!("the queue {queue} is not durable"),
            "a restart of RabbitMQ deletes the queue with all of its items",
            format!("create the queue {queue} again as a durable quorum queue"),
        );
    }
    if found.is_set("x-single-active-consumer") {
        findings.warn(
            "single-active-consumer",
            format!("the queue {queue} has a single active consumer"),
            "only one replica of the bridge works, and on RabbitMQ 4.3 the queue can stand still after ack timeouts",
            format!("create the queue {queue} again without x-single-active-consumer"),
        );
    }
}

fn limit(source: &RabbitmqSource, found: &Properties, server: &Server, findings: &mut Findings<'_>) {
    let queue = &source.queue;
    let is_new = server.is_at_least(4, 0);
    let configured = i64::from(delivery_limit(source));
    let actual = match found.number("x-delivery-limit") {
        Some(limit) if limit < 0 && is_new => return,
        Some(limit) if limit < 0 => {
            return findings.error(
                "delivery-limit",
                format!("the queue {queue} has x-delivery-limit {limit}, which means unlimited only from RabbitMQ 4.0 on"),
                "this RabbitMQ drops each item after its first return",
                "set a large limit such as 1000000, or leave the argument out",
            );
        }
        Some(limit) => limit,
        None if is_new => DEFAULT_LIMIT,
        None => return,
    };
    if actual < LOWEST_LIMIT {
        findings.error(
            "delivery-limit",
            format!("the queue {queue} allows {actual} returns"),
            "RabbitMQ drops an item after a few lost connections, before the bridge can write a copy of it",
            format!("raise the delivery limit of {queue} to 20 or more (policy delivery-limit, or argument x-delivery-limit)"),
        );
    } else if configured > actual {
        findings.error(
            "delivery-limit",
            format!("the queue {queue} allows {actual} returns, and the bridge expects {configured}"),
            "RabbitMQ drops an item before the bridge writes a copy of it",
            format!("write `delivery_limit: {actual}` under source.rabbitmq, or raise the limit of the queue to {configured}"),
        );
    }
}

/// From 4.3 on a classic queue has no ack timeout, and the bridge sets that of a quorum queue.
fn ack_timeout(
    pipeline: &Pipeline,
    source: &RabbitmqSource,
    found: &Properties,
    server: &Server,
    kind: &str,
    findings: &mut Findings<'_>,
) {
    if server.is_at_least(4, 3) {
        return;
    }
    let queue = &source.queue;
    let longest = longest(pipeline);
    let wanted = longest.as_millis();
    // From 3.12 on a queue may have a timeout of its own.
    let fix = if server.is_at_least(3, 12) {
        format!(
            "rabbitmqctl set_policy longhaul-{queue} '^{queue}$' '{{\"consumer-timeout\": {wanted}}}' --apply-to queues (or argument x-consumer-timeout)"
        )
    } else {
        format!("set `consumer_timeout = {wanted}` in rabbitmq.conf, and restart the node")
    };
    match found.number("x-consumer-timeout") {
        Some(timeout) if u128::try_from(timeout).is_ok_and(|timeout| timeout >= wanted) => {}
        Some(timeout) => {
            let timeout = millis(timeout);
            findings.error(
                "ack-timeout",
                format!("the queue {queue} has an ack timeout of {}, and sink.timeout is {}", shown(timeout), shown(longest)),
                "RabbitMQ takes each longer item away while it runs, again and again, and counts each time against the delivery limit",
                fix,
            );
        }
        None if server.is_at_least(3, 12) && longest > Duration::from_secs(30 * 60) => {
            let name = if kind == "quorum" { "quorum queue" } else { "queue" };
            findings.warn(
                "ack-timeout",
                format!("the {name} {queue} has no ack timeout of its own, and sink.timeout is {}", shown(longest)),
                "unless the server's consumer_timeout (30m by default) is longer, RabbitMQ takes each longer item away while it runs, and counts each time against the delivery limit",
                fix,
            );
        }
        None if server.is_before(3, 12) && longest > Duration::from_secs(30 * 60) => findings.note(
            "ack-timeout",
            format!(
                "the server's consumer_timeout (30m by default) is not visible, and sink.timeout is {}",
                shown(longest)
            ),
            fix,
        ),
        None => {}
    }
}

fn lifetime(queue: &str, found: &Properties, findings: &mut Findings<'_>) {
    let has_place = found.has("x-dead-letter-exchange");
    if let Some(ttl) = time(found, "x-message-ttl") {
        let consequence = if has_place {
            "items that wait longer leave for the dead-letter exchange without a run"
        } else {
            "items that wait longer are lost without a run"
        };
        findings.error(
            "message-ttl",
            format!("messages of the queue {queue} live for {ttl}"),
            consequence,
            format!("remove message-ttl from the policy or the arguments of {queue}"),
        );
    }
    if let Some(expires) = time(found, "x-expires") {
        findings.error(
            "expires",
            format!("the queue {queue} deletes itself after {expires} without a consumer"),
            "an outage of the bridge deletes the queue with all of its items",
            format!("remove expires from the policy or the arguments of {queue}"),
        );
    }
}

fn capacity(queue: &str, found: &Properties, findings: &mut Findings<'_>) {
    let is_bounded = found.has("x-max-length") || found.has("x-max-length-bytes");
    let overflow = found.text("x-overflow").unwrap_or("drop-head");
    if is_bounded && overflow == "drop-head" {
        findings.error(
            "overflow",
            format!("the queue {queue} is bounded and drops its oldest items when it is full"),
            "items are lost without a run, and a copy that the bridge writes may push others out",
            format!("set overflow of {queue} to reject-publish, or remove max-length"),
        );
    }
}

pub(super) fn declaration(
    source: &RabbitmqSource,
    declare: &Declare,
    found: &Properties,
    findings: &mut Findings<'_>,
) {
    let queue = &source.queue;
    let wanted = match declare.kind {
        QueueKind::Quorum => "quorum",
        QueueKind::Classic => "classic",
    };
    let actual = found.text("x-queue-type").unwrap_or("classic");
    if wanted != actual {
        findings.error(
            "declare",
            format!("source.rabbitmq.declare wants a {wanted} queue, and {queue} is a {actual} queue"),
            "RabbitMQ refuses the declaration, and no item is taken",
            format!("write `declare: {{ type: {actual} }}`, or remove `declare`"),
        );
    }
    for (name, wanted) in &declare.arguments {
        let is_equal = match (wanted.as_i64(), wanted.as_str()) {
            (Some(number), _) => found.number(name) == Some(number),
            (_, Some(text)) => found.text(name) == Some(text),
            _ => true,
        };
        // This argument is not compared by every version.
        if !is_equal && found.has(name) {
            findings.error(
                "declare",
                format!("source.rabbitmq.declare sets {name} to {wanted}, and {queue} has another value"),
                "RabbitMQ refuses the declaration, and no item is taken",
                format!(
                    "make the argument {name} agree with the queue, or delete the queue when it is empty"
                ),
            );
        }
    }
}

pub(super) fn target_queue(key: &str, queue: &str, found: &Properties, findings: &mut Findings<'_>) {
    if found.text("x-queue-type") == Some("stream") {
        return;
    }
    if let Some(ttl) = time(found, "x-message-ttl") {
        findings.warn(
            "message-ttl",
            format!("{key}: messages of the queue {queue} live for {ttl}"),
            "letters are gone before a person has looked at them",
            format!("remove message-ttl from the policy or the arguments of {queue}"),
        );
    }
    if let Some(expires) = time(found, "x-expires") {
        findings.error(
            "expires",
            format!("{key}: the queue {queue} deletes itself after {expires} without a consumer"),
            "it is deleted with all of its letters",
            format!("remove expires from the policy or the arguments of {queue}"),
        );
    }
    if found.is_transient || found.is_auto_delete {
        findings.error(
            "not-durable",
            format!("{key}: the queue {queue} is not durable, or deletes itself"),
            "a restart of RabbitMQ or of a reader deletes it with all of its letters",
            format!("create {queue} again as a durable quorum queue"),
        );
    }
    let is_bounded = found.has("x-max-length") || found.has("x-max-length-bytes");
    if is_bounded && found.text("x-overflow").unwrap_or("drop-head") == "drop-head" {
        findings.error(
            "overflow",
            format!("{key}: the queue {queue} is bounded and drops its oldest letters when it is full"),
            "letters are lost",
            format!("set overflow of {queue} to reject-publish, or remove max-length"),
        );
    }
    if let Some(limit) = found.number("x-delivery-limit").filter(|limit| (0..DEFAULT_LIMIT).contains(limit)) {
        findings.warn(
            "delivery-limit",
            format!("{key}: the queue {queue} allows {limit} returns"),
            "a reader that looks at a letter and returns it, as `longhaul dead-letter list` does, loses it after that many looks",
            format!("raise the delivery limit of {queue} to 20 or more"),
        );
    }
}

/// Facts that only the management API has.
pub(super) fn facts(pipeline: &Pipeline, queue: &str, known: &Known, findings: &mut Findings<'_>) {
    let Known::Queue(facts) = known else { return };
    let count = |name: &str| facts[name].as_array().map(Vec::len);
    if let (Some(members), Some(online)) = (count("members"), count("online"))
        && online < members
    {
        findings.warn(
            "members",
            format!("{online} of {members} members of the queue {queue} are online"),
            "one more lost node may stop the queue",
            "start the missing nodes, or replace the members with rabbitmq-queues grow",
        );
    }
    let strangers = facts["consumer_details"].as_array().into_iter().flatten().filter(|consumer| {
        let name = consumer["channel_details"]["connection_name"].as_str().unwrap_or_default();
        !name.contains("longhaul")
    });
    let strangers = strangers.count();
    if strangers > 0 {
        findings.warn(
            "other-consumers",
            format!("{strangers} consumers of the queue {queue} are other programs"),
            format!("they take items that the pipeline {} then never sees", pipeline.name),
            format!("stop them, or give them a queue of their own beside {queue}"),
        );
    }
}

/// Returns a property that is a number of milliseconds, for people.
fn time(found: &Properties, name: &str) -> Option<String> {
    found.number(name).map(|number| shown(millis(number)))
}
