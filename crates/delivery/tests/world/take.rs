//! The effect of a step: on the broker, on the worker, and as an input to the core.

use std::time::Duration;

use longhaul_delivery::{AttemptEnd, Epoch, Handed, Input, ItemId, Outcome, Settlement, Write, Written};

use super::broker::Copy;
use super::{Session, SessionState, Step, World};

impl World {
    pub fn take(&mut self, step: Step) {
        match step {
            Step::Connect => {
                self.session = Session { epoch: self.session.epoch + 1, state: SessionState::Up };
                self.tell(Input::SessionUp(Epoch(self.session.epoch)));
            }
            Step::Deliver(index) => self.deliver(index),
            Step::Complete(item, outcome) => {
                self.requests.remove(&item);
                if outcome != self.setting.outcomes[0] {
                    self.failures -= 1;
                }
                let class = self.class(item);
                if outcome == Outcome::Done {
                    self.tallies[class].finished += 1;
                }
                let has_checkpoint = self.setting.checkpoints && outcome != Outcome::Done;
                let took = Duration::from_secs(1);
                let end = AttemptEnd { outcome, took, answer_bytes: 0, has_checkpoint };
                self.tell(Input::Completed { item, end });
            }
            Step::Confirm(item) => {
                let write = self.writes.remove(&item);
                if matches!(write, Some(Write::DeadLetter { .. })) {
                    let class = self.class(item);
                    self.tallies[class].finished += 1;
                }
                if let Some(Write::Park { mark, attempts, .. }) = write {
                    self.store_copy(&Copy { class: self.class(item), mark, attempts, landed: true });
                }
                self.tell(Input::Written { item, written: Written::Confirmed });
            }
            Step::FailWrite(item) => {
                self.writes.remove(&item);
                self.write_faults -= 1;
                self.tell(Input::Written { item, written: Written::Failed });
            }
            Step::Answer => {
                let settle = self.settles.remove(0);
                let stale = !self.is_connected();
                let to_prove =
                    settle.how == Settlement::Ack && (self.setting.unique || self.is_copy(settle.id));
                if !stale {
                    // Kafka hears of acks with the next commit, RabbitMQ with each frame.
                    let is_withheld = settle.how == Settlement::Return && self.is_for_returns();
                    if !is_withheld && (settle.how == Settlement::Return || !self.setting.unique) {
                        self.apply(settle);
                    }
                    if to_prove {
                        self.sent.push(settle);
                    }
                }
                if let (true, Settlement::Ack, true, Some(class)) =
                    (stale, settle.how, self.setting.policy.targets.park, self.class_of_delivery(settle.id))
                {
                    self.tallies[class].twice += 1;
                }
                self.tell(Input::Settled { delivery: settle.id, stale });
            }
            Step::Prove => {
                for settle in std::mem::take(&mut self.sent) {
                    self.apply(settle);
                    self.tell(Input::AckConfirmed { delivery: settle.id });
                }
            }
            Step::TakeUnheard => {
                for settle in std::mem::take(&mut self.sent) {
                    self.apply(settle);
                }
            }
            Step::LandCopy(item) => self.land_copy(item),
            Step::ConfirmCopy(item) => {
                self.copying.remove(&item);
                self.tell(Input::CopyWritten { item, written: Written::Confirmed });
            }
            Step::FailCopy(item) => {
                let copy = self.copying.remove(&item);
                if let (true, Some(copy)) =
                    (self.setting.policy.targets.park, copy.filter(|copy| copy.landed))
                {
                    self.tallies[copy.class].twice += 1;
                }
                self.write_faults -= 1;
                self.tell(Input::CopyWritten { item, written: Written::Failed });
            }
            Step::AnswerAsk(item, handed) => {
                self.asks.remove(&item);
                if handed == Some(Handed::Done) {
                    let class = self.class(item);
                    self.tallies[class].finished += 1;
                }
                self.tell(Input::PeersAnswered { item, handed });
            }
            Step::Claim(index) => self.ask(index),
            Step::Hear(claim) => self.hear(claim),
            Step::LoseAnswer(claim) => {
                self.lost_answers -= 1;
                self.now = self.now.max(self.patience_of_askers());
                self.ask_again(claim);
            }
            Step::AskAgain(claim) => self.ask_again(claim),
            Step::AskerDies(claim) => self.asker_dies(claim),
            Step::AskerReleases(claim) => self.asker_releases(claim),
            Step::Alive(epoch) => {
                self.doubts.remove(&epoch);
                self.tell(Input::SessionAlive(epoch));
            }
            Step::Break(applied) => {
                self.losses -= 1;
                self.session.state = SessionState::Broken;
                self.sent.clear();
                // A settle that the broker took cannot come back as stale, because its client had
                // sent it.
                for settle in self.settles.drain(..applied).collect::<Vec<_>>() {
                    self.doubt(settle);
                    self.apply(settle);
                }
                self.take_back();
            }
            Step::NoticeLost => {
                for settle in std::mem::take(&mut self.settles) {
                    self.doubt(settle);
                }
                let parked = |(item, write): (&ItemId, &Write)| {
                    matches!(write, Write::Park { .. }).then(|| self.class(*item))
                };
                for class in self.writes.iter().filter_map(parked).collect::<Vec<_>>() {
                    self.tallies[class].twice += 1;
                }
                self.session.state = SessionState::Down;
                self.doubts.clear();
                self.tell(Input::SessionLost(Epoch(self.session.epoch)));
                self.delivered.clear();
            }
            Step::Release => {
                self.releases -= 1;
                self.session.state = SessionState::Ending;
                self.tell(Input::SessionEnding(Epoch(self.session.epoch)));
            }
            Step::GiveBack => {
                self.take_back();
                self.session.state = SessionState::Down;
                self.doubts.clear();
                self.tell(Input::SessionLost(Epoch(self.session.epoch)));
                self.delivered.clear();
            }
            Step::Stuck(id) => {
                self.stucks -= 1;
                self.tell(Input::Stuck { delivery: id });
            }
            Step::Act(item, action) => {
                self.acts -= 1;
                self.tell(Input::Act { item, action });
            }
            Step::Pause => {
                self.acts -= 1;
                self.paused_at.get_or_insert(self.now);
                self.tell(Input::Pause);
            }
            Step::Resume => {
                self.paused_for = self.paused_time();
                self.paused_at = None;
                self.tell(Input::Resume);
            }
            Step::Limit => {
                self.acts -= 1;
                self.tell(Input::Limit { most: 1 });
            }
            Step::Timer => {
                self.now = self.core.poll_timeout().unwrap_or(self.now).max(self.now);
                self.tell(Input::Timer);
            }
            Step::Drain => {
                self.stopped = Some(self.session.epoch);
                self.tell(Input::Drain);
            }
            Step::Leave => {
                self.left = true;
                self.take_back();
            }
        }
        self.check();
    }
}
