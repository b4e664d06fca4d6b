//! The queue of a pipeline, and the queues that it writes to.

use std::collections::BTreeMap;

use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::http::{self, Known};
use super::{Depth, Findings, Options};
use crate::config::{Pipeline, RabbitmqSource};
use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::publish::{self, Publisher as _, copy};
use crate::tools::place::{Place, Rabbitmq};

pub(super) mod arguments;
mod judge;

use arguments::{Argument, Properties};

pub(super) async fn source(
    pipeline: &Pipeline,
    source: &RabbitmqSource,
    options: &Options,
    findings: &mut Findings<'_>,
) {
    let Ok(Place::Rabbitmq(place)) = Place::source(pipeline) else { return };
    let connection = match place.connection("check").connect().await {
        Ok(connection) => connection,
        Err(error) => {
            let fact = format!("RabbitMQ at {}: {error}", host(&place));
            return findings.unavailable("broker", fact, "no item is taken", error.refusal().help);
        }
    };
    if let Err(error) = examine(pipeline, source, &place, &connection, options, findings).await {
        let fact = format!("RabbitMQ at {}: {error}", host(&place));
        findings.unavailable("broker", fact, "no item is taken", error.refusal().help);
    }
    connection.close().await;
}

async fn examine(
    pipeline: &Pipeline,
    source: &RabbitmqSource,
    place: &Rabbitmq,
    connection: &Connection,
    options: &Options,
    findings: &mut Findings<'_>,
) -> Result<(), Error> {
    let queue = &source.queue;
    if let Err(error) = passive(connection, queue).await {
        let help = error.refusal().help;
        match error.code() {
            Some(404) if is_down(&error) => findings.unavailable(
                "queue-down",
                format!("the queue {queue} exists and does not work: {error}"),
                "no item is taken",
                "start the node of the queue; `rabbitmqctl list_queues name state pid` shows it",
            ),
            Some(404) if source.declare.is_some() => return Ok(()),
            Some(404) => findings.unavailable(
                "queue-missing",
                format!("the queue {queue} does not exist"),
                "no item is taken; the bridge waits for the queue",
                format!("correct source.rabbitmq.queue, or add `declare: {{ type: quorum }}` beside it (queue {queue})"),
            ),
            Some(403 | 405) => {
                findings.unavailable("queue-refused", format!("queue {queue}: {error}"), "no item is taken", help);
            }
            _ => return Err(error),
        }
        return Ok(());
    }
    let known = match options.depth {
        Depth::Whole => http::queue(place, queue, options.management.as_deref()).await,
        Depth::Glance => Known::Not("not asked".to_owned()),
    };
    let found = merged(arguments::find(connection, queue).await?, &known);
    match &found {
        Some(found) => {
            judge::work_queue(pipeline, source, found, &connection.server(), findings);
            dead_letter_wiring(queue, found, connection, findings).await?;
            if let (Known::Queue(_), Some(exchange)) = (&known, found.text("x-dead-letter-exchange"))
                && !exchange.is_empty()
                && http::has_bindings(place, exchange, options.management.as_deref()).await == Some(false)
            {
                findings.error(
                    "dead-letter-wiring",
                    format!("the queue {queue} dead-letters to the exchange {exchange}, to which no queue is bound"),
                    "items that the broker drops at the delivery limit are lost",
                    format!("bind a queue to the exchange {exchange}, or correct x-dead-letter-exchange"),
                );
            }
            if let Some(declare) = &source.declare {
                judge::declaration(source, declare, found, findings);
            }
        }
        None => findings.note(
            "arguments",
            format!("the arguments of the queue {queue} are not visible to this user"),
            "give the user the right to configure the queue, or name the management API with --management URL",
        ),
    }
    if let Known::Not(reason) = &known {
        findings.note(
            "policies",
            format!("policies on {queue}, and members of the queue, are not visible over AMQP ({reason})"),
            "name the management API: --management http://HOST:15672",
        );
    } else {
        judge::facts(pipeline, queue, &known, findings);
    }
    if options.depth == Depth::Glance {
        return Ok(());
    }
    if let Err(error) = may_consume(connection, queue).await? {
        let help = error.refusal().help;
        findings.unavailable("consume", format!("queue {queue}: {error}"), "no item is taken", help);
    }
    writes(pipeline, source, place, findings).await;
    Ok(())
}

