//! A worker inside this process.

use std::future::Future;
use std::pin::Pin;

use axum::extract::Request;
use axum::response::Response;

/// Handles one request. If the future is dropped, the client is gone or the time is over, and the
/// work must end.
pub trait Worker: Send + Sync + 'static {
    fn call(&self, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send + '_>>;
}

impl<F, Answer> Worker for F
where
    F: Fn(Request) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Response> + Send + 'static,
{
    fn call(&self, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(self(request))
    }
}
