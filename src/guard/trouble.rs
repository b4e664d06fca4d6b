//! Tells people that marks cannot be written: one warning, and further ones at growing intervals.

use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::GuardFailure;

const FIRST_INTERVAL: Duration = Duration::from_secs(60);
const LAST_INTERVAL: Duration = Duration::from_secs(1800);
/// The pause after a failed write or watch; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Trouble without a further failure for this long is over: a watch that is resumed may have
/// nothing to tell.
const STALE: Duration = Duration::from_secs(120);

/// A request to the API server that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub text: String,
    /// The advice to a person.
    pub help: &'static str,
    pub kind: GuardFailure,
}

impl Failure {
    /// Whether the API server refuses this kind of request, so that success with another kind does
    /// not end the trouble.
    fn is_refusal(&self) -> bool {
        self.kind == GuardFailure::Refused
    }
}

/// The present trouble with the API server.
#[derive(Debug, Default)]
pub struct Trouble {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    failure: Failure,
    since: Instant,
    told: Instant,
    interval: Duration,
    pause: Duration,
    retry: Instant,
    last: Instant,
}

impl Trouble {
    /// Takes a failure.
    pub fn raise(&mut self, now: Instant, failure: Failure) {
        if self.open.as_ref().is_some_and(|open| now >= open.last + STALE) {
            self.open = None;
        }
        match &mut self.open {
            Some(open) => {
                open.failure = failure;
                open.last = now;
                open.pause = (open.pause * 2).min(LAST_PAUSE);
                open.retry = now + open.pause;
                if now >= open.told + open.interval {
                    open.told = now;
                    open.interval = (open.interval * 2).min(LAST_INTERVAL);
                    let seconds = (now - open.since).as_secs();
                    let Failure { text, help, .. } = &open.failure;
                    tracing::warn!(
                        error = text,
                        help,
                        seconds,
                        "The guard still cannot mark busy pods; items are delivered as before"
                    );
                }
            }
            None => {
                let Failure { text, help, .. } = &failure;
                tracing::warn!(
                    error = text,
                    help,
                    "The guard cannot mark busy pods; items are delivered as before"
                );
                self.open = Some(Open {
                    failure,
                    since: now,
                    told: now,
                    interval: FIRST_INTERVAL,
                    pause: FIRST_PAUSE,
                    retry: now + FIRST_PAUSE,
                    last: now,
                });
            }
        }
    }

    /// Takes a change that the watch shows.
    pub fn watch_works(&mut self, now: Instant) {
        if self.open.as_ref().is_some_and(|open| !open.failure.is_refusal()) {
            self.clear(now);
        }
    }

    /// Takes a successful write.
    pub fn clear(&mut self, now: Instant) {
        if let Some(open) = self.open.take() {
            let seconds = (now - open.since).as_secs();
            tracing::info!(seconds, "The guard can mark busy pods again");
        }
    }

    /// Whether the next request is due.
    pub fn may_try(&self, now: Instant) -> bool {
        self.open.as_ref().is_none_or(|open| now >= open.retry)
    }

    /// The text of the present trouble.
    pub fn text(&self, now: Instant) -> Option<String> {
        let open = self.open.as_ref().filter(|open| now < open.last + STALE)?;
        Some(open.failure.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_become_rarer_and_a_success_ends_the_trouble() {
        let (mut trouble, mut tries) = (Trouble::default(), 0);
        let failure = failure(GuardFailure::Refused);
        for _ in 0..600 {
            if trouble.may_try(Instant::now()) {
                trouble.raise(Instant::now(), failure.clone());
                tries += 1;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((20..=26).contains(&tries), "{tries} requests in ten minutes");
        trouble.watch_works(Instant::now());
        assert_eq!(trouble.text(Instant::now()).as_deref(), Some("no"), "a refused write stays refused");
        trouble.clear(Instant::now());
        assert!(trouble.may_try(Instant::now()));
        assert_eq!(trouble.text(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_with_the_next_change_or_when_nothing_fails_any_more() {
        let mut trouble = Trouble::default();
        trouble.raise(Instant::now(), failure(GuardFailure::Unreachable));
        trouble.watch_works(Instant::now());
        assert_eq!(trouble.text(Instant::now()), None);
        trouble.raise(Instant::now(), failure(GuardFailure::Unreachable));
        tokio::time::advance(STALE).await;
        assert_eq!(trouble.text(Instant::now()), None);
    }

    fn failure(kind: GuardFailure) -> Failure {
        Failure { text: "no".to_owned(), help: "help", kind }
    }
}
