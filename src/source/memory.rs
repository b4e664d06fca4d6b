//! A queue in memory that keeps the whole contract of [`Source`](super::Source). Only tests use it.
//!
//! The queue behaves like a RabbitMQ queue, because RabbitMQ is the stricter broker: it bounds the
//! unsettled items, hands an item over again with the redelivered flag, and forgets every tag when
//! it loses the session. The contract test that the real brokers pass runs on this queue too. So a
//! test that uses this queue says something about the brokers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::{Command, Delivery, Link, Settled, SourceError, SourceEvent};
use crate::delivery::{DeliveryId, Epoch, Identity, Outline, Settlement};
use crate::event::Message;

/// The consuming end of the queue.
#[derive(Clone)]
pub struct Source {
    queue: Handle,
    max_in_flight: usize,
}

/// The queue itself, with the operations of a producer and of an operator.
#[derive(Clone, Default)]
pub struct Handle {
    state: Arc<Mutex<State>>,
    /// The wake-up of the source. `Notify` keeps one permit, so the source does not miss a change
    /// while it is busy.
    changed: Arc<Notify>,
}

/// The number of items in each place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: usize,
    pub unacked: usize,
    pub acked: usize,
}

#[derive(Default)]
struct State {
    /// Items by number of arrival. A returned item gets its old place again.
    ready: BTreeMap<u64, Item>,
    /// Unsettled items by their tag in the present session.
    unacked: BTreeMap<u64, Item>,
    acked: usize,
    pushed: u64,
    cut: bool,
    latest_epoch: u64,
}

struct Item {
    number: u64,
    identity: Identity,
    message: Arc<Message>,
    /// The number of returns, like `x-delivery-count` of a quorum queue.
    returns: u32,
}

/// The end of a session.
enum Ended {
    Cut,
    Closed,
}

/// Returns an empty queue, and a source that has at most `max_in_flight` of its items unsettled.
pub fn queue(max_in_flight: usize) -> (Source, Handle) {
    let queue = Handle::default();
    (queue.source(max_in_flight), queue)
}

impl Handle {
    /// Returns a source of this queue. A queue has one source at a time: a second source would need
    /// sessions of its own.
    pub fn source(&self, max_in_flight: usize) -> Source {
        Source { queue: self.clone(), max_in_flight }
    }

    /// Appends an item that has an identity of its own.
    pub fn push(&self, message: Message) {
        let identity = Identity::numbered(self.state().pushed as u128);
        self.push_as(identity, message);
    }

    /// Appends an item with this identity, so that several items can be equal byte for byte.
    pub fn push_as(&self, identity: Identity, message: Message) {
        let mut state = self.state();
        let number = state.pushed;
        state.pushed += 1;
        state.ready.insert(number, Item { number, identity, message: Arc::new(message), returns: 0 });
        drop(state);
        self.changed.notify_one();
    }

    /// Cuts the connection: the session is lost, and its unsettled items go back to the queue.
    pub fn cut(&self) {
        self.state().cut = true;
        self.changed.notify_one();
    }

