//! Makes messages readable for lapin.
//!
//! A producer may write bytes that are not UTF-8 into a property, a routing key or the name of a
//! header. It may also nest a header value as deep as a frame is large. At the former, lapin ends
//! the connection. At the latter, lapin exhausts the stack of its thread, which ends the process.
//! The broker would hand over the same message again in each session, and return its neighbours
//! each time. So the bytes are changed before lapin reads them:
//!
//! * In a short string, each byte that is not UTF-8 becomes `%XX`.
//! * A header value that is nested too deep, or that contains such a name, becomes its own AMQP
//!   encoding as bytes.
//! * Headers without a valid structure become one header with these bytes.
//! * If a server's own headers have made a message's headers larger than a frame, the largest
//!   values are cut.
//!
//! The first three changes lose nothing, and the message still runs. A header lists the changed
//! places.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::server::take;
use crate::event::MAX_DEPTH;

/// The header that lists the changed places of a message.
pub const UNREADABLE: &str = "longhaul-unreadable";
/// The header with the headers of a message whose headers have no valid structure.
const RAW_HEADERS: &str = "longhaul-raw-headers";
/// The header with the properties and headers of a message whose properties have no valid
/// structure.
const RAW_PROPERTIES: &str = "longhaul-raw-properties";

/// AMQP's bound of a short string, in bytes.
const SHORT_MAX: usize = 255;
/// Bounds of a header value, in bytes. Headers that do not fit into a frame are cut to each bound
/// in turn. The last bound leaves numbers whole.
const VALUE_MAX: [usize; 4] = [usize::MAX, 16 * 1024, 1024, 64];
/// The bound of the list of changed places.
const PLACES_MAX: usize = 1024;
/// The bytes of class, weight and body size, which come before the property flags.
const HEADER_START: usize = 12;
/// The bits of the property flags, first property first. Bit 0 announces more flags, which no
/// server sends.
const PROPERTIES: [(&str, Form); 14] = [
    ("content_type", Form::Short),
    ("content_encoding", Form::Short),
    ("headers", Form::Table),
    ("delivery_mode", Form::Fixed(1)),
    ("priority", Form::Fixed(1)),
    ("correlation_id", Form::Short),
    ("reply_to", Form::Short),
    ("expiration", Form::Short),
    ("message_id", Form::Short),
    ("timestamp", Form::Fixed(8)),
    ("type", Form::Short),
    ("user_id", Form::Short),
    ("app_id", Form::Short),
    ("cluster_id", Form::Short),
];
/// The place of the headers among the properties.
const HEADERS: usize = 2;

/// The encoding of a property or an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Short,
    Table,
    Fixed(usize),
}

/// A property as encoded in the frame: a short string or a table, without its length.
type Found<'a> = Option<(&'a [u8], Form)>;

/// Returns the payload of a content header that replaces this one, or `None` if lapin can read this
/// one. `most` is the largest payload that lapin takes.
pub(super) fn content_header(payload: &[u8], most: usize) -> Option<Vec<u8>> {
    let Some(properties) = properties(payload) else {
        return Some(unstructured(payload, most));
    };
    let fine = properties.iter().flatten().all(|(bytes, form)| match form {
        Form::Short => std::str::from_utf8(bytes).is_ok(),
        Form::Table => entries(bytes).all(|entry| entry.is_ok_and(|entry| entry.is_readable())),
        Form::Fixed(_) => true,
    });
    if fine && payload.len() <= most {
        return None;
    }
    let mut made = VALUE_MAX.into_iter().map(|value_max| rewritten(payload, &properties, value_max));
    Some(made.find(|made| made.len() <= most).unwrap_or_else(|| unstructured(payload, most)))
}

/// Returns the arguments of a method that replace these, or `None` if lapin can read these.
pub(super) fn method(payload: &[u8]) -> Option<Vec<u8>> {
    let id = payload.get(..4)?;
    let forms: &[Form] = match (u16::from_be_bytes([id[0], id[1]]), u16::from_be_bytes([id[2], id[3]])) {
        // connection.close and channel.close: the server cuts a long text, possibly within a
        // character.
        (10, 50) | (20, 40) => &[Form::Fixed(2), Form::Short],
        // connection.blocked, basic.cancel
        (10, 60) | (60, 30) => &[Form::Short],
        // basic.return
        (60, 50) => &[Form::Fixed(2), Form::Short, Form::Short, Form::Short],
        // basic.deliver
        (60, 60) => &[Form::Short, Form::Fixed(8), Form::Fixed(1), Form::Short, Form::Short],
        // basic.get-ok
        (60, 71) => &[Form::Fixed(8), Form::Fixed(1), Form::Short, Form::Short],
        _ => return None,
    };
    let mut rest = &payload[4..];
    let mut made = id.to_vec();
    let mut changed = false;
    for form in forms {
        match form {
            Form::Fixed(size) => made.extend(take(&mut rest, *size)?),
            Form::Short | Form::Table => {
                let text = short(&mut rest)?;
                changed |= std::str::from_utf8(text).is_err();
                put_short(&mut made, &readable(text));
            }
        }
    }
    made.extend(rest);
    changed.then_some(made)
}

