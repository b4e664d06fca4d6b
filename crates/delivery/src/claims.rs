//! Claims between replicas, for an item that the broker handed to one replica while its request
//! still runs at another.
//!
//! The replica that was handed the item is the *claimant*. Before it starts the item, it asks all
//! other replicas, again and again until it knows the result. The replica that began the work (this
//! code) answers each question with a [`Standing`], and keeps the claim in one of these states:
//!
//! ```text
//!            the item has a delivery here           the item is an orphan
//!                        │                                    │
//!                        ▼       session is lost              ▼     request ends
//!                     Doubted ─────────────────────────►  Pledged ────────────────► Handed
//!                        │                                    │                        │
//!                        ▼ session is alive                   └───────────┬────────────┘
//!             answer NotYours, no claim                                   ▼
//!                                                      a later claimant asks: Closed
//! ```
//!
//! A claim for an item that nobody knows here gets the answer `Unknown`, and a claim for a
//! redundant delivery the answer `Done`. Both are over at once.
//!
//! Every other claim ends when its claimant does not ask again for [`LEASE`], or releases it. If
//! the claimant fell silent after it had fetched the result, the item is forgotten, so only one
//! replica carries the result out. In all other cases the item is an orphan again.
//!
//! The broker hands an item to one replica at a time. So a later claimant replaces an earlier one,
//! which may be dead.

use std::collections::{BTreeMap, BTreeSet};

use super::dispatcher::Dispatcher;
use super::item::{Decision, Doing, End, Item, ItemId, Keep, Left, Place};
use super::lease::{FETCH, LEASE};
use super::outcome::Reason;
use super::protocol::{ClaimId, Command, Effect, Handed, Notice, Remains, Standing, Time, Write};
use super::session::{Epoch, Identity, LogId};

/// All claims on this replica, and the timer of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Claims {
    by_id: BTreeMap<ClaimId, Claim>,
    timers: BTreeSet<(Time, ClaimId)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    identity: Identity,
    state: State,
    /// When the claim ends if its claimant is silent; in a drain, the latest time to fetch the
    /// result.
    due: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// The item has a delivery of this session, which may be dead, so the broker is asked whether
    /// it knows the session.
    Doubted(Epoch),
    /// The result of this item will go to the claimant.
    Pledged(ItemId),
    /// The claimant has this result, or gets it again with its next question.
    Handed(ItemId, Handed),
    /// The final answer does not depend on an item any more. It is kept so that a repeated question
    /// gets the same answer.
    Closed(Standing),
}

impl Claims {
    pub fn timeout(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    pub fn due(&self, now: Time) -> Option<ClaimId> {
        self.timers.first().filter(|(time, _)| *time <= now).map(|(_, claim)| *claim)
    }

    /// Adds a claim, or replaces it. Only this function and [`Claims::remove`] change a claim.
    fn put(&mut self, id: ClaimId, claim: Claim) {
        self.remove(id);
        self.timers.insert((claim.due, id));
        self.by_id.insert(id, claim);
    }

    fn remove(&mut self, id: ClaimId) -> Option<Claim> {
        let claim = self.by_id.remove(&id)?;
        self.timers.remove(&(claim.due, id));
        Some(claim)
    }

    /// Returns the claims for which `test` returns true, oldest first.
    fn ids_where(&self, test: impl Fn(&Claim) -> bool) -> Vec<ClaimId> {
        self.by_id.iter().filter(|(_, claim)| test(claim)).map(|(id, _)| *id).collect()
    }

    fn update(&mut self, id: ClaimId, change: impl FnOnce(&mut Claim)) {
        if let Some(mut claim) = self.by_id.get(&id).cloned() {
            change(&mut claim);
            self.put(id, claim);
        }
    }
}

impl Dispatcher {
    /// Handles the question of another replica, or its repetition.
    pub(super) fn claim(&mut self, id: ClaimId, identity: &Identity, effects: &mut Vec<Effect>) {
        let due = self.now.saturating_add(LEASE);
        if self.claims.by_id.contains_key(&id) {
            self.claims.update(id, |claim| claim.due = claim.due.max(due));
            return self.answer(id, effects);
        }
        self.end_doubts(identity, effects);
        let state = self.open(identity, effects);
        if let State::Closed(standing @ (Standing::Unknown | Standing::NotYours)) = state {
            // There is nothing to remember: the same question gets the same answer.
            return self.close(id, standing, effects);
        }
        self.claims.put(id, Claim { identity: identity.clone(), state, due });
        match state {
            State::Doubted(epoch) => effects.push(Effect::Do(Command::Prove { epoch })),
            State::Pledged(item) => self.pledge(id, item, effects),
            State::Handed(..) | State::Closed(_) => {}
        }
        self.answer(id, effects);
    }

