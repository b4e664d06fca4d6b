use std::collections::BTreeSet;

use super::super::metadata;
use super::*;

const LOG: metadata::Log = metadata::Log { id: u128::MAX, is_replacement: true };

/// Sequences for each property; `LONGHAUL_TEST_SEQUENCES` asks for more (a million take half a
/// minute).
fn sequences() -> u64 {
    std::env::var("LONGHAUL_TEST_SEQUENCES").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000)
}

fn received(offsets: impl IntoIterator<Item = i64>) -> Tracker {
    let mut tracker = Tracker::new(0);
    for offset in offsets {
        tracker.receive(offset);
    }
    tracker
}

#[test]
fn base_moves_only_past_what_is_done() {
    let mut tracker = received(0..200);
    for offset in (1..200).rev() {
        assert!(tracker.complete(offset));
    }
    assert_eq!(tracker.snapshot(), Snapshot { base: 0, end: 200, incomplete: vec![(0, 0)], change: 199 });
    assert!(tracker.complete(0));
    assert_eq!(tracker.snapshot(), Snapshot { base: 200, end: 200, incomplete: vec![], change: 200 });
}

#[test]
fn offsets_that_do_not_exist_count_as_done() {
    let mut tracker = received([0, 1, 4, 5, 69, 100, 1000, 20_000, 72_769, 72_770]);
    assert_eq!(tracker.incomplete(), 10);
    for offset in [0, 1, 4, 5, 69, 100, 1000, 20_000, 72_769] {
        assert!(tracker.complete(offset));
    }
    assert_eq!(tracker.base(), 72_770);
}

#[test]
fn completes_once_and_only_what_was_received() {
    let mut tracker = received([5]);
    assert!(!tracker.complete(4) && !tracker.complete(6));
    assert!(tracker.complete(5));
    assert!(!tracker.complete(5));
}

#[test]
fn a_change_during_a_commit_stays_dirty() {
    let mut tracker = received(0..3);
    tracker.complete(1);
    let under_way = tracker.snapshot();
    tracker.complete(2);
    tracker.acknowledge(under_way.change);
    assert!(tracker.is_dirty());
    tracker.acknowledge(tracker.snapshot().change);
    assert!(!tracker.is_dirty());
}

#[test]
fn a_failed_attempt_above_everything_done_has_an_entry() {
    let mut tracker = received([7]);
    tracker.note_attempts(7, 3);
    let snapshot = tracker.snapshot();
    assert_eq!((snapshot.end, snapshot.incomplete.as_slice()), (8, [(7, 3)].as_slice()));
    let mut restored = Tracker::restore(snapshot.base, snapshot.end, &snapshot.incomplete);
    assert_eq!(restored.receive(7), Received::New { vanished: 0 });
    assert_eq!(restored.attempts(7), 3);
    tracker.note_attempts(7, 1000);
    assert_eq!(tracker.attempts(7), 255);
}

#[test]
fn restart_skips_the_done_and_notices_the_vanished() {
    let mut tracker = Tracker::restore(10, 20, &[(10, 0), (12, 0), (15, 2)]);
    assert_eq!(tracker.receive(10), Received::New { vanished: 0 });
    assert_eq!(tracker.receive(11), Received::Done { vanished: 0 });
    assert_eq!(tracker.awaited(), 2);
    assert_eq!(tracker.receive(14), Received::Done { vanished: 1 });
    assert_eq!(tracker.receive(14), Received::Again);
    assert_eq!(tracker.receive(15), Received::New { vanished: 0 });
    assert_eq!(tracker.next_needed(16), 20);
    assert_eq!(tracker.receive(25), Received::New { vanished: 0 });
    tracker.complete(10);
    assert_eq!(tracker.base(), 15);
}

#[test]
fn retention_past_the_base_forgets_what_is_gone() {
    let mut tracker = Tracker::restore(10, 20, &[(10, 0), (12, 0)]);
    assert_eq!(tracker.receive(500), Received::New { vanished: 2 });
    assert_eq!((tracker.base(), tracker.incomplete()), (500, 1));
    assert!(tracker.is_dirty());
}

