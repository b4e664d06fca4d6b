//! Reads the output of a worker, line by line.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::serve::settings::{Line, Stream};

/// The longest line. A longer one is cut in pieces.
const LINE_BYTES_MAX: usize = 16 << 10;

pub type Output = Arc<dyn Fn(Line<'_>) + Send + Sync>;

/// Passes every line on until the worker and all processes that inherited the stream have closed
/// it.
pub async fn pass_on(from: impl AsyncRead + Unpin, stream: Stream, replica: Arc<str>, output: Output) {
    let mut reader = BufReader::new(from);
    let mut line: Vec<u8> = Vec::new();
    let show = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line);
        output(Line { replica: &replica, stream, text: text.trim_end_matches('\r') });
        line.clear();
    };
    while let Ok(bytes) = reader.fill_buf().await {
        if bytes.is_empty() {
            break;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(bytes.len()).min(LINE_BYTES_MAX.saturating_sub(line.len()));
        line.extend_from_slice(&bytes[..taken]);
        let complete = end == Some(taken);
        reader.consume(taken + usize::from(complete));
        if complete || line.len() >= LINE_BYTES_MAX {
            show(&mut line);
        }
    }
    if !line.is_empty() {
        show(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn lines_are_whole_and_bounded() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&lines);
        let output: Output = Arc::new(move |line: Line<'_>| seen.lock().unwrap().push(line.text.to_owned()));
        let text = format!("one\r\n\n{}end", "x".repeat(LINE_BYTES_MAX));
        pass_on(text.as_bytes(), Stream::Out, "a".into(), output).await;
        let lines = lines.lock().unwrap();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [3, 0, LINE_BYTES_MAX, 3]);
    }
}
