//! Makes refusals and other states in which no item can be consumed. Each is reported at once, and
//! ends as soon as its cause ends.

use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use longhaul::config::QueueKind;
use longhaul::source::SourceEvent;
use longhaul::source::rabbitmq::Source;
use longhaul::telemetry::{Problem, ProblemKind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::bridge::Bridge;
use crate::support::rabbitmq::{Queue, address, brokers, connection};
use crate::support::within;

/// Returns the next problem of this kind.
pub async fn raised(bridge: &mut Bridge, kind: ProblemKind) -> Problem {
    let pick = |event: &SourceEvent| match event {
        SourceEvent::Problem(problem) if problem.kind == kind => Some(problem.clone()),
        _ => None,
    };
    bridge.event("a problem", pick).await
}

async fn solved(bridge: &mut Bridge, wanted: ProblemKind) {
    let pick = |event: &SourceEvent| match event {
        SourceEvent::Solved { kind, .. } if *kind == wanted => Some(()),
        _ => None,
    };
    bridge.event("the end of the problem", pick).await
}

#[tokio::test]
async fn a_user_or_a_virtual_host_that_does_not_exist_is_waited_for() {
    for url in brokers() {
        let queue = Queue::unborn(&url).await;
        let mut wrong = url::Url::parse(&url).unwrap();
        wrong.set_password(Some("wrong-Pa55")).unwrap();
        let mut bridge = Bridge::start(Source::new(queue.source(wrong.as_str(), 1)));
        let problem = raised(&mut bridge, ProblemKind::SourceRefused).await;
        assert!(problem.text.contains("ACCESS_REFUSED") && problem.help.contains("password"), "{problem:?}");
        assert!(!format!("{problem:?}").contains("Pa55"), "{problem:?}");
        // The source keeps trying.
        raised(&mut bridge, ProblemKind::SourceRefused).await;
        bridge.close().await;

        let mut wrong = url::Url::parse(&url).unwrap();
        wrong.set_path("/no-such-vhost");
        let mut bridge = Bridge::start(Source::new(queue.source(wrong.as_str(), 1)));
        let problem = raised(&mut bridge, ProblemKind::SourceRefused).await;
        assert!(problem.text.contains("530") && problem.help.contains("virtual host"), "{problem:?}");
        bridge.close().await;
    }
}

#[tokio::test]
async fn an_unreadable_secret_is_waited_for() {
    let mut settings = Queue::unborn(&brokers()[0]).await.source("amqp://", 1);
    settings.connection.url = std::sync::Arc::new(|| Err("/etc/x: no such file".to_owned()));
    let mut bridge = Bridge::start(Source::new(settings));
    let problem = raised(&mut bridge, ProblemKind::Configuration).await;
    assert!(problem.text.contains("/etc/x: no such file") && !problem.help.is_empty(), "{problem:?}");
    raised(&mut bridge, ProblemKind::Configuration).await;
    bridge.close().await;
}

#[tokio::test]
async fn a_queue_that_another_consumer_has_for_itself_is_waited_for() {
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Classic).await;
        let other = Queue::existing(&url, queue.name.clone()).await;
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let name = queue.name.as_str().into();
        let consuming = other.channel.basic_consume(name, "".into(), options, FieldTable::default());
        // Dropping this would cancel the consumer.
        let _consumer = within("a consumer", consuming).await.unwrap();
        let mut bridge = Bridge::start(Source::new(queue.source(&url, 1)));
        let problem = raised(&mut bridge, ProblemKind::SourceRefused).await;
        assert!(problem.text.contains("exclusive") && problem.help.contains("consumer"), "{problem:?}");
        within("a close", other.channel.close(200, "OK".into())).await.unwrap();
        solved(&mut bridge, ProblemKind::SourceRefused).await;
        bridge.up().await;
        bridge.close().await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn a_stream_is_refused() {
    for url in brokers() {
        let queue = Queue::unborn(&url).await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        let name = queue.name.as_str().into();
        queue.channel.queue_declare(name, QueueDeclareOptions::durable(), arguments).await.unwrap();
        let mut bridge = Bridge::start(Source::new(queue.source(&url, 1)));
        let problem = raised(&mut bridge, ProblemKind::SourceRefused).await;
        assert!(problem.text.contains("stream") && problem.help.contains("quorum"), "{problem:?}");
        bridge.close().await;
        queue.delete().await;
    }
}

#[tokio::test]
async fn a_port_with_another_protocol_is_named() {
    for (answer, said) in
        [(&b"\x15\x03\x03\x00\x02\x02\x46"[..], "TLS"), (b"HTTP/1.1 400 Bad Request\r\n", "HTTP")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let answering = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(answer).await.unwrap();
            socket
        });
        let error = within("an error", connection(&url).connect()).await.map(drop).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        drop(answering.await);
    }
    // A client with TLS connects to a port without TLS.
    let plain = brokers()[0].replacen("amqp:", "amqps:", 1);
    let error = within("an error", connection(&plain).connect()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

/// The host has two addresses, and the first one does not answer.
#[tokio::test]
async fn a_silent_address_does_not_prevent_the_next() {
    let url = &brokers()[0];
    let port = address(url).rsplit(':').next().unwrap().to_owned();
    // `localhost` is ::1 and 127.0.0.1, in either order. The broker listens only at the second.
    let silent = TcpListener::bind(format!("[::1]:{port}")).await;
    let mut named = url::Url::parse(url).unwrap();
    named.set_host(Some("localhost")).unwrap();
    let connected = within("a connection", connection(named.as_str()).connect()).await.unwrap();
    assert!(connected.is_open());
    connected.close().await;
    drop(silent);
}

#[tokio::test]
async fn an_ipv6_address_works() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    let upstream = address(&brokers()[0]);
    let relaying = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(upstream).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let url = format!("amqp://guest:guest@[::1]:{port}/%2f");
    let connected = within("a connection", connection(&url).connect()).await.unwrap();
    connected.close().await;
    within("the end of the relay", relaying).await.unwrap();
}
