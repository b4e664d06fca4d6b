//! Tells people about the core's notices: log lines, metrics and problems.

use super::Pipeline;
use crate::delivery::{Notice, Outcome};
use crate::telemetry::{Problem, ProblemKind};

impl Pipeline {
    pub(super) fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::Held { item, reason } => tracing::error!(id = self.id(item), %reason,
                "Item failed for good and is held: it stays with the broker, unsettled"
            ),
            Notice::Retrying { item, delay, attempts } => {
                self.shared.metrics.retries.inc();
                tracing::info!(
                    id = self.id(item),
                    attempt = attempts,
                    attempts = self.shared.attempts,
                    seconds = delay.as_secs_f64(),
                    "Item will be tried again"
                );
            }
            Notice::Copied { item } => {
                self.shared.metrics.rewritten.inc();
                tracing::info!(
                    id = self.id(item),
                    "Item copied to its own queue, because its delivery limit was near; its old delivery is acked"
                );
            }
            Notice::Redundant { delivery } => {
                tracing::debug!(%delivery, "Redundant delivery of an item in hand acked");
            }
            Notice::OrphanExpired { item } => {
                self.shared.metrics.orphans_expired.inc();
                self.forgone += usize::from(self.core.is_draining());
                tracing::warn!(
                    id = self.id(item),
                    "Result discarded, because no redelivery claimed it in time; a redelivered item runs again"
                );
            }
            Notice::HandedOver { claim, identity, handed } => {
                self.shared.metrics.handed_over.inc();
                let asker = self.claims.asker(claim);
                tracing::info!(%identity, asker, ?handed,
                    "Result handed to the replica that was given the item"
                );
            }
            Notice::BreakerOpened { cause } => self.breaker_opened(cause),
            Notice::Moved { item, state } => self.moved(item, state),
            Notice::BreakerClosed => {
                self.status.clear(ProblemKind::BreakerOpen, "");
                tracing::info!("Breaker closed: the service works again");
            }
        }
    }

    fn breaker_opened(&mut self, cause: Outcome) {
        let answer = self.last_failure.as_deref().unwrap_or("no answer");
        let (kind, help) = match cause {
            Outcome::Misconfigured => (
                "the service refused the bridge and not the item",
                "fix the credentials, the certificate or the address under `sink`; the items are kept, and one of \
                 them tests the service after breaker.open, or at once after `longhaul resume`",
            ),
            _ => (
                "too many items in a row failed",
                "make the service work again; one item tests it after breaker.open, or at once after `longhaul resume`",
            ),
        };
        tracing::warn!(
            cause = cause.label(),
            answer,
            "Breaker open: nothing new starts until a test request succeeds"
        );
        self.status.raise(Problem {
            kind: ProblemKind::BreakerOpen,
            subject: String::new(),
            text: format!("no new requests are sent, because {kind}; the last answer: {answer}"),
            help: help.to_owned(),
        });
    }
}
