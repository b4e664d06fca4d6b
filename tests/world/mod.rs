//! A broker, a worker and time around the real `Dispatcher`, in a form that both the exhaustive model
//! and the seeded simulation can walk: a state, its possible steps, and what must never happen.

mod broker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longhaul::delivery::{
    ClaimId, DeliveryId, Dispatcher, Effect, Epoch, Handed, Input, ItemId, Outcome, Policy, Settlement, Time,
    Write, Written, invariants,
};

use broker::{Copy, Place, Settle, Stored};

/// Timers beyond it never fire: the age at which an orphan is given up, unless a test asks for it.
const HORIZON: Duration = Duration::from_secs(1_000_000);

/// One possible world, small enough to be compared and hashed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub core: Dispatcher,
    pub setting: Setting,
    now: Time,
    stored: Vec<Stored>,
    session: Session,
    /// Open requests and the class of their item.
    requests: BTreeMap<ItemId, usize>,
    writes: BTreeMap<ItemId, Write>,
    /// Copies that are being written.
    copying: BTreeMap<ItemId, Copy>,
    asks: BTreeSet<ItemId>,
    /// Items of the broker that another replica has, and asks us for.
    claims: BTreeMap<ClaimId, usize>,
    next_claim: u64,
    /// Acks that the bridge heard of as sent, and not as proven.
    sent: Vec<Settle>,
    /// Settles on their way to the broker, in order.
    settles: Vec<Settle>,
    classes: BTreeMap<ItemId, usize>,
    /// The class of each delivery of the present session.
    delivered: BTreeMap<DeliveryId, usize>,
    left: bool,
    failures: u32,
    losses: u32,
    write_faults: u32,
    tallies: Vec<Tally>,
    /// What went wrong, if anything did; checked as a property.
    pub broken: Option<String>,
}

/// What stays the same in one walk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    pub policy: Policy,
    /// For each item the class of its bytes: items of one class are alike byte for byte.
    pub classes: Vec<usize>,
    /// Whether every item has an identity of its own (Kafka), or only its class's (RabbitMQ).
    pub unique: bool,
    /// Whether the broker may hand items over in any order, as a queue does that puts returns at its back.
    pub any_order: bool,
    /// Unsettled deliveries at once: RabbitMQ's prefetch. None for Kafka.
    pub prefetch: Option<usize>,
    /// An ordering key for each item.
    pub keys: Vec<Option<u128>>,
    pub outcomes: Vec<Outcome>,
    /// How many requests in all may end in another outcome than the first of `outcomes`.
    pub failures: u32,
    pub losses: u32,
    pub write_faults: u32,
    pub may_drain: bool,
    /// Returns at which an item is near the broker's limit.
    pub near_limit: Option<u32>,
    /// How often another replica may ask for an item of ours.
    pub claims: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Session {
    epoch: u64,
    state: SessionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SessionState {
    Down,
    Up,
    /// The broker has taken everything back, and the bridge does not know yet.
    Broken,
}

/// What happened to the items of one class so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Tally {
    starts: u32,
    /// Completions that allow an ack: done, or a confirmed dead letter, or a drop asked for.
    finished: u32,
    gone: u32,
    /// Acks whose fate the bridge could not know.
    doubtful: u32,
    /// Handed to another replica, which then let go of it: the attempts are forgotten.
    dropped: u32,
    /// Copies that are in the queue, or were.
    copies: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Connect,
    Deliver(usize),
    Complete(ItemId, Outcome),
    Confirm(ItemId),
    FailWrite(ItemId),
    /// The first settle reaches the broker, and the bridge hears that it was sent; or, in a session that
    /// is gone, it hears that the settle was stale.
    Answer,
    /// The broker shows that it knows the acks that were sent.
    Prove,
    /// It knows them, and its word is lost.
    TakeUnheard,
    /// The copy is in the queue, and its confirm is on its way.
    LandCopy(ItemId),
    ConfirmCopy(ItemId),
    FailCopy(ItemId),
    /// Another replica answers what became of an item there.
    AnswerAsk(ItemId, Option<Handed>),
    /// Another replica was handed this item of the broker.
    Claim(usize),
    Unclaim(ClaimId),
    /// The connection goes. So many of the settles under way had reached the broker, unheard.
    Break(usize),
    NoticeLost,
    Timer,
    Drain,
    Leave,
}

