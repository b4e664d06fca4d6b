//! Carries out the requests of people. Each action leaves a line in the log here, where it is
//! carried out: the person may have left before that.

use tokio::sync::oneshot;

use super::bulk::Bulk;
use super::{Control, Person, Pipeline};
use crate::delivery::{self, Input, ItemId, StateKind};
use crate::source::{Command, StartFrom};
use crate::telemetry::ProblemKind;
use crate::view::{Action, Changed, Filter, Matched, Then};

impl Pipeline {
    pub(super) fn control(&mut self, control: Control) {
        if control.is_abandoned() {
            return;
        }
        match control {
            Control::Overview { with_history, answer } => reply(answer, self.overview(with_history)),
            Control::List { filter, most, after, answer } => {
                reply(answer, self.list(&filter, most, after.as_deref()));
            }
            Control::Log { filter, answer } => reply(answer, self.log(&filter)),
            Control::Act { filter, action, then, dry_run, by, answer } => {
                let items: Vec<ItemId> = self.selected(&filter).map(|view| view.item).collect();
                let matched = Matched { matched: items.len(), changed: 0, dry_run };
                let (core_action, items) = (core_action(action, then), items.into_iter());
                self.begin_bulk(Bulk { filter, action, core_action, items, matched, by, answer });
            }
            Control::Pause { by, answer } => reply(answer, logged("pause", self.pause(), &by)),
            Control::Resume { from, by, answer } => reply(answer, logged("resume", self.resume(from), &by)),
            Control::Drain { by, answer } => reply(answer, logged("drain", self.drain_by_hand(), &by)),
            Control::Limit { most, by, answer } => {
                reply(answer, logged("limit", self.lower_limit(most), &by));
            }
            Control::Partition { topic, partition, change, by, answer } => {
                let changed = self.change_partition(&topic, partition, change);
                tracing::info!(
                    topic, partition, action = ?change, by = by.right, from = %by.from,
                    changed = changed.changed, text = changed.text,
                    "A person acted on a partition"
                );
                reply(answer, changed);
            }
            Control::Watch { answer } => reply(answer, self.board.changes.subscribe()),
        }
    }

    pub(super) fn changed(&self, changed: bool, text: impl Into<String>) -> Changed {
        Changed { pipeline: self.shared.name.clone(), changed, text: text.into() }
    }

    fn pause(&mut self) -> Changed {
        if self.core.is_draining() {
            return self.changed(false, "nothing changed: the pipeline drains and takes no new items");
        }
        if self.core.is_paused() {
            return self.changed(false, "nothing changed: the pipeline was paused already");
        }
        self.handle(Input::Pause);
        let running = self.core.stats().running;
        self.changed(true, format!("paused: {running} running items go on, and nothing new starts"))
    }

    fn resume(&mut self, from: Option<StartFrom>) -> Changed {
        if self.core.is_draining() {
            return self.resume_drained();
        }
        let was_paused = self.core.is_paused();
        let was_open = self.core.open_breaker().is_some();
        self.handle(Input::Resume);
        if let Some(from) = from {
            return self.start_from(from);
        }
        let held = self.core.stats().states[StateKind::Held];
        let text = match (was_paused, was_open) {
            (true, true) => "the pause is over and the breaker is closed; waiting items start at once",
            (true, false) => "the pause is over; waiting items start at once",
            (false, true) => "the breaker was open and is closed now; waiting items start at once",
            (false, false) if held > 0 => {
                "nothing changed: the pipeline was not paused and its breaker was closed; held items need \
                 `items retry`, `items release`, `items dead-letter` or `items drop`"
            }
            (false, false) => "nothing changed: the pipeline was not paused, and its breaker was closed",
        };
        self.changed(was_paused || was_open, text)
    }

    /// Starts a drained pipeline again, also one whose drain is not over yet.
    fn resume_drained(&mut self) -> Changed {
        if !self.is_drained_by_hand || self.deadline.is_some() {
            return self.changed(false, "nothing changed: the process is about to end");
        }
        if self.is_wanted_again {
            return self.changed(false, "nothing changed: the pipeline starts again already");
        }
        self.is_wanted_again = true;
        let running = self.core.stats().running;
        let text = match self.is_at_rest {
            true => "the pipeline connects to its broker again".to_owned(),
            false => format!(
                "{running} running items finish first, then the pipeline connects to its broker again"
            ),
        };
        self.changed(true, text)
    }

