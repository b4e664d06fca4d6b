//! Who handed an item over, and how we know it again when it comes back.

use std::fmt;
use std::sync::Arc;

/// One connection to RabbitMQ, or one assignment of one Kafka partition.
///
/// Epochs are never reused within a process, so that whatever comes back late names the session it
/// belongs to and can be told from the present one (guarantee G7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// One handing-over of an item by a broker. It can be settled in its own session only.
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
    /// Given back: RabbitMQ requeues it, Kafka keeps its offset incomplete.
    Return,
}

/// What a redelivery is known by: the same item has the same identity in every session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A Kafka record; nothing else ever has its offset.
    Offset { topic: Arc<str>, partition: i32, offset: i64 },
    /// The `longhaul-id` header that we wrote ourselves.
    Header(Arc<str>),
    /// A digest of the body and of the properties that survive a redelivery. Items alike byte for
    /// byte share it, so a match is consumed once and never copied (guarantee G3).
    Digest([u8; 16]),
}

impl Identity {
    /// Whether no other item can have this identity.
    pub fn is_unique(&self) -> bool {
        !matches!(self, Identity::Digest(_))
    }

    /// Reads what `Display` writes; none where it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("offset", place) => {
                let mut parts = place.splitn(3, ':');
                let partition = parts.next()?.parse().ok()?;
                let offset = parts.next()?.parse().ok()?;
                Some(Identity::Offset { topic: parts.next()?.into(), partition, offset })
            }
            ("header", name) => Some(Identity::Header(name.into())),
            ("digest", hex) => Some(Identity::Digest(u128::from_str_radix(hex, 16).ok()?.to_be_bytes())),
            _ => None,
        }
    }
}

/// What the core knows of a delivery; the message itself stays in the shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outline {
    pub id: DeliveryId,
    pub identity: Identity,
    /// The broker says that it handed this item over before. Always false for Kafka, which does not know.
    pub redelivered: bool,
    /// Attempts that earlier processes made, as far as the broker could tell us.
    pub attempts_before: u32,
    /// Size of the body, in bytes.
    pub bytes: u64,
    /// Items of one key run one at a time and in order of arrival; none is ordered against nothing.
    pub order_key: Option<OrderKey>,
    /// The broker drops the item after a few more returns: it is written anew to its queue.
    pub near_limit: bool,
    /// Another replica may be at work on it: that one is asked before anything starts here.
    pub ask_peers: bool,
}

/// A digest of (topic, partition, key): equal keys stay in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub u128);

/// As one replica tells another; [`Identity::parse`] reads it.
impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Offset { topic, partition, offset } => {
                write!(formatter, "offset:{partition}:{offset}:{topic}")
            }
            Identity::Header(name) => write!(formatter, "header:{name}"),
            Identity::Digest(digest) => write!(formatter, "digest:{:032x}", u128::from_be_bytes(*digest)),
        }
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

    #[test]
    fn an_identity_survives_the_way_to_another_replica() {
        let all = [
            Identity::Offset { topic: "a:b".into(), partition: 3, offset: 1 << 40 },
            Identity::Header("x:y".into()),
            Identity::Digest([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0]),
        ];
        for identity in all {
            assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        }
        for bad in ["", "offset:1:t", "digest:zz", "other:1"] {
            assert_eq!(Identity::parse(bad), None);
        }
    }
}
