//! Answers and events of librdkafka as types of our own.

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

/// A record, borrowed from librdkafka.
pub struct Record<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<&'a [u8]>,
    /// `None` for a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// A name that is not UTF-8 has replacement characters.
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
    /// An error, with its partition and offset if it belongs to one.
    Failed { at: Option<Entry>, code: RDKafkaErrorCode, reason: String, fatal: bool },
}

/// One partition of a list, with its metadata as raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub topic: String,
    pub partition: i32,
    /// Negative if it is unset.
    pub offset: i64,
    pub metadata: Vec<u8>,
    pub error: Option<RDKafkaErrorCode>,
}

/// A topic, as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// The id of this topic. A topic that is created again under the same name has another id.
    /// `None` before Kafka 2.8.
    pub id: Option<u128>,
    pub partitions: Vec<i32>,
    /// Whether this user may read it; `None` if the broker does not tell.
    pub readable: Option<bool>,
    /// Whether this user may write to it.
    pub writable: Option<bool>,
    pub error: Option<RDKafkaErrorCode>,
}

/// An end of a log.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Start,
    /// The end for a consumer: before the first record of an open transaction.
    End,
    /// The end with the records of open transactions.
    WrittenEnd,
}
