//! The answers and events of librdkafka in types of our own.

use rdkafka::error::RDKafkaErrorCode;

/// The result of one poll.
pub enum Polled<'a> {
    Record(Record<'a>),
    Notice(Notice),
    /// A log line was served.
    Served,
    /// The queue is empty.
    Nothing,
}

/// A record as librdkafka lends it.
pub struct Record<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<&'a [u8]>,
    /// None for a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// A name that is not UTF-8 comes with replacement characters.
    pub headers: Vec<(String, Option<&'a [u8]>)>,
}

/// An event that is not a record.
#[derive(Debug)]
pub enum Notice {
    /// The group gave us partitions.
    Assigned(Vec<Entry>),
    /// The group takes partitions back.
    Revoked(Vec<Entry>),
    /// How a commit ended: as a whole, and for each partition.
    Committed { partitions: Vec<Entry>, error: Option<RDKafkaErrorCode> },
    /// librdkafka's statistics, in JSON.
    Statistics(Vec<u8>),
    /// An error, with the partition and the offset when it belongs to one.
    Failed { at: Option<Entry>, code: RDKafkaErrorCode, reason: String, fatal: bool },
}

/// One partition of a list, with its bytes as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub topic: String,
    pub partition: i32,
    /// Negative when there is none.
    pub offset: i64,
    pub metadata: Vec<u8>,
    pub error: Option<RDKafkaErrorCode>,
}

/// What a broker says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// Each topic has its own id, also when it is created again under the same name. None before
    /// Kafka 2.8.
    pub id: Option<u128>,
    pub partitions: Vec<i32>,
    /// Whether this user may read it. None when the broker does not say.
    pub readable: Option<bool>,
    pub error: Option<RDKafkaErrorCode>,
}

/// An end of a log.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Start,
    /// The end as a consumer sees it: before the first record of an open transaction.
    End,
}
