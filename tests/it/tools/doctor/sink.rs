use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, LOCATION};
use axum::response::IntoResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{check, clean, only, pipeline};
use crate::run::backlog::{Backlog, Kafka};

/// A service that writes these bytes for each request. Then it keeps the connection for ever, or
/// closes it.
async fn raw(answer: &'static [u8], keeps: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(answer).await;
                    if !keeps {
                        return;
                    }
                }
            });
        }
    });
    url
}

async fn answering(status: StatusCode) -> String {
    let answer = async move || (status, [(CONNECTION, "close"), (LOCATION, "/")]).into_response();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_of_the_service_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::create().await;
    let config = |url: &str| pipeline(&kafka.source(), &format!("url: '{url}'"), "    on_failed: hold\n");
    let ok: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    // A worker need not know HEAD.
    let unknown = answering(StatusCode::METHOD_NOT_ALLOWED).await;
    // The worker's own 404 comes through the ingress.
    let through: &[u8] = b"HTTP/1.1 404 Not Found\r\nserver: envoy\r\nx-envoy-upstream-service-time: 7\r\n\
                           connection: close\r\ncontent-length: 0\r\n\r\n";
    let no_route: &[u8] = b"HTTP/1.1 404 Not Found\r\nserver: envoy\r\ncontent-length: 0\r\n\r\n";
    for good in [raw(ok, true).await, unknown, raw(through, false).await] {
        clean(&[], check(folder.path(), &config(&good), &[]).await);
    }
    let secret = raw(ok, true).await.replace("http:", "https:");
    for (kind, url) in [
        ("sink-name", "http://no-such-name.invalid".to_owned()),
        ("sink-refused", "http://127.0.0.1:9".to_owned()),
        ("sink-credentials", answering(StatusCode::UNAUTHORIZED).await),
        ("sink-redirect", answering(StatusCode::FOUND).await),
        ("sink-fails", answering(StatusCode::SERVICE_UNAVAILABLE).await),
        ("sink-route", raw(no_route, true).await),
        ("sink-silent", raw(b"hello\r\n\r\n", true).await),
        ("sink-tls", secret),
        ("keep-alive", raw(ok, false).await),
    ] {
        only(kind, check(folder.path(), &config(&url), &[]).await);
    }
    kafka.remove().await;
}
