//! The state of an item, as people see it.

use std::ops::{AddAssign, Index, SubAssign};

use super::dispatcher::Dispatcher;
use super::item::{Decision, Doing, End, Item, ItemId, Left, Place};
use super::outcome::Reason;
use super::protocol::Time;
use super::session::DeliveryId;

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for a free slot, or for another item of its key.
    Waiting,
    /// The other replicas are asked whether they run it.
    Asking,
    /// Its request is open.
    Running,
    /// Its next attempt is due at this time.
    Retrying { until: Time },
    /// Its dead letter, reply or copy is being written. After a failure, the write is due again at
    /// `again`.
    Writing { again: Option<Time> },
    /// It stays with the broker until a person decides.
    Held { reason: Reason },
    /// No work on it is left here.
    Ended(Ended),
}

/// How an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It is acked, after its success, its dead letter or its parked copy.
    Acked,
    /// It is acked without success, because the configuration or a person asked for that.
    Dropped,
    /// It is returned to the broker.
    Returned,
    /// Another replica has its result.
    HandedOver,
}

/// The state of an item that has not ended, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    Waiting,
    Asking,
    Running,
    Retrying,
    Writing,
    Held,
}

/// An item, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemView {
    pub item: ItemId,
    pub state: State,
    /// Whether it waits for another item of its key.
    pub is_blocked: bool,
    /// Its delivery; `None` for an item that waits for its redelivery.
    pub delivery: Option<DeliveryId>,
    /// The counted attempts that have ended.
    pub attempts: u32,
}

/// The number of items in each state, without those that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerState([u32; StateKind::ALL.len()]);

impl State {
    /// The kind of the state, or `None` after the end.
    pub fn kind(self) -> Option<StateKind> {
        Some(match self {
            State::Waiting => StateKind::Waiting,
            State::Asking => StateKind::Asking,
            State::Running => StateKind::Running,
            State::Retrying { .. } => StateKind::Retrying,
            State::Writing { .. } => StateKind::Writing,
            State::Held { .. } => StateKind::Held,
            State::Ended(_) => return None,
        })
    }

    /// When the next step of the item is due, if a time is set.
    pub fn next(self) -> Option<Time> {
        match self {
            State::Retrying { until } => Some(until),
            State::Writing { again } => again,
            _ => None,
        }
    }
}

impl StateKind {
    pub const ALL: [StateKind; 6] = [
        StateKind::Waiting,
        StateKind::Asking,
        StateKind::Running,
        StateKind::Retrying,
        StateKind::Writing,
        StateKind::Held,
    ];
}

impl Dispatcher {
    /// The items that have not ended, in order of arrival.
    pub fn views(&self) -> impl Iterator<Item = ItemView> {
        self.items.iter().filter_map(|(id, item)| self.view_of(id, item))
    }

    /// An item that has not ended.
    pub fn view(&self, id: ItemId) -> Option<ItemView> {
        self.view_of(id, self.items.get(id)?)
    }

    fn view_of(&self, id: ItemId, item: &Item) -> Option<ItemView> {
        Some(ItemView {
            item: id,
            state: Some(item.state()).filter(|state| state.kind().is_some())?,
            is_blocked: self.items.is_blocked(id),
            delivery: item.delivery(),
            attempts: item.attempts,
        })
    }
}

impl Item {
    pub(super) fn state(&self) -> State {
        match self.place {
            Place::Live { doing, .. } => match doing {
                Doing::Ready | Doing::Stopped => State::Waiting,
                Doing::Asking => State::Asking,
                Doing::Running => State::Running,
                Doing::Waiting { until } => State::Retrying { until },
                Doing::Writing(_) => State::Writing { again: None },
                Doing::WriteWait { until, .. } => State::Writing { again: Some(until) },
                Doing::Held { reason } => State::Held { reason },
                Doing::Settling(End::Return) => State::Ended(Ended::Returned),
                Doing::Settling(End::Drop) => State::Ended(Ended::Dropped),
                Doing::Settling(End::Ack) | Doing::Acked => State::Ended(Ended::Acked),
            },
            Place::Orphan { doing, .. } | Place::Claimed { doing, .. } => match doing {
                Left::Asking => State::Asking,
                Left::Running => State::Running,
                Left::Writing(_) => State::Writing { again: None },
                Left::WriteWait { until, .. } => State::Writing { again: Some(until) },
                Left::Decided(Decision::Ack) => State::Ended(Ended::Acked),
                Left::Decided(Decision::Retry { until }) => State::Retrying { until },
                Left::Decided(Decision::Write(_)) => State::Writing { again: None },
                Left::Decided(Decision::Hold { reason }) => State::Held { reason },
            },
            Place::Handed { .. } => State::Ended(Ended::HandedOver),
        }
    }
}

impl PerState {
    /// One item in this state.
    pub(super) fn one(state: State) -> Self {
        let mut counts = PerState::default();
        if let Some(kind) = state.kind() {
            counts.0[kind as usize] = 1;
        }
        counts
    }
}

impl Index<StateKind> for PerState {
    type Output = u32;

    fn index(&self, kind: StateKind) -> &u32 {
        &self.0[kind as usize]
    }
}

impl AddAssign for PerState {
    fn add_assign(&mut self, other: PerState) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

impl SubAssign for PerState {
    fn sub_assign(&mut self, other: PerState) {
        self.0.iter_mut().zip(other.0).for_each(|(count, less)| *count -= less);
    }
}
