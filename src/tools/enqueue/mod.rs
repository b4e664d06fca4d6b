//! `longhaul enqueue`: writes items to a queue or a topic, each with an id, each confirmed.
//!
//! Any number of interruptions may come between: the [`state`] file tells which messages are
//! confirmed. Only messages that were sent without a confirm may be there twice, and they are
//! listed.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Failure, Place, Progress};
use crate::publish::{Broker, Outgoing, PublishError, Publisher};

pub mod ident;
pub mod input;
mod message;
pub mod rate;
pub mod state;
pub mod template;

pub use ident::From;
use input::Raw;
pub use input::{Bad, Input};
pub use message::Form;
use rate::{Pace, Rate};
use state::State;

/// Entries that are read ahead.
const AHEAD: usize = 64;
/// The first wait before a write is repeated; it doubles up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Entries that a report lists; the rest is in the file.
pub const LISTED: usize = 20;
/// Ids that are remembered to find equal ones.
const IDS_MAX: usize = 2_000_000;

/// The work of one command.
pub struct Job {
    pub input: Input,
    pub to: Place,
    pub id: From,
    /// The key of a Kafka record; the id if it is absent.
    pub key: Option<From>,
    pub form: Form,
    pub rate: Option<Rate>,
    /// The number of writes without a confirm at once.
    pub window: usize,
    /// How long the write of one message is repeated.
    pub patience: Duration,
    /// Whether messages that an earlier run left in doubt are written again.
    pub repeats_doubtful: bool,
    /// Whether parts of the input that make no message are left out.
    pub skips_bad: bool,
}

/// A message that is listed in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The result of a look at the whole input, without a write.
#[derive(Debug, Default)]
pub struct Survey {
    pub messages: u64,
    pub bytes: u64,
    pub bad: Vec<Listed>,
    /// Messages whose id an earlier message has.
    pub equal_ids: u64,
    /// The first ids, for the dry run.
    pub first: Vec<Listed>,
    digest: Sha256,
}

/// The result of the writes.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub target: String,
    /// Messages confirmed in all runs together.
    pub confirmed: u64,
    /// Those of them that an earlier run had confirmed.
    pub earlier: u64,
    /// Messages that make no message, or that the broker never accepts.
    pub refused: Vec<Listed>,
    /// Messages that may be there twice; if they were not written again: that may be missing.
    pub doubtful: Vec<Listed>,
    pub seconds: f64,
    pub is_interrupted: bool,
    /// The reason why the writes ended early.
    pub failure: Option<String>,
}

/// Reads the whole input, and makes the message of each entry.
///
/// # Errors
/// Returns an error if the input cannot be opened.
pub fn survey(job: &Job) -> Result<Survey, Failure> {
    let mut survey = Survey::default();
    let mut ids = HashSet::new();
    for entry in job.input.open()? {
        let made = entry.and_then(|raw| job.outgoing(&raw).map(|made| (raw, made)).map_err(|(_, bad)| bad));
        let (raw, (id, outgoing)) = match made {
            Ok(made) => made,
            Err(bad) => {
                survey.digest.update(bad.place.as_bytes());
                survey.bad.push(bad.into());
                continue;
            }
        };
        for part in [id.as_bytes(), &outgoing.body] {
            survey.digest.update((part.len() as u64).to_be_bytes());
            survey.digest.update(part);
        }
        survey.messages += 1;
        survey.bytes += outgoing.body.len() as u64;
        if ids.len() < IDS_MAX {
            let mut hasher = DefaultHasher::new();
            id.hash(&mut hasher);
            survey.equal_ids += u64::from(!ids.insert(hasher.finish()));
        }
        if survey.first.len() < 3 {
            survey.first.push(Listed { place: raw.place, id: Some(id), reason: None });
        }
    }
    Ok(survey)
}

impl Job {
    /// Names the input, the target and every option that changes a message.
    pub fn fingerprint(&self, survey: Option<&Survey>) -> String {
        let mut digest = survey.map(|survey| survey.digest.clone()).unwrap_or_default();
        digest.update(self.name());
        digest.update(format!("{:?} {:?} {:?}", self.id, self.key, self.form));
        hex(&digest.finalize()[..16])
    }

