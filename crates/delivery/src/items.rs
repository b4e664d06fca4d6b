//! The owner of all items and of every index over them.
//!
//! [`Items::edit`] is the only way to change an item. Each index is a function of the item
//! ([`Item::entries`]): `edit` compares it before and after the change, and moves the item where it
//! now belongs. No rule touches an index or a counter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, Bound, SubAssign};

use super::item::{Copying, Doing, Item, ItemId, Left, Place};
use super::protocol::Time;
use super::session::{DeliveryId, Epoch, Group, Identity, OrderKey};
use super::state::{PerState, State};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Items {
    by_id: BTreeMap<ItemId, Item>,
    latest: u64,
    indexes: Indexes,
    /// Items whose state changed since [`Items::take_moved`].
    moved: Vec<ItemId>,
}

/// Everything that is computed from the items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Indexes {
    deliveries: BTreeMap<DeliveryId, ItemId>,
    /// Items by the identities under which a delivery of them may arrive; of equals the oldest
    /// first.
    expected: BTreeSet<(Identity, ItemId)>,
    /// Items that may start, oldest first in each group.
    ready: BTreeMap<Group, BTreeMap<ItemId, Tried>>,
    /// The items in `ready` that were not tried here yet.
    fresh: u32,
    /// The unfinished items of each key, in the order in which they may run.
    lanes: BTreeMap<OrderKey, BTreeSet<(Rank, ItemId)>>,
    /// The times at which to look at an item again.
    timers: BTreeSet<(Time, ItemId)>,
    counts: Counts,
}

/// The order of the items of one key: the running one, then the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Rank {
    Running,
    Waiting,
}

/// Whether this process has made an attempt at the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tried(bool);

/// Sums over all items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Counts {
    /// Open requests.
    pub running: u32,
    /// The open requests of items without a delivery.
    pub running_orphans: u32,
    pub held: u32,
    /// Orphans that wait for a redelivery with their decision made.
    pub decided: u32,
    /// Items that are only kept to recognise a delivery that returns.
    pub remembered: u32,
    /// Memory of all items that are in hand.
    pub bytes: u64,
    /// Memory of the decided orphans.
    pub orphan_bytes: u64,
    /// Items in all lanes.
    pub in_lanes: u32,
    /// Items in each state.
    pub states: PerState,
}

/// The places of one item in the indexes, but for `expected` and `ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entries {
    delivery: Option<DeliveryId>,
    lane: Option<(OrderKey, Rank)>,
    timers: [Option<Time>; 2],
    counts: Counts,
    state: State,
}

impl Items {
    /// Changes an item and moves it to where it now belongs in every index. Returns `None` for an
    /// item that is not known.
    pub fn edit<R>(&mut self, id: ItemId, change: impl FnOnce(&mut Item) -> R) -> Option<R> {
        let item = self.by_id.get_mut(&id)?;
        let before = item.entries();
        let names_before = item.names().to_vec();
        let result = change(item);
        let after = item.entries();
        if before.state != after.state {
            self.moved.push(id);
        }
        if names_before != item.names() {
            self.indexes.rename(id, &names_before, item.names());
        }
        self.indexes.reindex(id, Some(&before), Some(&after));
        self.queue_up(id, &before, &after);
        Some(result)
    }

    pub fn insert(&mut self, item: Item) -> ItemId {
        self.latest += 1;
        let id = ItemId(self.latest);
        let after = item.entries();
        self.indexes.rename(id, &[], item.names());
        self.by_id.insert(id, item);
        self.moved.push(id);
        self.indexes.reindex(id, None, Some(&after));
        self.queue_up(id, &after, &after);
        id
    }

    pub fn remove(&mut self, id: ItemId) -> Option<Item> {
        let item = self.by_id.remove(&id)?;
        let before = item.entries();
        self.indexes.rename(id, item.names(), &[]);
        self.indexes.reindex(id, Some(&before), None);
        self.indexes.not_ready(item.group, id);
        if let Some((key, _)) = before.lane {
            self.queue_up_first(key);
        }
        Some(item)
    }

    /// The items whose state changed since the last call, each once, in order of arrival.
    pub fn take_moved(&mut self) -> Vec<ItemId> {
        let mut moved = std::mem::take(&mut self.moved);
        moved.sort_unstable();
        moved.dedup();
        moved
    }

