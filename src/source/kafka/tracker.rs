//! The done and the unfinished records of one assigned partition.
//!
//! Items finish in any order, but Kafka commits one offset. The tracker knows the lowest offset
//! that is not done (the base, which is committed) and one bit for each offset above it (the map,
//! which goes into the commit's metadata, see [`metadata`](super::metadata)). It is pure and
//! single-threaded: the poll thread owns one for each partition, and a new assignment gets a new
//! one.
//!
//! Two rules keep finished work from being forgotten or invented:
//! - base and map come from one [`snapshot`](Tracker::snapshot), never from two calls with a change
//!   in between;
//! - a partition is clean only when the commit of the change that made it dirty was acknowledged,
//!   so a record that finishes while a commit is under way is committed by the next one.

use std::collections::{HashMap, VecDeque};

/// The most offsets that may be incomplete in one partition at once. With [`MAX_WINDOW`] it bounds
/// the metadata: an entry takes two bytes for its gap (a third for at most `MAX_WINDOW / 2^14`
/// entries) and one for its attempts, which is below 2,800 bytes in all, or 3,750 characters of
/// 4,096.
pub const MAX_INCOMPLETE: usize = 900;

/// The longest stretch from the base to the newest offset.
pub const MAX_WINDOW: i64 = 1 << 20;

/// The bookkeeping of one partition.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// The lowest offset that is not done, or `end`.
    base: i64,
    /// One above the highest offset known, be it received or told by the map.
    end: i64,
    /// One above the highest offset received in this assignment.
    next: i64,
    /// One above the highest offset that was completed.
    done_end: i64,
    /// One bit for each offset from `base & !63` on; 1 is done, or does not exist.
    done: VecDeque<u64>,
    /// Offsets of `base..end` that are not done.
    incomplete: usize,
    /// Incomplete offsets that were received in this assignment.
    received: usize,
    cap: usize,
    /// Failed attempts of incomplete offsets, where there were any.
    attempts: HashMap<i64, u8>,
    /// Counts changes that are worth a commit.
    changes: u64,
    /// The value of `changes` that the broker has acknowledged.
    committed: u64,
}

/// The state of a received record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Not done yet. `vanished` offsets below it were expected and are gone from the log.
    New { vanished: usize },
    /// Done before this assignment.
    Done { vanished: usize },
    /// Handed out in this assignment already.
    Again,
}

/// The content of a commit: the base is its offset, the rest its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub base: i64,
    /// Everything of `base..end` that is not listed is done.
    pub end: i64,
    /// Offsets that are not done, rising, with their failed attempts.
    pub incomplete: Vec<(i64, u8)>,
    /// Hand this to [`Tracker::acknowledge`] when the broker has taken the commit.
    pub change: u64,
}

impl Tracker {
    /// A partition of which only this is known: everything below `base` is done.
    pub fn new(base: i64) -> Self {
        Tracker {
            base,
            end: base,
            next: base,
            done_end: base,
            done: VecDeque::new(),
            incomplete: 0,
            received: 0,
            cap: MAX_INCOMPLETE,
            attempts: HashMap::new(),
            changes: 0,
            committed: 0,
        }
    }

    /// A partition whose map was read back. `incomplete` must rise and lie within `base..end`.
    pub fn restore(base: i64, end: i64, incomplete: &[(i64, u8)]) -> Self {
        let mut tracker = Tracker::new(base);
        tracker.fill_done(end);
        for &(offset, attempts) in incomplete {
            let (word, bit) = tracker.locate(offset);
            tracker.done[word] &= !bit;
            if attempts > 0 {
                tracker.attempts.insert(offset, attempts);
            }
        }
        tracker.incomplete = incomplete.len();
        tracker.done_end = end;
        tracker.advance();
        tracker
    }

    /// Whether a record of this offset may be received without breaking the bound on the metadata.
    /// Offsets that are known already always may.
    pub fn admits(&self, offset: i64) -> bool {
        offset < self.end
            || self.incomplete == 0
            || (self.incomplete < self.cap && offset - self.base < MAX_WINDOW)
    }