    /// The name of the default state file: the same for each run of the same command.
    pub fn state_file(&self) -> String {
        format!(".longhaul-enqueue-{}.state", hex(&Sha256::digest(self.name())[..4]))
    }

    fn name(&self) -> String {
        format!("{} {}", self.input.shown(), self.to.address())
    }

    /// The id and the message of an entry.
    fn outgoing(&self, raw: &Raw) -> Result<(String, Outgoing), (Option<String>, Bad)> {
        let bad = |reason| Bad { number: raw.number, place: raw.place.clone(), reason };
        let id = self.id.id(raw).map_err(|reason| (None, bad(reason)))?;
        let key = match &self.key {
            Some(from) => Some(from.text(raw).map_err(|reason| (Some(id.clone()), bad(reason)))?),
            None => None,
        };
        let outgoing = self.form.outgoing(raw, &id, key, self.to.broker());
        Ok((id, outgoing))
    }
}

impl std::convert::From<Bad> for Listed {
    fn from(bad: Bad) -> Self {
        Listed { place: bad.place, id: None, reason: Some(bad.reason) }
    }
}

/// An entry whose write has ended.
struct Ended {
    raw: Raw,
    id: String,
    result: Result<(), PublishError>,
    /// Whether a write of it may have succeeded without a confirm.
    is_doubtful: bool,
}

/// Writes all entries that the state does not know as confirmed.
///
/// # Errors
/// Returns an error if the input cannot be opened. Later failures are in the summary.
pub async fn run(
    job: Job,
    state: &mut State,
    progress: &mut Progress,
    stop: CancellationToken,
) -> Result<Summary, Failure> {
    let publisher = job.to.publisher()?;
    let job = Arc::new(job);
    let mut summary = Summary { target: job.to.address(), earlier: state.confirmed(), ..Summary::default() };
    let (started, mut pace) = (Instant::now(), Pace::new(job.rate));
    let mut entries = read_ahead(&job)?;
    let mut places: BTreeMap<u64, Listed> = BTreeMap::new();
    let mut in_flight = FuturesUnordered::new();
    let (mut waiting, mut is_over, mut is_stopping) = (None, false, false);
    loop {
        let may_start = waiting.is_some() && in_flight.len() < job.window && !is_stopping;
        let may_read = waiting.is_none() && !is_over && !is_stopping;
        if !may_start && !may_read && in_flight.is_empty() {
            break;
        }
        tokio::select! {
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                summary.is_interrupted = true;
            }
            Some(ended) = in_flight.next(), if !in_flight.is_empty() => {
                let ended: Ended = ended;
                let listed = Listed { place: ended.raw.place, id: Some(ended.id), reason: None };
                if ended.is_doubtful && ended.result.is_ok() {
                    places.insert(ended.raw.number, listed.clone());
                }
                if let Err(failure) = record(state, ended.raw.number, &ended.result, ended.is_doubtful) {
                    summary.failure.get_or_insert(failure.what);
                    is_stopping = true;
                }
                match ended.result {
                    Ok(()) => {}
                    Err(error) if error.is_transient() => {
                        summary.failure.get_or_insert(error.what);
                        is_stopping = true;
                    }
                    Err(error) => summary.refused.push(Listed { reason: Some(error.what), ..listed }),
                }
                progress.at(state.confirmed() + summary.refused.len() as u64);
            }
            entry = entries.recv(), if may_read => match entry {
                None => is_over = true,
                Some(Ok((raw, id, outgoing))) => {
                    let is_known = state.is_doubtful(raw.number);
                    if is_known {
                        places.insert(raw.number, Listed { place: raw.place.clone(), id: Some(id.clone()), reason: None });
                    }
                    let is_left_out = is_known && !job.repeats_doubtful;
                    if !state.is_confirmed(raw.number) && !is_left_out {
                        waiting = Some((raw, id, outgoing));
                    }
                }
                Some(Err(bad)) => {
                    let is_fatal = !job.skips_bad && !job.input.is_repeatable();
                    summary.refused.push(bad.into());
                    if is_fatal {
                        summary.failure.get_or_insert("the input has a mistake".to_owned());
                        is_stopping = true;
                    }
                }
            },
            () = pace.ready(), if may_start => {
                if let Some((raw, id, outgoing)) = waiting.take() {
                    match state.sends(raw.number) {
                        Ok(()) => {
                            pace.took();
                            let (publisher, patience) = (Arc::clone(&publisher), job.patience);
                            in_flight.push(deliver(publisher, raw, id, outgoing, patience, stop.clone()));
                        }
                        Err(failure) => {
                            summary.failure.get_or_insert(failure.what);
                            is_stopping = true;
                        }
                    }
                }
            }
        }
    }
    progress.clear();
    summary.confirmed = state.confirmed();
    summary.seconds = started.elapsed().as_secs_f64();
    let unread = state.doubtful().iter().map(|number| {
        places.get(number).cloned().unwrap_or_else(|| Listed {
            place: format!("message {}", number + 1),
            id: None,
            reason: None,
        })
    });
    summary.doubtful = unread.collect();
    Ok(summary)
}