/// Whether the queue exists, on a node that is away or with a process that has ended.
fn is_down(error: &Error) -> bool {
    let text = error.to_string();
    ["is down or inaccessible", "stopped by supervisor", "has crashed"].iter().any(|part| text.contains(part))
}

/// The arguments from either side; a policy counts as an argument.
fn merged(found: Option<Properties>, known: &Known) -> Option<Properties> {
    let Known::Queue(queue) = known else { return found };
    let mut found = found.unwrap_or_default();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Number(number) => number.as_i64().map(Argument::Number),
        serde_json::Value::String(text) => Some(Argument::Text(text.clone())),
        serde_json::Value::Bool(flag) => Some(Argument::Flag(*flag)),
        _ => None,
    };
    found.is_transient = queue["durable"] == false;
    found.is_auto_delete = queue["auto_delete"] == true;
    if let Some(kind) = queue["type"].as_str() {
        found.arguments.insert("x-queue-type".to_owned(), Argument::Text(kind.to_owned()));
    }
    for (name, value) in queue["arguments"].as_object().into_iter().flatten() {
        found.arguments.extend(text(value).map(|value| (name.clone(), value)));
    }
    for (name, value) in queue["effective_policy_definition"].as_object().into_iter().flatten() {
        let name = format!("x-{name}");
        let Some(Argument::Number(new)) = text(value) else {
            if let Some(value) = text(value) {
                found.arguments.entry(name).or_insert(value);
            }
            continue;
        };
        // If both are set, the lower number counts.
        match found.arguments.get(&name) {
            Some(Argument::Number(old)) if *old <= new => {}
            _ => drop(found.arguments.insert(name, Argument::Number(new))),
        }
    }
    Some(found)
}

/// The queue or exchange of dead letters or replies, which exists.
pub(super) async fn target(
    pipeline: &Pipeline,
    key: &'static str,
    place: &Rabbitmq,
    options: &Options,
    findings: &mut Findings<'_>,
) {
    let Some(queue) = &place.queue else { return };
    let Ok(connection) = place.connection("check").connect().await else { return };
    let known = http::queue(place, queue, options.management.as_deref()).await;
    if let Ok(found) = arguments::find(&connection, queue).await
        && let Some(found) = merged(found, &known)
    {
        judge::target_queue(key, queue, &found, findings);
        if let Some(source) = &pipeline.source.rabbitmq
            && found.text("x-dead-letter-routing-key").unwrap_or_default() == source.queue
        {
            findings.error(
                "loop",
                format!("{key}: the queue {queue} dead-letters to the work queue {}", source.queue),
                "letters run again without end",
                format!("remove x-dead-letter-exchange from the queue {queue}"),
            );
        }
    }
    connection.close().await;
}

/// A dead-letter exchange that does not exist loses each message that the broker drops.
async fn dead_letter_wiring(
    queue: &str,
    found: &Properties,
    connection: &Connection,
    findings: &mut Findings<'_>,
) -> Result<(), Error> {
    let Some(exchange) = found.text("x-dead-letter-exchange") else { return Ok(()) };
    let key = found.text("x-dead-letter-routing-key").unwrap_or(queue);
    let channel = connection.channel().await?;
    if exchange.is_empty() {
        if key == queue {
            findings.error(
                "loop",
                format!("the queue {queue} dead-letters to itself"),
                "an item that the broker drops comes back, or is lost as a cycle",
                format!("set x-dead-letter-routing-key of the queue {queue} to another queue"),
            );
        } else if let Err(error) = passive(connection, key).await {
            if error.code() != Some(404) {
                return Ok(());
            }
            findings.error(
                "dead-letter-wiring",
                format!("the queue {queue} dead-letters to the queue {key}, which does not exist"),
                "items that the broker drops at the delivery limit are lost",
                format!("create the queue {key}, or correct x-dead-letter-routing-key"),
            );
        }
        return Ok(());
    }
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let name = table::short("exchange", exchange)?;
    let asked = channel.exchange_declare(name, ExchangeKind::Direct, passive, FieldTable::default());
    if let Err(error) = answer("exchange.declare", asked).await
        && error.code() == Some(404)
    {
        findings.error(
            "dead-letter-wiring",
            format!("the queue {queue} dead-letters to the exchange {exchange}, which does not exist"),
            "items that the broker drops at the delivery limit are lost",
            format!("create the exchange {exchange}, or correct x-dead-letter-exchange"),
        );
    }
    Ok(())
}

