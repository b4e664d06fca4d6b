//! Checks the outcome of each way in which a request can end.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_complete_answer_is_done() {
    let server = Server::start(OK, Then::KeepOpen).await;
    let answer = send(&client(&server.url)).await;
    assert_eq!((answer.outcome, answer.status), (Outcome::Done, Some(200)));
    let response = answer.response.unwrap();
    assert_eq!((&response.body[..], response.truncated), (&b"ok"[..], false));
}

#[tokio::test]
async fn a_refused_connection_is_not_started() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let answer = send(&client(&format!("http://127.0.0.1:{port}/"))).await;
    assert_eq!((answer.outcome, answer.status), (NOT_STARTED, None), "{}", answer.detail);
    assert!(answer.detail.contains("refused"), "{}", answer.detail);
    assert!(answer.response.is_none());
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_unknown() {
    for then in [Then::Close, Then::Reset] {
        for sent in ["", "HTTP/1.1 2", "HTTP/1.1 100 Continue\r\n\r\n"] {
            let server = Server::start(sent, then).await;
            let answer = send(&client(&server.url)).await;
            assert_eq!(
                (answer.outcome, answer.status),
                (Outcome::Unknown, None),
                "{sent:?}: {}",
                answer.detail
            );
            assert!(answer.detail.starts_with("connection lost: "), "{}", answer.detail);
            assert_eq!(server.connections(), 1, "it was sent again");
        }
    }
}

#[tokio::test]
async fn half_an_answer_is_unknown() {
    let halves = [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nlonghaul-outcome: done\r\ncontent-length: 10\r\n\r\n",
        "HTTP/1.1 422 Unprocessable Content\r\ncontent-length: 10\r\n\r\nhalf",
    ];
    for half in halves {
        let server = Server::start(half, Then::Close).await;
        let answer = send(&client(&server.url)).await;
        assert_eq!(answer.outcome, Outcome::Unknown, "{half:?}");
        assert!(answer.detail.contains("cut short"), "{}", answer.detail);
        assert!(answer.status.is_some() && answer.response.is_some());
    }
}

#[tokio::test]
async fn a_stream_that_knative_ended_is_unknown() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nline\n\r\nf\r\nrequest timeout\r\n0\r\n\r\n";
    let server = Server::start(chunked, Then::KeepOpen).await;
    assert_eq!(send(&client(&server.url)).await.outcome, Outcome::Unknown);
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nline\n\r\n0\r\n\r\n";
    let server = Server::start(whole, Then::KeepOpen).await;
    assert_eq!(send(&client(&server.url)).await.outcome, Outcome::Done);
}

#[tokio::test]
async fn the_timeout_covers_head_and_body() {
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let mut server = Server::start(begun, Then::Hold).await;
        let mut settings = settings(&server.url);
        settings.sink.timeout = Span::from_secs(1);
        let started = Instant::now();
        let answer = send(&Client::new(settings).unwrap()).await;
        assert_eq!(answer.outcome, Outcome::Unknown);
        assert!(answer.detail.contains("within 1s (sink.timeout)"), "{}", answer.detail);
        assert!(started.elapsed() >= Duration::from_secs(1));
        tokio::time::timeout(Duration::from_secs(10), server.closed.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    let mut server = Server::start("", Then::Hold).await;
    let client = Arc::new(client(&server.url));
    let running = tokio::spawn({
        let client = Arc::clone(&client);
        async move { send(&client).await }
    });
    server.requests.recv().await.unwrap();
    running.abort();
    tokio::time::timeout(Duration::from_secs(10), server.closed.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_long_answer_is_read_whole_and_kept_in_part() {
    let length = 1 << 20;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let server = Server::start([head.into_bytes(), vec![b'x'; length]].concat(), Then::KeepOpen).await;
    let mut used = settings(&server.url);
    used.replies = Replies::Used;
    let client = Client::new(used).unwrap();
    for _ in 0..3 {
        let answer = send(&client).await;
        assert_eq!(answer.outcome, Outcome::Done);
        let response = answer.response.unwrap();
        assert_eq!((response.body.len(), response.truncated), (64 << 10, true));
    }
    assert_eq!(server.connections(), 1, "a connection can be reused only when the answer was read");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let to_itself = "HTTP/1.1 307 Temporary Redirect\r\nlocation: /work\r\ncontent-length: 0\r\n\r\n";
    let mut server = Server::start(to_itself, Then::KeepOpen).await;
    let answer = send(&client(&server.url)).await;
    assert_eq!((answer.outcome, answer.status), (Outcome::Misconfigured, Some(307)));
    server.requests.recv().await.unwrap();
    assert!(server.requests.try_recv().is_err());
}

#[tokio::test]
async fn a_worker_that_must_speak_is_waited_for() {
    let server = Server::start(OK, Then::KeepOpen).await;
    let mut silent = settings(&server.url);
    silent.sink.require_outcome = true;
    assert_eq!(send(&Client::new(silent).unwrap()).await.outcome, Outcome::Unknown);
    let speaks = "HTTP/1.1 200 OK\r\nLonghaul-Outcome: retry\r\nLonghaul-Reason: no disk\r\nRetry-After: 5\r\ncontent-length: 0\r\n\r\n";
    let server = Server::start(speaks, Then::KeepOpen).await;
    let answer = send(&client(&server.url)).await;
    assert_eq!(answer.outcome, Outcome::Failed { retry_after: Some(Duration::from_secs(5)) });
    assert_eq!(answer.detail, "no disk");
}

/// A connection that the server closed while it was idle is replaced, without any effect on the
/// item.
#[tokio::test]
async fn a_connection_closed_while_idle_costs_nothing() {
    let mut server = Server::start(OK, Then::Close).await;
    let client = client(&server.url);
    for round in 1..=5 {
        let answer = send(&client).await;
        assert_eq!(answer.outcome, Outcome::Done, "{}", answer.detail);
        // The client has noticed the end of the connection once it closes its own side.
        tokio::time::timeout(Duration::from_secs(10), server.closed.recv()).await.unwrap().unwrap();
        assert_eq!(server.connections(), round);
    }
}

#[tokio::test]
async fn connections_are_kept_for_every_slot() {
    let server = Server::start(OK, Then::KeepOpen).await;
    let client = Arc::new(client(&server.url));
    for _ in 0..10 {
        let all = (0..20).map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { send(&client).await.outcome })
        });
        for task in all.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), Outcome::Done);
        }
    }
    assert!(server.connections() <= 20, "{} connections for 20 slots", server.connections());
}

