use super::*;

const LOG: Log = Log { id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, is_replacement: true };

fn snapshot(base: i64, end: i64, incomplete: &[(i64, u8)]) -> Snapshot {
    Snapshot { base, end, incomplete: incomplete.to_vec(), change: 1 }
}

fn round_trip(base: i64, end: i64, incomplete: &[(i64, u8)]) -> String {
    let text = encode(LOG, &snapshot(base, end, incomplete));
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
        assert_eq!(decode(text.as_bytes(), map.base), Ok(Some(map)));
    }
}

#[test]
fn takes_the_shorter_of_gaps_and_bitmap() {
    assert!(round_trip(0, 1 << 20, &[(0, 0)]).len() <= 50);
    let every_other: Vec<_> = (0..900).map(|index| (index * 2, 0)).collect();
    assert!(round_trip(0, 1800, &every_other).len() <= 352);
}

#[test]
fn no_metadata_is_no_map() {
    for nothing in ["", "\0", "\n"] {
        assert_eq!(decode(nothing.as_bytes(), 5), Ok(None));
    }
}

#[test]
fn refuses_what_others_wrote() {
    let ours = encode(LOG, &snapshot(5, 9, &[(5, 0)]));
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
    let mut payload = URL_SAFE_NO_PAD.decode(&encode(LOG, &snapshot(5, 9, &[(5, 0)]))[3..]).unwrap();
    payload[0] = 3;
    let text = format!("k1.{}", URL_SAFE_NO_PAD.encode(payload));
    assert_eq!(decode(text.as_bytes(), 5), Err(Refused::Version));
}

/// Bytes with a correct checksum, followed by any bytes, never panic and never give a map that the
/// tracker could not hold.
#[test]
fn survives_corrupt_input() {
    for seed in 0..200_000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut payload = URL_SAFE_NO_PAD
            .decode(&encode(LOG, &snapshot(5, 5 + random.i64(9..99), &[(5, random.u8(0..2)), (9, 0)]))[3..])
            .unwrap();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(1..payload.len());
            payload[at] = random.u8(..);
        }
        payload.truncate(random.usize(HEAD..=payload.len()));
        payload[1] &= 3;
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
