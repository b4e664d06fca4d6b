//! Checkpoints of workers in a compacted Kafka topic, so that they outlive this process.
//!
//! A worker posts checkpoints while its item runs. [`Store`] writes the latest one of each item, at
//! most once a [`WRITE_INTERVAL`], and no item ever waits for such a write. When the group assigns
//! a partition, the bridge lets [`Store::load`] read its checkpoints before it starts the
//! partition's items. When an item has ended, a record without a value removes its checkpoint.
//!
//! A checkpoint only saves work. A topic that is missing or slow is reported, and the items start
//! without their checkpoints after [`LOAD_TIMEOUT`].

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::delivery::{Digest, Identity};
use crate::publish::{Outgoing, Publisher};
use crate::telemetry::{Problem, ProblemKind, Status};

#[cfg(feature = "kafka")]
pub mod kafka;
mod record;
mod table;

pub use record::{Checkpoint, Collection, Partition, Place};
use table::{Change, Table};

/// The time between two writes of one item's checkpoint.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the items of an assigned partition wait for their checkpoints.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes that are not confirmed yet.
const WRITES_MAX: usize = 64;

/// The time between two tries of a read or a write that failed.
const RETRY: Duration = Duration::from_secs(2);

/// The most memory for checkpoints that were read.
const LOADED_BYTES: usize = 64 << 20;

const HELP: &str = "create the compacted topic of `checkpoints`, and allow this user to Read and Write it; items run meanwhile, and after a restart they begin without the checkpoints that are not stored";

/// Reads the topic.
pub trait Reader: Send + Sync + 'static {
    /// Passes all records of the topic up to its present end to the collection, in the order of
    /// each partition.
    ///
    /// # Errors
    /// Returns the reason why the topic could not be read to its end.
    fn read(
        &self,
        collection: Collection,
    ) -> Pin<Box<dyn Future<Output = Result<Collection, String>> + Send + '_>>;
}

/// The checkpoints of one pipeline.
pub struct Store {
    /// The group of the source. Other groups have checkpoints of their own for the same records.
    group: String,
    publisher: Arc<dyn Publisher>,
    reader: Arc<dyn Reader>,
    status: Arc<Status>,
    table: Mutex<Table>,
    /// The table has a write that is due earlier than before.
    hurried: Notify,
    /// Partitions to read, each with its committed offset. Every read answers those that it began
    /// with.
    wanted: watch::Sender<Vec<(Partition, i64)>>,
}

/// The place of one item in the store.
#[derive(Clone)]
pub struct Keeper {
    store: Arc<Store>,
    place: Place,
    content: Digest,
}

impl Store {
    pub fn new(
        group: &str,
        publisher: Arc<dyn Publisher>,
        reader: Arc<dyn Reader>,
        status: Arc<Status>,
    ) -> Self {
        Store {
            group: group.to_owned(),
            publisher,
            reader,
            status,
            table: Mutex::default(),
            hurried: Notify::new(),
            wanted: watch::Sender::default(),
        }
    }

    /// The keeper of an item. Returns `None` for an item that is not a record of a known log: its
    /// checkpoint could be that of another item.
    pub fn keeper(self: &Arc<Self>, identity: &Identity) -> Option<Keeper> {
        let Identity::Record { log, topic, partition, offset, content } = identity else { return None };
        let partition = Partition { topic: topic.clone(), number: *partition, log: log.0 };
        let place = Place { partition, offset: *offset };
        (log.0 != 0).then(|| Keeper { store: self.clone(), place, content: *content })
    }

    /// Reads the checkpoints of these partitions, at most for [`LOAD_TIMEOUT`]. A later success
    /// still serves the items that have not started by then. Records before the committed offset
    /// have ended, so their checkpoints are removed.
    pub async fn load(&self, partition: Partition, committed: i64) {
        if partition.log == 0 {
            return;
        }
        let mut reads = self.wanted.subscribe();
        self.wanted.send_modify(|wanted| wanted.push((partition.clone(), committed)));
        let is_read = |wanted: &Vec<(Partition, i64)>| wanted.iter().all(|(other, _)| *other != partition);
        if timeout(LOAD_TIMEOUT, reads.wait_for(is_read)).await.is_err() {
            let Partition { topic, number, .. } = &partition;
            tracing::warn!(%topic, partition = number, "Checkpoints could not be read in time; items start without them");
            self.raise("read", &format!("no answer within {} s", LOAD_TIMEOUT.as_secs()));
        }
    }

    /// The partition belongs to another replica from now on. Its checkpoints are written at once.
    pub fn forget(&self, partition: &Partition) {
        self.wanted.send_modify(|wanted| wanted.retain(|(other, _)| other != partition));
        if self.wanted.borrow().is_empty() {
            self.clear("read");
        }
        self.table().leave(partition, Instant::now());
        self.hurried.notify_one();
    }