/// A head was stuck until retention deleted it, with many records behind it. Without room for the
/// rest of the log the partition would stand still for ever.
#[test]
fn what_is_gone_takes_no_room() {
    let mut tracker = Tracker::restore(10, 20, &[(10, 0)]);
    let first_left = 10 + MAX_WINDOW + 5;
    assert!(!tracker.admits(first_left));
    assert_eq!(tracker.pass_over(first_left), 1);
    assert!(tracker.admits(first_left));
    assert_eq!(tracker.receive(first_left), Received::New { vanished: 0 });
    assert_eq!((tracker.base(), tracker.incomplete()), (first_left, 1));
}

#[test]
fn a_stuck_head_costs_a_bit_for_each_record_behind_it() {
    let mut tracker = received([0]);
    for offset in 1..MAX_WINDOW {
        assert!(tracker.admits(offset));
        tracker.receive(offset);
        tracker.complete(offset);
    }
    assert!(!tracker.admits(MAX_WINDOW));
    assert!(metadata::encode(LOG, &tracker.snapshot(), tracker.characters()).len() <= 64);
    tracker.complete(0);
    assert!(tracker.admits(MAX_WINDOW) && tracker.done.len() <= 1);
}

/// One partition holds 20,000 records, whichever of them finish; so 10,000 requests run at once
/// with as many finished records between them.
#[test]
fn a_dense_window_of_20000_records_is_admitted() {
    let mut tracker = Tracker::new(1_000_000);
    let mut next = tracker.base();
    while tracker.admits(next) {
        tracker.receive(next);
        next += 1;
    }
    assert!(next - tracker.base() >= 20_000, "{}", tracker.incomplete());
    (1_000_001..next).step_by(2).for_each(|offset| assert!(tracker.complete(offset)));
    assert!(tracker.incomplete() >= 10_000);
    restarted(&tracker, 0);
}

/// A head that is stuck for long costs a few bytes, not the records behind it.
#[test]
fn ten_thousand_run_behind_a_stuck_head() {
    let random = &mut fastrand::Rng::with_seed(3);
    let mut tracker = received([0]);
    let mut running = Vec::new();
    for offset in 1..200_000 {
        assert!(tracker.admits(offset), "{offset}");
        tracker.receive(offset);
        running.push(offset);
        // The oldest tenth is drawn from, so that the running records stay close together.
        if running.len() == 10_000 {
            let done = running.remove(random.usize(..1000));
            assert!(tracker.complete(done));
        }
    }
    restarted(&tracker, 3);
}

#[test]
fn a_smaller_limit_admits_nothing_new_until_it_is_met() {
    let mut tracker = Tracker::new(0);
    let mut next = 0;
    while tracker.admits(next) {
        tracker.receive(next);
        next += 1;
    }
    assert!(!tracker.has_room());
    assert_eq!(tracker.shrink(), 2048);
    (0..next / 2).for_each(|offset| assert!(tracker.complete(offset)));
    assert!(!tracker.admits(next));
    (next / 2..next * 3 / 4).for_each(|offset| assert!(tracker.complete(offset)));
    assert!(tracker.admits(next) && tracker.has_room());
    assert!(metadata::encode(LOG, &tracker.snapshot(), tracker.characters()).len() <= 2048);
    while tracker.shrink() > LEAST_CHARACTERS {}
    assert!(metadata::encode(LOG, &tracker.snapshot(), tracker.characters()).len() <= LEAST_CHARACTERS);
}

