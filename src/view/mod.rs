//! The state of pipelines and items as people see it: the types of the admin interface.
//!
//! The bridge fills them, the admin server sends them as JSON, and the commands (`ps`, `items`,
//! `top`) read them. Names and values are API (docs/api.md). All times are RFC 3339 in UTC.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod action;
mod filter;
mod guard;
mod number;
mod partition;
mod replica;

pub use action::{Action, Then};
pub use filter::{Filter, FilterError};
pub use guard::{Guard, StoppingPod};
pub use number::number;
pub use partition::PartitionChange;
pub use replica::Replica;

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ItemState {
    /// It waits for a free slot.
    Waiting,
    /// The other replicas are asked whether they run it.
    Asking,
    /// Its request is open.
    Running,
    /// It waits for its next attempt.
    Retrying,
    /// Its dead letter, reply or copy is being written.
    Writing,
    /// It stays with the broker, unsettled, until a person decides.
    Held,
    /// It waits for another item of its key.
    Blocked,
    /// It ended with success.
    Done,
    /// Its dead letter is written, and it is acked.
    DeadLettered,
    /// It was acked without success, because the configuration or a person asked for that.
    Dropped,
}

/// One item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// The `id` of its event. Two items may have the same one.
    pub id: String,
    pub pipeline: String,
    /// The replica that has the item.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replica: String,
    pub state: ItemState,
    /// The number of the present attempt or of the latest one. 0 before the first.
    pub attempt: u32,
    /// `retry.attempts` of the configuration.
    pub attempts: u32,
    /// The start of the present state.
    pub since: String,
    /// When the next step is due, if a time is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// When the open request ends at the latest (`sink.timeout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Why it is held or was dead-lettered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The latest answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// The worker's pod, if the worker reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Whether that pod is being deleted, as the guard sees it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pod_stopping: bool,
    /// RabbitMQ: the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// RabbitMQ: the delivery tag in the present connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_tag: Option<u64>,
    /// Kafka: the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Kafka: the partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Kafka: the offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// The latest report of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// The end of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Last {
    /// The status code, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The class of the outcome, as in the metric `longhaul_attempts_total`.
    pub outcome: String,
    /// The explanation, at most 1 KiB: the worker's own text, or the error.
    pub text: String,
    /// The headers of the answer that say something about the outcome.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// When the attempt ended.
    pub at: String,
}

/// The report of a worker on its running item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// From 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When the worker reported last.
    pub at: String,
}

/// A page of items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ItemList {
    /// Unfinished items in order of arrival, then finished ones, the latest first.
    pub items: Vec<Item>,
    /// The number of items that match, on all pages.
    pub total: usize,
    /// The value of `after` for the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// With `replicas=all`: the replicas that were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
}

/// The log tail of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemLog {
    pub id: String,
    /// The latest lines that its workers reported, at most 64 KiB.
    pub lines: Vec<String>,
}

/// The result of an action on items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Matched {
    /// The number of items that the filter selects.
    pub matched: usize,
    /// The number of those that changed, or would change in a dry run. An action that does not fit
    /// an item's state leaves it alone.
    pub changed: usize,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Matched {
    /// Adds the counts of another pipeline or replica.
    pub fn add(&mut self, other: Matched) {
        self.matched += other.matched;
        self.changed += other.changed;
    }
}

/// The result of an action on a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    pub pipeline: String,
    pub changed: bool,
    /// The change, or why there was none.
    pub text: String,
}

/// All pipelines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineList {
    pub pipelines: Vec<Pipeline>,
    /// With `replicas=all`: the replicas that were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
}

/// One pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pipeline {
    pub name: String,
    /// The replica that this is the state of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replica: String,
    /// The queue, or the topics and the group.
    pub source: String,
    /// The address that the requests go to.
    pub sink: String,
    pub state: PipelineState,
    /// The state in one sentence.
    pub sentence: String,
    /// Items that the broker has not handed over yet; absent while the broker has not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u64>,
    /// The number of items in each state. Finished ones count since the start of the process.
    pub counts: BTreeMap<ItemState, u64>,
    pub limit: Limit,
    /// The breaker, if it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Everything that keeps the pipeline from being ready, as in `/readyz`.
    pub problems: Vec<Problem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// Items done in the last five minutes, for each minute.
    pub done_per_minute: f64,
    /// The mean duration of the latest successful attempts, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_seconds: Option<f64>,
    /// The number of worker pods that reported a running item.
    pub pods: usize,
    /// Kafka: the partitions that a person paused, each as TOPIC/PARTITION.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused_partitions: Vec<String>,
    /// Kafka: the partitions that this replica reads, at most 1,000 of them. Only in the answer
    /// about one pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Partition>,
    /// The guard of busy pods, if it is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// The last hour, oldest first. Only in the answer about one pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Sample>,
}

/// A Kafka partition that this replica reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
    /// The offset of the first unfinished record; absent until the first record was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished_from: Option<i64>,
    /// Records from there to the end of the log; absent while the end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// The age of the first unfinished record in hand, in seconds; 0 without one.
    pub head_age_seconds: u64,
    /// Whether a person has paused it.
    pub paused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PipelineState {
    /// It takes items, or waits for some.
    Running,
    /// A person has paused it.
    Paused,
    /// It finishes its running items and takes no new ones.
    Draining,
    /// The drain is over, and the pipeline has left its broker.
    Drained,
    /// A problem keeps it from being ready.
    Stuck,
}

