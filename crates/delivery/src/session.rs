//! The session and the delivery of an item, and the identity by which a redelivery is recognised.

use std::fmt;
use std::sync::Arc;

/// A session: one connection to RabbitMQ, or one assignment of one Kafka partition.
///
/// Epochs are never reused within a process. So every late message names its own session and can be
/// told from the present one (guarantee G7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// All deliveries that this session can have.
    pub(super) fn deliveries(self) -> std::ops::RangeInclusive<DeliveryId> {
        DeliveryId { epoch: self, tag: 0 }..=DeliveryId { epoch: self, tag: u64::MAX }
    }
}

/// One handing-over of an item by a broker. It can be settled only in its own session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    pub epoch: Epoch,
    /// RabbitMQ's delivery tag, or the Kafka offset.
    pub tag: u64,
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Settlement {
    /// The broker may forget the item.
    Ack,
    /// The broker gets the item back: RabbitMQ requeues it, for Kafka its offset stays unfinished.
    Return,
}

/// A digest of the content that survives a redelivery: body, key, stable properties and headers,
/// and the queue or topic. Two deliveries of one item have the same digest; two different items
/// never do, unless they are equal byte for byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

/// The random mark of one copy that the bridge wrote. Nobody else can guess it, and no two copies
/// share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; 16]);

/// One log of records: a topic that was deleted and created again is another log, and so is the
/// topic of the same name in another cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u128);

/// The properties by which a redelivery is recognised. Each variant covers the content, so that a
/// name alone never settles an item (rule D1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A Kafka record. No other record of the same log has its offset.
    Record { log: LogId, topic: Arc<str>, partition: i32, offset: i64, content: Digest },
    /// A copy that the bridge wrote: it carries the header `longhaul-copy` with this mark.
    Copy { mark: Mark, content: Digest },
    /// Any other message. Messages that are equal byte for byte share this identity, so a match is
    /// consumed once and never copied (guarantee G3).
    Content(Digest),
}

impl Identity {
    /// Whether no other item can have this identity.
    pub fn is_unique(&self) -> bool {
        !matches!(self, Identity::Content(_))
    }

    /// A unique identity for fakes and tests, which need no content.
    pub fn numbered(number: u128) -> Self {
        Identity::Copy { mark: Mark(number.to_be_bytes()), content: Digest::default() }
    }

    /// The digest of the item's content.
    pub fn content(&self) -> Digest {
        match self {
            Identity::Record { content, .. }
            | Identity::Copy { content, .. }
            | Identity::Content(content) => *content,
        }
    }

    /// The group that takes turns with others. All items of a queue are one group.
    pub fn group(&self) -> Group {
        let Identity::Record { topic, partition, .. } = self else { return Group::default() };
        // FNV-1a: two partitions that collide share a turn, and nothing else.
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let bytes = topic.bytes().chain(partition.to_be_bytes());
        Group(bytes.fold(0xcbf2_9ce4_8422_2325, fold))
    }

    /// The mark of a copy.
    pub fn mark(&self) -> Option<Mark> {
        match self {
            Identity::Copy { mark, .. } => Some(*mark),
            Identity::Record { .. } | Identity::Content(_) => None,
        }
    }

    /// The identity of a copy of an item that has this identity.
    pub fn copy(&self, mark: Mark) -> Identity {
        Identity::Copy { mark, content: self.content() }
    }

    /// Reads the text that `Display` writes. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("record", place) => {
                let mut parts = place.splitn(5, ':');
                Some(Identity::Record {
                    log: LogId(bits(parts.next()?)?),
                    content: Digest::parse(parts.next()?)?,
                    partition: parts.next()?.parse().ok()?,
                    offset: parts.next()?.parse().ok()?,
                    topic: parts.next()?.into(),
                })
            }
            ("copy", names) => {
                let (mark, content) = names.split_once(':')?;
                Some(Identity::Copy { mark: Mark::parse(mark)?, content: Digest::parse(content)? })
            }
            ("content", digest) => Some(Identity::Content(Digest::parse(digest)?)),
            _ => None,
        }
    }
}

