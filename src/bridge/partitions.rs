//! Kafka partitions that a person paused, and records that a person skips.
//!
//! The source stops to hand over the records of a paused partition. Deliveries that are on their
//! way by then wait here. Items that have started go on, and so do their further attempts.
//!
//! A record that is in hand is skipped at once. A record that has not come yet is skipped when it
//! comes: the core takes it as any other item, but its request is not sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Pipeline;
use super::board::Place;
use crate::delivery::{self, DeliveryId, Epoch, Identity, Input, ItemView, State};
use crate::source::{self, Assignment, Delivery};
use crate::telemetry::PartitionState;
use crate::view::{self, Changed, PartitionChange, Then};

/// The most partitions that people are shown.
const SHOWN_MAX: usize = 1_000;

/// Records that are skipped when they come. More are refused.
const SKIPS_MAX: usize = 1_000;

type Name = (Arc<str>, i32);

#[derive(Default)]
pub(super) struct Partitions {
    /// The partitions of this replica, as far as they are known.
    own: HashMap<Epoch, Name>,
    /// The partitions of this replica, as the source described them last.
    states: Vec<PartitionState>,
    paused: BTreeSet<Name>,
    /// Deliveries of paused partitions. They were on their way at the pause, so there are at most
    /// as many as the link to the source holds.
    waiting: Vec<Delivery>,
    skips: BTreeMap<(Name, i64), Then>,
    /// The delivery that the core is taking in and that is skipped.
    skipping: Option<DeliveryId>,
}

fn place_of(delivery: &Delivery) -> Option<(Name, i64)> {
    match &delivery.outline.identity {
        Identity::Record { topic, partition, offset, .. } => Some(((topic.clone(), *partition), *offset)),
        _ => None,
    }
}

fn shown((topic, number): &Name) -> String {
    format!("{topic}/{number}")
}

impl Partitions {
    pub fn assigned(&mut self, assignments: &[Assignment]) {
        let all = assignments.iter().map(|one| (one.epoch, (one.topic.clone(), one.partition)));
        self.own.extend(all);
    }

    /// Drops everything of a session that is over.
    pub fn lost(&mut self, epoch: Epoch) {
        let Some(name) = self.own.remove(&epoch) else { return };
        self.waiting.retain(|delivery| delivery.outline.id.epoch != epoch);
        self.skips.retain(|(place, _), _| *place != name);
    }

    /// Returns the delivery, unless it has to wait for the end of a pause.
    pub fn sort(&mut self, delivery: Delivery) -> Option<Delivery> {
        let Some((name, offset)) = place_of(&delivery) else { return Some(delivery) };
        self.own.entry(delivery.outline.id.epoch).or_insert_with(|| name.clone());
        if self.paused.contains(&name) && !self.skips.contains_key(&(name, offset)) {
            self.waiting.push(delivery);
            return None;
        }
        Some(delivery)
    }

    /// Returns the step of a record that is skipped, and forgets it.
    pub fn skip(&mut self, delivery: &Delivery) -> Option<Then> {
        if self.skips.is_empty() {
            return None;
        }
        let then = self.skips.remove(&place_of(delivery)?)?;
        self.skipping = Some(delivery.outline.id);
        Some(then)
    }

    /// Whether the request of this delivery is not to be sent.
    pub fn is_skipping(&self, delivery: Option<DeliveryId>) -> bool {
        self.skipping.is_some() && self.skipping == delivery
    }

    /// Keeps the states for people.
    pub fn seen(&mut self, states: &[PartitionState]) {
        states.clone_into(&mut self.states);
    }

    /// The partitions of this replica, for people: the paused ones first, then by name.
    pub fn shown(&self) -> Vec<view::Partition> {
        let is_paused = |one: &PartitionState| self.paused.contains(&(one.topic.clone(), one.partition));
        let mut states: Vec<(bool, &PartitionState)> =
            self.states.iter().map(|one| (is_paused(one), one)).collect();
        states.sort_by_key(|(paused, one)| (!paused, &one.topic, one.partition));
        let shown = states.into_iter().take(SHOWN_MAX).map(|(paused, one)| view::Partition {
            topic: one.topic.to_string(),
            partition: one.partition,
            unfinished_from: one.unfinished_from,
            lag: one.lag,
            head_age_seconds: one.head_age.as_secs(),
            paused,
        });
        shown.collect()
    }

    /// The paused partitions, for people.
    pub fn paused(&self) -> Vec<String> {
        self.paused.iter().map(shown).collect()
    }

    /// Ends all pauses. Returns the deliveries that waited.
    pub fn end_all(&mut self) -> Vec<Delivery> {
        self.paused.clear();
        std::mem::take(&mut self.waiting)
    }

    fn take_waiting(&mut self, is_meant: impl Fn(&(Name, i64)) -> bool) -> Vec<Delivery> {
        let all = std::mem::take(&mut self.waiting);
        let (meant, others) =
            all.into_iter().partition(|delivery| place_of(delivery).is_some_and(|place| is_meant(&place)));
        self.waiting = others;
        meant
    }
}

