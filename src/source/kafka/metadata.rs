//! The map of a partition as text, for the metadata of a committed offset.
//!
//! ```text
//! k1. base64url( version | flags | crc32 | log | base (varint) | length of the window (varint)
//!                | number of bytes of `offsets` (varint) | offsets | attempts )
//! ```
//! `log` (16 bytes) is the id of the topic. It is needed because a topic that is deleted and
//! created again has other records at the same offsets. If the broker gives topics no ids, `log` is
//! derived from the names of the cluster and the topic; 0 means that the topic is not identified.
//! The map names the records of `base..base + length` that are *not* done. Their [`offsets`] and
//! their failed [`attempts`] are each written in the shortest of several encodings, and the flags
//! name them.
//!
//! Kafka accepts at most 4,096 characters (`offset.metadata.max.bytes`).
//! [`Tracker::admits`](super::tracker::Tracker::admits) admits no record that could make the
//! encoded offsets too long, so no finished record is ever left out. The failed attempts are known
//! only after admission. If they do not fit (more than 900 records at once, with many different
//! numbers), the lowest numbers are left out, and such a record may get more attempts than
//! `retry.attempts` after a crash.
//!
//! The text carries its own base and a checksum, because other tools move offsets without the
//! metadata or the metadata without the offset. A text of another offset is refused, and the
//! partition then starts without a map: records may run again, none is skipped.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::tracker::{MAX_WINDOW, Snapshot};
use varint::{put_varint, take_varint};

pub(super) mod attempts;
mod earlier;
pub(super) mod offsets;
pub mod varint;

/// The characters that Kafka takes, unless its configuration says otherwise.
pub const CHARACTERS: usize = 4096;

const PREFIX: &str = "k1.";
const VERSION: u8 = 3;
/// Version 2: offsets and attempts are encoded as in [`earlier`].
const SECOND_VERSION: u8 = 2;
/// Version 1: like version 2, without `log`.
const FIRST_VERSION: u8 = 1;
/// The encoding of the offsets.
const OFFSETS: u8 = 0b11;
const OFFSETS_BITMAP: u8 = 1;
const OFFSETS_WORDS: u8 = 2;
const FLAG_REPLACEMENT: u8 = 4;
/// The encoding of the attempts.
const ATTEMPTS: u8 = 0b11 << 3;
const ATTEMPTS_LISTED: u8 = 1 << 3;
const ATTEMPTS_PACKED: u8 = 2 << 3;
/// Version, flags and checksum.
const HEAD: usize = 6;
const LOG: usize = 16;
/// The most bytes before the offsets: the three varints take at most 9, 3 and 2 bytes.
const BEFORE_OFFSETS: usize = HEAD + LOG + 9 + 3 + 2;
/// More offsets do not fit into the text that Kafka takes.
const MOST: usize = 8 * CHARACTERS;

/// Returns the number of bytes for offsets and attempts in a text of this number of characters.
pub const fn room(characters: usize) -> usize {
    (characters.saturating_sub(PREFIX.len()) * 3 / 4).saturating_sub(BEFORE_OFFSETS)
}

/// The log of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The id of the topic, or of its name in its cluster; 0 if nothing is known.
    pub id: u128,
    /// Whether the topic is known to have replaced an earlier one of the same name.
    pub is_replacement: bool,
}

/// The bits of a UUID's version.
const KIND: u128 = 0xf << 76;
/// UUID version 8, for custom ids. Kafka's ids of topics have version 4.
const DERIVED: u128 = 0x8 << 76;

/// An id of a log that was made of names, in a form that no id of a topic has.
pub fn derived(id: u128) -> u128 {
    id & !KIND | DERIVED
}

pub fn is_derived(id: u128) -> bool {
    id & KIND == DERIVED
}

/// A map read back. Everything of `base..end` that is not listed is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The log that it describes; `None` in version 1.
    pub log: Option<Log>,
    pub base: i64,
    pub end: i64,
    /// Offsets that are not done, in rising order, with their failed attempts.
    pub incomplete: Vec<(i64, u8)>,
}

/// The reason why a metadata text is not used as a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("another client wrote it")]
    Foreign,
    /// The version or a flag is unknown.
    #[error("a newer version wrote it")]
    Version,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it belongs to another offset")]
    Base,
    #[error("it is malformed")]
    Malformed,
}

/// Encodes a snapshot of this log in at most `characters`, which must have room for an empty map.
pub fn encode(log: Log, snapshot: &Snapshot, characters: usize) -> String {
    let text = write(log, snapshot);
    if text.len() <= characters { text } else { shorten(log, snapshot.clone(), characters) }
}

/// Leaves out the lowest numbers of attempts. If that is not enough (the broker's limit has shrunk
/// since admission), leaves out the upper part of the window: its finished records run again.
fn shorten(log: Log, mut snapshot: Snapshot, characters: usize) -> String {
    loop {
        let numbers = snapshot.incomplete.iter().map(|(_, attempts)| *attempts);
        match numbers.filter(|number| *number > 0).min() {
            Some(lowest) => {
                let forgotten = snapshot.incomplete.iter_mut().filter(|(_, attempts)| *attempts == lowest);
                forgotten.for_each(|(_, attempts)| *attempts = 0);
            }
            None => {
                let kept = snapshot.incomplete.len() / 2;
                let Some((first_cut, _)) = snapshot.incomplete.get(kept) else { break };
                snapshot.end = *first_cut;
                snapshot.incomplete.truncate(kept);
            }
        }
        let text = write(log, &snapshot);
        if text.len() <= characters {
            return text;
        }
    }
    write(log, &snapshot)
}

