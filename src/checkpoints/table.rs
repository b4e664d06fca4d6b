//! The latest checkpoint of each item, and the time at which its record is written next.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::WRITE_INTERVAL;
use super::record::{Checkpoint, Partition, Place};
use crate::delivery::Digest;

/// How long the checkpoint of an ended item stays. Its last commit is confirmed by then. If the
/// process is killed before, the item runs again, and the checkpoint shortens that run.
const END_DELAY: Duration = Duration::from_secs(5);

/// While the topic takes no writes, the checkpoints of ended items collect here. Beyond this number
/// they are forgotten, and the next owner of their partition removes them from the topic.
pub(super) const SLOTS_MAX: usize = 40_000;

#[derive(Default)]
pub(super) struct Table {
    slots: HashMap<Place, Slot>,
    /// The slots that have to be written. A slot is here if, and only if, it is [`State::Due`].
    due: BTreeSet<(Instant, Place)>,
}

struct Slot {
    content: Digest,
    /// `None` after the end of the item.
    text: Option<String>,
    /// The start of the latest write.
    written: Option<Instant>,
    state: State,
    /// Whether the item is in the hands of another replica, so that only the topic needs the
    /// checkpoint.
    is_left: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The topic has it.
    Stored,
    Due(Instant),
    Writing {
        has_changed: bool,
    },
}

/// A record to write; without a checkpoint it removes the one before.
pub(super) struct Change {
    pub place: Place,
    pub checkpoint: Option<Checkpoint>,
}

impl Table {
    pub fn get(&self, place: &Place, content: Digest) -> Option<String> {
        let slot = self.slots.get(place).filter(|slot| slot.content == content)?;
        slot.text.clone()
    }

    /// Takes a checkpoint from the topic, unless this process has a later one to write. One that is
    /// stored may be older than the one in the topic, which another replica may have written.
    pub fn loaded(&mut self, place: Place, checkpoint: Checkpoint, has_ended: bool, now: Instant) {
        if self.slots.get(&place).is_some_and(|slot| slot.state != State::Stored) {
            return;
        }
        let Checkpoint { content, text } = checkpoint;
        let slot = Slot { content, text: Some(text), written: None, state: State::Stored, is_left: false };
        self.slots.insert(place.clone(), slot);
        if has_ended {
            self.change(&place, None, now);
        }
    }

    pub fn keep(&mut self, place: &Place, checkpoint: Checkpoint, now: Instant) {
        let Checkpoint { content, text } = checkpoint;
        let known = self.slots.get(place);
        if known.is_some_and(|slot| slot.content == content && slot.text.as_deref() == Some(text.as_str())) {
            return;
        }
        let due = known.and_then(|slot| slot.written).map_or(now, |written| written + WRITE_INTERVAL);
        self.slot(place, content).content = content;
        self.change(place, Some(text), due.max(now));
    }

    pub fn ended(&mut self, place: &Place, content: Digest, has_checkpoint: bool, now: Instant) {
        if self.slots.len() >= SLOTS_MAX {
            return self.remove(place);
        }
        if has_checkpoint || self.slots.contains_key(place) {
            self.slot(place, content);
            self.change(place, None, now + END_DELAY);
        }
    }

    /// The item has left this process without an end. Its checkpoint stays in the topic.
    pub fn left(&mut self, place: &Place) {
        match self.slots.get_mut(place) {
            Some(slot) if slot.state == State::Stored => self.remove(place),
            Some(slot) => slot.is_left = true,
            None => {}
        }
    }

    /// Drops the checkpoints of a partition that are stored, and writes the others at once.
    pub fn leave(&mut self, partition: &Partition, now: Instant) {
        self.slots.retain(|place, slot| place.partition != *partition || slot.state != State::Stored);
        let late = self.due.iter().filter(|(_, place)| place.partition == *partition);
        let places: Vec<Place> = late.map(|(_, place)| place.clone()).collect();
        places.into_iter().for_each(|place| self.put_off(place, now));
    }

    /// Writes everything at once.
    pub fn hurry(&mut self, now: Instant) {
        let all = std::mem::take(&mut self.due);
        all.into_iter().for_each(|(_, place)| self.put_off(place, now));
    }

    pub fn is_written(&self) -> bool {
        self.slots.values().all(|slot| slot.state == State::Stored)
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Starts at most so many of the writes that are due.
    pub fn take_due(&mut self, now: Instant, most: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < most && self.next_due().is_some_and(|due| due <= now) {
            let Some((_, place)) = self.due.pop_first() else { break };
            let Some(slot) = self.slots.get_mut(&place) else { continue };
            slot.state = State::Writing { has_changed: false };
            slot.written = Some(now);
            let content = slot.content;
            let checkpoint = slot.text.clone().map(|text| Checkpoint { content, text });
            changes.push(Change { place, checkpoint });
        }
        changes
    }

    pub fn written(&mut self, place: &Place, now: Instant) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        match slot.state {
            State::Writing { has_changed: true } => {
                let due = slot.written.map_or(now, |written| written + WRITE_INTERVAL);
                self.put_off(place.clone(), due.max(now));
            }
            _ if slot.text.is_none() || slot.is_left => drop(self.slots.remove(place)),
            _ => slot.state = State::Stored,
        }
    }

    pub fn failed(&mut self, place: &Place, again_at: Instant) {
        self.put_off(place.clone(), again_at);
    }

    fn remove(&mut self, place: &Place) {
        if let Some(Slot { state: State::Due(due), .. }) = self.slots.remove(place) {
            self.due.remove(&(due, place.clone()));
        }
    }

    fn slot(&mut self, place: &Place, content: Digest) -> &mut Slot {
        let blank = || Slot { content, text: None, written: None, state: State::Stored, is_left: false };
        self.slots.entry(place.clone()).or_insert_with(blank)
    }

    fn change(&mut self, place: &Place, text: Option<String>, due: Instant) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        slot.text = text;
        match &mut slot.state {
            State::Writing { has_changed } => *has_changed = true,
            State::Due(_) | State::Stored => self.put_off(place.clone(), due),
        }
    }

    fn put_off(&mut self, place: Place, due: Instant) {
        let Some(slot) = self.slots.get_mut(&place) else { return };
        if let State::Due(before) = std::mem::replace(&mut slot.state, State::Due(due)) {
            self.due.remove(&(before, place.clone()));
        }
        self.due.insert((due, place));
    }
}
