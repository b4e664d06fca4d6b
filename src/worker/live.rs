//! The protocol of `--serve`: one JSON line to the process for each item, and one line back when
//! the item has ended.

use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::event::Event;
use super::outcome::{Body, Ending, Outcome};

/// The line that ends an item: a JSON object with an `outcome`. Other JSON lines are log lines, so
/// that a log line never ends an item.
#[derive(Debug, Deserialize)]
pub struct EndLine {
    outcome: String,
    reason: Option<String>,
    reply: Option<Box<RawValue>>,
}

impl EndLine {
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    pub fn ending(self) -> Ending {
        let outcome = match self.outcome.parse::<Outcome>() {
            Ok(outcome) => outcome,
            Err(error) => return Ending::new(Outcome::Failed, format!("the answer's outcome {error}")),
        };
        let reason = if outcome == Outcome::Done { None } else { self.reason };
        let mut ending = Ending::new(outcome, reason.unwrap_or_default());
        if let Some(reply) = self.reply.filter(|_| outcome == Outcome::Done) {
            ending.body = Body::Json(reply.get().as_bytes().to_vec());
        }
        ending
    }
}

/// Writes the event in structured mode, with `work_dir`, and with `data_file` instead of the data
/// if the data stays in the file.
///
/// # Errors
/// If the line cannot be built.
pub fn line(event: &Event, data: Data<'_>, work: &Path) -> Result<Vec<u8>, String> {
    let mut fields = Map::new();
    for (name, value) in event.attributes() {
        fields.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    fields.insert("work_dir".to_owned(), Value::String(work.display().to_string()));
    let mut json = None;
    match data {
        Data::None => {}
        Data::File(path) => {
            fields.insert("data_file".to_owned(), Value::String(path.display().to_string()));
        }
        Data::Bytes([]) => {}
        Data::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes).ok();
            json = text.filter(|_| event.has_json()).filter(|text| is_one_line_json(text));
            if json.is_none() {
                let parsed =
                    text.filter(|_| event.has_json()).and_then(|text| serde_json::from_str(text).ok());
                match (parsed, text) {
                    (Some(value), _) => fields.insert("data".to_owned(), value),
                    (None, Some(text)) => fields.insert("data".to_owned(), Value::String(text.to_owned())),
                    (None, None) => {
                        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
                        fields.insert("data_base64".to_owned(), Value::String(encoded))
                    }
                };
            }
        }
    }
    let mut line = serde_json::to_vec(&fields).map_err(|error| error.to_string())?;
    // JSON without a line break is copied byte by byte.
    if let Some(json) = json {
        line.pop();
        line.extend_from_slice(b",\"data\":");
        line.extend_from_slice(json.as_bytes());
        line.push(b'}');
    }
    line.push(b'\n');
    Ok(line)
}

/// The data of an item for a process with `--serve`.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    None,
    File(&'a Path),
    Bytes(&'a [u8]),
}

fn is_one_line_json(text: &str) -> bool {
    !text.contains(['\n', '\r']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_embedded_as_it_is() {
        let event = Event::structured(br#"{"id":"1"}"#).unwrap().0;
        let text = |data| String::from_utf8(line(&event, data, Path::new("/w")).unwrap()).unwrap();
        let start = r#"{"id":"1","work_dir":"/w""#;
        assert_eq!(text(Data::None), format!("{start}}}\n"));
        assert_eq!(text(Data::Bytes(br#"{"a": 1.0}"#)), format!("{start},\"data\":{{\"a\": 1.0}}}}\n"));
        assert_eq!(text(Data::Bytes(b"[1,\n2]")), format!("{start},\"data\":[1,2]}}\n"));
        assert_eq!(text(Data::Bytes(b"hi\n")), format!("{start},\"data\":\"hi\\n\"}}\n"));
        assert_eq!(text(Data::Bytes(b"\xff")), format!("{start},\"data_base64\":\"/w==\"}}\n"));
        assert_eq!(text(Data::File(Path::new("/d"))), format!("{start},\"data_file\":\"/d\"}}\n"));
    }

    #[test]
    fn only_an_object_with_an_outcome_is_an_answer() {
        assert!(EndLine::parse(br#"{"level":"info"}"#).is_none());
        assert!(EndLine::parse(b"done").is_none());
        let ending = EndLine::parse(br#"{"outcome":"done","reply":{"x": 1}}"#).unwrap().ending();
        assert_eq!((ending.outcome, ending.body), (Outcome::Done, Body::Json(br#"{"x": 1}"#.to_vec())));
        let ending = EndLine::parse(br#"{"outcome":"reject","reason":"bad"}"#).unwrap().ending();
        assert_eq!((ending.outcome, ending.reason.as_str()), (Outcome::Reject, "bad"));
        let ending = EndLine::parse(br#"{"outcome":"good"}"#).unwrap().ending();
        assert_eq!(ending.outcome, Outcome::Failed);
    }
}
