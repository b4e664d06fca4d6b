//! Takes connections. It does not use axum's server, because a fault may close a client's
//! connection without an answer.

use std::sync::Arc;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::engine::Engine;
use super::request;

/// Answers until `closing`. Then takes no new connection and ends each after its running request.
/// `cut` ends all at once. Returns when the last connection has ended.
pub async fn run(
    listener: TcpListener,
    engine: Arc<Engine>,
    closing: CancellationToken,
    cut: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let served = serve(stream, Arc::clone(&engine), closing.clone());
                let cut = cut.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = served => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "A connection could not be accepted");
                // Usually too many files are open, and only the end of another connection helps.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve(stream: TcpStream, engine: Arc<Engine>, closing: CancellationToken) {
    // Without this option each answer is only milliseconds slower.
    let _ = stream.set_nodelay(true);
    let answer = move |request: http::Request<Incoming>| {
        let engine = Arc::clone(&engine);
        async move { request::hold(engine, request.map(Body::new)).await }
    };
    let service = service_fn(answer);
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(super::MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended: Result<(), hyper::Error> = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A connection ended early");
    }
}
