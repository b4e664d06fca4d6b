//! One AMQP 0-9-1 connection. Address, credentials and certificates are read again for each
//! connection, so a rotated password or certificate needs no restart. Every step has a bound.
//!
//! lapin's own recovery stays off: it hides the border between two sessions, and it hangs on a
//! channel that the broker closed.

mod dial;
mod error;
mod frames;
mod guard;
pub mod readable;
mod server;
mod stream;
pub mod table;
mod tls;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, ConnectionProperties};
use tokio::time::timeout;

use crate::config::{Secret, Tls};
pub use error::{Error, Refusal};
use guard::Guard;
pub use server::Server;
use stream::Handover;

/// The bound of the AMQP handshake after the greeting. The broker may ask an authentication backend
/// meanwhile.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The bound of every request that the broker answers: declare, qos, consume, cancel, close.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The heartbeat in seconds, if the URI names none. With the broker's own 60 s, a dead peer would
/// be noticed after two minutes.
const HEARTBEAT: u16 = 10;
/// The largest frame in bytes, if the URI names none: RabbitMQ's own default. The head of a message
/// must fit into one frame, and twice as much as a request can carry does. lapin takes 64 times as
/// much memory for each connection.
const FRAME: u32 = 128 * 1024;

/// The address of a broker, and the way to reach it.
#[derive(Clone)]
pub struct Settings {
    /// The function that makes the AMQP URI with its secrets. It is called for each connection.
    pub url: Url,
    pub tls: Tls,
    /// The connection's name in the broker's management.
    pub name: String,
}

/// A function that makes the AMQP URI, or names the secret that cannot be read.
pub type Url = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// Returns the function that reads the address again at each connect, so that a rotated password is
/// used.
pub fn address(url: &Secret) -> Url {
    let url = url.clone();
    Arc::new(move || url.resolve().map_err(|error| error.to_string()))
}

/// An open connection.
pub struct Connection {
    amqp: lapin::Connection,
    guard: Guard,
    server: Arc<OnceLock<Server>>,
    virtual_host: String,
}

impl Settings {
    /// Opens a connection.
    ///
    /// # Errors
    /// Returns the errors of [`Error::refusal`]. None of them shows the password.
    pub async fn connect(&self) -> Result<Connection, Error> {
        self.open(self.uri()?).await
    }

    /// Opens a connection that receives messages. It ignores a smaller `frame_max` of the URI: the
    /// server also sends headers that are larger than that, and these would end every session.
    ///
    /// # Errors
    /// Returns the errors of [`connect`](Self::connect).
    pub async fn connect_to_consume(&self) -> Result<Connection, Error> {
        let mut uri = self.uri()?;
        uri.query.frame_max = uri.query.frame_max.max(Some(FRAME));
        self.open(uri).await
    }

    fn uri(&self) -> Result<AMQPUri, Error> {
        parse(&(self.url)().map_err(Error::Secret)?)
    }

    async fn open(&self, uri: AMQPUri) -> Result<Connection, Error> {
        let tls = tls::read(&self.tls, &uri.scheme).await?;
        let virtual_host = uri.vhost.clone();
        let properties = ConnectionProperties::default()
            .with_connection_name(self.name.as_str().into())
            .with_client_property("product".into(), "longhaul".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());

        let dialed = dial::dial(&uri, &tls).await?;
        let (guard, server) = (dialed.guard, dialed.stream.server());
        let handover = Handover::new(dialed.stream);
        let open = async move |_, _| handover.take();
        let opening = lapin::Connection::connector(uri, stream::runtime(), open, properties);
        // If this future is dropped early, the guard closes the socket. Otherwise lapin's thread
        // would wait without end for a silent peer.
        let opened = timeout(HANDSHAKE_TIMEOUT, opening).await;
        let amqp = opened.map_err(|_| Error::Silent("the AMQP handshake", HANDSHAKE_TIMEOUT))??;
        Ok(Connection { amqp, guard, server, virtual_host })
    }
}

impl Connection {
    pub async fn channel(&self) -> Result<Channel, Error> {
        answer("channel.open", self.amqp.create_channel()).await
    }

    pub fn is_open(&self) -> bool {
        self.amqp.status().connected()
    }

    /// Returns the properties that the server tells about itself.
    pub fn server(&self) -> Server {
        self.server.get().cloned().unwrap_or_default()
    }

    pub fn virtual_host(&self) -> &str {
        &self.virtual_host
    }

    /// Returns the largest frame in bytes. A message's headers and properties must fit into one
    /// frame.
    pub fn frame_max(&self) -> usize {
        self.amqp.configuration().frame_max() as usize
    }

    /// Closes the connection, and shuts the socket down even if the broker does not answer.
    pub async fn close(self) {
        if self.is_open() {
            let _ = answer("connection.close", self.amqp.close(200, "OK".into())).await;
        }
        drop(self.guard);
    }
}

/// Awaits the broker's answer, with a bound.
pub async fn answer<T>(
    what: &'static str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Error> {
    match timeout(ANSWER_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Silent(what, ANSWER_TIMEOUT)),
    }
}

/// Reads an AMQP URI. The parser's own errors may repeat the text with its password, so they are
/// dropped.
fn parse(text: &str) -> Result<AMQPUri, Error> {
    let url = url::Url::parse(text).map_err(|_| Error::Uri)?;
    let mut uri: AMQPUri = text.parse().map_err(|_| Error::Uri)?;
    // lapin's parser only supports host names, and would replace an IPv6 address with localhost.
    if let Some(url::Host::Ipv6(address)) = url.host() {
        uri.authority.host = address.to_string();
    }
    // A heartbeat of 0 would switch heartbeats off, and a silent connection would never be noticed.
    uri.query.heartbeat = Some(uri.query.heartbeat.filter(|seconds| *seconds > 0).unwrap_or(HEARTBEAT));
    // lapin then allocates its buffers once. If it learns the size from the server, it fills them
    // with zeros, which makes 8 MiB of each connection resident.
    uri.query.frame_max = Some(uri.query.frame_max.filter(|bytes| *bytes > 0).unwrap_or(FRAME));
    Ok(uri)
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Settings").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_the_password() {
        for bad in
            ["amqp:user:hunter2@host", "http://user:hunter2@host", "amqp://user:hunter2@host:badport", ""]
        {
            let error = parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn reads_what_the_uri_specification_allows() {
        let uri = parse("amqps://a%40b:p%2Fw@[::1]:5/v%2Fh?heartbeat=3").unwrap();
        assert_eq!(uri.authority.host, "::1");
        assert_eq!((uri.authority.port, uri.vhost.as_str()), (5, "v/h"));
        assert_eq!((uri.authority.userinfo.username.as_str(), uri.query.heartbeat), ("a@b", Some(3)));
        assert_eq!(parse("amqp://host").unwrap().query.heartbeat, Some(HEARTBEAT));
    }
}
