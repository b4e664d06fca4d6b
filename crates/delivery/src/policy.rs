//! The rules that the configuration sets, and how long to wait before the next attempt.

use std::time::Duration;

use super::item::ItemId;
use super::session::Mark;

/// The core's settings. The core gets them once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Most requests at once, at least 1.
    pub max_in_flight: u32,
    pub retry: Retry,
    pub on_unknown: OnUnknown,
    pub on_failed: OnFailed,
    pub targets: Targets,
    /// How long the attempts at a stuck record may fail before it is given up; `None` sets no
    /// limit. Kafka only (`stuck_head.dead_letter_after`).
    pub give_up_after: Option<Duration>,
    /// Whether the broker itself hands over no more than fits, so that all of it is taken at once.
    pub prefetched: bool,
    /// Whether there may be other replicas that ask for our orphans.
    pub peers: bool,
    /// How long the working limit takes to rise by one step of twenty after requests could not be
    /// started; zero keeps it at `max_in_flight`.
    pub limit_step: Duration,
    /// The time between the starts of two requests; zero switches the rate off.
    pub start_every: Duration,
    /// Items in a row that were not started or rejected before the breaker opens; 0 switches it
    /// off.
    pub breaker_failures: u32,
    /// How long the breaker stays open before a probe.
    pub breaker_open: Duration,
    pub bounds: Bounds,
    /// A random number of this process. It varies the jitter, so that replicas do not retry in
    /// step, and it makes the marks of copies unguessable.
    pub seed: u128,
}

/// When a failed item is tried again. The fields are those of `retry` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Runs in all, at least 1.
    pub attempts: u32,
    pub backoff: Duration,
    pub backoff_max: Duration,
    pub unknown_backoff: Duration,
    pub worker_time_budget: Duration,
    pub not_started_for: Duration,
    /// Interruptions in a row that cost no attempt.
    pub interruptions: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnUnknown {
    Retry,
    DeadLetter,
    Hold,
}

/// The targets that a pipeline has. The shell derives them from those that it writes to, so that
/// the core never asks for a write without a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Targets {
    /// An item that failed for good is written there, then acked.
    pub dead_letter: bool,
    /// A worker's answer is written there before the ack.
    pub reply: bool,
    /// The wait for the next attempt is spent there, and not in memory.
    pub park: bool,
}

/// The reaction to an item that failed for good and has no dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFailed {
    /// Kept and shown.
    Hold,
    /// Acked: lost by choice.
    Drop,
}

/// Bounds on the kept items (guarantee G9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// The largest body, in bytes.
    pub item_bytes: u64,
    /// Bodies in hand at once, in bytes; above it nothing new is taken.
    pub held_bytes: u64,
    /// Held items at which nothing new is taken.
    pub held_max: u32,
    /// Orphans that are not running, at once; above it the oldest is given up.
    pub orphans_max: u32,
    /// How long such an orphan is kept for its redelivery.
    pub orphan_age: Duration,
}

/// Waits after a failed write: from one second, doubling, to half a minute.
const WRITE_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Policy {
    /// The same rules for a pipeline with these targets.
    pub fn with_targets(self, targets: Targets) -> Self {
        Policy { targets, ..self }
    }

    /// The wait before the try after `failures` failed ones in a row (at least 1).
    pub(super) fn backoff(&self, item: ItemId, failures: u32) -> Duration {
        let wait = doubled(self.retry.backoff, failures, self.retry.backoff_max);
        if self.targets.park {
            // The wait is exactly the length of a parking queue. A little more would select the
            // next longer queue.
            return wait;
        }
        self.jittered(wait, item, failures).min(self.retry.backoff_max)
    }

    /// The wait before a write is repeated after `failures` failed ones in a row.
    pub(super) fn write_backoff(&self, item: ItemId, failures: u32) -> Duration {
        self.jittered(doubled(WRITE_BACKOFF.0, failures, WRITE_BACKOFF.1), item, failures)
    }

    /// Varies `wait` by up to a quarter either way. A hash takes the place of a random source, so
    /// that the core stays a function of its inputs.
    fn jittered(&self, wait: Duration, item: ItemId, failures: u32) -> Duration {
        let hash = splitmix64(self.seed as u64 ^ splitmix64(item.0) ^ u64::from(failures));
        let thousandths = 750 + (hash % 501) as u32;
        wait.saturating_mul(thousandths) / 1000
    }
}

/// The `number`th mark of this process.
pub(super) fn mark(seed: u128, number: u64) -> Mark {
    let half = |half: u64, salt: u64| u128::from(splitmix64(half ^ splitmix64(number ^ salt)));
    Mark(((half((seed >> 64) as u64, 0) << 64) | half(seed as u64, u64::MAX)).to_be_bytes())
}

