//! A peer that reads one request at a time and then follows its orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The action after the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Wait for the next request.
    KeepOpen,
    /// Answer one request on each connection, then read a second one and close without an answer.
    DieOnSecond,
    /// Close as after a clean exit.
    Close,
    /// Close so that the client gets a reset.
    Reset,
    /// Send nothing more until the client is gone.
    Hold,
}

pub struct Server {
    pub url: String,
    /// Each whole request, as received.
    pub requests: mpsc::UnboundedReceiver<String>,
    /// One message for each connection that the client has closed.
    pub closed: mpsc::UnboundedReceiver<()>,
    pub connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Server {
    pub async fn start(answer: impl Into<Vec<u8>>, then: Then) -> Server {
        let answer: Arc<[u8]> = answer.into().into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/work", listener.local_addr().unwrap());
        let (request_sender, requests) = mpsc::unbounded_channel();
        let (closed_sender, closed) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let accept = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let (requests, closed) = (request_sender.clone(), closed_sender.clone());
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    if serve(stream, &answer, then, &requests).await == End::ByClient {
                        let _ = closed.send(());
                    }
                });
            }
        });
        Server { url, requests, closed, connections, task: accept.abort_handle() }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(PartialEq, Eq)]
enum End {
    ByClient,
    ByUs,
}

async fn serve(
    mut stream: TcpStream,
    answer: &[u8],
    then: Then,
    requests: &mpsc::UnboundedSender<String>,
) -> End {
    let mut count = 0;
    while let Some(request) = read_request(&mut stream).await {
        let _ = requests.send(request);
        count += 1;
        if then == Then::DieOnSecond && count == 2 {
            return End::ByUs;
        }
        if stream.write_all(answer).await.is_err() {
            return End::ByClient;
        }
        match then {
            Then::KeepOpen | Then::DieOnSecond => {}
            Then::Close => {
                let _ = stream.shutdown().await;
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                return End::ByClient;
            }
            Then::Reset => {
                stream.set_zero_linger().unwrap();
                return End::ByUs;
            }
            Then::Hold => {
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                return End::ByClient;
            }
        }
    }
    End::ByClient
}

/// Reads head and body; returns `None` once the client is gone.
pub async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        let read = stream.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}
