//! The dead letter of an item that failed for good: the item itself, with headers that tell the
//! reason.
//!
//! A broker gets the original body and not the event made of it, so that a redrive has nothing to
//! undo. A service gets the event, as with Knative's deadLetterSink. The `knativeerror*` names are
//! those of Knative's dead letter events, for consumers that know them.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value as Json;

use super::hops::Hops;
use super::{Broker, Outgoing, PublishError, Publisher, http, is_bookkeeping};
use crate::delivery::Reason;
use crate::event::{EncodedEvent, KafkaOrigin, Message, Origin, Properties, Value, own};

mod original;
mod reduced;
mod restore;

use original::Original;
pub use restore::{Place, RestoreError, Restored, restore};

/// The header for the parts of the item that the target cannot hold elsewhere.
const ORIGINAL_HEADER: &str = "longhaul-original";
/// Marks a last-resort letter, and names the missing parts of the item.
const LEFT_OUT_HEADER: &str = "longhaul-left-out";

/// The most bytes of the worker's answer in a letter, before encoding. Knative has the same bound.
const DATA_BYTES: usize = 1024;

/// The most characters of the line for people. Headers must fit into one frame of the broker.
const DETAIL_CHARS: usize = 1024;

/// The target of a pipeline's dead letters.
#[derive(Clone)]
pub enum Target {
    Broker(Broker, Arc<dyn Publisher>),
    Http(Arc<http::Client>),
}

/// An item that failed for good, and the facts about its failure.
#[derive(Clone, Debug)]
pub struct Letter {
    pub message: Arc<Message>,
    /// The CloudEvent's id in every attempt.
    pub event_id: String,
    pub reason: Reason,
    /// The status of the last answer, if there was one.
    pub code: Option<u16>,
    /// One line for people about the last attempt.
    pub detail: String,
    /// The beginning of the last answer's body.
    pub data: Bytes,
    /// Attempts in all processes.
    pub attempts: u32,
    /// The address of the requests, without any secret.
    pub destination: String,
    pub hops: Hops,
    pub time: SystemTime,
}

