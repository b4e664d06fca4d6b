use super::*;

const LOG: Log = Log { id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, is_replacement: true };

type Recorded = (&'static str, i64, i64, &'static [(i64, u8)]);

/// One text for each encoding. Another implementation wrote the same.
const RECORDED: &[Recorded] = &[
    ("k1.AwWChG1UASNFZ4mrze8BI0VniavN7wJiAVM", 2, 100, &[(2, 0), (3, 0), (6, 0), (8, 0)]),
    ("k1.AwyrwFkTASNFZ4mrze8BI0VniavN73vFgz0FAK0RkzIBAw", 123, 1_000_000, &[(123, 0), (2345, 3), (8765, 0)]),
    (
        "k1.AxXEayQ7ASNFZ4mrze8BI0VniavN7wAoA1VVBQJlXQU",
        0,
        40,
        &[(0, 1), (2, 1), (4, 2), (6, 1), (8, 1), (10, 3), (12, 1), (14, 1), (16, 1), (18, 1)],
    ),
    (
        "k1.AwbatwgKASNFZ4mrze8BI0VniavN70DoRQwBAPh3SZIkSZIkSZI",
        64,
        9000,
        &[
            (64, 0),
            (8704, 0),
            (8707, 0),
            (8710, 0),
            (8713, 0),
            (8716, 0),
            (8719, 0),
            (8722, 0),
            (8725, 0),
            (8728, 0),
            (8731, 0),
            (8734, 0),
            (8737, 0),
            (8740, 0),
            (8743, 0),
            (8746, 0),
            (8749, 0),
            (8752, 0),
            (8755, 0),
            (8758, 0),
            (8761, 0),
            (8764, 0),
            (8767, 0),
        ],
    ),
];

fn snapshot(base: i64, end: i64, incomplete: &[(i64, u8)]) -> Snapshot {
    Snapshot { base, end, incomplete: incomplete.to_vec(), change: 1 }
}

fn round_trip(base: i64, end: i64, incomplete: &[(i64, u8)]) -> String {
    let text = encode(LOG, &snapshot(base, end, incomplete), CHARACTERS);
    let map = decode(text.as_bytes(), base).unwrap().unwrap();
    assert_eq!(map, Map { log: Some(LOG), base, end, incomplete: incomplete.to_vec() });
    text
}

#[test]
fn round_trips_in_every_shape() {
    round_trip(0, 0, &[]);
    round_trip(i64::MAX - 10, i64::MAX, &[(i64::MAX - 10, 0)]);
    round_trip(123, 1_000_123, &[(123, 0), (2345, 0), (8765, 255)]);
    let every_other: Vec<_> = (0..900).map(|index| (index * 2, 0)).collect();
    round_trip(0, 1800, &every_other);
    let with_attempts: Vec<_> = (0..900).map(|index| (index * 2, (index % 7) as u8)).collect();
    round_trip(0, 1800, &with_attempts);
    // Words: a full run, single ones, a mixed one, and a long way between them.
    let mut words: Vec<_> = (100..1000).map(|offset| (offset, 0)).collect();
    words.extend((50_000..90_000).step_by(40).map(|offset| (offset, 0)));
    words.extend((900_000..901_000).filter(|offset| offset % 7 < 3).map(|offset| (offset, 1)));
    round_trip(100, 1_000_000, &words);
}

/// Every encoding reads back its own bytes, whichever is the shortest.
#[test]
fn each_encoding_round_trips() {
    for seed in 0..3_000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let base = random.i64(0..1_000_000);
        let most_gap = 1 << random.u32(0..12);
        let mut next = base;
        let mut incomplete = Vec::new();
        for _ in 0..random.usize(0..400) {
            let run = if random.u8(0..20) == 0 { random.i64(1..200) } else { 1 };
            incomplete.extend((next..next + run).map(|offset| (offset, 0)));
            next += run + random.i64(0..most_gap);
        }
        let highest = random.u8(0..6);
        incomplete.iter_mut().for_each(|(_, attempts)| *attempts = random.u8(0..=highest));
        round_trip(base, (next + random.i64(0..99)).min(base + MAX_WINDOW), &incomplete);
    }
}

