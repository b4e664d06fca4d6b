//! The progress of a long command: a bar that is written again and again on a terminal, and a line
//! from time to time elsewhere.

use std::io::Write;
use std::time::{Duration, Instant};

/// The time between two drawings of the bar.
const BAR: Duration = Duration::from_millis(100);
/// The time between two lines. A log collector keeps each line.
const LINE: Duration = Duration::from_secs(10);
/// The columns of the bar itself.
const WIDTH: u64 = 24;

/// The form of the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Bar,
    Lines,
    Silent,
}

/// Shows the progress of one command.
pub struct Progress {
    out: Box<dyn Write + Send>,
    form: Form,
    verb: &'static str,
    total: Option<u64>,
    started: Instant,
    shown: Option<Instant>,
    is_bar_open: bool,
}

impl Progress {
    /// `verb` says what was done with each of the `total`, such as `confirmed`.
    pub fn new(out: Box<dyn Write + Send>, form: Form, verb: &'static str, total: Option<u64>) -> Self {
        Progress { out, form, verb, total, started: Instant::now(), shown: None, is_bar_open: false }
    }

    pub fn silent() -> Self {
        Progress::new(Box::new(std::io::sink()), Form::Silent, "", None)
    }

    pub fn set_total(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// Shows that `done` are done, if it is time for it. A terminal that is gone stops no work.
    pub fn at(&mut self, done: u64) {
        let interval = match self.form {
            Form::Bar => BAR,
            Form::Lines => LINE,
            Form::Silent => return,
        };
        if self.shown.unwrap_or(self.started).elapsed() < interval {
            return;
        }
        self.shown = Some(Instant::now());
        let text = self.text(done);
        let _ = match self.form {
            Form::Bar => {
                self.is_bar_open = true;
                write!(self.out, "\r\x1b[2K{text}").and_then(|()| self.out.flush())
            }
            Form::Lines | Form::Silent => writeln!(self.out, "{text}"),
        };
    }

    /// Removes the bar, so that other lines can follow.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_bar_open) {
            let _ = write!(self.out, "\r\x1b[2K").and_then(|()| self.out.flush());
        }
    }

    fn text(&self, done: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = done as f64 / seconds;
        let Some(total) = self.total.filter(|total| *total > 0) else {
            return format!("{done} {}, {rate:.0}/s", self.verb);
        };
        let percent = done.min(total) * 100 / total;
        let left = if rate > 0.0 { (total.saturating_sub(done)) as f64 / rate } else { 0.0 };
        let counts = format!("{done} of {total} {} ({percent} %), {rate:.0}/s, {left:.0} s left", self.verb);
        if self.form != Form::Bar {
            return counts;
        }
        let full = (done.min(total) * WIDTH / total) as usize;
        format!("[{}{}] {counts}", "#".repeat(full), " ".repeat(WIDTH as usize - full))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        let bar = Progress::new(Box::new(std::io::sink()), Form::Bar, "confirmed", Some(200));
        assert!(bar.text(0).starts_with("[                        ] 0 of 200 confirmed (0 %)"));
        assert!(bar.text(100).contains("[############            ] 100 of 200 confirmed (50 %)"));
        assert!(bar.text(999).contains("(100 %)"));
        let unknown = Progress::new(Box::new(std::io::sink()), Form::Lines, "confirmed", None);
        assert!(unknown.text(7).starts_with("7 confirmed, "));
    }
}
