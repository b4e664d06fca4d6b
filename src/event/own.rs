//! Names of the headers that we write on messages to a broker. They never leave with an event.

pub const PREFIX: &str = "longhaul-";
/// A name: the message's own, or in a dead letter or a reply that of the item it tells of.
pub const ID: &str = "longhaul-id";
/// Attempts so far, of the same item.
pub const ATTEMPTS: &str = "longhaul-attempts";
/// Marks a copy of an item, which is the item from then on.
pub const COPY: &str = "longhaul-copy";
/// In a copy: the code that proves that the bridge wrote it.
pub const SEAL: &str = "longhaul-seal";
/// In a copy: the header [`ID`] of its original, which the copy's own name replaces.
pub const COPIED_ID: &str = "longhaul-copied-id";
/// Marks a dead letter, and says where its item came from.
pub const ORIGIN: &str = "longhaul-origin";
/// Marks a reply.
pub const REPLY: &str = "longhaul-reply";