fn properties(payload: &[u8]) -> Option<[Found<'_>; PROPERTIES.len()]> {
    let mut rest = payload.get(HEADER_START..)?;
    let flags = take(&mut rest, 2)?;
    let flags = u16::from_be_bytes([flags[0], flags[1]]);
    if flags & 0b11 != 0 {
        return None;
    }
    let mut found = [None; PROPERTIES.len()];
    for (index, (_, form)) in PROPERTIES.into_iter().enumerate() {
        if flags & (0x8000 >> index) != 0 {
            let bytes = match form {
                Form::Short => short(&mut rest)?,
                Form::Table => long(&mut rest)?,
                Form::Fixed(size) => take(&mut rest, size)?,
            };
            found[index] = Some((bytes, form));
        }
    }
    rest.is_empty().then_some(found)
}

/// Rewrites the payload. `value_max` bounds the bytes of each header value.
fn rewritten(payload: &[u8], properties: &[Found<'_>], value_max: usize) -> Vec<u8> {
    let mut places = String::new();
    let mut table = Vec::new();
    let mut other = Vec::new();
    // The list of changed places is a header, and the headers are the third property.
    let mut before_headers = Vec::new();
    let mut flags = 0x8000u16 >> HEADERS;
    for (index, found) in properties.iter().enumerate() {
        let Some((bytes, form)) = found else { continue };
        flags |= 0x8000 >> index;
        let made = if index < HEADERS { &mut before_headers } else { &mut other };
        match form {
            Form::Short => {
                if std::str::from_utf8(bytes).is_err() {
                    note(&mut places, PROPERTIES[index].0);
                }
                put_short(made, &readable(bytes));
            }
            Form::Fixed(_) => made.extend(*bytes),
            Form::Table => headers(&mut table, bytes, &mut places, value_max),
        }
    }
    put_text(&mut table, UNREADABLE, &places);
    let mut all = payload[..HEADER_START].to_vec();
    all.extend(flags.to_be_bytes());
    all.extend(before_headers);
    put_long(&mut all, &table);
    all.extend(other);
    all
}

fn headers(table: &mut Vec<u8>, bytes: &[u8], places: &mut String, value_max: usize) {
    let mut read = 0;
    for entry in entries(bytes) {
        let Ok(Entry { name, value }) = entry else {
            note(places, "headers");
            let raw = &bytes[read..];
            put_bytes(table, RAW_HEADERS, &raw[..raw.len().min(value_max)]);
            return;
        };
        read += 1 + name.len() + value.len();
        let shown = readable(name);
        let is_kept = is_readable(value) && value.len() <= value_max;
        if is_kept {
            put_short(table, &shown);
            table.extend(value);
        } else {
            put_bytes(table, &shown, &value[..value.len().min(value_max)]);
        }
        if value.len() > value_max {
            // Two messages that differ behind the cut are different messages, so the digest tells
            // them apart.
            note(places, &format!("header {shown} (cut, digest {})", digest(value)));
        } else if !is_kept || std::str::from_utf8(name).is_err() {
            note(places, &format!("header {shown}"));
        }
    }
}

/// Returns all properties and headers as one header, as far as they fit.
fn unstructured(payload: &[u8], most: usize) -> Vec<u8> {
    let start = payload.get(..HEADER_START).unwrap_or(&[0; HEADER_START]);
    let raw = payload.get(HEADER_START..).unwrap_or_default();
    let overhead = HEADER_START + 2 + 4 + 150;
    let mut table = Vec::new();
    put_bytes(&mut table, RAW_PROPERTIES, &raw[..raw.len().min(most.saturating_sub(overhead))]);
    put_text(&mut table, UNREADABLE, &format!("all properties and headers, digest {}", digest(raw)));
    let mut all = start.to_vec();
    all.extend((0x8000u16 >> HEADERS).to_be_bytes());
    put_long(&mut all, &table);
    all
}

/// A header: its name, and its value after the octet of its type.
struct Entry<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl Entry<'_> {
    fn is_readable(&self) -> bool {
        std::str::from_utf8(self.name).is_ok() && is_readable(self.value)
    }
}