    pub fn get(&self, id: ItemId) -> Option<&Item> {
        self.by_id.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ItemId, &Item)> {
        self.by_id.iter().map(|(id, item)| (*id, item))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn counts(&self) -> &Counts {
        &self.indexes.counts
    }

    pub fn of_delivery(&self, delivery: DeliveryId) -> Option<ItemId> {
        self.indexes.deliveries.get(&delivery).copied()
    }

    pub fn of_session(&self, epoch: Epoch) -> Vec<ItemId> {
        self.indexes.deliveries.range(epoch.deliveries()).map(|(_, id)| *id).collect()
    }

    /// The oldest item that expects a delivery of this identity.
    pub fn expecting(&self, name: &Identity) -> Option<ItemId> {
        let first = (name.clone(), ItemId(0));
        let (found, id) = self.indexes.expected.range(first..).next()?;
        (found == name).then_some(*id)
    }

    /// The item that starts next: groups take turns, and `last` had the latest turn.
    pub fn next_ready(&self, last: Group) -> Option<(Group, ItemId)> {
        let ready = &self.indexes.ready;
        let after = ready.range((Bound::Excluded(last), Bound::Unbounded)).next();
        let (group, ids) = after.or_else(|| ready.first_key_value())?;
        Some((*group, *ids.first_key_value()?.0))
    }

    /// Items that only wait for a slot and have not been tried here yet.
    pub fn fresh(&self) -> u32 {
        self.indexes.fresh
    }

    /// The first item whose timer is due.
    pub fn due(&self, now: Time) -> Option<ItemId> {
        self.indexes.timers.first().filter(|(time, _)| *time <= now).map(|(_, id)| *id)
    }

    pub fn next_timer(&self) -> Option<Time> {
        self.indexes.timers.first().map(|(time, _)| *time)
    }

    /// Whether an item that could start waits for another of its key.
    pub fn is_blocked(&self, id: ItemId) -> bool {
        self.by_id
            .get(&id)
            .is_some_and(|item| item.doing() == Some(Doing::Ready) && !self.indexes.is_first_of_key(id, item))
    }

    /// Items that wait for another of their key.
    pub fn blocked(&self) -> u32 {
        self.indexes.counts.in_lanes - self.indexes.lanes.len() as u32
    }

    /// The oldest decided orphan.
    pub fn oldest_decided(&self) -> Option<ItemId> {
        self.iter().find(|(_, item)| item.is_decided()).map(|(id, _)| id)
    }

    /// The indexes as they follow from the items alone, for the invariants.
    pub fn is_consistent(&self) -> bool {
        let mut fresh = Items { latest: self.latest, ..Items::default() };
        for (id, item) in &self.by_id {
            fresh.indexes.rename(*id, &[], item.names());
            fresh.indexes.reindex(*id, None, Some(&item.entries()));
            fresh.by_id.insert(*id, item.clone());
        }
        let ids: Vec<ItemId> = self.by_id.keys().copied().collect();
        ids.into_iter().for_each(|id| fresh.place_in_queue(id));
        fresh.indexes == self.indexes
    }

    /// Brings the queue of startable items up to date after a change of `id`.
    fn queue_up(&mut self, id: ItemId, before: &Entries, after: &Entries) {
        self.place_in_queue(id);
        let lane = |entries: &Entries| entries.lane.map(|(key, _)| key);
        if before.lane != after.lane || before == after {
            for key in lane(before).into_iter().chain(lane(after)) {
                self.queue_up_first(key);
            }
        }
    }

    /// The first of a key may start. The second, which may have been the first before, may not.
    fn queue_up_first(&mut self, key: OrderKey) {
        let lane = self.indexes.lanes.get(&key);
        let front: Vec<ItemId> = lane.into_iter().flatten().take(2).map(|(_, id)| *id).collect();
        front.into_iter().for_each(|id| self.place_in_queue(id));
    }

    fn place_in_queue(&mut self, id: ItemId) {
        let Some(item) = self.by_id.get(&id) else { return };
        let is_ready = item.doing() == Some(Doing::Ready) && self.indexes.is_first_of_key(id, item);
        let (group, tried) = (item.group, Tried(item.is_tried));
        self.indexes.not_ready(group, id);
        if is_ready {
            self.indexes.ready.entry(group).or_default().insert(id, tried);
            self.indexes.fresh += u32::from(!tried.0);
        }
    }
}

impl Indexes {
    fn reindex(&mut self, id: ItemId, before: Option<&Entries>, after: Option<&Entries>) {
        if before == after {
            return;
        }
        let delivery = |entries: Option<&Entries>| entries.and_then(|entries| entries.delivery);
        if delivery(before) != delivery(after) {
            delivery(before).map(|delivery| self.deliveries.remove(&delivery));
            delivery(after).map(|delivery| self.deliveries.insert(delivery, id));
        }
        let lane = |entries: Option<&Entries>| entries.and_then(|entries| entries.lane);
        if lane(before) != lane(after) {
            if let Some((key, rank)) = lane(before) {
                self.leave_lane(key, rank, id);
            }
            if let Some((key, rank)) = lane(after) {
                self.lanes.entry(key).or_default().insert((rank, id));
            }
        }
        let timers = |entries: Option<&Entries>| entries.map(|entries| entries.timers).unwrap_or_default();
        if timers(before) != timers(after) {
            for time in timers(before).into_iter().flatten() {
                self.timers.remove(&(time, id));
            }
            for time in timers(after).into_iter().flatten() {
                self.timers.insert((time, id));
            }
        }
        self.counts += after.map(|entries| entries.counts).unwrap_or_default();
        self.counts -= before.map(|entries| entries.counts).unwrap_or_default();
    }

