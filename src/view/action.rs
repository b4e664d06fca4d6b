//! Actions of people on items and partitions.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An action on items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Make the next attempt, or repeat the failed write, without a further wait.
    Retry,
    /// Ack without success.
    Drop,
    /// Write the dead letter, then ack.
    DeadLetter,
    /// Keep it with the broker until a person decides.
    Hold,
    /// End the hold; an item that failed for good gets all its attempts again.
    Release,
    /// Close the running request.
    Cancel,
}

/// The next step of a cancelled item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is tried again after its backoff.
    #[default]
    Requeue,
    /// Its dead letter is written, then it is acked.
    DeadLetter,
    /// It is acked without success.
    Drop,
}

impl Action {
    pub const ALL: [Action; 6] =
        [Action::Retry, Action::Drop, Action::DeadLetter, Action::Hold, Action::Release, Action::Cancel];

    pub fn as_str(self) -> &'static str {
        match self {
            Action::Retry => "retry",
            Action::Drop => "drop",
            Action::DeadLetter => "dead-letter",
            Action::Hold => "hold",
            Action::Release => "release",
            Action::Cancel => "cancel",
        }
    }
}

impl Then {
    pub const ALL: [Then; 3] = [Then::Requeue, Then::DeadLetter, Then::Drop];

    pub fn as_str(self) -> &'static str {
        match self {
            Then::Requeue => "requeue",
            Then::DeadLetter => "dead-letter",
            Then::Drop => "drop",
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Action::ALL.into_iter().find(|action| action.as_str() == text);
        let names = Action::ALL.map(Action::as_str).join(", ");
        found.ok_or_else(|| format!("{text:?} is not an action; the actions are {names}"))
    }
}

impl FromStr for Then {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Then::ALL.into_iter().find(|then| then.as_str() == text);
        let names = Then::ALL.map(Then::as_str).join(", ");
        found.ok_or_else(|| format!("{text:?} is not a step after a cancel; the steps are {names}"))
    }
}
