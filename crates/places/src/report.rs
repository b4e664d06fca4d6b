//! Collects mistakes and warnings, and knows the place of each path.

use std::collections::HashMap;

use crate::mistake::{Excerpt, Mistake, Mistakes, Severity};
use crate::path::Path;
use crate::yaml::{Range, Spot};

/// All findings so far. The walk over the tree adds to it, then the checks of values.
#[derive(Default)]
pub struct Report {
    findings: Vec<Finding>,
    places: HashMap<Path, Place>,
    /// Paths with a mistake of shape. Later remarks about them are dropped, because they follow
    /// from that mistake.
    spoilt: Vec<Path>,
    hidden: Vec<Range>,
}

struct Finding {
    severity: Severity,
    at: Spot,
    path: Path,
    reason: String,
    help: String,
}

#[derive(Clone, Copy)]
struct Place {
    key: Option<Range>,
    value: Range,
}

impl Report {
    /// Remembers the place of a value. `key` is `None` for the root and for items of a list.
    pub fn locate(&mut self, path: &Path, key: Option<Range>, value: Range) {
        self.places.insert(path.clone(), Place { key, value });
    }

    /// Keeps the text of the range out of every excerpt.
    pub fn hide(&mut self, range: Range) {
        self.hidden.push(range);
    }

    /// Whether the range is hidden.
    pub fn hides(&self, range: Range) -> bool {
        self.hidden.iter().any(|hidden| hidden.start <= range.start && range.end <= hidden.end)
    }

    /// Works like [`Report::hide`], for a value whose path is known.
    pub fn hide_value(&mut self, path: &Path) {
        if let Some(place) = self.places.get(path) {
            self.hidden.push(place.value);
        }
    }

    /// Reports a mistake at this spot.
    pub fn at(&mut self, at: Spot, path: &Path, reason: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Error, at, path, reason.into(), help.into());
    }

    /// Works like [`Report::at`], and marks the path as spoilt.
    pub fn shape(&mut self, at: Spot, path: &Path, reason: impl Into<String>, help: impl Into<String>) {
        self.spoil(path);
        self.at(at, path, reason, help);
    }

    /// Marks the path as spoilt: later remarks about its value are dropped.
    pub fn spoil(&mut self, path: &Path) {
        self.spoilt.push(path.clone());
    }

    /// Reports a mistake in the value at `path`, or in the mapping that lacks it.
    pub fn mistake(&mut self, path: &Path, reason: impl Into<String>, help: impl Into<String>) {
        self.value(Severity::Error, path, reason.into(), help.into());
    }

    /// Works like [`Report::mistake`], for a value that may be intended.
    pub fn warning(&mut self, path: &Path, reason: impl Into<String>, help: impl Into<String>) {
        self.value(Severity::Warning, path, reason.into(), help.into());
    }

    /// Whether the file has this key, even with a wrong value.
    pub fn is_given(&self, path: &Path) -> bool {
        self.places.contains_key(path) || self.spoilt.contains(path)
    }

    pub fn line(&self, path: &Path) -> usize {
        self.spot(path).line
    }

    fn value(&mut self, severity: Severity, path: &Path, reason: String, help: String) {
        if self.spoilt.iter().any(|spoilt| spoilt.overlaps(path)) {
            return;
        }
        let at = self.spot(path);
        self.push(severity, at, path, reason, help);
    }

    /// Returns the place of the value. If it is left out, the place of the nearest mapping around
    /// it.
    fn spot(&self, path: &Path) -> Spot {
        if let Some(place) = self.places.get(path) {
            return place.value.start;
        }
        let place = path.ancestors().find_map(|ancestor| self.places.get(&ancestor).copied());
        place.map_or(Range::START, |place| place.key.unwrap_or(place.value)).start
    }

    fn push(&mut self, severity: Severity, at: Spot, path: &Path, reason: String, help: String) {
        self.findings.push(Finding { severity, at, path: path.clone(), reason, help });
    }

    /// Returns the mistakes and the warnings, each sorted by place.
    pub fn finish(mut self, file: &str, text: &str) -> (Mistakes, Mistakes) {
        // The sort is stable, so mistakes at one place stay in the order in which they were found.
        self.findings.sort_by_key(|finding| finding.at);
        let mut mistakes = Mistakes { file: file.to_owned(), list: Vec::new() };
        let mut warnings = mistakes.clone();
        for Finding { severity, at, path, reason, help } in self.findings {
            let excerpt = Excerpt::cut(text, at, &self.hidden);
            let (line, column, path) = (at.line, at.column, path.to_string());
            let list = match severity {
                Severity::Error => &mut mistakes.list,
                Severity::Warning => &mut warnings.list,
            };
            list.push(Mistake { severity, line, column, path, reason, help, excerpt });
        }
        (mistakes, warnings)
    }
}