fn record(
    state: &mut State,
    number: u64,
    result: &Result<(), PublishError>,
    is_doubtful: bool,
) -> Result<(), Failure> {
    if is_doubtful {
        state.doubts(number)?;
    }
    match result {
        Ok(()) => state.confirms(number),
        Err(error) if error.is_unwritten && !is_doubtful => state.unsends(number),
        Err(_) => Ok(()),
    }
}

type Made = Result<(Raw, String, Outgoing), Bad>;

/// Reads the input on a thread of its own, because standard input may be silent for long.
fn read_ahead(job: &Arc<Job>) -> Result<mpsc::Receiver<Made>, Failure> {
    let entries = job.input.open()?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let job = Arc::clone(job);
    tokio::task::spawn_blocking(move || {
        for entry in entries {
            let made = entry.and_then(|raw| match job.outgoing(&raw) {
                Ok((id, outgoing)) => Ok((raw, id, outgoing)),
                Err((_, bad)) => Err(bad),
            });
            if sender.blocking_send(made).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// Writes one message, and repeats it until it is confirmed, refused for good, or given up.
async fn deliver(
    publisher: Arc<dyn Publisher>,
    raw: Raw,
    id: String,
    outgoing: Outgoing,
    patience: Duration,
    stop: CancellationToken,
) -> Ended {
    let (started, mut wait, mut is_doubtful) = (Instant::now(), BACKOFF, false);
    let result = loop {
        match publisher.publish(outgoing.clone()).await {
            Err(error) if error.is_transient() => {
                is_doubtful |= !error.is_unwritten;
                if started.elapsed() + wait >= patience || stop.is_cancelled() {
                    break Err(error);
                }
                tracing::debug!(id, error = error.what, "Write not confirmed; it is repeated");
                tokio::select! {
                    () = stop.cancelled() => break Err(error),
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(BACKOFF_MAX);
            }
            result => break result,
        }
    };
    Ended { raw, id, result, is_doubtful }
}

/// Whether the queue or topic exists.
///
/// # Errors
/// Returns an error if the broker does not answer, or refuses.
pub async fn exists(to: &Place) -> Result<bool, Failure> {
    match to {
        // An exchange is looked for by the first write.
        Place::Rabbitmq(place) if place.exchange.is_some() => Ok(true),
        Place::Rabbitmq(place) => Ok(super::rabbitmq::ready_messages(place).await?.is_some()),
        #[cfg(feature = "kafka")]
        Place::Kafka(place) => Ok(super::kafka::partition_count(place)?.is_some()),
        #[cfg(not(feature = "kafka"))]
        Place::Kafka(_) => Err(Failure::usage("this build has no Kafka", "use another build")),
    }
}

/// Creates a quorum queue, or a topic with this number of partitions.
///
/// # Errors
/// Returns an error if the broker does not answer, or refuses.
pub async fn create(to: &Place, partitions: u16) -> Result<(), Failure> {
    match to {
        Place::Rabbitmq(place) => super::rabbitmq::create(place).await,
        #[cfg(feature = "kafka")]
        Place::Kafka(place) => super::kafka::create(place, partitions.into()).await,
        #[cfg(not(feature = "kafka"))]
        Place::Kafka(_) => {
            let _ = partitions;
            Err(Failure::usage("this build has no Kafka", "use another build"))
        }
    }
}

/// What `create` would create, in words.
pub fn kind(broker: Broker) -> &'static str {
    match broker {
        Broker::Rabbitmq => "queue",
        Broker::Kafka => "topic",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
