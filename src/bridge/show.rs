//! What people see of a pipeline: metrics, readiness, and a line where something changes.

use super::Pipeline;
use crate::delivery::NoRoom;

impl Pipeline {
    /// Brings metrics and readiness up to date.
    pub(super) fn show(&mut self) {
        let stats = self.core.stats();
        self.shared.metrics.in_flight.set(i64::from(stats.running));
        self.shared.metrics.held.set(i64::from(stats.held));
        self.shared.metrics.orphans.set(i64::from(stats.pending));
        self.shared.metrics.blocked_by_key.set(i64::from(stats.blocked_by_key));
        self.show_limit(stats.limit);
        let no_room = self.core.no_room();
        if no_room == self.no_room {
            return;
        }
        self.no_room = no_room;
        self.status.held_full(no_room == Some(NoRoom::Held));
        match no_room {
            Some(NoRoom::Held) => tracing::error!(
                pipeline = self.shared.name,
                held = stats.held,
                "No new items are taken: too many failed for good and are held; configure dead_letter (or on_failed: drop) and restart"
            ),
            Some(NoRoom::Bytes) => tracing::warn!(
                pipeline = self.shared.name,
                bytes = stats.bytes,
                "No new items are taken: bodies in hand are at limits.held_bytes"
            ),
            _ => {}
        }
    }

    /// Says once that the working limit fell, and that it is back.
    pub(super) fn show_limit(&mut self, limit: u32) {
        if limit == self.limit {
            return;
        }
        let (ceiling, fell) = (self.core.max_in_flight(), limit < self.limit);
        if fell && self.limit == ceiling {
            tracing::warn!(
                pipeline = self.shared.name,
                limit,
                max_in_flight = ceiling,
                "Fewer requests at once: the service did not start them all; the limit rises again with time"
            );
        } else if limit == ceiling {
            tracing::info!(pipeline = self.shared.name, limit, "Back at max_in_flight");
        }
        self.limit = limit;
        self.shared.metrics.in_flight_limit.set(i64::from(limit));
    }
}
