//! The delivery limit. After this number of returns a quorum queue moves an item to its dead-letter
//! exchange, or drops the item silently if it has none. Lost connections and ack timeouts count as
//! returns.
//!
//! RabbitMQ does not tell its consumers the limit. If neither the configuration nor the declared
//! queue states it, longhaul assumes the default of RabbitMQ 4 on every server. A copy that was not
//! needed does no harm.

use crate::config::Declare;

/// The limit of a quorum queue on RabbitMQ 4 without an argument or policy.
const DEFAULT: i64 = 20;
/// A copy of an item is written this many returns before the last one.
const MARGIN: i64 = 2;

/// The number of returns at which a copy of an item is written; none if the queue drops no items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(Option<u32>);

impl Limit {
    /// Computes the limit. `said` is the limit in the configuration.
    pub(super) fn of(declare: Option<&Declare>, said: Option<u32>) -> Self {
        let declared = declare.and_then(|declare| declare.arguments.get("x-delivery-limit"));
        let declared = declared.and_then(serde_json::Value::as_i64);
        let limit = declared.or(said.map(i64::from)).unwrap_or(DEFAULT);
        match limit {
            // The queue has no bound, or drops the item at its first return. A copy would not help.
            ..=0 => Limit(None),
            1..=3 => Limit(Some(1)),
            _ => Limit(u32::try_from(limit - MARGIN).ok()),
        }
    }

    pub(super) fn is_near(self, returns: u32) -> bool {
        self.0.is_some_and(|threshold| returns >= threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RabbitmqSource;

    fn threshold(yaml: serde_json::Value) -> Option<u32> {
        let mut source = serde_json::json!({"url": "amqp://b", "queue": "q"});
        source.as_object_mut().unwrap().extend(yaml.as_object().unwrap().clone());
        let source: RabbitmqSource = serde_json::from_value(source).unwrap();
        Limit::of(source.declare.as_ref(), source.delivery_limit).0
    }

    #[test]
    fn what_is_declared_wins_over_what_is_said_and_that_over_the_default() {
        use serde_json::json;
        let declare =
            |limit: i64| json!({"declare": {"arguments": {"x-delivery-limit": limit}}, "delivery_limit": 9});
        assert_eq!(threshold(json!({})), Some(18));
        assert_eq!(threshold(json!({"delivery_limit": 9})), Some(7));
        assert_eq!(threshold(declare(30)), Some(28));
        assert_eq!(threshold(declare(-1)), None);
        for small in 1..=3 {
            assert_eq!(threshold(json!({"delivery_limit": small})), Some(1));
        }
        assert_eq!(threshold(json!({"delivery_limit": 0})), None);
    }
}
