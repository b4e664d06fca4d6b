//! The stream of bytes from a broker, frame by frame, on its way to lapin.
//!
//! Methods and content headers are read as a whole and made [`readable`]; bodies and heartbeats go on as they come.

use std::io;
use std::sync::{Arc, OnceLock};

use super::readable;
use super::server::Server;

/// Type, channel and size of a frame.
pub(super) const FRAME_HEAD: usize = 7;
/// Behind the payload of each frame.
const FRAME_END: usize = 1;
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
/// connection.tune: class and method, the largest number of channels, and then the largest frame.
const TUNE: &[u8] = &[0, 10, 0, 30];
/// Where the largest frame stands in it.
const TUNE_FRAME_MAX: std::ops::Range<usize> = 6..10;
/// AMQP's lower bound of the largest frame.
const FRAME_MIN: u32 = 4096;
/// A server adds headers of its own to a message, and sends a header that has become larger than a frame all the same.
/// Above this bound it cannot be a message.
const HELD_MAX: usize = 4 * 1024 * 1024;

/// Reads frames and writes readable ones.
pub(super) struct Frames {
    /// The part of the present frame that is not written yet: its head, or all of it.
    held: Vec<u8>,
    /// Bytes that are still to be passed on as they are.
    passing: usize,
    /// The largest frame that lapin reads, in bytes.
    frame_max: u32,
    server: Arc<OnceLock<Server>>,
}

impl Frames {
    /// `frame_max` is the largest frame that this side allows.
    pub(super) fn new(frame_max: u32) -> Self {
        Frames { held: Vec::new(), passing: 0, frame_max, server: Arc::default() }
    }

    /// What the server tells about itself in its first frame.
    pub(super) fn server(&self) -> Arc<OnceLock<Server>> {
        Arc::clone(&self.server)
    }

    /// Takes bytes as they come and appends readable ones.
    ///
    /// # Errors
    /// A frame that is larger than allowed.
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

    /// How many bytes to hold before the next decision.
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

/// The largest frame that both sides allow. Where the server offers no bound or a larger one, lapin reads this side's.
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
