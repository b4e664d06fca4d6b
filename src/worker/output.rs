//! Reads the lines of the command. They go to the pod log and to the progress posts, and may report
//! progress, a checkpoint or the item's end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

use super::live::EndLine;
use super::pod_log::{PodLog, Stream};
use super::progress::{CHECKPOINT_BYTES, Progress};

/// The longest line that is kept whole; longer ones are split. A reply on standard output must fit
/// into it.
pub const LINE_BYTES: usize = 256 * 1024;
/// How much of standard error a failure quotes.
const TAIL_BYTES: usize = 1024;
const CHUNK_BYTES: usize = 16 * 1024;

/// The state that the lines of one item have set so far.
#[derive(Debug, Default)]
pub struct Said {
    prefix: String,
    /// The last line of standard output that is a JSON object or array.
    pub reply: Option<Vec<u8>>,
    /// The end of standard error.
    pub tail: Vec<u8>,
    pub checkpoint: Option<String>,
    pub progress: Option<Progress>,
    /// Set in `--serve` mode: takes the line that ends the item.
    pub answer: Option<oneshot::Sender<EndLine>>,
}

/// The state of the running item, shared with the readers of the process. A process with `--serve`
/// runs many items, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Present(Arc<Mutex<Said>>);

impl Said {
    pub fn new(id: &str, progress: Option<Progress>) -> Self {
        let shown = |c: char| if c.is_control() { '?' } else { c };
        let id: String = id.chars().take(64).map(shown).collect();
        Said { prefix: format!("[{id}] "), progress, ..Said::default() }
    }

    fn line(&mut self, stream: Stream, line: &[u8], is_whole: bool) {
        if stream == Stream::Err {
            self.keep_tail(line);
        }
        if is_whole && self.directive(line) {
            return;
        }
        if let Some(progress) = &self.progress {
            progress.line(line);
        }
        if stream == Stream::Err || !is_whole || !line.trim_ascii_start().starts_with(b"{") {
            let is_array = line.trim_ascii_start().starts_with(b"[");
            if stream == Stream::Out && is_whole && is_array && is_json(line) {
                self.reply = Some(line.to_vec());
            }
            return;
        }
        if self.answer.is_some() {
            if let Some(answer) = EndLine::parse(line) {
                self.answer.take().and_then(|sender| sender.send(answer).err());
            }
        } else if is_json(line) {
            self.reply = Some(line.to_vec());
        }
    }

    /// Whether the line is `::progress PERCENT NOTE` or `::checkpoint TEXT`.
    fn directive(&mut self, line: &[u8]) -> bool {
        if !line.starts_with(b"::") {
            return false;
        }
        let line = String::from_utf8_lossy(line);
        if let Some(rest) = line.strip_prefix("::progress ") {
            let rest = rest.trim();
            let (percent, note) = rest.split_once(' ').unwrap_or((rest, ""));
            let Ok(percent) = percent.trim_end_matches('%').parse::<f64>() else { return false };
            if let Some(progress) = &self.progress {
                progress.percent(percent.clamp(0.0, 100.0), note.trim());
            }
            return true;
        }
        let Some(text) = line.strip_prefix("::checkpoint ") else { return false };
        let text = text.trim();
        // A line of the log, so that a person sees it.
        if text.len() > CHECKPOINT_BYTES {
            return false;
        }
        if let Some(progress) = &self.progress {
            progress.checkpoint(text);
        }
        self.checkpoint = Some(text.to_owned());
        true
    }

    fn keep_tail(&mut self, line: &[u8]) {
        self.tail.extend_from_slice(&line[line.len().saturating_sub(TAIL_BYTES)..]);
        self.tail.push(b'\n');
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
    }

    /// Returns the last line of standard error that is not empty.
    pub fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }
}

impl Present {
    pub fn set(&self, said: Said) {
        *self.lock() = said;
    }

    pub fn take(&self) -> Said {
        std::mem::take(&mut *self.lock())
    }

