//! Between replicas of the bridge: an item that was redelivered to one while its request still runs at another.
//!
//! The one that was handed the item *asks* before it starts anything; the one that began the work is *claimed* from.
//! Handing over is a move: a claimed item is no orphan any more, so its result goes to the claimant and nowhere else.

use super::dispatcher::Dispatcher;
use super::item::{Item, ItemId, Phase, Verdict};
use super::outcome::Reason;
use super::protocol::{ClaimId, Effect, Handed, Standing, Write};
use super::session::{Epoch, Identity, Settlement};

impl Dispatcher {
    /// Asks before it starts: the item waits without a slot, as it may hold one elsewhere.
    pub(super) fn ask(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        if let Some(item) = self.items.get_mut(&id) {
            let Some(delivery) = item.delivery else { return };
            item.phase = Phase::Asking;
            effects.push(Effect::Ask { item: id, id: delivery, identity: item.identity.clone() });
        }
    }

    pub(super) fn answered(&mut self, id: ItemId, handed: Option<Handed>, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(item) = self.items.get_mut(&id) else { return };
        if item.phase != Phase::Asking {
            return;
        }
        item.phase = Phase::Ready;
        let before = item.attempts;
        let (verdict, attempts) = match handed {
            None => (Verdict::Retry { until: now }, before),
            Some(handed) => self.verdict_of(handed, before),
        };
        let Some(item) = self.items.get_mut(&id) else { return };
        item.attempts = attempts;
        match item.delivery {
            Some(_) if self.draining && matches!(verdict, Verdict::Retry { .. }) => {
                self.settle(id, Settlement::Return, false, effects);
            }
            Some(delivery) => {
                if attempts > 0 && verdict != Verdict::Ack {
                    effects.push(Effect::Note { id: delivery, attempts });
                }
                self.carry_out(id, verdict, effects);
            }
            None => self.make_pending(id, verdict, effects),
        }
    }

    /// What to do, and the attempts made so far, where `Done` leaves them as they were.
    fn verdict_of(&self, handed: Handed, before: u32) -> (Verdict, u32) {
        match handed {
            Handed::Done => (Verdict::Ack, before),
            // Another replica may have been given other rules.
            Handed::Retry { attempts, .. } if attempts >= self.policy.retry.attempts => {
                (Verdict::Write(Write::DeadLetter { reason: Reason::Attempts, attempts }), attempts)
            }
            Handed::Retry { attempts, delay } => {
                (Verdict::Retry { until: self.now.saturating_add(delay) }, attempts)
            }
            Handed::Failed { reason, attempts } => {
                (Verdict::Write(Write::DeadLetter { reason, attempts }), attempts)
            }
            Handed::Held { reason, attempts } => (Verdict::Hold { reason }, attempts),
        }
    }

    /// The session under whose delivery an item like this is in hand. It may be dead without our knowing: prove it
    /// alive, and then [claim](super::Input::Claim).
    pub fn in_hand(&self, identity: &Identity) -> Option<Epoch> {
        let same = self.items.values().filter(|item| item.identity == *identity);
        same.filter_map(|item| item.delivery).map(|delivery| delivery.epoch).next()
    }

    pub fn has_orphan(&self, identity: &Identity) -> bool {
        self.orphans.contains_key(identity)
    }

    /// Records of a partition that are in hand, whatever their state: the offsets that another replica has to
    /// claim before it runs them.
    pub fn offsets_in_hand(&self, of_topic: &str, of_partition: i32) -> Vec<i64> {
        let offset = |identity: &Identity| match identity {
            Identity::Record { topic, partition, offset, .. }
                if **topic == *of_topic && *partition == of_partition =>
            {
                Some(*offset)
            }
            _ => None,
        };
        self.items
            .values()
            .filter(|item| is_begun(item.phase))
            .filter_map(|item| offset(&item.identity))
            .collect()
    }

    /// What was handed over is not needed there after all, so it is for whoever asks next.
    pub(super) fn take_back(&mut self, identity: Identity, handed: Handed, effects: &mut Vec<Effect>) {
        let id = self.new_item_id();
        let (verdict, attempts) = self.verdict_of(handed, 0);
        self.items.insert(id, Item::orphan(identity, attempts));
        self.list_orphan(id);
        self.make_pending(id, verdict, effects);
    }

    pub(super) fn claim(&mut self, claim: ClaimId, identity: &Identity, effects: &mut Vec<Effect>) {
        let Some(id) = self.pop_orphan(identity) else {
            return effects.push(Effect::Claimed { claim, standing: Standing::NotYours });
        };
        self.claims.insert(claim, id);
        let Some(item) = self.items.get_mut(&id) else { return };
        item.claim = Some(claim);
        if matches!(item.phase, Phase::Pending { .. }) {
            return self.hand_over(id, effects);
        }
        effects.push(Effect::Claimed { claim, standing: Standing::Running });
    }

    /// The item is an orphan again, for whoever asks next.
    pub(super) fn unclaim(&mut self, claim: ClaimId, effects: &mut Vec<Effect>) {
        let Some(id) = self.claims.remove(&claim) else { return };
        let Some(item) = self.items.get_mut(&id) else { return };
        item.claim = None;
        let phase = item.phase;
        self.list_orphan(id);
        if let Phase::WriteWait { write, .. } = phase {
            self.make_pending(id, Verdict::Write(write), effects);
        }
    }

    /// Gives what was decided to the replica that claimed it. An answer that is to be written is written first: it
    /// can't travel.
    pub(super) fn hand_over(&mut self, id: ItemId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(item) = self.items.get_mut(&id) else { return };
        let (Phase::Pending { verdict, .. }, Some(claim)) = (item.phase, item.claim) else { return };
        self.pending -= 1;
        let attempts = item.attempts;
        let handed = match verdict {
            Verdict::Ack => Handed::Done,
            Verdict::Retry { until } => Handed::Retry { attempts, delay: until.saturating_sub(now) },
            Verdict::Write(Write::DeadLetter { reason, attempts }) => Handed::Failed { reason, attempts },
            Verdict::Write(Write::Park { attempts, delay }) => Handed::Retry { attempts, delay },
            Verdict::Hold { reason } => Handed::Held { reason, attempts },
            Verdict::Write(Write::Reply) => {
                self.bytes += item.bytes;
                effects.push(Effect::Claimed { claim, standing: Standing::Running });
                return self.write(id, Write::Reply, effects);
            }
        };
        self.claims.remove(&claim);
        effects.push(Effect::Claimed { claim, standing: Standing::Handed(handed) });
        self.forget(id, effects);
    }
}

/// Whether work was begun that another replica should not begin again.
fn is_begun(phase: Phase) -> bool {
    !matches!(phase, Phase::Ready | Phase::Behind(_))
}
