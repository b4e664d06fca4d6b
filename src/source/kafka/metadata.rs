//! The map of a partition as text, for the metadata of a committed offset.
//!
//! ```text
//! k1. base64url( version | flags | crc32 | log | varint base | varint length | entries )
//! ```
//! `log` is the id of the topic in 16 bytes, because a topic that is deleted and created again has
//! other records at the same offsets; 0 means that the broker has no ids. The entries name the
//! records of `base..base + length` that are *not* done, so that the cost follows the number of
//! unfinished records and not the length of the window. Each entry is a varint of the gap to the
//! one before (to the base for the first), and its failed attempts in one byte if any record has
//! some. If a plain bitmap is shorter, it takes the place of the gaps. Kafka takes 4,096 characters
//! (`offset.metadata.max.bytes`);
//! [`Tracker::admits`](super::tracker::Tracker::admits) keeps the map below that, so nothing is
//! stripped.
//!
//! The text carries its own base and a checksum, because other tools move offsets without the
//! metadata or the metadata without the offset. A text that does not fit is refused, and the
//! partition then starts without a map: records may run again, none is skipped.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::tracker::{MAX_INCOMPLETE, MAX_WINDOW, Snapshot};

const PREFIX: &str = "k1.";
const VERSION: u8 = 2;
/// The version without the log.
const OLD_VERSION: u8 = 1;
const FLAG_ATTEMPTS: u8 = 1;
const FLAG_BITMAP: u8 = 2;
const FLAG_REPLACEMENT: u8 = 4;
/// The size of version, flags and checksum.
const HEAD: usize = 6;
const LOG: usize = 16;

/// The log of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The id of the topic; 0 from a broker without ids.
    pub id: u128,
    /// Whether the topic is known to have replaced an earlier one of the same name.
    pub is_replacement: bool,
}

/// A map that was read. Every offset of `base..end` that is not listed is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// The log that it describes; `None` in the old version.
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
    #[error("a newer version wrote it")]
    Version,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it belongs to another offset")]
    Base,
    #[error("it is malformed")]
    Malformed,
}

/// Returns the text for a snapshot of this log.
pub fn encode(log: Log, snapshot: &Snapshot) -> String {
    let length = snapshot.end - snapshot.base;
    let mut flags = 0;
    if snapshot.incomplete.iter().any(|&(_, attempts)| attempts > 0) {
        flags |= FLAG_ATTEMPTS;
    }
    if log.is_replacement {
        flags |= FLAG_REPLACEMENT;
    }
    let gaps = encode_gaps(snapshot);
    let bitmap_length = (length as usize).div_ceil(8);
    let body = if gaps.len() <= bitmap_length {
        gaps
    } else {
        flags |= FLAG_BITMAP;
        encode_bitmap(snapshot, bitmap_length)
    };

    let mut payload = vec![VERSION, flags, 0, 0, 0, 0];
    payload.extend(log.id.to_be_bytes());
    put_varint(&mut payload, snapshot.base as u64);
    put_varint(&mut payload, length as u64);
    payload.extend(body);
    if flags & FLAG_ATTEMPTS != 0 {
        payload.extend(snapshot.incomplete.iter().map(|&(_, attempts)| attempts));
    }
    let checksum = checksum(&payload);
    payload[2..HEAD].copy_from_slice(&checksum.to_le_bytes());
    let mut text = String::from(PREFIX);
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    text
}

/// Reads the metadata of a committed offset. Without metadata there is no map, which is not an
/// error.
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
    if ![VERSION, OLD_VERSION].contains(&payload[0]) {
        return Err(Refused::Version);
    }
    if payload[2..HEAD] != checksum(&payload).to_le_bytes() {
        return Err(Refused::Checksum);
    }
    let flags = payload[1];
    if flags & !(FLAG_ATTEMPTS | FLAG_BITMAP | FLAG_REPLACEMENT) != 0 {
        return Err(Refused::Version);
    }
    let mut rest = &payload[HEAD..];
    let mut log = None;
    if payload[0] == VERSION {
        let (bytes, behind) = rest.split_first_chunk::<LOG>().ok_or(Refused::Malformed)?;
        let is_replacement = flags & FLAG_REPLACEMENT != 0;
        log = Some(Log { id: u128::from_be_bytes(*bytes), is_replacement });
        rest = behind;
    }
    let base = take_varint(&mut rest).and_then(|base| i64::try_from(base).ok()).ok_or(Refused::Malformed)?;
    if base != committed {
        return Err(Refused::Base);
    }
    decode_entries(log, base, flags, rest).map(Some).ok_or(Refused::Malformed)
}

fn decode_entries(log: Option<Log>, base: i64, flags: u8, mut rest: &[u8]) -> Option<Map> {
    let length = i64::try_from(take_varint(&mut rest)?).ok()?;
    if length > MAX_WINDOW {
        return None;
    }
    let end = base.checked_add(length)?;
    let offsets = if flags & FLAG_BITMAP != 0 {
        take_bitmap(&mut rest, base, length)?
    } else {
        // With attempts each entry has one more byte at the end; without, the gaps fill the rest.
        take_gaps(&mut rest, base, end, usize::from(flags & FLAG_ATTEMPTS))?
    };
    let attempts = if flags & FLAG_ATTEMPTS != 0 { rest.to_vec() } else { vec![0; offsets.len()] };
    let ours = offsets.len() <= MAX_INCOMPLETE && attempts.len() == offsets.len();
    ours.then(|| Map { log, base, end, incomplete: offsets.into_iter().zip(attempts).collect() })
}

fn encode_gaps(snapshot: &Snapshot) -> Vec<u8> {
    let mut gaps = Vec::with_capacity(snapshot.incomplete.len() * 2);
    let mut expected = snapshot.base;
    for &(offset, _) in &snapshot.incomplete {
        put_varint(&mut gaps, (offset - expected) as u64);
        expected = offset + 1;
    }
    gaps
}

/// Reads gaps until only the trailing bytes of the entries are left (`trailer` for each entry).
fn take_gaps(rest: &mut &[u8], base: i64, end: i64, trailer: usize) -> Option<Vec<i64>> {
    let mut offsets = Vec::new();
    let mut expected = base;
    while rest.len() > offsets.len() * trailer {
        let gap = i64::try_from(take_varint(rest)?).ok()?;
        let offset = expected.checked_add(gap).filter(|&offset| offset < end)?;
        offsets.push(offset);
        expected = offset + 1;
    }
    Some(offsets)
}

/// Writes one bit for each offset; 1 means done.
fn encode_bitmap(snapshot: &Snapshot, bytes: usize) -> Vec<u8> {
    let mut bitmap = vec![u8::MAX; bytes];
    for &(offset, _) in &snapshot.incomplete {
        let index = (offset - snapshot.base) as usize;
        bitmap[index / 8] &= !(1 << (index % 8));
    }
    bitmap
}

fn take_bitmap(rest: &mut &[u8], base: i64, length: i64) -> Option<Vec<i64>> {
    let (bitmap, behind) = rest.split_at_checked((length as usize).div_ceil(8))?;
    *rest = behind;
    let is_done = |index: i64| bitmap[index as usize / 8] & (1 << (index % 8)) != 0;
    Some((0..length).filter(|&index| !is_done(index)).map(|index| base + index).collect())
}

/// Covers everything apart from the checksum itself.
fn checksum(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..2]);
    hasher.update(&payload[HEAD..]);
    hasher.finalize()
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
