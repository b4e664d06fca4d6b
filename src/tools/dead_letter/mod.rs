//! `longhaul dead-letter`: looks at the letters of a queue or topic, brings them back to their
//! origin, or removes them.
//!
//! A letter is handled in one order only: the item is written to its origin, the write is
//! confirmed, and then the letter is removed. One letter is handled at a time, so that a kill
//! leaves at most one item at both places.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Failure, Place, Progress};
use crate::event::{Message, Origin, Properties, Value};
use crate::publish::dead_letter::{self, RestoreError};
use crate::publish::{Outgoing, PublishError, Publisher, is_bookkeeping};

mod facts;
mod filter;
#[cfg(feature = "kafka")]
mod kafka;
mod letters;

pub use facts::Facts;
pub use filter::{Filter, regex};
use letters::{Found, Letters};

/// Publishers to origins that are kept open.
const PUBLISHERS_MAX: usize = 100;
/// The wait before a write is repeated.
const BACKOFF: Duration = Duration::from_millis(500);

/// The letters, and which of them are meant.
pub struct Selection {
    pub from: Place,
    /// The consumer group that remembers the handled letters of a topic.
    pub group: Option<String>,
    /// Whether letters of a topic that were handled before are meant too.
    pub includes_handled: bool,
    pub filter: Filter,
    /// The most letters that are selected.
    pub limit: Option<u64>,
}

/// The target of a redrive.
pub enum Destination {
    /// One queue or topic for all.
    Place(Place),
    /// The queue or topic that each letter names, at these brokers.
    Origin(Vec<Place>),
}

/// A letter as the commands show it.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub facts: Facts,
    /// The letter of a topic was handled before.
    pub is_handled: bool,
    #[serde(skip)]
    pub message: Option<Message>,
}

/// The result of a look.
#[derive(Debug, Default)]
pub struct Listing {
    pub letters: Vec<Shown>,
    /// All letters that were read.
    pub read: u64,
    /// Letters that were written to their queue again, because they were near its delivery limit.
    pub renewed: u64,
    /// Whether there are more letters than the limit.
    pub is_cut: bool,
}

/// The result of a redrive or a purge.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Letters that the filter selects.
    pub matched: u64,
    /// Letters that were brought back, or removed.
    pub handled: u64,
    /// Letters that stay, with the reason.
    pub skipped: Vec<Skipped>,
    /// Letters that may be at both places, because the end came between the two steps.
    pub doubtful: Vec<String>,
    pub failure: Option<String>,
    pub is_interrupted: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    pub id: String,
    pub reason: String,
}

/// Reads the letters and leaves them in place. `keep` says whether the messages are kept.
///
/// # Errors
/// Returns an error if the queue or topic cannot be read.
pub async fn list(selection: &Selection, keep: bool, stop: &CancellationToken) -> Result<Listing, Failure> {
    let mut letters = Letters::open(selection, false).await?;
    let mut listing = Listing::default();
    let result = async {
        while !stop.is_cancelled() {
            let Some(found) = letters.next().await? else { break };
            listing.read += 1;
            let facts = Facts::of(&found.message);
            let is_meant = !found.is_handled || selection.includes_handled;
            if is_meant && selection.filter.matches(&facts, &found.message) {
                if selection.limit.is_some_and(|limit| listing.letters.len() as u64 >= limit) {
                    listing.is_cut = true;
                    letters.keep(found).await?;
                    break;
                }
                let message = keep.then(|| found.message.clone());
                listing.letters.push(Shown { facts, is_handled: found.is_handled, message });
            }
            letters.keep(found).await?;
        }
        Ok(())
    };
    let result = result.await;
    listing.renewed = letters.renewed();
    letters.leave().await?;
    result.map(|()| listing)
}

/// Handles the letters: with a destination they are written there first.
pub struct Work {
    pub destination: Option<Destination>,
    pub is_dry_run: bool,
    /// Whether a letter that lacks a part of its item is brought back too.
    pub takes_incomplete: bool,
    /// How long one write is repeated.
    pub patience: Duration,
}

/// # Errors
/// Returns an error if the queue or topic cannot be read. Later failures are in the report.
pub async fn handle(
    selection: &Selection,
    work: &Work,
    progress: &mut Progress,
    stop: &CancellationToken,
) -> Result<Report, Failure> {
    let mut letters = Letters::open(selection, !work.is_dry_run).await?;
    progress.set_total(letters.total());
    let mut report = Report::default();
    let mut publishers = Publishers::default();
    let mut read = 0;
    while report.failure.is_none() {
        if stop.is_cancelled() {
            report.is_interrupted = true;
            break;
        }
        if selection.limit.is_some_and(|limit| report.matched >= limit) {
            break;
        }
        let found = match letters.next().await {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(failure) => {
                report.failure = Some(failure.what);
                break;
            }
        };
        read += 1;
        progress.at(read);
        let facts = Facts::of(&found.message);
        let is_meant = !found.is_handled && selection.filter.matches(&facts, &found.message);
        if !is_meant {
            if let Err(failure) = letters.keep(found).await {
                report.failure = Some(failure.what);
            }
            continue;
        }
        report.matched += 1;
        if let Err(failure) =
            one(&mut letters, found, &facts, selection, work, &mut publishers, &mut report, stop).await
        {
            report.failure = Some(failure.what);
        }
    }
    progress.clear();
    if let Err(failure) = letters.leave().await {
        report.failure.get_or_insert(failure.what);
    }
    Ok(report)
}

