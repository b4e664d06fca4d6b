//! The values of a source file, and the line that each of them has in the report.

use std::collections::HashSet;
use std::fmt;

use longhaul_places::Path;
use longhaul_places::yaml::{Content, Node, Spot};

/// A value of the file with its path.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    pub path: Path,
    pub at: Spot,
    node: &'a Node,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// longhaul does the same.
    Carries,
    /// longhaul does it better, or the fault that the value works around cannot happen.
    Improves,
    /// longhaul does it in another way, or a person has to decide.
    Changes,
    /// longhaul has no such setting.
    Without,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub line: usize,
    pub column: usize,
    /// Empty for a remark about a whole document.
    pub path: String,
    pub fate: Fate,
    pub text: String,
}

/// Collects the report. A value that no reader used gets a line of its own.
#[derive(Default)]
pub(super) struct Ledger {
    lines: Vec<Line>,
    /// The paths of the present document that have a line.
    known: HashSet<Path>,
    /// The leaves of the present document.
    leaves: Vec<(Path, Spot)>,
}

impl Ledger {
    pub fn carry(&mut self, part: &Part<'_>, text: impl Into<String>) {
        self.note(part, Fate::Carries, text.into());
    }

    pub fn improve(&mut self, part: &Part<'_>, text: impl Into<String>) {
        self.note(part, Fate::Improves, text.into());
    }

    pub fn change(&mut self, part: &Part<'_>, text: impl Into<String>) {
        self.note(part, Fate::Changes, text.into());
    }

    pub fn without(&mut self, part: &Part<'_>, text: impl Into<String>) {
        self.note(part, Fate::Without, text.into());
    }

    /// Adds a remark that no value of the file stands for, such as a default that differs.
    pub fn remark(&mut self, part: &Part<'_>, fate: Fate, text: impl Into<String>) {
        let (line, column, path) = (part.at.line, part.at.column, String::new());
        self.lines.push(Line { line, column, path, fate, text: text.into() });
    }

    /// Marks a value as used without a line: a part of another value that has one.
    pub fn silent(&mut self, part: &Part<'_>) {
        self.known.insert(part.path.clone());
    }

    fn note(&mut self, part: &Part<'_>, fate: Fate, text: String) {
        self.known.insert(part.path.clone());
        let path = if part.path.is_root() { String::new() } else { part.path.to_string() };
        self.lines.push(Line { line: part.at.line, column: part.at.column, path, fate, text });
    }

    /// Registers the leaves of a document. Each of them must have a line in the end.
    pub fn open(&mut self, root: &Part<'_>) {
        root.leaves(&mut self.leaves);
    }

    /// Adds a line for every value of the document that no reader used.
    pub fn finish_document(&mut self) {
        for (path, at) in std::mem::take(&mut self.leaves) {
            if !path.ancestors().any(|ancestor| self.known.contains(&ancestor)) {
                let text = "longhaul has no such setting".to_owned();
                let (line, column, path) = (at.line, at.column, path.to_string());
                self.lines.push(Line { line, column, path, fate: Fate::Without, text });
            }
        }
        self.known.clear();
    }

    pub fn into_lines(mut self) -> Vec<Line> {
        self.lines.sort_by_key(|line| (line.line, line.column));
        self.lines
    }
}

impl<'a> Part<'a> {
    pub fn root(node: &'a Node) -> Self {
        Part { path: Path::default(), at: node.range.start, node }
    }

    /// Returns the value of a key. A null counts as left out.
    pub fn get(&self, key: &str) -> Option<Part<'a>> {
        self.entries().into_iter().find(|(name, part)| *name == key && !part.is_null()).map(|(_, part)| part)
    }

    /// Returns the value below several keys.
    pub fn at(&self, keys: &[&str]) -> Option<Part<'a>> {
        keys.iter().try_fold(self.clone(), |part, key| part.get(key))
    }

    pub fn entries(&self) -> Vec<(&'a str, Part<'a>)> {
        let Content::Map(entries) = &self.node.content else { return Vec::new() };
        let part = |entry: &'a longhaul_places::yaml::Entry| Part {
            path: self.path.key(&entry.key),
            at: entry.key_range.start,
            node: &entry.value,
        };
        entries.iter().map(|entry| (entry.key.as_str(), part(entry))).collect()
    }

    /// Returns the items of a list. A single value counts as a list of one.
    pub fn items(&self) -> Vec<Part<'a>> {
        match &self.node.content {
            Content::List(items) => {
                let part = |(index, node): (usize, &'a Node)| Part {
                    path: self.path.item(index),
                    at: node.range.start,
                    node,
                };
                items.iter().enumerate().map(part).collect()
            }
            Content::Scalar { .. } | Content::Map(_) => vec![self.clone()],
        }
    }

    pub fn text(&self) -> Option<String> {
        match &self.node.content {
            Content::Scalar { text, .. } => Some(text.trim().to_owned()),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    pub fn texts(&self) -> Vec<String> {
        let all = self.items().iter().filter_map(Part::text).collect::<Vec<_>>();
        all.iter()
            .flat_map(|text| text.split(','))
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .collect()
    }

    pub fn number(&self) -> Option<u64> {
        self.text()?.parse().ok()
    }

    pub fn is_true(&self) -> bool {
        self.text().is_some_and(|text| text == "true")
    }

    pub fn node(&self) -> &'a Node {
        self.node
    }

    fn is_null(&self) -> bool {
        matches!(&self.node.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    fn leaves(&self, found: &mut Vec<(Path, Spot)>) {
        let inner: Vec<Part<'a>> = match &self.node.content {
            Content::Map(_) => self.entries().into_iter().map(|(_, part)| part).collect(),
            Content::List(_) => self.items(),
            Content::Scalar { .. } => Vec::new(),
        };
        if inner.is_empty() {
            found.push((self.path.clone(), self.at));
        }
        for part in inner {
            part.leaves(found);
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Fate::Carries => "carries over",
            Fate::Improves => "improves",
            Fate::Changes => "changes",
            Fate::Without => "no counterpart",
        })
    }
}
