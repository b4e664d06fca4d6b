//! The offsets of a map, in the shortest of three encodings, and a bound on their size.
//!
//! - *Gaps*: a varint for each offset, with the distance to the one before. Short for few offsets.
//! - *Bitmap*: one bit for each offset of the window. Short for a dense window.
//! - *Words*: the window in words of 64 offsets. Empty words cost next to nothing, a word with a
//!   few offsets costs a byte for each, a mixed word its 64 bits, and a run of full words three
//!   bytes. Short for a few old offsets far below a dense end.
//!
//! [`Size`] is the size of the shortest encoding, and it never grows when offsets are taken out. So
//! a set of offsets that fits still fits after any of them are done.

use super::varint::{put_varint, take_varint, varint_length};

/// Offsets of one word.
const WORD: i64 = 64;
/// A word with this many offsets is written as its bits.
const DENSE: u32 = 8;
/// Marks a run of full words.
const FULL: u8 = 9;
/// The most empty words that the head of a word counts without a varint.
const SKIP_MAX: i64 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Gaps,
    Bitmap,
    Words,
}

/// The size of the shortest encoding of rising offsets, with full words counted as mixed ones.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    newest: i64,
    gaps: usize,
    words: usize,
    /// Offsets in the word of `newest`, counted up to [`DENSE`].
    in_word: u32,
}

impl Size {
    pub fn new(base: i64) -> Self {
        Size { newest: base - 1, gaps: 0, words: 0, in_word: 0 }
    }

    /// Adds an offset above all others.
    pub fn add(&mut self, offset: i64) {
        self.gaps += varint_length((offset - self.newest - 1).cast_unsigned());
        let skipped = word(offset) - word(self.newest);
        if skipped > 0 || self.in_word == 0 {
            self.words += head_length(skipped);
            self.in_word = 0;
        }
        if self.in_word < DENSE {
            self.words += 1;
            self.in_word += 1;
        }
        self.newest = offset;
    }

    /// The bytes that these offsets take at most, when `base` is the lowest of them.
    pub fn bytes(&self, base: i64) -> usize {
        let window = (self.newest - base + 1).max(0);
        self.gaps.min(self.words).min((window as usize).div_ceil(8))
    }
}

/// Encodes rising offsets from `base` on.
pub fn encode(base: i64, offsets: &[i64]) -> (Encoding, Vec<u8>) {
    let all = [
        (Encoding::Gaps, encode_gaps(base, offsets)),
        (Encoding::Bitmap, encode_bitmap(base, offsets)),
        (Encoding::Words, encode_words(base, offsets)),
    ];
    let [first, second, third] = all;
    let shorter = |a: (Encoding, Vec<u8>), b: (Encoding, Vec<u8>)| if b.1.len() < a.1.len() { b } else { a };
    shorter(shorter(first, second), third)
}

/// The offsets, which rise and lie within `base..end`. None when the bytes are not such a list of
/// at most `most` offsets.
pub fn decode(encoding: Encoding, bytes: &[u8], base: i64, end: i64, most: usize) -> Option<Vec<i64>> {
    let offsets = match encoding {
        Encoding::Gaps => decode_gaps(bytes, base, most)?,
        Encoding::Bitmap => decode_bitmap(bytes, base),
        Encoding::Words => decode_words(bytes, base, end, most)?,
    };
    let is_within = offsets.first().is_none_or(|first| *first >= base)
        && offsets.last().is_none_or(|last| *last < end)
        && offsets.is_sorted_by(|one, next| one < next);
    (is_within && offsets.len() <= most).then_some(offsets)
}

fn encode_gaps(base: i64, offsets: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(offsets.len());
    let mut expected = base;
    for &offset in offsets {
        put_varint(&mut bytes, (offset - expected).cast_unsigned());
        expected = offset + 1;
    }
    bytes
}

fn decode_gaps(mut bytes: &[u8], base: i64, most: usize) -> Option<Vec<i64>> {
    let mut offsets = Vec::new();
    let mut expected = base;
    while !bytes.is_empty() && offsets.len() <= most {
        let gap = i64::try_from(take_varint(&mut bytes)?).ok()?;
        let offset = expected.checked_add(gap)?;
        offsets.push(offset);
        expected = offset.checked_add(1)?;
    }
    Some(offsets)
}

