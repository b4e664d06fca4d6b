//! Items as people see them: the core's state and the board's record in one view.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::board::{Finished, Name, Place, Row};
use super::work::{Kept, Work};
use super::{Pipeline, Shared};
use crate::delivery::{ItemId, ItemView, State, StateKind, Time};
use crate::event::Origin;
use crate::progress::Report;
use crate::telemetry::timestamp;
use crate::view::{self, Change, Filter, ItemList, ItemLog, ItemState};

/// The place of an item in the list: unfinished items by name, then finished ones by number, the
/// latest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Unfinished(u64),
    Finished(u64),
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('-')? {
            ("u", number) => number.parse().ok().map(Cursor::Unfinished),
            ("f", number) => number.parse().ok().map(Cursor::Finished),
            _ => None,
        }
    }

    fn text(self) -> String {
        match self {
            Cursor::Unfinished(number) => format!("u-{number}"),
            Cursor::Finished(number) => format!("f-{number}"),
        }
    }

    /// Whether an item at this place comes behind `after`.
    fn is_behind(self, after: Option<Cursor>) -> bool {
        match (self, after) {
            (_, None) => true,
            (Cursor::Unfinished(number), Some(Cursor::Unfinished(after))) => number > after,
            (Cursor::Finished(number), Some(Cursor::Finished(after))) => number < after,
            (Cursor::Finished(_), Some(Cursor::Unfinished(_))) => true,
            (Cursor::Unfinished(_), Some(Cursor::Finished(_))) => false,
        }
    }
}

impl Pipeline {
    pub(super) fn list(&self, filter: &Filter, most: usize, after: Option<&str>) -> ItemList {
        // Nothing comes behind an unknown place. From the start, a program would read for ever.
        let end = Cursor::Finished(0);
        let after = after
            .filter(|text| !text.is_empty())
            .map(|text| Cursor::parse(text).or_else(|| self.cursor_of(text)).unwrap_or(end));
        let mut list = ItemList::default();
        let mut last = None;
        for view in self.selected(filter) {
            let cursor = Cursor::Unfinished(view.item.0);
            if list.add(cursor, after, most, || self.item(&view)) {
                last = Some(cursor);
            }
        }
        for (number, finished) in self.finished_of(filter) {
            let cursor = Cursor::Finished(number);
            if list.add(cursor, after, most, || self.finished_item(finished)) {
                last = Some(cursor);
            }
        }
        if list.next.take().is_some() {
            list.next = last.map(Cursor::text);
        }
        list
    }

    /// The place of the first item with this id.
    fn cursor_of(&self, id: &str) -> Option<Cursor> {
        let filter = Filter::of_id(id);
        let unfinished = self.selected(&filter).next().map(|view| Cursor::Unfinished(view.item.0));
        unfinished.or_else(|| self.finished_of(&filter).next().map(|(number, _)| Cursor::Finished(number)))
    }