/// Every later version must read the maps that brokers already store.
#[test]
fn reads_what_earlier_versions_wrote() {
    let gaps =
        Map { log: None, base: 2, end: 100, incomplete: [2, 3, 6, 8].map(|offset| (offset, 0)).into() };
    let attempts =
        Map { log: None, base: 123, end: 1_000_000, incomplete: vec![(123, 0), (2345, 3), (8765, 0)] };
    let bitmap = Map {
        log: None,
        base: 0,
        end: 64,
        incomplete: (0..64).step_by(2).map(|offset| (offset, 0)).collect(),
    };
    for (text, map) in [
        ("k1.AQDFCINCAmIAAAIB", gaps),
        ("k1.AQHCLBfPe8WDPQCtEZMyAAMA", attempts),
        ("k1.AQJfzRqoAECqqqqqqqqqqg", bitmap),
    ] {
        assert_eq!(decode(text.as_bytes(), map.base), Ok(Some(map.clone())));
        // The second version added the log.
        let (text, is_replacement) = match map.base {
            2 => ("k1.AgCacMQrASNFZ4mrze8BI0VniavN7wJiAAACAQ", false),
            123 => ("k1.AgW1z1dTASNFZ4mrze8BI0VniavN73vFgz0ArRGTMgADAA", true),
            _ => ("k1.AgI-ZLRvASNFZ4mrze8BI0VniavN7wBAqqqqqqqqqqo", false),
        };
        let with_log = Map { log: Some(Log { is_replacement, ..LOG }), ..map };
        assert_eq!(decode(text.as_bytes(), with_log.base), Ok(Some(with_log)));
    }
}

/// Maps of the third version, as they are written today.
#[test]
fn writes_what_it_always_wrote() {
    for (text, base, end, incomplete) in RECORDED {
        assert_eq!(encode(LOG, &snapshot(*base, *end, incomplete), CHARACTERS), *text);
    }
}

#[test]
fn takes_the_shortest_encoding() {
    assert!(round_trip(0, 1 << 20, &[(0, 0)]).len() <= 51);
    let every_other: Vec<_> = (0..900).map(|index| (index * 2, 0)).collect();
    assert!(round_trip(0, 1800, &every_other).len() <= 352);
    let full: Vec<_> = (64..1 << 14).map(|offset| (offset, 0)).collect();
    assert!(round_trip(64, 1 << 14, &full).len() <= 52);
    let mut old_and_dense = vec![(0, 0)];
    old_and_dense.extend((1_000_000..1_010_000).step_by(2).map(|offset| (offset, 0)));
    assert!(round_trip(0, 1_010_000, &old_and_dense).len() <= 1950);
}

/// The window that Kafka's limit is meant for: 20,000 records, each done or not by chance.
#[test]
fn a_dense_window_of_20000_offsets_fits() {
    for seed in 0..100 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let share = random.u32(1..100);
        let mut incomplete = vec![(0, 0)];
        incomplete.extend((1..20_000).filter(|_| random.u32(0..100) < share).map(|offset| (offset, 0)));
        assert!(round_trip(0, 20_000, &incomplete).len() <= CHARACTERS, "seed {seed}");
    }
}

/// More attempts than fit cost attempts, the lowest first, and no finished record.
#[test]
fn attempts_that_do_not_fit_are_left_out_from_the_lowest() {
    let random = &mut fastrand::Rng::with_seed(7);
    let incomplete: Vec<_> =
        (0..16_000).step_by(2).map(|offset| (offset, random.u8(0..30).saturating_sub(24))).collect();
    let text = encode(LOG, &snapshot(0, 16_000, &incomplete), CHARACTERS);
    assert!(text.len() <= CHARACTERS);
    let map = decode(text.as_bytes(), 0).unwrap().unwrap();
    let lowest_kept =
        map.incomplete.iter().map(|(_, attempts)| *attempts).filter(|attempts| *attempts > 0).min();
    assert!(lowest_kept.is_some_and(|lowest| lowest > 1));
    let expected = |attempts| if Some(attempts) < lowest_kept { 0 } else { attempts };
    let kept: Vec<_> = incomplete.iter().map(|(offset, attempts)| (*offset, expected(*attempts))).collect();
    assert_eq!(map.incomplete, kept);
}

/// A broker that takes less than 4,096 characters costs second runs, not progress.
#[test]
fn a_map_that_is_cut_short_forgets_the_highest_only() {
    let incomplete: Vec<_> = (0..1800).step_by(2).map(|offset| (offset, 0)).collect();
    let text = encode(LOG, &snapshot(0, 1800, &incomplete), 128);
    assert!(text.len() <= 128);
    let map = decode(text.as_bytes(), 0).unwrap().unwrap();
    let end = map.end;
    assert!(end >= 200, "{end}");
    let kept: Vec<_> = incomplete.into_iter().filter(|(offset, _)| *offset < end).collect();
    assert_eq!(map.incomplete, kept);
}