    /// Registers a record. The records of one assignment come in rising order, so an offset that is
    /// skipped does not exist (compacted, expired, or a marker of a transaction) and counts as
    /// done.
    pub fn receive(&mut self, offset: i64) -> Received {
        if offset < self.next {
            return Received::Again;
        }
        let vanished = self.pass_over(offset);
        self.next = offset + 1;
        if offset >= self.end {
            self.extend_done(offset);
            self.push_incomplete();
            self.received += 1;
            return Received::New { vanished };
        }
        if self.is_done(offset) {
            return Received::Done { vanished };
        }
        self.received += 1;
        Received::New { vanished }
    }

    /// Forgets the incomplete offsets before this one that were not received: a later record has
    /// come, so they are gone from the log. How many there were.
    pub fn pass_over(&mut self, offset: i64) -> usize {
        let to = offset.min(self.end);
        let vanished = self.forget_between(self.next, to);
        self.next = self.next.max(to);
        vanished
    }

    /// A reader has reached `end`: offsets below it that did not come do not exist (markers of
    /// transactions, aborted or compacted records) and count as done. How many of them were
    /// expected.
    pub fn reach(&mut self, end: i64) -> usize {
        let vanished = self.pass_over(end);
        let base = self.base;
        if end > self.end {
            self.extend_done(end);
            self.advance();
        }
        self.next = self.next.max(end);
        if self.base > base {
            self.changes += 1;
        }
        vanished
    }

    /// Marks an offset done. False when it was so already, or was never handed out.
    pub fn complete(&mut self, offset: i64) -> bool {
        if offset < self.base || offset >= self.next {
            return false;
        }
        let (word, bit) = self.locate(offset);
        if self.done[word] & bit != 0 {
            return false;
        }
        self.done[word] |= bit;
        self.incomplete -= 1;
        self.received -= 1;
        self.done_end = self.done_end.max(offset + 1);
        self.changes += 1;
        if !self.attempts.is_empty() {
            self.attempts.remove(&offset);
        }
        if offset == self.base {
            self.advance();
        }
        true
    }

    /// Records how many attempts at an incomplete offset have failed.
    pub fn note_attempts(&mut self, offset: i64, attempts: u32) {
        let attempts = u8::try_from(attempts).unwrap_or(u8::MAX);
        let known = offset >= self.base && offset < self.end && !self.is_done(offset);
        if known && self.attempts.insert(offset, attempts) != Some(attempts) {
            self.changes += 1;
        }
    }

    /// Failed attempts at an offset, those of earlier assignments included.
    pub fn attempts(&self, offset: i64) -> u32 {
        self.attempts.get(&offset).copied().unwrap_or(0).into()
    }

    /// Whether nothing has to be done for this offset. Offsets that are not known yet are not done.
    pub fn is_done(&self, offset: i64) -> bool {
        if offset < self.base {
            return true;
        }
        if offset >= self.end {
            return false;
        }
        let (word, bit) = self.locate(offset);
        self.done[word] & bit != 0
    }

    /// The lowest offset from `from` on that is not done. After a restart the fetch can jump there.
    pub fn next_needed(&self, from: i64) -> i64 {
        let mut offset = from.max(self.base);
        while offset < self.end {
            let (word, bit) = self.locate(offset);
            let above = self.done[word] >> bit.trailing_zeros();
            let run = i64::from(above.trailing_ones());
            let left_in_word = 64 - i64::from(bit.trailing_zeros());
            offset += run;
            if run < left_in_word {
                break;
            }
        }
        offset.min(self.end).max(from)
    }

    /// Base and map, as of now.
    pub fn snapshot(&self) -> Snapshot {
        // An offset above the highest done one needs an entry only for its attempts: a lone failing
        // record would have nowhere else to keep them.
        let attempted_end = self.attempts.keys().max().map_or(self.base, |offset| offset + 1);
        let end = self.done_end.max(attempted_end).max(self.base);
        let mut incomplete = Vec::new();
        let mut offset = self.next_needed(self.base);
        while offset < end {
            // Only after the broker refused a longer map: records that are done above this offset
            // are forgotten.
            if incomplete.len() == self.cap {
                return Snapshot { base: self.base, end: offset, incomplete, change: self.changes };
            }
            incomplete.push((offset, self.attempts.get(&offset).copied().unwrap_or(0)));
            offset = self.next_needed(offset + 1);
        }
        Snapshot { base: self.base, end, incomplete, change: self.changes }
    }