    /// Ends the earlier claims for the same delivery that wait for the broker's answer. Their
    /// claimants do not have the delivery any more.
    fn end_doubts(&mut self, identity: &Identity, effects: &mut Vec<Effect>) {
        let is_doubted =
            |claim: &Claim| matches!(claim.state, State::Doubted(_)) && claim.identity == *identity;
        for earlier in self.claims.ids_where(is_doubted) {
            self.close(earlier, Standing::Unknown, effects);
        }
    }

    /// Gives the final answer to a claim that has taken no item, and forgets the claim.
    fn close(&mut self, id: ClaimId, standing: Standing, effects: &mut Vec<Effect>) {
        self.claims.remove(id);
        effects.push(Effect::Do(Command::AnswerClaim { claim: id, standing }));
        effects.push(Effect::Do(Command::EndClaim { claim: id }));
    }

    /// Finds the item of a new claim, and returns the claim's first state. May end an earlier claim
    /// for the same delivery.
    fn open(&mut self, identity: &Identity, effects: &mut Vec<Effect>) -> State {
        if let Some(item) = self.items.expecting(identity) {
            return self.open_expected(item, identity, effects);
        }
        if let Some(item) = self.supersede(identity, effects) {
            return State::Pledged(item);
        }
        let live = self.items.iter().find_map(|(_, item)| match &item.place {
            Place::Live { delivery, name, .. } if name == identity => Some(delivery.epoch),
            _ => None,
        });
        // The broker gave the item to another replica: perhaps this session is dead, and nobody has
        // noticed.
        live.map_or(State::Closed(Standing::Unknown), State::Doubted)
    }

    /// Returns the first state of a claim for a delivery that this item expects: the broker was
    /// going to hand it over here, as a redelivery or as a copy.
    fn open_expected(&mut self, id: ItemId, identity: &Identity, effects: &mut Vec<Effect>) -> State {
        let Some(item) = self.items.get(id) else { return State::Closed(Standing::Unknown) };
        if !matches!(item.place, Place::Live { .. }) {
            return State::Pledged(id);
        }
        if item.is_copying() && !matches!(item.doing(), Some(Doing::Settling(_) | Doing::Acked)) {
            // The claimant has the copy that was written to replace the delivery here.
            self.copy_arrived_elsewhere(id, effects);
            return State::Pledged(id);
        }
        // The item has another delivery here, so the delivery of the claimant is redundant.
        self.items.edit(id, |item| item.take_expected(identity));
        State::Closed(Standing::Handed(Handed::Done))
    }

    /// Returns the claim for the same delivery whose result nobody has fetched.
    fn open_claim(&self, identity: &Identity) -> Option<ClaimId> {
        let is_open = |claim: &Claim| match claim.state {
            State::Pledged(_) => true,
            State::Handed(item, _) => self.items.get(item).is_some_and(|item| !item.is_remembered()),
            State::Doubted(_) | State::Closed(_) => false,
        };
        let mut same = self.claims.by_id.iter().filter(|(_, claim)| claim.identity == *identity);
        same.find(|(_, claim)| is_open(claim)).map(|(other, _)| *other)
    }

    /// Returns the item that was promised to a claim for the same delivery.
    pub(super) fn claimed_item(&self, identity: &Identity) -> Option<ItemId> {
        match self.claims.by_id.get(&self.open_claim(identity)?)?.state {
            State::Pledged(item) | State::Handed(item, _) => Some(item),
            State::Doubted(_) | State::Closed(_) => None,
        }
    }

    /// Ends an earlier claim, because its claimant does not have the delivery any more. Its item is
    /// an orphan again.
    pub(super) fn supersede(&mut self, identity: &Identity, effects: &mut Vec<Effect>) -> Option<ItemId> {
        let (earlier, item) = (self.open_claim(identity)?, self.claimed_item(identity)?);
        self.claims.update(earlier, |claim| claim.state = State::Closed(Standing::Unknown));
        self.answer(earlier, effects);
        self.take_back(item);
        Some(item)
    }

    fn pledge(&mut self, claim: ClaimId, id: ItemId, effects: &mut Vec<Effect>) {
        let Some(Place::Orphan { doing, .. }) = self.items.get(id).map(|item| &item.place) else { return };
        let doing = *doing;
        self.items.edit(id, |item| item.place = Place::Claimed { by: claim, doing });
        if let Left::Decided(decision) = doing {
            self.hand_over(id, claim, decision, effects);
        }
    }