    /// Starts the partitions that wait for a decision.
    fn start_from(&mut self, from: StartFrom) -> Changed {
        let waits =
            self.status.reasons().iter().any(|reason| reason.kind == ProblemKind::OffsetsLost.as_str());
        if !waits {
            return self.changed(false, "nothing changed: no partition waits for a decision where it starts");
        }
        self.send(Command::StartFrom(from));
        self.changed(
            true,
            format!("the partitions without offsets start from {from}; the log has the result"),
        )
    }

    fn drain_by_hand(&mut self) -> Changed {
        if self.core.is_draining() {
            let was_wanted = std::mem::take(&mut self.is_wanted_again);
            let text = match was_wanted {
                true => "the pipeline stays at rest after its drain",
                false => "nothing changed: the pipeline drains already, or is drained",
            };
            return self.changed(was_wanted, text);
        }
        self.is_drained_by_hand = true;
        self.begin_drain();
        let running = self.core.stats().running;
        self.changed(
            true,
            format!(
                "draining: {running} running items finish, and nothing new starts until somebody resumes the pipeline"
            ),
        )
    }

    fn lower_limit(&mut self, most: u32) -> Changed {
        let highest = self.core.max_in_flight();
        if !(1..=highest).contains(&most) {
            let text = format!(
                "nothing changed: the limit can be 1 to {highest}; change max_in_flight in the configuration \
                 for more, or pause the pipeline for none"
            );
            return self.changed(false, text);
        }
        let before = self.core.stats().ceiling;
        self.handle(Input::Limit { most });
        if before == most {
            return self.changed(false, format!("nothing changed: the limit was {most} already"));
        }
        self.changed(true, format!("the limit was {before} and is {most} until the process restarts"))
    }
}

impl Control {
    /// Whether nobody waits for the answer to this read any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Control::Overview { answer, .. } => answer.is_closed(),
            Control::List { answer, .. } => answer.is_closed(),
            Control::Log { answer, .. } => answer.is_closed(),
            Control::Watch { answer } => answer.is_closed(),
            _ => false,
        }
    }
}

pub(super) fn reply<T>(answer: oneshot::Sender<T>, value: T) {
    // A person who has left needs no answer.
    let _ = answer.send(value);
}

/// Writes the log line of an action on items.
pub(super) fn log_action(action: Action, filter: &Filter, matched: Matched, by: &Person) {
    // The item may be in another pipeline.
    if filter.id.is_some() && matched.matched == 0 {
        return;
    }
    let on = filter.id.as_ref().map_or_else(|| format!("{filter:?}"), |id| format!("item {id}"));
    tracing::info!(
        action = action.as_str(),
        by = by.right,
        from = %by.from,
        on,
        matched = matched.matched,
        changed = matched.changed,
        dry_run = matched.dry_run,
        "A person acted on items"
    );
}

/// Writes the log line of an action on the pipeline, and returns its result.
fn logged(action: &str, changed: Changed, by: &Person) -> Changed {
    tracing::info!(
        action,
        by = by.right,
        from = %by.from,
        changed = changed.changed,
        text = changed.text,
        "A person acted on the pipeline"
    );
    changed
}

fn core_action(action: Action, then: Then) -> delivery::Action {
    match action {
        Action::Retry => delivery::Action::Retry,
        Action::Drop => delivery::Action::Drop,
        Action::DeadLetter => delivery::Action::DeadLetter,
        Action::Hold => delivery::Action::Hold,
        Action::Release => delivery::Action::Release,
        Action::Cancel => delivery::Action::Cancel(match then {
            Then::Requeue => delivery::Then::Requeue,
            Then::DeadLetter => delivery::Then::DeadLetter,
            Then::Drop => delivery::Then::Drop,
        }),
    }
}
