//! Counts the items that wait in the queue or topic.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Intake;
use crate::tools::{Failure, Place, rabbitmq};

/// The time between two counts.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts until the future is dropped. Without a limit there is nothing to count.
pub(super) async fn watch(intake: &Intake) {
    if intake.settings.backlog_max.is_none() {
        return std::future::pending().await;
    }
    loop {
        // Items that are written during the count may be in it twice for a moment.
        let before = intake.written_since_count.load(Ordering::Relaxed);
        match count(intake).await {
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

async fn count(intake: &Intake) -> Result<u64, Failure> {
    match &intake.settings.to {
        Place::Rabbitmq(place) => Ok(rabbitmq::ready_messages(place).await?.unwrap_or(0).into()),
        #[cfg(feature = "kafka")]
        Place::Kafka(place) => {
            crate::tools::kafka::lag(place, intake.settings.group.as_deref().unwrap_or_default())
        }
        #[cfg(not(feature = "kafka"))]
        Place::Kafka(_) => Err(Failure::usage("this build has no Kafka", "use another build")),
    }
}
