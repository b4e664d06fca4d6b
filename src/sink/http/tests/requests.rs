//! Checks the bytes of a request on the wire.

use std::fs;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A value that is the content of a file.
struct FromFile(PathBuf);

impl HeaderSource for FromFile {
    fn resolve(&self) -> Result<String, String> {
        let text = fs::read_to_string(&self.0).map_err(|error| error.to_string())?;
        Ok(format!("Bearer {text}"))
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }
}

/// Sends requests until the server sees one that contains `wanted`.
async fn until(client: &Client, server: &mut Server, wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        send(client).await;
        let request = server.requests.recv().await.unwrap();
        if request.contains(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "no {wanted:?} in {request}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn it_has_what_it_needs_and_nothing_else() {
    let mut server = Server::start(OK, Then::KeepOpen).await;
    let mut settings = settings(&server.url);
    settings.sink.host = Some("ksvr-samples.default.example.com".to_owned());
    settings.headers = vec![("X-Team".to_owned(), Arc::new("ops\n".to_owned()) as _)];
    settings.environment.namespace = Some("jobs".to_owned());
    settings.replies = Replies::Used;
    send(&Client::new(settings).unwrap()).await;
    let request = server.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!((lines.remove(0), body), ("POST /work HTTP/1.1", "work"));
    lines.sort_unstable();
    let agent = concat!("user-agent: longhaul/", env!("CARGO_PKG_VERSION"));
    let expected = [
        "accept: */*",
        "ce-id: 1",
        "content-length: 4",
        "content-type: text/plain",
        "host: ksvr-samples.default.example.com",
        "kn-namespace: jobs",
        "prefer: reply",
        agent,
        "x-team: ops",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_empty_body_has_a_length() {
    let mut server = Server::start(OK, Then::KeepOpen).await;
    client(&server.url).send(request("")).await;
    let request = server.requests.recv().await.unwrap();
    assert!(request.contains("content-length: 0\r\n"), "{request}");
    let host = server.url.trim_start_matches("http://").trim_end_matches("/work");
    assert!(request.contains(&format!("host: {host}\r\n")), "{request}");
}

#[tokio::test]
async fn a_token_is_read_again_when_its_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "first\n").unwrap();
    let mut server = Server::start(OK, Then::KeepOpen).await;
    let mut settings = settings(&server.url);
    settings.headers = vec![("Authorization".to_owned(), Arc::new(FromFile(path.clone())) as _)];
    let client = Client::new(settings).unwrap();
    until(&client, &mut server, "authorization: Bearer first\r\n").await;
    fs::write(&path, "second").unwrap();
    until(&client, &mut server, "authorization: Bearer second\r\n").await;
}

#[tokio::test]
async fn the_oidc_token_is_used_once_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let mut server = Server::start(OK, Then::KeepOpen).await;
    let mut settings = settings(&server.url);
    settings.environment.oidc_token = path.clone();
    let client = Client::new(settings).unwrap();
    send(&client).await;
    assert!(!server.requests.recv().await.unwrap().contains("authorization"));
    fs::write(&path, "a.b.c\n").unwrap();
    until(&client, &mut server, "authorization: Bearer a.b.c\r\n").await;
    fs::write(&path, "d.e.f").unwrap();
    until(&client, &mut server, "authorization: Bearer d.e.f\r\n").await;
}

#[tokio::test]
async fn a_configured_authorization_is_the_one_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "oidc").unwrap();
    let mut server = Server::start(OK, Then::KeepOpen).await;
    let mut settings = settings(&server.url);
    settings.environment.oidc_token = folder.path().join("token");
    settings.headers = vec![("authorization".to_owned(), Arc::new("Basic eA==".to_owned()) as _)];
    send(&Client::new(settings).unwrap()).await;
    let request = server.requests.recv().await.unwrap();
    assert!(request.contains("authorization: Basic eA==\r\n") && !request.contains("oidc"), "{request}");
}

#[tokio::test]
async fn more_headers_than_fit_are_no_reason_to_panic() {
    let server = Server::start(OK, Then::KeepOpen).await;
    let client = client(&server.url);
    let fill = |count| {
        let mut full = request("work");
        for n in full.headers.len()..count {
            let name: http::HeaderName = format!("x-{n}").parse().unwrap();
            full.headers.try_insert(name, "v".parse().unwrap()).unwrap();
        }
        full
    };
    for count in 24_565..=24_576 {
        let answer = client.send(fill(count)).await;
        assert_eq!(answer.outcome, Outcome::Rejected, "{count}: {}", answer.detail);
    }
    assert_eq!(client.send(fill(2_000)).await.outcome, Outcome::Done);
    let mut large = request("work");
    large.headers.insert("x", "v".repeat(65_500).parse().unwrap());
    let answer = client.send(large).await;
    assert_eq!(answer.outcome, Outcome::Rejected);
    assert!(answer.detail.contains("65536 are allowed"), "{}", answer.detail);
}

#[tokio::test]
async fn the_query_of_the_address_is_sent_and_shown_to_nobody() {
    let mut server = Server::start(OK, Then::KeepOpen).await;
    let client = client(&format!("{}?key=hunter2#part", server.url));
    assert_eq!(send(&client).await.outcome, Outcome::Done);
    assert!(server.requests.recv().await.unwrap().starts_with("POST /work?key=hunter2 HTTP/1.1"));
    assert_eq!(client.destination(), server.url);
    assert!(!format!("{client:?}").contains("hunter2"));
    let refused = Client::new(settings("ftp://x/?key=hunter2")).unwrap_err().to_string();
    let unreachable = send(&self::client("http://127.0.0.1:1/?key=hunter2")).await;
    assert!(!refused.contains("hunter2") && !unreachable.detail.contains("hunter2"), "{refused}");
}
