//! The queue and its bindings: created where the configuration asks for it, waited for otherwise.

use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use super::{Complaint, Settings};
use crate::config::{Declare, QueueKind};
use crate::connect::rabbitmq::{Connection, Error, answer, table, version};
use crate::event::Value;

/// Between two looks for something that is missing.
const PERIOD: Duration = Duration::from_secs(3);

/// Returns when the queue is there. Something that is missing is reported once and waited for without end: a person
/// or an operator is about to create it, and nothing is lost meanwhile.
pub(super) async fn ensure(
    connection: &Connection,
    queue: &str,
    declare: Option<&Declare>,
    complaint: &mut Complaint,
) -> Result<(), Error> {
    loop {
        let error = match attempt(connection, queue, declare).await {
            Err(error) if error.code() == Some(404) => error,
            other => return other,
        };
        if complaint.is_new(&error) {
            let hint = match declare {
                Some(_) => "create the exchange that source.rabbitmq.declare.bind names",
                None => "create the queue, or let longhaul do it with source.rabbitmq.declare",
            };
            tracing::warn!(%error, queue, hint, "waiting for what is missing in RabbitMQ");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// A negative delivery limit is no limit from RabbitMQ 4.0 on. Before, it is below any count of returns.
pub(super) async fn check_limit(settings: &Settings) -> Result<(), Error> {
    let limit = settings.declare.as_ref().and_then(|declare| declare.arguments.get("x-delivery-limit"));
    if limit.and_then(serde_json::Value::as_i64).is_none_or(|limit| limit >= 0) {
        return Ok(());
    }
    match settings.connection.server_version().await? {
        Some(version) if version::major(&version).is_some_and(|major| major < 4) => {
            Err(Error::Unlimited(version))
        }
        _ => Ok(()),
    }
}

/// On a channel of its own, because the broker closes the one on which it reports something missing.
async fn attempt(connection: &Connection, queue: &str, declare: Option<&Declare>) -> Result<(), Error> {
    let channel = connection.channel().await?;
    let name = table::short("queue name", queue)?;
    let Some(declare) = declare else {
        let passive = QueueDeclareOptions::default().passive();
        answer("queue.declare", channel.queue_declare(name, passive, FieldTable::default())).await?;
        return Ok(());
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
    Ok(())
}

/// As the file has them; an `x-queue-type` among them wins over `type`, as it names kinds that `type` does not know.
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
