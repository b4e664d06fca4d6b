//! The pause before a worker that has ended is started again.

use std::time::Duration;

/// Works like a kubelet (CrashLoopBackOff): at once, then after 10 s, 20 s and so on, at most 5
/// min. After 10 min without a crash it begins again.
#[derive(Debug, Default)]
pub struct Backoff {
    crashes: u32,
}

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

impl Backoff {
    /// Returns the pause after a worker that ran for this long.
    pub fn next(&mut self, ran: Duration) -> Duration {
        if ran >= FORGIVEN_AFTER {
            self.crashes = 0;
        }
        self.crashes += 1;
        match self.crashes {
            1 => Duration::ZERO,
            crashes => FIRST.saturating_mul(1 << (crashes - 2).min(10)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_a_long_run_forgives() {
        let mut backoff = Backoff::default();
        let mut next = |ran| backoff.next(Duration::from_secs(ran)).as_secs();
        let pauses: Vec<u64> = (0..8).map(|_| next(1)).collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!((next(600), next(1)), (0, 10));
    }
}
