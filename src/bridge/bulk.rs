//! Carries out the actions of people on many items a few items at a time, so that the loop serves
//! deliveries and the ends of requests in between.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::people::{log_action, reply};
use super::{Person, Pipeline};
use crate::delivery::{self, Input, ItemId};
use crate::view::{Action, Filter, Matched};

/// The number of items that are changed in one turn of the loop.
const PORTION: usize = 16;

/// The actions that have begun and have not ended, in the order of their requests.
#[derive(Default)]
pub(super) struct Bulks(VecDeque<Bulk>);

/// An action on the items that its filter selected when it began.
pub(super) struct Bulk {
    pub filter: Filter,
    pub action: Action,
    /// The same action, for the core.
    pub core_action: delivery::Action,
    pub items: std::vec::IntoIter<ItemId>,
    pub matched: Matched,
    pub by: Person,
    pub answer: oneshot::Sender<Matched>,
}

impl Bulks {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Pipeline {
    /// Begins an action with its first items.
    pub(super) fn begin_bulk(&mut self, bulk: Bulk) {
        self.bulks.0.push_back(bulk);
        self.continue_bulk();
    }

    /// Changes the next items of the oldest action. An item that has moved on meanwhile is left
    /// alone if the action does not fit its state any more.
    pub(super) fn continue_bulk(&mut self) {
        let Some(mut bulk) = self.bulks.0.pop_front() else { return };
        let is_dry = bulk.matched.dry_run;
        // A dry run only counts, and all its counts belong to one moment.
        let portion = if is_dry { usize::MAX } else { PORTION };
        for item in bulk.items.by_ref().take(portion) {
            if self.core.allows(item, bulk.core_action) {
                bulk.matched.changed += 1;
                if !is_dry {
                    self.handle(Input::Act { item, action: bulk.core_action });
                }
            }
        }
        if bulk.items.len() == 0 { bulk.end() } else { self.bulks.0.push_front(bulk) }
    }

    /// Ends all actions where they are, because the pipeline ends.
    pub(super) fn end_bulks(&mut self) {
        self.bulks.0.drain(..).for_each(Bulk::end);
    }
}

impl Bulk {
    fn end(self) {
        log_action(self.action, &self.filter, self.matched, &self.by);
        reply(self.answer, self.matched);
    }
}