    /// Gives the decision about an item to the replica that claimed it. A reply is written first,
    /// because its bytes are only here; the end of that write leads back to this function.
    pub(super) fn hand_over(
        &mut self,
        id: ItemId,
        claim: ClaimId,
        decision: Decision,
        effects: &mut Vec<Effect>,
    ) {
        let Some(item) = self.items.get(id) else { return };
        let Some(handed) = self.handed(decision, item.attempts) else {
            return self.write(id, Write::Reply, effects);
        };
        self.items.edit(id, |item| {
            item.place = Place::Handed { to: claim, decision, spent: false };
            item.message_bytes = 0;
            item.answer_bytes = 0;
        });
        effects.push(Effect::Do(Command::Release { item: id, remains: Remains::Id }));
        let due = self.now.saturating_add(if self.draining { FETCH } else { LEASE });
        self.claims.update(claim, |claim| {
            claim.state = State::Handed(id, handed);
            claim.due = due;
        });
        if let Some(Claim { identity, .. }) = self.claims.by_id.get(&claim) {
            let identity = identity.clone();
            effects.push(Effect::Tell(Notice::HandedOver { claim, identity, handed }));
        }
        self.answer(claim, effects);
    }

    /// Converts a decision to the result that is handed over; `None` for a reply, which must be
    /// written first.
    fn handed(&self, decision: Decision, attempts: u32) -> Option<Handed> {
        Some(match decision {
            Decision::Ack => Handed::Done,
            Decision::Retry { until } => Handed::Retry { attempts, delay: until.saturating_sub(self.now) },
            Decision::Write(Write::DeadLetter { reason, attempts }) => Handed::Failed { reason, attempts },
            Decision::Write(Write::Park { attempts, delay, .. }) => Handed::Retry { attempts, delay },
            Decision::Write(Write::Reply) => return None,
            Decision::Hold { reason } => Handed::Held { reason, attempts },
        })
    }

    /// Answers a claim with its standing, unless the broker's answer is awaited.
    fn answer(&self, id: ClaimId, effects: &mut Vec<Effect>) {
        let standing = match self.claims.by_id.get(&id).map(|claim| claim.state) {
            None | Some(State::Doubted(_)) => return,
            Some(State::Pledged(_)) => Standing::Running,
            Some(State::Handed(_, handed)) => Standing::Handed(handed),
            Some(State::Closed(standing)) => standing,
        };
        effects.push(Effect::Do(Command::AnswerClaim { claim: id, standing }));
    }

    /// Refuses the claims on items of a session that is alive, because it will settle them.
    pub(super) fn session_alive(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        for id in self.claims.ids_where(|claim| claim.state == State::Doubted(epoch)) {
            self.close(id, Standing::NotYours, effects);
        }
    }

    /// Answers the claims on items of a session that is lost, because now they can be claimed.
    pub(super) fn doubts_confirmed(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        let doubted = self.claims.ids_where(|claim| claim.state == State::Doubted(epoch));
        let claims: Vec<_> =
            doubted.into_iter().filter_map(|id| Some((id, self.claims.remove(id)?))).collect();
        for (id, claim) in claims {
            self.claim(id, &claim.identity, effects);
        }
    }

    /// Records that the claimant has received its result.
    pub(super) fn fetched(&mut self, id: ClaimId) {
        if let Some(State::Handed(item, _)) = self.claims.by_id.get(&id).map(|claim| claim.state) {
            self.spend(item);
        }
    }

    /// Ends a claim whose claimant does not need the result.
    pub(super) fn released(&mut self, id: ClaimId, effects: &mut Vec<Effect>) {
        self.end(id, effects, |_| true);
    }

    /// Handles a claim whose claimant was silent for too long.
    pub(super) fn claim_timer(&mut self, id: ClaimId, effects: &mut Vec<Effect>) {
        let Some(claim) = self.claims.by_id.get(&id) else { return };
        if let State::Handed(item, _) = claim.state
            && self.draining
            && !self.items.get(item).is_some_and(Item::is_remembered)
        {
            // Nobody fetched the result in time. The drain does not wait for it any more, but the
            // claimant may still ask for it during one more lease.
            self.spend(item);
            let due = self.now.saturating_add(LEASE);
            return self.claims.update(id, |claim| claim.due = due);
        }
        self.end(id, effects, |item| !item.is_remembered());
    }

    /// Records that the item is kept only to answer a repeated question.
    fn spend(&mut self, id: ItemId) {
        self.items.edit(id, |item| {
            if let Place::Handed { spent, .. } = &mut item.place {
                *spent = true;
            }
        });
    }

