//! Counts the items that wait in the queue or topic.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Intake;
#[cfg(feature = "kafka")]
use crate::tools::kafka;
use crate::tools::{Failure, Place, place, rabbitmq};

/// The time between two counts.
const INTERVAL: Duration = Duration::from_secs(1);

/// How the items are counted.
enum Counter<'a> {
    Rabbitmq(&'a place::Rabbitmq),
    #[cfg(feature = "kafka")]
    Kafka(kafka::Lag),
}

/// Counts until the future is dropped. If `backlog_max` is not set, it only waits. The future must
/// not block its thread, because the same task accepts connections. The backlog is the last count
/// and the items that were written since.
pub(super) async fn watch(intake: &Intake) -> Result<(), Failure> {
    if intake.settings.backlog_max.is_none() {
        return std::future::pending().await;
    }
    let counter = Counter::of(intake)?;
    loop {
        // An item that is written during the count may be counted twice until the next count.
        let before = intake.written_since_count.load(Ordering::Relaxed);
        match counter.count().await {
            Ok(count) => {
                intake.counted_backlog.store(count, Ordering::Relaxed);
                intake.written_since_count.fetch_sub(before, Ordering::Relaxed);
            }
            Err(failure) => {
                tracing::warn!(error = failure.what, "Backlog cannot be counted; the last count stays");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl<'a> Counter<'a> {
    fn of(intake: &'a Intake) -> Result<Self, Failure> {
        match &intake.settings.to {
            Place::Rabbitmq(place) => Ok(Counter::Rabbitmq(place)),
            #[cfg(feature = "kafka")]
            Place::Kafka(place) => {
                let group = intake.settings.group.as_deref().unwrap_or_default();
                Ok(Counter::Kafka(kafka::Lag::of(place, group)?))
            }
            #[cfg(not(feature = "kafka"))]
            Place::Kafka(_) => Err(Failure::usage("this build has no Kafka", "use another build")),
        }
    }

    async fn count(&self) -> Result<u64, Failure> {
        match self {
            Counter::Rabbitmq(place) => Ok(rabbitmq::ready_messages(place).await?.unwrap_or(0).into()),
            #[cfg(feature = "kafka")]
            Counter::Kafka(lag) => lag.count().await,
        }
    }
}