    /// The commit of a snapshot was taken by the broker.
    pub fn acknowledge(&mut self, change: u64) {
        self.committed = self.committed.max(change);
    }

    /// The latest change, by the number that the next snapshot has.
    pub fn latest_change(&self) -> u64 {
        self.changes
    }

    /// Whether something changed that no acknowledged commit has told.
    pub fn is_dirty(&self) -> bool {
        self.changes > self.committed
    }

    /// Asks for a commit although nothing was done yet.
    pub fn touch(&mut self) {
        self.changes += 1;
    }

    /// Lowers the bound on incomplete offsets, after the broker refused a commit as too large. A
    /// map names no more than that either, so that a commit goes through after a few refusals.
    pub fn shrink_cap(&mut self) -> usize {
        self.cap = (self.cap / 2).max(1);
        self.cap
    }

    /// Whether enough is done to take new records in again without stopping at once.
    pub fn has_room(&self) -> bool {
        self.incomplete + self.cap / 8 <= self.cap
    }

    pub fn base(&self) -> i64 {
        self.base
    }

    pub fn end(&self) -> i64 {
        self.end
    }

    /// One above the highest offset received in this assignment.
    pub fn next(&self) -> i64 {
        self.next
    }

    pub fn incomplete(&self) -> usize {
        self.incomplete
    }

    /// Incomplete offsets that were received in this assignment.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Incomplete offsets that the map told of and that were not received in this assignment yet.
    pub fn awaited(&self) -> usize {
        self.incomplete - self.received
    }

    /// Word and bit of an offset within `base & !63 ..`.
    fn locate(&self, offset: i64) -> (usize, u64) {
        let distance = offset - (self.base & !63);
        ((distance >> 6) as usize, 1 << (distance & 63))
    }

    /// Marks everything from `end` up to (excluding) `offset` done.
    fn extend_done(&mut self, offset: i64) {
        if self.incomplete > 0 {
            return self.fill_done(offset);
        }
        // Nothing to remember below: a gap of any length costs no memory.
        self.done.clear();
        self.base = offset;
        self.end = offset;
        self.done_end = self.done_end.max(offset);
    }

    fn fill_done(&mut self, offset: i64) {
        while self.end < offset {
            let (word, bit) = self.locate(self.end);
            if word == self.done.len() {
                self.done.push_back(0);
            }
            let through_word = 64 - i64::from(bit.trailing_zeros());
            let run = through_word.min(offset - self.end);
            let ones = if run == 64 { u64::MAX } else { (1 << run) - 1 };
            self.done[word] |= ones << bit.trailing_zeros();
            self.end += run;
        }
    }

    fn push_incomplete(&mut self) {
        let (word, _) = self.locate(self.end);
        if word == self.done.len() {
            self.done.push_back(0);
        }
        self.end += 1;
        self.incomplete += 1;
    }

    /// Marks expected offsets of `from..to` done that the log no longer has.
    fn forget_between(&mut self, from: i64, to: i64) -> usize {
        let mut vanished = 0;
        let mut offset = self.next_needed(from);
        while offset < to {
            let (word, bit) = self.locate(offset);
            self.done[word] |= bit;
            self.attempts.remove(&offset);
            vanished += 1;
            offset = self.next_needed(offset + 1);
        }
        if vanished > 0 {
            self.incomplete -= vanished;
            self.changes += 1;
            self.advance();
        }
        vanished
    }

    /// Moves the base past the done offsets, and drops the words below it.
    fn advance(&mut self) {
        let base = self.next_needed(self.base);
        let words = ((base >> 6) - (self.base >> 6)) as usize;
        self.done.drain(..words.min(self.done.len()));
        self.base = base;
        self.done_end = self.done_end.max(base);
    }
}

#[cfg(test)]
mod tests;
