//! Shuts down a socket that lapin owns.
//!
//! lapin reads and writes on its own thread, which ends only with its socket. If a handshake is
//! given up, or a close is not answered, that thread would live for as long as the peer is silent.
//! Each try would leak one thread. So the guard keeps a second handle of the same socket, and shuts
//! the socket down.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

/// A socket that is shut down when the guard is dropped.
pub(super) struct Guard(TcpStream);

impl Guard {
    pub(super) fn watch(socket: &impl AsFd) -> io::Result<Self> {
        Ok(Guard(socket.as_fd().try_clone_to_owned()?.into()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // An error means that the socket is closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
