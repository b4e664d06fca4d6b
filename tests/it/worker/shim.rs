//! A running `longhaul-worker`, and requests to it.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::support::{eventually, within};

pub struct Shim {
    child: Child,
    pub address: String,
    /// The output of both streams so far.
    log: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

impl Shim {
    /// Starts a shim with these flags for `sh -c SCRIPT`.
    pub async fn sh(flags: &[&str], script: &str) -> Self {
        Shim::start(flags, &["sh", "-c", script]).await
    }

    pub async fn start(flags: &[&str], command: &[&str]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_longhaul-worker"));
        Shim::start_program(program, flags, command).await
    }

    /// Starts a shim with `longhaul worker`.
    pub async fn start_command(flags: &[&str], command: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        program.arg("worker");
        Shim::start_program(program, flags, command).await
    }

    async fn start_program(mut program: Command, flags: &[&str], command: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = program
            .args(["--host", "127.0.0.1", "--port", "0", "--folder"])
            .arg(folder.path())
            .args(flags)
            .arg("--")
            .args(command)
            .env("HOSTNAME", "pod-7")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<String>>::default();
        collect(child.stdout.take().unwrap(), Arc::clone(&log));
        collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let mut shim = Shim { child, address: String::new(), log, folder };
        shim.logged("Listening address=").await;
        let log = shim.log();
        let address = log.split("Listening address=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        address.clone_into(&mut shim.address);
        shim
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        crate::support::http().post(self.url()).header("ce-id", "item 1").body(body)
    }

    /// Sends an item in the background.
    pub fn begin(&self, body: &'static str) -> tokio::task::JoinHandle<Answer> {
        let request = self.post(body);
        tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await })
    }

    pub async fn item(&self, body: &'static str) -> Answer {
        within("the end of an item", self.begin(body)).await.unwrap()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub async fn logged(&self, text: &str) {
        let log = Arc::clone(&self.log);
        eventually(text, move || {
            let found = log.lock().unwrap().contains(text);
            async move { found }
        })
        .await;
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn terminate(&self) {
        let sent =
            std::process::Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn wait(&mut self) -> ExitStatus {
        within("the end of the shim", self.child.wait()).await.unwrap()
    }

    /// Returns the files in the items' folder, without the two folders of the shim.
    pub fn left_files(&self) -> Vec<String> {
        let mut files = Vec::new();
        walk(self.folder.path(), &mut files);
        files
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn outcome(&self) -> &str {
        self.header("longhaul-outcome")
    }

    pub fn reason(&self) -> &str {
        self.header("longhaul-reason")
    }
}

/// A server that takes progress posts, and answers a question for the checkpoint.
pub struct Posts {
    pub url: String,
    posts: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Posts {
    pub async fn listen() -> Self {
        Posts::with_checkpoint("").await
    }

    /// Answers questions with this checkpoint; empty for none.
    pub async fn with_checkpoint(checkpoint: &str) -> Self {
        let checkpoint = checkpoint.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/progress/1", listener.local_addr().unwrap());
        let posts = Arc::<Mutex<Vec<serde_json::Value>>>::default();
        let seen = Arc::clone(&posts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, checkpoint) = (Arc::clone(&seen), checkpoint.clone());
                tokio::spawn(async move {
                    let post = take_post(stream, &checkpoint).await;
                    seen.lock().unwrap().extend(post);
                });
            }
        });
        Posts { url, posts }
    }

    pub fn all(&self) -> Vec<serde_json::Value> {
        self.posts.lock().unwrap().clone()
    }

    /// Returns the last value of a field.
    pub fn last(&self, field: &str) -> Option<serde_json::Value> {
        self.all().iter().rev().find_map(|post| post.get(field).cloned())
    }
}

async fn take_post(stream: TcpStream, checkpoint: &str) -> Option<serde_json::Value> {
    let mut stream = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    let mut is_question = false;
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        is_question |= line.starts_with("GET ");
        if line.trim().is_empty() {
            break;
        }
    }
    if is_question {
        let status = if checkpoint.is_empty() { "204 No Content" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{checkpoint}");
        stream.write_all(answer.as_bytes()).await.ok()?;
        return None;
    }
    let mut body = vec![0; length];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.ok()?;
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// Whether a process with this number runs. A zombie does not.
pub fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Returns the number of children of a process, including zombies.
pub fn children(pid: u32) -> usize {
    let parent = pid.to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
        })
        .count()
}

/// A file outside of the items' folder to which a script writes.
pub struct Note(tempfile::NamedTempFile);

impl Note {
    pub fn new() -> Self {
        Note(tempfile::NamedTempFile::new().unwrap())
    }

    pub fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.0.path()).unwrap().trim().to_owned()
    }

    pub async fn filled(&self) -> String {
        eventually("a word in the file", || {
            let found = !self.text().is_empty();
            async move { found }
        })
        .await;
        self.text()
    }
}

fn collect(from: impl tokio::io::AsyncRead + Send + Unpin + 'static, log: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut from = from;
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = tokio::io::AsyncReadExt::read(&mut from, &mut chunk).await {
            let mut log = log.lock().unwrap();
            // The log is bounded, because one test writes long output.
            if log.len() < 1024 * 1024 {
                log.push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        }
    });
}

fn walk(folder: &std::path::Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path.display().to_string());
        }
    }
}
