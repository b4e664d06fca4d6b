//! A pipeline's condition, written by its bridge and read by the health endpoints.

use std::sync::atomic::{AtomicBool, Ordering};

/// Flags, each on its own: readers want a glance, not a consistent picture.
#[derive(Debug, Default)]
pub struct Status {
    pub name: String,
    connected: AtomicBool,
    held_full: AtomicBool,
    draining: AtomicBool,
    stopped: AtomicBool,
}

impl Status {
    pub fn new(name: &str) -> Self {
        Status { name: name.to_owned(), ..Status::default() }
    }

    pub fn connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// As many items as `limits.held_max` allows are held.
    pub fn held_full(&self, full: bool) {
        self.held_full.store(full, Ordering::Relaxed);
    }

    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The pipeline has ended, for whatever reason.
    pub fn stopped(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Why the pipeline is not ready; nothing when it is.
    pub fn unready(&self) -> Option<&'static str> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if is(&self.stopped) {
            Some("stopped")
        } else if is(&self.draining) {
            Some("draining")
        } else if !is(&self.connected) {
            Some("broker not connected")
        } else if is(&self.held_full) {
            Some(
                "limits.held_max items failed for good and are held: configure dead_letter, or on_failed: drop, and restart",
            )
        } else {
            None
        }
    }
}
