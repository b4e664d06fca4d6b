//! Other replicas that the broker gave an item, and that ask this one for it.
//!
//! An asker asks, hears an answer or loses it, and asks again. It may die at any moment; the broker
//! then takes its item back and may hand it to the next replica, which asks too.

use longhaul_delivery::{ClaimId, Handed, Input, Standing, Time};

use super::World;
use super::broker::Place;

/// A claim of another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asker {
    /// The broker's item that the replica was handed.
    pub(super) index: usize,
    /// The time of its last question.
    asked: Time,
    /// The answer that is on its way.
    answer: Option<Standing>,
    /// Whether the replica was told that the result is, or will be, its own.
    is_promised: bool,
}

impl World {
    pub(super) fn ask(&mut self, index: usize) {
        self.next_claim += 1;
        let claim = ClaimId(self.next_claim);
        self.stored[index].place = Place::Away;
        self.askers.insert(claim, Asker { index, asked: self.now, answer: None, is_promised: false });
        self.tell_claim(claim);
    }

    /// Repeats the question, because the answer was lost or told the asker to ask again.
    pub(super) fn ask_again(&mut self, claim: ClaimId) {
        if let Some(asker) = self.askers.get_mut(&claim) {
            asker.asked = self.now;
            asker.answer = None;
        }
        self.tell_claim(claim);
    }

    fn tell_claim(&mut self, claim: ClaimId) {
        let Some(asker) = self.askers.get(&claim) else { return };
        let identity = self.identity(asker.index);
        self.tell(Input::Claim { claim, identity });
    }

    /// Takes the core's answer. A dead asker hears nothing.
    pub(super) fn claim_answered(&mut self, claim: ClaimId, standing: Standing) {
        let Some(asker) = self.askers.get_mut(&claim) else { return };
        asker.answer = Some(standing);
        let is_broken = asker.is_promised && standing == Standing::Unknown && self.setting.unique;
        asker.is_promised |= matches!(standing, Standing::Running | Standing::Handed(_));
        let class = self.stored[asker.index].class;
        let runs_here = self.requests.values().any(|of| *of == class);
        let is_hidden = standing == Standing::Unknown && self.setting.unique && runs_here;
        self.require("G3: no running orphan is hidden from its asker", !is_hidden);
        self.require("G3: a promised result stays with its asker", !is_broken);
    }

    /// Delivers the answer to the asker.
    pub(super) fn hear(&mut self, claim: ClaimId) {
        let Some(asker) = self.askers.get_mut(&claim) else { return };
        let (index, Some(standing)) = (asker.index, asker.answer.take()) else { return };
        if standing == Standing::Running {
            return;
        }
        self.askers.remove(&claim);
        let class = self.stored[index].class;
        let ends_well = match standing {
            Standing::Handed(Handed::Done) => true,
            Standing::Handed(Handed::Failed { .. }) => {
                self.tallies[class].finished += 1;
                true
            }
            _ => false,
        };
        if ends_well {
            self.stored[index].place = Place::Gone;
            self.tallies[class].gone += 1;
        } else {
            self.tallies[class].dropped += u32::from(matches!(standing, Standing::Handed(_)));
            self.return_from_away(index);
        }
        if matches!(standing, Standing::Handed(_)) {
            self.tell(Input::ClaimFetched { claim });
        }
    }

    /// Lets the asker die. The broker takes its item back.
    pub(super) fn asker_dies(&mut self, claim: ClaimId) {
        if let Some(asker) = self.askers.remove(&claim) {
            self.return_from_away(asker.index);
        }
    }

    /// Lets the asker release the item.
    pub(super) fn asker_releases(&mut self, claim: ClaimId) {
        self.asker_dies(claim);
        self.tell(Input::ClaimReleased { claim });
    }

    /// Returns how far time may move: a living asker asks again by then.
    pub(super) fn patience_of_askers(&self) -> Time {
        self.askers.values().map(|asker| asker.asked + self.setting.silence).min().unwrap_or(Time::MAX)
    }

    /// Returns the askers that hear an answer next, and those that wait for the end.
    pub(super) fn askers_with_answer(&self) -> impl Iterator<Item = (ClaimId, Standing)> {
        self.askers.iter().filter_map(|(claim, asker)| Some((*claim, asker.answer?)))
    }
}
