//! Answers the questions of other replicas: numbers their claims for the core, and passes the
//! core's answers on.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::{Pipeline, verdict};
use crate::delivery::{ClaimId, Identity, Input, LogId, Standing};
use crate::peers::ItemStatus;

/// A question of another replica. The admin server passes it on.
#[derive(Debug)]
pub enum Question {
    Claim {
        asker: Asker,
        identity: String,
        answer: oneshot::Sender<ItemStatus>,
        when: When,
    },
    /// About one partition of a topic, in this log.
    InFlight {
        place: (LogId, String, i32),
        answer: oneshot::Sender<Vec<i64>>,
    },
    Release {
        asker: Asker,
    },
    Stay {
        answer: oneshot::Sender<bool>,
    },
}

/// The delivery of another replica that needs a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    pub instance: String,
    pub delivery: String,
}

/// The time at which a claim on a running item is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    AtItsEnd,
}

/// The questions that wait for an answer. The state of each claim is in the core.
#[derive(Default)]
pub(super) struct Claims {
    by_asker: HashMap<Asker, ClaimId>,
    waiting: HashMap<ClaimId, Waiting>,
    /// Claims whose result was just sent. They are reported to the core next.
    pub(super) fetched: Vec<ClaimId>,
    latest: u64,
}

struct Waiting {
    asker: Asker,
    answers: Vec<(When, oneshot::Sender<ItemStatus>)>,
}

impl Pipeline {
    pub(super) fn question(&mut self, question: Question) {
        match question {
            Question::Claim { asker, identity, answer, when } => {
                let Some(identity) = Identity::parse(&identity) else {
                    return drop(answer.send(ItemStatus::Unknown));
                };
                let claim = self.claims.ask(asker, when, answer);
                self.handle(Input::Claim { claim, identity });
            }
            Question::InFlight { place: (log, topic, partition), answer } => {
                // An asker that is gone needs no answer.
                let _ = answer.send(self.core.offsets_in_hand(log, &topic, partition));
            }
            Question::Release { asker } => {
                if let Some(claim) = self.claims.by_asker.get(&asker).copied() {
                    self.handle(Input::ClaimReleased { claim });
                }
            }
            Question::Stay { answer } => drop(answer.send(!self.core.is_draining())),
        }
    }
}

impl Claims {
    /// Returns the number of this asker's claim. The same asker always gets the same number.
    fn ask(&mut self, asker: Asker, when: When, answer: oneshot::Sender<ItemStatus>) -> ClaimId {
        let claim = *self.by_asker.entry(asker.clone()).or_insert_with(|| {
            self.latest += 1;
            ClaimId(self.latest)
        });
        let waiting = self.waiting.entry(claim);
        let waiting = waiting.or_insert_with(|| Waiting { asker, answers: Vec::new() });
        waiting.answers.retain(|(_, answer)| !answer.is_closed());
        waiting.answers.push((when, answer));
        claim
    }

    pub(super) fn answer(&mut self, claim: ClaimId, standing: Standing) {
        let Some(waiting) = self.waiting.get_mut(&claim) else { return };
        let status = match standing {
            Standing::Unknown => ItemStatus::Unknown,
            Standing::NotYours => ItemStatus::NotYours,
            Standing::Running => ItemStatus::Running,
            Standing::Handed(handed) => ItemStatus::Finished(verdict::write(handed)),
        };
        let is_end = status != ItemStatus::Running;
        for (when, answer) in std::mem::take(&mut waiting.answers) {
            if is_end || when == When::Now {
                let is_sent = answer.send(status.clone()).is_ok();
                if is_sent && matches!(standing, Standing::Handed(_)) {
                    self.fetched.push(claim);
                }
            } else if !answer.is_closed() {
                waiting.answers.push((when, answer));
            }
        }
    }

    pub(super) fn end(&mut self, claim: ClaimId) {
        if let Some(waiting) = self.waiting.remove(&claim) {
            self.by_asker.remove(&waiting.asker);
        }
    }

    /// Returns the name of the replica that made the claim, for people.
    pub(super) fn asker(&self, claim: ClaimId) -> String {
        self.waiting.get(&claim).map(|waiting| waiting.asker.instance.clone()).unwrap_or_default()
    }
}
