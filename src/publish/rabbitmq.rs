//! Confirmed writes to a RabbitMQ queue or exchange.
//!
//! Writes have a connection of their own: a broker that is short of memory blocks connections that
//! publish, and a blocked connection would also hold the acks of a consumer. They share one channel
//! in confirm mode, on which any number of writes run at once. Every answer but a plain confirm is
//! an error. In particular, the broker also confirms an unroutable message, and that is an error
//! too.

mod probe;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{Outgoing, PublishError};
use crate::config::RabbitmqTarget;
use crate::connect::rabbitmq::{self, Connection, Error, answer, table};
use crate::event::{Properties, Value};

/// The bound of one write with its confirm. Quorum queues confirm in milliseconds; a blocked
/// connection never confirms.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// The delivery mode of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;
/// The bytes of a content header frame besides properties and headers: the frame itself, class,
/// size and flags, and the length of the headers.
const HEADER_FRAME: usize = 8 + 14 + 4;

/// A publisher to one queue or exchange. It connects at the first write.
pub struct Publisher {
    connection: rabbitmq::Settings,
    exchange: String,
    routing_key: String,
    /// The arguments of a queue that longhaul creates.
    declare: Option<FieldTable>,
    /// Whether our queue is known to have these arguments, or will be created with them.
    is_checked: AtomicBool,
    /// The last check that found writes permitted.
    permitted: std::sync::Mutex<Option<Instant>>,
    link: Arc<Mutex<Option<Arc<Link>>>>,
    /// The largest body that the broker accepts. It is known after the broker has refused a larger
    /// one.
    body_max: Arc<AtomicU64>,
}

/// The broker's word about the route of a confirmed message.
enum Routed {
    Yes,
    /// The broker confirmed the message and dropped it.
    Nowhere(String),
}

/// A connection and its channel. All running writes share the link; the last of them closes it.
struct Link {
    connection: Connection,
    channel: Channel,
}

