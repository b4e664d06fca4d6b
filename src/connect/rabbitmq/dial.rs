//! Finds the address of a broker that answers.
//!
//! A name may have several addresses. Each address may refuse a connection, or accept it and stay
//! silent. So the addresses are tried side by side up to the server's greeting, each a moment after
//! the one before. The first address that greets wins, and the other connections are closed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_rs::Tokio;
use async_rs::traits::Reactor;
use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::time::{sleep, timeout};

use super::frames::{FRAME_HEAD, Frames};
use super::guard::Guard;
use super::stream::{ReadableStream, Socket};
use super::{Error, FRAME};

/// The protocol header of AMQP 0-9-1.
pub(super) const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";
/// The time that one address has before the next address is tried beside it.
const HEAD_START: Duration = Duration::from_millis(1500);
/// The bound of all steps up to the greeting, for all addresses together. The URI may set another
/// bound of at most a minute. A problem must be visible within 10 s.
const TIMEOUT: Duration = Duration::from_secs(7);
const TIMEOUT_MAX: u64 = 60_000;
/// The largest greeting, in bytes. Real greetings are far smaller.
const GREETING_MAX: usize = 64 * 1024;

/// A connection to an address that greeted.
pub(super) struct Dialed {
    pub stream: ReadableStream,
    /// The guard, which shuts the socket down when it is dropped.
    pub guard: Guard,
}

/// # Errors
/// Returns the fault of the last address.
pub(super) async fn dial(uri: &AMQPUri, tls: &OwnedTLSConfig) -> Result<Dialed, Error> {
    let dialing = async {
        let name = (uri.authority.host.as_str(), uri.authority.port);
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(name).await.map_err(unresolved)?.collect();
        first_of(addresses, uri, tls).await
    };
    let bound = uri.query.connection_timeout.filter(|milliseconds| *milliseconds > 0);
    let bound = bound.map_or(TIMEOUT, |milliseconds| Duration::from_millis(milliseconds.min(TIMEOUT_MAX)));
    timeout(bound, dialing).await.unwrap_or(Err(Error::Silent("the connection", bound)))
}

async fn first_of(addresses: Vec<SocketAddr>, uri: &AMQPUri, tls: &OwnedTLSConfig) -> Result<Dialed, Error> {
    let mut next = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last_error = Error::Io(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    loop {
        if let Some(address) = next.next() {
            running.push(attempt(address, uri, tls));
        } else if running.is_empty() {
            return Err(last_error);
        }
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(dialed) => return Ok(dialed),
                Err(error) => last_error = error,
            },
            () = sleep(HEAD_START), if next.len() > 0 => {}
        }
    }
}

async fn attempt(address: SocketAddr, uri: &AMQPUri, tls: &OwnedTLSConfig) -> Result<Dialed, Error> {
    let socket = Tokio::current().tcp_connect_addr(address).await?;
    let guard = Guard::watch(socket.get_ref())?;
    let mut socket: Socket = AsyncTcpStream::Plain(socket);
    if uri.scheme == AMQPScheme::AMQPS {
        socket = socket.into_tls(&uri.authority.host, tls.as_ref()).await.map_err(without_tls)?;
    }
    let greeting = greeting(&mut socket).await?;
    let frame_max = uri.query.frame_max.unwrap_or(FRAME);
    let stream = ReadableStream::new(socket, Frames::new(frame_max), &greeting)?;
    Ok(Dialed { stream, guard })
}

/// Reads the server's first frame.
async fn greeting(socket: &mut Socket) -> Result<Vec<u8>, Error> {
    socket.write_all(HELLO).await?;
    socket.flush().await?;
    let mut read = vec![0; FRAME_HEAD];
    let count = socket.read(&mut read).await?;
    match read.get(..count) {
        None | Some([]) => return Err(Error::Protocol("the port closed the connection without a greeting")),
        // A method frame.
        Some([1, ..]) => {}
        // A TLS record: an alert, or a handshake.
        Some([0x15 | 0x16, ..]) => {
            return Err(Error::Protocol("the port speaks TLS, and the URL says amqp:// (write amqps://)"));
        }
        Some([b'A', ..]) => return Err(Error::Protocol("the port does not speak AMQP 0-9-1")),
        Some([b'H', ..]) => {
            return Err(Error::Protocol("the port speaks HTTP (the port of AMQP is 5672, with TLS 5671)"));
        }
        Some(_) => return Err(Error::Protocol("the port does not speak AMQP")),
    }
    socket.read_exact(&mut read[count..]).await?;
    let size = u32::from_be_bytes([read[3], read[4], read[5], read[6]]) as usize;
    if size > GREETING_MAX {
        return Err(Error::Protocol("the port does not speak AMQP"));
    }
    let head = read.len();
    read.resize(head + size + 1, 0);
    socket.read_exact(&mut read[head..]).await?;
    Ok(read)
}

/// Explains a failed handshake: a peer that does not speak TLS answers with its own protocol.
fn without_tls(error: io::Error) -> Error {
    let text = error.to_string();
    if text.contains("InvalidContentType") || text.contains("corrupt message") {
        return Error::Protocol(
            "the port does not speak TLS, and the URL says amqps:// (TLS is at port 5671)",
        );
    }
    Error::Tls(text)
}

fn unresolved(error: io::Error) -> Error {
    Error::Io(io::Error::new(error.kind(), format!("the host cannot be resolved: {error}")))
}
