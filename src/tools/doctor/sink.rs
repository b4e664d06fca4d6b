//! The service: whether its name resolves, whether it answers, and whether it keeps connections.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Findings;
use crate::config::{Env, Pipeline};
use crate::connect::http;

/// The bound of a connection and of an answer. A service that was scaled to zero starts a pod.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Many servers close a connection that was unused for 5 s.
const PAUSE: Duration = Duration::from_secs(6);
/// The longest head of an answer that is read.
const HEAD_MAX: usize = 64 * 1024;

pub(super) async fn examine(pipeline: &Pipeline, env: Env<'_>, findings: &mut Findings<'_>) {
    let Some(url) = pipeline.sink.url.clone().or_else(|| env("K_SINK")) else {
        return findings.error(
            "sink",
            "there is neither sink.url nor the variable K_SINK",
            "no request can be sent",
            "write sink.url, or make a SinkBinding for the bridge's Deployment",
        );
    };
    let Some(url) = reaches("sink", &url, findings).await else { return };
    let mut headers = Vec::new();
    for (name, value) in &pipeline.sink.headers {
        match value.resolve() {
            Ok(value) => headers.push((name.clone(), value)),
            Err(error) => findings.error(
                "sink-header",
                format!("sink.headers.{name}: {error}"),
                "no request can be sent",
                error.help(),
            ),
        }
    }
    match url.scheme() {
        "http" => plain(pipeline, &url, &headers, findings).await,
        _ => encrypted(pipeline, &url, &headers, findings).await,
    }
}