impl Publisher {
    /// Returns a publisher to an exchange with a routing key, or to a queue by name through the
    /// default exchange.
    pub fn new(connection: rabbitmq::Settings, target: &RabbitmqTarget) -> Self {
        let (exchange, routing_key) = match (&target.exchange, &target.queue) {
            (Some(exchange), _) => (exchange.clone(), target.routing_key.clone().unwrap_or_default()),
            (None, queue) => (String::new(), queue.clone().unwrap_or_default()),
        };
        Publisher {
            connection,
            exchange,
            routing_key,
            declare: None,
            is_checked: AtomicBool::new(false),
            permitted: std::sync::Mutex::default(),
            link: Arc::default(),
            body_max: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    /// Returns a publisher to a queue from which each message moves to `back_to` after `delay`. The
    /// queue is created with the first message. The publisher shares the connection of `self`.
    ///
    /// The queue is a quorum queue with at-least-once dead-lettering: RabbitMQ dead-letters from a
    /// classic queue without a confirm.
    ///
    /// # Errors
    /// Returns an error for a name that AMQP cannot hold.
    pub fn parking(&self, queue: &str, delay: Duration, back_to: &str) -> Result<Self, PublishError> {
        table::short("queue name", queue).map_err(never)?;
        let text = |text: &str| Value::Text(text.to_owned());
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", Value::Int(millis)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(back_to)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ];
        let arguments: Vec<_> = arguments.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(Publisher {
            connection: self.connection.clone(),
            exchange: String::new(),
            routing_key: queue.to_owned(),
            declare: Some(table::table(&arguments).map_err(never)?),
            is_checked: AtomicBool::new(false),
            permitted: std::sync::Mutex::default(),
            link: Arc::clone(&self.link),
            body_max: Arc::clone(&self.body_max),
        })
    }

    /// Closes the connection. A later write connects again.
    pub async fn close(&self) {
        if let Some(link) = self.link.lock().await.take().and_then(Arc::into_inner) {
            link.connection.close().await;
        }
    }

    /// Writes to the queue. A missing queue of ours is created first.
    async fn publish_to_queue(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        if self.declare.is_some() && !self.is_checked.load(Ordering::Relaxed) {
            // A queue of this name that dead-letters to another place would lose the message.
            self.check_place().await?;
            self.is_checked.store(true, Ordering::Relaxed);
        }
        let mut routed = self.write(outgoing.clone()).await?;
        if let (Routed::Nowhere(_), Some(arguments)) = (&routed, &self.declare) {
            self.create(arguments).await.map_err(|error| self.later(&error))?;
            routed = self.write(outgoing).await?;
        }
        match routed {
            Routed::Yes => Ok(()),
            Routed::Nowhere(why) => Err(PublishError::not_taken(why)),
        }
    }

    async fn create(&self, arguments: &FieldTable) -> Result<(), Error> {
        let link = self.link().await?;
        let name = table::short("queue name", &self.routing_key)?;
        let declaring = link.channel.queue_declare(name, QueueDeclareOptions::durable(), arguments.clone());
        answer("queue.declare", declaring).await?;
        tracing::info!(queue = self.routing_key, "Queue for parked items created");
        Ok(())
    }

    async fn write(&self, outgoing: Outgoing) -> Result<Routed, PublishError> {
        let short = |what, text: &str| table::short(what, text).map_err(never);
        let (exchange, key) =
            (short("exchange name", &self.exchange)?, short("routing key", &self.routing_key)?);
        let properties = properties(&outgoing)?;
        let link = self.link().await.map_err(|error| PublishError::not_taken(self.later(&error).what))?;
        let frame_max = link.connection.frame_max();
        let headers = properties.headers().as_ref().map(table::size).unwrap_or_default();
        if headers + size(&outgoing.properties) + HEADER_FRAME > frame_max {
            return Err(PublishError::too_large(format!(
                "headers of {headers} bytes do not fit into a frame of {frame_max}"
            )));
        }
        let (body, body_max) = (outgoing.body.len(), self.body_max.load(Ordering::Relaxed));
        if body as u64 > body_max {
            // The body is refused here, because a refusal by the broker closes the channel for all
            // other writes too.
            return Err(PublishError::too_large(format!(
                "a body of {body} bytes is larger than the broker's limit of {body_max}"
            )));
        }
        let writing = async {
            // The message is mandatory. Otherwise the broker confirms a message that no queue
            // takes, and drops it.
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            link.channel.basic_publish(exchange, key, options, &outgoing.body, properties).await?.await
        };
        match timeout(CONFIRM_TIMEOUT, writing).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(Routed::Yes),
            Ok(Ok(Confirmation::Ack(Some(returned)))) => {
                let (code, text) = (returned.reply_code, &returned.reply_text);
                Ok(Routed::Nowhere(format!("no queue takes {}: {text} ({code})", self.place())))
            }
            Ok(Ok(Confirmation::Nack(_))) => {
                Err(PublishError::not_taken(format!("{} is full or failing (nack)", self.place())))
            }
            Ok(Ok(Confirmation::NotRequested)) => {
                Err(transient("the channel is not in confirm mode".to_owned()))
            }
            Ok(Err(error)) => Err(self.failed(&Error::from(error), body)),
            Err(_) => {
                // lapin keeps the frames of a blocked connection. A new link is used, so that
                // given-up frames do not pile up.
                self.leave(&link).await;
                Err(transient(format!(
                    "no confirm within {CONFIRM_TIMEOUT:?} (is RabbitMQ short of memory or disk?)"
                )))
            }
        }
    }

    /// Returns the open link, or a new one. Connecting is bounded, so the lock is never held for
    /// long.
    async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut link = self.link.lock().await;
        if let Some(open) = link.as_ref().filter(|link| link.is_open()) {
            return Ok(Arc::clone(open));
        }
        *link = None;
        let connection = self.connection.connect().await?;
        let channel = connection.channel().await?;
        answer("confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let opened = Arc::new(Link { connection, channel });
        *link = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Stops using this link, unless another write did so before.
    async fn leave(&self, left: &Arc<Link>) {
        let mut link = self.link.lock().await;
        if link.as_ref().is_some_and(|link| Arc::ptr_eq(link, left)) {
            *link = None;
        }
    }

    /// Returns the error of this write. A fault closes the channel for all running writes, so it
    /// must not be taken for a fault of this message.
    fn failed(&self, error: &Error, body: usize) -> PublishError {
        let error_text = error.to_string();
        match size_limit(&error_text) {
            Some(limit) if body as u64 > limit => {
                self.body_max.fetch_min(limit, Ordering::Relaxed);
                PublishError::too_large(error_text)
            }
            _ => self.later(error),
        }
    }

    fn later(&self, error: &Error) -> PublishError {
        let what = format!("cannot write to {}: {error}", self.place());
        // The error belongs to a declaration or to a channel, so the message may have been written.
        PublishError { is_missing: error.code() == Some(404), ..transient(what) }
    }

    fn place(&self) -> String {
        match self.exchange.as_str() {
            "" => format!("queue {}", self.routing_key),
            exchange => format!("exchange {exchange} with routing key {:?}", self.routing_key),
        }
    }
}

impl Link {
    fn is_open(&self) -> bool {
        self.connection.is_open() && self.channel.status().connected()
    }
}

impl super::Publisher for Publisher {
    fn publish(
        &self,
        outgoing: Outgoing,
    ) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(self.publish_to_queue(outgoing))
    }

    fn probe(&self) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + '_>> {
        Box::pin(self.check())
    }
}

