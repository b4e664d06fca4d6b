//! The mark of a group: the partitions that have had a committed offset.
//!
//! A group whose offsets were deleted looks like a new group, and would run every record again. So
//! the group also commits an offset for a partition that it never reads. The metadata of this
//! offset lists the partitions of the group that have had an offset. If such a partition has none
//! now, the group has lost it (see [`lost`](super::lost)).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use rdkafka::{Offset, TopicPartitionList};

use super::metadata::varint::{put_varint, take_varint};
use super::metadata::{self, CHARACTERS};
use super::start::NotReady;
use super::thread::Worker;
use crate::connect::kafka::notice::Entry;
use crate::connect::kafka::raw;

/// A partition that every cluster with groups has. A group reads it only if somebody subscribes to
/// Kafka's internal topics, which `check` refuses.
pub const PLACE: (&str, i32) = ("__consumer_offsets", 0);
/// Beyond the end of any log, so that tools show no lag.
const OFFSET: i64 = i64::MAX;
const TEXT: &str = "longhaul: the start of this group is decided";
const SEPARATOR: &str = "; ";

/// Offsets of topics that a group does not read expire, after a day at the earliest.
const RENEWAL: Duration = Duration::from_secs(3600);
/// How soon a mark without some of our partitions is looked at again. Two members that write at the
/// same time overwrite each other.
const CORRECTION: Duration = Duration::from_secs(10);
/// How long a broker may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Partitions that have had a committed offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The key is the first half of the topic's id. The value has one bit for each partition.
    topics: BTreeMap<u64, Vec<u8>>,
}

impl Mark {
    /// The mark among committed offsets; `None` if the group has none.
    pub fn find(committed: &[Entry]) -> Option<Mark> {
        let is_mark =
            |entry: &&Entry| (entry.topic.as_str(), entry.partition) == PLACE && entry.error.is_none();
        let entry = committed.iter().find(is_mark).filter(|entry| entry.offset >= 0)?;
        Some(Mark::decode(&entry.metadata).unwrap_or_default())
    }

    pub fn names(&self, log: u128, partition: i32) -> bool {
        let Some((topic, byte, bit)) = locate(log, partition) else { return false };
        self.topics.get(&topic).and_then(|bits| bits.get(byte)).is_some_and(|bits| bits & bit != 0)
    }

    fn add(&mut self, log: u128, partition: i32) {
        let Some((topic, byte, bit)) = locate(log, partition) else { return };
        let bits = self.topics.entry(topic).or_default();
        bits.resize(bits.len().max(byte + 1), 0);
        bits[byte] |= bit;
    }

    /// Returns the metadata of the mark's offset. Topics that have no room are left out, and are
    /// not protected.
    fn encode(&self) -> String {
        // Four characters of Base64 hold three bytes.
        let room = (CHARACTERS - TEXT.len() - SEPARATOR.len()) / 4 * 3;
        let mut bytes = Vec::new();
        for (topic, bits) in &self.topics {
            let before = bytes.len();
            bytes.extend(topic.to_be_bytes());
            put_varint(&mut bytes, bits.len() as u64);
            bytes.extend(bits);
            if bytes.len() > room {
                bytes.truncate(before);
                break;
            }
        }
        format!("{TEXT}{SEPARATOR}{}", BASE64_STANDARD_NO_PAD.encode(bytes))
    }

    /// Reads the metadata. The mark of an earlier version names no partitions.
    fn decode(metadata: &[u8]) -> Option<Mark> {
        let text = std::str::from_utf8(metadata).ok()?;
        let list = text.strip_prefix(TEXT)?.strip_prefix(SEPARATOR)?;
        let bytes = BASE64_STANDARD_NO_PAD.decode(list).ok()?;
        let mut rest = bytes.as_slice();
        let mut topics = BTreeMap::new();
        while !rest.is_empty() {
            let (topic, after) = rest.split_first_chunk()?;
            rest = after;
            let length = usize::try_from(take_varint(&mut rest)?).ok()?;
            let (bits, after) = rest.split_at_checked(length)?;
            rest = after;
            topics.insert(u64::from_be_bytes(*topic), bits.to_vec());
        }
        Some(Mark { topics })
    }
}

/// The place of a partition in the mark. A topic without an id of its own has none: if it is
/// created again, nothing tells the new topic from the old one.
fn locate(log: u128, partition: i32) -> Option<(u64, usize, u8)> {
    let number = usize::try_from(partition).ok()?;
    (log != 0 && !metadata::is_derived(log)).then_some(((log >> 64) as u64, number / 8, 1 << (number % 8)))
}

