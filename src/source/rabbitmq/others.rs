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
    /// The number of cancelled consumers of the present session. A quorum queue counts such a
    /// consumer until its items are settled.
    cancelled: u32,
    /// The number of changes of `own`.
    changes: u64,
    /// Whether a consumer is being started or cancelled now.
    changing: bool,
    /// Whether the queue has a single active consumer.
    single: bool,
    /// The time until which the count may include this number of consumers of a lost connection.
    stale_until: Option<(Instant, u32)>,
}

/// A question for the number of consumers, with the number of changes at its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question(u64);

/// The knowledge about a redelivered item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    Yes,
    No,
    /// The source must ask for the count.
    Unclear,
}

impl Others {
    /// Returns the question for the number of consumers that is asked now.
    pub(super) fn question(&self) -> Question {
        Question(self.state().changes)
    }

    /// Takes the broker's answer: the number of all consumers. If the session has started or
    /// cancelled a consumer since the question, or is about to, the answer says nothing about
    /// others.
    pub(super) fn counted(&self, question: Question, consumers: u32, queue: &str) {
        let mut state = self.state();
        if state.changing || state.changes != question.0 {
            return;
        }
        let others = consumers.saturating_sub(state.own);
        match (others, state.stale_until) {
            (0, _) => (state.stale_until, state.cancelled) = (None, 0),
            _ if others <= state.cancelled => {}
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

    /// Records that the session starts to change its consumers. Answers count again after the call
    /// that records the end of the change.
    pub(super) fn begin_change(&self) {
        self.state().changing = true;
    }

    /// Records the number of consumers of the present session, after one more has started.
    pub(super) fn set_own(&self, own: u32) {
        let mut state = self.state();
        state.own = own;
        state.changed();
    }

    /// Records that the session cancelled consumers, and how many are left.
    pub(super) fn cancelled(&self, left: u32) {
        let mut state = self.state();
        state.cancelled += state.own.saturating_sub(left);
        state.own = left;
        state.changed();
    }

    /// Records that the queue hands its items to a single active consumer.
    pub(super) fn set_single(&self) {
        self.state().single = true;
    }

    /// Records that another queue may have taken the name of the present one.
    pub(super) fn forget_single(&self) {
        self.state().single = false;
    }

    pub(super) fn is_single(&self) -> bool {
        self.state().single
    }

    pub(super) fn lost(&self, error: &Error) {
        // If the broker closed the channel, the channel's consumer is gone. In all other cases the
        // broker may not know of the loss.
        let is_told = error.code().is_some() || matches!(error, Error::Cancelled | Error::Closed);
        let mut state = self.state();
        if !is_told {
            state.stale_until = Some((Instant::now() + STALE, (state.own + state.cancelled).max(1)));
        }
        (state.own, state.cancelled) = (0, 0);
        state.changed();
    }

    pub(super) fn shared(&self) -> Shared {
        match &*self.state() {
            State { seen: true, .. } => Shared::Yes,
            State { stale_until: Some(_), .. } => Shared::Unclear,
            State { cancelled: 1.., .. } => Shared::Unclear,
            _ => Shared::No,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn changed(&mut self) {
        self.changes += 1;
        self.changing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_consumer_is_remembered() {
        let others = Others::default();
        others.counted(others.question(), 0, "q");
        assert_eq!(others.shared(), Shared::No);
        others.counted(others.question(), 1, "q");
        others.counted(others.question(), 0, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_a_cancel_proves_nothing() {
        let others = Others::default();
        others.set_own(2);
        let question = others.question();
        others.set_own(1);
        others.counted(question, 2, "q");
        assert_eq!(others.shared(), Shared::No);
        others.counted(others.question(), 2, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_a_change_proves_nothing() {
        let others = Others::default();
        others.set_own(1);
        others.begin_change();
        others.counted(others.question(), 2, "q");
        assert_eq!(others.shared(), Shared::No);
        others.set_own(2);
        others.counted(others.question(), 3, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_consumers_that_are_gone_hide_nobody() {
        let others = Others::default();
        others.set_own(3);
        others.cancelled(1);
        others.counted(others.question(), 1, "q");
        assert_eq!(others.shared(), Shared::No);
        others.counted(others.question(), 2, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_consumers_may_hide_others_until_the_session_ends() {
        let others = Others::default();
        others.set_own(3);
        others.cancelled(1);
        others.counted(others.question(), 3, "q");
        assert_eq!(others.shared(), Shared::Unclear);
        others.lost(&Error::Closed);
        others.counted(others.question(), 0, "q");
        assert_eq!(others.shared(), Shared::No);
        others.set_own(1);
        others.counted(others.question(), 2, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn all_consumers_of_a_lost_connection_are_its_own() {
        let others = Others::default();
        others.set_own(3);
        others.lost(&Error::Silent("a settle", Duration::from_secs(1)));
        others.counted(others.question(), 3, "q");
        assert_eq!(others.shared(), Shared::Unclear);
        others.counted(others.question(), 4, "q");
        assert_eq!(others.shared(), Shared::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn the_consumer_of_a_lost_connection_is_not_another() {
        let lost = || Error::Silent("a settle", Duration::from_secs(1));
        let others = Others::default();
        others.lost(&lost());
        others.counted(others.question(), 1, "q");
        assert_eq!(others.shared(), Shared::Unclear);
        others.counted(others.question(), 0, "q");
        assert_eq!(others.shared(), Shared::No);

        others.lost(&lost());
        others.counted(others.question(), 2, "q");
        assert_eq!(others.shared(), Shared::Yes);

        let others = Others::default();
        others.lost(&lost());
        tokio::time::advance(STALE).await;
        others.counted(others.question(), 1, "q");
        assert_eq!(others.shared(), Shared::Yes);

        let others = Others::default();
        others.lost(&Error::Cancelled);
        assert_eq!(others.shared(), Shared::No);
    }
}
