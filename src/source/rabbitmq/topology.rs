//! The queue and its bindings. They are created if the configuration asks for it; otherwise
//! longhaul waits for them.

use std::time::Duration;

use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use super::{Problems, Settings};
use crate::config::{Declare, QueueKind};
use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::event::Value;

/// The time between two checks for a missing queue or exchange.
const PERIOD: Duration = Duration::from_secs(3);

/// The type of a queue. Its consumers need only these types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Quorum,
    Classic,
    Stream,
    /// The queue has another type, or the server is not RabbitMQ.
    Unknown,
}

/// Returns when the queue exists, with the channel of the last question. If the queue or an
/// exchange is missing, reports that and waits without end: a person or an operator may create it
/// later, and no item is lost meanwhile.
pub(super) async fn ensure(
    connection: &Connection,
    settings: &Settings,
    problems: &mut Problems,
) -> Result<Channel, Error> {
    loop {
        match attempt(connection, &settings.queue, settings.declare.as_ref()).await {
            Err(error) if error.code() == Some(404) => problems.raise(&error),
            other => return other,
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Opens the channel on which [`kind`] asks, if it has to ask.
pub(super) async fn questioner(
    connection: &Connection,
    known: Option<Kind>,
) -> Result<Option<Channel>, Error> {
    if known.is_some() || connection.server().product.as_deref() != Some("RabbitMQ") {
        return Ok(None);
    }
    // A stream requires a prefetch. The consumer of a stream ends with the channel.
    limited_channel(connection, 1).await.map(Some)
}

/// Returns the type of the queue, and asks for it if it is not known.
///
/// No method of AMQP tells the type. But RabbitMQ refuses a consumer argument that the queue's type
/// does not support, and names the type in the refusal. Only streams support this argument.
pub(super) async fn kind(
    questioner: Option<&Channel>,
    known: &mut Option<Kind>,
    queue: &str,
) -> Result<Kind, Error> {
    let kind = match (*known, questioner) {
        (Some(kind), _) => kind,
        (None, None) => Kind::Unknown,
        (None, Some(channel)) => ask_for_kind(channel, queue).await?,
    };
    Ok(*known.insert(kind))
}

async fn ask_for_kind(channel: &Channel, queue: &str) -> Result<Kind, Error> {
    let arguments = table::table(&[("x-stream-offset".to_owned(), Value::Text("next".to_owned()))])?;
    let queue = table::short("queue name", queue)?;
    let asking = channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), arguments);
    let error = match answer("basic.consume", asking).await {
        Ok(_) => {
            answer("channel.close", channel.close(200, "OK".into())).await?;
            return Ok(Kind::Stream);
        }
        Err(error) => error,
    };
    let text = error.to_string();
    match error.code() {
        Some(406) if text.contains("rabbit_quorum_queue") => Ok(Kind::Quorum),
        Some(406) if text.contains("rabbit_classic_queue") => Ok(Kind::Classic),
        Some(406 | 540) => Ok(Kind::Unknown),
        _ => Err(error),
    }
}

/// Opens a channel with a prefetch. The prefetch holds for new consumers only, so it is set before
/// the consumer. It is not global, because quorum queues refuse that.
pub(super) async fn limited_channel(connection: &Connection, prefetch: u16) -> Result<Channel, Error> {
    let channel = connection.channel().await?;
    let limit = channel.basic_qos(prefetch, BasicQosOptions { global: false });
    answer("basic.qos", limit).await?;
    Ok(channel)
}

/// Refuses a negative delivery limit on an old server. From RabbitMQ 4.0 on it means "no limit".
/// Before, every count of returns is above it.
pub(super) fn check_limit(connection: &Connection, declare: Option<&Declare>) -> Result<(), Error> {
    let limit = declare.and_then(|declare| declare.arguments.get("x-delivery-limit"));
    let is_negative = limit.and_then(serde_json::Value::as_i64).is_some_and(|limit| limit < 0);
    match connection.server() {
        server if is_negative && server.is_before(4, 0) => {
            Err(Error::Unlimited(server.version.unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// Tries once, on a channel of its own, because the broker closes the channel on which it reports a
/// missing queue.
async fn attempt(connection: &Connection, queue: &str, declare: Option<&Declare>) -> Result<Channel, Error> {
    let channel = connection.channel().await?;
    let name = table::short("queue name", queue)?;
    let Some(declare) = declare else {
        let passive = QueueDeclareOptions::default().passive();
        answer("queue.declare", channel.queue_declare(name, passive, FieldTable::default())).await?;
        return Ok(channel);
    };
    let arguments = arguments(declare)?;
    let declaring = channel.queue_declare(name.clone(), QueueDeclareOptions::durable(), arguments);
    answer("queue.declare", declaring).await?;
    for binding in &declare.bind {
        let exchange = table::short("exchange name", &binding.exchange)?;
        let key = table::short("routing key", &binding.routing_key)?;
        let options = QueueBindOptions::default();
        let binding = channel.queue_bind(name.clone(), exchange, key, options, FieldTable::default());
        answer("queue.bind", binding).await?;
    }
    Ok(channel)
}

/// Returns the arguments of the file. An `x-queue-type` argument takes precedence over `type`,
/// because it can name types that `type` does not know.
fn arguments(declare: &Declare) -> Result<FieldTable, table::TooLong> {
    let kind = match declare.kind {
        QueueKind::Quorum => "quorum",
        QueueKind::Classic => "classic",
    };
    let mut arguments = vec![("x-queue-type".to_owned(), Value::Text(kind.to_owned()))];
    arguments.extend(declare.arguments.iter().map(|(name, it)| (name.clone(), argument(it))));
    table::table(&arguments)
}

fn argument(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(it) => Value::Bool(*it),
        serde_json::Value::Number(it) => match it.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(it.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(it) => Value::Text(it.clone()),
        serde_json::Value::Array(it) => Value::List(it.iter().map(argument).collect()),
        serde_json::Value::Object(it) => {
            Value::Table(it.iter().map(|(name, it)| (name.clone(), argument(it))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_have_amqp_types() {
        let arguments = arguments(&Declare {
            kind: QueueKind::Classic,
            arguments: serde_json::from_value(json!({"x-max-length": 5, "x-single-active-consumer": true,
                "x-dead-letter-exchange": ""}))
            .unwrap(),
            bind: Vec::new(),
        })
        .unwrap();
        let arguments = arguments.inner();
        assert_eq!(arguments["x-queue-type"], AMQPValue::LongString("classic".into()));
        assert_eq!(arguments["x-max-length"], AMQPValue::LongLongInt(5));
        assert_eq!(arguments["x-single-active-consumer"], AMQPValue::Boolean(true));
        assert_eq!(arguments["x-dead-letter-exchange"], AMQPValue::LongString("".into()));
    }
}
