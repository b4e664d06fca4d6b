//! The arguments of a queue. AMQP does not show them, but the refusal of an unequal declaration
//! names the first argument that differs, with its value. So declarations that become more and more
//! equal show all of them. Nothing is changed, because the queue exists.

use std::collections::BTreeMap;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use crate::connect::rabbitmq::{Connection, Error, answer, table};

/// More arguments than a queue has.
const TRIES: usize = 24;

/// The properties of a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub arguments: BTreeMap<String, Argument>,
    pub is_transient: bool,
    pub is_auto_delete: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl Properties {
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.arguments.get(name)? {
            Argument::Number(number) => Some(*number),
            Argument::Text(text) => text.parse().ok(),
            Argument::Flag(_) => None,
        }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.arguments.get(name)? {
            Argument::Text(text) => Some(text),
            Argument::Number(_) | Argument::Flag(_) => None,
        }
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.arguments.get(name) == Some(&Argument::Flag(true))
    }

    pub fn has(&self, name: &str) -> bool {
        self.arguments.contains_key(name)
    }
}

/// Finds the properties of a queue that exists; none if this user may not declare it, or if the
/// server's words are not understood.
pub async fn find(connection: &Connection, queue: &str) -> Result<Option<Properties>, Error> {
    let mut found = Properties::default();
    found.arguments.insert("x-queue-type".to_owned(), Argument::Text("quorum".to_owned()));
    for _ in 0..TRIES {
        let channel = connection.channel().await?;
        let mut arguments = FieldTable::default();
        for (name, value) in &found.arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                Argument::Number(number) => AMQPValue::LongLongInt(*number),
                Argument::Flag(flag) => AMQPValue::Boolean(*flag),
            };
            arguments.insert(table::short("argument", name)?, value);
        }
        let options = QueueDeclareOptions {
            durable: !found.is_transient,
            auto_delete: found.is_auto_delete,
            ..QueueDeclareOptions::default()
        };
        let declaring = channel.queue_declare(table::short("queue name", queue)?, options, arguments);
        let error = match answer("queue.declare", declaring).await {
            Ok(_) => {
                answer("channel.close", channel.close(200, "OK".into())).await?;
                return Ok(Some(found));
            }
            Err(error) => error,
        };
        match error.code() {
            Some(406) if found.learn(&error.to_string()) => {}
            Some(403..=406) => return Ok(None),
            _ => return Err(error),
        }
    }
    Ok(None)
}

impl Properties {
    /// Reads `inequivalent arg 'NAME' for queue '…' in vhost '…': received … but current is …`.
    /// Returns whether anything was learnt.
    fn learn(&mut self, refusal: &str) -> bool {
        let before = self.clone();
        let Some((_, rest)) = refusal.split_once("inequivalent arg '") else { return false };
        let Some((name, rest)) = rest.split_once('\'') else { return false };
        let Some((_, current)) = rest.rsplit_once("but current is ") else { return false };
        match name {
            "durable" => self.is_transient = current.starts_with("'false'"),
            "auto_delete" => self.is_auto_delete = current.starts_with("'true'"),
            "type" => {
                drop(
                    self.arguments
                        .insert("x-queue-type".to_owned(), Argument::Text(quoted(current).to_owned())),
                );
            }
            _ if current.starts_with("none") => drop(self.arguments.remove(name)),
            _ => {
                let text = quoted(current);
                let is_text = current.contains("of type 'longstr'") || !current.contains("of type");
                let value = match text.parse() {
                    _ if current.contains("of type 'bool'") => Argument::Flag(text == "true"),
                    Ok(number) if !is_text => Argument::Number(number),
                    _ => Argument::Text(text.to_owned()),
                };
                self.arguments.insert(name.to_owned(), value);
            }
        }
        *self != before
    }
}

/// The first text in quotes.
fn quoted(text: &str) -> &str {
    text.split('\'').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_teaches_one_argument() {
        let mut found = Properties::default();
        for refusal in [
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'a' in vhost '/': received none but current is the value 'classic' of type 'longstr' (406)",
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'a' in vhost '/': received 'true' but current is 'false' (406)",
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'a' in vhost '/': received none but current is the value '1000' of type 'signedint' (406)",
        ] {
            assert!(found.learn(refusal), "{refusal}");
            assert!(!found.learn(refusal), "nothing new: {refusal}");
        }
        assert_eq!(
            (found.text("x-queue-type"), found.number("x-message-ttl")),
            (Some("classic"), Some(1000))
        );
        assert!(found.is_transient);
        assert!(found.learn("inequivalent arg 'x-queue-type' for queue 'a' in vhost '/': received 'classic' but current is none"));
        assert!(!found.has("x-queue-type"));
        assert!(!found.learn("PRECONDITION_FAILED - something else"));
        let flag = "inequivalent arg 'x-single-active-consumer' for queue 'a' in vhost '/': received none but current is the value 'true' of type 'bool'";
        assert!(found.learn(flag) && found.is_set("x-single-active-consumer"));
    }
}
