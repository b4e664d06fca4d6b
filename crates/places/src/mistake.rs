//! Shows the mistakes in a file to a person.

use std::fmt;

use crate::yaml::{Range, Spot};

/// One mistake, or one warning, with its place and its help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub severity: Severity,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// A path such as `pipelines[0].sink.timeout`; empty if the mistake concerns the whole file.
    pub path: String,
    pub reason: String,
    pub help: String,
    /// The line of the file with every secret left out.
    pub excerpt: Option<Excerpt>,
}

/// Whether the file can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but may have an unintended effect.
    Warning,
}

/// A line of the file to point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    line: String,
    /// Characters before the caret.
    indent: usize,
}

/// All mistakes, or all warnings, of one file, sorted by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    pub file: String,
    pub list: Vec<Mistake>,
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}:{}:{}: ", self.file, mistake.line, mistake.column)?;
            if mistake.severity == Severity::Warning {
                formatter.write_str("warning: ")?;
            }
            if !mistake.path.is_empty() {
                write!(formatter, "{}: ", mistake.path)?;
            }
            formatter.write_str(&mistake.reason)?;
            if let Some(Excerpt { line, indent }) = &mistake.excerpt {
                let number = mistake.line.to_string();
                let margin = " ".repeat(number.len());
                write!(formatter, "\n  {number} | {line}\n  {margin} | {}^", " ".repeat(*indent))?;
            }
            write!(formatter, "\n  help: {}", mistake.help)?;
        }
        Ok(())
    }
}

impl Excerpt {
    /// Returns the line at `spot`, with each hidden range shown as one `…`. `None` if the line is
    /// empty.
    pub(crate) fn cut(text: &str, spot: Spot, hidden: &[Range]) -> Option<Excerpt> {
        let mut line = String::new();
        let mut indent = None;
        let mut was_hidden = false;
        for (index, character) in text.lines().nth(spot.line - 1)?.chars().enumerate() {
            let here = Spot { line: spot.line, column: index + 1 };
            let is_hidden = hidden.iter().any(|range| range.start <= here && here < range.end);
            if here == spot {
                // If the spot is inside a hidden range, the caret points at its ellipsis.
                indent = Some(line.chars().count() - usize::from(is_hidden && was_hidden));
            }
            match (is_hidden, was_hidden) {
                // Terminals show tabs and escape sequences in different ways, so the caret would be
                // misplaced.
                (false, _) if character.is_control() => line.push(' '),
                (false, _) => line.push(character),
                (true, false) => line.push('…'),
                (true, true) => {}
            }
            was_hidden = is_hidden;
        }
        let shown = line.trim_end();
        let width = shown.chars().count();
        (width > 0).then(|| Excerpt { line: shown.to_owned(), indent: indent.unwrap_or(width).min(width) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, column: usize, hidden: Option<(usize, usize)>) -> Option<(String, usize)> {
        let at = |column| Spot { line: 1, column };
        let hidden: Vec<_> =
            hidden.map(|(start, end)| Range { start: at(start), end: at(end) }).into_iter().collect();
        Excerpt::cut(text, at(column), &hidden).map(|excerpt| (excerpt.line, excerpt.indent))
    }

    #[test]
    fn a_hidden_range_is_one_ellipsis_and_the_caret_stays_right() {
        assert_eq!(cut("a: secret, b: 1", 12, Some((4, 10))), Some(("a: …, b: 1".into(), 6)));
        assert_eq!(cut("a: secret", 4, Some((4, 10))), Some(("a: …".into(), 3)));
        assert_eq!(cut("a: secret", 6, Some((4, 10))), Some(("a: …".into(), 3)));
    }

    #[test]
    fn the_caret_stays_within_the_line() {
        assert_eq!(cut("\ta: 1  ", 1, None), Some((" a: 1".into(), 0)));
        assert_eq!(cut("a", 9, None), Some(("a".into(), 1)));
        assert_eq!(cut("", 1, None), None);
    }
}
