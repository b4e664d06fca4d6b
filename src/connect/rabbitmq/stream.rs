//! The connection's bytes as lapin reads and writes them. They pass through [`Frames`]. lapin's
//! protocol header is dropped, because longhaul sent one when it chose the address.

use std::future::{Ready, ready};
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready as ready_or_pending};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::stream::Stream;
use lapin::tcp::AsyncTcpStream;

use super::dial::HELLO;
use super::frames::Frames;
use super::server::Server;

/// The number of bytes to read from the socket at once.
const CHUNK: usize = 64 * 1024;

/// A socket, with TLS where the URI asks for it.
pub(super) type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// An AMQP connection after the server's greeting.
pub struct ReadableStream {
    socket: Socket,
    frames: Frames,
    /// The readable bytes, and the number of them that lapin has.
    ready: Vec<u8>,
    given: usize,
    chunk: Box<[u8]>,
    /// The bytes of the protocol header that lapin has yet to write. Until then lapin gets no
    /// bytes: it does not expect the greeting yet.
    to_skip: usize,
    /// The wake-up of the read that waits for the protocol header.
    reading: Option<Waker>,
}

/// lapin's runtime: Tokio, with this stream in place of a TCP stream.
pub(super) type Kit = RuntimeParts<Tokio, Streams>;

/// A reactor whose streams are [`ReadableStream`]s. lapin gets the open stream and never asks for
/// another one.
#[derive(Clone, Debug)]
pub struct Streams(Tokio);

/// The open stream. lapin takes it once.
#[derive(Clone)]
pub(super) struct Handover(Arc<Mutex<Option<ReadableStream>>>);

impl ReadableStream {
    /// Creates the stream. `greeting` contains the bytes that were read from the socket already.
    pub(super) fn new(socket: Socket, mut frames: Frames, greeting: &[u8]) -> io::Result<Self> {
        let mut ready = Vec::new();
        frames.read(greeting, &mut ready)?;
        let chunk = vec![0; CHUNK].into_boxed_slice();
        Ok(ReadableStream { socket, frames, ready, given: 0, chunk, to_skip: HELLO.len(), reading: None })
    }

    pub(super) fn server(&self) -> Arc<OnceLock<Server>> {
        self.frames.server()
    }

    /// Returns the number of a write's bytes that belong to the protocol header.
    fn skip(&mut self, length: usize) -> Option<usize> {
        let skipped = self.to_skip.min(length);
        self.to_skip -= skipped;
        if self.to_skip == 0
            && let Some(reading) = self.reading.take()
        {
            reading.wake();
        }
        (skipped > 0).then_some(skipped)
    }
}

impl AsyncRead for ReadableStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self.get_mut();
        if this.to_skip > 0 {
            this.reading = Some(context.waker().clone());
            return Poll::Pending;
        }
        while this.given == this.ready.len() {
            this.ready.clear();
            this.given = 0;
            let socket = Pin::new(&mut this.socket);
            let count = ready_or_pending!(socket.poll_read(context, &mut this.chunk))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            this.frames.read(&this.chunk[..count], &mut this.ready)?;
        }
        let rest = &this.ready[this.given..];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        this.given += count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for ReadableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(skipped) = self.skip(from.len()) {
            return Poll::Ready(Ok(skipped));
        }
        Pin::new(&mut self.socket).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(skipped) = self.skip(from.iter().map(|slice| slice.len()).sum()) {
            return Poll::Ready(Ok(skipped));
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context)
    }
}

/// Returns lapin's runtime for one connection.
pub(super) fn runtime() -> async_rs::Runtime<Kit> {
    async_rs::Runtime::new(RuntimeParts::new(Tokio::current(), Streams(Tokio::current())))
}

impl Handover {
    pub(super) fn new(stream: ReadableStream) -> Self {
        Handover(Arc::new(Mutex::new(Some(stream))))
    }

    /// # Errors
    /// Returns an error if the stream was taken before. There is one stream for each connection,
    /// and a lost connection is not repaired.
    pub(super) fn take(&self) -> lapin::Result<AsyncTcpStream<ReadableStream>> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stream = taken.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        Ok(AsyncTcpStream::Plain(stream))
    }
}

impl Reactor for Streams {
    type TcpStream = ReadableStream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<ReadableStream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let refused: Ready<io::Result<ReadableStream>> = ready(Err(io::ErrorKind::Unsupported.into()));
        refused
    }
}
