//! Encodes the numbers of failed attempts of a partition's unfinished records (the map, see
//! [`super`]), in the shorter of two forms, or in no bytes if nothing failed.
//!
//! - *Listed*: for each record with failed attempts, the number of records since the previous such
//!   record (a varint), then the number of attempts (a byte).
//! - *Packed*: a byte with the number of bits that the highest number needs, then the number of
//!   every record in that many bits, the lowest bit first.

use super::varint::{put_varint, take_varint, varint_length};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No record has failed attempts.
    Nothing,
    Listed,
    Packed,
}

/// Returns an upper bound of the encoded length, if `attempted` of `records` records have failed
/// attempts and no record has more than `highest`.
pub fn size(records: usize, attempted: usize, highest: u8) -> usize {
    let listed = attempted * (varint_length(records as u64) + 1);
    listed.min(packed_length(records, width(highest)))
}

pub fn encode(attempts: &[u8]) -> (Encoding, Vec<u8>) {
    let highest = attempts.iter().copied().max().unwrap_or(0);
    if highest == 0 {
        return (Encoding::Nothing, Vec::new());
    }
    let listed = encode_listed(attempts);
    if listed.len() <= packed_length(attempts.len(), width(highest)) {
        (Encoding::Listed, listed)
    } else {
        (Encoding::Packed, encode_packed(attempts, width(highest)))
    }
}

/// Decodes the numbers of exactly `records` records. Returns `None` if the bytes are malformed.
pub fn decode(encoding: Encoding, bytes: &[u8], records: usize) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Nothing => bytes.is_empty().then(|| vec![0; records]),
        Encoding::Listed => decode_listed(bytes, records),
        Encoding::Packed => decode_packed(bytes, records),
    }
}

fn encode_listed(attempts: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut expected = 0;
    for (index, &number) in attempts.iter().enumerate().filter(|(_, number)| **number > 0) {
        put_varint(&mut bytes, (index - expected) as u64);
        bytes.push(number);
        expected = index + 1;
    }
    bytes
}

fn decode_listed(mut bytes: &[u8], records: usize) -> Option<Vec<u8>> {
    let mut attempts = vec![0; records];
    let mut expected = 0_usize;
    while !bytes.is_empty() {
        let index = expected.checked_add(usize::try_from(take_varint(&mut bytes)?).ok()?)?;
        let (&number, rest) = bytes.split_first()?;
        bytes = rest;
        *attempts.get_mut(index)? = number;
        expected = index + 1;
    }
    Some(attempts)
}

fn encode_packed(attempts: &[u8], width: usize) -> Vec<u8> {
    let mut bytes = vec![0; packed_length(attempts.len(), width)];
    bytes[0] = width as u8;
    for (index, &number) in attempts.iter().enumerate() {
        for bit in (0..width).filter(|bit| number & (1 << bit) != 0) {
            let at = 8 + index * width + bit;
            bytes[at / 8] |= 1 << (at % 8);
        }
    }
    bytes
}

fn decode_packed(bytes: &[u8], records: usize) -> Option<Vec<u8>> {
    let width = usize::from(*bytes.first()?);
    if !(1..=8).contains(&width) || bytes.len() != packed_length(records, width) {
        return None;
    }
    let bit = |at: usize| (bytes[at / 8] >> (at % 8)) & 1;
    let number = |index: usize| (0..width).fold(0, |value, at| value | (bit(8 + index * width + at) << at));
    Some((0..records).map(number).collect())
}

fn packed_length(records: usize, width: usize) -> usize {
    1 + (records * width).div_ceil(8)
}

/// Returns how many bits the highest number needs.
fn width(highest: u8) -> usize {
    (u8::BITS - highest.leading_zeros()) as usize
}
