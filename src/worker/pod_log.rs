//! The shim's own standard output and standard error, which become the pod's log.

use std::io::{self, Write};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

const NOTE_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// The sender to a thread that writes. If a log reader stops reading, the command blocks, as it
/// would without the shim; answers to probes do not.
#[derive(Clone, Debug)]
pub struct PodLog(mpsc::Sender<(Stream, Vec<u8>)>);

impl PodLog {
    /// Starts the thread. It ends when the last clone is dropped.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, mut chunks) = mpsc::channel::<(Stream, Vec<u8>)>(4);
        let write = move || {
            while let Some((stream, bytes)) = chunks.blocking_recv() {
                // Without a reader the lines are lost, and the item goes on.
                let _ = match stream {
                    Stream::Out => whole(&mut io::stdout().lock(), &bytes),
                    Stream::Err => whole(&mut io::stderr().lock(), &bytes),
                };
            }
        };
        let thread =
            std::thread::Builder::new().name("pod-log".to_owned()).stack_size(128 * 1024).spawn(write)?;
        Ok((PodLog(sender), thread))
    }

    pub async fn write(&self, stream: Stream, bytes: Vec<u8>) {
        let _ = self.0.send((stream, bytes)).await;
    }

    /// Writes a line of the shim itself. The line is dropped if the log is blocked, because answers
    /// do not wait for the log.
    pub async fn note(&self, text: &str) {
        let line = format!("longhaul-worker: {text}\n").into_bytes();
        let _ = tokio::time::timeout(NOTE_WAIT, self.write(Stream::Err, line)).await;
    }
}

fn whole(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