    pub fn counts(&self) -> Counts {
        let state = self.state();
        Counts { ready: state.ready.len(), unacked: state.unacked.len(), acked: state.acked }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::Source for Source {
    async fn run(self, mut link: Link) -> Result<(), SourceError> {
        let mut epoch = Epoch(self.queue.state().latest_epoch);
        let mut taking = true;
        loop {
            epoch = Epoch(epoch.0 + 1);
            self.queue.state().latest_epoch = epoch.0;
            self.queue.state().cut = false;
            let _ = link.events.send(SourceEvent::Connected(true));
            let _ = link.events.send(SourceEvent::Up { epoch });
            let ended = self.session(epoch, &mut link, &mut taking).await;
            self.queue.state().give_back_all();
            match ended {
                Ended::Closed => return Ok(()),
                Ended::Cut => {
                    let reason = "the session was cut".to_owned();
                    let _ = link.events.send(SourceEvent::Lost { epoch, reason });
                }
            }
            if !taking {
                idle(&mut link).await;
                return Ok(());
            }
        }
    }
}

impl Source {
    async fn session(&self, epoch: Epoch, link: &mut Link, taking: &mut bool) -> Ended {
        let mut tag = 0;
        let mut backlog = None;
        loop {
            if self.queue.state().cut {
                return Ended::Cut;
            }
            let ready = self.queue.counts().ready as u64;
            if backlog != Some(ready) {
                backlog = Some(ready);
                let _ = link.events.send(SourceEvent::Backlog(ready));
            }
            let may_take = *taking && self.queue.state().may_take(self.max_in_flight);
            tokio::select! {
                biased;
                () = self.queue.changed.notified() => {}
                command = link.commands.recv() => match command {
                    None | Some(Command::Close) => return Ended::Closed,
                    Some(command) => self.obey(epoch, command, &link.events, taking),
                },
                permit = link.deliveries.reserve(), if may_take => {
                    let Ok(permit) = permit else { return Ended::Closed };
                    tag += 1;
                    if let Some(delivery) = self.queue.state().take(DeliveryId { epoch, tag }) {
                        permit.send(delivery);
                    }
                }
            }
        }
    }

    fn obey(
        &self,
        epoch: Epoch,
        command: Command,
        events: &mpsc::UnboundedSender<SourceEvent>,
        taking: &mut bool,
    ) {
        match command {
            Command::Settle { delivery, how } => {
                let mut state = self.queue.state();
                let known = delivery.epoch == epoch && !state.cut && state.settle(delivery.tag, how);
                let settled = if known { Settled::Sent } else { Settled::Stale };
                let _ = events.send(SourceEvent::Settled { delivery, settled });
                if known {
                    let _ = events.send(SourceEvent::Proven(vec![delivery]));
                }
            }
            Command::StopIntake => {
                *taking = false;
                let _ = events.send(SourceEvent::IntakeStopped);
            }
            Command::Prove { epoch } => drop(events.send(SourceEvent::Alive { epoch })),
            Command::Note { .. }
            | Command::StartFrom(_)
            | Command::LeaveToOthers
            | Command::PausePartition { .. }
            | Command::SkipUndecodable { .. }
            | Command::Close => {}
        }
    }
}

/// Waits for the end after a cut with the intake stopped. Nothing can be settled, and a new session
/// would only take items that the bridge would return.
async fn idle(link: &mut Link) {
    while let Some(command) = link.commands.recv().await {
        match command {
            Command::Close => return,
            Command::Settle { delivery, .. } => {
                let _ = link.events.send(SourceEvent::Settled { delivery, settled: Settled::Stale });
            }
            Command::StopIntake => {
                let _ = link.events.send(SourceEvent::IntakeStopped);
            }
            Command::Note { .. }
            | Command::Prove { .. }
            | Command::StartFrom(_)
            | Command::LeaveToOthers
            | Command::PausePartition { .. }
            | Command::SkipUndecodable { .. } => {}
        }
    }
}

impl State {
    fn may_take(&self, max_in_flight: usize) -> bool {
        !self.ready.is_empty() && self.unacked.len() < max_in_flight
    }

    fn take(&mut self, id: DeliveryId) -> Option<Delivery> {
        let (_, item) = self.ready.pop_first()?;
        let outline = Outline {
            near_limit: false,
            ask_peers: false,
            shared: false,
            undecodable: false,
            id,
            identity: item.identity.clone(),
            redelivered: item.returns > 0,
            attempts_before: item.returns,
            body_bytes: item.message.body.len() as u64,
            kept_bytes: item.message.body.len() as u64,
            order_key: None,
        };
        let message = Arc::clone(&item.message);
        self.unacked.insert(id.tag, item);
        Some(Delivery { outline, message })
    }

    /// Returns false if the tag is unknown, for example because it was settled before.
    fn settle(&mut self, tag: u64, how: Settlement) -> bool {
        let Some(item) = self.unacked.remove(&tag) else { return false };
        match how {
            Settlement::Ack => self.acked += 1,
            Settlement::Return => self.give_back(item),
        }
        true
    }

    fn give_back(&mut self, mut item: Item) {
        item.returns += 1;
        self.ready.insert(item.number, item);
    }

    fn give_back_all(&mut self) {
        for (_, item) in std::mem::take(&mut self.unacked) {
            self.give_back(item);
        }
    }
}
