//! Passes the stream of bytes from a broker to lapin, frame by frame.
//!
//! Methods and content headers are read as a whole and made [`readable`]. Bodies and heartbeats
//! pass in the pieces in which they arrive.

use std::io;
use std::sync::{Arc, OnceLock};

use super::readable;
use super::server::Server;

/// The bytes of a frame's head: type, channel and size.
pub(super) const FRAME_HEAD: usize = 7;
/// The bytes behind the payload of each frame.
const FRAME_END: usize = 1;
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
/// The start of connection.tune: class and method. The largest number of channels and the largest
/// frame follow.
const TUNE: &[u8] = &[0, 10, 0, 30];
/// The place of the largest frame in connection.tune.
const TUNE_FRAME_MAX: std::ops::Range<usize> = 6..10;
/// AMQP's lower bound of the largest frame, in bytes.
const FRAME_MIN: u32 = 4096;
/// The largest frame that is read as a whole, in bytes. A server adds its own headers to a message,
/// and also sends a header that has become larger than a frame. Above this bound a frame cannot be
/// a message.
const HELD_MAX: usize = 4 * 1024 * 1024;

/// Reads frames and writes readable ones.
pub(super) struct Frames {
    /// The part of the present frame that is not written yet: its head, or the whole frame.
    held: Vec<u8>,
    /// The number of bytes to pass on unchanged.
    passing: usize,
    /// The largest frame that lapin reads, in bytes.
    frame_max: u32,
    server: Arc<OnceLock<Server>>,
}

impl Frames {
    /// Creates a reader. `frame_max` is the largest frame that this side allows.
    pub(super) fn new(frame_max: u32) -> Self {
        Frames { held: Vec::new(), passing: 0, frame_max, server: Arc::default() }
    }

    /// Returns the server's properties from its first frame.
    pub(super) fn server(&self) -> Arc<OnceLock<Server>> {
        Arc::clone(&self.server)
    }

    /// Takes bytes as they arrive and appends readable bytes.
    ///
    /// # Errors
    /// Returns an error for a frame that is larger than allowed.
    pub(super) fn read(&mut self, mut from: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        while !from.is_empty() {
            if self.passing > 0 {
                let (pass, rest) = from.split_at(self.passing.min(from.len()));
                to.extend(pass);
                self.passing -= pass.len();
                from = rest;
                continue;
            }
            let wanted = self.wanted()?;
            let (taken, rest) = from.split_at((wanted - self.held.len()).min(from.len()));
            self.held.extend(taken);
            from = rest;
            if self.held.len() == wanted && wanted > FRAME_HEAD {
                self.finish(to);
            } else if self.held.len() == FRAME_HEAD && !self.is_checked() {
                self.passing = self.size() + FRAME_END;
                to.append(&mut self.held);
            }
        }
        Ok(())
    }

    /// Returns the number of bytes to hold before the next decision.
    fn wanted(&self) -> io::Result<usize> {
        if self.held.len() < FRAME_HEAD {
            return Ok(FRAME_HEAD);
        }
        let wanted = FRAME_HEAD + self.size() + FRAME_END;
        if wanted > HELD_MAX {
            let text = format!("the broker sent a frame of {wanted} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(wanted)
    }

    fn is_checked(&self) -> bool {
        matches!(self.held[0], METHOD | CONTENT_HEADER)
    }

    fn size(&self) -> usize {
        u32::from_be_bytes([self.held[3], self.held[4], self.held[5], self.held[6]]) as usize
    }

    fn finish(&mut self, to: &mut Vec<u8>) {
        let end = self.held.len() - FRAME_END;
        let is_method = self.held[0] == METHOD;
        let payload = &mut self.held[FRAME_HEAD..end];
        let made = if is_method {
            self.server.get_or_init(|| Server::read(payload));
            if payload.starts_with(TUNE)
                && let Some(offered) = payload.get_mut(TUNE_FRAME_MAX)
            {
                self.frame_max = agreed(offered, self.frame_max);
            }
            readable::method(payload)
        } else {
            readable::content_header(payload, self.frame_max as usize - FRAME_HEAD - FRAME_END)
        };
        match made {
            None => to.extend(&self.held),
            Some(made) => {
                to.extend(&self.held[..3]);
                to.extend((made.len() as u32).to_be_bytes());
                to.extend(made);
                to.extend(&self.held[end..]);
            }
        }
        self.held.clear();
    }
}

/// Returns the largest frame that both sides allow. If the server offers no bound or a larger one,
/// lapin uses this side's bound.
fn agreed(offered: &mut [u8], allowed: u32) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(offered);
    let agreed = match u32::from_be_bytes(bytes) {
        0 => allowed,
        offer => offer.min(allowed),
    };
    let agreed = agreed.max(FRAME_MIN);
    offered.copy_from_slice(&agreed.to_be_bytes());
    agreed
}

#[cfg(test)]
mod tests;
