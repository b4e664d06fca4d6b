//! Reads YAML into a tree that knows the place of every key and value.
//!
//! The tree is built from parser events and not with serde. Serde stops at the first error and does
//! not keep positions. An alias is replaced by a copy of its value, a duplicate key is an error
//! that does not stop the reading, and a tag stops it.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as MarkerSpan};

mod hints;

/// The deepest tree. It is far deeper than the schema needs, and keeps every walk within the stack.
const DEPTH_MAX: usize = 32;
/// The largest number of nodes. An alias counts with all nodes of its value, so aliases of aliases
/// multiply. A configuration has some hundred nodes.
const NODES_MAX: usize = 50_000;

/// One value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    pub range: Range,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// `plain` is false for text in quotes or in a block. Such text is never a number or a boolean.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping with its value, in the order of the file.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_range: Range,
    pub value: Node,
}

/// A range from the first character to the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: Spot,
    pub end: Spot,
}

/// A place in the file; line and column count characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub line: usize,
    pub column: usize,
}

/// The reason why the YAML cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub at: Range,
    pub reason: String,
    pub help: String,
}

/// The tree of one document, and mistakes that did not stop the reading.
pub struct Document {
    pub start: Range,
    pub root: Node,
    pub errors: Vec<Error>,
    /// Ranges of text that is not in the tree: the value of a duplicate key, or a key without a
    /// colon. The text may be a secret, so it is hidden.
    pub hidden: Vec<Range>,
}

/// Reads a file with exactly one document.
pub fn parse(text: &str) -> Result<Document, Error> {
    let mut documents = documents(text)?;
    if documents.len() > 1 {
        return Err(Error {
            at: documents[1].start,
            reason: "a second YAML document starts here".into(),
            help: "keep everything in one document: remove the line `---`".into(),
        });
    }
    documents.pop().ok_or_else(|| Error {
        at: Range::START,
        reason: "the file is empty".into(),
        help: "write at least `pipelines:` with one pipeline".into(),
    })
}

/// Reads all documents of a file, as in Kubernetes manifests.
pub fn documents(text: &str) -> Result<Vec<Document>, Error> {
    let mut builder = Builder { text, ..Builder::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| hints::explain(&error, text))?;
        builder.take(event, span.into())?;
    }
    Ok(builder.documents)
}

/// A list or mapping that is not complete yet.
struct Open {
    anchor: usize,
    range: Range,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, Range)> },
}

#[derive(Default)]
struct Builder<'a> {
    text: &'a str,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: Vec<Document>,
    start: Option<Range>,
    root: Option<Node>,
    errors: Vec<Error>,
    hidden: Vec<Range>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, range: Range) -> Result<(), Error> {
        match event {
            Event::DocumentStart(_) => self.start = Some(range),
            Event::DocumentEnd => self.finish_document(),
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    return Err(hints::tag(range));
                }
                let plain = style == ScalarStyle::Plain;
                self.add(
                    anchor,
                    Node { range, content: Content::Scalar { text: text.into_owned(), plain } },
                )?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.push(anchor, range, tag.is_some(), OpenContent::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.push(anchor, range, tag.is_some(), OpenContent::Map { entries: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range)?,
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Error {
                        at: range,
                        reason: "this alias stands inside of the value that it names".into(),
                        help: "write the value out instead".into(),
                    });
                };
                self.nodes += node.size();
                self.add(0, node)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
        Ok(())
    }

    /// Completes a document. Its anchors are dropped, because an anchor is valid only in its own
    /// document.
    fn finish_document(&mut self) {
        self.anchors.clear();
        let start = self.start.take().unwrap_or(Range::START);
        let (errors, hidden) = (std::mem::take(&mut self.errors), std::mem::take(&mut self.hidden));
        if let Some(root) = self.root.take() {
            self.documents.push(Document { start, root, errors, hidden });
        }
    }

    fn push(&mut self, anchor: usize, range: Range, tagged: bool, content: OpenContent) -> Result<(), Error> {
        if tagged {
            return Err(hints::tag(range));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Error {
                at: range,
                reason: format!("values are nested more than {DEPTH_MAX} deep"),
                help: "nest less".into(),
            });
        }
        self.open.push(Open { anchor, range, content });
        Ok(())
    }

    fn close(&mut self, end: Range) -> Result<(), Error> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = match open.content {
            OpenContent::List(items) => Content::List(items),
            OpenContent::Map { entries, .. } => Content::Map(entries),
        };
        self.add(open.anchor, Node { range: Range { start: open.range.start, end: end.end }, content })
    }

    /// Puts a complete node into the innermost open collection, or at the root.
    fn add(&mut self, anchor: usize, node: Node) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Error {
                at: node.range,
                reason: format!(
                    "the file holds more than {NODES_MAX} values, those of aliases counted each time"
                ),
                help: "use fewer aliases".into(),
            });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Map { entries, key }) => match key.take() {
                None => {
                    let Content::Scalar { text, .. } = node.content else {
                        return Err(Error {
                            at: node.range,
                            reason: "a key is a list or a mapping".into(),
                            help: "write a word as the key; put a text that starts with [ or { in quotes"
                                .into(),
                        });
                    };
                    *key = Some((text, node.range));
                }
                Some((key, key_range)) => {
                    if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                        self.errors.push(hints::duplicate(&key, key_range, first.key_range));
                        self.hidden.push(node.range);
                    } else if node.is_empty() && !is_colon_behind(self.text, key_range.end) {
                        self.errors.push(hints::no_colon(key_range));
                        self.hidden.push(key_range);
                    } else {
                        entries.push(Entry { key, key_range, value: node });
                    }
                }
            },
        }
        Ok(())
    }
}

/// Whether a colon follows the key. In `{ a }` the parser takes `a` for a key without a value, but
/// the user may have meant a value, and that value may be a secret.
fn is_colon_behind(text: &str, key_end: Spot) -> bool {
    let line = text.lines().nth(key_end.line - 1).unwrap_or_default();
    line.chars().skip(key_end.column - 1).find(|letter| *letter != ' ') == Some(':')
}

impl Node {
    /// Whether the node is empty text without quotes, as the parser reports it for an absent value.
    fn is_empty(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if text.is_empty())
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::Scalar { .. } => 0,
            Content::List(items) => items.iter().map(Node::size).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }
}

impl Range {
    pub const START: Range = Range { start: Spot { line: 1, column: 1 }, end: Spot { line: 1, column: 1 } };
}

impl From<MarkerSpan> for Range {
    fn from(span: MarkerSpan) -> Self {
        Range { start: span.start.into(), end: span.end.into() }
    }
}

impl From<Marker> for Spot {
    fn from(marker: Marker) -> Self {
        Spot { line: marker.line(), column: marker.col() + 1 }
    }
}

#[cfg(test)]
mod tests;
