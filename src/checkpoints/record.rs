//! The records of the topic: a key that names one item of one group, and its latest checkpoint.
//!
//! Both are JSON, so that a person can read the topic with any tool:
//!
//! ```text
//! ["thumbs","images",3,"71d6…",1207]      group, topic, partition, log, offset
//! {"checkpoint":"page 17","content":"…"}  a record without a value: the item has ended
//! ```
//! The content is the digest of the item. A checkpoint counts only for the item that it was made
//! of, also if somebody writes another log under the same names.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::delivery::Digest;
use crate::progress::CHECKPOINT_BYTES;

/// A partition of one log. A topic that is created again has another log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    pub topic: Arc<str>,
    pub number: i32,
    pub log: u128,
}

/// The place of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub partition: Partition,
    pub offset: i64,
}

/// A checkpoint, and the content of its item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub content: Digest,
    pub text: String,
}

#[derive(Serialize, Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>, i32, String, i64);

#[derive(Serialize, Deserialize)]
struct Value {
    checkpoint: String,
    content: String,
}

/// The key of an item's record.
pub fn key(group: &str, place: &Place) -> Vec<u8> {
    let Partition { topic, number, log } = &place.partition;
    let key = Key(group.into(), (&**topic).into(), *number, format!("{log:032x}"), place.offset);
    // Text and numbers always have a JSON form.
    serde_json::to_vec(&key).unwrap_or_default()
}

/// The value of an item's record.
pub fn value(checkpoint: &Checkpoint) -> Vec<u8> {
    let content = format!("{:032x}", u128::from_be_bytes(checkpoint.content.0));
    serde_json::to_vec(&Value { checkpoint: checkpoint.text.clone(), content }).unwrap_or_default()
}

fn parse(value: &[u8]) -> Option<Checkpoint> {
    let Value { checkpoint, content } = serde_json::from_slice(value).ok()?;
    let content = u128::from_str_radix(&content, 16).ok()?;
    let content = Digest(content.to_be_bytes());
    (checkpoint.len() <= CHECKPOINT_BYTES).then_some(Checkpoint { content, text: checkpoint })
}

/// The latest checkpoints of some partitions, collected while the topic is read in order.
#[derive(Debug)]
pub struct Collection {
    group: String,
    wanted: Vec<Partition>,
    found: HashMap<Place, Checkpoint>,
    bytes: usize,
    most_bytes: usize,
    /// Records that did not fit.
    pub left_out: usize,
}

impl Collection {
    pub fn new(group: &str, wanted: Vec<Partition>, most_bytes: usize) -> Self {
        let group = group.to_owned();
        Collection { group, wanted, found: HashMap::new(), bytes: 0, most_bytes, left_out: 0 }
    }

    /// Takes the next record of the topic. A record of another program, group or log is passed
    /// over.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Ok(Key(group, topic, number, log, offset)) = serde_json::from_slice(key) else { return };
        if group != self.group.as_str() {
            return;
        }
        let Ok(log) = u128::from_str_radix(&log, 16) else { return };
        let is_meant = |one: &&Partition| one.log == log && one.number == number && *one.topic == *topic;
        let Some(partition) = self.wanted.iter().find(is_meant).cloned() else { return };
        let place = Place { partition, offset };
        if let Some(before) = self.found.remove(&place) {
            self.bytes -= size(&before);
        }
        let Some(checkpoint) = value.and_then(parse) else { return };
        if self.bytes + size(&checkpoint) > self.most_bytes {
            self.left_out += 1;
            return;
        }
        self.bytes += size(&checkpoint);
        self.found.insert(place, checkpoint);
    }

    pub fn into_found(self) -> HashMap<Place, Checkpoint> {
        self.found
    }
}

/// The memory of a checkpoint with its place, in bytes.
fn size(checkpoint: &Checkpoint) -> usize {
    checkpoint.text.len() + size_of::<Checkpoint>() + size_of::<Place>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, number: i32, log: u128) -> Partition {
        Partition { topic: topic.into(), number, log }
    }

    fn checkpoint(text: &str) -> Checkpoint {
        Checkpoint { content: Digest([7; 16]), text: text.to_owned() }
    }

    #[test]
    fn only_the_latest_record_of_the_same_group_log_and_partition_counts() {
        let own = partition("t", 3, 5);
        let mut collection = Collection::new("g", vec![own.clone()], 10_000);
        let at = |partition: &Partition, offset| Place { partition: partition.clone(), offset };
        let mut write = |group: &str, place: &Place, text: Option<&str>| {
            let value = text.map(|text| value(&checkpoint(text)));
            collection.take(&key(group, place), value.as_deref());
        };
        write("g", &at(&own, 1), Some("old"));
        write("g", &at(&own, 1), Some("new \"quoted\" é"));
        write("g", &at(&own, 2), Some("ended"));
        write("g", &at(&own, 2), None);
        write("other", &at(&own, 4), Some("of another group"));
        for other in [partition("t", 3, 6), partition("t", 4, 5), partition("u", 3, 5)] {
            write("g", &at(&other, 5), Some("of another log"));
        }
        for foreign in [&b"x"[..], b"[]", b"[\"g\",\"t\",3,\"zz\",1]", b"\xff"] {
            collection.take(foreign, Some(b"{}"));
        }
        collection.take(&key("g", &at(&own, 6)), Some(b"not JSON"));
        let found: Vec<_> = collection.into_found().into_iter().collect();
        assert_eq!(found, [(at(&own, 1), checkpoint("new \"quoted\" é"))]);
    }

    #[test]
    fn the_memory_of_a_collection_is_bounded() {
        let own = partition("t", 0, 5);
        let mut collection = Collection::new("g", vec![own.clone()], 100_000);
        for offset in 0..1_000 {
            let place = Place { partition: own.clone(), offset };
            collection.take(&key("g", &place), Some(&value(&checkpoint(&"x".repeat(4_000)))));
        }
        assert!(collection.bytes <= 100_000 && collection.left_out > 900);
        let long = Place { partition: own, offset: 2_000 };
        collection.take(&key("g", &long), Some(&value(&checkpoint(&"x".repeat(CHECKPOINT_BYTES + 1)))));
        assert!(!collection.into_found().contains_key(&long));
    }
}
