//! A `longhaul serve` under test, and a client that sees every byte.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::super::support::within;

pub struct Serve {
    child: Child,
    pub address: String,
    pub admin: String,
    output: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

/// A service, as its manifest describes it.
#[derive(Clone, Default)]
pub struct Manifest {
    /// Lines of the revision's spec, such as `timeoutSeconds: 5`.
    pub spec: Vec<String>,
    /// Annotations without their group.
    pub annotations: Vec<(&'static str, String)>,
    /// Keys of config-autoscaler.
    pub cluster: Vec<(&'static str, &'static str)>,
    pub env: Vec<(&'static str, &'static str)>,
    /// The readinessProbe, in one line.
    pub probe: Option<String>,
}

impl Manifest {
    pub fn one_at_a_time() -> Self {
        Manifest { spec: vec!["containerConcurrency: 1".into()], ..Manifest::default() }
    }

    pub fn spec(mut self, line: &str) -> Self {
        self.spec.push(line.into());
        self
    }

    pub fn annotation(mut self, name: &'static str, value: impl ToString) -> Self {
        self.annotations.push((name, value.to_string()));
        self
    }

    pub fn cluster(mut self, key: &'static str, value: &'static str) -> Self {
        self.cluster.push((key, value));
        self
    }

    pub fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    fn write(&self, folder: &Path) {
        let annotations: String = (self.annotations.iter())
            .map(|(name, value)| format!("        autoscaling.knative.dev/{name}: \"{value}\"\n"))
            .collect();
        let spec: String = self.spec.iter().map(|line| format!("      {line}\n")).collect();
        let env: String = (self.env.iter())
            .map(|(name, value)| format!("            - {{ name: {name}, value: \"{value}\" }}\n"))
            .collect();
        let probe = self.probe.as_ref().map(|probe| format!("          readinessProbe: {probe}\n"));
        let probe = probe.unwrap_or_default();
        let service = format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{ name: hello }}\nspec:\n  template:\n    metadata:\n      annotations:\n        a: b\n{annotations}    spec:\n{spec}      containers:\n        - image: hello\n          env:\n            - {{ name: A, value: b }}\n{env}{probe}"
        );
        let keys: String =
            self.cluster.iter().map(|(key, value)| format!("  {key}: \"{value}\"\n")).collect();
        let cluster =
            format!("kind: ConfigMap\nmetadata: {{ name: config-autoscaler }}\ndata:\n  _example: a\n{keys}");
        std::fs::write(folder.join("service.yaml"), service).unwrap();
        std::fs::write(folder.join("cluster.yaml"), cluster).unwrap();
    }
}

impl Serve {
    /// Starts it and waits until it listens. With an empty `worker` the sample worker runs inside
    /// it.
    pub async fn start(manifest: &Manifest, options: &[&str], worker: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        manifest.write(folder.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "-f"]);
        command
            .arg(folder.path().join("service.yaml"))
            .arg("--autoscaler")
            .arg(folder.path().join("cluster.yaml"));
        command.args(options);
        if !worker.is_empty() {
            command.arg("--").args(worker);
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut early = Vec::new();
        let first = within("the line of serve that names its addresses", async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap();
                // A worker may have printed a line before.
                if line.starts_with("hello: ") {
                    return line;
                }
                early.push(line);
            }
        })
        .await;
        let between = |start: &str, end: char| {
            let (_, rest) = first.split_once(start).unwrap_or_else(|| panic!("{first}"));
            rest.split_once(end).unwrap().0.to_owned()
        };
        let (address, admin) = (between("hello: http://", '/'), between("(replicas: http://", '/'));
        let output = Arc::new(Mutex::new(early));
        let seen = Arc::clone(&output);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                seen.lock().unwrap().push(line);
            }
        });
        Serve { child, address, admin, output, _folder: folder }
    }

    /// Returns the exit code and the error of a `serve` that refuses to start.
    pub async fn refused(manifest: &Manifest) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().unwrap();
        manifest.write(folder.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "-f", "service.yaml"]);
        command.args(["--autoscaler", "cluster.yaml"]).current_dir(folder.path()).kill_on_drop(true);
        let output = within("the refusal", command.output()).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Returns the output of the workers, with the names of their replicas.
    pub fn output(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    pub async fn replicas(&self) -> Value {
        let answer = send(&self.admin, "GET /replicas", "", "").await;
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Waits until the replicas satisfy a condition.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        within(what, async {
            loop {
                let now = self.replicas().await;
                if is_so(&now) {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Sends a request over a connection of its own. Returns the whole answer.
    pub fn post(&self, path: &str) -> JoinHandle<String> {
        let (address, line) = (self.address.clone(), format!("POST {path}"));
        tokio::spawn(async move { send(&address, &line, "", "item").await })
    }

    /// Works like [`post`](Self::post), and waits for status and body.
    pub async fn ask(&self, path: &str, headers: &str) -> (u16, String) {
        split(&send(&self.address, &format!("POST {path}"), headers, "item").await)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub async fn wait(&mut self) -> ExitStatus {
        within("the end of serve", self.child.wait()).await.unwrap()
    }

    /// Sends SIGTERM, and expects a clean end.
    pub async fn stop(mut self) {
        self.signal("-TERM");
        let status = self.wait().await;
        assert!(status.success(), "{status}");
    }
}

/// Returns every byte of the answer; empty if the connection closed without one.
pub async fn send(address: &str, line: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let _ = within("the answer", stream.read_to_string(&mut text)).await;
    text
}

pub fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
