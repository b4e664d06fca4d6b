//! Finds out whether another consumer takes items from the queue.
//!
//! An item without a unique identity looks like every other item of the same bytes. While this
//! process is the queue's only consumer, a redelivery with the bytes of a running item is that
//! item. Another consumer may have finished that item. The redelivery may then be a later item of
//! the same bytes, so it must run (rule D1).
//!
//! The broker tells the number of a queue's consumers, but not their connections. After a lost
//! connection, one of them may be the consumer of that connection, until the broker notices the
//! loss. Until then a second consumer proves nothing. The source asks for the count again when a
//! redelivery arrives: an item of the lost connection comes back only after its consumer is gone.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::connect::rabbitmq::Error;

/// The broker closes a silent connection after two to three heartbeats.
const STALE: Duration = Duration::from_secs(35);

#[derive(Default)]
pub(super) struct Others(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether another consumer was seen once.
    seen: bool,
    /// The number of consumers of the present session.
    own: u32,
    /// The time until which the count may include this number of consumers of a lost connection.
    stale_until: Option<(Instant, u32)>,
}

/// The knowledge about a redelivered item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    Yes,
    No,
    /// The source must ask for the count.
    Unclear,
}

impl Others {
    /// Takes the number of consumers other than the session's own.
    pub(super) fn counted(&self, others: u32, queue: &str) {
        let mut state = self.state();
        match (others, state.stale_until) {
            (0, _) => state.stale_until = None,
            (_, Some((until, stale))) if others <= stale && Instant::now() < until => {}
            _ if state.seen => {}
            _ => {
                state.seen = true;
                tracing::info!(
                    queue,
                    "Another consumer takes items from the queue: without peers, an item that comes back runs again"
                );
            }
        }
    }

    /// Sets the number of consumers of the present session: before one more starts, and after some
    /// have ended.
    pub(super) fn set_own(&self, own: u32) {
        self.state().own = own;
    }

    pub(super) fn own(&self) -> u32 {
        self.state().own
    }

    pub(super) fn lost(&self, error: &Error) {
        // If the broker closed the channel, the channel's consumer is gone. In all other cases the
        // broker may not know of the loss.
        let is_told = error.code().is_some() || matches!(error, Error::Cancelled | Error::Closed);
        let mut state = self.state();
        if !is_told {
            state.stale_until = Some((Instant::now() + STALE, state.own.max(1)));
        }
    }

    pub(super) fn shared(&self) -> Shared {
        match &*self.state() {
            State { seen: true, .. } => Shared::Yes,
            State { stale_until: Some(_), .. } => Shared::Unclear,
            _ => Shared::No,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_consumer_is_remembered() {
        let others = Others::default();
        others.counted(0, "q");
        assert_eq!(others.shared(), Shared::No);
        others.counted(1, "q");
        others.counted(0, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn all_consumers_of_a_lost_connection_are_its_own() {
        let others = Others::default();
        others.set_own(3);
        others.lost(&Error::Silent("a settle", Duration::from_secs(1)));
        others.counted(3, "q");
        assert_eq!(others.shared(), Shared::Unclear);
        others.counted(4, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn the_consumer_of_a_lost_connection_is_not_another() {
        let lost = || Error::Silent("a settle", Duration::from_secs(1));
        let others = Others::default();
        others.lost(&lost());
        others.counted(1, "q");
        assert_eq!(others.shared(), Shared::Unclear);
        others.counted(0, "q");
        assert_eq!(others.shared(), Shared::No);

        others.lost(&lost());
        others.counted(2, "q");
        assert_eq!(others.shared(), Shared::Yes);

        let others = Others::default();
        others.lost(&lost());
        tokio::time::advance(STALE).await;
        others.counted(1, "q");
        assert_eq!(others.shared(), Shared::Yes);

        let others = Others::default();
        others.lost(&Error::Cancelled);
        assert_eq!(others.shared(), Shared::No);
    }
}
