//! The ids of an item's trace.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use sha2::{Digest, Sha256};

use super::Item;
use crate::event::TraceContext;

/// The ids of an item's trace. They are the same in every process that has the item.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    pub trace: TraceId,
    /// The span of the item.
    pub item: SpanId,
    /// The producer's context, which the sampler reads.
    pub parent: Context,
}

impl Ids {
    pub fn of(item: &Item) -> Self {
        let parent = item.context.as_ref().map(producer).unwrap_or_default();
        let context = span_context(&parent);
        let seed = |purpose: &[u8]| {
            let mut hasher = Sha256::new_with_prefix(purpose);
            for part in [&item.pipeline, &item.source, &item.id] {
                hasher.update(part.len().to_be_bytes());
                hasher.update(part);
            }
            hasher.update(item.content);
            hasher.update(context.trace_id().to_bytes());
            hasher.update(context.span_id().to_bytes());
            let digest = hasher.finalize();
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest[..16]);
            u128::from_be_bytes(bytes)
        };
        let own = || TraceId::from(seed(b"longhaul trace"));
        let trace = if context.is_valid() { context.trace_id() } else { own() };
        Ids { trace, item: SpanId::from(seed(b"longhaul item") as u64), parent }
    }

    /// The producer's span, or an invalid id.
    pub fn producer(&self) -> SpanId {
        span_context(&self.parent).span_id()
    }

    /// The flags of a span that is sent, or not.
    pub fn flags(&self, is_sampled: bool) -> TraceFlags {
        span_context(&self.parent).trace_flags().with_sampled(is_sampled)
    }

    pub fn state(&self) -> TraceState {
        span_context(&self.parent).trace_state().clone()
    }
}

fn span_context(context: &Context) -> SpanContext {
    context.span().span_context().clone()
}

/// Reads the producer's context. An invalid context is ignored.
fn producer(headers: &TraceContext) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

struct Headers<'a>(&'a TraceContext);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.0.parent),
            "tracestate" => self.0.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::Place;
    use super::*;

    const PRODUCER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn item(id: &str, parent: Option<&str>) -> Item {
        Item {
            pipeline: "p".to_owned(),
            place: Place::Queue("q".to_owned()),
            id: id.to_owned(),
            source: "/s".to_owned(),
            content: [7; 16],
            context: parent
                .map(|parent| TraceContext { parent: parent.to_owned(), state: Some("vendor=1".to_owned()) }),
            since: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_trace_has_the_id_of_its_producer() {
        let ids = Ids::of(&item("a", Some(PRODUCER)));
        assert_eq!(ids.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(ids.producer().to_string(), "00f067aa0ba902b7");
        assert_eq!((ids.flags(true).to_u8(), ids.state().header()), (1, "vendor=1".to_owned()));
        assert_ne!(ids.item, Ids::of(&item("b", Some(PRODUCER))).item, "two items of one producer");
    }

    #[test]
    fn without_a_producer_the_identity_makes_the_ids() {
        let ids = Ids::of(&item("a", None));
        assert_eq!((ids.trace, ids.item), {
            let again = Ids::of(&item("a", None));
            (again.trace, again.item)
        });
        assert_ne!(ids.trace, Ids::of(&item("b", None)).trace);
        let other = Item { content: [8; 16], ..item("a", None) };
        assert_ne!(ids.trace, Ids::of(&other).trace, "another item with the same id");
        // The ids must not change from one release to the next: replicas of both run together.
        assert_eq!(ids.trace.to_string(), "c0979e4b50309cf111f6e7fa93fa8336");
    }

    #[test]
    fn an_invalid_context_is_none() {
        let own = Ids::of(&item("a", None)).trace;
        for parent in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ä",
        ] {
            assert_eq!(Ids::of(&item("a", Some(parent))).trace, own, "{parent}");
        }
    }
}