    /// Writes everything that is not written yet, at most for this time.
    pub async fn flush(&self, limit: Duration) {
        self.table().hurry(Instant::now());
        self.hurried.notify_one();
        let written = async {
            while !self.table().is_written() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(limit, written).await.is_err() {
            tracing::warn!("Some checkpoints could not be stored; their items may begin with earlier ones");
        }
    }

    /// Reads and writes without end.
    pub async fn run(&self) {
        tokio::join!(self.write_without_end(), self.read_without_end());
    }

    async fn write_without_end(&self) {
        let mut writes = FuturesUnordered::new();
        loop {
            let changes = self.table().take_due(Instant::now(), WRITES_MAX - writes.len());
            for Change { place, checkpoint } in changes {
                writes.push(async move {
                    let written = self.publisher.publish(self.outgoing(&place, checkpoint.as_ref())).await;
                    (place, written)
                });
            }
            let due = self.table().next_due().filter(|_| writes.len() < WRITES_MAX);
            tokio::select! {
                Some((place, written)) = writes.next() => {
                    let now = Instant::now();
                    match written {
                        Ok(()) => {
                            self.table().written(&place, now);
                            self.clear("write");
                        }
                        Err(error) => {
                            self.table().failed(&place, now + RETRY);
                            self.raise("write", &error.what);
                        }
                    }
                }
                () = self.hurried.notified() => {}
                () = at(due) => {}
            }
        }
    }

    fn outgoing(&self, place: &Place, checkpoint: Option<&Checkpoint>) -> Outgoing {
        Outgoing {
            key: Some(record::key(&self.group, place).into()),
            body: checkpoint.map(record::value).unwrap_or_default().into(),
            is_null: checkpoint.is_none(),
            ..Outgoing::default()
        }
    }

    async fn read_without_end(&self) {
        let mut requests = self.wanted.subscribe();
        loop {
            let Ok(wanted) = requests.wait_for(|wanted| !wanted.is_empty()).await.map(|all| all.clone())
            else {
                return;
            };
            let partitions = wanted.iter().map(|(partition, _)| partition.clone()).collect();
            let collection = Collection::new(&self.group, partitions, LOADED_BYTES);
            match self.reader.read(collection).await {
                Ok(collection) => {
                    self.loaded(&wanted, collection);
                    self.wanted.send_modify(|all| all.retain(|one| !wanted.contains(one)));
                    self.clear("read");
                }
                Err(error) => {
                    self.raise("read", &error);
                    sleep(RETRY).await;
                }
            }
        }
    }

    fn loaded(&self, wanted: &[(Partition, i64)], collection: Collection) {
        if collection.left_out > 0 {
            tracing::warn!(
                left_out = collection.left_out,
                "Some checkpoints do not fit into memory; their items start without them"
            );
        }
        let found = collection.into_found();
        tracing::info!(partitions = wanted.len(), checkpoints = found.len(), "Checkpoints read");
        let still_wanted = self.wanted.borrow().clone();
        let now = Instant::now();
        for (place, checkpoint) in found {
            let asked = |(partition, _): &&(Partition, i64)| *partition == place.partition;
            // The partition may have gone to another replica meanwhile.
            let Some((_, committed)) = still_wanted.iter().find(asked) else { continue };
            let has_ended = place.offset < *committed;
            self.table().loaded(place, checkpoint, has_ended, now);
        }
        self.hurried.notify_one();
    }

    fn raise(&self, what: &str, error: &str) {
        self.status.raise(Problem {
            kind: ProblemKind::TargetUnwritable,
            subject: format!("checkpoints ({what})"),
            text: format!(
                "checkpoints can't be {}: {error}",
                if what == "read" { "read" } else { "written" }
            ),
            help: HELP.to_owned(),
        });
    }

    fn clear(&self, what: &str) {
        self.status.clear(ProblemKind::TargetUnwritable, &format!("checkpoints ({what})"));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// The checkpoint that an earlier attempt left.
    pub fn stored(&self) -> Option<String> {
        self.store.table().get(&self.place, self.content)
    }

    /// Takes the latest checkpoint. Returns at once.
    pub fn keep(&self, text: &str) {
        let checkpoint = Checkpoint { content: self.content, text: text.to_owned() };
        self.store.table().keep(&self.place, checkpoint, Instant::now());
        self.store.hurried.notify_one();
    }

    /// The item has ended, and needs no checkpoint any more. `has_checkpoint` tells whether one was
    /// seen here.
    pub fn ended(&self, has_checkpoint: bool) {
        self.store.table().ended(&self.place, self.content, has_checkpoint, Instant::now());
        self.store.hurried.notify_one();
    }

    /// The item has left this process without an end.
    pub fn left(&self) {
        self.store.table().left(&self.place);
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(formatter)
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