/// Returns the limit in the broker's words for code 406: `message size N is larger than configured
/// max size M`.
fn size_limit(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("larger than configured max size ")?;
    let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Returns the bytes that the properties take in a frame without the headers, or a little more.
fn size(properties: &Properties) -> usize {
    let texts = [
        &properties.content_type,
        &properties.content_encoding,
        &properties.correlation_id,
        &properties.reply_to,
        &properties.expiration,
        &properties.message_id,
        &properties.kind,
        &properties.app_id,
        &properties.cluster_id,
    ];
    // The bytes of delivery mode, priority and timestamp.
    let numbers = 1 + 1 + 8;
    numbers + texts.into_iter().flatten().map(|text| 1 + text.len()).sum::<usize>()
}

fn properties(outgoing: &Outgoing) -> Result<BasicProperties, PublishError> {
    // `CC` and `BCC` are orders to the broker to send copies elsewhere. The broker has carried them
    // out already.
    let is_order = |name: &str| matches!(name, "CC" | "BCC");
    let headers: Vec<(String, Value)> =
        outgoing.headers.iter().filter(|(name, _)| !is_order(name)).cloned().collect();
    let mut made = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(table::table(&headers).map_err(never)?);
    let Properties {
        content_type,
        content_encoding,
        delivery_mode: _,
        priority,
        correlation_id,
        reply_to,
        expiration,
        message_id,
        timestamp,
        kind,
        // The broker compares the user ID with the user of the connection, and refuses any other
        // name.
        user_id: _,
        app_id,
        cluster_id,
    } = &outgoing.properties;
    type With = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&str, &Option<String>, With); 9] = [
        ("content_type", content_type, BasicProperties::with_content_type),
        ("content_encoding", content_encoding, BasicProperties::with_content_encoding),
        ("correlation_id", correlation_id, BasicProperties::with_correlation_id),
        ("reply_to", reply_to, BasicProperties::with_reply_to),
        ("expiration", expiration, BasicProperties::with_expiration),
        ("message_id", message_id, BasicProperties::with_message_id),
        ("type", kind, BasicProperties::with_type),
        ("app_id", app_id, BasicProperties::with_app_id),
        ("cluster_id", cluster_id, BasicProperties::with_cluster_id),
    ];
    for (name, text, with) in texts {
        if let Some(text) = text {
            made = with(made, table::short(name, text).map_err(never)?);
        }
    }
    if let Some(priority) = priority {
        made = made.with_priority(*priority);
    }
    if let Some(timestamp) = timestamp {
        made = made.with_timestamp(*timestamp);
    }
    Ok(made)
}

fn transient(what: String) -> PublishError {
    PublishError::transient(what)
}

/// Returns the error for a message that can never be written to this target.
fn never(what: impl ToString) -> PublishError {
    PublishError::impossible(what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_over_the_limit_is_to_blame() {
        let text = "PRECONDITION_FAILED - message size 20 is larger than configured max size 16 (406)";
        assert_eq!(size_limit(text), Some(16));
        assert_eq!(size_limit("PRECONDITION_FAILED - unknown delivery tag 16"), None);
    }

    #[test]
    fn neither_orders_to_the_broker_nor_another_user_are_passed_on() {
        let properties =
            Properties { user_id: Some("joe".into()), delivery_mode: Some(1), ..Default::default() };
        let headers = vec![("CC".to_owned(), Value::Null), ("cc".to_owned(), Value::Int(1))];
        let made = super::properties(&Outgoing { headers, properties, ..Default::default() }).unwrap();
        assert_eq!((made.user_id(), made.delivery_mode()), (&None, &Some(PERSISTENT)));
        assert!(made.headers().as_ref().unwrap().inner().keys().map(ShortString::as_str).eq(["cc"]));
    }

    #[test]
    fn a_property_that_amqp_cannot_hold_is_for_good() {
        let properties = Properties { correlation_id: Some("x".repeat(256)), ..Default::default() };
        let error = super::properties(&Outgoing { properties, ..Default::default() }).unwrap_err();
        assert!(!error.is_transient() && error.what.contains("correlation_id"), "{error}");
    }
}
