//! Hangs up a socket that lapin owns.
//!
//! lapin reads and writes on a thread of its own, which ends with its socket only. When a handshake is given up, or a
//! close is not answered, that thread would stay for as long as the peer keeps silent: one leaked thread for each try.
//! So a second handle of the same socket is kept here, and shut down.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

/// Hangs up when it is dropped.
pub(super) struct Guard(TcpStream);

impl Guard {
    pub(super) fn watch(socket: &impl AsFd) -> io::Result<Self> {
        Ok(Guard(socket.as_fd().try_clone_to_owned()?.into()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // An error means that it is closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
