//! A worker inside of this process.

use std::future::Future;
use std::pin::Pin;

use axum::extract::Request;
use axum::response::Response;

/// Does one request. Dropping the future means that the client is gone or the time is over: the
/// work is to end there.
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
