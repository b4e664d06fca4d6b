//! The done and the unfinished records of one assigned partition.
//!
//! Items finish in any order, but Kafka commits one offset. The tracker keeps the lowest offset
//! that is not done (the base, which is committed), and one bit for each offset above it (the map,
//! which goes into the commit's metadata, see [`metadata`]). It does no I/O. The poll thread owns a
//! tracker for each partition, and a new assignment gets a new tracker. An offset is *awaited* if
//! the map that was read back lists it as unfinished, and it was not received again yet.
//!
//! Two rules keep finished work from being forgotten, and unfinished work from counting as done:
//! - base and map come from one [`snapshot`](Tracker::snapshot), never from two calls with a change
//!   in between;
//! - a partition is clean only when the broker has acknowledged the commit of its last change, so a
//!   record that finishes while a commit is under way is committed by the next one.

use std::collections::{HashMap, VecDeque};

use super::metadata::{self, attempts, offsets};

/// The longest stretch from the base to the newest offset.
pub const MAX_WINDOW: i64 = 1 << 20;

/// The least room for the metadata that the tracker works with. If the broker accepts less, commits
/// go on failing, and the source reports that.
const LEAST_CHARACTERS: usize = 128;

/// The bookkeeping of one partition.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// The lowest offset that is not done, or `end`.
    base: i64,
    /// One above the highest known offset, whether it was received or listed in the map.
    end: i64,
    /// One above the highest offset received in this assignment.
    next: i64,
    /// One above the highest offset that is done.
    done_end: i64,
    /// One bit for each offset from `base & !63` on; 1 means that it is done or does not exist.
    done: VecDeque<u64>,
    /// Offsets of `base..end` that are not done.
    incomplete: usize,
    /// Incomplete offsets that were received in this assignment.
    received: usize,
    /// The characters that the broker accepts as metadata.
    characters: usize,
    /// An upper bound of the encoded size of the incomplete offsets: it also covers the offsets
    /// that were completed since `measure`.
    size: offsets::Size,
    /// How many offsets were completed since `measure`.
    since_measured: usize,
    /// Failed attempts of incomplete offsets, where there were any.
    attempts: HashMap<i64, u8>,
    /// An upper bound of these numbers. It falls only when no attempts are left.
    most_attempts: u8,
    /// Counts changes that are worth a commit.
    changes: u64,
    /// The value of `changes` that the broker has acknowledged.
    committed: u64,
}

/// The result of receiving a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Not done yet. `vanished` awaited offsets below it are gone from the log.
    New { vanished: usize },
    /// Already done before this assignment.
    Done { vanished: usize },
    /// Already handed out in this assignment.
    Again,
}

/// The content of a commit: the base is its offset, the rest its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub base: i64,
    /// Every offset of `base..end` that is not listed is done.
    pub end: i64,
    /// Offsets that are not done, in rising order, with their failed attempts.
    pub incomplete: Vec<(i64, u8)>,
    /// Pass this to [`Tracker::acknowledge`] when the broker has taken the commit.
    pub change: u64,
}

impl Tracker {
    /// Returns the tracker of a partition without a map: everything below `base` is done.
    pub fn new(base: i64) -> Self {
        Tracker {
            base,
            end: base,
            next: base,
            done_end: base,
            done: VecDeque::new(),
            incomplete: 0,
            received: 0,
            characters: metadata::CHARACTERS,
            size: offsets::Size::new(base),
            since_measured: 0,
            attempts: HashMap::new(),
            most_attempts: 0,
            changes: 0,
            committed: 0,
        }
    }

    /// Returns the tracker of a partition whose map was read. `incomplete` must rise and lie within
    /// `base..end`.
    pub fn restore(base: i64, end: i64, incomplete: &[(i64, u8)]) -> Self {
        let mut tracker = Tracker::new(base);
        tracker.fill_done(end);
        for &(offset, attempts) in incomplete {
            let (word, bit) = tracker.locate(offset);
            tracker.done[word] &= !bit;
            if attempts > 0 {
                tracker.attempts.insert(offset, attempts);
                tracker.most_attempts = tracker.most_attempts.max(attempts);
            }
        }
        tracker.incomplete = incomplete.len();
        tracker.done_end = end;
        tracker.advance();
        tracker.measure();
        tracker
    }

    /// Whether a record of this offset may be received: the metadata must stay within its bound, no
    /// matter which records finish next. A known offset is always admitted.
    pub fn admits(&self, offset: i64) -> bool {
        if offset < self.end || self.incomplete == 0 {
            return true;
        }
        let mut size = self.size;
        size.add(offset);
        offset - self.base < MAX_WINDOW && self.bytes_needed(size) <= metadata::room(self.characters)
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
            self.size.add(offset);
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
    /// arrived, so they are gone from the log. Returns their number.
    pub fn pass_over(&mut self, offset: i64) -> usize {
        let to = offset.min(self.end);
        let vanished = self.forget_between(self.next, to);
        self.next = self.next.max(to);
        vanished
    }

    /// Records that a reader has reached `end`. Missing offsets below it do not exist (markers of
    /// transactions, aborted or compacted records) and count as done. Returns how many of them were
    /// awaited.
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

    /// Marks an offset as done. Returns false if it was already done, or was never handed out.
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
        self.forget_attempts(offset);
        if offset == self.base {
            self.advance();
        }
        self.since_measured += 1;
        self.measure_when_due();
        true
    }

