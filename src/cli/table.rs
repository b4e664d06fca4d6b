//! Text for people: tables, ages and times.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;

use crate::view::Item;
pub use crate::view::number;

/// Rows of cells. The last column is as long as it needs, or is cut at the width of the terminal.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// # Errors
    /// If `out` cannot be written.
    pub fn print(&self, out: &mut dyn Write, width: Option<usize>) -> io::Result<()> {
        let columns = self.head.len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.chain([self.head[column].chars().count()]).max().unwrap_or_default()
            })
            .collect();
        let head: Vec<String> = self.head.iter().map(|&cell| cell.to_owned()).collect();
        for row in [&head].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            writeln!(out, "{}", cut(line.trim_end(), width.unwrap_or(usize::MAX)))?;
        }
        Ok(())
    }
}

/// The width of the terminal behind standard output, if there is one.
pub fn terminal_width() -> Option<usize> {
    use std::io::IsTerminal;
    if !io::stdout().is_terminal() {
        return None;
    }
    ratatui::crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns))
}

/// At most this many characters.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Text from outside in one line that cannot move the cursor or change colours.
pub fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => line.push(' '),
            letter if letter.is_control() => line.extend(letter.escape_default()),
            letter => line.push(letter),
        }
    }
    line
}

/// The time between a moment of the API and now: `12 s`, `5 min`, `3 h 12 min`.
pub fn age(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => span(now.as_second() - time.as_second()),
        Err(_) => "–".to_owned(),
    }
}

/// The time until a moment of the API: `in 12 s`, or `now` when it has passed.
pub fn until(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) if time > now => format!("in {}", span(time.as_second() - now.as_second())),
        Ok(_) => "now".to_owned(),
        Err(_) => "–".to_owned(),
    }
}

pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A mean duration.
pub fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    span(i64::try_from(whole).unwrap_or(i64::MAX))
}

/// The present attempt, out of how many.
pub fn attempt(item: &Item) -> String {
    match item.attempt {
        0 => "–".to_owned(),
        attempt => format!("{attempt} of {}", item.attempts),
    }
}

/// The next step of an item, or the worker's report while it runs.
pub fn next(item: &Item, now: Timestamp) -> String {
    if let Some(progress) = &item.progress {
        let percent = progress.percent.map(|percent| format!("{percent:.0} %"));
        let note = progress.note.as_deref().map(shown);
        let text: Vec<String> = [percent, note].into_iter().flatten().collect();
        if !text.is_empty() {
            return text.join(" ");
        }
    }
    item.next.as_deref().map(|time| until(time, now)).unwrap_or_default()
}

/// The reason and the latest answer of an item.
pub fn answer(item: &Item) -> String {
    let last = item.last.as_ref().map(|last| {
        let head = last.status.map_or_else(|| last.outcome.clone(), |status| status.to_string());
        if last.text.is_empty() { head } else { format!("{head}: {}", shown(&last.text)) }
    });
    let parts: Vec<String> = [item.reason.clone(), last].into_iter().flatten().collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_readable() {
        let numbers = [0, 999, 1000, 1_240_000].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "1,240,000"]);
        let spans = [-3, 59, 60, 3599, 3600, 200_000].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "2 d 7 h"]);
        assert_eq!(duration(0.25), "0.2 s");
        assert_eq!(duration(94.2), "1 min");
    }

    #[test]
    fn text_from_outside_cannot_control_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb c");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn a_table_is_aligned_and_cut() {
        let mut table = Table::new(&["ID", "LAST"]);
        table.row(vec!["f001".to_owned(), "500: a long text".to_owned()]);
        let mut out = Vec::new();
        table.print(&mut out, Some(14)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ID    LAST\nf001  500: a …\n");
    }
}
