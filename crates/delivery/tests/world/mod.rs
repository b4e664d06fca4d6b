//! A broker, a worker and time around the real `Dispatcher`: a state, its possible steps, and the
//! faults that must never happen. Both the exhaustive model and the seeded simulation walk through
//! it.

mod askers;
mod broker;
mod check;
mod obey;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longhaul_delivery::{
    Action, ClaimId, DeliveryId, Dispatcher, Epoch, Handed, ItemId, Outcome, Policy, Standing, Time, Write,
};

use askers::Asker;
use broker::{Copy, Place, Settle, Stored};
use check::Tally;

/// The latest time of a timer that fires. By default it excludes the age at which an orphan is
/// given up.
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
    /// Other replicas that were handed an item of the broker, and ask for it.
    askers: BTreeMap<ClaimId, Asker>,
    /// Sessions of which the core asked whether they live.
    doubts: BTreeSet<Epoch>,
    next_claim: u64,
    /// Acks that the bridge heard of as sent, and not as proven.
    sent: Vec<Settle>,
    /// Settles on their way to the broker, in order.
    settles: Vec<Settle>,
    classes: BTreeMap<ItemId, usize>,
    /// The class of each delivery of the present session.
    delivered: BTreeMap<DeliveryId, usize>,
    left: bool,
    /// The latest session when the drain began.
    stopped: Option<u64>,
    failures: u32,
    losses: u32,
    releases: u32,
    stucks: u32,
    acts: u32,
    write_faults: u32,
    lost_answers: u32,
    /// The length of the pauses that are over, and the start of the present one.
    paused_for: Duration,
    paused_at: Option<Time>,
    tallies: Vec<Tally>,
    /// The fault, if there is one; checked as a property.
    pub broken: Option<String>,
}