    pub fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the stream ends. A blocked pod log stops the reading, so nothing piles up here.
    pub async fn read(self, stream: Stream, mut from: impl AsyncRead + Unpin, log: PodLog) {
        let mut lines = Lines::default();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut chunk).await.unwrap_or(0);
            let shown = {
                let mut said = self.lock();
                let mut shown = Vec::with_capacity(count + 64);
                let mut each = |line: &[u8], is_whole: bool| {
                    said.line(stream, line, is_whole);
                    show(&mut shown, &said.prefix, line);
                };
                if count == 0 {
                    lines.end(&mut each)
                } else {
                    lines.feed(&chunk[..count], &mut each)
                }
                shown
            };
            if !shown.is_empty() {
                log.write(stream, shown).await;
            }
            if count == 0 {
                return;
            }
        }
    }
}

/// Adds the line to a chunk of the pod log. A JSON line gets no prefix, so that log collectors can
/// still parse it.
fn show(shown: &mut Vec<u8>, prefix: &str, line: &[u8]) {
    if !line.starts_with(b"{") {
        shown.extend_from_slice(prefix.as_bytes());
    }
    shown.extend_from_slice(line);
    shown.push(b'\n');
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Cuts a stream into lines of at most [`LINE_BYTES`].
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
    /// Whether the start of the present line was already passed on.
    is_split: bool,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8], bool)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let is_whole = !self.is_split;
            if self.partial.is_empty() {
                each(without_return(&bytes[..end]), is_whole);
            } else {
                self.partial.extend_from_slice(&bytes[..end]);
                each(without_return(&self.partial), is_whole);
                self.partial.clear();
            }
            self.is_split = false;
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() >= LINE_BYTES {
            each(&self.partial, false);
            self.partial.clear();
            self.is_split = true;
        }
        if self.partial.is_empty() && self.partial.capacity() > CHUNK_BYTES {
            self.partial = Vec::new();
        }
    }

    fn end(&mut self, each: &mut dyn FnMut(&[u8], bool)) {
        if !self.partial.is_empty() {
            each(&self.partial, !self.is_split);
            self.partial.clear();
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[(Stream, &str)]) -> Said {
        let mut said = Said::new("1", None);
        for (stream, line) in lines {
            said.line(*stream, line.as_bytes(), true);
        }
        said
    }

    #[test]
    fn the_last_json_line_of_stdout_is_the_reply() {
        let said = said(&[
            (Stream::Out, r#"{"a":1}"#),
            (Stream::Out, r#"{"a":2} "#),
            (Stream::Out, r#"{"a":"#),
            (Stream::Out, "3"),
            (Stream::Err, r#"{"level":"info"}"#),
        ]);
        assert_eq!(said.reply.as_deref(), Some(r#"{"a":2} "#.as_bytes()));
    }

    #[test]
    fn directives_are_understood_and_other_lines_are_not() {
        let said = said(&[
            (Stream::Out, "::checkpoint row 1"),
            (Stream::Out, "::checkpoint row 2 \r"),
            (Stream::Out, "::checkpoints x"),
            (Stream::Out, "::progress many"),
            (Stream::Out, &format!("::checkpoint {}", "x".repeat(CHECKPOINT_BYTES + 1))),
        ]);
        assert_eq!(said.checkpoint.as_deref(), Some("row 2"));
        assert_eq!(said.reply, None);
    }

    #[test]
    fn the_tail_has_a_bound() {
        let long = "x".repeat(5000);
        let said = said(&[(Stream::Err, &long), (Stream::Err, "the end"), (Stream::Err, "")]);
        assert_eq!(said.tail.len(), TAIL_BYTES);
        assert_eq!(said.last_words(), "the end");
    }

    #[test]
    fn a_line_that_never_ends_is_split() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let chunk = vec![b'a'; CHUNK_BYTES];
        for _ in 0..40 {
            lines.feed(&chunk, &mut |line, is_whole| seen.push((line.len(), is_whole)));
        }
        lines.feed(b"b\r\nc\nd", &mut |line, is_whole| seen.push((line.len(), is_whole)));
        lines.end(&mut |line, is_whole| seen.push((line.len(), is_whole)));
        let rest = 40 * CHUNK_BYTES - 2 * LINE_BYTES + 1;
        assert_eq!(seen, [(LINE_BYTES, false), (LINE_BYTES, false), (rest, false), (1, true), (1, true)]);
    }
}
