//! The broker's queue and the delivery cores that take from it, in virtual time.

use std::time::Duration;

use super::requests::{Asked, Ended};
use super::scenario::Bridge;
use crate::delivery::{
    AttemptEnd, Command, DeliveryId, Digest, Dispatcher, Effect, Epoch, Identity, Input, Notice, Outline,
    Policy, Settlement, Write, Written,
};

/// One queue, and the replicas of the bridge as its consumers. It keeps RabbitMQ's rule, the
/// stricter one: an unsettled delivery holds a slot of the prefetch, also while its item waits for
/// a retry.
pub struct Queue {
    consumers: Vec<Consumer>,
    /// Who is asked first next time, so that the consumers share the items evenly.
    turn: usize,
    /// Items that are in the queue and with nobody.
    ready: usize,
    delivered: u64,
    effects: Vec<Effect>,
    pub totals: Totals,
}

/// The fate of the items so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Acked: done, dead-lettered or dropped.
    pub settled: usize,
    pub dead_lettered: usize,
    pub dropped: usize,
    /// Failed for good and kept for a person, who never comes here.
    pub held: usize,
    pub retries: usize,
}

struct Consumer {
    core: Dispatcher,
    prefetch: u32,
    unsettled: u32,
}

impl Queue {
    pub fn new(bridge: &Bridge) -> Self {
        let consumer = |index: u32| {
            let policy = Policy { seed: u128::from(index), ..bridge.policy.clone() };
            let prefetch = policy.max_in_flight;
            let mut core = Dispatcher::new(policy);
            core.handle(Duration::ZERO, Input::SessionUp(Epoch(0)), &mut Vec::new());
            Consumer { core, prefetch, unsettled: 0 }
        };
        Queue {
            consumers: (0..bridge.replicas.max(1)).map(consumer).collect(),
            turn: 0,
            ready: 0,
            delivered: 0,
            effects: Vec::new(),
            totals: Totals::default(),
        }
    }

    pub fn enqueue(&mut self, items: usize) {
        self.ready += items;
    }

    /// Hands items over while a consumer has room. Adds the requests to send to `asked`.
    pub fn deliver(&mut self, now: Duration, asked: &mut Vec<Asked>) {
        while self.ready > 0 {
            let count = self.consumers.len();
            let Some(index) =
                (0..count).map(|n| (self.turn + n) % count).find(|n| self.consumers[*n].has_room())
            else {
                return;
            };
            self.turn = (index + 1) % count;
            self.ready -= 1;
            self.consumers[index].unsettled += 1;
            self.delivered += 1;
            self.tell(index, now, Input::Received(outline(self.delivered)), asked);
        }
    }

    pub fn ended(&mut self, now: Duration, ended: Ended, asked: &mut Vec<Asked>) {
        let Asked { bridge, item, .. } = ended.asked;
        // The bridge measures the whole request: it can't see when the work began.
        let took = ended.waited + ended.ran;
        self.tell(
            bridge,
            now,
            Input::Completed {
                item,
                end: AttemptEnd { outcome: ended.outcome, took, answer_bytes: 0, has_checkpoint: false },
            },
            asked,
        );
    }

    /// Fires the timers that are due: retries, a breaker's end.
    pub fn turn(&mut self, now: Duration, asked: &mut Vec<Asked>) {
        for index in 0..self.consumers.len() {
            while self.consumers[index].core.poll_timeout().is_some_and(|timeout| timeout <= now) {
                self.tell(index, now, Input::Timer, asked);
            }
        }
    }

    /// When a timer is due.
    pub fn next(&self) -> Duration {
        self.consumers
            .iter()
            .filter_map(|consumer| consumer.core.poll_timeout())
            .min()
            .unwrap_or(Duration::MAX)
    }

    /// Items that wait in the queue.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Whether anybody would take an item.
    pub fn has_room(&self) -> bool {
        self.consumers.iter().any(Consumer::has_room)
    }

    /// Whether only the rate keeps a consumer from starting an item.
    pub fn waits_for_rate(&self) -> bool {
        self.consumers.iter().any(|consumer| consumer.core.waits_for_rate())
    }

    /// Items in the hands of the bridge: sent, or waiting for a retry.
    pub fn unsettled(&self) -> usize {
        self.consumers.iter().map(|consumer| consumer.unsettled as usize).sum()
    }

    /// Gives one consumer an input and carries out its effects. Writes and settles are confirmed at
    /// once.
    fn tell(&mut self, index: usize, now: Duration, input: Input, asked: &mut Vec<Asked>) {
        let mut input = Some(input);
        let mut follow_up = Vec::new();
        while let Some(next) = input.take().or_else(|| follow_up.pop()) {
            let mut effects = std::mem::take(&mut self.effects);
            self.consumers[index].core.handle(now, next, &mut effects);
            for effect in effects.drain(..) {
                follow_up.extend(self.carry_out(index, &effect, asked));
            }
            self.effects = effects;
        }
    }

    fn carry_out(&mut self, bridge: usize, effect: &Effect, asked: &mut Vec<Asked>) -> Option<Input> {
        match *effect {
            Effect::Do(Command::Dispatch { item, attempt, .. }) => {
                asked.push(Asked { bridge, item, attempt })
            }
            Effect::Do(Command::Settle { delivery, how, dropped }) => {
                self.consumers[bridge].unsettled -= 1;
                match how {
                    Settlement::Ack => {
                        self.totals.settled += 1;
                        self.totals.dropped += usize::from(dropped);
                    }
                    Settlement::Return => self.ready += 1,
                }
                return Some(Input::Settled { delivery, stale: false });
            }
            Effect::Do(Command::Write { item, write }) => {
                if matches!(write, Write::DeadLetter { .. }) {
                    self.totals.dead_lettered += 1;
                }
                return Some(Input::Written { item, written: Written::Confirmed });
            }
            Effect::Tell(Notice::Held { .. }) => self.totals.held += 1,
            Effect::Tell(Notice::Retrying { .. }) => self.totals.retries += 1,
            // A queue without returns and a bridge without other replicas need nothing else.
            Effect::Do(_) | Effect::Tell(_) => {}
        }
        None
    }
}

impl Totals {
    pub fn done(&self) -> usize {
        self.settled - self.dead_lettered - self.dropped
    }
}

impl Consumer {
    fn has_room(&self) -> bool {
        self.unsettled < self.prefetch && self.core.no_room().is_none()
    }
}

fn outline(number: u64) -> Outline {
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    Outline {
        id: DeliveryId { epoch: Epoch(0), tag: number },
        identity: Identity::Content(Digest(digest)),
        redelivered: false,
        attempts_before: 0,
        body_bytes: 0,
        kept_bytes: 0,
        order_key: None,
        near_limit: false,
        ask_peers: false,
        shared: false,
        undecodable: false,
    }
}