#[expect(clippy::too_many_arguments, reason = "one step of a loop, with all of its state")]
async fn one(
    letters: &mut Letters,
    found: Found,
    facts: &Facts,
    selection: &Selection,
    work: &Work,
    publishers: &mut Publishers,
    report: &mut Report,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let skipped = |reason: String| Skipped { id: facts.id.clone(), reason };
    let prepared = match &work.destination {
        Some(destination) => Some(prepare(&found.message, destination, selection, work)),
        None => None,
    };
    let prepared = match prepared.transpose() {
        Ok(prepared) => prepared,
        Err(reason) => {
            report.skipped.push(skipped(reason));
            return letters.keep(found).await;
        }
    };
    if work.is_dry_run {
        report.handled += 1;
        return letters.keep(found).await;
    }
    if let Some((place, outgoing)) = prepared {
        let publisher = publishers.to(&place)?;
        let (result, is_doubtful) = write(publisher.as_ref(), outgoing, work.patience, stop).await;
        if is_doubtful {
            report.doubtful.push(facts.id.clone());
        }
        match result {
            Ok(()) => {}
            Err(error) if error.is_transient() => {
                letters.keep(found).await?;
                return Err(Failure::unavailable(error.what, "the letters that are left stay"));
            }
            Err(error) => {
                report.skipped.push(skipped(error.what));
                return letters.keep(found).await;
            }
        }
    }
    match letters.remove(found).await {
        Ok(()) => report.handled += 1,
        Err(failure) => {
            if work.destination.is_some() {
                report.doubtful.push(facts.id.clone());
            }
            return Err(failure);
        }
    }
    Ok(())
}

/// The target and the message of a letter, or the reason why it stays.
fn prepare(
    letter: &Message,
    destination: &Destination,
    selection: &Selection,
    work: &Work,
) -> Result<(Place, Outgoing), String> {
    let (from, outgoing, left_out) = match dead_letter::restore(letter) {
        Ok(restored) => {
            let from = match restored.from {
                dead_letter::Place::Rabbitmq { queue } => Some((crate::publish::Broker::Rabbitmq, queue)),
                dead_letter::Place::Kafka { topic, .. } => Some((crate::publish::Broker::Kafka, topic)),
            };
            (from, restored.outgoing, restored.left_out)
        }
        Err(RestoreError::NoOrigin) => {
            let queue = letter.header("x-first-death-queue").and_then(Value::as_text);
            let from = queue.map(|queue| (crate::publish::Broker::Rabbitmq, queue.to_owned()));
            (from, as_it_is(letter), None)
        }
        Err(error) => return Err(error.to_string()),
    };
    if let Some(left_out) = left_out.filter(|_| !work.takes_incomplete) {
        return Err(format!(
            "the letter lacks a part of its item ({left_out}); --incomplete brings it back all the same"
        ));
    }
    let place = match destination {
        Destination::Place(place) => place.clone(),
        Destination::Origin(brokers) => {
            let (kind, name) = from.ok_or("the letter names no origin; name a target with --to")?;
            let broker = brokers.iter().find(|place| place.broker() == kind);
            let broker = broker.ok_or_else(|| {
                let kind = if kind == crate::publish::Broker::Kafka { "Kafka" } else { "RabbitMQ" };
                format!("its origin is {name} in {kind}; name the broker with --to")
            })?;
            broker.named(&name)
        }
    };
    if place.address() == selection.from.address() {
        return Err("its target is the place of the letters itself".to_owned());
    }
    Ok((place, outgoing))
}

/// The message of a letter that longhaul did not write, without the broker's history. The history
/// would make RabbitMQ drop the message as a cycle, or count it as returned.
fn as_it_is(letter: &Message) -> Outgoing {
    let headers = letter.headers.iter().filter(|(name, _)| !is_bookkeeping(name)).cloned().collect();
    let body = letter.body.clone();
    match &letter.origin {
        Origin::Rabbitmq(origin) => {
            // The broker has removed the expiration of a message that it dead-lettered.
            Outgoing { body, headers, properties: origin.properties.clone(), ..Outgoing::default() }
        }
        Origin::Kafka(origin) => Outgoing {
            body,
            is_null: origin.is_null,
            headers,
            key: origin.key.clone(),
            properties: Properties::default(),
        },
    }
}

/// Writes, and repeats it; the second value says whether an unconfirmed write may be there too.
async fn write(
    publisher: &dyn Publisher,
    outgoing: Outgoing,
    patience: Duration,
    stop: &CancellationToken,
) -> (Result<(), PublishError>, bool) {
    let (started, mut is_doubtful) = (std::time::Instant::now(), false);
    loop {
        match publisher.publish(outgoing.clone()).await {
            Err(error) if error.is_transient() => {
                is_doubtful |= !error.is_unwritten;
                if started.elapsed() + BACKOFF >= patience || stop.is_cancelled() {
                    return (Err(error), is_doubtful);
                }
                tokio::time::sleep(BACKOFF).await;
            }
            result => return (result, is_doubtful),
        }
    }
}

/// Publishers by place.
#[derive(Default)]
struct Publishers(HashMap<String, Arc<dyn Publisher>>);

impl Publishers {
    fn to(&mut self, place: &Place) -> Result<Arc<dyn Publisher>, Failure> {
        let address = place.address();
        if let Some(publisher) = self.0.get(&address) {
            return Ok(Arc::clone(publisher));
        }
        if self.0.len() >= PUBLISHERS_MAX {
            self.0.clear();
        }
        let publisher = place.publisher()?;
        self.0.insert(address, Arc::clone(&publisher));
        Ok(publisher)
    }
}