/// Compares with a set of offsets, over random gaps, orders, failures and restarts: no offset is
/// forgotten or invented, and the text always fits.
#[test]
fn agrees_with_a_set_over_random_sequences() {
    for seed in 0..sequences() {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut tracker = Tracker::new(random.i64(0..1_000_000));
        let mut open = BTreeSet::new();
        let mut next = tracker.base();
        for _ in 0..random.usize(1..60) {
            match random.u8(0..10) {
                0..5 => {
                    next += if random.u8(0..8) == 0 { random.i64(0..5000) } else { 0 };
                    if tracker.admits(next) {
                        assert_eq!(tracker.receive(next), Received::New { vanished: 0 }, "seed {seed}");
                        open.insert(next);
                        next += 1;
                    }
                }
                5..8 => {
                    if let Some(&offset) = random.choice(open.iter().collect::<Vec<_>>()) {
                        assert!(tracker.complete(offset), "seed {seed}");
                        open.remove(&offset);
                    }
                }
                8 => {
                    if let Some(&offset) = random.choice(open.iter().collect::<Vec<_>>()) {
                        tracker.note_attempts(offset, random.u32(1..300));
                    }
                }
                _ => {
                    tracker = restarted(&tracker, seed);
                    let restored_end = tracker.end();
                    for &offset in open.iter().filter(|&&offset| offset < restored_end) {
                        assert_eq!(tracker.receive(offset), Received::New { vanished: 0 }, "seed {seed}");
                    }
                    open.retain(|&offset| offset < restored_end);
                    next = restored_end;
                }
            }
            let lowest = open.first().copied().unwrap_or(tracker.end());
            assert_eq!((tracker.base(), tracker.incomplete()), (lowest, open.len()), "seed {seed}");
        }
        restarted(&tracker, seed);
    }
}

/// Writes the map as text and reads it again. The text never exceeds Kafka's limit and loses
/// nothing.
fn restarted(tracker: &Tracker, seed: u64) -> Tracker {
    let snapshot = tracker.snapshot();
    let text = metadata::encode(LOG, &snapshot, tracker.characters());
    assert!(text.len() <= 4096, "seed {seed}: {} characters", text.len());
    let map = metadata::decode(text.as_bytes(), snapshot.base).unwrap().unwrap();
    assert_eq!((map.end, &map.incomplete), (snapshot.end, &snapshot.incomplete), "seed {seed}");
    Tracker::restore(map.base, map.end, &map.incomplete)
}

/// The worst that admission lets through: until the partition is full, in shapes that favour no
/// encoding. Then records finish one after the other, and at no moment anything is lost.
#[test]
fn the_text_fits_whatever_is_admitted() {
    for seed in 0..sequences() / 500 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut tracker = Tracker::new(i64::MAX / 4);
        let mut next = tracker.base();
        let keep = random.u8(1..=100);
        let mut open = Vec::new();
        let mut stride = 1 << random.u32(0..20);
        while tracker.admits(next) {
            tracker.receive(next);
            if random.u8(0..100) < keep || open.is_empty() {
                open.push(next);
            } else {
                tracker.complete(next);
            }
            next += random.i64(1..=stride);
            if random.u8(0..100) == 0 {
                stride = 1 << random.u32(0..20);
            }
        }
        let alternating = open.iter().copied().skip(1).step_by(2).collect::<Vec<_>>();
        alternating.into_iter().for_each(|offset| assert!(tracker.complete(offset)));
        restarted(&tracker, seed);
        open.retain(|offset| !tracker.is_done(*offset));
        // As many failures as are kept room for.
        for offset in open.iter().take(160) {
            tracker.note_attempts(*offset, random.u32(0..256));
        }
        restarted(&tracker, seed);
        random.shuffle(&mut open);
        for offset in open {
            assert!(tracker.complete(offset));
            if random.u8(0..50) == 0 {
                restarted(&tracker, seed);
            }
        }
    }
}

/// With 900 records at once, as every earlier version allowed, no attempts are left out.
#[test]
fn all_attempts_of_900_records_fit() {
    for seed in 0..sequences() / 500 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut tracker = Tracker::new(0);
        let stride = 1 << random.u32(0..10);
        let mut next = 0;
        while tracker.incomplete() < 900 && tracker.admits(next) {
            tracker.receive(next);
            tracker.note_attempts(next, random.u32(0..256));
            next += random.i64(1..=stride);
        }
        restarted(&tracker, seed);
    }
}