#[test]
fn no_metadata_is_no_map() {
    for nothing in ["", "\0", "\n"] {
        assert_eq!(decode(nothing.as_bytes(), 5), Ok(None));
    }
}

#[test]
fn refuses_what_others_wrote() {
    let ours = encode(LOG, &snapshot(5, 9, &[(5, 0)]), CHARACTERS);
    let mut with_nul = ours.clone();
    with_nul.push('\0');
    assert!(decode(with_nul.as_bytes(), 5).unwrap().is_some());
    assert_eq!(decode(ours.as_bytes(), 6), Err(Refused::Base));
    assert_eq!(decode(b"consumer-1 2026-11-24", 5), Err(Refused::Foreign));
    assert_eq!(decode(b"bAMAAAAB\xff\xfe", 5), Err(Refused::Foreign));
    assert_eq!(decode(b"k1.", 5), Err(Refused::Malformed));
    assert_eq!(decode(b"k1.not base64", 5), Err(Refused::Malformed));
}

#[test]
fn refuses_a_version_it_does_not_know() {
    let mut payload =
        URL_SAFE_NO_PAD.decode(&encode(LOG, &snapshot(5, 9, &[(5, 0)]), CHARACTERS)[3..]).unwrap();
    payload[0] = 4;
    let text = format!("k1.{}", URL_SAFE_NO_PAD.encode(payload));
    assert_eq!(decode(text.as_bytes(), 5), Err(Refused::Version));
}

/// Only what the map is about changes the size, and never to more: see [`offsets::Size`].
#[test]
fn a_size_never_grows_when_offsets_are_taken_out() {
    for seed in 0..300 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut offsets = vec![random.i64(0..1000)];
        let most_gap = 1 << random.u32(0..14);
        for _ in 0..random.usize(1..600) {
            offsets.push(offsets[offsets.len() - 1] + random.i64(1..=most_gap));
        }
        let measured = |offsets: &[i64]| {
            let mut size = offsets::Size::new(offsets[0]);
            offsets.iter().for_each(|offset| size.add(*offset));
            size
        };
        let whole = measured(&offsets);
        while offsets.len() > 1 {
            let taken_out = random.usize(1..=offsets.len().min(20)).min(offsets.len() - 1);
            for _ in 0..taken_out {
                offsets.remove(random.usize(..offsets.len()));
            }
            let (bytes, size) = (offsets::encode(offsets[0], &offsets).1.len(), measured(&offsets));
            assert!(bytes <= size.bytes(offsets[0]), "seed {seed}");
            assert!(size.bytes(offsets[0]) <= whole.bytes(offsets[0]), "seed {seed}");
        }
    }
}

/// Bytes with a right checksum and anything behind it never panic, and never make a map that the
/// tracker could not hold.
#[test]
fn survives_corrupt_input() {
    for seed in 0..200_000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut payload = URL_SAFE_NO_PAD.decode(&sample(random)[3..]).unwrap();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(1..payload.len());
            payload[at] = random.u8(..);
        }
        payload.truncate(random.usize(HEAD..=payload.len()));
        payload[0] = random.u8(1..=3);
        payload[1] &= 0x1f;
        let right = checksum(&payload).to_le_bytes();
        payload[2..HEAD].copy_from_slice(&right);
        let text = format!("k1.{}", URL_SAFE_NO_PAD.encode(&payload));
        if let Ok(Some(map)) = decode(text.as_bytes(), 5) {
            let rising = map.incomplete.is_sorted_by(|a, b| a.0 < b.0);
            let within = map.incomplete.iter().all(|&(offset, _)| offset >= map.base && offset < map.end);
            assert!(rising && within && map.end - map.base <= MAX_WINDOW, "seed {seed}: {map:?}");
            super::super::tracker::Tracker::restore(map.base, map.end, &map.incomplete);
        }
    }
}

fn sample(random: &mut fastrand::Rng) -> String {
    let mut incomplete = vec![(5, random.u8(0..2))];
    for _ in 0..random.usize(0..40) {
        incomplete.push((incomplete[incomplete.len() - 1].0 + random.i64(1..100), random.u8(0..4)));
    }
    let end = incomplete[incomplete.len() - 1].0 + random.i64(1..99);
    encode(LOG, &snapshot(5, end, &incomplete), CHARACTERS)
}

#[test]
fn a_first_log_is_not_taken_for_a_replacement() {
    let log = Log { is_replacement: false, ..LOG };
    let text = encode(log, &snapshot(5, 9, &[(5, 0)]), CHARACTERS);
    assert_eq!(decode(text.as_bytes(), 5).unwrap().unwrap().log, Some(log));
}
