//! Asks a worker whether it is ready, as queue-proxy and kubelet do.

use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use tokio::net::TcpStream;

use crate::knative::manifest::{Check, Probe};
use crate::knative::serve::clock::Clock;
use crate::knative::serve::forward;

/// Between two questions while a worker starts: the queue-proxy's own, where the manifest names no period.
const EAGER: Duration = Duration::from_millis(50);
/// The activator's, which takes a replica as soon as it passes, whatever the kubelet's period is.
const ACTIVATOR: Duration = Duration::from_millis(200);

/// Asks one worker.
pub struct Prober<'a> {
    pub probe: &'a Probe,
    pub port: u16,
    pub env: &'a [(String, String)],
    pub clock: Clock,
}

impl Prober<'_> {
    /// Gives back when the worker has passed as often in a row as it must.
    pub async fn until_ready(&self) {
        self.clock.sleep(self.probe.initial_delay).await;
        let pause = match (self.probe.period, &self.probe.check) {
            (None, _) => EAGER,
            (Some(period), Check::Exec { .. }) => period,
            (Some(period), _) => period.min(ACTIVATOR),
        };
        let mut passed = 0;
        loop {
            passed = if self.passes().await { passed + 1 } else { 0 };
            if passed >= self.probe.success_threshold {
                return;
            }
            self.clock.sleep(pause).await;
        }
    }

    /// Gives back when a worker that was ready has failed as often in a row as it may. Without a period nobody asks again.
    pub async fn until_failed(&self) {
        let Some(period) = self.probe.period else { return std::future::pending().await };
        let mut failed = 0;
        while failed < self.probe.failure_threshold {
            self.clock.sleep(period).await;
            failed = if self.passes().await { 0 } else { failed + 1 };
        }
    }

    async fn passes(&self) -> bool {
        // Of the time outside: a worker starts no faster because the clock does.
        tokio::time::timeout(self.probe.timeout, self.ask()).await.unwrap_or(false)
    }

    async fn accepts(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
    }

    async fn ask(&self) -> bool {
        match &self.probe.check {
            Check::Tcp => self.accepts().await,
            Check::Http { path, headers } => {
                let mut request = Request::builder().uri(path).header("host", "127.0.0.1");
                request = request.header("user-agent", "kube-probe/1.36");
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                let Ok(request) = request.body(Body::empty()) else { return false };
                let answer = forward::send(self.port, self.port, request).await;
                answer.is_ok_and(|(response, _)| (200..400).contains(&response.status().as_u16()))
            }
            Check::Exec { command } => {
                let Some((program, arguments)) = command.split_first() else { return false };
                // The queue-proxy can't run it, and asks whether the port is open; a replica is ready when both are content.
                if !self.accepts().await {
                    return false;
                }
                let status = tokio::process::Command::new(program)
                    .args(arguments)
                    .envs(self.env.iter().map(|(name, value)| (name, value)))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .status();
                status.await.is_ok_and(|status| status.success())
            }
        }
    }
}