/// One bit for each offset up to the last one that is not done; 1 is not done.
fn encode_bitmap(base: i64, offsets: &[i64]) -> Vec<u8> {
    let bits = offsets.last().map_or(0, |last| last - base + 1);
    let mut bytes = vec![0; (bits as usize).div_ceil(8)];
    for &offset in offsets {
        let index = (offset - base) as usize;
        bytes[index / 8] |= 1 << (index % 8);
    }
    bytes
}

fn decode_bitmap(bytes: &[u8], base: i64) -> Vec<i64> {
    let is_set = |index: usize| bytes[index / 8] & (1 << (index % 8)) != 0;
    (0..bytes.len() * 8)
        .filter(|&index| is_set(index))
        .map(|index| base.saturating_add(index as i64))
        .collect()
}

/// Writes each word that is not empty. A byte in front of the word has its kind and the number of
/// empty words before it. The rest of that number follows the byte if it does not fit there.
fn encode_words(base: i64, offsets: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut expected = word(base);
    let mut words = offsets.chunk_by(|one, next| word(*one) == word(*next)).peekable();
    while let Some(chunk) = words.next() {
        let number = word(chunk[0]);
        let kind = if is_full(chunk) { FULL } else { (chunk.len() as u32).min(DENSE) as u8 };
        put_head(&mut bytes, number - expected, kind);
        expected = number + 1;
        if kind == FULL {
            let mut more = 0;
            while words.next_if(|next| is_full(next) && word(next[0]) == expected).is_some() {
                expected += 1;
                more += 1;
            }
            put_varint(&mut bytes, more);
        } else if u32::from(kind) == DENSE {
            let bits = chunk.iter().fold(0_u64, |bits, offset| bits | 1 << offset.rem_euclid(WORD));
            bytes.extend(bits.to_le_bytes());
        } else {
            bytes.extend(chunk.iter().map(|offset| offset.rem_euclid(WORD) as u8));
        }
    }
    bytes
}

fn decode_words(mut bytes: &[u8], base: i64, end: i64, most: usize) -> Option<Vec<i64>> {
    let mut offsets = Vec::new();
    let mut next = word(base);
    let last = word(end);
    while !bytes.is_empty() && offsets.len() <= most {
        let (skipped, kind) = take_head(&mut bytes)?;
        let number = next.checked_add(skipped).filter(|number| *number <= last)?;
        let start = number * WORD;
        next = number + 1;
        if kind == FULL {
            let more = i64::try_from(take_varint(&mut bytes)?).ok()?;
            next = next.checked_add(more).filter(|next| *next <= last + 1)?;
            offsets.extend((start..next.checked_mul(WORD)?).take(most + 1));
        } else if u32::from(kind) == DENSE {
            let (bits, behind) = bytes.split_first_chunk::<8>()?;
            bytes = behind;
            let bits = u64::from_le_bytes(*bits);
            offsets.extend((0..WORD).filter(|bit| bits & (1 << bit) != 0).map(|bit| start + bit));
        } else if (1..FULL).contains(&kind) {
            let (places, behind) = bytes.split_at_checked(kind.into())?;
            bytes = behind;
            if places.iter().any(|place| i64::from(*place) >= WORD) {
                return None;
            }
            offsets.extend(places.iter().map(|place| start + i64::from(*place)));
        } else {
            return None;
        }
    }
    Some(offsets)
}

fn put_head(bytes: &mut Vec<u8>, skipped: i64, kind: u8) {
    let counted = skipped.min(SKIP_MAX);
    bytes.push((counted as u8) << 4 | kind);
    if counted == SKIP_MAX {
        put_varint(bytes, (skipped - SKIP_MAX).cast_unsigned());
    }
}

fn take_head(bytes: &mut &[u8]) -> Option<(i64, u8)> {
    let (&head, behind) = bytes.split_first()?;
    *bytes = behind;
    let mut skipped = i64::from(head >> 4);
    if skipped == SKIP_MAX {
        skipped = skipped.checked_add(i64::try_from(take_varint(bytes)?).ok()?)?;
    }
    Some((skipped, head & 0x0f))
}

fn head_length(skipped: i64) -> usize {
    if skipped < SKIP_MAX { 1 } else { 1 + varint_length((skipped - SKIP_MAX).cast_unsigned()) }
}

fn is_full(chunk: &[i64]) -> bool {
    chunk.len() as i64 == WORD
}

/// The number of the word that an offset is in.
fn word(offset: i64) -> i64 {
    offset.div_euclid(WORD)
}
