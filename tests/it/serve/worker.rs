//! A worker that obeys the path of the request. It runs in another process of this test binary.
//!
//! It uses bare sockets, because no server library allows most of these faults.

#![allow(clippy::exit, clippy::zombie_processes, reason = "it is killed, and dies when it is told to")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Returns the command with which `serve` starts it.
pub fn words() -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    [&program, "serve::worker::runs_where_a_port_is_given", "--exact", "--ignored", "--nocapture"]
        .map(str::to_owned)
        .into()
}

#[test]
#[ignore = "it is a worker, not a test: it runs until it is killed"]
fn runs_where_a_port_is_given() {
    let Ok(port) = std::env::var("PORT") else { return };
    if let Ok(wait) = std::env::var("START_MS") {
        std::thread::sleep(Duration::from_millis(wait.parse().unwrap()));
    }
    let mut pids = vec![std::process::id()];
    if std::env::var("FORKS").is_ok() {
        // The children of a worker must end with it.
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        pids.push(child.id());
    }
    println!("pids {pids:?}");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    while let Ok((stream, _)) = listener.accept() {
        let deaf = is_deaf(&stream);
        std::thread::spawn(move || answer(stream));
        if deaf {
            break;
        }
    }
    drop(listener);
    std::thread::sleep(Duration::from_secs(1000));
}

/// Whether the worker stops listening after this request.
fn is_deaf(stream: &TcpStream) -> bool {
    let mut start = [0; 10];
    stream.peek(&mut start).is_ok() && start.starts_with(b"POST /deaf")
}

fn answer(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or(0) > 0 && !head.ends_with("\r\n\r\n") {}
    let Some(path) = head.split(' ').nth(1) else { return };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ").or(line.strip_prefix("Content-Length: ")));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let (what, value) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    match what {
        "crash" => std::process::exit(3),
        "close" => {}
        "early" => {
            let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n");
            if value != "close" {
                whole(&mut stream, value, &body);
            }
        }
        "status" => whole(&mut stream, value, &body),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(value.parse().unwrap()));
            whole(&mut stream, "200 OK", b"slept");
        }
        "env" => whole(&mut stream, "200 OK", std::env::var(value).unwrap_or_default().as_bytes()),
        // Three parts, with a pause before the second and the third; then the end, or death.
        "stream" | "half" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(value.parse().unwrap()));
                if what == "half" {
                    std::process::exit(3);
                }
                let _ = stream.write_all(b"1\r\na\r\n");
            }
            let _ = stream.write_all(b"0\r\n\r\n");
        }
        _ => whole(&mut stream, "200 OK", b"ok"),
    }
}

fn whole(stream: &mut TcpStream, status: &str, body: &[u8]) {
    let status = status.replace("%20", " ");
    let head =
        format!("HTTP/1.1 {status}\r\nLonghaul-Outcome: done\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}
