//! Queues as the commands see them: whether they exist, how to create them, and how to read their
//! messages one by one.

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::Failure;
use super::place::{Place, Rabbitmq};
use crate::connect::rabbitmq::{Connection, Error, answer, table};
use crate::event::Message;

/// AMQP's code for an object that does not exist.
const NOT_FOUND: u16 = 404;

/// Returns the number of ready messages in the queue, or `None` if the queue does not exist.
///
/// # Errors
/// Returns an error if the broker does not answer, or refuses.
pub async fn ready_messages(place: &Rabbitmq) -> Result<Option<u32>, Failure> {
    let queue = place.queue()?.to_owned();
    let connection = place.connection("look").connect().await.map_err(|error| failure(place, &error))?;
    let found = count_ready(&connection, &queue).await;
    connection.close().await;
    match found {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
        Err(error) => Err(failure(place, &error)),
    }
}

/// The failure of a question to the broker.
fn failure(place: &Rabbitmq, error: &Error) -> Failure {
    let address = Place::Rabbitmq(place.clone()).address();
    let help = match error.code() {
        Some(NOT_FOUND) => "correct the name, or create the queue",
        _ => error.refusal().help,
    };
    Failure::unavailable(format!("RabbitMQ at {address}: {error}"), help)
}

/// Counts the ready messages. A passive declaration changes nothing.
async fn count_ready(connection: &Connection, queue: &str) -> Result<u32, Error> {
    let channel = connection.channel().await?;
    let name = table::short("queue name", queue)?;
    let asking = channel.queue_declare(name, QueueDeclareOptions::default().passive(), FieldTable::default());
    Ok(answer("queue.declare", asking).await?.message_count())
}

/// Creates a quorum queue.
///
/// # Errors
/// Returns an error if the broker does not answer, or refuses.
pub async fn create(place: &Rabbitmq) -> Result<(), Failure> {
    let queue = place.queue()?.to_owned();
    let connection = place.connection("create").connect().await.map_err(|error| failure(place, &error))?;
    let created = async {
        let channel = connection.channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let name = table::short("queue name", &queue)?;
        let declaring = channel.queue_declare(name, QueueDeclareOptions::durable(), arguments);
        answer("queue.declare", declaring).await
    };
    let created = created.await;
    connection.close().await;
    created.map(drop).map_err(|error| failure(place, &error))
}

/// Takes messages out of a queue one by one. A message stays unacknowledged until it is settled, so
/// that the next one is another message. If the process dies, the broker returns all of them.
pub struct Reader {
    connection: Connection,
    channel: Channel,
    queue: String,
    place: Rabbitmq,
}

/// A message that was taken and not settled.
pub struct Taken {
    pub tag: u64,
    pub message: Message,
    pub redelivered: bool,
}

impl Reader {
    /// # Errors
    /// Returns an error if the broker does not answer, or refuses.
    pub async fn open(place: &Rabbitmq) -> Result<Self, Failure> {
        let queue = place.queue()?.to_owned();
        // The connection accepts messages with headers of any size.
        let failed = |error| failure(place, &error);
        let connection = place.connection("read").connect_to_consume().await.map_err(failed)?;
        let channel = connection.channel().await.map_err(failed)?;
        Ok(Reader { connection, channel, queue, place: place.clone() })
    }

    /// Returns the number of messages that are ready now.
    ///
    /// # Errors
    /// Returns an error if the queue does not exist, or the broker does not answer.
    pub async fn ready(&self) -> Result<u32, Failure> {
        count_ready(&self.connection, &self.queue).await.map_err(|error| self.failed(&error))
    }

    /// Takes the next message, if there is one.
    ///
    /// # Errors
    /// Returns an error if the connection is lost, or the broker refuses.
    pub async fn next(&self) -> Result<Option<Taken>, Failure> {
        let name = table::short("queue name", &self.queue).map_err(|error| self.failed(&error.into()))?;
        let getting = self.channel.basic_get(name, BasicGetOptions { no_ack: false });
        let got = answer("basic.get", getting).await.map_err(|error| self.failed(&error))?;
        let Some(got) = got else { return Ok(None) };
        let (tag, redelivered) = (got.delivery.delivery_tag, got.delivery.redelivered);
        let message = table::message(&self.queue, got.delivery);
        Ok(Some(Taken { tag, message, redelivered }))
    }

    /// Removes a message from the queue. The next [`next`](Self::next) or [`leave`](Self::leave)
    /// proves that the broker has done it.
    ///
    /// # Errors
    /// Returns an error if the connection is lost.
    pub async fn remove(&self, tag: u64) -> Result<(), Failure> {
        let acking = self.channel.basic_ack(tag, BasicAckOptions::default());
        answer("basic.ack", acking).await.map_err(|error| self.failed(&error))
    }

    /// Returns all messages that were not removed, and waits until the broker has done it.
    ///
    /// # Errors
    /// Returns an error if the connection is lost; the broker then returns them by itself.
    pub async fn leave(self) -> Result<(), Failure> {
        let options = BasicNackOptions { multiple: true, requeue: true };
        let returned = answer("basic.nack", self.channel.basic_nack(0, options)).await;
        // The answer to the next request comes after the return.
        let closed = answer("channel.close", self.channel.close(200, "OK".into())).await;
        self.connection.close().await;
        returned.and(closed).map_err(|error| failure(&self.place, &error))
    }

    fn failed(&self, error: &Error) -> Failure {
        failure(&self.place, error)
    }
}
