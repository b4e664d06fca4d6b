//! The answering side of several replicas: another one was handed an item that may run here.
//!
//! The core decides what is handed over, and to which claim. Here is who made the claim: a question is put again and
//! again until it has its result, and each time gets the same answer.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Pipeline, verdict};
use crate::delivery::{ClaimId, Epoch, Handed, Identity, Input, Standing};
use crate::peers::Status;
use crate::source::Command;

/// A claim that nobody asked about for this long is no claim any more. An asker asks every 20 seconds, and four times
/// again where it gets no answer.
const LEASE: Duration = Duration::from_secs(60);

/// How long a result is kept at the end of a drain for an asker that is between two questions.
const FETCH: Duration = Duration::from_secs(5);

/// A question of another replica, as the admin server passes it on.
#[derive(Debug)]
pub enum Question {
    Claim { asker: Asker, identity: String, answer: oneshot::Sender<Status>, when: When },
    InFlight { topic: String, partition: i32, answer: oneshot::Sender<Vec<i64>> },
    Release { asker: Asker },
    Stay { answer: oneshot::Sender<bool> },
}

/// Which delivery of which replica a result is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    pub instance: String,
    pub delivery: String,
}

/// When a claim on something that runs is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    AtItsEnd,
}

#[derive(Default)]
pub(super) struct Claims {
    by_asker: HashMap<Asker, ClaimId>,
    claims: HashMap<ClaimId, Claim>,
    latest: u64,
}

struct Claim {
    asker: Asker,
    identity: Identity,
    state: State,
    asked: Instant,
    /// Its result was sent once.
    fetched: bool,
    waiting: Vec<(When, oneshot::Sender<Status>)>,
}

enum State {
    /// In hand under a session that may be dead: the broker is asked.
    Doubted(Epoch),
    Running,
    Handed(Handed),
}

impl Pipeline {
    pub(super) fn question(&mut self, question: Question) {
        self.drop_stale_claims();
        match question {
            Question::Claim { asker, identity, answer, when } => self.claim(asker, &identity, when, answer),
            Question::InFlight { topic, partition, answer } => {
                // An asker that is gone needs no answer.
                let _ = answer.send(self.core.offsets_in_hand(&topic, partition));
            }
            Question::Release { asker } => self.release(&asker),
            Question::Stay { answer } => drop(answer.send(!self.core.is_draining())),
        }
    }

    fn claim(&mut self, asker: Asker, identity: &str, when: When, answer: oneshot::Sender<Status>) {
        if let Some(id) = self.claims.by_asker.get(&asker).copied() {
            return self.asked_again(id, when, answer);
        }
        let Some(identity) = Identity::parse(identity) else {
            return drop(answer.send(Status::Unknown));
        };
        self.claims.latest += 1;
        let id = ClaimId(self.claims.latest);
        let doubted = self.core.in_hand(&identity).filter(|_| !self.core.has_orphan(&identity));
        let state = doubted.map_or(State::Running, State::Doubted);
        let claim = Claim {
            asker: asker.clone(),
            identity: identity.clone(),
            state,
            asked: Instant::now(),
            fetched: false,
            waiting: vec![(when, answer)],
        };
        self.claims.by_asker.insert(asker, id);
        self.claims.claims.insert(id, claim);
        match doubted {
            // The broker gave the item to another: perhaps our session is dead, and nobody has told us.
            Some(epoch) => drop(self.port.commands.send(Command::Prove { epoch })),
            None => self.handle(Input::Claim { claim: id, identity }),
        }
    }

    fn asked_again(&mut self, id: ClaimId, when: When, answer: oneshot::Sender<Status>) {
        let Some(claim) = self.claims.claims.get_mut(&id) else { return };
        claim.asked = Instant::now();
        claim.waiting.push((when, answer));
        claim.tell();
    }