/// Asks for a consumer whose priority is not a number. The broker checks the right to read first,
/// and such a consumer never exists.
async fn may_consume(connection: &Connection, queue: &str) -> Result<Result<(), Error>, Error> {
    let channel: Channel = connection.channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongString("longhaul-check".into()));
    let name = table::short("queue name", queue)?;
    let consuming = channel.basic_consume(name, "".into(), BasicConsumeOptions::default(), arguments);
    match answer("basic.consume", consuming).await {
        Err(error) if error.code() == Some(403) => Ok(Err(error)),
        // The broker of another kind may accept it; the closed channel ends the consumer.
        _ => {
            let _ = answer("channel.close", channel.close(200, "OK".into())).await;
            Ok(Ok(()))
        }
    }
}

/// The bridge writes copies near the delivery limit, and parks items.
async fn writes(pipeline: &Pipeline, source: &RabbitmqSource, place: &Rabbitmq, findings: &mut Findings<'_>) {
    let target = crate::config::RabbitmqTarget {
        queue: Some(source.queue.clone()),
        ..crate::config::RabbitmqTarget::default()
    };
    let publisher = publish::rabbitmq::Publisher::new(place.connection("check"), &target);
    if let Err(error) = publisher.probe().await {
        findings.unavailable(
            "copy-refused",
            format!("queue {}: {error}", source.queue),
            "the bridge cannot write the copy of an item before the delivery limit, so the broker drops the item there",
            "give the user the right to write to the default exchange: WRITE must match amq.default",
        );
    }
    if let Some(prefix) = &pipeline.retry.queue {
        for delay in copy::steps(pipeline.retry.backoff.get(), pipeline.retry.backoff_max.get()) {
            let name = format!("{prefix}.{}.{delay:?}", source.queue);
            let Ok(parking) = publisher.parking(&name, delay, &source.queue) else { continue };
            if let Err(error) = parking.probe().await {
                let fix = "delete that queue when it is empty, or choose another retry.queue";
                findings.unavailable(
                    "parking",
                    format!("retry.queue: {error}"),
                    "items cannot be parked",
                    fix,
                );
            }
        }
    }
    publisher.close().await;
}

pub(super) async fn passive(connection: &Connection, queue: &str) -> Result<(), Error> {
    let channel = connection.channel().await?;
    let name = table::short("queue name", queue)?;
    let asking = channel.queue_declare(name, QueueDeclareOptions::default().passive(), FieldTable::default());
    answer("queue.declare", asking).await?;
    answer("channel.close", channel.close(200, "OK".into())).await
}

pub(super) fn host(place: &Rabbitmq) -> String {
    Place::Rabbitmq(place.clone()).address()
}

/// The properties for a bundle.
pub(super) async fn described(place: &Rabbitmq, management: Option<&str>) -> serde_json::Value {
    let Some(queue) = place.queue.clone() else { return serde_json::Value::Null };
    let connection = match place.connection("describe").connect().await {
        Ok(connection) => connection,
        Err(error) => return serde_json::json!({ "queue": queue, "error": error.to_string() }),
    };
    let found = arguments::find(&connection, &queue).await.ok().flatten();
    let server = connection.server();
    let known = http::queue(place, &queue, management).await;
    connection.close().await;
    let arguments: Option<BTreeMap<String, String>> = found.map(|found| {
        found
            .arguments
            .into_iter()
            .map(|(name, value)| match value {
                Argument::Text(text) => (name, text),
                Argument::Number(number) => (name, number.to_string()),
                Argument::Flag(flag) => (name, flag.to_string()),
            })
            .collect()
    });
    let management = match known {
        Known::Queue(queue) => *queue,
        Known::Not(reason) => serde_json::json!({ "not_known": reason }),
    };
    serde_json::json!({
        "queue": queue, "product": server.product, "version": server.version, "cluster": server.cluster_name,
        "arguments": arguments, "management": management,
    })
}
