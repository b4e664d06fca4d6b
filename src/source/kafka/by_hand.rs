//! The wishes of a person about one partition: read nothing of it, or pass over an undecodable
//! batch.

use std::collections::HashSet;
use std::time::Instant;

use super::thread::Worker;

/// The partitions that a person paused. They stay paused when they leave this replica and come
/// back.
#[derive(Clone, Default)]
pub struct Paused(HashSet<(String, i32)>);

impl Paused {
    pub fn set(&mut self, topic: String, number: i32, is_paused: bool) {
        if is_paused {
            self.0.insert((topic, number));
        } else {
            self.0.remove(&(topic, number));
        }
    }

    pub fn contains(&self, topic: &str, number: i32) -> bool {
        self.0.contains(&(topic.to_owned(), number))
    }
}

impl Worker {
    /// Hands over nothing more of this partition, or continues with it. Records that are in hand
    /// are not affected.
    pub fn pause_by_hand(&mut self, topic: String, number: i32, is_paused: bool) {
        tracing::info!(topic, partition = number, is_paused, "A person paused or resumed a partition");
        if let Some(partition) = self.sessions.find(&topic, number) {
            partition.is_paused_by_hand = is_paused;
        }
        self.paused_by_hand.set(topic, number, is_paused);
    }

    /// Passes over the undecodable batch that holds this partition up, as `undecodable: skip` does.
    /// Without such a batch at this offset nothing happens.
    pub fn skip_by_hand(&mut self, topic: &str, number: i32, offset: i64, now: Instant) {
        let Some(partition) = self.sessions.find(topic, number) else { return };
        if partition.undecodable.as_mut().is_some_and(|found| found.skip(offset, now)) {
            tracing::warn!(id = %partition.place.id(offset), "A person skips an undecodable batch; its end is searched for");
            self.search_on(topic, number);
        }
    }
}