/// On a reused connection an HTTP library might retry silently, although the worker may have done
/// the work.
#[tokio::test]
async fn a_reused_connection_that_dies_with_a_request_is_unknown_and_sent_once() {
    let mut server = Server::start(OK, Then::DieOnSecond).await;
    let client = client(&server.url);
    assert_eq!(send(&client).await.outcome, Outcome::Done);
    let answer = send(&client).await;
    assert_eq!((answer.outcome, server.connections()), (Outcome::Unknown, 1), "{}", answer.detail);
    for _ in 0..2 {
        server.requests.recv().await.unwrap();
    }
    assert!(server.requests.try_recv().is_err(), "it was sent again");
}

/// Finished work must not run again because its answer has an odd form.
#[tokio::test]
async fn an_odd_answer_whose_meaning_is_clear_is_done() {
    let many: String = (0..3_000).map(|number| format!("x-{number}: v\r\n")).collect();
    let answers = [
        format!("HTTP/1.1 200 OK\r\n{many}content-length: 2\r\n\r\nok"),
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nx-long: a\r\n  b\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\ncontent-length: 2\n\nok".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 \u{e4}\r\nx: \u{e4}\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
    ];
    for text in answers {
        let start: String = text.chars().take(60).collect();
        let server = Server::start(text, Then::KeepOpen).await;
        let answer = send(&client(&server.url)).await;
        assert_eq!(answer.outcome, Outcome::Done, "{start:?}: {}", answer.detail);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_says_so() {
    let many: String = (0..5_000).map(|number| format!("x-{number}: v\r\n")).collect();
    let heads = [
        format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        format!("HTTP/1.1 200 OK\r\nx: {}", "v".repeat(1 << 20)),
        "HTTP/1.1 200 OK\r\nbad name: v\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nx: \u{1}\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok".to_owned(),
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 020 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "<html>it works</html>".to_owned(),
        "\u{15}\u{3}\u{1}\u{0}\u{2}\u{2}F".to_owned(),
    ];
    let bodies = ["zz\r\nok\r\n0\r\n\r\n", "2\r\nokay\r\n0\r\n\r\n", "ffffffffffffffffff\r\nok"];
    let chunked = bodies.map(|body| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
    for text in heads.into_iter().chain(chunked) {
        let start: String = text.chars().take(60).collect();
        let server = Server::start(text, Then::Hold).await;
        let answer = send(&client(&server.url)).await;
        assert_eq!(answer.outcome, Outcome::Unreadable, "{start:?}: {}", answer.detail);
        assert!(
            answer.detail.contains("the service answered, but the answer is not valid HTTP"),
            "{}",
            answer.detail
        );
        assert_eq!(server.connections(), 1, "it was sent again");
    }
}

#[tokio::test]
async fn little_is_kept_of_an_answer_that_is_not_a_reply() {
    let many: String = (0..1_000).map(|number| format!("x-{number}: v\r\n")).collect();
    let head = format!(
        "HTTP/1.1 500 X\r\n{many}retry-after: 5\r\nlonghaul-reason: full\r\ncontent-type: text/plain\r\ncontent-length: 65536\r\n\r\n"
    );
    let server = Server::start([head.into_bytes(), vec![b'x'; 1 << 16]].concat(), Then::KeepOpen).await;
    for replies in [Replies::Ignored, Replies::Used] {
        let mut settings = settings(&server.url);
        settings.replies = replies;
        let answer = send(&Client::new(settings).unwrap()).await;
        assert_eq!(answer.outcome, Outcome::Failed { retry_after: Some(Duration::from_secs(5)) });
        let response = answer.response.unwrap();
        assert_eq!((response.headers.len(), response.body.len(), response.truncated), (3, 1024, true));
    }
}
