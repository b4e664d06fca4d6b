//! Refuses repeated and old questions, so that a recorded question cannot reserve or release a
//! result.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::seal::{Proof, milliseconds};

/// How far an asker's clock may be from ours.
pub(super) const SKEW: Duration = Duration::from_secs(60);

/// The most nonces that are remembered of one period of [`SKEW`]. An asker with 10,000 waiting
/// items sends 30,000 questions in it.
const NONCES_MAX: usize = 100_000;

/// Why a question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The clocks differ too much, or the question is older than this process.
    Time(Duration),
    Seen,
    /// Too many nonces are remembered, so nobody can tell whether this one is new.
    Full,
}

/// The nonces of the proven questions of the last minutes.
pub(super) struct Replays {
    started: u64,
    seen: Mutex<Seen>,
}

/// A nonce is kept for two to three periods of [`SKEW`], and a question is refused once it is older
/// than one.
#[derive(Default)]
struct Seen {
    period: u64,
    nonces: [HashSet<[u8; 16]>; 3],
}

impl Replays {
    pub fn new(started: SystemTime) -> Self {
        Replays { started: milliseconds(started), seen: Mutex::default() }
    }

    /// Checks the age of a question. Call it before the code is checked: it costs nothing and keeps
    /// nothing.
    pub fn check_time(&self, proof: &Proof, now: SystemTime) -> Result<(), Refusal> {
        let distance = proof.distance(now);
        // The process before this one may have answered a question from before the start.
        if distance > SKEW || proof.time < self.started { Err(Refusal::Time(distance)) } else { Ok(()) }
    }

    /// Remembers the nonce of a question. Call it only if the code is right, so that a stranger
    /// cannot fill the memory.
    pub fn admit(&self, proof: &Proof, now: SystemTime) -> Result<(), Refusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let period = milliseconds(now) / u64::try_from(SKEW.as_millis()).unwrap_or(u64::MAX);
        // The nonces stay if the clock is set back.
        for _ in 0..period.saturating_sub(seen.period).min(3) {
            seen.nonces.rotate_right(1);
            seen.nonces[0].clear();
        }
        seen.period = seen.period.max(period);
        if seen.nonces.iter().any(|nonces| nonces.contains(&proof.nonce)) {
            return Err(Refusal::Seen);
        }
        if seen.nonces[0].len() >= NONCES_MAX {
            return Err(Refusal::Full);
        }
        seen.nonces[0].insert(proof.nonce);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::Key;
    use super::*;

    #[test]
    fn a_question_is_admitted_once_and_only_at_its_time() {
        let start = SystemTime::now();
        let (replays, key) = (Replays::new(start), Key::from_secret("secret").unwrap());
        let at = |seconds| start + Duration::from_secs(seconds);
        let put = |nonce: u8, put: u64, now: u64| {
            let proof = key.question_at(milliseconds(at(put)), [nonce; 16], b"");
            replays.check_time(&proof, at(now)).and_then(|()| replays.admit(&proof, at(now)))
        };
        assert_eq!(put(1, 10, 10), Ok(()));
        assert_eq!(put(1, 10, 10), Err(Refusal::Seen));
        assert_eq!(put(1, 10, 70), Err(Refusal::Seen));
        assert!(matches!(put(1, 10, 71), Err(Refusal::Time(_))));
        // The asker's clock is ahead, within the limit, so the question can be repeated for two
        // periods.
        assert_eq!(put(2, 130, 70), Ok(()));
        for now in 71..=190 {
            assert_eq!(put(2, 130, now), Err(Refusal::Seen), "at {now}");
        }
        assert!(matches!(put(2, 130, 191), Err(Refusal::Time(_))));
        let before = key.question_at(milliseconds(start) - 1, [3; 16], b"");
        assert!(replays.check_time(&before, start).is_err(), "it was put to the process before this one");
    }

    #[test]
    fn the_memory_is_bounded_and_free_again_later() {
        let start = SystemTime::now();
        let (replays, key) = (Replays::new(start), Key::from_secret("secret").unwrap());
        let proof = |number: u128| key.question_at(milliseconds(start), number.to_be_bytes(), b"");
        let mut admitted = 0;
        while replays.admit(&proof(admitted), start).is_ok() {
            admitted += 1;
        }
        assert_eq!(admitted, NONCES_MAX as u128);
        assert_eq!(replays.admit(&proof(admitted), start), Err(Refusal::Full));
        assert_eq!(replays.admit(&proof(0), start), Err(Refusal::Seen));
        let later = start + SKEW;
        assert_eq!(replays.admit(&proof(admitted), later), Ok(()));
        assert_eq!(replays.admit(&proof(0), later), Err(Refusal::Seen));
    }
}
