//! The rules that must hold in every state, and the counts that they need.

use std::time::Duration;

use longhaul_delivery::{Command, Effect, Notice, Reason, Write, invariants};

use super::World;

/// The events of the items of one class so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tally {
    pub(super) starts: u32,
    /// Completions that allow an ack: done, a confirmed dead letter, or a configured drop.
    pub(super) finished: u32,
    pub(super) gone: u32,
    /// Acks whose result the bridge could not know.
    pub(super) doubtful: u32,
    /// Items that were handed to another replica, which then released them: their attempts are
    /// forgotten.
    pub(super) dropped: u32,
    /// Copies that were written to the queue.
    pub(super) copies: u32,
    /// How often an item may be in the queue twice. With parking this happens if the confirm of a
    /// copy was lost, or if a session was lost between the write of a copy and the ack that
    /// follows. The item may then run from both.
    pub(super) twice: u32,
}

impl World {
    /// Checks the rules for every state, on top of the dispatcher's own invariants.
    pub(super) fn check(&mut self) {
        if let Err(broken) = invariants::check(&self.core) {
            self.broken.get_or_insert(broken.to_string());
        }
        self.require(
            "G2: requests at once",
            self.requests.len() <= self.setting.policy.max_in_flight as usize,
        );
        let attempts = self.setting.policy.retry.attempts;
        for class in 0..self.tallies.len() {
            let tally = self.tallies[class];
            let items = self.setting.classes.iter().filter(|of| **of == class).count() as u32;
            let open = self.requests.values().filter(|of| **of == class).count() as u32;
            self.require(
                "G1: an ack has a completion of its own",
                tally.gone <= tally.finished + tally.copies,
            );
            self.require("G3: never more requests than items", open <= items + tally.doubtful);
            // Only an ack with an unknown result may make an item run again.
            let apart = items + tally.doubtful + tally.twice;
            // A person may drop an item whose work is done and whose reply is not written.
            let done_most = apart + self.acts_so_far();
            self.require("G3: nothing done runs again", tally.finished <= done_most);
            // Each action of a person may give an item all its attempts again.
            let times = apart + tally.dropped + self.acts_so_far();
            self.require("runs are bounded", tally.starts <= times * attempts + self.not_started());
        }
        self.check_order();
    }

    /// An item fails for the lack of a worker only after the configured time, and pauses do not
    /// count.
    pub(super) fn check_failure(&mut self, effect: &Effect) {
        let (Effect::Do(Command::Write { write: Write::DeadLetter { reason, .. }, .. })
        | Effect::Tell(Notice::Held { reason, .. })) = effect
        else {
            return;
        };
        let time = self.now.saturating_sub(self.paused_time());
        let is_due = time >= self.setting.policy.retry.not_started_for;
        self.require("a pause is not a failure", *reason != Reason::NotStarted || is_due);
    }

    pub(super) fn paused_time(&self) -> Duration {
        self.paused_for + self.paused_at.map_or(Duration::ZERO, |since| self.now.saturating_sub(since))
    }

    pub(super) fn acts_so_far(&self) -> u32 {
        self.setting.acts - self.acts
    }

    /// Returns how many starts cost no attempt.
    pub(super) fn not_started(&self) -> u32 {
        let free = self.setting.outcomes.iter().any(|outcome| !outcome.counts_as_attempt());
        if free { u32::MAX / 2 } else { 0 }
    }

    pub(super) fn check_order(&mut self) {
        if self.setting.keys.iter().all(Option::is_none) {
            return;
        }
        // If each item has its own identity, its class is its index, so a request tells its key.
        let mut keys: Vec<u128> =
            self.requests.values().filter_map(|class| self.setting.keys[*class]).collect();
        let open = keys.len();
        keys.sort_unstable();
        keys.dedup();
        self.require("order: one request a key", keys.len() == open);
    }

    pub(super) fn require(&mut self, what: &str, holds: bool) {
        if !holds {
            self.broken.get_or_insert_with(|| what.to_owned());
        }
    }
}
