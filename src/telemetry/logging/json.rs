//! Log lines for machines: one JSON object per line, with the fields of the event and of its spans
//! side by side.

use std::fmt::{self, Debug, Write};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::escape::{FIELD_MAX, MESSAGE_MAX};

/// A span's fields, as the members of a JSON object.
pub(super) struct JsonFields;

pub(super) struct JsonEvent;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut members = Members::default();
        fields.record(&mut members);
        writer.write_str(&Value::Object(members.0).to_string())
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonEvent
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut members = Members::default();
        event.record(&mut members);
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp().into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        line.append(&mut members.0);
        // The event's own field wins over the field of a span, and an inner span wins over an outer
        // one.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            let fields =
                fields.and_then(|fields| serde_json::from_str::<Map<String, Value>>(&fields.fields).ok());
            for (name, value) in fields.into_iter().flatten() {
                line.entry(name).or_insert(value);
            }
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn insert(&mut self, field: &Field, value: Value) {
        let name = field.name().trim_start_matches("r#");
        if !name.starts_with("log.") {
            self.0.insert(name.to_owned(), value);
        }
    }
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = Short { text: String::new(), left: limit(field) };
        // Writing to a string never fails.
        let _ = write!(text, "{value:?}");
        self.insert(field, text.text.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Short { text: String::new(), left: limit(field) };
        let _ = text.write_str(value);
        self.insert(field, text.text.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value.into());
    }
}

/// Collects a text up to a limit. A text that reaches the limit ends with `…`. Control characters
/// need no care here, because serde_json escapes them.
struct Short {
    text: String,
    left: usize,
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match self.left {
                0 => return Ok(()),
                1 => self.text.push('…'),
                _ => self.text.push(character),
            }
            self.left -= 1;
        }
        Ok(())
    }
}

fn limit(field: &Field) -> usize {
    if field.name() == "message" { MESSAGE_MAX } else { FIELD_MAX }
}

fn timestamp() -> String {
    jiff::Timestamp::try_from(SystemTime::now()).map(|time| format!("{time:.6}")).unwrap_or_default()
}