impl Target {
    /// Writes the letter and returns only when it is confirmed. `event` makes the CloudEvent that
    /// the worker got, for targets that want one. If the target can never accept the letter, a
    /// last-resort letter is written: the body, the id and the reason, and as much of the rest as
    /// fits.
    ///
    /// # Errors
    /// The write is not confirmed, as for [`Publisher::publish`]. An error that is not transient
    /// means that not even the body alone can be written, and gives the reason.
    pub async fn write(
        &self,
        letter: &Letter,
        event: impl FnOnce() -> Result<EncodedEvent, String>,
    ) -> Result<(), PublishError> {
        let first = match self.write_whole(letter, event).await {
            Err(error) if !error.is_transient() => error,
            result => return result,
        };
        let mut last = None;
        for extent in reduced::Extent::ALL {
            let (written, left_out) = self.write_reduced(letter, extent).await;
            match written {
                Ok(()) => {
                    tracing::warn!(
                        id = letter.event_id,
                        error = %first,
                        left_out,
                        "The target cannot accept the dead letter; written without a part of the item"
                    );
                    return Ok(());
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        let Some(last) = last else { return Err(first) };
        let what = format!(
            "the target of dead_letter can accept neither the letter nor the item's body alone: {}; raise its limit or \
             choose another target (the whole letter: {})",
            last.what, first.what
        );
        Err(PublishError { what, ..last })
    }

    async fn write_whole(
        &self,
        letter: &Letter,
        event: impl FnOnce() -> Result<EncodedEvent, String>,
    ) -> Result<(), PublishError> {
        let client = match self {
            Target::Broker(broker, publisher) => return publisher.publish(letter.outgoing(*broker)).await,
            Target::Http(client) => client,
        };
        let extended = event()
            .and_then(|event| event.with_extensions(&letter.extensions()).map_err(|error| error.to_string()));
        let (headers, body) = extended.map_err(|error| {
            PublishError::impossible(format!("no CloudEvent can be made of the dead letter: {error}"))
        })?;
        client.post(headers, body).await
    }

    async fn write_reduced(
        &self,
        letter: &Letter,
        extent: reduced::Extent,
    ) -> (Result<(), PublishError>, String) {
        match self {
            Target::Broker(broker, publisher) => {
                let (outgoing, left_out) = letter.reduced(*broker, extent);
                (publisher.publish(outgoing).await, left_out)
            }
            Target::Http(client) => {
                let (headers, body, left_out) = letter.reduced_event();
                (client.post(headers, body).await, left_out)
            }
        }
    }
}

impl Letter {
    /// Returns the message to write to a broker. [`restore()`] reverses it.
    pub fn outgoing(&self, broker: Broker) -> Outgoing {
        let mut headers: Vec<(String, Value)> =
            self.message.headers.iter().filter(|(name, _)| !is_ours(name)).cloned().collect();
        headers.extend(self.about());
        let original = Original::of(&self.message, broker).to_header();
        headers.extend(original.map(|json| (ORIGINAL_HEADER.to_owned(), Value::Text(json))));
        self.around(headers)
    }

    /// Returns a message with these headers and everything else of the item.
    fn around(&self, headers: Vec<(String, Value)>) -> Outgoing {
        let body = self.message.body.clone();
        match &self.message.origin {
            // A dead letter waits until a person looks at it, so it must not expire.
            Origin::Rabbitmq(origin) => {
                let properties = Properties { expiration: None, ..origin.properties.clone() };
                Outgoing { body, headers, properties, ..Outgoing::default() }
            }
            Origin::Kafka(origin) => Outgoing {
                body,
                is_null: origin.is_null,
                headers,
                key: origin.key.clone(),
                properties: kafka_properties(&self.message),
            },
        }
    }

    fn about(&self) -> Vec<(String, Value)> {
        let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
        let mut about = vec![
            text(own::ID, self.event_id.clone()),
            (own::ATTEMPTS.to_owned(), Value::Int(self.attempts.into())),
            text(own::ORIGIN, origin(&self.message.origin)),
            text("longhaul-reason", self.reason.to_string()),
            text("longhaul-time", time(self.time)),
            text("longhaul-detail", self.detail.chars().take(DETAIL_CHARS).collect()),
            text("knativeerrordest", self.destination.clone()),
        ];
        about.extend(self.hops.headers());
        if let Some(code) = self.code {
            about.push(("longhaul-code".to_owned(), Value::Int(code.into())));
            about.push(("knativeerrorcode".to_owned(), Value::Int(code.into())));
        }
        if self.reason == Reason::Undecodable {
            about.push(text(LEFT_OUT_HEADER, "key, headers, body".to_owned()));
        }
        about.extend(self.error_data().map(|data| text("knativeerrordata", data)));
        about
    }

    /// Returns the extensions that the event gets besides its own attributes.
    fn extensions(&self) -> Vec<(&'static str, Json)> {
        let mut extensions = vec![
            ("longhaulattempts", self.attempts.into()),
            ("longhaulorigin", origin(&self.message.origin).into()),
            ("longhaulreason", self.reason.to_string().into()),
            ("knativeerrordest", self.destination.as_str().into()),
        ];
        extensions.extend(self.code.map(|code| ("knativeerrorcode", code.into())));
        extensions.extend(self.error_data().map(|data| ("knativeerrordata", data.into())));
        extensions
    }

    /// Returns the beginning of the worker's answer in base64, as in Knative.
    fn error_data(&self) -> Option<String> {
        let data = &self.data[..self.data.len().min(DATA_BYTES)];
        (!data.is_empty()).then(|| BASE64_STANDARD.encode(data))
    }
}

/// Whether a header comes from an earlier failure, which this one replaces, or is the broker's
/// bookkeeping.
fn is_ours(name: &str) -> bool {
    if is_bookkeeping(name) {
        return true;
    }
    let name = name.to_ascii_lowercase();
    name.starts_with(own::PREFIX)
        || matches!(name.as_str(), "knativeerrordest" | "knativeerrorcode" | "knativeerrordata")
}

fn kafka_properties(message: &Message) -> Properties {
    let timestamp = message.record_time().and_then(|millis| u64::try_from(millis / 1000).ok());
    Properties { timestamp, ..Properties::default() }
}

/// Returns the place from which the item came, as a path that starts with the broker's kind.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Rabbitmq(origin) => format!("rabbitmq/{}", origin.queue),
        Origin::Kafka(KafkaOrigin { topic, partition, offset, .. }) => {
            format!("kafka/{topic}/{partition}/{offset}")
        }
    }
}

/// Formats a time in RFC 3339, to the millisecond. A clock beyond the calendar must not cost a
/// letter.
fn time(time: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests;
