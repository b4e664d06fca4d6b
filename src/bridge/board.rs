//! The record that people see: the history of each item, the finished items, and the last hour.
//!
//! The core knows the present state of every item. The board adds the things that the core has no
//! use for: since when, the latest answer, and the items that have ended.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use crate::delivery::{Ended, ItemId, Outcome, Reason, State, StateKind, Time, Write};
use crate::progress::Report;
use crate::telemetry::timestamp;
use crate::view::{self, Change, ItemState};

/// Finished items that are remembered.
const FINISHED_MAX: usize = 10_000;

/// Memory of the finished items that are remembered, in bytes.
const FINISHED_BYTES: usize = 12 << 20;

/// Bytes of an answer's text that are kept.
const TEXT_MAX: usize = 1024;

/// The time between two samples of the chart.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Samples that are kept: one hour.
const SAMPLES_MAX: usize = 360;

/// Successful attempts whose durations are kept for the forecast.
const DURATIONS_MAX: usize = 256;

/// Changes that wait for a slow reader. A reader that is further behind misses some and is told so.
const CHANGES_MAX: usize = 1024;

pub(super) struct Board {
    rows: HashMap<ItemId, Row>,
    /// The latest last.
    finished: VecDeque<Finished>,
    finished_bytes: usize,
    /// The number of items that ended before the first of `finished`.
    forgotten: u64,
    pub totals: Totals,
    durations: VecDeque<Duration>,
    pub samples: VecDeque<Sample>,
    pub changes: broadcast::Sender<Change>,
    /// The wall clock at the core's time zero.
    anchor: SystemTime,
}

/// Items that have ended since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub done: u64,
    pub dead_lettered: u64,
    pub dropped: u64,
}

/// The history of an item that has not ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// The start of the present state.
    pub since: Time,
    /// The kind of the present state.
    kind: Option<StateKind>,
    /// The number of the present or latest attempt.
    pub attempt: u32,
    /// The start of the present attempt.
    pub started: Option<Time>,
    pub last: Option<LastAnswer>,
    /// The target of the latest write since the latest attempt.
    write: Option<Write>,
    /// The item's name for people and its place, after its message was released.
    pub kept: Option<Arc<Name>>,
}

/// The name of an item for people, and its place in the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub id: String,
    pub place: Place,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    #[default]
    Unknown,
    Queue {
        queue: String,
    },
    Partition {
        topic: String,
        partition: i32,
        offset: i64,
    },
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub(super) struct LastAnswer {
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub text: String,
    pub headers: BTreeMap<String, String>,
    pub at: Time,
}

/// An item that has ended.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub name: Arc<Name>,
    pub state: ItemState,
    pub reason: Option<Reason>,
    pub attempt: u32,
    pub at: Time,
    pub last: Option<LastAnswer>,
    pub report: Option<Arc<Report>>,
    /// Its memory when it ended, in bytes.
    bytes: usize,
}

/// One moment of the last hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub at: Time,
    pub backlog: u64,
    pub running: u32,
    pub held: u32,
    pub totals: Totals,
}

impl Board {
    pub fn new() -> Self {
        Board {
            rows: HashMap::new(),
            finished: VecDeque::new(),
            finished_bytes: 0,
            forgotten: 0,
            totals: Totals::default(),
            durations: VecDeque::new(),
            samples: VecDeque::new(),
            changes: broadcast::Sender::new(CHANGES_MAX),
            anchor: SystemTime::now(),
        }
    }

