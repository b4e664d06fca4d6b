//! One item of a key at a time, in order of arrival.

use std::collections::{BTreeMap, VecDeque};

use super::item::ItemId;
use super::session::OrderKey;

/// For each key, the items that are not finished. Only the first of each may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lanes {
    lanes: BTreeMap<OrderKey, VecDeque<ItemId>>,
    /// Items in all lanes, so that asking for the blocked ones costs nothing.
    items: usize,
}

impl Lanes {
    /// Puts `item` at the end of its key's lane; whether it is the first there.
    pub fn enter(&mut self, key: OrderKey, item: ItemId) -> bool {
        self.items += 1;
        let lane = self.lanes.entry(key).or_default();
        lane.push_back(item);
        lane.len() == 1
    }

    /// Takes `item` out; the item that is first now, where that changed.
    pub fn leave(&mut self, key: OrderKey, item: ItemId) -> Option<ItemId> {
        let lane = self.lanes.get_mut(&key)?;
        let before = lane.len();
        let was_first = lane.front() == Some(&item);
        if was_first {
            lane.pop_front();
        } else {
            lane.retain(|other| *other != item);
        }
        self.items -= before - lane.len();
        let next = lane.front().copied();
        if lane.is_empty() {
            self.lanes.remove(&key);
        }
        next.filter(|_| was_first)
    }

    pub fn is_first(&self, key: OrderKey, item: ItemId) -> bool {
        self.lanes.get(&key).and_then(VecDeque::front) == Some(&item)
    }

    /// Items that wait for another of their key.
    pub fn blocked(&self) -> usize {
        self.items - self.lanes.len()
    }
}
