//! Classifies media types. Parameters and case never matter.

/// The type of a CloudEvent as a JSON document: structured mode (JSON event format 1.0.2, section
/// 3).
pub(super) const CLOUDEVENTS_JSON: &str = "application/cloudevents+json";

/// The same type, as longhaul sends it.
pub(super) const CLOUDEVENTS_JSON_UTF8: &str = "application/cloudevents+json; charset=utf-8";

/// Whether a body of this type is one CloudEvent in JSON, with or without a charset.
pub(super) fn is_cloudevent_json(media_type: &str) -> bool {
    essence(media_type).eq_ignore_ascii_case(CLOUDEVENTS_JSON)
}

/// Whether a receiver would take a body of this type for an event or a batch of events (HTTP
/// binding 1.0.2, section 3: every type with this prefix).
pub(super) fn claims_cloudevents(media_type: &str) -> bool {
    starts_with_ignore_case(essence(media_type), "application/cloudevents")
}

/// Whether the type declares JSON (JSON event format 1.0.2, section 3.1: subtype `json` or suffix
/// `+json`).
pub(super) fn is_json(media_type: &str) -> bool {
    has_subtype(media_type, "json")
}

/// Whether data of this type is text that a JSON document can hold as a string.
pub(super) fn is_text(media_type: &str) -> bool {
    starts_with_ignore_case(media_type.trim_start(), "text/") || has_subtype(media_type, "xml")
}

fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

fn has_subtype(media_type: &str, wanted: &str) -> bool {
    let Some((_, subtype)) = essence(media_type).split_once('/') else { return false };
    let last = subtype.rsplit('+').next().unwrap_or(subtype);
    last.eq_ignore_ascii_case(wanted)
}

fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_matter() {
        for yes in ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=UTF-8"] {
            assert!(is_cloudevent_json(yes), "{yes}");
        }
        for no in
            ["application/cloudevents-batch+json", "application/json", "application/cloudevents+xml", ""]
        {
            assert!(!is_cloudevent_json(no), "{no}");
        }
        assert!(claims_cloudevents("application/cloudevents-batch+json"));
        for json in ["application/json", "text/json;charset=utf-8", "application/geo+json", "image/JSON"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["application/jsonl", "json", "text/plain", "application/json-seq", "ä"] {
            assert!(!is_json(other), "{other}");
        }
        assert!(
            is_text("text/csv") && is_text("application/atom+xml") && !is_text("application/octet-stream")
        );
    }
}