fn write(log: Log, snapshot: &Snapshot) -> String {
    let (rising, numbers): (Vec<i64>, Vec<u8>) = snapshot.incomplete.iter().copied().unzip();
    let (offsets_encoding, offsets) = offsets::encode(snapshot.base, &rising);
    let (attempts_encoding, attempts) = attempts::encode(&numbers);
    let mut flags = match offsets_encoding {
        offsets::Encoding::Gaps => 0,
        offsets::Encoding::Bitmap => OFFSETS_BITMAP,
        offsets::Encoding::Words => OFFSETS_WORDS,
    };
    flags |= match attempts_encoding {
        attempts::Encoding::Nothing => 0,
        attempts::Encoding::Listed => ATTEMPTS_LISTED,
        attempts::Encoding::Packed => ATTEMPTS_PACKED,
    };
    if log.is_replacement {
        flags |= FLAG_REPLACEMENT;
    }
    let mut payload = vec![VERSION, flags, 0, 0, 0, 0];
    payload.extend(log.id.to_be_bytes());
    put_varint(&mut payload, snapshot.base.cast_unsigned());
    put_varint(&mut payload, (snapshot.end - snapshot.base).cast_unsigned());
    put_varint(&mut payload, offsets.len() as u64);
    payload.extend(offsets);
    payload.extend(attempts);
    let checksum = checksum(&payload);
    payload[2..HEAD].copy_from_slice(&checksum.to_le_bytes());
    let mut text = String::from(PREFIX);
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    text
}

/// Reads the metadata of a committed offset. An offset that was committed without metadata has no
/// map, and that is not an error.
///
/// # Errors
/// The text is not a map for exactly this offset; [`Refused`] gives the reason.
pub fn decode(text: &[u8], committed: i64) -> Result<Option<Map>, Refused> {
    // Python's client ends its metadata with a NUL, and adds one to ours when it copies it.
    let trimmed = text.trim_ascii_end();
    let text = trimmed.strip_suffix(b"\0").unwrap_or(trimmed);
    if text.is_empty() {
        return Ok(None);
    }
    let encoded = text.strip_prefix(PREFIX.as_bytes()).ok_or(Refused::Foreign)?;
    let payload = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Refused::Malformed)?;
    if payload.len() < HEAD {
        return Err(Refused::Malformed);
    }
    let (version, flags) = (payload[0], payload[1]);
    let known = match version {
        VERSION => OFFSETS | FLAG_REPLACEMENT | ATTEMPTS,
        FIRST_VERSION | SECOND_VERSION => earlier::FLAG_ATTEMPTS | earlier::FLAG_BITMAP | FLAG_REPLACEMENT,
        _ => return Err(Refused::Version),
    };
    if payload[2..HEAD] != checksum(&payload).to_le_bytes() {
        return Err(Refused::Checksum);
    }
    if flags & !known != 0 {
        return Err(Refused::Version);
    }
    let mut rest = &payload[HEAD..];
    let mut log = None;
    if version != FIRST_VERSION {
        let (bytes, behind) = rest.split_first_chunk::<LOG>().ok_or(Refused::Malformed)?;
        let is_replacement = flags & FLAG_REPLACEMENT != 0;
        log = Some(Log { id: u128::from_be_bytes(*bytes), is_replacement });
        rest = behind;
    }
    let base = take_varint(&mut rest).and_then(|base| i64::try_from(base).ok()).ok_or(Refused::Malformed)?;
    if base != committed {
        return Err(Refused::Base);
    }
    let length = take_varint(&mut rest).and_then(|length| i64::try_from(length).ok());
    let end = length.filter(|length| *length <= MAX_WINDOW).and_then(|length| base.checked_add(length));
    let end = end.ok_or(Refused::Malformed)?;
    let incomplete = match version {
        VERSION => read(flags, rest, base, end),
        _ => earlier::decode(flags, rest, base, end),
    };
    let incomplete = incomplete.ok_or(Refused::Malformed)?;
    Ok(Some(Map { log, base, end, incomplete }))
}

/// Offsets and attempts; the inverse of [`write()`].
fn read(flags: u8, mut rest: &[u8], base: i64, end: i64) -> Option<Vec<(i64, u8)>> {
    let offsets_encoding = match flags & OFFSETS {
        0 => offsets::Encoding::Gaps,
        OFFSETS_BITMAP => offsets::Encoding::Bitmap,
        OFFSETS_WORDS => offsets::Encoding::Words,
        _ => return None,
    };
    let attempts_encoding = match flags & ATTEMPTS {
        0 => attempts::Encoding::Nothing,
        ATTEMPTS_LISTED => attempts::Encoding::Listed,
        ATTEMPTS_PACKED => attempts::Encoding::Packed,
        _ => return None,
    };
    let length = usize::try_from(take_varint(&mut rest)?).ok()?;
    let (offsets, attempts) = rest.split_at_checked(length)?;
    let offsets = offsets::decode(offsets_encoding, offsets, base, end, MOST)?;
    let attempts = attempts::decode(attempts_encoding, attempts, offsets.len())?;
    Some(offsets.into_iter().zip(attempts).collect())
}

/// Covers everything apart from the checksum itself.
fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..2]);
    hasher.update(&payload[HEAD..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
