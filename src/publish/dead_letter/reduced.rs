//! The last-resort letter, for a target that can never accept the whole one. It always has the
//! body, the id and the reason, as much of the rest as surely fits, and a list of the missing
//! parts.

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::{LEFT_OUT_HEADER, Letter, is_ours, origin};
use crate::event::{Exact, Origin, Properties, Value, attribute_headers, own};
use crate::publish::{Broker, Outgoing};

/// The most bytes of a short string in AMQP.
const SHORT: usize = 255;
/// The most bytes of the item's headers in a letter that has some of them.
const HEADERS: usize = 16 * 1024;
/// The most bytes of the list of missing parts.
const LIST: usize = 1024;
/// The same bound for the smallest letter, whose headers must fit into RabbitMQ's smallest frame of
/// 4 KiB.
const SHORT_LIST: usize = 256;
/// The most bytes of an id or an address in the smallest letter.
const TEXT: usize = 512;

/// How much of the item the letter contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All properties that the broker can hold, and the smaller ones of the headers.
    Fitting,
    /// Only the parts that identify the item and the reason.
    Bare,
}

impl Extent {
    pub const ALL: [Extent; 2] = [Extent::Fitting, Extent::Bare];
}

/// The parts that are missing in the letter.
#[derive(Default)]
struct LeftOut(Vec<String>);

impl LeftOut {
    fn add(&mut self, what: &str, bytes: usize) {
        self.0.push(format!("{what} ({bytes} bytes)"));
    }

    /// Returns the list in at most this many bytes.
    fn text(&self, most: usize) -> String {
        let mut text = String::new();
        for (index, part) in self.0.iter().enumerate() {
            if text.len() + part.len() + 20 > most {
                return format!("{text}and {} more", self.0.len() - index);
            }
            text.push_str(part);
            if index + 1 < self.0.len() {
                text.push_str(", ");
            }
        }
        text
    }
}

impl Letter {
    /// Returns the message, and the list of the parts that are missing in it.
    pub(super) fn reduced(&self, broker: Broker, extent: Extent) -> (Outgoing, String) {
        let mut left_out = LeftOut::default();
        let mut headers = match extent {
            Extent::Fitting => self.fitting_headers(&mut left_out),
            Extent::Bare => Vec::new(),
        };
        let mut whole = self.around(Vec::new());
        // A compacted topic accepts only records with a key.
        let has_place =
            |key: &Bytes| broker == Broker::Kafka && (extent == Extent::Fitting || key.len() <= TEXT);
        if let Some(key) = whole.key.take_if(|key| !has_place(key)) {
            left_out.add("key", key.len());
        }
        whole.properties = self.fitting_properties(broker, extent, &mut left_out);
        if extent == Extent::Bare {
            let of_item = self.message.headers.iter().filter(|(name, _)| !is_ours(name));
            of_item.for_each(|(name, value)| left_out.add(&header(name), size(value)));
            left_out.add("detail", self.detail.len());
            left_out.add("answer", self.data.len());
        } else if matches!(self.message.origin, Origin::Rabbitmq(_)) != (broker == Broker::Rabbitmq) {
            left_out.0.push("types of headers".to_owned());
        }
        let (about, most) = match extent {
            Extent::Fitting => (self.about(), LIST),
            Extent::Bare => (self.shortest(), SHORT_LIST),
        };
        let list = left_out.text(most);
        headers.extend(about);
        headers.push((LEFT_OUT_HEADER.to_owned(), Value::Text(list.clone())));
        whole.headers = headers;
        (whole, list)
    }

    /// Returns the smallest headers first, so that one large header does not displace all others.
    fn fitting_headers(&self, left_out: &mut LeftOut) -> Vec<(String, Value)> {
        let of_item = self.message.headers.iter().filter(|(name, _)| !is_ours(name));
        let mut by_size: Vec<_> = of_item.map(|pair| (pair.0.len() + size(&pair.1), pair)).collect();
        by_size.sort_by_key(|(bytes, _)| *bytes);
        let (mut headers, mut room) = (Vec::new(), HEADERS);
        for (bytes, (name, value)) in by_size {
            if name.len() <= SHORT && bytes + 8 <= room {
                room -= bytes + 8;
                headers.push((name.clone(), value.clone()));
            } else {
                left_out.add(&header(name), size(value));
            }
        }
        headers
    }