    /// The unfinished items that the filter selects.
    pub(super) fn selected<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = ItemView> + 'a {
        let now = self.started.elapsed();
        self.core.views().filter(move |view| {
            let since = self.board.row(view.item).map_or(now, |row| row.since);
            filter.fits(state(view), reason(view.state), age(since, now))
                && (!filter.asks_for_id() || filter.fits_id(&self.name(view.item).id))
        })
    }

    fn finished_of<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = (u64, &'a Finished)> + 'a {
        let now = self.started.elapsed();
        self.board.finished().filter(move |(_, item)| {
            let reason = item.reason.map(|reason| reason.as_str());
            filter.fits(item.state, reason, age(item.at, now)) && filter.fits_id(&item.name.id)
        })
    }

    /// The log tail of the first item that the filter selects.
    pub(super) fn log(&self, filter: &Filter) -> Option<ItemLog> {
        if let Some(view) = self.selected(filter).next() {
            let lines = self.report(view.item).map(|report| report.log()).unwrap_or_default();
            return Some(ItemLog { id: self.name(view.item).id.clone(), lines });
        }
        let (_, finished) = self.finished_of(filter).next()?;
        let lines = finished.report.as_ref().map(|report| report.log()).unwrap_or_default();
        Some(ItemLog { id: finished.name.id.clone(), lines })
    }

    /// An item that has not ended.
    pub(super) fn item(&self, view: &ItemView) -> view::Item {
        let row = self.board.row(view.item);
        let blank = Row::default();
        let row = row.unwrap_or(&blank);
        let is_running = view.state.kind() == Some(StateKind::Running);
        let attempt = if is_running { row.attempt.max(view.attempts + 1) } else { view.attempts };
        let started = row.started.filter(|_| is_running);
        let item = self.described(&self.name(view.item), view.delivery.map(|delivery| delivery.tag));
        let item = view::Item {
            state: state(view),
            attempt,
            since: self.board.stamp(row.since),
            next: view.state.next().map(|next| self.board.stamp(next)),
            deadline: started
                .map(|started| self.board.stamp(started.saturating_add(self.shared.request_timeout))),
            reason: reason(view.state).map(str::to_owned),
            last: row.last.as_ref().map(|last| last.view(&self.board)),
            ..item
        };
        let mut item = with_report(item, self.report(view.item), is_running);
        let guard = self.shared.guard.as_ref().filter(|_| is_running);
        item.pod_stopping = guard.zip(item.pod.as_deref()).is_some_and(|(guard, pod)| guard.is_stopping(pod));
        item
    }

    fn finished_item(&self, finished: &Finished) -> view::Item {
        let item = view::Item {
            state: finished.state,
            attempt: finished.attempt,
            since: self.board.stamp(finished.at),
            reason: finished.reason.map(|reason| reason.as_str().to_owned()),
            last: finished.last.as_ref().map(|last| last.view(&self.board)),
            ..self.described(&finished.name, None)
        };
        with_report(item, finished.report.as_ref(), false)
    }

    /// The item's id and its place in the broker.
    fn described(&self, name: &Name, tag: Option<u64>) -> view::Item {
        let blank = view::Item {
            id: name.id.clone(),
            pipeline: self.shared.name.clone(),
            // The API adds it.
            replica: String::new(),
            state: ItemState::Waiting,
            attempt: 0,
            attempts: self.shared.attempts,
            since: String::new(),
            next: None,
            deadline: None,
            reason: None,
            last: None,
            pod: None,
            pod_stopping: false,
            queue: None,
            delivery_tag: None,
            topic: None,
            partition: None,
            offset: None,
            progress: None,
        };
        match &name.place {
            Place::Unknown => blank,
            Place::Queue { queue } => view::Item { queue: Some(queue.clone()), delivery_tag: tag, ..blank },
            Place::Partition { topic, partition, offset } => view::Item {
                topic: Some(topic.clone()),
                partition: Some(*partition),
                offset: Some(*offset),
                ..blank
            },
        }
    }

    pub(super) fn name(&self, item: ItemId) -> Arc<Name> {
        match (self.works.get(&item), self.board.row(item)) {
            (Some(Kept::Whole(work)), _) => name_of(work, &self.shared),
            (_, Some(Row { kept: Some(name), .. })) => name.clone(),
            _ => Arc::new(Name { id: "(message not kept)".to_owned(), place: Place::Unknown }),
        }
    }

    pub(super) fn report(&self, item: ItemId) -> Option<&Arc<Report>> {
        match self.works.get(&item)? {
            Kept::Whole(work) => work.known_report(),
            Kept::Rest(rest) => rest.known_report(),
        }
    }

    /// Records that the item is in this state, and publishes it.
    pub(super) fn moved(&mut self, item: ItemId, state: State) {
        let (works, shared) = (&self.works, &self.shared);
        let mut report = None;
        let name = || match works.get(&item) {
            Some(Kept::Whole(work)) => name_of(work, shared),
            _ => Arc::default(),
        };
        if let (State::Ended(ended), Some(Kept::Whole(work))) = (state, works.get(&item)) {
            report = work.known_report().cloned();
            work.end_checkpoint(ended);
        }
        let has_ended = self.board.moved(item, state, self.now, name, report);
        if let Some(finished) = has_ended {
            self.end_span(item);
            self.shared.metrics.finished(finished);
            if finished == ItemState::Done {
                self.shared.metrics.last_success.set(seconds(self.board.wall(self.now)));
                if let Some(Kept::Whole(work)) = self.works.get(&item)
                    && let Some(enqueued) = work.enqueued()
                {
                    self.shared.metrics.done(enqueued);
                }
            }
            if self.board.has_readers()
                && let Some((_, finished)) = self.board.finished().next()
            {
                let change = Change::Item(Box::new(self.finished_item(finished)));
                // A reader that has just left needs no change.
                let _ = self.board.changes.send(change);
            }
        } else if self.board.has_readers()
            && let Some(view) = self.core.view(item)
        {
            let _ = self.board.changes.send(Change::Item(Box::new(self.item(&view))));
        }
    }

    /// The item left this replica without an end.
    pub(super) fn gone(&mut self, item: ItemId) {
        if self.board.row(item).is_none() {
            return;
        }
        if self.board.has_readers() {
            let (pipeline, id) = (self.shared.name.clone(), self.name(item).id.clone());
            let _ = self.board.changes.send(Change::Gone { pipeline, id });
        }
        self.board.forget(item);
    }
}