    pub fn row(&self, item: ItemId) -> Option<&Row> {
        self.rows.get(&item)
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// The finished items with their numbers, the latest first.
    pub fn finished(&self) -> impl Iterator<Item = (u64, &Finished)> {
        let first = self.forgotten;
        self.finished.iter().enumerate().rev().map(move |(index, item)| (first + index as u64, item))
    }

    pub fn has_readers(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    /// An attempt at the item starts.
    pub fn started(&mut self, item: ItemId, attempt: u32, now: Time) {
        let row = self.rows.entry(item).or_default();
        row.attempt = attempt;
        row.started = Some(now);
        row.write = None;
    }

    /// An attempt at the item ended.
    pub fn answered(&mut self, item: ItemId, answer: LastAnswer, took: Duration) {
        if answer.outcome == Outcome::Done {
            if self.durations.len() == DURATIONS_MAX {
                self.durations.pop_front();
            }
            self.durations.push_back(took);
        }
        if let Some(row) = self.rows.get_mut(&item) {
            row.started = None;
            row.last = Some(answer);
        }
    }

    /// A write of the item starts.
    pub fn writes(&mut self, item: ItemId, write: Write) {
        self.rows.entry(item).or_default().write = Some(write);
    }

    /// The item's message is released, and only its name stays.
    pub fn keep_name(&mut self, item: ItemId, name: Arc<Name>) {
        if let Some(row) = self.rows.get_mut(&item) {
            row.kept = Some(name);
        }
    }

    /// The item is in this state from now on. Returns the state in which it counts as finished, if
    /// it has just ended.
    pub fn moved(
        &mut self,
        item: ItemId,
        state: State,
        now: Time,
        name: impl FnOnce() -> Arc<Name>,
        report: Option<Arc<Report>>,
    ) -> Option<ItemState> {
        let State::Ended(end) = state else {
            let row = self.rows.entry(item).or_default();
            if row.kind != state.kind() {
                row.since = now;
                row.kind = state.kind();
            }
            if !matches!(state, State::Running) {
                row.started = None;
            }
            return None;
        };
        // An item may be dropped at its arrival, before it has a row.
        if end == Ended::Dropped {
            self.rows.entry(item).or_default();
        }
        let row = self.rows.get(&item)?;
        // An item that goes on elsewhere is told as gone when the core forgets it.
        let (state, reason) = row.end(end)?;
        let row = self.rows.remove(&item)?;
        match state {
            ItemState::DeadLettered => self.totals.dead_lettered += 1,
            ItemState::Dropped => self.totals.dropped += 1,
            _ => self.totals.done += 1,
        }
        let Row { attempt, last, kept, .. } = row;
        let name = kept.unwrap_or_else(name);
        let finished = Finished { name, state, reason, attempt, at: now, last, report, bytes: 0 };
        self.remember(Finished { bytes: finished.bytes(), ..finished });
        Some(state)
    }

    pub fn forget(&mut self, item: ItemId) {
        self.rows.remove(&item);
    }

    fn remember(&mut self, finished: Finished) {
        self.finished_bytes += finished.bytes;
        self.finished.push_back(finished);
        while self.finished.len() > FINISHED_MAX || self.finished_bytes > FINISHED_BYTES {
            let Some(oldest) = self.finished.pop_front() else { break };
            self.finished_bytes -= oldest.bytes;
            self.forgotten += 1;
        }
    }

    pub fn sample(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The mean duration of the latest successful attempts and its standard deviation, in seconds.
    pub fn duration(&self) -> Option<(f64, f64)> {
        let count = self.durations.len() as f64;
        if self.durations.is_empty() {
            return None;
        }
        let mean = self.durations.iter().map(Duration::as_secs_f64).sum::<f64>() / count;
        let square = |duration: &Duration| (duration.as_secs_f64() - mean).powi(2);
        Some((mean, (self.durations.iter().map(square).sum::<f64>() / count).sqrt()))
    }

    /// A time of the core on the wall clock.
    pub fn wall(&self, time: Time) -> SystemTime {
        self.anchor.checked_add(time).unwrap_or(self.anchor)
    }

    pub fn stamp(&self, time: Time) -> String {
        timestamp(self.wall(time))
    }
}

impl Row {
    /// The state in which an item counts as finished, and the reason. `None` if it goes on
    /// elsewhere.
    fn end(&self, end: Ended) -> Option<(ItemState, Option<Reason>)> {
        match (end, self.write) {
            (Ended::Returned | Ended::HandedOver, _) | (Ended::Acked, Some(Write::Park { .. })) => None,
            (Ended::Dropped, _) => Some((ItemState::Dropped, None)),
            (Ended::Acked, Some(Write::DeadLetter { reason, .. })) => {
                Some((ItemState::DeadLettered, Some(reason)))
            }
            (Ended::Acked, Some(Write::Reply) | None) => Some((ItemState::Done, None)),
        }
    }
}

impl Finished {
    fn bytes(&self) -> usize {
        let answer = self.last.as_ref().map_or(0, LastAnswer::bytes);
        let report = self.report.as_ref().map_or(0, |report| report.bytes());
        let name = size_of::<Name>() + self.name.id.len() + self.name.place.bytes();
        size_of::<Finished>() + name + answer + report
    }
}

impl Place {
    fn bytes(&self) -> usize {
        match self {
            Place::Unknown => 0,
            Place::Queue { queue: name } | Place::Partition { topic: name, .. } => name.len(),
        }
    }
}

impl LastAnswer {
    pub fn new(status: Option<u16>, outcome: Outcome, text: &str, headers: BTreeMap<String, String>) -> Self {
        // The status has a field of its own.
        let text = status.and_then(|status| text.strip_prefix(&format!("{status}: "))).unwrap_or(text);
        let mut end = text.len().min(TEXT_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        LastAnswer { status, outcome, text: text[..end].to_owned(), headers, at: Time::ZERO }
    }

    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len() + 64);
        self.text.len() + headers.sum::<usize>()
    }

    pub fn view(&self, board: &Board) -> view::Last {
        view::Last {
            status: self.status,
            outcome: self.outcome.label().to_owned(),
            text: self.text.clone(),
            headers: self.headers.clone(),
            at: board.stamp(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str) -> Arc<Name> {
        Arc::new(Name { id: id.to_owned(), place: Place::Unknown })
    }

    fn end(board: &mut Board, number: u64, text: &str) {
        let item = ItemId(number);
        board.started(item, 1, Time::ZERO);
        board.moved(item, State::Running, Time::ZERO, || name("unused"), None);
        let answer = LastAnswer::new(Some(500), Outcome::Rejected, text, BTreeMap::new());
        board.answered(item, answer, Duration::ZERO);
        board.writes(item, Write::DeadLetter { reason: Reason::Rejected, attempts: 1 });
        board.moved(item, State::Ended(Ended::Acked), Time::ZERO, || name(&number.to_string()), None);
    }

    #[test]
    fn the_latest_finished_items_are_remembered_within_their_bounds() {
        let mut board = Board::new();
        for number in 0..FINISHED_MAX as u64 + 5 {
            end(&mut board, number, "short");
        }
        let (latest, item) = board.finished().next().unwrap();
        assert_eq!((latest, item.name.id.as_str()), (FINISHED_MAX as u64 + 4, "10004"));
        assert_eq!((board.finished().count(), board.totals.dead_lettered), (FINISHED_MAX, 10_005));
        for number in 0..FINISHED_MAX as u64 {
            end(&mut board, number, &"é".repeat(4_000));
        }
        assert!(board.finished_bytes <= FINISHED_BYTES && board.finished().count() > FINISHED_MAX / 2);
    }

    #[test]
    fn only_an_item_that_ended_here_counts_as_finished() {
        let mut board = Board::new();
        let ends = [
            (Some(Write::Reply), Ended::Acked, Some(ItemState::Done)),
            (None, Ended::Acked, Some(ItemState::Done)),
            (None, Ended::Dropped, Some(ItemState::Dropped)),
            (None, Ended::Returned, None),
            (None, Ended::HandedOver, None),
        ];
        for (number, (write, ended, expected)) in ends.into_iter().enumerate() {
            let item = ItemId(number as u64);
            board.started(item, 1, Time::ZERO);
            write.into_iter().for_each(|write| board.writes(item, write));
            let state = board.moved(item, State::Ended(ended), Time::ZERO, || name("x"), None);
            assert_eq!(state, expected, "{ended:?}");
            assert_eq!(board.row(item).is_none(), expected.is_some());
        }
    }
}
