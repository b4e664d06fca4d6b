//! Ports for workers.

use std::net::{Ipv4Addr, TcpListener};

/// Below the range that Linux takes the ports of outgoing connections from, by default from 32768
/// on: a port out of that could be in use again between our look and the worker's own bind.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that nobody listens on now. Where another program takes it first, the worker fails to
/// bind, ends, and is started with another.
pub fn free() -> Option<u16> {
    let start = fastrand::u16(..COUNT);
    (0..COUNT).map(|step| FIRST + (start + step) % COUNT).find(|port| is_free(*port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
