//! Finds ports for workers.

use std::net::{Ipv4Addr, TcpListener};

/// The first port to try. Linux takes the ports of outgoing connections from 32768 on by default. A
/// port in that range could be taken between this check and the worker's own bind.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Returns a port on which nobody listens now. If another program takes it first, the worker fails
/// to bind, ends, and is started with another port.
pub fn free() -> Option<u16> {
    let start = fastrand::u16(..COUNT);
    (0..COUNT).map(|step| FIRST + (start + step) % COUNT).find(|port| is_free(*port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