impl World {
    pub fn new(setting: Setting) -> Self {
        let class_count = setting.classes.iter().max().map_or(0, |most| most + 1);
        World {
            core: Dispatcher::new(setting.policy.clone()),
            now: Time::ZERO,
            stored: setting.classes.iter().map(|class| Stored::new(*class)).collect(),
            session: Session { epoch: 0, state: SessionState::Down },
            requests: BTreeMap::new(),
            writes: BTreeMap::new(),
            copying: BTreeMap::new(),
            asks: BTreeSet::new(),
            claims: BTreeMap::new(),
            next_claim: 0,
            sent: Vec::new(),
            settles: Vec::new(),
            classes: BTreeMap::new(),
            delivered: BTreeMap::new(),
            left: false,
            failures: setting.failures,
            losses: setting.losses,
            write_faults: setting.write_faults,
            tallies: vec![Tally::default(); class_count],
            broken: None,
            setting,
        }
    }

    /// Every step that could happen next.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.left {
            return steps;
        }
        match self.session.state {
            SessionState::Down if !self.core.is_draining() => steps.push(Step::Connect),
            SessionState::Down => {}
            SessionState::Up => {
                steps.extend(self.deliverable().map(Step::Deliver));
                if self.losses > 0 {
                    steps.extend((0..=self.settles.len()).map(Step::Break));
                }
            }
            SessionState::Broken => steps.push(Step::NoticeLost),
        }
        if !self.settles.is_empty() {
            steps.push(Step::Answer);
        }
        for item in self.requests.keys() {
            let outcomes =
                if self.failures > 0 { &self.setting.outcomes[..] } else { &self.setting.outcomes[..1] };
            steps.extend(outcomes.iter().map(|outcome| Step::Complete(*item, *outcome)));
        }
        for item in self.writes.keys() {
            steps.push(Step::Confirm(*item));
            if self.write_faults > 0 {
                steps.push(Step::FailWrite(*item));
            }
        }
        for (item, copy) in &self.copying {
            steps.push(if copy.landed { Step::ConfirmCopy(*item) } else { Step::LandCopy(*item) });
            if self.write_faults > 0 {
                steps.push(Step::FailCopy(*item));
            }
        }
        if !self.sent.is_empty() && self.session.state == SessionState::Up {
            steps.push(Step::Prove);
            if self.losses > 0 && self.setting.unique {
                steps.push(Step::TakeUnheard);
            }
        }
        for item in &self.asks {
            steps.push(Step::AnswerAsk(*item, None));
            steps.push(Step::AnswerAsk(*item, Some(Handed::Done)));
            steps.push(Step::AnswerAsk(*item, Some(Handed::Retry { attempts: 1, delay: Duration::ZERO })));
        }
        if self.next_claim < u64::from(self.setting.claims) {
            let returned = |stored: &Stored| stored.place == Place::Ready && stored.returns > 0;
            steps.extend(self.stored.iter().position(returned).map(Step::Claim));
        }
        steps.extend(self.claims.keys().map(|claim| Step::Unclaim(*claim)));
        if self.core.poll_timeout().is_some_and(|timeout| timeout < HORIZON) {
            steps.push(Step::Timer);
        }
        if self.setting.may_drain && !self.core.is_draining() {
            steps.push(Step::Drain);
        }
        if self.core.is_draining() && self.core.is_empty() {
            steps.push(Step::Leave);
        }
        steps
    }

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
                self.tell(Input::Completed { item, outcome, took: Duration::from_secs(1) });
            }
            Step::Confirm(item) => {
                let write = self.writes.remove(&item);
                if matches!(write, Some(Write::DeadLetter { .. })) {
                    let class = self.class(item);
                    self.tallies[class].finished += 1;
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
                let stale = self.session.state != SessionState::Up;
                if !stale {
                    // Kafka hears of acks with the next commit, RabbitMQ with each frame.
                    if settle.how == Settlement::Return || !self.setting.unique {
                        self.apply(settle);
                    }
                    if settle.how == Settlement::Ack && (self.setting.unique || self.is_copy(settle.id)) {
                        self.sent.push(settle);
                    }
                }
                self.tell(Input::Settled { id: settle.id, stale });
            }
            Step::Prove => {
                for settle in std::mem::take(&mut self.sent) {
                    self.apply(settle);
                    self.tell(Input::Proven { id: settle.id });
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
                self.tell(Input::Rewritten { item, written: Written::Confirmed });
            }
            Step::FailCopy(item) => {
                self.copying.remove(&item);
                self.write_faults -= 1;
                self.tell(Input::Rewritten { item, written: Written::Failed });
            }
            Step::AnswerAsk(item, handed) => {
                self.asks.remove(&item);
                if handed == Some(Handed::Done) {
                    let class = self.class(item);
                    self.tallies[class].finished += 1;
                }
                self.tell(Input::Answered { item, handed });
            }
            Step::Claim(index) => {
                self.next_claim += 1;
                let claim = ClaimId(self.next_claim);
                self.stored[index].place = Place::Away;
                self.claims.insert(claim, index);
                let identity = self.identity(index);
                self.tell(Input::Claim { claim, identity });
            }
            Step::Unclaim(claim) => {
                if let Some(index) = self.claims.remove(&claim) {
                    self.return_from_away(index);
                }
                self.tell(Input::Unclaim { claim });
            }
            Step::Break(applied) => {
                self.losses -= 1;
                self.session.state = SessionState::Broken;
                self.sent.clear();
                // What the broker had taken can't come back stale: its client had written it.
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
                self.session.state = SessionState::Down;
                self.tell(Input::SessionLost(Epoch(self.session.epoch)));
                self.delivered.clear();
            }
            Step::Timer => {
                self.now = self.core.poll_timeout().unwrap_or(self.now).max(self.now);
                self.tell(Input::Timer);
            }
            Step::Drain => self.tell(Input::Drain),
            Step::Leave => {
                self.left = true;
                self.take_back();
            }
        }
        self.check();
    }

    /// Whether everything ended as it should: all items gone, or the bridge left with nothing in hand. A
    /// verdict may be kept for a redelivery that never comes, because its ack did count; it ends by age.
    pub fn is_settled(&self) -> bool {
        let stats = self.core.stats();
        self.left || (stats.items == stats.pending && self.all_gone() && self.sent.is_empty())
    }

    pub fn all_gone(&self) -> bool {
        self.stored.iter().all(|stored| stored.place == Place::Gone)
    }

    /// Items that the broker may hand over next: the first one in order, or any where returns go to the back.
    fn deliverable(&self) -> impl Iterator<Item = usize> {
        let out = self.stored.iter().filter(|stored| matches!(stored.place, Place::Out(_))).count();
        let open = !self.core.is_draining() && self.setting.prefetch.is_none_or(|prefetch| out < prefetch);
        let takes = open && (self.setting.prefetch.is_some() || self.core.no_room().is_none());
        let ready = |(index, stored): (usize, &Stored)| (stored.place == Place::Ready).then_some(index);
        let indexes: Vec<usize> = self.stored.iter().enumerate().filter_map(ready).collect();
        let most = match (takes, self.setting.any_order) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => indexes.len(),
        };
        indexes.into_iter().take(most)
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        let draining = self.core.is_draining();
        self.core.handle(self.now, input, &mut effects);
        for effect in effects {
            self.obey(effect, draining);
        }
    }

    fn obey(&mut self, effect: Effect, was_draining: bool) {
        match effect {
            Effect::Admit { item, id } => {
                if let Some(class) = self.class_of_delivery(id) {
                    self.classes.insert(item, class);
                }
            }
            Effect::Adopt { item, id } => {
                let (of_item, of_delivery) = (self.classes.get(&item).copied(), self.class_of_delivery(id));
                self.require("G3: an orphan is adopted by its own kind", of_item == of_delivery);
            }
            Effect::Dispatch { item, attempt, .. } => {
                let class = self.class(item);
                self.tallies[class].starts += 1;
                self.require("G4: nothing starts in a drain", !was_draining);
                self.require("attempt numbers are in bounds", attempt <= self.setting.policy.retry.attempts);
                let again = self.requests.insert(item, class).is_some();
                self.require("G3: one request an item", !again);
            }
            Effect::Write { item, write } => {
                self.writes.insert(item, write);
            }
            Effect::Rewrite { item, attempts } => {
                let name: Arc<str> = format!("copy of {}", item.0).into();
                self.core.name(item, name.clone());
                let copy = Copy { class: self.class(item), name, attempts, landed: false };
                self.copying.insert(item, copy);
            }
            Effect::Copied { item, twin } => {
                let class = self.class(item);
                self.classes.insert(twin, class);
            }
            Effect::Ask { item, .. } => {
                self.asks.insert(item);
            }
            Effect::Claimed { claim, standing } => self.claimed(claim, standing),
            Effect::Settle { id, how, dropped } => {
                if let (true, Some(class)) = (dropped, self.class_of_delivery(id)) {
                    self.tallies[class].finished += 1;
                }
                self.settles.push(Settle { id, how });
            }
            Effect::Forget { item } => {
                self.require("no request outlives its item", !self.requests.contains_key(&item));
                self.classes.remove(&item);
            }
            _ => {}
        }
    }

    fn class(&self, item: ItemId) -> usize {
        self.classes.get(&item).copied().unwrap_or_default()
    }

    fn class_of_delivery(&self, id: DeliveryId) -> Option<usize> {
        self.delivered.get(&id).copied()
    }

    /// What must hold in every state, over and above the dispatcher's own invariants.
    fn check(&mut self) {
        if let Err(broken) = invariants::check(&self.core) {
            self.broken.get_or_insert(broken.to_string());
        }
        self.require(
            "G2: requests at once",
            self.requests.len() <= self.setting.policy.max_in_flight as usize,
        );
        let attempts = self.setting.policy.retry.attempts;
        for class in 0..self.tallies.len() {
            let tally = self.tallies[class];
            let items = self.setting.classes.iter().filter(|of| **of == class).count() as u32;
            let open = self.requests.values().filter(|of| **of == class).count() as u32;
            self.require(
                "G1: an ack has a completion of its own",
                tally.gone <= tally.finished + tally.copies,
            );
            self.require("G3: never more requests than items", open <= items + tally.doubtful);
            // Only an ack whose fate nobody knows may make an item run again.
            self.require("G3: nothing done runs again", tally.finished <= items + tally.doubtful);
            self.require(
                "runs are bounded",
                tally.starts <= (items + tally.doubtful + tally.dropped) * attempts + self.not_started(),
            );
        }
        self.check_order();
    }

    /// Starts that cost no attempt, as far as the setting allows them at all.
    fn not_started(&self) -> u32 {
        let free = self.setting.outcomes.iter().any(|outcome| !outcome.counts_as_attempt());
        if free { u32::MAX / 2 } else { 0 }
    }

    fn check_order(&mut self) {
        if self.setting.keys.iter().all(Option::is_none) {
            return;
        }
        // With an identity for each item its class is its index, so a request names its key.
        let mut keys: Vec<u128> =
            self.requests.values().filter_map(|class| self.setting.keys[*class]).collect();
        let open = keys.len();
        keys.sort_unstable();
        keys.dedup();
        self.require("order: one request a key", keys.len() == open);
    }

    fn require(&mut self, what: &str, holds: bool) {
        if !holds {
            self.broken.get_or_insert_with(|| what.to_owned());
        }
    }
}