    /// The core's word on a claim.
    pub(super) fn claimed(&mut self, id: ClaimId, standing: Standing) {
        let Some(claim) = self.claims.claims.get_mut(&id) else { return };
        match standing {
            Standing::NotYours => return self.refuse(id, &Status::Unknown),
            Standing::Running => claim.state = State::Running,
            Standing::Handed(handed) => {
                self.shared.metrics.handed_over.inc();
                tracing::info!(
                    pipeline = self.shared.name, identity = %claim.identity, asker = claim.asker.instance, ?handed,
                    "Result handed to the replica that was given the item"
                );
                claim.state = State::Handed(handed);
                claim.asked = Instant::now();
            }
        }
        claim.tell();
    }

    /// A session was shown to be alive: what is in hand under it stays here.
    pub(super) fn alive(&mut self, epoch: Epoch) {
        for id in self.claims.doubted(epoch) {
            self.refuse(id, &Status::NotYours);
        }
    }

    /// A session is lost: what was in hand under it can be claimed.
    pub(super) fn claim_lost(&mut self, epoch: Epoch) {
        for id in self.claims.doubted(epoch) {
            let Some(claim) = self.claims.claims.get_mut(&id) else { continue };
            claim.state = State::Running;
            let identity = claim.identity.clone();
            self.handle(Input::Claim { claim: id, identity });
        }
    }

    fn refuse(&mut self, id: ClaimId, status: &Status) {
        let Some(claim) = self.claims.remove(id) else { return };
        for (_, answer) in claim.waiting {
            let _ = answer.send(status.clone());
        }
    }

    fn release(&mut self, asker: &Asker) {
        let Some(id) = self.claims.by_asker.get(asker).copied() else { return };
        let Some(claim) = self.claims.remove(id) else { return };
        match claim.state {
            State::Doubted(_) => {}
            State::Running => self.handle(Input::Unclaim { claim: id }),
            State::Handed(handed) => self.handle(Input::TakeBack { identity: claim.identity, handed }),
        }
    }

    /// Whoever made these is gone, or has what it wanted.
    fn drop_stale_claims(&mut self) {
        let stale = |claim: &Claim| claim.asked.elapsed() > LEASE;
        let ids: Vec<ClaimId> =
            self.claims.claims.iter().filter(|(_, claim)| stale(claim)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(Claim { state: State::Running, .. }) = self.claims.remove(id) {
                self.handle(Input::Unclaim { claim: id });
            }
        }
    }
}

impl Claim {
    /// Answers those that need not wait longer.
    fn tell(&mut self) {
        let status = match self.state {
            State::Doubted(_) => return,
            State::Running => Status::Running,
            State::Handed(handed) => Status::Finished(verdict::write(handed)),
        };
        let is_end = status != Status::Running;
        for (when, answer) in std::mem::take(&mut self.waiting) {
            if is_end || when == When::Now {
                self.fetched |= answer.send(status.clone()).is_ok() && is_end;
            } else if !answer.is_closed() {
                self.waiting.push((when, answer));
            }
        }
    }
}

impl Claims {
    /// Whether somebody is about to fetch a result: an asker puts its question anew at once.
    pub(super) fn are_owed(&self) -> bool {
        let owed = |claim: &Claim| {
            matches!(claim.state, State::Handed(_)) && !claim.fetched && claim.asked.elapsed() < FETCH
        };
        self.claims.values().any(owed)
    }

    fn remove(&mut self, id: ClaimId) -> Option<Claim> {
        let claim = self.claims.remove(&id)?;
        self.by_asker.remove(&claim.asker);
        Some(claim)
    }

    fn doubted(&self, epoch: Epoch) -> Vec<ClaimId> {
        let is_doubted = |claim: &Claim| matches!(claim.state, State::Doubted(doubted) if doubted == epoch);
        self.claims.iter().filter(|(_, claim)| is_doubted(claim)).map(|(id, _)| *id).collect()
    }
}