    /// Records how many attempts at an incomplete offset have failed.
    pub fn note_attempts(&mut self, offset: i64, attempts: u32) {
        let attempts = u8::try_from(attempts).unwrap_or(u8::MAX);
        let known = offset >= self.base && offset < self.end && !self.is_done(offset);
        if known && self.attempts.insert(offset, attempts) != Some(attempts) {
            self.most_attempts = self.most_attempts.max(attempts);
            self.changes += 1;
        }
    }

    /// Returns the failed attempts at an offset, including those of earlier assignments.
    pub fn attempts(&self, offset: i64) -> u32 {
        self.attempts.get(&offset).copied().unwrap_or(0).into()
    }

    /// Whether this offset needs no work. Unknown offsets are not done.
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

    /// Returns the lowest offset from `from` on that is not done. After a restart the fetch can
    /// skip to it.
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

    /// Returns the present base and map.
    pub fn snapshot(&self) -> Snapshot {
        // An offset above the highest done one needs an entry only for its attempts, which are
        // stored nowhere else.
        let attempted_end = self.attempts.keys().max().map_or(self.base, |offset| offset + 1);
        let end = self.done_end.max(attempted_end).max(self.base);
        let mut incomplete = Vec::new();
        let mut offset = self.next_needed(self.base);
        while offset < end {
            incomplete.push((offset, self.attempts.get(&offset).copied().unwrap_or(0)));
            offset = self.next_needed(offset + 1);
        }
        Snapshot { base: self.base, end, incomplete, change: self.changes }
    }

    /// Records that the broker took the commit of a snapshot.
    pub fn acknowledge(&mut self, change: u64) {
        self.committed = self.committed.max(change);
    }

    /// Returns the number of the latest change, as in the next snapshot.
    pub fn latest_change(&self) -> u64 {
        self.changes
    }

    /// Whether a change is not yet in an acknowledged commit.
    pub fn is_dirty(&self) -> bool {
        self.changes > self.committed
    }

    /// Asks for a commit although nothing new is done.
    pub fn touch(&mut self) {
        self.changes += 1;
    }

    /// Halves the room for the metadata, after the broker refused a commit as too large. Returns
    /// the characters that a commit may take from now on.
    pub fn shrink(&mut self) -> usize {
        self.characters = (self.characters / 2).max(LEAST_CHARACTERS);
        self.characters
    }

    /// The characters that a commit may take.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// Whether enough records are done to fetch new ones without a pause soon after.
    pub fn has_room(&self) -> bool {
        let room = metadata::room(self.characters);
        self.incomplete == 0 || self.bytes_needed(self.size) + room / 8 <= room
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

    /// Returns the number of incomplete offsets that were received in this assignment.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Returns the number of incomplete offsets of the map that were not received in this
    /// assignment yet.
    pub fn awaited(&self) -> usize {
        self.incomplete - self.received
    }

    /// Returns the bytes that incomplete offsets of this size need, with room for their attempts.
    /// Attempts are noted after admission, so a sixth of the room is kept for them. That is enough
    /// for 4,000 records with at most one failed attempt each, or for 160 records with any number.
    fn bytes_needed(&self, size: offsets::Size) -> usize {
        let reserve = metadata::room(self.characters) / 6;
        let attempts = attempts::size(self.incomplete, self.attempts.len(), self.most_attempts);
        size.bytes(self.base) + attempts.max(reserve)
    }

    /// Measures again when an eighth of the incomplete offsets is done, if more than half of the
    /// room is used: only then can the size refuse a record.
    fn measure_when_due(&mut self) {
        let may_decide = self.bytes_needed(self.size) > metadata::room(self.characters) / 2;
        if may_decide && self.since_measured >= self.incomplete / 8 {
            self.measure();
        }
    }

    fn measure(&mut self) {
        self.size = offsets::Size::new(self.base);
        self.since_measured = 0;
        let mut offset = self.next_needed(self.base);
        while offset < self.end {
            self.size.add(offset);
            offset = self.next_needed(offset + 1);
        }
    }

    fn forget_attempts(&mut self, offset: i64) {
        if !self.attempts.is_empty() && self.attempts.remove(&offset).is_some() && self.attempts.is_empty() {
            self.most_attempts = 0;
        }
    }

    /// Word and bit of an offset within `base & !63 ..`.
    fn locate(&self, offset: i64) -> (usize, u64) {
        let distance = offset - (self.base & !63);
        ((distance >> 6) as usize, 1 << (distance & 63))
    }

    /// Marks everything from `end` up to (excluding) `offset` as done.
    fn extend_done(&mut self, offset: i64) {
        if self.incomplete > 0 {
            return self.fill_done(offset);
        }
        // Everything below is done, so a gap of any length costs no memory.
        self.done.clear();
        self.base = offset;
        self.end = offset;
        self.done_end = self.done_end.max(offset);
        self.measure();
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

    /// Marks the awaited offsets of `from..to` as done, because the log does not have them any
    /// more.
    fn forget_between(&mut self, from: i64, to: i64) -> usize {
        let mut vanished = 0;
        let mut offset = self.next_needed(from);
        while offset < to {
            let (word, bit) = self.locate(offset);
            self.done[word] |= bit;
            self.forget_attempts(offset);
            vanished += 1;
            offset = self.next_needed(offset + 1);
        }
        if vanished > 0 {
            self.incomplete -= vanished;
            self.changes += 1;
            self.advance();
            self.measure();
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