/// Whether the address resolves and accepts a connection.
pub(super) async fn reaches(key: &str, text: &str, findings: &mut Findings<'_>) -> Option<url::Url> {
    let url = match http::url(text) {
        Ok(url) => url,
        Err(error) => {
            findings.error(
                "sink",
                format!("{key}: {error}"),
                "no request can be sent",
                "write it as http://host",
            );
            return None;
        }
    };
    let (host, port) =
        (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(80));
    let name = host.trim_matches(['[', ']']).to_owned();
    let addresses: Vec<_> = match timeout(CONNECT, tokio::net::lookup_host((name.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        _ => Vec::new(),
    };
    if addresses.is_empty() {
        findings.unavailable(
            "sink-name",
            format!("{key}: the name {host} does not resolve on this machine"),
            "no request can be sent; items wait",
            "correct the URL; names that end in .svc.cluster.local resolve only inside the cluster, so run this command in the bridge's pod",
        );
        return None;
    }
    match timeout(CONNECT, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => Some(url),
        Ok(Err(error)) => {
            findings.unavailable(
                "sink-refused",
                format!("{key}: {host}:{port} accepts no connection: {error}"),
                "no request can be sent; items wait",
                "start the service, or correct host and port of the URL",
            );
            None
        }
        Err(_) => {
            findings.unavailable(
                "sink-silent",
                format!("{key}: {host}:{port} does not answer within {CONNECT:?}"),
                "no request can be sent; items wait",
                "check firewalls and network policies between the bridge and the service",
            );
            None
        }
    }
}

/// Sends HEAD over one connection, waits, and looks whether the server has closed it meanwhile.
async fn plain(
    pipeline: &Pipeline,
    url: &url::Url,
    headers: &[(String, String)],
    findings: &mut Findings<'_>,
) {
    let address = (
        url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        url.port_or_known_default().unwrap_or(80),
    );
    let Ok(Ok(mut stream)) = timeout(CONNECT, TcpStream::connect((address.0.as_str(), address.1))).await
    else {
        return;
    };
    let host = pipeline.sink.host.clone().unwrap_or_else(|| match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    });
    let mut request =
        format!("HEAD {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: longhaul-check\r\n", url.path());
    for (name, value) in headers {
        if !value.contains(['\r', '\n']) && !name.eq_ignore_ascii_case("host") {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request.push_str("\r\n");
    let first = match timeout(ANSWER_TIMEOUT, exchange(&mut stream, &request)).await {
        Ok(Ok(head)) => head,
        Ok(Err(reason)) => return silent(url, &reason, findings),
        Err(_) => return silent(url, &format!("it sends nothing within {ANSWER_TIMEOUT:?}"), findings),
    };
    if first.has_no_route {
        return no_route(pipeline, url, findings);
    }
    status(pipeline, url, first.status, findings);
    if first.closes {
        return;
    }
    let mut byte = [0];
    let is_closed = match timeout(PAUSE, stream.read(&mut byte)).await {
        Ok(Ok(0) | Err(_)) => true,
        Ok(Ok(_)) => return,
        Err(_) => false,
    };
    let second = if is_closed {
        None
    } else {
        timeout(ANSWER_TIMEOUT, exchange(&mut stream, &request)).await.ok().and_then(Result::ok)
    };
    match second {
        None => closes(
            url,
            "the server closes a connection that was unused for less than 6 s, without saying so before",
            findings,
        ),
        Some(second) if first.status < 500 && second.status == 502 => {
            closes(url, "of two requests that are 6 s apart, the second one got 502", findings);
        }
        Some(_) => {}
    }
}

fn closes(url: &url::Url, fact: &str, findings: &mut Findings<'_>) {
    findings.warn(
        "keep-alive",
        format!("sink {}: {fact}", http::shown(url)),
        "behind Knative's queue-proxy every other long request can fail with 502 EOF",
        "raise the server's keep-alive timeout above the longest pause between items (for example server.keepAliveTimeout in Node.js, --timeout-keep-alive in uvicorn), or let it answer with `Connection: close`",
    );
}

fn silent(url: &url::Url, reason: &str, findings: &mut Findings<'_>) {
    findings.unavailable(
        "sink-silent",
        format!("sink {}: {reason}", http::shown(url)),
        "requests fail or hang",
        "check that the port speaks HTTP/1.1 (https:// for a TLS port), and the service's log",
    );
}

/// The rule of `sink::classify`: such an answer is the ingress's own.
fn no_route(pipeline: &Pipeline, url: &url::Url, findings: &mut Findings<'_>) {
    let host = pipeline.sink.host.as_deref().or(url.host_str()).unwrap_or_default();
    findings.unavailable(
        "sink-route",
        format!(
            "sink {}: the ingress (Envoy) answers 404, because it has no route for the host {host}",
            http::shown(url)
        ),
        "no request reaches the service; items wait",
        "write the host of the service's URL (kubectl get ksvc) into sink.host, or into sink.url",
    );
}

struct Head {
    status: u16,
    closes: bool,
    /// Whether Envoy gave the answer itself.
    has_no_route: bool,
}

async fn exchange(stream: &mut TcpStream, request: &str) -> Result<Head, String> {
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await.map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("it closes the connection without an answer".to_owned());
        }
        head.extend_from_slice(&buffer[..count]);
        if head.len() > HEAD_MAX {
            return Err("the head of its answer has no end".to_owned());
        }
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status =
        text.strip_prefix("http/1.").and_then(|rest| rest.get(2..5)).and_then(|digits| digits.parse().ok());
    let status = status.ok_or("its answer is not HTTP/1.1")?;
    let closes = text.lines().any(|line| line.starts_with("connection:") && line.contains("close"));
    let has = |start: &str| text.lines().any(|line| line.starts_with(start));
    let has_no_route = status == 404 && has("server: envoy") && !has("x-envoy-upstream-service-time:");
    Ok(Head { status, closes: closes || text.starts_with("http/1.0"), has_no_route })
}

async fn encrypted(
    pipeline: &Pipeline,
    url: &url::Url,
    headers: &[(String, String)],
    findings: &mut Findings<'_>,
) {
    let trust = http::Trust {
        tls: pipeline.sink.tls.clone(),
        ca_certs: std::env::var("K_CA_CERTS").ok(),
        bundles: http::TRUST_BUNDLES.into(),
    };
    let made = http::client(trust, url, || http::builder().connect_timeout(CONNECT).timeout(ANSWER_TIMEOUT));
    let client = match made {
        Ok(client) => client,
        Err(error) => {
            return findings.error(
                "sink-tls",
                format!("sink.tls: {error}"),
                "no request can be sent",
                "correct the files under sink.tls",
            );
        }
    };
    let mut statuses = Vec::new();
    for round in 0..2 {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let mut request = client.get().head(url.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(host) = &pipeline.sink.host {
            request = request.header("host", host);
        }
        match request.send().await {
            Ok(answer) => statuses.push(answer.status().as_u16()),
            Err(error) => {
                let error = error.without_url();
                let mut reason = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(inner) = source {
                    reason = inner.to_string();
                    source = inner.source();
                }
                return findings.unavailable(
                    "sink-tls",
                    format!("sink {}: {reason}", http::shown(url)),
                    "no request can be sent; items wait",
                    "name the authority of the server's certificate in sink.tls.ca_file, and use the name of the certificate in the URL",
                );
            }
        }
    }
    if let Some(first) = statuses.first() {
        status(pipeline, url, *first, findings);
    }
    if matches!(statuses[..], [first, 502] if first < 500) {
        closes(url, "of two requests that are 6 s apart, the second one got 502", findings);
    }
}

/// A worker may answer HEAD with 404 or 405. Other answers come from a component in front of it.
fn status(pipeline: &Pipeline, url: &url::Url, status: u16, findings: &mut Findings<'_>) {
    let shown = http::shown(url);
    match status {
        401 | 403 | 407 if !pipeline.sink.reject_on.contains(&status) => findings.error(
            "sink-credentials",
            format!("sink {shown} answers {status}"),
            "the bridge opens its breaker and keeps all items",
            "correct the credentials in sink.headers",
        ),
        300..=399 => findings.error(
            "sink-redirect",
            format!("sink {shown} answers {status}, a redirect"),
            "the bridge follows no redirect; it opens its breaker and keeps all items",
            "write the final address into sink.url (often https:// or a slash at the end)",
        ),
        502..=504 => findings.unavailable(
            "sink-fails",
            format!("sink {shown} answers {status}"),
            "requests fail before they reach a worker",
            "see the conditions of the service (kubectl describe ksvc), and the log of its pods",
        ),
        _ => {}
    }
}
