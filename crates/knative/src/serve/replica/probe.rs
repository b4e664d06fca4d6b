//! Asks a worker whether it is ready, as queue-proxy and kubelet do.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::{Group, Host};
use crate::manifest::{Check, Probe};
use crate::serve::forward;

/// The time between two questions while a worker starts, if the manifest names no period. It is the
/// queue-proxy's own.
const EAGER: Duration = Duration::from_millis(50);
/// The activator's period. The activator uses a replica as soon as the probe passes, and ignores
/// the kubelet's period.
const ACTIVATOR: Duration = Duration::from_millis(200);

/// Asks one worker.
pub struct Prober<'a> {
    pub probe: &'a Probe,
    pub port: u16,
    pub env: &'a [(String, String)],
    /// The program `longhaul`, which starts the probe's command.
    pub longhaul: &'a Path,
    pub host: &'a Arc<dyn Host>,
}

impl Prober<'_> {
    /// Returns when the worker has passed as often in a row as the manifest requires.
    pub async fn until_ready(&self) {
        self.host.clock().sleep(self.probe.initial_delay).await;
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
            self.host.clock().sleep(pause).await;
        }
    }

    /// Returns when a ready worker has failed as often in a row as the manifest allows. Without a
    /// period nobody asks again.
    pub async fn until_failed(&self) {
        let Some(period) = self.probe.period else { return std::future::pending().await };
        let mut failed = 0;
        while failed < self.probe.failure_threshold {
            self.host.clock().sleep(period).await;
            failed = if self.passes().await { 0 } else { failed + 1 };
        }
    }

    async fn passes(&self) -> bool {
        // This timeout is real time: a worker does not start faster when the clock runs faster.
        tokio::time::timeout(self.probe.timeout, self.ask()).await.unwrap_or(false)
    }

    async fn accepts(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
    }

    async fn ask(&self) -> bool {
        match &self.probe.check {
            Check::Tcp => self.accepts().await,
            Check::Http { path, headers } => {
                let Some(request) = http_request(path, headers) else { return false };
                let answer = forward::send(self.port, self.port, request).await;
                answer.is_ok_and(|(response, _)| (200..400).contains(&response.status().as_u16()))
            }
            // The queue-proxy cannot run the command, so it asks whether the port is open. A
            // replica is ready when both checks pass.
            Check::Exec { command } => self.accepts().await && self.run(command).await,
        }
    }

    /// Runs the program and returns whether it succeeds. Dropping the future ends the program.
    async fn run(&self, words: &[String]) -> bool {
        let Ok(child) = self.start(words) else { return false };
        let given_up = CancellationToken::new();
        // The program has a task of its own, because even the end of an abandoned program must be
        // awaited.
        let ended = tokio::spawn(until_ended(Arc::clone(self.host), child, given_up.clone()));
        let _given_up = given_up.drop_guard();
        ended.await.unwrap_or(false)
    }

    fn start(&self, words: &[String]) -> io::Result<Child> {
        self.host
            .runner()
            .command(self.longhaul, words)?
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }
}

/// Returns whether the program succeeded before it was abandoned. Nothing that it started is left
/// then.
async fn until_ended(host: Arc<dyn Host>, mut child: Child, given_up: CancellationToken) -> bool {
    let group = Group::of(&child);
    let passed = tokio::select! {
        status = child.wait() => status.is_ok_and(|status| status.success()),
        () = given_up.cancelled() => false,
    };
    group.kill();
    // After this the program has sent its last line to the guard.
    let _ = child.wait().await;
    group.end(host.runner());
    passed
}

/// Builds the request as a kubelet does: the manifest's `Host` and `User-Agent` replace its own,
/// and of several hosts the first counts.
fn http_request(path: &str, given: &[(String, String)]) -> Option<Request> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    let host = headers.get(HOST).filter(|host| !host.is_empty()).cloned();
    headers.insert(HOST, host.unwrap_or(HeaderValue::from_static("127.0.0.1")));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static("kube-probe/1.36"));
    let mut request = Request::builder().uri(path).body(Body::empty()).ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_the_manifest_stands_in_place_of_ours() {
        let hosts = |given: &[(&str, &str)]| -> Vec<String> {
            let given: Vec<_> = given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let request = http_request("/", &given).unwrap();
            request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(hosts(&[("A", "b")]), ["127.0.0.1"]);
        assert_eq!(hosts(&[("Host", "a.example"), ("host", "b.example")]), ["a.example"]);
        assert!(http_request("/", &[("no name".into(), String::new())]).is_none());
    }
}