    fn fitting_properties(&self, broker: Broker, extent: Extent, left_out: &mut LeftOut) -> Properties {
        let mut properties = self.around(Vec::new()).properties;
        let is_elsewhere = broker == Broker::Kafka;
        let texts = [
            ("content_type", &mut properties.content_type, true),
            ("content_encoding", &mut properties.content_encoding, true),
            ("message_id", &mut properties.message_id, true),
            ("correlation_id", &mut properties.correlation_id, false),
            ("reply_to", &mut properties.reply_to, false),
            ("type", &mut properties.kind, false),
            ("app_id", &mut properties.app_id, false),
            ("cluster_id", &mut properties.cluster_id, false),
        ];
        for (name, property, is_needed) in texts {
            let fits = |text: &String| {
                text.len() <= SHORT && !is_elsewhere && (is_needed || extent == Extent::Fitting)
            };
            if let Some(text) = property.take_if(|text| !fits(text)) {
                left_out.add(&format!("property {name}"), text.len());
            }
        }
        properties
    }

    /// Returns the identity of the item and the reason, in texts of bounded length.
    fn shortest(&self) -> Vec<(String, Value)> {
        let text = |name: &str, value: &str| (name.to_owned(), Value::Text(cut(value, TEXT).to_owned()));
        let mut about = vec![
            text(own::ID, &self.event_id),
            (own::ATTEMPTS.to_owned(), Value::Int(self.attempts.into())),
            text(own::ORIGIN, &origin(&self.message.origin)),
            text("longhaul-reason", &self.reason.to_string()),
            text("longhaul-time", &super::time(self.time)),
            text("knativeerrordest", &self.destination),
        ];
        about.extend(self.hops.headers());
        about.extend(self.code.map(|code| ("longhaul-code".to_owned(), Value::Int(code.into()))));
        about
    }

    /// Returns the same for a service: an event of our own around the body.
    pub(super) fn reduced_event(&self) -> (HeaderMap, Bytes, String) {
        let mut left_out = LeftOut::default();
        left_out.0.push("attributes of the event".to_owned());
        let of_item = self.message.headers.iter().filter(|(name, _)| !is_ours(name));
        of_item.for_each(|(name, value)| left_out.add(&header(name), size(value)));
        let list = left_out.text(SHORT_LIST);
        let (reason, place) = (self.reason.to_string(), origin(&self.message.origin));
        let (attempts, code) = (self.attempts.to_string(), self.code.map(|code| code.to_string()));
        let mut attributes = vec![
            ("specversion", "1.0"),
            ("id", cut(&self.event_id, TEXT)),
            ("source", cut(&place, TEXT)),
            ("type", "dev.longhaul.deadletter"),
            ("longhaulattempts", &attempts),
            ("longhaulorigin", cut(&place, TEXT)),
            ("longhaulreason", &reason),
            ("longhaulleftout", &list),
            ("knativeerrordest", cut(&self.destination, TEXT)),
        ];
        attributes.extend(code.as_deref().map(|code| ("knativeerrorcode", code)));
        let mut headers = attribute_headers(&attributes);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        (headers, self.message.body.clone(), list)
    }
}

fn header(name: &str) -> String {
    let shown: String = cut(name, 64).escape_debug().collect();
    format!("header {shown}")
}

/// Returns the beginning of a text, in at most this many bytes.
fn cut(text: &str, most: usize) -> &str {
    let ends = (0..=most.min(text.len())).rev();
    &text[..ends.into_iter().find(|end| text.is_char_boundary(*end)).unwrap_or_default()]
}

/// Returns the approximate bytes of a value in a message.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) | Value::Exact(Exact::LongString(bytes)) => bytes.len(),
        Value::List(values) => values.iter().map(|value| 8 + size(value)).sum(),
        Value::Table(members) => members.iter().map(|(name, value)| 8 + name.len() + size(value)).sum(),
        _ => 8,
    }
}
