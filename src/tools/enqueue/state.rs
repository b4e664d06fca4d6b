//! The file that lets an interrupted `enqueue` continue.
//!
//! Each number is written down before its message is sent (`s`), and again when the write is
//! confirmed (`c`) or refused (`u`). A number with `s` alone after a kill is doubtful: the broker
//! may have the message or not. `d` lists the numbers that may be in the broker twice. The file
//! survives the death of the process, and not that of the machine.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::tools::Failure;

/// The first line is this, and the fingerprint of input and target.
const HEAD: &str = "longhaul-enqueue 1";

/// The state of one run over an input. Without a file, nothing outlives the process.
pub struct State {
    file: Option<(PathBuf, File)>,
    confirmed: Numbers,
    /// Numbers below this one were sent.
    sent: u64,
    /// Numbers that an earlier run left without a confirm.
    doubtful: BTreeSet<u64>,
}

/// A set of numbers that is nearly contiguous.
#[derive(Clone, Debug, Default)]
struct Numbers {
    /// All below are in the set.
    below: u64,
    above: BTreeSet<u64>,
}

impl Numbers {
    fn insert(&mut self, number: u64) {
        if number >= self.below {
            self.above.insert(number);
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
    }

    fn contains(&self, number: u64) -> bool {
        number < self.below || self.above.contains(&number)
    }

    fn len(&self) -> u64 {
        self.below + self.above.len() as u64
    }
}

impl State {
    /// A state that is not kept.
    pub fn none() -> Self {
        State { file: None, confirmed: Numbers::default(), sent: 0, doubtful: BTreeSet::new() }
    }

    /// Opens the file, or creates it. With `restart` an older one is forgotten.
    ///
    /// # Errors
    /// Returns an error if the file is of another input or target, is in use, or cannot be written.
    pub fn open(path: &Path, fingerprint: &str, restart: bool) -> Result<Self, Failure> {
        let shown = path.display();
        let unusable = |error: io::Error| {
            Failure::unavailable(
                format!("the state file {shown} cannot be used: {error}"),
                "name a writable file with --state, or give up resuming with --no-state",
            )
        };
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options
        };
        let file = options().open(path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::unavailable(
                    format!("the state file {shown} is in use: another enqueue of this input runs"),
                    "wait until it has ended, or name another file with --state",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let mut state = State::none();
        let is_empty = file.metadata().map_err(unusable)?.len() == 0;
        if !is_empty {
            state.read(&file, path, fingerprint, restart)?;
        }
        let mut file = file;
        let mut text = String::new();
        if is_empty || restart {
            file.set_len(0).map_err(unusable)?;
            let _ = writeln!(text, "{HEAD} {fingerprint}");
            state = State::none();
        }
        // The end of the old text may be a line that was cut.
        text.push('\n');
        for number in &state.doubtful {
            let _ = writeln!(text, "d {number};");
        }
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(unusable)?;
        file.write_all(text.as_bytes()).map_err(unusable)?;
        state.file = Some((path.to_owned(), file));
        Ok(state)
    }

    fn read(&mut self, file: &File, path: &Path, fingerprint: &str, restart: bool) -> Result<(), Failure> {
        let shown = path.display();
        let mut lines = BufReader::new(file).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        let Some(its) = first.strip_prefix(HEAD) else {
            return Err(Failure::usage(
                format!("{shown} is not a state file of longhaul enqueue"),
                "name another file with --state",
            ));
        };
        if its.trim() != fingerprint && !restart {
            return Err(Failure::usage(
                format!(
                    "{shown} is of an interrupted run, and the input, the target or an option has changed since"
                ),
                "restore them to continue; or begin again with --restart, which writes every message again",
            ));
        }
        if restart {
            return Ok(());
        }
        let damaged = |error: &io::Error| {
            Failure::usage(
                format!("the state file {shown} is damaged: {error}"),
                "begin again with --restart, which writes every message again",
            )
        };
        let mut unsent = BTreeSet::new();
        for line in lines {
            let line = line.map_err(|error| damaged(&error))?;
            let Some((kind, number)) = line.split_once(' ') else { continue };
            // A line without its end was cut, and its number may be another one.
            let Some(number) = number.strip_suffix(';').and_then(|number| number.parse::<u64>().ok()) else {
                continue;
            };
            match kind {
                "s" => {
                    unsent.remove(&number);
                    self.sent = self.sent.max(number.saturating_add(1));
                }
                "u" => drop(unsent.insert(number)),
                "c" => self.confirmed.insert(number),
                "d" => drop(self.doubtful.insert(number)),
                _ => {}
            }
        }
        let unconfirmed = (self.confirmed.below..self.sent)
            .filter(|number| !self.confirmed.contains(*number) && !unsent.contains(number));
        self.doubtful.extend(unconfirmed);
        Ok(())
    }

    pub fn is_confirmed(&self, number: u64) -> bool {
        self.confirmed.contains(number)
    }

    pub fn confirmed(&self) -> u64 {
        self.confirmed.len()
    }

    /// Whether an earlier run sent this message without a confirm.
    pub fn is_doubtful(&self, number: u64) -> bool {
        self.doubtful.contains(&number)
    }

    pub fn doubtful(&self) -> &BTreeSet<u64> {
        &self.doubtful
    }

    /// The write of a message begins.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written; the message must not be sent then.
    pub fn sends(&mut self, number: u64) -> Result<(), Failure> {
        self.sent = self.sent.max(number + 1);
        self.line('s', number)
    }

    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn confirms(&mut self, number: u64) -> Result<(), Failure> {
        self.confirmed.insert(number);
        self.line('c', number)
    }

    /// The broker has not written this message, so that it is not in doubt.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn unsends(&mut self, number: u64) -> Result<(), Failure> {
        self.line('u', number)
    }

