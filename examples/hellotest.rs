//! The sample worker as a program. It reads `TARGET`, `WAITSECOND` (such as `30s`) and `PORT` from
//! the environment.
//!
//! After SIGTERM it finishes the running requests, as every worker behind a queue should, because
//! Knative also stops busy replicas.

use anyhow::Context;
use longhaul::knative::hellotest::{Settings, router};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let port = settings.port;
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .with_context(|| format!("cannot listen on port {port}"))?;
    tracing::info!(port, target = settings.target, "hellotest answers");
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("hellotest finishes the requests that run, and stops");
    };
    axum::serve(listener, router(settings)).with_graceful_shutdown(stop).await?;
    Ok(())
}
