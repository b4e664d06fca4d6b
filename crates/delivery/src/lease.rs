//! Every time of the protocol between replicas, in one place, because the times must fit together.
//!
//! The asker (`peers::client`) asks for an item and then polls until the item ends. The owner
//! (`claims`) keeps the result for the asker for as long as the asker may still be polling.

use std::time::Duration;

/// How long the asker lets the owner hold a question while the request runs.
pub const POLL: Duration = Duration::from_secs(20);

/// The least time between two questions to the same replica.
pub const PAUSE: Duration = Duration::from_millis(500);

/// Questions in a row without an answer after which the asker gives the owner up. One lost
/// connection must not cost hours of work.
pub const TRIES: u32 = 4;

/// The longest `peers.timeout` that the configuration accepts: the time for one question.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// How much longer the first answer may take: the owner may have to ask its broker whether its
/// session lives.
pub const PROOF: Duration = Duration::from_secs(12);

/// A claim ends when its asker has not asked for this long. The asker's result is then free for
/// another one.
pub const LEASE: Duration = Duration::from_secs(180);

/// How long a result is kept at the end of a drain for an asker that is between two questions.
pub const FETCH: Duration = Duration::from_secs(5);

/// How long a decided orphan waits after the start of a drain for another replica, or for a
/// redelivery.
pub const HAND_OVER: Duration = Duration::from_secs(30);

/// The longest time between two questions of an asker that has not given up: a poll that ends
/// without an answer, and all further tries but the last.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(
    POLL.as_secs() + PROOF.as_secs() + TRIES as u64 * (TIMEOUT_MAX.as_secs() + PAUSE.as_secs() + 1),
);

const _: () =
    assert!(LONGEST_SILENCE.as_secs() < LEASE.as_secs(), "a claim must outlive every asker that still polls");
const _: () = assert!(FETCH.as_secs() < HAND_OVER.as_secs(), "a drain must leave time for a second question");
