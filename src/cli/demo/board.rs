//! Shows the running demo: a terminal gets a picture that is redrawn in place, other outputs get a
//! line per second.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// The width of a full bar.
const WIDTH: u64 = 40;

/// The state of the demo at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    pub elapsed: Duration,
    pub items: u64,
    /// Items that the broker has not handed over yet.
    pub backlog: u64,
    pub in_flight: u64,
    pub replicas: u64,
    pub starting: u64,
    pub most_replicas: u64,
    /// Items acked.
    pub done: u64,
}

pub struct Board<'a, W> {
    out: &'a mut W,
    terminal: bool,
    shown: bool,
}

impl<'a, W: Write> Board<'a, W> {
    pub fn new(out: &'a mut W) -> Self {
        Board { out, terminal: io::stdout().is_terminal(), shown: false }
    }

    pub fn show(&mut self, picture: &Picture) -> io::Result<()> {
        if self.terminal {
            if self.shown {
                // Moves the cursor back to the first line of the last picture.
                write!(self.out, "\x1b[5A")?;
            }
            self.draw(picture)?;
        } else {
            writeln!(
                self.out,
                "{:>4} s  backlog {:>5}  in flight {:>4}  replicas {:>4} (+{} starting)  done {:>5}/{}",
                picture.elapsed.as_secs(),
                picture.backlog,
                picture.in_flight,
                picture.replicas,
                picture.starting,
                picture.done,
                picture.items
            )?;
        }
        self.shown = true;
        self.out.flush()
    }

    /// Leaves the last picture on the screen.
    pub fn finish(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    fn draw(&mut self, picture: &Picture) -> io::Result<()> {
        let starting =
            if picture.starting > 0 { format!(" +{} starting", picture.starting) } else { String::new() };
        let rows = [
            ("backlog", picture.backlog, picture.items, String::new()),
            ("in flight", picture.in_flight, picture.most_replicas, String::new()),
            ("replicas", picture.replicas, picture.most_replicas, starting),
            ("done", picture.done, picture.items, String::new()),
        ];
        writeln!(self.out, "\x1b[2K{:>4} s", picture.elapsed.as_secs())?;
        for (name, value, most, note) in rows {
            let filled = (value.min(most) * WIDTH).div_ceil(most.max(1)) as usize;
            let bar = format!("{}{}", "█".repeat(filled), "·".repeat(WIDTH as usize - filled));
            writeln!(self.out, "\x1b[2K{name:>10} {bar} {value:>5}{note}")?;
        }
        Ok(())
    }
}