/// Returns the entries of a table. After an entry without a valid structure it returns an error and
/// ends.
fn entries(table: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, ()>> {
    let mut rest = table;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = entry(&mut rest);
        if entry.is_none() {
            rest = &[];
        }
        Some(entry.ok_or(()))
    })
}

fn entry<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let name = short(rest)?;
    let size = match layout(*rest.first()?)? {
        Layout::Fixed(size) => 1 + size,
        Layout::Bytes | Layout::List | Layout::Table => {
            let mut length = rest.get(1..)?;
            5 + long(&mut length)?.len()
        }
    };
    Some(Entry { name, value: take(rest, size)? })
}

enum Layout {
    Fixed(usize),
    Bytes,
    List,
    Table,
}

/// The types that lapin supports, by their octet.
fn layout(kind: u8) -> Option<Layout> {
    Some(match kind {
        b'V' => Layout::Fixed(0),
        b't' | b'b' | b'B' => Layout::Fixed(1),
        b's' | b'U' | b'u' => Layout::Fixed(2),
        b'I' | b'i' | b'f' => Layout::Fixed(4),
        b'D' => Layout::Fixed(5),
        b'L' | b'l' | b'd' | b'T' => Layout::Fixed(8),
        b'S' | b'x' => Layout::Bytes,
        b'A' => Layout::List,
        b'F' => Layout::Table,
        _ => return None,
    })
}

/// Returns whether lapin can read the value, and whether functions that recurse into it have enough
/// stack. This function does not recurse.
fn is_readable(value: &[u8]) -> bool {
    walk(value).is_some()
}

fn walk(value: &[u8]) -> Option<()> {
    // The ends of the lists and tables around the present position, innermost last.
    let mut open = [(0, false); MAX_DEPTH];
    let mut depth = 0;
    let mut at = 0;
    loop {
        let end = if depth == 0 { value.len() } else { open[depth - 1].0 };
        let mut rest = value.get(at..end)?;
        let kind = *take(&mut rest, 1)?.first()?;
        let layout = layout(kind)?;
        match layout {
            Layout::Fixed(size) => drop(take(&mut rest, size)?),
            Layout::Bytes => drop(long(&mut rest)?),
            Layout::List | Layout::Table => {
                let inner_start = end - rest.len() + 4;
                let inner = long(&mut rest)?;
                *open.get_mut(depth)? = (inner_start + inner.len(), matches!(layout, Layout::Table));
                depth += 1;
                rest = inner;
            }
        }
        let end = if depth == 0 { value.len() } else { open[depth - 1].0 };
        at = end - rest.len();
        while depth > 0 && at == open[depth - 1].0 {
            depth -= 1;
        }
        if depth == 0 {
            return (at == value.len()).then_some(());
        }
        let (end, is_table) = open[depth - 1];
        if is_table {
            let mut rest = value.get(at..end)?;
            std::str::from_utf8(short(&mut rest)?).ok()?;
            at = end - rest.len();
        }
    }
}

/// Returns the text with `%XX` for each byte that is not UTF-8. A text that becomes too long ends
/// with a digest of the whole text, so that two such texts stay different.
fn readable(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    if text.len() > SHORT_MAX {
        let cut = (0..=SHORT_MAX - 17).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('~');
        text.push_str(&digest(bytes));
    }
    text
}

/// Returns a digest of 16 digits.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn note(places: &mut String, place: &str) {
    if places.len() + place.len() + 2 <= PLACES_MAX {
        if !places.is_empty() {
            places.push_str(", ");
        }
        places.push_str(place);
    }
}

fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = *take(rest, 1)?.first()?;
    take(rest, length.into())
}

fn long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(rest, 4)?;
    take(rest, u32::from_be_bytes(length.try_into().ok()?) as usize)
}

/// Writes a short string. [`readable`] ensures that it has at most [`SHORT_MAX`] bytes.
fn put_short(to: &mut Vec<u8>, text: &str) {
    to.push(text.len().min(SHORT_MAX) as u8);
    to.extend(&text.as_bytes()[..text.len().min(SHORT_MAX)]);
}

fn put_long(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend((bytes.len() as u32).to_be_bytes());
    to.extend(bytes);
}

fn put_bytes(table: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    put_short(table, name);
    table.push(b'x');
    put_long(table, bytes);
}

fn put_text(table: &mut Vec<u8>, name: &str, text: &str) {
    put_short(table, name);
    table.push(b'S');
    put_long(table, text.as_bytes());
}

#[cfg(test)]
mod tests;
