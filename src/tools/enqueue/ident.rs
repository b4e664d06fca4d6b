//! The id and the key of a message: a part of the input, or computed from it.

use std::fmt::Write as _;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::input::Raw;

/// The longest id, in bytes. AMQP's property `message_id` holds no more.
const ID_MAX: usize = 255;

/// Where an id or a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A column of the CSV file.
    Column(String),
    /// A JSON pointer (RFC 6901) into the body.
    Pointer(String),
    /// The path of the file.
    File,
    /// The SHA-256 of the body, its first half.
    Hash,
    /// The number of the message, behind this prefix.
    Number(String),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" => return Err("write a column, a JSON pointer, `file`, `hash` or `number`".to_owned()),
            "hash" => From::Hash,
            "file" => From::File,
            "number" => From::Number(String::new()),
            pointer if pointer.starts_with('/') => From::Pointer(pointer.to_owned()),
            column => From::Column(column.strip_prefix("column:").unwrap_or(column).to_owned()),
        })
    }
}

impl From {
    /// # Errors
    /// Returns the reason if this message has no such part, or if no id can be made of it.
    pub fn id(&self, raw: &Raw) -> Result<String, String> {
        let id = self.text(raw)?;
        if id.is_empty() {
            return Err(format!("has no id: {} is empty", self.shown()));
        }
        if id.len() > ID_MAX {
            return Err(format!("has an id of {} bytes, and {ID_MAX} are allowed", id.len()));
        }
        if id.chars().any(char::is_control) {
            return Err(format!("has an id with a control character: {id:?}"));
        }
        Ok(id)
    }

    /// # Errors
    /// Returns the reason if this message has no such part.
    pub fn text(&self, raw: &Raw) -> Result<String, String> {
        match self {
            From::Hash => {
                let digest = Sha256::digest(&raw.body);
                Ok(digest[..16].iter().fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                }))
            }
            From::Number(prefix) => Ok(format!("{prefix}{}", raw.number + 1)),
            From::File => raw.file.clone().ok_or_else(|| "has no file name: this is for --files".to_owned()),
            From::Column(name) => {
                let (names, values) =
                    raw.columns.as_ref().ok_or_else(|| format!("has no column {name}: this is for --csv"))?;
                let index = names.iter().position(|its| its == name);
                let value = index.and_then(|index| values.get(index));
                value.cloned().ok_or_else(|| format!("has no column {name}; there are {}", names.join(", ")))
            }
            From::Pointer(pointer) => {
                let json: serde_json::Value = serde_json::from_slice(&raw.body)
                    .map_err(|error| format!("is not JSON, and the id is to be {pointer}: {error}"))?;
                match json.pointer(pointer) {
                    Some(serde_json::Value::String(text)) => Ok(text.clone()),
                    Some(serde_json::Value::Number(number)) => Ok(number.to_string()),
                    Some(_) => Err(format!("has at {pointer} neither a text nor a number")),
                    None => Err(format!("has nothing at {pointer}")),
                }
            }
        }
    }

    pub fn shown(&self) -> String {
        match self {
            From::Column(name) => format!("column {name}"),
            From::Pointer(pointer) => pointer.clone(),
            From::File => "file".to_owned(),
            From::Hash => "hash".to_owned(),
            From::Number(prefix) => format!("number {prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(body: &'static str) -> Raw {
        Raw {
            number: 4,
            place: "line 5".into(),
            body: body.into(),
            columns: Some((vec!["id".to_owned()].into(), vec!["c".to_owned()])),
            file: Some("a/b".into()),
            content_type: None,
        }
    }

    #[test]
    fn every_source_of_an_id() {
        let id = |from: &str, body| from.parse::<From>().unwrap().id(&raw(body));
        assert_eq!(id("id", "{}").unwrap(), "c");
        assert_eq!(id("column:id", "{}").unwrap(), "c");
        assert_eq!(id("file", "{}").unwrap(), "a/b");
        assert_eq!(id("number", "{}").unwrap(), "5");
        assert_eq!(id("hash", "{}").unwrap(), "44136fa355b3678a1146ad16f7e8649e");
        assert_eq!(id("/a/0", r#"{"a": [7]}"#).unwrap(), "7");
        assert!(id("/a", "{}").unwrap_err().contains("nothing at /a"));
        assert!(id("/a", r#"{"a": null}"#).unwrap_err().contains("neither"));
        assert!(id("/a", r#"{"a": ""}"#).unwrap_err().contains("empty"));
        assert!(id("/a", r#"{"a": "x\ny"}"#).unwrap_err().contains("control"));
        assert!(id("no", "{}").unwrap_err().contains("there are id"));
    }
}
