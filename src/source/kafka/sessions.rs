//! Finds the open sessions by epoch (for settles) or by partition (for records and commits).

use std::collections::HashMap;
use std::sync::Arc;

use super::partition::Partition;
use crate::delivery::Epoch;

#[derive(Default)]
pub struct Sessions {
    partitions: HashMap<Epoch, Partition>,
    epochs: HashMap<Arc<str>, HashMap<i32, Epoch>>,
}

impl Sessions {
    pub fn insert(&mut self, partition: Partition) {
        let place = &partition.place;
        self.epochs.entry(place.topic.clone()).or_default().insert(place.partition, place.epoch);
        self.partitions.insert(place.epoch, partition);
    }

    pub fn remove(&mut self, topic: &str, partition: i32) -> Option<Partition> {
        let epoch = self.epochs.get_mut(topic)?.remove(&partition)?;
        self.partitions.remove(&epoch)
    }

    pub fn find(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        let epoch = self.epochs.get(topic)?.get(&partition)?;
        self.partitions.get_mut(epoch)
    }

    pub fn get(&mut self, epoch: Epoch) -> Option<&mut Partition> {
        self.partitions.get_mut(&epoch)
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.partitions.values_mut()
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Partition> {
        self.epochs.clear();
        self.partitions.drain().map(|(_, partition)| partition)
    }
}