fn doubled(first: Duration, failures: u32, most: Duration) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

/// Sebastiano Vigna's SplitMix64 finaliser: spreads neighbouring numbers over all 64 bits.
fn splitmix64(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(park: bool, seed: u128) -> Policy {
        Policy {
            max_in_flight: 1,
            retry: Retry {
                attempts: 1,
                backoff: SECOND * 10,
                backoff_max: SECOND * 60,
                unknown_backoff: SECOND,
                worker_time_budget: SECOND,
                not_started_for: SECOND,
                interruptions: 0,
            },
            on_unknown: OnUnknown::Retry,
            on_failed: OnFailed::Hold,
            targets: Targets { park, ..Targets::default() },
            give_up_after: None,
            prefetched: false,
            peers: false,
            limit_step: SECOND,
            start_every: Duration::ZERO,
            breaker_failures: 0,
            breaker_open: SECOND,
            bounds: Bounds { item_bytes: 1, held_bytes: 1, held_max: 1, orphans_max: 1, orphan_age: SECOND },
            seed,
        }
    }

    /// The queues of parked items have exactly these lengths.
    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = policy(true, 0);
        let waits = [1, 2, 3, 4, 100].map(|failures| policy.backoff(ItemId(1), failures).as_secs());
        assert_eq!(waits, [10, 20, 40, 60, 60]);
    }

    #[test]
    fn waits_in_memory_vary_by_a_quarter_and_never_exceed_the_longest() {
        let mut waits: Vec<Duration> = Vec::new();
        for seed in 0..10 {
            let policy = policy(false, seed);
            waits.extend((0..2000).map(|item| policy.backoff(ItemId(item), 1)));
            let longest = (0..200).map(|item| policy.backoff(ItemId(item), 9)).max();
            assert_eq!(longest, Some(SECOND * 60));
        }
        let (least, most) = (waits.iter().min().copied(), waits.iter().max().copied());
        assert_eq!((least, most), (Some(SECOND * 10 * 3 / 4), Some(SECOND * 10 * 5 / 4)));
        let mean = waits.iter().sum::<Duration>() / waits.len() as u32;
        assert!(mean > SECOND * 9 && mean < SECOND * 11, "{mean:?}");
    }

    #[test]
    fn items_replicas_and_failures_do_not_wait_in_step() {
        let (one, other) = (policy(false, 1), policy(false, 2));
        assert_ne!(one.backoff(ItemId(1), 1), one.backoff(ItemId(2), 1));
        assert_ne!(one.backoff(ItemId(1), 1), other.backoff(ItemId(1), 1));
        assert_ne!(one.backoff(ItemId(1), 1) * 2, one.backoff(ItemId(1), 2));
    }

    #[test]
    fn writes_are_repeated_after_one_second_to_half_a_minute() {
        let policy = policy(false, 0);
        let around = |failures, seconds: u32| {
            let wait = policy.write_backoff(ItemId(1), failures);
            assert!(wait >= SECOND * seconds * 3 / 4 && wait <= SECOND * seconds * 5 / 4, "{wait:?}");
        };
        around(1, 1);
        around(2, 2);
        around(50, 30);
    }

    /// A mark must not be guessed, and none is used twice.
    #[test]
    fn marks_are_spread_over_all_bits() {
        let mut marks: Vec<Mark> = (0..1000).map(|number| mark(7, number)).collect();
        marks.extend((0..1000).map(|number| mark(1 << 100, number)));
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), 2000);
        for bit in 0..128 {
            let is_set = |mark: &&Mark| u128::from_be_bytes(mark.0) >> bit & 1 == 1;
            let count = marks.iter().filter(is_set).count();
            assert!((800..1200).contains(&count), "bit {bit} is set in {count}");
        }
    }

    #[test]
    fn both_halves_of_the_seed_count_for_a_mark() {
        let marks = [1, 2, 1 << 100, 1 << 101].map(|seed| mark(seed, 1));
        for (index, mark) in marks.iter().enumerate() {
            assert!(!marks[index + 1..].contains(mark), "{index}");
        }
    }

    #[test]
    fn other_targets_leave_the_other_rules() {
        let targets = Targets { dead_letter: true, reply: true, park: false };
        let changed = policy(true, 7).with_targets(targets);
        assert_eq!(changed, Policy { targets, ..policy(true, 7) });
    }

    /// The reference values are those of the published algorithm for the seeds 0, 1 and 2.
    #[test]
    fn the_hash_is_splitmix64() {
        let expected = [0xE220_A839_7B1D_CDAF, 0x910A_2DEC_8902_5CC1, 0x9758_35DE_1C97_56CE];
        assert_eq!([0, 1, 2].map(splitmix64), expected);
    }
}
