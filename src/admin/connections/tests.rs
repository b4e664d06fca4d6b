//! Puts strangers at the admin port, over real sockets.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Extension;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

const TIMES: Times = Times {
    head: Duration::from_millis(500),
    body: Duration::from_millis(500),
    grace: Duration::from_millis(20),
    slow: Duration::from_millis(20),
};

struct Admin {
    address: SocketAddr,
    /// Ends the requests of `/wait`.
    go_on: Arc<Notify>,
    waiting: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Admin {
    async fn start(tls: Option<Tls>, times: Times) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, waiting) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (notified, count) = (go_on.clone(), waiting.clone());
        let wait = move || {
            let (notified, count) = (notified.clone(), count.clone());
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                notified.notified().await;
                (Extension(Known), "waited")
            }
        };
        let router = Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/wait", get(wait))
            .route("/change", post(|| async { "changed" }));
        let stop = CancellationToken::new();
        let task =
            tokio::spawn(serve(listener, tls, router, Bounds { times, ..Bounds::admin(16) }, stop.clone()));
        Admin { address, go_on, waiting, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    }

    async fn probe(&self) -> String {
        self.ask("GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await
    }
}

/// Reads everything until the connection is closed, which must happen soon.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    // A closed connection with unread bytes is reset.
    let _ = reading.expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Before the bound, 1,010 idle connections of strangers stopped all deliveries.
#[tokio::test(flavor = "multi_thread")]
async fn idle_strangers_make_room_and_a_probe_is_always_answered() {
    let patient = Times { head: Duration::from_secs(60), ..TIMES };
    let admin = Admin::start(None, patient).await;
    let mut strangers = Vec::new();
    for number in 0..300 {
        strangers.push(admin.connect().await);
        if number % 50 == 0 {
            assert!(admin.probe().await.ends_with("ok"), "after {number} strangers");
        }
    }
    assert!(admin.probe().await.ends_with("ok"));
    let mut open = 0;
    for mut stranger in strangers {
        let closed = timeout(Duration::from_millis(20), stranger.read_u8()).await;
        open += usize::from(closed.is_err());
    }
    assert!(open <= STRANGERS, "{open} idle connections are open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_being_answered_is_not_cut() {
    let admin = Admin::start(None, TIMES).await;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let mut stream = admin.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        waits.push(stream);
    }
    while admin.waiting.load(Ordering::SeqCst) < 10 {
        sleep(Duration::from_millis(10)).await;
    }
    let mut strangers = Vec::new();
    for _ in 0..200 {
        strangers.push(admin.connect().await);
    }
    assert!(admin.probe().await.ends_with("ok"));
    admin.go_on.notify_waiters();
    for mut stream in waits {
        assert!(read(&mut stream).await.ends_with("waited"));
    }
}

/// The oldest connection uploads slowly. Idle ones make room for the others.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_before_an_upload() {
    let patient = Times { head: Duration::from_secs(60), body: Duration::from_secs(60), ..TIMES };
    let admin = Admin::start(None, patient).await;
    let mut upload = admin.connect().await;
    let head = b"POST /change HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nx";
    upload.write_all(head).await.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..3 * STRANGERS {
        strangers.push(admin.connect().await);
        assert!(admin.probe().await.ends_with("ok"));
    }
    upload.write_all(b"x").await.unwrap();
    assert!(read(&mut upload).await.ends_with("changed"));
}

/// Uploads that never end fill the port. A probe closes one of them.
#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_make_room_for_a_probe() {
    let patient = Times { body: Duration::from_secs(60), ..TIMES };
    let admin = Admin::start(None, patient).await;
    let mut uploads = Vec::new();
    for _ in 0..2 * STRANGERS {
        let mut upload = admin.connect().await;
        upload.write_all(b"POST /change HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nx").await.unwrap();
        uploads.push(upload);
    }
    assert!(admin.probe().await.ends_with("ok"));
}

#[tokio::test]
async fn a_stopped_port_is_closed_while_its_last_request_runs() {
    let admin = Admin::start(None, TIMES).await;
    let mut stream = admin.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    while admin.waiting.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    admin.stop.cancel();
    while TcpStream::connect(admin.address).await.is_ok() {
        sleep(Duration::from_millis(10)).await;
    }
    admin.go_on.notify_waiters();
    assert!(read(&mut stream).await.ends_with("waited"));
}

#[tokio::test]
async fn an_unfinished_or_oversized_request_ends_soon() {
    let admin = Admin::start(None, TIMES).await;
    // One connection sends half a head, the other sends nothing.
    for start in ["GET /livez HTTP/1.1\r\nhost: a\r\nx: ", ""] {
        assert!(!admin.ask(start).await.contains("200 OK"), "{start}");
    }
    let long = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let answer = admin.ask(&long).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let body = |length: usize| {
        format!("POST /change HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
    };
    assert!(admin.ask(&body(10)).await.starts_with("HTTP/1.1 408"), "the body does not come");
    let long = format!("{}{}", body(200_000), "x".repeat(200_000));
    let answer = admin.ask(&long).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(admin.ask(&format!("{}{}", body(10), "x".repeat(10))).await.ends_with("changed"));
}

#[tokio::test]
async fn a_stop_finishes_the_open_request() {
    let admin = Admin::start(None, TIMES).await;
    let mut stream = admin.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while admin.waiting.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    admin.stop.cancel();
    sleep(Duration::from_millis(50)).await;
    admin.go_on.notify_waiters();
    assert!(read(&mut stream).await.ends_with("waited"));
    timeout(Duration::from_secs(20), admin.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn with_a_certificate_only_tls_is_spoken() {
    let fixture = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    let tls = Tls::from_files(&fixture("server.pem"), &fixture("server-key.pem")).unwrap();
    let admin = Admin::start(Some(tls), TIMES).await;
    assert!(!admin.probe().await.contains("200 OK"), "plain HTTP");
    let trust = crate::connect::http::Trust {
        tls: crate::config::Tls { ca_file: Some(fixture("ca.pem")), ..Default::default() },
        ..Default::default()
    };
    let url = crate::connect::http::url(&format!("https://{}", admin.address)).unwrap();
    let client = crate::connect::http::client(trust, &url, crate::connect::http::builder).unwrap();
    let answer = client.get().get(format!("{url}livez")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok");
    assert!(Tls::from_files(&fixture("ca.pem"), &fixture("nothing.pem")).is_err());
}
