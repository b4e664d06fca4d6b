//! Posts progress: batched, bounded, best effort. The command never waits for a post.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::pod_log::PodLog;

/// The time between two posts.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const POST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to an item waits for its last post.
const LAST_POST: Duration = Duration::from_secs(1);
/// How long an item waits for its checkpoint. It starts without one after that.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const LOG_BYTES: usize = 64 * 1024;
const LINE_BYTES: usize = 1024;
/// The longest checkpoint that the bridge keeps.
pub const CHECKPOINT_BYTES: usize = 4 * 1024;

/// The posts of one item. The task ends with the last clone, or with [`Progress::finish`].
#[derive(Clone, Debug)]
pub struct Progress {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    post: Post,
    log_bytes: usize,
    left_out: usize,
    is_last: bool,
}

/// The body of a post. It leaves out the parts that did not change.
#[derive(Debug, Default, Serialize)]
struct Post {
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    log: VecDeque<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
}

/// The address for posts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    address: String,
    host: String,
    path: String,
}

impl Target {
    /// Reads the address of a progress URL.
    ///
    /// # Errors
    /// The reason why nothing can be posted to this URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err("only http URLs are supported".to_owned());
        }
        let authority = uri.authority().ok_or("the URL has no host")?;
        let host = authority.as_str().rsplit('@').next().unwrap_or_default().to_owned();
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { address, host, path })
    }
}

impl Progress {
    /// Reports the pod's name at once, and starts the task that posts.
    pub fn start(target: Target, pod: Option<String>, log: PodLog) -> (Self, JoinHandle<()>) {
        let shared = Arc::<Shared>::default();
        let progress = Progress { shared: Arc::clone(&shared) };
        progress.change(|waiting| waiting.post.pod = pod);
        let task = tokio::spawn(async move { post_all(&shared, &target, &log).await });
        (progress, task)
    }

    pub fn line(&self, line: &[u8]) {
        let cut = &line[..line.len().min(LINE_BYTES)];
        self.change(|waiting| waiting.add(String::from_utf8_lossy(cut).into_owned()));
    }

    pub fn percent(&self, percent: f64, note: &str) {
        self.change(|waiting| {
            waiting.post.percent = Some(percent);
            waiting.post.note = Some(note.chars().take(LINE_BYTES).collect());
        });
    }

    pub fn checkpoint(&self, text: &str) {
        self.change(|waiting| waiting.post.checkpoint = Some(text.to_owned()));
    }

