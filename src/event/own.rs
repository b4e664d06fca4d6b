//! Names of the headers that longhaul writes on messages to a broker. They never leave with an
//! event.

pub const PREFIX: &str = "longhaul-";
/// The name of an item. In a dead letter or a reply, the name of the item that it describes.
pub const ID: &str = "longhaul-id";
/// The attempts at that item so far.
pub const ATTEMPTS: &str = "longhaul-attempts";
/// In a copy: the checkpoint that the latest worker left.
pub const CHECKPOINT: &str = "longhaul-checkpoint";
/// In a copy: the header [`CHECKPOINT`] of its original, if a producer had set it.
pub const COPIED_CHECKPOINT: &str = "longhaul-copied-checkpoint";
/// Marks a copy of an item. From then on the copy is the item.
pub const COPY: &str = "longhaul-copy";
/// The code in a copy that proves that the bridge wrote it.
pub const SEAL: &str = "longhaul-seal";
/// The original's header [`ID`] in a copy, where [`ID`] has the copy's own name.
pub const COPIED_ID: &str = "longhaul-copied-id";
/// Marks a dead letter, and tells where its item came from.
pub const ORIGIN: &str = "longhaul-origin";
/// In a Kafka record that longhaul wrote for an item: the item's own time, in milliseconds since
/// the Unix epoch. The record itself has the time of the write, because the retention of a topic
/// counts from the record's time: a record with the time of an old item could be deleted before
/// anybody reads it.
pub const RECORD_TIME: &str = "longhaul-record-time";
/// The number of dead letters and replies that led to this message, if longhaul wrote it.
pub const HOPS: &str = "longhaul-hops";
/// The counts of [`HOPS`] with the codes that prove that longhaul wrote them.
pub const HOPS_SEAL: &str = "longhaul-hops-seal";
/// Marks a reply.
pub const REPLY: &str = "longhaul-reply";