/// The parts that stay the same in one walk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    pub policy: Policy,
    /// For each item the class of its bytes: items of one class are alike byte for byte.
    pub classes: Vec<usize>,
    /// Whether every item has an identity of its own (Kafka), or only its class's (RabbitMQ).
    pub unique: bool,
    /// Whether the broker may hand items over in any order, like a queue that puts returned items
    /// at its end.
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
    /// The number of returns at which an item is near the broker's limit.
    pub near_limit: Option<u32>,
    /// How often another replica may ask for an item of ours.
    pub claims: u32,
    /// How often an answer to another replica may be lost.
    pub lost_answers: u32,
    /// The longest time between two questions of a replica that lives.
    pub silence: Duration,
    /// How often a session may be given back as planned.
    pub releases: u32,
    /// How often the broker may tell that a delivery holds up its partition.
    pub stucks: u32,
    /// How often a person may act on an item or on the pipeline.
    pub acts: u32,
    /// Whether each attempt that fails leaves a checkpoint.
    pub checkpoints: bool,
    /// The source cannot decode the items of the classes below this number.
    pub undecodable: usize,
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
    /// The session will be given back soon, as planned: nothing new arrives.
    Ending,
    /// The broker has taken everything back, but the bridge does not know that yet.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Connect,
    Deliver(usize),
    Complete(ItemId, Outcome),
    Confirm(ItemId),
    FailWrite(ItemId),
    /// The first settle reaches the broker, and the bridge hears that it was sent. In a lost
    /// session the bridge hears that the settle was stale.
    Answer,
    /// The broker proves that it knows the sent acks.
    Prove,
    /// The broker knows the sent acks, and the proof is lost.
    TakeUnheard,
    /// The copy is in the queue, and its confirm is on its way.
    LandCopy(ItemId),
    ConfirmCopy(ItemId),
    FailCopy(ItemId),
    /// Another replica answers a question about an item.
    AnswerAsk(ItemId, Option<Handed>),
    /// Another replica was handed this item of the broker.
    Claim(usize),
    /// Its answer arrives, or is lost so that it asks again.
    Hear(ClaimId),
    LoseAnswer(ClaimId),
    AskAgain(ClaimId),
    AskerDies(ClaimId),
    AskerReleases(ClaimId),
    /// The broker confirms that the session lives.
    Alive(Epoch),
    /// The connection breaks. This many of the settles under way had reached the broker, but their
    /// results are lost.
    Break(usize),
    NoticeLost,
    /// The group takes the session back, and returns it later.
    Release,
    GiveBack,
    Stuck(DeliveryId),
    Act(ItemId, Action),
    Pause,
    Resume,
    Limit,
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
            askers: BTreeMap::new(),
            doubts: BTreeSet::new(),
            next_claim: 0,
            sent: Vec::new(),
            settles: Vec::new(),
            classes: BTreeMap::new(),
            delivered: BTreeMap::new(),
            left: false,
            stopped: None,
            failures: setting.failures,
            losses: setting.losses,
            releases: setting.releases,
            stucks: setting.stucks,
            acts: setting.acts,
            write_faults: setting.write_faults,
            lost_answers: setting.lost_answers,
            paused_for: Duration::ZERO,
            paused_at: None,
            tallies: vec![Tally::default(); class_count],
            broken: None,
            setting,
        }
    }

    /// Returns every step that may happen next.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.left {
            return steps;
        }
        match self.session.state {
            SessionState::Down if !self.core.is_draining() || self.setting.prefetch.is_some() => {
                steps.push(Step::Connect);
            }
            SessionState::Down => {}
            SessionState::Up => {
                steps.extend(self.deliverable().map(Step::Deliver));
                if self.losses > 0 {
                    steps.extend((0..=self.settles.len()).map(Step::Break));
                }
                if self.releases > 0 {
                    steps.push(Step::Release);
                }
            }
            // Before the session is given back, all decisions reach the broker and are committed.
            SessionState::Ending if self.settles.is_empty() && self.sent.is_empty() => {
                steps.push(Step::GiveBack);
            }
            SessionState::Ending => {}
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
        if self.stucks > 0 && self.is_connected() {
            let out = |stored: &Stored| match stored.place {
                Place::Out(id) => Some(Step::Stuck(id)),
                _ => None,
            };
            steps.extend(self.stored.iter().filter_map(out));
        }
        if self.acts > 0 {
            steps.extend(self.acts_of_people());
        }
        if self.core.is_paused() {
            steps.push(Step::Resume);
        }
        if !self.sent.is_empty() && self.is_connected() {
            steps.push(Step::Prove);
            if self.losses > 0 && self.setting.unique && self.session.state == SessionState::Up {
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
        for (claim, standing) in self.askers_with_answer() {
            // A poll that ended without news is followed by the next one.
            let is_final = standing != Standing::Running;
            steps.push(if is_final { Step::Hear(claim) } else { Step::AskAgain(claim) });
            if is_final && self.lost_answers > 0 {
                steps.push(Step::LoseAnswer(claim));
            }
        }
        for claim in self.askers.keys() {
            steps.push(Step::AskerDies(*claim));
            steps.push(Step::AskerReleases(*claim));
        }
        if self.is_connected() {
            steps.extend(self.doubts.iter().map(|epoch| Step::Alive(*epoch)));
        }
        if self.core.poll_timeout().is_some_and(|at| at < HORIZON && at <= self.patience_of_askers()) {
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

    /// The actions that change something.
    fn acts_of_people(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for view in self.core.views() {
            let allowed = Action::ALL.into_iter().filter(|action| self.core.allows(view.item, *action));
            steps.extend(allowed.map(|action| Step::Act(view.item, action)));
        }
        if !self.core.is_paused() {
            steps.push(Step::Pause);
        }
        steps.push(Step::Limit);
        steps
    }

    /// Whether the walk ended as it should: all items are gone, or the bridge left with empty
    /// hands. A decision may be kept for a redelivery that never comes, because its ack counted; it
    /// ends by age.
    pub fn is_settled(&self) -> bool {
        let stats = self.core.stats();
        self.left || (stats.items == stats.pending && self.all_gone() && self.sent.is_empty())
    }

    pub fn all_gone(&self) -> bool {
        self.stored.iter().all(|stored| stored.place == Place::Gone)
    }

    /// Whether the session came up in the drain. Such a session returns nothing before its end,
    /// apart from redeliveries of known items.
    fn is_for_returns(&self) -> bool {
        self.stopped.is_some_and(|epoch| epoch < self.session.epoch)
    }

    /// Returns the items that the broker may hand over next: the first in order, or any if returned
    /// items go to the end.
    fn deliverable(&self) -> impl Iterator<Item = usize> {
        let out = self.stored.iter().filter(|stored| matches!(stored.place, Place::Out(_))).count();
        let reads = !self.core.is_draining() || self.is_for_returns();
        let open = reads && self.setting.prefetch.is_none_or(|prefetch| out < prefetch);
        let takes = open && self.core.takes();
        let ready = |(index, stored): (usize, &Stored)| (stored.place == Place::Ready).then_some(index);
        let indexes: Vec<usize> = self.stored.iter().enumerate().filter_map(ready).collect();
        let most = match (takes, self.setting.any_order) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => indexes.len(),
        };
        indexes.into_iter().take(most)
    }
}
