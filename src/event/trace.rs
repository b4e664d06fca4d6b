//! The trace context of an item: the headers `traceparent` and `tracestate` of W3C Trace Context.

use cloudevents::Event;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::headers::Headers;

pub(super) const PARENT_HEADER: HeaderName = HeaderName::from_static("traceparent");
pub(super) const STATE_HEADER: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of each part. W3C asks for 512 of `tracestate`; the members that do not fit are left out.
const MOST_BYTES: usize = 512;

/// The members of `tracestate` above this length are left out first.
const LONG_MEMBER: usize = 128;

/// The two headers of a trace context. Nobody has checked the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    pub parent: String,
    pub state: Option<String>,
}

impl TraceContext {
    /// Returns `None` without a valid parent, so that another place can name it.
    fn new(parent: Option<&str>, state: Option<&str>) -> Option<Self> {
        let parent = parent.filter(|text| is_valid(text))?.to_owned();
        Some(TraceContext { parent, state: state.and_then(fitting) })
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

    /// Returns the headers of a message by name.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.state.as_deref().map(|state| ("tracestate", state));
        [("traceparent", self.parent.as_str())].into_iter().chain(state)
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

/// Whether the text is a `traceparent` of version 00, or of a later one that begins like it.
fn is_valid(parent: &str) -> bool {
    let all = |part: &str, is: fn(u8) -> bool| part.bytes().all(is);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut parts = parent.split('-');
    let mut next = |length: usize| parts.next().filter(|part| part.len() == length && all(part, is_hex));
    let (Some(version), Some(trace), Some(span), Some(_flags)) = (next(2), next(32), next(16), next(2))
    else {
        return false;
    };
    let is_zero = |part: &str| all(part, |byte| byte == b'0');
    let is_known = version != "ff" && (version != "00" || parts.next().is_none());
    parent.len() <= MOST_BYTES && is_known && !is_zero(trace) && !is_zero(span)
}

/// Leaves out whole members until the rest fits: first the long ones, then from the end (W3C Trace
/// Context, section 3.3.1.5).
fn fitting(state: &str) -> Option<String> {
    if state.len() <= MOST_BYTES {
        return Some(state.to_owned());
    }
    let mut members: Vec<&str> =
        state.split(',').map(str::trim).filter(|member| !member.is_empty()).collect();
    let mut length = members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    for shortest in [LONG_MEMBER + 1, 0] {
        let mut at = members.len();
        while length > MOST_BYTES && at > 0 {
            at -= 1;
            if members[at].len() >= shortest {
                length = length.saturating_sub(members.remove(at).len() + 1);
            }
        }
    }
    (!members.is_empty()).then(|| members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_parent_is_valid_or_left_out() {
        let later = PARENT.replace("00-4", "01-4") + "-more";
        for valid in [PARENT, &PARENT.replace("-01", "-00"), &later] {
            assert!(TraceContext::new(Some(valid), None).is_some(), "{valid}");
        }
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e4}-00f067aa0ba902b7-01",
            &format!("01{}-{}", &PARENT[2..], "x".repeat(600)),
        ] {
            assert_eq!(TraceContext::new(Some(wrong), None), None, "{wrong}");
        }
    }

    #[test]
    fn a_long_state_loses_whole_members() {
        let state = |text: &str| TraceContext::new(Some(PARENT), Some(text)).unwrap().state;
        let exact = format!("a={}", "x".repeat(510));
        assert_eq!(state(&exact), Some(exact));
        let (short, long) = (format!("s={}", "x".repeat(90)), format!("l={}", "x".repeat(300)));
        // The long member goes first, and then nothing else has to.
        let five = [short.as_str(); 5].join(", ");
        assert_eq!(
            state(&format!("{short},{long},{five}")).as_deref(),
            Some([short.as_str(); 5].join(",").as_str())
        );
        assert_eq!(
            state(&format!("a=1,{long},{short},{long}, b=2")),
            Some(format!("a=1,{long},{short},b=2"))
        );
        let many: Vec<String> = (0..100).map(|number| format!("m{number}=12345")).collect();
        let kept = state(&many.join(",")).unwrap();
        assert!(kept.len() <= 512 && kept.len() > 490 && many.join(",").starts_with(&kept), "{kept}");
        assert_eq!(state(&"x".repeat(1000)), None);
    }
}
