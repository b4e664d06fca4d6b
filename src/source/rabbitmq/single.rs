//! Finds out whether the queue has a single active consumer, which gets all items.
//!
//! No method of AMQP tells this. But every other queue hands a ready item to each consumer that may
//! take one more. So a further consumer that gets nothing while items are ready shows it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The time in which a further consumer gets an item that is ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// The suspicion that the further consumers of a session get nothing.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    due: Option<Instant>,
    /// Whether items were ready.
    is_confirmed: bool,
    is_refuted: bool,
}

impl Suspicion {
    /// Records that a further consumer has started, or that no item was ready for it.
    pub(super) fn begin(&mut self) {
        self.due = (!self.is_refuted).then(|| Instant::now() + PATIENCE);
        self.is_confirmed = false;
    }

    /// Records that items are ready. The suspicion is due again at once, after all deliveries that
    /// arrived before the broker's answer.
    pub(super) fn confirm(&mut self) {
        (self.due, self.is_confirmed) = (Some(Instant::now()), true);
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Records that a further consumer got an item.
    pub(super) fn refute(&mut self) {
        (self.due, self.is_refuted) = (None, true);
    }

    /// Records that all further consumers are cancelled.
    pub(super) fn end(&mut self) {
        self.due = None;
    }

    /// Returns when the suspicion must be examined.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_further_consumer_without_an_item_is_suspicious_until_one_item_arrives() {
        let mut suspicion = Suspicion::default();
        let is_due = |suspicion: &Suspicion| suspicion.due().now_or_never().is_some();
        assert!(!is_due(&suspicion));
        suspicion.begin();
        assert!(!is_due(&suspicion));
        tokio::time::advance(PATIENCE).await;
        suspicion.due().await;
        suspicion.begin();
        assert!(!is_due(&suspicion));
        suspicion.confirm();
        assert!(is_due(&suspicion) && suspicion.is_confirmed());
        suspicion.refute();
        suspicion.begin();
        tokio::time::advance(PATIENCE).await;
        assert!(!is_due(&suspicion));
    }
}