    /// The broker may have this message twice.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn doubts(&mut self, number: u64) -> Result<(), Failure> {
        if self.doubtful.insert(number) { self.line('d', number) } else { Ok(()) }
    }

    fn line(&mut self, kind: char, number: u64) -> Result<(), Failure> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        // One call, so that a kill leaves no line of two halves.
        file.write_all(format!("{kind} {number};\n").as_bytes()).map_err(|error| {
            Failure::unavailable(
                format!("the state file {} cannot be written: {error}", path.display()),
                "make room on the disk, and run the same command again to continue",
            )
        })
    }

    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// Removes the file after all messages are written.
    ///
    /// # Errors
    /// Returns an error if the file cannot be removed.
    pub fn finish(self) -> io::Result<()> {
        match self.file {
            Some((path, _)) => std::fs::remove_file(path),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_knows_the_confirmed_and_the_doubtful() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = State::open(&path, "f", false).unwrap();
        for number in 0..5 {
            state.sends(number).unwrap();
        }
        for number in [0, 1, 3] {
            state.confirms(number).unwrap();
        }
        assert!(State::open(&path, "f", false).err().unwrap().what.contains("in use"));
        drop(state);
        assert!(State::open(&path, "other", false).err().unwrap().what.contains("has changed"));
        // A kill in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"c 2").unwrap();

        let mut state = State::open(&path, "f", false).unwrap();
        assert_eq!(
            (state.confirmed(), state.doubtful().iter().copied().collect::<Vec<_>>()),
            (3, vec![2, 4])
        );
        assert!(state.is_confirmed(3) && !state.is_confirmed(4) && state.is_doubtful(4));
        for number in [2, 4] {
            state.sends(number).unwrap();
            state.confirms(number).unwrap();
        }
        drop(state);
        let state = State::open(&path, "f", false).unwrap();
        assert_eq!((state.confirmed(), state.doubtful().len()), (5, 2), "doubt survives a second kill");
        state.finish().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_damaged_file_is_refused_until_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        drop(State::open(&path, "f", false).unwrap());
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"s 1;\ns \xff\nc 1;\n").unwrap();
        assert!(State::open(&path, "f", false).err().unwrap().what.contains("is damaged"));
        let state = State::open(&path, "f", true).unwrap();
        assert_eq!((state.confirmed(), state.doubtful().len()), (0, 0));
    }

    #[test]
    fn another_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "my notes\n").unwrap();
        assert!(State::open(&path, "f", false).err().unwrap().what.contains("not a state file"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "my notes\n");
    }
}
