//! Puts strangers and hostile texts around the admin port and the log of the program itself.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::Duration;

use longhaul::config::QueueKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::run::backlog::{Backlog, Rabbitmq};
use crate::run::config;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{self as amqp, Queue};
use crate::support::worker::Worker;
use crate::support::{eventually, within};

const TOKEN: &str = "a token of the tests";

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Returns the answer's head and body.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = request.replace("HOST", &address.to_string());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = within("an answer of the admin port", stream.read_to_end(&mut bytes)).await;
    String::from_utf8(bytes).unwrap()
}

async fn get(address: SocketAddr, path: &str, accept: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: HOST\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    ask(address, &head).await
}

async fn is_listening(address: SocketAddr) {
    eventually("the admin port", async || TcpStream::connect(address).await.is_ok()).await;
}

fn longhaul(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longhaul")).args(arguments).output().unwrap()
}

/// Each stuck state names its reason, in text and in JSON.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_queue_makes_the_bridge_unready_with_the_reason() {
    let url = &amqp::brokers()[0];
    let (worker, admin) = (Worker::start(Duration::ZERO).await, free_address());
    let source = format!("{{ rabbitmq: {{ url: \"{url}\", queue: \"no such queue {}\" }} }}", admin.port());
    let bridge = Longhaul::run(&config(&source, &worker, 1, &format!("admin: {{ listen: \"{admin}\" }}\n")));
    is_listening(admin).await;
    let answer = get(admin, "/readyz", "application/json").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (json["ready"].as_bool(), json["reasons"][0]["pipeline"].as_str()),
        (Some(false), Some("test"))
    );
    assert!(json["reasons"][0]["since"].is_string() && json["reasons"][0]["help"].is_string(), "{json}");
    assert!(
        get(admin, "/livez", "*/*").await.starts_with("HTTP/1.1 200"),
        "an outage is not a reason to restart"
    );
    bridge.stop().await;
}

/// Before the bound, 1,010 idle connections of strangers stopped all deliveries and the probes.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_stop_neither_deliveries_nor_probes() {
    let backlog = Rabbitmq::of(Queue::create(&amqp::brokers()[0], QueueKind::Quorum).await);
    let (worker, admin) = (Worker::start(Duration::from_millis(10)).await, free_address());
    let more = format!("admin: {{ listen: \"{admin}\" }}\n");
    let bridge = Longhaul::run_limited(&config(&backlog.source(), &worker, 20, &more), 1024);
    is_listening(admin).await;
    let mut strangers = std::collections::VecDeque::new();
    for number in 0..10_000_u32 {
        strangers.push_back(within("a connection", TcpStream::connect(admin)).await.unwrap());
        if strangers.len() > 500 {
            strangers.pop_front();
        }
        if number % 2000 == 0 {
            let answer = get(admin, "/livez", "*/*").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "after {number}: {answer}");
            backlog.fill((0..20).map(|item| format!("{number} {item}").into_bytes())).await;
        }
    }
    eventually("all items to be done", async || worker.done() == 100).await;
    assert_eq!(worker.log().second_runs(), 0);
    bridge.stop().await;
    backlog.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_needs_too_many_files_is_refused() {
    let worker = Worker::start(Duration::ZERO).await;
    let source = "{ rabbitmq: { url: amqp://127.0.0.1:1, queue: q } }";
    let mut bridge = Longhaul::run_limited(&config(source, &worker, 2000, ""), 1024);
    assert_eq!(bridge.wait().await.code(), Some(69));
    let log = bridge.log();
    assert!(log.contains("max_in_flight of all pipelines is 2000, which needs 2192 open files"), "{log}");
    assert!(log.contains("help: lower max_in_flight"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_says_that_nothing_changed_and_refuses_web_pages_and_strangers() {
    let worker = Worker::start(Duration::ZERO).await;
    let source = "{ rabbitmq: { url: amqp://127.0.0.1:1, queue: q } }";
    for token in [None, Some(TOKEN)] {
        let admin = free_address();
        let key = token.map_or(String::new(), |token| format!(", token: \"{token}\""));
        let more = format!("admin: {{ listen: \"{admin}\"{key} }}\n");
        let token_argument =
            token.map_or(Vec::new(), |token| vec!["--token".to_owned(), token.replace(' ', "-")]);
        let more = more.replace(TOKEN, &TOKEN.replace(' ', "-"));
        let bridge = Longhaul::run(&config(source, &worker, 1, &more));
        is_listening(admin).await;
        let post = |headers: &str| {
            format!(
                "POST /api/v1/pipelines/test/resume HTTP/1.1\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n"
            )
        };
        for foreign in ["host: evil.example\r\n", "host: HOST\r\norigin: http://evil.example\r\n"] {
            let answer = ask(admin, &post(foreign)).await;
            assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
        }
        let url = format!("http://{admin}");
        let mut arguments = vec!["resume", "test", "--url", &url];
        arguments.extend(token_argument.iter().map(String::as_str));
        let output = longhaul(&arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains("nothing changed"),
            "{text}{output:?}",
            output = output.status
        );
        let output = longhaul(&["resume", "other", "--url", &url, "--token", "wrong"]);
        assert_eq!(output.status.code(), Some(69));
        bridge.stop().await;
    }
}

#[test]
fn a_log_level_that_does_not_exist_is_refused_with_the_list() {
    let output = longhaul(&["--log", "verbose", "run", "-c", "/no/such"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("off, error, warn, info, debug, trace"), "{text}");
}

/// `check` builds each part that `run` builds.
#[test]
fn check_refuses_a_certificate_that_run_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("longhaul.yaml");
    let pem = folder.path().join("empty.pem");
    std::fs::write(&pem, "").unwrap();
    let text = format!(
        "pipelines:\n- {{ name: a, source: {{ rabbitmq: {{ url: amqp://mq, queue: q }} }}, sink: {{ url: https://s, tls: {{ ca_file: {pem} }} }}, max_in_flight: 1, on_failed: hold }}\nadmin: {{ listen: '127.0.0.1:0', tls: {{ cert_file: {pem}, key_file: {pem} }} }}\n",
        pem = pem.display()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let output = longhaul(&["check", "-c", file]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(
        text.contains("pipeline a: ") && text.contains("admin.tls: ") && text.contains(": 2 mistakes"),
        "{text}"
    );
    assert_eq!(longhaul(&["run", "-c", file]).status.code(), Some(78));
}
