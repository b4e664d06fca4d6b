//! Which RabbitMQ this is.
//!
//! lapin keeps the server's properties to itself. So where the version matters this asks on a connection of its own: it
//! says hello, reads the server's greeting (`connection.start`, AMQP 0-9-1 section 1.4.2.1), and hangs up.

use futures_util::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPScheme;
use tokio::time::timeout;

use super::{ANSWER_TIMEOUT, Error, Settings, parse, tls};

const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Far more than any greeting.
const GREETING_MAX: usize = 64 * 1024;
/// Type, channel and size of a frame.
const FRAME_HEADER: usize = 7;
/// Class, method and version of the protocol, before the properties.
const START_HEADER: usize = 6;

impl Settings {
    /// The server's version as it tells it, such as `4.0.5`; none where it tells none.
    ///
    /// # Errors
    /// When it can't be reached, or does not answer within ten seconds.
    pub async fn server_version(&self) -> Result<Option<String>, Error> {
        let url = (self.url)().map_err(Error::Secret)?;
        let uri = parse(&url)?;
        let certificates = tls::read(&self.tls, &uri.scheme).await?;
        let runtime = lapin::runtime::default_runtime()?;
        let asking = async {
            let address = (uri.authority.host.clone(), uri.authority.port);
            let mut stream = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(address)).await?;
            if uri.scheme == AMQPScheme::AMQPS {
                stream = stream.into_tls(&uri.authority.host, certificates.as_ref()).await?;
            }
            greeting(&mut stream).await
        };
        match timeout(ANSWER_TIMEOUT, asking).await {
            Ok(greeting) => Ok(version(&greeting.map_err(lapin::Error::from)?)),
            Err(_) => Err(Error::Silent("the AMQP greeting", ANSWER_TIMEOUT)),
        }
    }
}

/// The payload of the server's first frame.
async fn greeting(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<Vec<u8>> {
    stream.write_all(HELLO).await?;
    stream.flush().await?;
    let mut header = [0; FRAME_HEADER];
    stream.read_exact(&mut header).await?;
    let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
    let mut payload = vec![0; size.min(GREETING_MAX)];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

fn version(start: &[u8]) -> Option<String> {
    let mut rest = start.get(START_HEADER..)?;
    let size = long(&mut rest)?;
    let mut table = rest.get(..size)?;
    while !table.is_empty() {
        let length = usize::from(*take(&mut table, 1)?.first()?);
        let name = take(&mut table, length)?;
        match take(&mut table, 1)?.first()? {
            // Text, or a table of its own.
            b'S' | b'F' => {
                let size = long(&mut table)?;
                let value = take(&mut table, size)?;
                if name == b"version" {
                    return String::from_utf8(value.to_vec()).ok();
                }
            }
            b't' => drop(take(&mut table, 1)?),
            b'I' => drop(take(&mut table, 4)?),
            // RabbitMQ sends none of the others.
            _ => return None,
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn long(rest: &mut &[u8]) -> Option<usize> {
    let bytes = take(rest, 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize)
}

/// The first number of a version.
pub fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_version_behind_a_nested_table_and_survives_nonsense() {
        let text = |name: &str, value: &str| {
            let mut entry = vec![name.len() as u8];
            entry.extend(name.as_bytes());
            entry.push(b'S');
            entry.extend((value.len() as u32).to_be_bytes());
            entry.extend(value.as_bytes());
            entry
        };
        let mut table = b"\x0ccapabilitiesF\x00\x00\x00\x06\x03abct\x01".to_vec();
        table.extend(text("product", "RabbitMQ"));
        table.extend(text("version", "4.0.5"));
        let mut start = vec![0, 10, 0, 10, 0, 9];
        start.extend((table.len() as u32).to_be_bytes());
        start.extend(table);
        assert_eq!(version(&start).as_deref(), Some("4.0.5"));
        for cut in 0..start.len() {
            assert_eq!(version(&start[..cut]), None);
        }
        assert_eq!((major("4.0.5"), major("3.10.8"), major("x")), (Some(4), Some(3), None));
    }
}