    fn rename(&mut self, id: ItemId, before: &[Identity], after: &[Identity]) {
        for name in before {
            self.expected.remove(&(name.clone(), id));
        }
        for name in after {
            self.expected.insert((name.clone(), id));
        }
    }

    fn leave_lane(&mut self, key: OrderKey, rank: Rank, id: ItemId) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.remove(&(rank, id));
            if lane.is_empty() {
                self.lanes.remove(&key);
            }
        }
    }

    fn is_first_of_key(&self, id: ItemId, item: &Item) -> bool {
        let Some((key, _)) = item.lane() else { return true };
        self.lanes.get(&key).and_then(BTreeSet::first).is_some_and(|(_, first)| *first == id)
    }

    fn not_ready(&mut self, group: Group, id: ItemId) {
        if let Some(ids) = self.ready.get_mut(&group) {
            if ids.remove(&id) == Some(Tried(false)) {
                self.fresh -= 1;
            }
            if ids.is_empty() {
                self.ready.remove(&group);
            }
        }
    }
}

impl Item {
    fn entries(&self) -> Entries {
        let state = self.state();
        Entries {
            delivery: self.delivery(),
            lane: self.lane(),
            timers: self.timers(),
            counts: self.counts(state),
            state,
        }
    }

    /// The identities by which a delivery finds this item. A claimed item belongs to the replica
    /// that claimed it.
    fn names(&self) -> &[Identity] {
        match self.place {
            Place::Live { .. } | Place::Orphan { .. } => &self.expected,
            Place::Claimed { .. } | Place::Handed { .. } => &[],
        }
    }

    /// An unfinished item blocks its key. A decided orphan does not: its redelivery would have to
    /// overtake the others otherwise.
    fn lane(&self) -> Option<(OrderKey, Rank)> {
        let is_in = match self.place {
            Place::Live { doing, .. } => !matches!(doing, Doing::Settling(_) | Doing::Acked),
            Place::Orphan { doing, .. } | Place::Claimed { doing, .. } => !matches!(doing, Left::Decided(_)),
            Place::Handed { .. } => false,
        };
        let rank = if self.is_running() { Rank::Running } else { Rank::Waiting };
        self.order_key.filter(|_| is_in).map(|key| (key, rank))
    }

    fn timers(&self) -> [Option<Time>; 2] {
        let of_place = match self.place {
            Place::Live { doing: Doing::Waiting { until } | Doing::WriteWait { until, .. }, .. }
            | Place::Claimed { doing: Left::WriteWait { until, .. }, .. } => Some(until),
            Place::Orphan { keep, .. } => keep.until,
            _ => None,
        };
        let of_copy = match self.copying {
            Copying::Wait { until } => Some(until),
            _ => None,
        };
        [of_place, of_copy]
    }

    fn counts(&self, state: State) -> Counts {
        let one = u32::from;
        let is_live = self.delivery().is_some();
        let is_running = self.is_running();
        let is_decided = self.is_decided();
        let is_remembered = self.is_remembered();
        let bytes = self.message_bytes + self.answer_bytes;
        let weighs = !is_decided && !is_remembered && !matches!(self.place, Place::Handed { .. });
        Counts {
            running: one(is_running),
            running_orphans: one(is_running && !is_live),
            held: one(matches!(self.doing(), Some(Doing::Held { .. }))),
            decided: one(is_decided),
            remembered: one(is_remembered),
            bytes: if weighs { bytes } else { 0 },
            orphan_bytes: if is_decided { bytes } else { 0 },
            in_lanes: one(self.lane().is_some()),
            states: PerState::one(state),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.running += other.running;
        self.running_orphans += other.running_orphans;
        self.held += other.held;
        self.decided += other.decided;
        self.remembered += other.remembered;
        self.bytes += other.bytes;
        self.orphan_bytes += other.orphan_bytes;
        self.in_lanes += other.in_lanes;
        self.states += other.states;
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, other: Counts) {
        self.running -= other.running;
        self.running_orphans -= other.running_orphans;
        self.held -= other.held;
        self.decided -= other.decided;
        self.remembered -= other.remembered;
        self.bytes -= other.bytes;
        self.orphan_bytes -= other.orphan_bytes;
        self.in_lanes -= other.in_lanes;
        self.states -= other.states;
    }
}
