//! Hangs up a socket that lapin owns.
//!
//! lapin reads and writes on a thread of its own, which ends with its socket only. When a handshake is given up, or a
//! close is not answered, that thread would stay for as long as the peer keeps silent: one leaked thread for each try.
//! So a second handle of the same socket is kept here, and shut down.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Hangs up when it is dropped.
#[derive(Default)]
pub(super) struct Guard(Arc<Mutex<Watched>>);

/// Tells the guard which socket it is.
pub(super) struct Watcher(Arc<Mutex<Watched>>);

#[derive(Default)]
enum Watched {
    #[default]
    NoneYet,
    Open(TcpStream),
    HungUp,
}

impl Guard {
    pub(super) fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.0))
    }
}

impl Watcher {
    /// # Errors
    /// When the guard was dropped while this socket was being connected.
    pub(super) fn watch(&self, socket: &impl AsFd) -> io::Result<()> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*watched, Watched::HungUp) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *watched = Watched::Open(socket.as_fd().try_clone_to_owned()?.into());
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Watched::Open(socket) = std::mem::replace(&mut *watched, Watched::HungUp) {
            // An error means that it is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
