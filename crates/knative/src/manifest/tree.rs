//! Reads values out of a YAML tree, and reports each mistake at its place.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use longhaul_places::path::Path;
use longhaul_places::report::Report;
use longhaul_places::shape::Scalar;
use longhaul_places::shape::nearest;
use longhaul_places::yaml::{Content, Entry, Node, Range};

/// A mapping of the file with its path. A wrong value is reported when it is read, and counts as
/// absent.
#[derive(Clone)]
pub(super) struct Mapping<'a> {
    pub path: Path,
    pub range: Range,
    entries: &'a [Entry],
}

/// A value of the file with its path.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub path: Path,
    pub node: &'a Node,
}

impl<'a> Mapping<'a> {
    pub fn has(&self, key: &str) -> bool {
        self.field(key).is_some()
    }

    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Returns the value of a key. A null counts as left out, as in Kubernetes.
    pub fn field(&self, key: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let field = Field { path: self.path.key(key), node: &entry.value };
        (!field.is_null()).then_some(field)
    }

    pub fn mapping(&self, key: &str, report: &mut Report) -> Option<Mapping<'a>> {
        self.field(key)?.mapping(report)
    }

    /// Works like [`mapping`](Self::mapping), but reports a missing key.
    pub fn required_mapping(&self, key: &str, report: &mut Report) -> Option<Mapping<'a>> {
        self.require(key, report)?.mapping(report)
    }

    pub fn list(&self, key: &str, report: &mut Report) -> Vec<Field<'a>> {
        self.field(key).map(|field| field.list(report)).unwrap_or_default()
    }

    pub fn text(&self, key: &str, report: &mut Report) -> Option<String> {
        self.field(key)?.text(report)
    }

    pub fn texts(&self, key: &str, report: &mut Report) -> Vec<String> {
        self.list(key, report).iter().filter_map(|item| item.text(report)).collect()
    }

    pub fn required_text(&self, key: &str, report: &mut Report) -> Option<String> {
        self.require(key, report)?.text(report)
    }

    pub fn number(&self, key: &str, range: RangeInclusive<u32>, report: &mut Report) -> Option<u32> {
        self.field(key)?.number(range, report)
    }

    /// Returns the mapping as text by key. Kubernetes accepts only text there.
    pub fn text_by_key(&self, report: &mut Report) -> BTreeMap<String, String> {
        let pair = |key: &str| Some((key.to_owned(), self.text(key, report)?));
        self.keys().filter_map(pair).collect()
    }

    /// Refuses every other key, and suggests the key that was probably meant.
    pub fn only(&self, known: &[&str], report: &mut Report) {
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let help = match nearest(&entry.key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it; what may stand here: {}", known.join(", ")),
            };
            let path = self.path.key(&entry.key);
            report.shape(entry.key_range.start, &path, "Knative knows no such field here", help);
        }
    }

    fn require(&self, key: &str, report: &mut Report) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            let reason = format!("`{key}` is missing");
            report.shape(self.range.start, &self.path.key(key), reason, format!("add `{key}:`"));
        }
        field
    }
}

impl<'a> Field<'a> {
    pub fn root(node: &'a Node, report: &mut Report) -> Self {
        report.locate(&Path::default(), None, node.range);
        Field { path: Path::default(), node }
    }

    pub fn mapping(&self, report: &mut Report) -> Option<Mapping<'a>> {
        let Content::Map(entries) = &self.node.content else {
            return self.wrong("a mapping belongs here", "write `key: value` lines, indented", report);
        };
        for entry in entries {
            report.locate(&self.path.key(&entry.key), Some(entry.key_range), entry.value.range);
        }
        Some(Mapping { path: self.path.clone(), range: self.node.range, entries })
    }

    pub fn list(&self, report: &mut Report) -> Vec<Field<'a>> {
        let Content::List(items) = &self.node.content else {
            let none: Option<()> = self.wrong("a list belongs here", "write `- item` lines", report);
            debug_assert!(none.is_none());
            return Vec::new();
        };
        let mut fields = Vec::new();
        for (index, node) in items.iter().enumerate() {
            let path = self.path.item(index);
            report.locate(&path, None, node.range);
            fields.push(Field { path, node });
        }
        fields
    }

    pub fn text(&self, report: &mut Report) -> Option<String> {
        match self.scalar() {
            Some((Scalar::Text(text), plain)) if !(plain && is_old_boolean(&text)) => Some(text),
            Some(_) => self.wrong("text belongs here", "put the value in quotes", report),
            None => self.wrong("text belongs here", "write a text", report),
        }
    }

    pub fn number(&self, range: RangeInclusive<u32>, report: &mut Report) -> Option<u32> {
        let number = match self.scalar() {
            Some((Scalar::Integer(number), _)) => number.as_i64(),
            _ => None,
        };
        let fits = number.and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
        if fits.is_some() {
            return fits;
        }
        let rule = format!("write a whole number in {}..{}, without quotes", range.start(), range.end());
        let reason = if number.is_some() { "out of range" } else { "a whole number belongs here" };
        self.wrong(reason, &rule, report)
    }

    pub fn is_number(&self) -> bool {
        matches!(self.scalar(), Some((Scalar::Integer(_), _)))
    }

    pub fn wrong<T>(&self, reason: &str, help: &str, report: &mut Report) -> Option<T> {
        report.shape(self.node.range.start, &self.path, reason, help);
        None
    }

    fn is_null(&self) -> bool {
        matches!(self.scalar(), Some((Scalar::Null, _)))
    }

    /// Returns the scalar, and whether it is written without quotes.
    fn scalar(&self) -> Option<(Scalar, bool)> {
        match &self.node.content {
            Content::Scalar { text, plain: true } => Some((Scalar::plain(text), true)),
            Content::Scalar { text, plain: false } => Some((Scalar::Text(text.clone()), false)),
            Content::List(_) | Content::Map(_) => None,
        }
    }
}

/// Kubernetes reads YAML 1.1, where these are booleans, and then refuses them as text.
fn is_old_boolean(text: &str) -> bool {
    ["yes", "no", "on", "off"].contains(&text.to_lowercase().as_str())
}
