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
    /// Whether a worker's answer is written somewhere before the ack.
    pub reply: bool,
    /// Whether the wait for the next attempt is spent in the broker instead of in memory.
    pub park: bool,
    /// Whether the broker itself hands over no more than fits, so that all of it is taken at once.
    pub prefetched: bool,
    /// Whether there may be other replicas that ask for our orphans.
    pub peers: bool,
    /// How long the working limit takes to rise by one step of twenty after requests could not be
    /// started; zero keeps it at `max_in_flight`.
    pub limit_step: Duration,
    /// The time between the starts of two requests; zero means that there is no rate.
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

/// The reaction to an item that failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFailed {
    /// Written to the configured dead letter, then acked.
    DeadLetter,
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
    /// The wait before the try after `failures` failed ones in a row (at least 1).
    pub(super) fn backoff(&self, item: ItemId, failures: u32) -> Duration {
        let wait = doubled(self.retry.backoff, failures, self.retry.backoff_max);
        if self.park {
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