    /// Ends a claim. If `keeps` returns true, its item becomes an orphan again, else the item is
    /// forgotten.
    fn end(&mut self, id: ClaimId, effects: &mut Vec<Effect>, keeps: impl Fn(&Item) -> bool) {
        let Some(claim) = self.claims.by_id.get(&id) else { return };
        let state = claim.state;
        if let State::Doubted(_) = state {
            return self.close(id, Standing::Unknown, effects);
        }
        self.claims.remove(id);
        effects.push(Effect::Do(Command::EndClaim { claim: id }));
        let (State::Pledged(item) | State::Handed(item, _)) = state else { return };
        if !self.items.get(item).is_some_and(keeps) {
            return self.forget(item, effects);
        }
        self.take_back(item);
        if let Some(Place::Orphan { doing: Left::Decided(decision), .. }) =
            self.items.get(item).map(|item| &item.place)
        {
            self.decide(item, *decision, effects);
        }
    }

    /// Makes a claimed item an orphan again.
    fn take_back(&mut self, id: ItemId) {
        let keep = Keep { until: None, owed: true };
        self.items.edit(id, |item| {
            let doing = match item.place {
                Place::Claimed { doing: Left::WriteWait { write, .. }, .. } => {
                    Left::Decided(Decision::Write(write))
                }
                Place::Claimed { doing, .. } => doing,
                Place::Handed { decision, .. } => Left::Decided(decision),
                Place::Live { .. } | Place::Orphan { .. } => return,
            };
            item.place = Place::Orphan { doing, keep };
        });
    }

    /// Shortens the leases in a drain, so that a result is kept only until its claimant can ask
    /// once more.
    pub(super) fn hasten_claims(&mut self) {
        let due = self.now.saturating_add(FETCH);
        for id in self.claims.ids_where(|claim| matches!(claim.state, State::Handed(..))) {
            self.claims.update(id, |claim| claim.due = claim.due.min(due));
        }
    }

    /// Handles the answer of the other replicas to [`Command::AskPeers`].
    pub(super) fn answered(&mut self, id: ItemId, handed: Option<Handed>, effects: &mut Vec<Effect>) {
        let Some(item) = self.items.get(id) else { return };
        let is_asking = match item.place {
            Place::Live { doing, .. } => doing == Doing::Asking,
            Place::Orphan { doing, .. } | Place::Claimed { doing, .. } => doing == Left::Asking,
            Place::Handed { .. } => false,
        };
        if !is_asking {
            return;
        }
        let (decision, attempts) = match handed {
            None => (Decision::Retry { until: self.now }, item.attempts),
            Some(handed) => self.decision_of(handed, item.attempts),
        };
        self.items.edit(id, |item| item.attempts = attempts);
        let Some(item) = self.items.get(id) else { return };
        let Place::Live { delivery, .. } = item.place else { return self.decide(id, decision, effects) };
        let next = self.pursue(item, decision, delivery.epoch);
        if attempts > 0 && !matches!(next, Doing::Settling(End::Ack)) {
            effects.push(Effect::Do(Command::Note { delivery, attempts }));
        }
        self.enter(id, next, effects);
    }

    /// Converts a result of another replica to a decision and the attempts so far.
    fn decision_of(&self, handed: Handed, before: u32) -> (Decision, u32) {
        match handed {
            Handed::Done => (Decision::Ack, before),
            // The configuration of the other replica may allow more attempts.
            Handed::Retry { attempts, .. } if attempts >= self.policy.retry.attempts => {
                (Decision::Write(Write::DeadLetter { reason: Reason::Attempts, attempts }), attempts)
            }
            Handed::Retry { attempts, delay } => {
                (Decision::Retry { until: self.now.saturating_add(delay) }, attempts)
            }
            Handed::Failed { reason, attempts } => {
                (Decision::Write(Write::DeadLetter { reason, attempts }), attempts)
            }
            Handed::Held { reason, attempts } => (Decision::Hold { reason }, attempts),
        }
    }

    /// Returns the offsets of the records of a partition's log that have been started here. Another
    /// replica must claim such a record before it starts the record.
    pub fn offsets_in_hand(&self, of_log: LogId, of_topic: &str, of_partition: i32) -> Vec<i64> {
        let offset = |name: &Identity| match name {
            Identity::Record { log, topic, partition, offset, .. }
                if *log == of_log && **topic == *of_topic && *partition == of_partition =>
            {
                Some(*offset)
            }
            _ => None,
        };
        let begun = self.items.iter().filter(|(_, item)| item.doing() != Some(Doing::Ready));
        let names = begun.filter_map(|(_, item)| match &item.place {
            Place::Live { name, .. } => Some(name),
            _ => item.expected.first(),
        });
        names.filter_map(offset).collect()
    }
}