/// The number of requests that may be open, and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// The configured number.
    pub max_in_flight: u32,
    /// The number that a person set until the next restart; else `max_in_flight`.
    pub ceiling: u32,
    /// The working limit: below `ceiling` after the service did not start all requests.
    pub working: u32,
    /// Requests that are open.
    pub running: u32,
    /// The bound that keeps further items from starting now.
    pub binding: Binding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// No item waits: the queue is empty.
    Backlog,
    /// `max_in_flight` requests are open.
    MaxInFlight,
    /// As many requests as the limit that a person set are open.
    Ceiling,
    /// RabbitMQ: items that are held or wait for their next attempt occupy the free slots, because
    /// the broker hands out at most `max_in_flight` items.
    Occupied,
    /// The service did not start all requests, so the working limit is lower.
    WorkingLimit,
    /// The next item may start only later, because of `rate`.
    Rate,
    /// The messages in hand are at `limits.held_bytes`.
    HeldBytes,
    /// As many items as `limits.held_max` allows are held.
    HeldMax,
    Breaker,
    Paused,
    Draining,
}

/// An open breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breaker {
    /// The class of the outcome that opened it.
    pub cause: String,
    /// The last answer of the service.
    pub answer: String,
    pub since: String,
    /// When an item tests the service; absent while one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The effect of `resume`.
    pub resume: String,
}

/// A reason why a pipeline is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    pub kind: String,
    /// The affected queue, topic or address; empty for the pipeline itself.
    pub subject: String,
    pub since: String,
    pub text: String,
    /// How a person can fix it.
    pub help: String,
}

/// When the backlog will be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clears_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<String>,
    /// The backlog grows at the present rates.
    pub never: bool,
}

/// One moment of the last hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    pub at: String,
    pub backlog: u64,
    pub running: u32,
    pub held: u32,
    /// Items done since the start of the process.
    pub done: u64,
    /// Items dead-lettered or dropped since the start of the process.
    pub failed: u64,
}

/// A change that `GET /api/v1/events` publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// The item is in this state now.
    Item(Box<Item>),
    /// The item is in the hands of this replica no more, without an end: it was returned, parked,
    /// or given to another replica.
    Gone { pipeline: String, id: String },
    /// The pipeline's state, sentence, counts or limit changed.
    Pipeline(Box<Pipeline>),
}

impl ItemState {
    /// The states of items that have not ended: they are in hand.
    pub const UNFINISHED: [ItemState; 7] = [
        ItemState::Waiting,
        ItemState::Asking,
        ItemState::Running,
        ItemState::Retrying,
        ItemState::Writing,
        ItemState::Held,
        ItemState::Blocked,
    ];

    /// The states of items that have ended.
    pub const FINISHED: [ItemState; 3] = [ItemState::Done, ItemState::DeadLettered, ItemState::Dropped];

    pub const ALL: [ItemState; 10] = [
        ItemState::Waiting,
        ItemState::Asking,
        ItemState::Running,
        ItemState::Retrying,
        ItemState::Writing,
        ItemState::Held,
        ItemState::Blocked,
        ItemState::Done,
        ItemState::DeadLettered,
        ItemState::Dropped,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ItemState::Waiting => "waiting",
            ItemState::Asking => "asking",
            ItemState::Running => "running",
            ItemState::Retrying => "retrying",
            ItemState::Writing => "writing",
            ItemState::Held => "held",
            ItemState::Blocked => "blocked",
            ItemState::Done => "done",
            ItemState::DeadLettered => "dead-lettered",
            ItemState::Dropped => "dropped",
        }
    }

    /// Whether the item has ended.
    pub fn is_finished(self) -> bool {
        ItemState::FINISHED.contains(&self)
    }
}

impl Binding {
    pub const ALL: [Binding; 11] = [
        Binding::Backlog,
        Binding::MaxInFlight,
        Binding::Ceiling,
        Binding::Occupied,
        Binding::WorkingLimit,
        Binding::Rate,
        Binding::HeldBytes,
        Binding::HeldMax,
        Binding::Breaker,
        Binding::Paused,
        Binding::Draining,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Binding::Backlog => "backlog",
            Binding::MaxInFlight => "max-in-flight",
            Binding::Ceiling => "ceiling",
            Binding::Occupied => "occupied",
            Binding::WorkingLimit => "working-limit",
            Binding::Rate => "rate",
            Binding::HeldBytes => "held-bytes",
            Binding::HeldMax => "held-max",
            Binding::Breaker => "breaker",
            Binding::Paused => "paused",
            Binding::Draining => "draining",
        }
    }
}

impl fmt::Display for ItemState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for ItemState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ItemState::ALL.into_iter().find(|state| state.as_str() == text);
        let names = ItemState::ALL.map(ItemState::as_str).join(", ");
        found.ok_or_else(|| format!("{text:?} is not a state of an item; the states are {names}"))
    }
}
