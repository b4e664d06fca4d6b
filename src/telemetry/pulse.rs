//! Heartbeats of the loops that must never stop: a pipeline's own, and Kafka's poll thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The longest silence of a loop that works. Loops beat at least every ten seconds.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The heartbeat of one loop. It is watched from its first beat until it is dropped.
#[derive(Debug)]
pub struct Pulse {
    name: &'static str,
    start: Instant,
    /// Milliseconds from `start` to the last beat, plus one; 0 before the first.
    last: AtomicU64,
}

impl Pulse {
    pub(super) fn new(name: &'static str) -> Self {
        Pulse { name, start: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Reports that the loop still runs. Call it at least every ten seconds, even with nothing to
    /// do.
    pub fn beat(&self) {
        let since_start = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(since_start + 1, Ordering::Relaxed);
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns how long the loop has been silent, if that is too long.
    pub(super) fn silence(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        let silence = self.start.elapsed().saturating_sub(Duration::from_millis(last));
        (silence > SILENCE_MAX).then_some(silence)
    }
}