/// The core's knowledge of a delivery. The message itself stays in the shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outline {
    pub id: DeliveryId,
    pub identity: Identity,
    /// The broker says that it handed this item over before. Kafka does not tell that, so there it
    /// is always false.
    pub redelivered: bool,
    /// Attempts that earlier processes made, as far as the broker could tell us.
    pub attempts_before: u32,
    /// Size of the body in bytes. `limits.item_bytes` bounds it.
    pub body_bytes: u64,
    /// All memory that the message takes, in bytes: body, key, headers and their overhead. It
    /// counts against `limits.held_bytes` (rule D3).
    pub kept_bytes: u64,
    /// Items of one key run one at a time and in order of arrival. Items without a key have no
    /// order.
    pub order_key: Option<OrderKey>,
    /// The broker drops the item after a few more returns, so the bridge writes a copy to its
    /// queue.
    pub near_limit: bool,
    /// Another replica may work on the item, so the replicas are asked before it starts here.
    pub ask_peers: bool,
    /// Another consumer may have finished an equal item. A delivery without a unique identity is
    /// then a new item, because it cannot be told from that one (rule D1).
    pub shared: bool,
    /// The source could not decode the item. It fails for good without a request.
    pub undecodable: bool,
}

/// Items that share one place in the broker, such as a Kafka partition. Groups take turns, so that
/// a long backlog of one delays no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub u64);

/// A digest of (topic, partition, key): equal keys stay in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub u128);

/// Writes the text that one replica sends to another; [`Identity::parse`] reads it.
impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Record { log, topic, partition, offset, content } => {
                write!(formatter, "record:{:032x}:{content}:{partition}:{offset}:{topic}", log.0)
            }
            Identity::Copy { mark, content } => write!(formatter, "copy:{mark}:{content}"),
            Identity::Content(content) => write!(formatter, "content:{content}"),
        }
    }
}

/// Reads exactly 32 hexadecimal digits.
fn bits(hex: &str) -> Option<u128> {
    let is_hex = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(hex, 16).ok().filter(|_| is_hex)
}

impl Digest {
    /// Reads 32 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        bits(hex).map(|bits| Digest(bits.to_be_bytes()))
    }
}

impl Mark {
    /// Reads 32 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        bits(hex).map(|bits| Mark(bits.to_be_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.epoch, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(topic: &str, partition: i32) -> Identity {
        Identity::Record {
            log: LogId(7),
            topic: topic.into(),
            partition,
            offset: 1,
            content: Digest([9; 16]),
        }
    }

    #[test]
    fn only_a_content_is_shared_by_items() {
        let copy = Identity::Copy { mark: Mark([1; 16]), content: Digest([2; 16]) };
        let content = Identity::Content(Digest([3; 16]));
        assert_eq!([&record("t", 0), &copy, &content].map(Identity::is_unique), [true, true, false]);
        assert_eq!(
            [&record("t", 0), &copy, &content].map(Identity::content),
            [9, 2, 3].map(|byte| Digest([byte; 16]))
        );
        assert_eq!([&record("t", 0), &copy, &content].map(Identity::mark), [None, Some(Mark([1; 16])), None]);
        assert_ne!(Identity::numbered(1), Identity::numbered(2));
        assert_eq!(
            content.copy(Mark([4; 16])),
            Identity::Copy { mark: Mark([4; 16]), content: Digest([3; 16]) }
        );
    }

    /// The values are those of FNV-1a with 64 bits.
    #[test]
    fn each_partition_is_a_group_and_a_queue_is_one() {
        assert_eq!(Identity::Content(Digest([3; 16])).group(), Group::default());
        assert_eq!(record("", 0).group(), Group(0x4d25_767f_9dce_13f5));
        let groups = [record("t", 0), record("t", 1), record("u", 0), record("t", 256)];
        let mut groups = groups.map(|record| record.group());
        groups.sort_unstable();
        assert!(groups.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_session_has_all_its_deliveries_and_no_others() {
        let range = Epoch(3).deliveries();
        let has = |epoch, tag| range.contains(&DeliveryId { epoch: Epoch(epoch), tag });
        assert!(has(3, 0) && has(3, u64::MAX) && !has(2, u64::MAX) && !has(4, 0));
        assert_eq!(range.start().to_string(), "3/0");
    }

    #[test]
    fn an_identity_survives_the_way_to_another_replica() {
        let all = [
            Identity::Record {
                log: LogId(7),
                topic: "a:b".into(),
                partition: 3,
                offset: 1 << 40,
                content: Digest([9; 16]),
            },
            Identity::Copy { mark: Mark([1; 16]), content: Digest([2; 16]) },
            Identity::Content(Digest([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0])),
        ];
        for identity in all {
            assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        }
        for bad in [
            "",
            "record:1:t",
            "content:zz",
            "content:12",
            "copy:1",
            "other:1",
            "content:+0000000000000000000000000000001",
        ] {
            assert_eq!(Identity::parse(bad), None);
        }
    }
}
