//! Passes the source's events and deliveries to the core.

use tokio::time::Instant;

use super::work::Incoming;
use super::{BATCH, Pipeline};
use crate::delivery::{Identity, Input};
use crate::event::Origin;
use crate::source::{Delivery, Settled, SourceEvent};

impl Pipeline {
    /// Returns whether a delivery can be taken now.
    pub(super) fn takes(&self) -> bool {
        self.core.is_draining() || (self.core.takes() && !self.waits_for_peers())
    }

    /// Takes this delivery and those behind it, as long as there is room.
    pub(super) fn deliveries(&mut self, first: Delivery) {
        self.delivery(first);
        for _ in 1..BATCH {
            if !self.takes() {
                break;
            }
            let Ok(next) = self.port.deliveries.try_recv() else { break };
            self.delivery(next);
        }
    }

    /// Takes one delivery. All events of the source are handled first, so that a delivery of a lost
    /// session is recognised.
    fn delivery(&mut self, delivery: Delivery) {
        self.shared.metrics.received.inc();
        if let Origin::Rabbitmq(origin) = &delivery.message.origin {
            let queue = self.queue.get_or_insert_with(|| origin.queue.clone());
            self.shared.metrics.queue_progressed(queue);
        }
        if delivery.outline.redelivered {
            self.shared.metrics.redeliveries.inc();
        }
        self.take_in(delivery);
    }

    /// Passes on a delivery that was counted before.
    pub(super) fn take_in(&mut self, delivery: Delivery) {
        self.events();
        let Some(delivery) = self.sort(delivery) else { return };
        let Some(mut delivery) = self.partitions.sort(delivery) else { return };
        self.shared.seal.check(&mut delivery.outline, &delivery.message);
        delivery.outline.kept_bytes += self.shared.encoder.copied_bytes(&delivery.message);
        let skip = self.partitions.skip(&delivery);
        let identity = &delivery.outline.identity;
        let is_copy = matches!(identity, Identity::Copy { .. });
        let store = self.shared.checkpoints.as_ref().filter(|_| !delivery.outline.undecodable);
        let keeper = store.and_then(|store| store.keeper(identity));
        let content = identity.content();
        self.incoming = Some(Incoming { message: delivery.message, content, is_copy, keeper });
        let id = delivery.outline.id;
        self.handle(Input::Received(delivery.outline));
        self.incoming = None;
        if let Some(then) = skip {
            self.skip_received(id, then);
        }
    }

    /// Handles the events that the source has reported by now.
    pub(super) fn events(&mut self) {
        while let Ok(event) = self.port.events.try_recv() {
            self.event(event);
        }
    }

    pub(super) fn event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(assignments) => {
                self.partitions.assigned(&assignments);
                self.assigned(assignments);
            }
            SourceEvent::Releasing { epoch } => {
                self.forget_partition(epoch);
                self.handle(Input::SessionEnding(epoch));
            }
            SourceEvent::Up { epoch } => self.handle(Input::SessionUp(epoch)),
            SourceEvent::Lost { epoch, reason } => {
                self.shared.metrics.sessions_lost.inc();
                let running = self.core.stats().running;
                tracing::warn!(
                    %epoch, reason, running,
                    "Session lost; running requests go on and wait for their redelivery"
                );
                self.forget_partition(epoch);
                self.partitions.lost(epoch);
                self.handle(Input::SessionLost(epoch));
            }
            SourceEvent::Settled { delivery, settled } => {
                let stale = settled == Settled::Stale;
                tracing::debug!(%delivery, stale, "Settled");
                if stale {
                    self.shared.metrics.stale_settles.inc();
                } else if let Some(queue) = &self.queue {
                    self.shared.metrics.queue_progressed(queue);
                }
                self.progress = Instant::now();
                self.handle(Input::Settled { delivery, stale });
            }
            SourceEvent::Proven(ids) => {
                for delivery in ids {
                    self.handle(Input::AckConfirmed { delivery });
                }
            }
            SourceEvent::Alive { epoch } => self.handle(Input::SessionAlive(epoch)),
            SourceEvent::Connected(connected) => {
                self.shared.metrics.connected.set(i64::from(connected));
                self.status.set_connected(connected);
            }
            SourceEvent::Backlog(items) => {
                self.backlog = Some(items);
                self.shared.metrics.backlog.set(i64::try_from(items).unwrap_or(i64::MAX));
            }
            SourceEvent::Stuck { delivery } => self.handle(Input::Stuck { delivery }),
            SourceEvent::Partitions(partitions) => {
                self.partitions.seen(&partitions);
                self.shared.metrics.partitions(partitions);
            }
            SourceEvent::HeadAge(age) => {
                self.shared.metrics.kafka_head_age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
            }
            SourceEvent::PartitionsFull(number) => {
                self.shared.metrics.kafka_partitions_full.set(i64::try_from(number).unwrap_or(i64::MAX));
            }
            SourceEvent::Problem(problem) => self.status.raise(problem),
            SourceEvent::Solved { kind, subject } => self.status.clear(kind, &subject),
            SourceEvent::IntakeStopped => self.intake_stopped = true,
        }
    }
}
