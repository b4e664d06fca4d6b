//! The state of an item, as people see it.

use std::ops::{AddAssign, Index, SubAssign};

use super::dispatcher::Dispatcher;
use super::item::{Decision, Doing, Item, ItemId, Left, Place};
use super::outcome::Reason;
use super::protocol::Time;
use super::session::DeliveryId;

/// The state of an item that is not finished. The end of an item is not a state: the core forgets
/// the item then.
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
}

/// A [`State`] without its details.
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

/// The number of items in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerState([u32; StateKind::ALL.len()]);

impl State {
    pub fn kind(self) -> StateKind {
        match self {
            State::Waiting => StateKind::Waiting,
            State::Asking => StateKind::Asking,
            State::Running => StateKind::Running,
            State::Retrying { .. } => StateKind::Retrying,
            State::Writing { .. } => StateKind::Writing,
            State::Held { .. } => StateKind::Held,
        }
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
    /// The unfinished items, in order of arrival.
    pub fn views(&self) -> impl Iterator<Item = ItemView> {
        self.items.iter().filter_map(|(id, item)| self.view_of(id, item))
    }

    /// One unfinished item.
    pub fn view(&self, id: ItemId) -> Option<ItemView> {
        self.view_of(id, self.items.get(id)?)
    }

    fn view_of(&self, id: ItemId, item: &Item) -> Option<ItemView> {
        Some(ItemView {
            item: id,
            state: item.state()?,
            is_blocked: self.items.is_blocked(id),
            delivery: item.delivery(),
            attempts: item.attempts,
        })
    }
}

impl Item {
    /// The state of the item, or `None` if it is finished, returned, or handed to another replica.
    pub(super) fn state(&self) -> Option<State> {
        match self.place {
            Place::Live { doing, .. } => match doing {
                Doing::Ready | Doing::Stopped => Some(State::Waiting),
                Doing::Asking => Some(State::Asking),
                Doing::Running => Some(State::Running),
                Doing::Waiting { until } => Some(State::Retrying { until }),
                Doing::Writing(_) => Some(State::Writing { again: None }),
                Doing::WriteWait { until, .. } => Some(State::Writing { again: Some(until) }),
                Doing::Held { reason } => Some(State::Held { reason }),
                Doing::Settling(_) | Doing::Acked => None,
            },
            Place::Orphan { doing, .. } | Place::Claimed { doing, .. } => match doing {
                Left::Asking => Some(State::Asking),
                Left::Running => Some(State::Running),
                Left::Writing(_) => Some(State::Writing { again: None }),
                Left::WriteWait { until, .. } => Some(State::Writing { again: Some(until) }),
                Left::Decided(Decision::Ack) => None,
                Left::Decided(Decision::Retry { until }) => Some(State::Retrying { until }),
                Left::Decided(Decision::Write(_)) => Some(State::Writing { again: None }),
                Left::Decided(Decision::Hold { reason }) => Some(State::Held { reason }),
            },
            Place::Handed { .. } => None,
        }
    }
}

impl PerState {
    /// One item in this state; none if there is no state.
    pub(super) fn one(state: Option<State>) -> Self {
        let mut counts = PerState::default();
        if let Some(state) = state {
            counts.0[state.kind() as usize] = 1;
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
