//! A TCP relay between a client and a server that fails on demand: it cuts, falls silent or
//! refuses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::within;

/// A time much longer than TCP holds bytes back (Nagle's algorithm with delayed acknowledgements:
/// 40 ms).
const QUIET: Duration = Duration::from_millis(200);

/// Listens on a port of its own, and stops when it is dropped.
pub struct Relay {
    address: SocketAddr,
    control: Arc<watch::Sender<Control>>,
    passed: Arc<Passed>,
    accepting: JoinHandle<()>,
}

/// Counts of the bytes so far.
#[derive(Default)]
struct Passed {
    /// The byte behind these bytes of the server is changed.
    spoiled: Mutex<Vec<u8>>,
    /// Bytes from clients to the server.
    asked: AtomicU64,
    /// Bytes from the server to its clients.
    answered: AtomicU64,
}

/// The behaviour of the relay towards its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes go both ways.
    Pass,
    /// Connections stay open, but every byte is swallowed. Cut them before passing again, because a
    /// stream with a hole is garbage.
    Stall,
    /// Connections stay open and no byte passes, as if the server's process were stopped (SIGSTOP).
    /// All bytes pass afterwards.
    Hold,
    /// New connections are closed at once.
    Refuse,
}

#[derive(Clone, Copy)]
struct Control {
    mode: Mode,
    /// Connections accepted in an earlier generation are closed.
    generation: u64,
    /// Grows to make the relay write junk to the servers.
    junk: u64,
    /// Grows to make the relay take the clients away from the servers.
    parted: u64,
}

impl Relay {
    pub async fn start(upstream: String) -> Self {
        Relay::start_at("127.0.0.1:0", upstream).await
    }

    /// Listens on the address that the server advertises to its clients. The relay of an earlier
    /// test may still be releasing that address.
    pub async fn start_at(listen: &str, upstream: String) -> Self {
        let listener = within("the relay's address", async {
            loop {
                match TcpListener::bind(listen).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
        .await;
        let address = listener.local_addr().expect("bound");
        let (control, _) = watch::channel(Control { mode: Mode::Pass, generation: 0, junk: 0, parted: 0 });
        let control = Arc::new(control);
        let passed = Arc::<Passed>::default();
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&control), Arc::clone(&passed)));
        Relay { address, control, passed, accepting }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes every connection, without a message to either end.
    pub fn cut_all(&self) {
        self.control.send_modify(|control| control.generation += 1);
    }

    /// Writes junk to the server on every connection, so that it closes them with an error.
    pub fn confuse_server(&self) {
        self.control.send_modify(|control| control.junk += 1);
    }

    /// Closes every connection to the server, while the clients' connections stay open and silent.
    pub fn part(&self) {
        self.control.send_modify(|control| control.parted += 1);
    }

    /// Changes the byte that follows `marker` in an answer of the server. In AMQP this is the end
    /// of a body's frame, and no client can read the stream any further. An empty marker changes
    /// nothing.
    pub fn spoil(&self, marker: &[u8]) {
        *self.passed.spoiled.lock().expect("no panic meanwhile") = marker.to_vec();
    }

    /// Returns the bytes that went from the server to its clients so far.
    pub fn answered(&self) -> u64 {
        self.passed.answered.load(Ordering::Relaxed)
    }

    /// Waits until all bytes on their way have arrived.
    pub async fn quiet(&self) {
        let passed = || self.passed.asked.load(Ordering::Relaxed) + self.answered();
        within("nothing passes the relay", async {
            loop {
                let before = passed();
                tokio::time::sleep(QUIET).await;
                if passed() == before {
                    return;
                }
            }
        })
        .await;
    }

    pub fn set(&self, mode: Mode) {
        self.control.send_modify(|control| control.mode = mode);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_all();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: String,
    control: Arc<watch::Sender<Control>>,
    passed: Arc<Passed>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let now = *control.borrow();
        if now.mode == Mode::Refuse {
            continue;
        }
        let mut changes = control.subscribe();
        let (upstream, passed) = (upstream.clone(), Arc::clone(&passed));
        tokio::spawn(async move {
            let passing = pass(client, upstream, changes.clone(), &passed);
            tokio::select! {
                () = passing => {}
                _ = changes.wait_for(|control| control.generation != now.generation) => {}
            }
        });
    }
}

async fn pass(
    mut client: TcpStream,
    upstream: String,
    mut control: watch::Receiver<Control>,
    passed: &Passed,
) {
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let mut parting = control.clone();
    tokio::select! {
        () = link(&mut client, &mut server, &mut control, passed) => {}
        () = grown(&mut parting, |control| control.parted) => {
            drop(server);
            let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        }
    }
}

async fn link(
    client: &mut TcpStream,
    server: &mut TcpStream,
    control: &mut watch::Receiver<Control>,
    passed: &Passed,
) {
    let (client_read, client_write) = client.split();
    let (server_read, mut server_write) = server.split();
    let mode = control.clone();
    let untouched = Mutex::default();
    // If either end closes, both connections are closed, as after a broken network path.
    tokio::select! {
        () = copy(server_read, client_write, mode.clone(), &passed.answered, &passed.spoiled) => {}
        () = async {
            tokio::select! {
                () = copy(client_read, &mut server_write, mode, &passed.asked, &untouched) => return,
                () = grown(control, |control| control.junk) => {}
            }
            // This is not a frame of AMQP, nor the start of one. Later bytes of the client do not
            // matter.
            let _ = server_write.write_all(&[0xff; 64]).await;
            std::future::pending().await
        } => {}
    }
}

async fn grown(control: &mut watch::Receiver<Control>, which: impl Fn(&Control) -> u64) {
    let before = which(&control.borrow());
    let _ = control.wait_for(|control| which(control) > before).await;
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut control: watch::Receiver<Control>,
    passed: &AtomicU64,
    spoiled: &Mutex<Vec<u8>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        passed.fetch_add(count as u64, Ordering::Relaxed);
        spoil(&mut buffer[..count], &spoiled.lock().expect("no panic meanwhile"));
        let _ = control.wait_for(|control| control.mode != Mode::Hold).await;
        let stalled = control.borrow().mode == Mode::Stall;
        if !stalled && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// The marker is short, and comes in one piece with the bytes around it.
fn spoil(bytes: &mut [u8], marker: &[u8]) {
    let found = (!marker.is_empty())
        .then(|| bytes.windows(marker.len()).position(|window| window == marker))
        .flatten();
    if let Some(next) = found.and_then(|start| bytes.get_mut(start + marker.len())) {
        *next ^= 0xff;
    }
}
