//! The letters of a queue or a topic, one after the other.

use super::super::rabbitmq::{Reader, Taken};
use super::super::{Failure, Place};
use super::{Facts, Selection, as_it_is};
use crate::event::{Message, Value, own};
use crate::publish::{Outgoing, Publisher};

/// The returns after which a letter is written to its queue again. Each look returns a letter, and
/// a quorum queue drops a message after its delivery limit, 20 if nobody has set it.
const RETURNS_MAX: i64 = 10;

/// The letters that are there when the command starts. Letters that come later are not read, so
/// that an item that fails again is not brought back again by the same command.
pub enum Letters {
    Rabbitmq(Box<Queue>),
    #[cfg(feature = "kafka")]
    Kafka(Box<super::kafka::Log>),
}

pub struct Queue {
    reader: Reader,
    place: Place,
    /// The first letter, until it is handed over.
    first: Option<Taken>,
    left: u64,
    total: u64,
    renewed: u64,
    publisher: Option<std::sync::Arc<dyn Publisher>>,
}

/// One letter that is not settled yet.
pub struct Found {
    pub message: Message,
    /// The letter of a topic was handled by an earlier command.
    pub is_handled: bool,
    pub handle: Handle,
}

pub enum Handle {
    Tag(u64),
    #[cfg(feature = "kafka")]
    Record {
        partition: i32,
        offset: i64,
    },
}

impl Letters {
    /// `is_alone` keeps other commands away from a topic. (RabbitMQ gives no letter to two.)
    #[cfg_attr(not(feature = "kafka"), allow(unused_variables))]
    pub async fn open(selection: &Selection, is_alone: bool) -> Result<Self, Failure> {
        match &selection.from {
            Place::Rabbitmq(place) => {
                let queue = Queue::open(Reader::open(place).await?, selection.from.clone()).await?;
                Ok(Letters::Rabbitmq(Box::new(queue)))
            }
            #[cfg(feature = "kafka")]
            Place::Kafka(place) => {
                let open = if is_alone { super::kafka::Log::open_alone } else { super::kafka::Log::open };
                open(place, selection.group.as_deref(), selection.includes_handled)
                    .map(|log| Letters::Kafka(Box::new(log)))
            }
            #[cfg(not(feature = "kafka"))]
            Place::Kafka(_) => Err(Failure::usage("this build has no Kafka", "use another build")),
        }
    }

    /// The letters at the start.
    pub fn total(&self) -> u64 {
        match self {
            Letters::Rabbitmq(queue) => queue.total,
            #[cfg(feature = "kafka")]
            Letters::Kafka(log) => log.total(),
        }
    }

    pub async fn next(&mut self) -> Result<Option<Found>, Failure> {
        match self {
            Letters::Rabbitmq(queue) => {
                if queue.left == 0 {
                    return Ok(None);
                }
                queue.left -= 1;
                let taken = match queue.first.take() {
                    Some(first) => Some(first),
                    None => queue.reader.next().await?,
                };
                Ok(taken.map(|Taken { tag, message, .. }| Found {
                    message,
                    is_handled: false,
                    handle: Handle::Tag(tag),
                }))
            }
            #[cfg(feature = "kafka")]
            Letters::Kafka(log) => log.next(),
        }
    }

    /// Leaves the letter in place. It is returned when the command ends.
    pub async fn keep(&mut self, found: Found) -> Result<(), Failure> {
        match (self, found.handle) {
            (Letters::Rabbitmq(queue), Handle::Tag(tag)) => {
                let returns = found.message.header("x-delivery-count").and_then(Value::as_int).unwrap_or(0);
                if returns >= RETURNS_MAX { queue.renew(&found.message, tag).await } else { Ok(()) }
            }
            #[cfg(feature = "kafka")]
            (Letters::Kafka(log), Handle::Record { partition, offset }) => {
                log.keep(partition, offset);
                Ok(())
            }
            #[cfg(feature = "kafka")]
            _ => Ok(()),
        }
    }

    /// Removes the letter; in a topic it is recorded as handled.
    pub async fn remove(&mut self, found: Found) -> Result<(), Failure> {
        match (self, found.handle) {
            (Letters::Rabbitmq(queue), Handle::Tag(tag)) => {
                queue.reader.remove(tag).await?;
                // The answer comes after the removal, so that at most one letter is in doubt.
                queue.reader.ready().await.map(drop)
            }
            #[cfg(feature = "kafka")]
            (Letters::Kafka(log), Handle::Record { partition, offset }) => log.handled(partition, offset),
            #[cfg(feature = "kafka")]
            _ => Ok(()),
        }
    }

    pub fn renewed(&self) -> u64 {
        match self {
            Letters::Rabbitmq(queue) => queue.renewed,
            #[cfg(feature = "kafka")]
            Letters::Kafka(_) => 0,
        }
    }

    pub async fn leave(self) -> Result<(), Failure> {
        match self {
            Letters::Rabbitmq(queue) => queue.reader.leave().await,
            #[cfg(feature = "kafka")]
            Letters::Kafka(_) => Ok(()),
        }
    }
}

impl Queue {
    /// Takes the first letter before it counts the others. A quorum queue applies the returns of an
    /// earlier command a little later than it confirms them. It applies them before it hands out a
    /// message, so the number is right then.
    async fn open(reader: Reader, place: Place) -> Result<Self, Failure> {
        let first = reader.next().await?;
        let total = if first.is_some() { 1 + u64::from(reader.ready().await?) } else { 0 };
        Ok(Queue { reader, place, first, left: total, total, renewed: 0, publisher: None })
    }

    /// Writes the letter to the end of its queue and removes the old one, so that the broker counts
    /// from zero again.
    async fn renew(&mut self, letter: &Message, tag: u64) -> Result<(), Failure> {
        let publisher = match &self.publisher {
            Some(publisher) => std::sync::Arc::clone(publisher),
            None => std::sync::Arc::clone(self.publisher.insert(self.place.publisher()?)),
        };
        let written = publisher.publish(renewed(letter)).await;
        written.map_err(|error| {
            Failure::unavailable(
                format!("a letter near the delivery limit of its queue cannot be written again: {error}"),
                "free the queue, or raise its delivery limit",
            )
        })?;
        self.reader.remove(tag).await?;
        self.renewed += 1;
        Ok(())
    }
}

/// The letter for its own queue. RabbitMQ's notes about the death cannot be written back, so our
/// headers keep the facts of a letter that RabbitMQ wrote.
fn renewed(letter: &Message) -> Outgoing {
    let mut outgoing = as_it_is(letter);
    if letter.header(own::ORIGIN).is_none() {
        let Facts { origin, reason, time, .. } = Facts::of(letter);
        let kept = [(own::ORIGIN, origin), ("longhaul-reason", reason), ("longhaul-time", time)];
        let kept = kept.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::Text(text?))));
        outgoing.headers.extend(kept);
    }
    outgoing
}