impl Worker {
    /// Whether a member of this group has decided the start before. A broker forgets the offsets of
    /// a topic that is deleted, so a group whose topics were all deleted looks new, but for this
    /// mark.
    ///
    /// # Errors
    /// The broker does not answer. The group must then not look new, because a new group may skip
    /// the records that wait.
    pub(super) fn has_started_before(&self) -> Result<bool, NotReady> {
        let committed = self.read_committed(&[PLACE])?;
        let is_marked = Mark::find(&committed).is_some();
        if is_marked {
            tracing::info!("The group has started before, so its topics are read from their beginning");
        }
        Ok(is_marked)
    }

    /// Adds our partitions to the mark of the group, and renews it.
    pub(super) fn look_at_mark(&mut self, now: Instant) {
        if self.is_closing()
            || now < self.topics.mark_at
            || (self.sessions.is_empty() && !self.start_is_decided)
        {
            return;
        }
        let places: Vec<_> = self.sessions.iter().map(|one| &one.place).collect();
        let ours = places.iter().map(|place| (&*place.topic, place.partition));
        let wanted: Vec<(&str, i32)> = ours.chain([PLACE]).collect();
        let Ok(committed) = self.read_committed(&wanted) else {
            self.topics.mark_at = now + CORRECTION;
            return;
        };
        let found = Mark::find(&committed);
        let mut mark = found.clone().unwrap_or_default();
        for place in &places {
            let has_offset = |entry: &Entry| {
                entry.topic == *place.topic && entry.partition == place.partition && entry.offset >= 0
            };
            if committed.iter().any(has_offset) {
                mark.add(place.log.id, place.partition);
            }
        }
        let is_complete = found.as_ref() == Some(&mark);
        let renew = self.topics.marked_at.is_none_or(|at| now.saturating_duration_since(at) >= RENEWAL);
        self.topics.mark_at = now + if is_complete { RENEWAL } else { CORRECTION };
        if !is_complete || renew {
            self.topics.marked_at = Some(now);
            if !self.mark(&mark) {
                self.topics.mark_at = now + RENEWAL;
            }
        }
    }

    /// Leaves the mark, and returns whether the broker took it. Without the permission for it, a
    /// group that has lost its offsets looks like a new one.
    pub(super) fn mark(&self, mark: &Mark) -> bool {
        let (topic, partition) = PLACE;
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, partition);
        if element.set_offset(Offset::Offset(OFFSET)).is_err() {
            return false;
        }
        element.set_metadata(mark.encode());
        let Some(time) = self.patience.for_answer(PATIENCE) else { return false };
        let committed = raw::commit_within(&self.consumer, &list, time);
        if let Err(error) = &committed {
            tracing::info!(%error, "The group can't be marked as started; if it loses its offsets, it will look new");
        }
        committed.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: u128 = 0x0123_4567_89ab_4def_8000_0000_0000_0001;

    #[test]
    fn a_mark_names_the_partitions_that_were_added() {
        let mut mark = Mark::default();
        for partition in [0, 7, 300] {
            mark.add(LOG, partition);
        }
        mark.add(0, 1);
        mark.add(metadata::derived(LOG), 1);
        let read = Mark::decode(mark.encode().as_bytes()).unwrap();
        assert_eq!(read, mark);
        assert!([0, 7, 300].iter().all(|partition| read.names(LOG, *partition)));
        assert!([1, 8, 299, 301, 5000, -1].iter().all(|partition| !read.names(LOG, *partition)));
        assert!(!read.names(LOG ^ (1 << 100), 0) && !read.names(0, 1), "another log");
    }

    #[test]
    fn a_mark_fits_into_the_metadata_of_an_offset() {
        let mut mark = Mark::default();
        for topic in 1..2000_u128 {
            mark.add(LOG + (topic << 64), 40);
        }
        let text = mark.encode();
        assert!(text.len() <= CHARACTERS, "{}", text.len());
        assert!(Mark::decode(text.as_bytes()).unwrap().names(LOG + (1 << 64), 40));
    }

    #[test]
    fn foreign_metadata_names_nothing() {
        for text in ["", TEXT, "longhaul", "k3.AAAA", &format!("{TEXT}; !!!"), &format!("{TEXT}; AAAA")] {
            assert_eq!(Mark::decode(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Mark::decode(&[0xff]), None);
    }
}
