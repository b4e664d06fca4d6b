//! The entries of the versions 1 and 2: gaps or a bitmap of all offsets (1 is done), then one byte
//! with the attempts of each record, if any record has some.

use super::varint::take_varint;

pub const FLAG_ATTEMPTS: u8 = 1;
pub const FLAG_BITMAP: u8 = 2;
/// More were never written.
const MOST: usize = 900;

pub fn decode(flags: u8, mut rest: &[u8], base: i64, end: i64) -> Option<Vec<(i64, u8)>> {
    let has_attempts = flags & FLAG_ATTEMPTS != 0;
    let offsets = if flags & FLAG_BITMAP != 0 {
        take_bitmap(&mut rest, base, end - base)?
    } else {
        take_gaps(&mut rest, base, end, usize::from(has_attempts))?
    };
    let attempts = if has_attempts { rest.to_vec() } else { vec![0; offsets.len()] };
    let ours = offsets.len() <= MOST && attempts.len() == offsets.len();
    ours.then(|| offsets.into_iter().zip(attempts).collect())
}

/// Takes gaps until as many bytes are left as the entries need behind them (`trailer` for each).
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

fn take_bitmap(rest: &mut &[u8], base: i64, length: i64) -> Option<Vec<i64>> {
    let (bitmap, behind) = rest.split_at_checked((length as usize).div_ceil(8))?;
    *rest = behind;
    let is_done = |index: i64| bitmap[index as usize / 8] & (1 << (index % 8)) != 0;
    Some((0..length).filter(|&index| !is_done(index)).map(|index| base + index).collect())
}