impl Pipeline {
    pub(super) fn change_partition(&mut self, topic: &str, number: i32, change: PartitionChange) -> Changed {
        let name: Name = (topic.into(), number);
        if self.core.is_draining() {
            return self.changed(false, "nothing changed: the pipeline drains and takes no new items");
        }
        let is_own = self.partitions.own.values().any(|own| *own == name);
        let is_paused = self.partitions.paused.contains(&name);
        let ends_pause = is_paused && change == PartitionChange::Resume;
        if !is_own && !ends_pause {
            let text = format!(
                "nothing changed: this replica does not read partition {} now; ask the replica that does",
                shown(&name)
            );
            return self.changed(false, text);
        }
        match change {
            PartitionChange::Pause => self.pause_partition(name),
            PartitionChange::Resume => self.resume_partition(&name),
            PartitionChange::Skip { offset, then, dry_run } => self.skip(name, offset, then, dry_run),
        }
    }

    fn pause_partition(&mut self, name: Name) -> Changed {
        let partition = shown(&name);
        if self.partitions.paused.contains(&name) {
            return self.changed(false, format!("nothing changed: partition {partition} was paused already"));
        }
        self.tell_source(&name, true);
        self.partitions.paused.insert(name);
        self.show_pauses();
        let text = format!(
            "partition {partition} is paused: its started items go on, and nothing new of it starts; the other partitions continue"
        );
        self.changed(true, text)
    }

    fn resume_partition(&mut self, name: &Name) -> Changed {
        let partition = shown(name);
        if !self.partitions.paused.remove(name) {
            return self.changed(false, format!("nothing changed: partition {partition} was not paused"));
        }
        self.tell_source(name, false);
        self.show_pauses();
        for delivery in self.partitions.take_waiting(|(other, _)| other == name) {
            self.take_in(delivery);
        }
        self.changed(true, format!("the pause of partition {partition} is over"))
    }

    fn tell_source(&self, (topic, partition): &Name, is_paused: bool) {
        let (topic, partition) = (topic.to_string(), *partition);
        self.send(source::Command::PausePartition { topic, partition, is_paused });
    }

    fn show_pauses(&self) {
        let count = i64::try_from(self.partitions.paused.len()).unwrap_or(i64::MAX);
        self.shared.metrics.kafka_partitions_paused.set(count);
    }

    /// Ends all pauses, because the pipeline drains. The core returns the deliveries that waited.
    pub(super) fn end_pauses(&mut self) {
        for delivery in self.partitions.end_all() {
            self.take_in(delivery);
        }
        self.show_pauses();
    }

    /// Settles one record without its work: with a dead letter, or without.
    fn skip(&mut self, name: Name, offset: i64, then: Then, dry_run: bool) -> Changed {
        let record = format!("{}/{offset}", shown(&name));
        if then == Then::DeadLetter && !self.policy.targets.dead_letter {
            let text = format!(
                "nothing changed: no dead_letter is configured; skip {record} with then=drop to lose it"
            );
            return self.changed(false, text);
        }
        let end = if then == Then::Drop { "dropped" } else { "dead-lettered" };
        if let Some(view) = self.item_at(&name, offset) {
            let action = skip_of(view.state, then);
            if !self.core.allows(view.item, action) {
                return self.changed(false, format!("nothing changed: {record} is being settled already"));
            }
            if dry_run {
                return self.changed(true, format!("{record} would be {end}"));
            }
            self.handle(Input::Act { item: view.item, action });
            return self.changed(true, format!("{record} is {end}"));
        }
        let wanted = place(&name, offset);
        if let Some((_, finished)) = self.board.finished().find(|(_, item)| item.name.place == wanted) {
            let text = format!("nothing changed: {record} has ended ({})", finished.state);
            return self.changed(false, text);
        }
        if self.partitions.skips.len() >= SKIPS_MAX {
            return self
                .changed(false, format!("nothing changed: {SKIPS_MAX} other records wait to be skipped"));
        }
        if dry_run {
            return self
                .changed(true, format!("{record} would be {end} when it is read, unless it has ended"));
        }
        self.partitions.skips.insert((name.clone(), offset), then);
        let wanted = (name.clone(), offset);
        if let Some(delivery) = self.partitions.take_waiting(|place| *place == wanted).pop() {
            self.take_in(delivery);
            return self.changed(true, format!("{record} is {end}"));
        }
        let (topic, partition) = (name.0.to_string(), name.1);
        self.send(source::Command::SkipUndecodable { topic, partition, offset });
        let text = format!(
            "{record} is {end} when it is read, unless it has ended; a record that can't be decoded takes its whole batch along"
        );
        self.changed(true, text)
    }

    /// The core has taken in a delivery that is skipped.
    pub(super) fn skip_received(&mut self, delivery: DeliveryId, then: Then) {
        self.partitions.skipping = None;
        let Some(view) = self.core.views().find(|view| view.delivery == Some(delivery)) else { return };
        let action = skip_of(view.state, then);
        tracing::info!(id = self.id(view.item), ?then, "Record skipped on request");
        self.handle(Input::Act { item: view.item, action });
    }

    fn item_at(&self, name: &Name, offset: i64) -> Option<ItemView> {
        let wanted = place(name, offset);
        self.core.views().find(|view| self.name(view.item).place == wanted)
    }
}

fn place((topic, partition): &Name, offset: i64) -> Place {
    Place::Partition { topic: topic.to_string(), partition: *partition, offset }
}

fn skip_of(state: State, then: Then) -> delivery::Action {
    match (state, then) {
        (State::Running, Then::Drop) => delivery::Action::Cancel(delivery::Then::Drop),
        (State::Running, _) => delivery::Action::Cancel(delivery::Then::DeadLetter),
        (_, Then::Drop) => delivery::Action::Drop,
        _ => delivery::Action::DeadLetter,
    }
}