/// Markers of transactions and aborted records never arrive. The end of the log shows that they
/// were passed.
#[test]
fn a_reached_end_moves_the_base_past_offsets_that_never_come() {
    let mut tracker = Tracker::new(5);
    tracker.receive(5);
    assert_eq!(tracker.reach(9), 0);
    assert_eq!((tracker.base(), tracker.end()), (5, 9));
    assert!(!tracker.is_done(5) && tracker.is_done(8));
    assert!(tracker.complete(5));
    assert_eq!((tracker.base(), tracker.snapshot().base), (9, 9));
    assert_eq!(tracker.receive(9), Received::New { vanished: 0 });

    // Everything is already done: the base moves, which needs a commit.
    let mut idle = Tracker::new(5);
    idle.reach(5);
    assert!(!idle.is_dirty());
    idle.reach(8);
    assert!(idle.is_dirty() && idle.base() == 8);

    // Unfinished records of the map that did not arrive are gone.
    let mut restored = Tracker::restore(5, 9, &[(5, 0), (7, 0)]);
    assert_eq!(restored.reach(12), 2);
    assert_eq!((restored.base(), restored.incomplete()), (12, 0));
}

#[test]
fn admits_what_the_metadata_can_describe() {
    let mut tracker = Tracker::new(10);
    let far = 10 + MAX_WINDOW * 2;
    assert!(tracker.admits(far), "without unfinished records the window may jump");
    tracker.receive(10);
    assert!(tracker.admits(9 + MAX_WINDOW) && !tracker.admits(10 + MAX_WINDOW));
    let mut next = 11;
    while tracker.admits(next) {
        tracker.receive(next);
        next += 1;
    }
    assert!(next > 10_000, "as many are unfinished as the metadata can describe");
    assert!(tracker.admits(next - 1), "a known offset costs nothing more");
}

#[test]
fn attempts_belong_to_unfinished_records_only() {
    let mut tracker = received(0..64);
    assert!(!tracker.is_done(64), "an offset that was not received is not done");
    tracker.complete(1);
    tracker.complete(0);
    assert_eq!((tracker.base(), tracker.received()), (2, 62));
    let before = tracker.latest_change();
    assert_eq!(before, 2);
    for offset in [0, 1, 64] {
        tracker.note_attempts(offset, 3);
        assert_eq!(tracker.attempts(offset), 0, "{offset}");
    }
    tracker.complete(5);
    tracker.note_attempts(5, 3);
    assert_eq!((tracker.attempts(5), tracker.latest_change()), (0, before + 1));
    tracker.note_attempts(7, 3);
    tracker.note_attempts(7, 3);
    assert_eq!(tracker.latest_change(), before + 2, "the same number again is not a change");
    tracker.note_attempts(7, 4);
    assert_eq!((tracker.attempts(7), tracker.latest_change()), (4, before + 3));
    tracker.complete(7);
    assert_eq!(tracker.attempts(7), 0, "a finished record needs no count");
}

#[test]
fn a_full_partition_takes_records_again_after_an_eighth_is_done() {
    let mut tracker = received([1]);
    let mut full = 2;
    while tracker.admits(full) {
        tracker.receive(full);
        full += 1;
    }
    assert_eq!((tracker.next(), tracker.received()), (full, full as usize - 1));
    let mut done = 0;
    while !tracker.has_room() {
        done += 1;
        assert!(tracker.complete(done));
    }
    assert!((full / 8..full / 6).contains(&done), "an eighth of the room, beside the part for attempts");
    let before = tracker.latest_change();
    tracker.touch();
    assert_eq!(tracker.latest_change(), before + 1, "a commit is due although nothing new is done");
}

#[test]
fn a_gap_at_the_start_of_a_log_is_done_and_nothing_more() {
    let tracker = received([0, 5]);
    assert!((1..5).all(|offset| tracker.is_done(offset)) && !tracker.is_done(5));
    assert_eq!((tracker.end(), tracker.incomplete()), (6, 2));
}

#[test]
fn vanished_records_take_no_received_one_along() {
    let mut tracker = Tracker::restore(10, 20, &[(10, 0), (11, 0), (12, 0)]);
    tracker.receive(10);
    assert_eq!(tracker.receive(15), Received::Done { vanished: 2 });
    assert!(!tracker.is_done(10));
    assert_eq!(tracker.incomplete(), 1);
}
