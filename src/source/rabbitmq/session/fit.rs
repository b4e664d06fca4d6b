//! Fits the items in hand to the slots and to the memory, by starting and cancelling consumers.

use super::{COUNT_TIMEOUT, Subscription};
use crate::config::Declare;
use crate::connect::rabbitmq::Error;
use crate::delivery::Settlement;
use crate::source::rabbitmq::consumers::Arrival;
use crate::source::rabbitmq::others::Others;
use crate::source::rabbitmq::{Intake, Settings, backlog};

impl Subscription {
    /// Starts or cancels consumers, so that the items in hand fill the slots or the memory, and no
    /// more.
    pub(super) async fn fit(&mut self, settings: &Settings) -> Result<(), Error> {
        if self.window.is_over() {
            return self.shrink(settings).await;
        }
        if let Some(prefetch) = self.window.missing() {
            self.others.begin_change();
            self.consumers.add(prefetch).await?;
            self.others.set_own(self.consumers.count());
            self.window.grow(prefetch);
            self.suspicion.begin();
            tracing::debug!(queue = settings.queue, prefetch, "One more consumer takes items");
        }
        Ok(())
    }

    /// Cancels the further consumers. The deliveries that they still bring are returned, because
    /// they do not fit; one that is near its delivery limit is kept.
    async fn shrink(&mut self, settings: &Settings) -> Result<(), Error> {
        let (mut kept, mut returned, mut fault) = (Vec::new(), Vec::new(), None);
        let (reader, settler) = (&self.reader, &mut self.settler);
        self.others.begin_change();
        let cancelled = self.consumers.cancel_further(|arrival| match arrival {
            Arrival::Delivery { delivery, is_further } => {
                let delivery = reader.delivery(*delivery);
                if is_further && !delivery.outline.near_limit {
                    settler.deliver(&delivery.outline);
                    returned.push(delivery.outline.id);
                } else {
                    kept.push(delivery);
                }
            }
            Arrival::Failed(error) => fault = Some(Error::from(error)),
            Arrival::Ended(_) => fault = Some(Error::Cancelled),
        });
        cancelled.await?;
        // Before, the broker would hand each of them over again at once.
        for id in &returned {
            self.settler.settle(*id, Settlement::Return);
        }
        self.window.shrink();
        self.suspicion.end();
        self.others.cancelled(self.consumers.count());
        tracing::info!(
            queue = settings.queue,
            returned = returned.len(),
            "Fewer items are taken: the items in hand are at limits.held_bytes"
        );
        for delivery in kept {
            let delivery = self.received(settings, delivery).await;
            self.waiting.push_back(delivery);
        }
        fault.map_or(Ok(()), Err)
    }

    /// Examines the suspicion that only the first consumer gets items. A large item may be on its
    /// way for longer than the suspicion waits. The broker's answer follows it on the same
    /// connection, so only an answer without an item before it counts.
    ///
    /// If it is confirmed, one consumer takes the place of all. The items in hand stay with the
    /// channel, so none of them comes again.
    pub(super) async fn examine(&mut self, settings: &Settings) -> Result<(), Error> {
        if self.suspicion.is_confirmed() {
            return self.take_all(settings).await;
        }
        let counting = backlog::count(&self.asking, &settings.queue);
        let counted = tokio::time::timeout(COUNT_TIMEOUT, counting).await;
        match counted {
            Ok(Ok(count)) if count.ready > 0 => self.suspicion.confirm(),
            _ => self.suspicion.begin(),
        }
        Ok(())
    }

    /// Replaces all consumers by one that takes the items for all slots.
    async fn take_all(&mut self, settings: &Settings) -> Result<(), Error> {
        let (mut late, mut fault) = (Vec::new(), None);
        self.others.begin_change();
        let replaced = self.consumers.replace_all(settings.max_in_flight, |arrival| match arrival {
            Arrival::Delivery { delivery, .. } => late.push(delivery),
            Arrival::Failed(error) => fault = Some(Error::from(error)),
            Arrival::Ended(_) => fault = Some(Error::Cancelled),
        });
        replaced.await?;
        self.window.take_all();
        self.suspicion.refute();
        self.others.cancelled(0);
        self.others.set_own(1);
        self.others.set_single();
        tracing::info!(
            queue = settings.queue,
            "The queue has a single active consumer: one consumer takes the items for all slots"
        );
        for delivery in late {
            let delivery = self.reader.delivery(*delivery);
            let delivery = self.received(settings, delivery).await;
            self.waiting.push_back(delivery);
        }
        fault.map_or(Ok(()), Err)
    }
}

/// Returns the bound of a session's memory. A single active consumer is the only one that gets
/// items, and a drain needs all items in hand again, so there the first consumer takes all.
pub(super) fn held_bytes(settings: &Settings, intake: Intake, others: &Others) -> Option<u64> {
    let argument = |declare: &Declare| declare.arguments.get("x-single-active-consumer").cloned();
    let is_declared = settings.declare.as_ref().and_then(argument) == Some(serde_json::Value::Bool(true));
    let is_single = is_declared || others.is_single();
    settings.held_bytes.filter(|_| !is_single && intake == Intake::Open)
}