    /// Posts the rest, within a short time.
    pub async fn finish(self, task: JoinHandle<()>) {
        self.change(|waiting| waiting.is_last = true);
        let stop = task.abort_handle();
        if tokio::time::timeout(LAST_POST, task).await.is_err() {
            stop.abort();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds a line, and drops the oldest ones beyond the bound.
    fn add(&mut self, line: String) {
        self.log_bytes += line.len() + 1;
        self.post.log.push_back(line);
        while self.log_bytes > LOG_BYTES {
            let Some(oldest) = self.post.log.pop_front() else { break };
            self.log_bytes -= oldest.len() + 1;
            self.left_out += 1;
        }
    }

    fn take(&mut self) -> Post {
        let mut post = std::mem::take(&mut self.post);
        self.log_bytes = 0;
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            post.log.push_front(format!("… {left_out} lines are left out here"));
        }
        post
    }

    /// Puts the parts of a failed post back, unless newer ones exist. Its log lines are lost.
    fn give_back(&mut self, post: Post) {
        if self.post.percent.is_none() {
            self.post.percent = post.percent;
            self.post.note = post.note;
        }
        self.post.checkpoint = self.post.checkpoint.take().or(post.checkpoint);
        self.post.pod = self.post.pod.take().or(post.pod);
    }
}

impl Post {
    fn is_empty(&self) -> bool {
        self.percent.is_none() && self.log.is_empty() && self.checkpoint.is_none() && self.pod.is_none()
    }
}

async fn post_all(shared: &Shared, target: &Target, log: &PodLog) {
    let mut pause = PAUSE;
    loop {
        let (post, is_last) = {
            let mut waiting = shared.lock();
            (waiting.take(), waiting.is_last)
        };
        if post.is_empty() {
            if is_last {
                return;
            }
            shared.changed.notified().await;
            continue;
        }
        let sent = tokio::time::timeout(POST_TIMEOUT, send(target, &post)).await;
        match sent.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            // The bridge knows that the attempt has ended, and takes no more posts.
            Ok(StatusCode::NOT_FOUND) => return,
            Ok(status) if status.is_success() => pause = PAUSE,
            Ok(status) => {
                log.note(&format!("Progress post was refused status={}", status.as_u16())).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => {
                shared.lock().give_back(post);
                log.note(&format!("Progress post failed error={error:?}")).await;
                pause = (pause * 2).min(PAUSE_MAX);
                if is_last {
                    return;
                }
            }
        }
        // The last post does not wait.
        let wait = async {
            while !shared.lock().is_last {
                shared.changed.notified().await;
            }
        };
        let _ = tokio::time::timeout(pause, wait).await;
    }
}

async fn send(target: &Target, post: &Post) -> Result<StatusCode, String> {
    let body = serde_json::to_vec(post).map_err(|error| error.to_string())?;
    let request = Request::post(&target.path).header(header::CONTENT_TYPE, "application/json");
    exchange(target, request, body).await.map(|(status, _)| status)
}

/// Asks for the checkpoint of the previous attempt. The event leaves out a long one.
///
/// # Errors
/// The reason why the answer is not known.
pub async fn fetch_checkpoint(target: &Target) -> Result<Option<String>, String> {
    let exchange = exchange(target, Request::get(&target.path), Vec::new());
    match tokio::time::timeout(FETCH_TIMEOUT, exchange).await {
        Ok(Ok((StatusCode::OK, text))) => Ok(String::from_utf8(text).ok()),
        Ok(Ok(_)) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Sends one request on a connection of its own. Returns the start of the answer's body.
async fn exchange(
    target: &Target,
    request: http::request::Builder,
    body: Vec<u8>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(&target.address).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let request = request
        .header(header::HOST, &target.host)
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| text(&error))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        // The short body is read, so that the server's close is not a reset.
        let (mut body, mut start) = (response.into_body(), Vec::new());
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.into_data().unwrap_or_default();
            start.extend_from_slice(&bytes[..bytes.len().min(CHECKPOINT_BYTES - start.len())]);
        }
        Ok::<_, hyper::Error>((status, start))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer.map_err(|error| text(&error)),
        _ = &mut connection => answer.await.map_err(|error| text(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_lines_have_a_bound() {
        let mut waiting = Waiting::default();
        for number in 0..10_000 {
            waiting.add(format!("line {number} {}", "x".repeat(90)));
        }
        assert!(waiting.log_bytes <= LOG_BYTES);
        let post = waiting.take();
        assert!(post.log.len() < 1000);
        assert!(post.log[0].starts_with("… 9"), "{}", post.log[0]);
        assert!(post.log.back().unwrap().starts_with("line 9999 "));
        assert!(waiting.take().is_empty());
    }

    #[test]
    fn a_target_is_an_http_url() {
        let target = Target::parse("http://bridge:9090/api/v1/progress/x?y=1").unwrap();
        let expected = Target {
            address: "bridge:9090".to_owned(),
            host: "bridge:9090".to_owned(),
            path: "/api/v1/progress/x?y=1".to_owned(),
        };
        assert_eq!(target, expected);
        assert_eq!(Target::parse("http://[::1]/").unwrap().address, "[::1]:80");
        assert!(Target::parse("https://bridge/").is_err());
        assert!(Target::parse("/path").is_err());
    }
}
