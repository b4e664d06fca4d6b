//! The trace context of an item: the headers `traceparent` and `tracestate` of W3C Trace Context.

use cloudevents::Event;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::headers::Headers;

pub(super) const PARENT_HEADER: HeaderName = HeaderName::from_static("traceparent");
pub(super) const STATE_HEADER: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of each part. W3C asks for 512 of `tracestate`; a longer part is left out.
const MOST_BYTES: usize = 512;

/// The two headers of a trace context, as texts that nobody has checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    pub parent: String,
    pub state: Option<String>,
}

impl TraceContext {
    fn new(parent: Option<&str>, state: Option<&str>) -> Option<Self> {
        let fits = |text: &&str| text.len() <= MOST_BYTES;
        let parent = parent.filter(fits)?.to_owned();
        Some(TraceContext { parent, state: state.filter(fits).map(str::to_owned) })
    }

    /// Returns the context in the extension for distributed tracing, which names the start of the
    /// trace. The headers of the message win over it, because they name the latest step.
    pub(super) fn of_event(event: &Event) -> Option<Self> {
        let text = |name| event.extension(name).map(ToString::to_string);
        Self::new(text("traceparent").as_deref(), text("tracestate").as_deref())
    }

    pub(super) fn of_headers(headers: &Headers) -> Option<Self> {
        let text = |name: HeaderName| headers.get(&name)?.to_str().ok();
        Self::new(text(PARENT_HEADER), text(STATE_HEADER))
    }

    /// Replaces the context of a request.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let Ok(parent) = HeaderValue::from_str(&self.parent) else { return };
        headers.remove(STATE_HEADER);
        // The encoder has left room for both, so neither can be refused.
        let _ = headers.try_insert(PARENT_HEADER, parent);
        let state = self.state.as_ref().and_then(|state| HeaderValue::from_str(state).ok());
        let _ = state.map(|state| headers.try_insert(STATE_HEADER, state));
    }
}
