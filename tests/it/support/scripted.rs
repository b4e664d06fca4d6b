//! A service whose answers the bodies of the items choose. The test decides when the work ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The answer to a body that begins with `bad`. It looks like HTML on purpose.
pub const BAD: &str = "<b>bad header</b>";

pub struct Scripted {
    pub url: String,
    gate: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

/// Counts an open request, however it ends.
struct Open(Arc<AtomicUsize>);

impl Scripted {
    /// A body that begins with `slow` waits for [`Scripted::release_all`], `bad` gets 400, and all
    /// others get 200 at once.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (gate, open) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let shared = (gate.clone(), open.clone());
        let router = Router::new().fallback(move |request: Request| work(shared.clone(), request));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Scripted { url, gate, open, server }
    }

    /// Requests that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Lets the slow items end.
    pub fn release_all(&self) {
        self.gate.close();
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn work((gate, open): (Arc<Semaphore>, Arc<AtomicUsize>), request: Request) -> Response {
    open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(open);
    let body: Bytes = to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    if body.starts_with(b"bad") {
        return (StatusCode::BAD_REQUEST, BAD).into_response();
    }
    if body.starts_with(b"slow") {
        // A closed gate is the permission to end.
        let _ = gate.acquire().await;
    }
    StatusCode::OK.into_response()
}
