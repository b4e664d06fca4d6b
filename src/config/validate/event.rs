//! Checks the attributes of the CloudEvent.

use super::Context;
use crate::config::path::Path;
use crate::config::types::{Event, EventId};

/// The specification's own attributes, `data`, and the extensions that longhaul sets.
const TAKEN: [&str; 11] = [
    "id",
    "source",
    "specversion",
    "type",
    "datacontenttype",
    "dataschema",
    "subject",
    "time",
    "data",
    "attempt",
    "redelivered",
];

impl Context<'_> {
    pub(super) fn event(&mut self, event: &Event, path: &Path) {
        self.not_empty(&path.key("type"), event.r#type.as_deref());
        self.not_empty(&path.key("source"), event.source.as_deref());
        self.not_empty(&path.key("subject"), event.subject.as_deref());
        self.event_id(event.id.as_ref(), &path.key("id"));
        let extensions = path.key("extensions");
        for name in event.extensions.keys() {
            let at = extensions.key(name);
            // CloudEvents 1.0.2, section "Naming Conventions".
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if name.is_empty() || !name.bytes().all(legal) {
                let help = "use lower-case letters and digits alone";
                self.report.mistake(&at, "this cannot be the name of an extension", help);
            } else if TAKEN.contains(&name.as_str()) {
                let reason = format!("`{name}` is an attribute that is always set by other means");
                self.report.mistake(&at, reason, "use another name");
            }
        }
    }

    fn event_id(&mut self, id: Option<&EventId>, path: &Path) {
        let Some(EventId { header, json }) = id else { return };
        if header.is_none() && json.is_none() {
            let help = "write `header: NAME`, or `json: /pointer`, or remove `id`";
            self.report.mistake(path, "this names no part of the message", help);
        }
        let is_pointer = |text: &str| text.starts_with('/') && !text.contains(['\r', '\n']);
        if let Some(json) = json.as_deref().filter(|text| !is_pointer(text)) {
            let help =
                format!("write it with a slash in front, such as /{}", json.trim_start_matches(['$', '.']));
            self.report.mistake(&path.key("json"), "this is not a JSON pointer", help);
        }
    }
}
