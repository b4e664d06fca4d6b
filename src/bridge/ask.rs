//! Asks the other replicas for a redelivered item before it starts here.
//!
//! A RabbitMQ item is asked for by itself. Kafka does not tell whether a record was handed out
//! before. So the other replicas are asked once for each assigned partition, which of its offsets
//! are in their hands. The partition's records wait for that answer, and only those offsets are
//! then asked for. They wait for the stored checkpoints of the partition too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tracing::Instrument;

use super::{Ended, Pipeline, verdict};
use crate::checkpoints::{self, Store};
use crate::delivery::{DeliveryId, Epoch, Identity, Input, ItemId};
use crate::peers::{Claimed, Peers};
use crate::source::{Assignment, Delivery};

/// The other replicas, the stored checkpoints, and the open questions.
pub(super) struct Asking {
    peers: Option<Arc<Peers>>,
    checkpoints: Option<Arc<Store>>,
    partitions: HashMap<Epoch, Partition>,
    /// The partitions whose checkpoints this replica has read, or reads now.
    read: HashMap<Epoch, checkpoints::Partition>,
    /// Records that wait for their partition's answer.
    waiting: usize,
}

enum Partition {
    Asked(Vec<Delivery>),
    /// The offsets that other replicas run, or have finished and not committed.
    Known(BTreeSet<i64>),
}

/// The answer for a partition.
pub(super) struct PartitionAnswer {
    pub epoch: Epoch,
    pub offsets: BTreeSet<i64>,
}

impl Asking {
    /// Returns `None` if there is nobody to ask.
    pub fn new(peers: Option<Arc<Peers>>, checkpoints: Option<Arc<Store>>) -> Option<Self> {
        let is_needed = peers.is_some() || checkpoints.is_some();
        let (partitions, read) = (HashMap::new(), HashMap::new());
        is_needed.then_some(Asking { peers, checkpoints, partitions, read, waiting: 0 })
    }

    /// Marks a delivery that may run at another replica, or keeps it until that is known.
    fn sort(&mut self, mut delivery: Delivery) -> Option<Delivery> {
        let Identity::Record { offset, .. } = delivery.outline.identity else { return Some(delivery) };
        match self.partitions.get_mut(&delivery.outline.id.epoch) {
            Some(Partition::Asked(waiting)) => {
                waiting.push(delivery);
                self.waiting += 1;
                return None;
            }
            Some(Partition::Known(offsets)) => delivery.outline.ask_peers = offsets.contains(&offset),
            None => {}
        }
        Some(delivery)
    }

    /// Forgets all partitions: their source has ended.
    pub fn clear(&mut self) {
        self.partitions.clear();
        self.waiting = 0;
        let read = std::mem::take(&mut self.read);
        if let Some(store) = &self.checkpoints {
            read.values().for_each(|place| store.forget(place));
        }
    }

    fn take_waiting(&mut self, partition: Option<Partition>) -> Vec<Delivery> {
        let Some(Partition::Asked(waiting)) = partition else { return Vec::new() };
        self.waiting -= waiting.len();
        waiting
    }
}

impl Pipeline {
    /// Returns the other replicas, if there may be any.
    pub(super) fn peers(&self) -> Option<Arc<Peers>> {
        self.asking.as_ref()?.peers.clone()
    }

    /// Returns whether no more records may be kept for an answer.
    pub(super) fn waits_for_peers(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.waiting >= self.core.max_in_flight() as usize)
    }

    /// Returns the delivery if it can go to the core now.
    pub(super) fn sort(&mut self, mut delivery: Delivery) -> Option<Delivery> {
        match &mut self.asking {
            Some(asking) => asking.sort(delivery),
            None => {
                delivery.outline.ask_peers = false;
                Some(delivery)
            }
        }
    }

    pub(super) fn assigned(&mut self, assignments: Vec<Assignment>) {
        let Some(asking) = &mut self.asking else { return };
        for Assignment { epoch, log, topic, partition, committed } in assignments {
            asking.partitions.insert(epoch, Partition::Asked(Vec::new()));
            let (peers, store) = (asking.peers.clone(), asking.checkpoints.clone());
            let (shared, answers) = (self.shared.clone(), self.partition_answers.clone());
            let place = checkpoints::Partition { topic: topic.clone(), number: partition, log: log.0 };
            if store.is_some() {
                asking.read.insert(epoch, place.clone());
            }
            let question = async move {
                let peers_answer = async {
                    match &peers {
                        Some(peers) => peers.in_flight(&shared.name, &topic, partition, log.0).await,
                        None => BTreeSet::new(),
                    }
                };
                let load = async {
                    if let Some(store) = &store {
                        store.load(place, committed).await;
                    }
                };
                let (offsets, ()) = tokio::join!(peers_answer, load);
                // The pipeline keeps the receiver, so this cannot fail.
                let _ = answers.send(PartitionAnswer { epoch, offsets });
            };
            self.tasks.spawn(question.in_current_span());
        }
    }

    pub(super) fn partition_answered(&mut self, answer: PartitionAnswer) {
        let PartitionAnswer { epoch, offsets } = answer;
        let Some(asking) = &mut self.asking else { return };
        let Some(asked) = asking.partitions.remove(&epoch) else { return };
        if !offsets.is_empty() {
            let count = offsets.len();
            tracing::info!(%epoch, count, "Other replicas work on records of this partition");
            asking.partitions.insert(epoch, Partition::Known(offsets));
        }
        for delivery in asking.take_waiting(Some(asked)) {
            self.take_in(delivery);
        }
    }

    /// Drops the answer and the waiting records of a session that is over.
    pub(super) fn forget_partition(&mut self, epoch: Epoch) {
        if let Some(asking) = &mut self.asking {
            let gone = asking.partitions.remove(&epoch);
            asking.take_waiting(gone);
            if let (Some(store), Some(place)) = (&asking.checkpoints, asking.read.remove(&epoch)) {
                store.forget(&place);
            }
        }
    }

    /// Hands the waiting records to the core, which returns them in a drain.
    pub(super) fn stop_waiting(&mut self) {
        let Some(asking) = &mut self.asking else { return };
        let all = std::mem::take(&mut asking.partitions);
        let waiting: Vec<Delivery> =
            all.into_values().flat_map(|one| asking.take_waiting(Some(one))).collect();
        for delivery in waiting {
            self.take_in(delivery);
        }
    }

    /// Asks the other replicas for an item, and waits for its end if one of them runs it.
    pub(super) fn ask(&mut self, item: ItemId, id: DeliveryId, identity: &Identity) {
        let Some(peers) = self.peers() else {
            return self.handle_later(Input::PeersAnswered { item, handed: None });
        };
        let (shared, ended) = (self.shared.clone(), self.ended.clone());
        let (identity, name) = (identity.to_string(), self.id(item));
        let question = async move {
            let claimed = peers.claim(&shared.name, &id.to_string(), &identity).await;
            let handed = match claimed {
                Claimed::Finished(verdict) => verdict::read(verdict),
                Claimed::NotYours | Claimed::Unknown => None,
                Claimed::Gone => {
                    tracing::warn!(id = name, "The replica that ran this item is gone; the item runs here");
                    None
                }
            };
            if let Some(handed) = handed {
                shared.metrics.taken_over.inc();
                tracing::info!(
                    id = name,
                    ?handed,
                    "Item was begun at another replica, which handed its result over"
                );
            }
            let _ = ended.send(Ended::of(Input::PeersAnswered { item, handed }, None));
        };
        self.tasks.spawn(question.in_current_span());
    }
}