impl ItemList {
    /// Counts an item that matches. Returns whether it is on this page.
    fn add(
        &mut self,
        cursor: Cursor,
        after: Option<Cursor>,
        most: usize,
        item: impl FnOnce() -> view::Item,
    ) -> bool {
        self.total += 1;
        if !cursor.is_behind(after) {
            return false;
        }
        if self.items.len() == most {
            // There is a next page.
            self.next.get_or_insert_default();
            return false;
        }
        self.items.push(item());
        true
    }
}

/// The name of an item whose message is here.
pub(super) fn name_of(work: &Work, shared: &Shared) -> Arc<Name> {
    let place = match &work.message.origin {
        Origin::Rabbitmq(origin) => Place::Queue { queue: origin.queue.clone() },
        Origin::Kafka(origin) => Place::Partition {
            topic: origin.topic.clone(),
            partition: origin.partition,
            offset: origin.offset,
        },
    };
    Arc::new(Name { id: work.id(shared), place })
}

fn state(view: &ItemView) -> ItemState {
    match view.state {
        State::Waiting if view.is_blocked => ItemState::Blocked,
        State::Waiting => ItemState::Waiting,
        State::Asking => ItemState::Asking,
        State::Running => ItemState::Running,
        State::Retrying { .. } => ItemState::Retrying,
        State::Writing { .. } => ItemState::Writing,
        State::Held { .. } => ItemState::Held,
        State::Ended(_) => ItemState::Done,
    }
}

fn reason(state: State) -> Option<&'static str> {
    match state {
        State::Held { reason } => Some(reason.as_str()),
        _ => None,
    }
}

fn age(since: Time, now: Time) -> Duration {
    now.saturating_sub(since)
}

/// A time as seconds since the Unix epoch.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Adds the reports of the worker. The percentage of an earlier attempt is of no use.
fn with_report(item: view::Item, report: Option<&Arc<Report>>, is_running: bool) -> view::Item {
    let Some(report) = report else { return item };
    let state = report.reported();
    let progress = state.at.filter(|_| is_running).map(|at| view::Progress {
        percent: state.percent,
        note: state.note,
        at: timestamp(at),
    });
    view::Item { pod: state.pod, progress, ..item }
}
