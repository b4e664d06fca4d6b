//! The demo's worker: hellotest, which reports the start and the end of each item.

use std::io::{self, Write};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use tokio::net::TcpListener;

use crate::cli::exit;
use crate::cli::run::Signals;
use crate::knative::hellotest;

/// The hidden command of [`work`].
pub const WORKER_COMMAND: &str = "demo-worker";
/// The prefix of an item's id.
pub const BEGIN: &str = "begin ";
pub const END: &str = "end ";

/// Answers on `PORT` until SIGTERM. Then takes no new request, and ends when the running ones are
/// answered.
///
/// # Errors
/// If `err` cannot be written, or the port cannot be listened on.
pub fn work(err: &mut dyn Write) -> io::Result<u8> {
    let settings = match hellotest::Settings::read(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => {
            exit::say(err, &error, "set PORT to a number")?;
            return Ok(exit::CONFIG);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let listener = TcpListener::bind(("127.0.0.1", settings.port)).await?;
        let stopped = async move {
            signals.next().await;
        };
        axum::serve(listener, router(settings)).with_graceful_shutdown(stopped).await?;
        Ok(exit::OK)
    })
}

fn router(settings: hellotest::Settings) -> Router {
    let settings = Arc::new(settings);
    Router::new().fallback(move |request: Request| {
        let settings = Arc::clone(&settings);
        let id =
            request.headers().get("ce-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        async move {
            say(BEGIN, &id);
            let answer = settings.answer(request).await;
            say(END, &id);
            answer
        }
    })
}

/// Prints a line. Its reader may have left, and the work must continue.
fn say(what: &str, id: &str) {
    let _ = writeln!(io::stdout().lock(), "{what}{id}");
}
