//! Makes refusals and other states in which no item can be consumed. Each is reported at once, and
//! ends as soon as its cause ends.

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use longhaul::config::QueueKind;
use longhaul::delivery::Settlement;
use longhaul::source::SourceEvent;
use longhaul::source::rabbitmq::Source;
use longhaul::telemetry::{Problem, ProblemKind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::bridge::Bridge;
use crate::support::rabbitmq::{Queue, address, brokers, connection, through};
use crate::support::relay::{Mode, Relay};
use crate::support::within;

/// The time within which a problem must be visible, and its end too.
const VISIBLE: Duration = Duration::from_secs(10);

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

/// Stops the broker, like SIGSTOP: while items run, while the source is idle, and while an ack is
/// on its way. The connections stay open, and the session continues.
#[tokio::test]
async fn a_broker_that_falls_silent_is_a_problem_until_it_answers() {
    let url = &brokers()[0];
    let queue = Queue::create(url, QueueKind::Quorum).await;
    let relay = Relay::start(address(url)).await;
    let mut bridge = Bridge::start(Source::new(queue.source(&through(url, relay.port()), 4)));
    for phase in ["running", "idle", "ack"] {
        queue.publish(phase.as_bytes(), BasicProperties::default()).await;
        let taken = bridge.delivery().await;
        assert_eq!(taken.message.body, phase);
        if phase == "idle" {
            bridge.settle(taken.outline.id, Settlement::Ack).await;
        }
        let stopped = Instant::now();
        relay.set(Mode::Hold);
        if phase == "ack" {
            bridge.settle(taken.outline.id, Settlement::Ack).await;
        }
        let problem = raised(&mut bridge, ProblemKind::SourceUnreachable).await;
        assert!(stopped.elapsed() < VISIBLE && problem.text.contains("did not answer"), "{problem:?}");
        relay.set(Mode::Pass);
        let answers = Instant::now();
        solved(&mut bridge, ProblemKind::SourceUnreachable).await;
        assert!(answers.elapsed() < VISIBLE, "{:?}", answers.elapsed());
        if phase == "running" {
            bridge.settle(taken.outline.id, Settlement::Ack).await;
        }
    }
    assert_eq!(bridge.losses(), 0);
    bridge.close().await;
    assert_eq!(queue.ready().await, 0);
    queue.delete().await;
}

/// The port accepts connections and says nothing, from the start.
#[tokio::test]
async fn a_port_that_stays_silent_is_a_problem() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let queue = Queue::unborn(&brokers()[0]).await;
    let start = Instant::now();
    let mut bridge = Bridge::start(Source::new(queue.source(&url, 1)));
    let problem = raised(&mut bridge, ProblemKind::SourceUnreachable).await;
    assert!(start.elapsed() < VISIBLE && problem.text.contains("did not answer"), "{problem:?}");
    bridge.close().await;
}

/// One message arrives as bytes that the client cannot read, in each session. Its neighbours run,
/// and are not returned again and again.
#[tokio::test]
async fn bytes_that_cannot_be_read_cost_their_neighbours_one_return() {
    const MARKER: &[u8] = b"spoiled-message";
    for url in brokers() {
        let queue = Queue::create(&url, QueueKind::Quorum).await;
        let relay = Relay::start(address(&url)).await;
        relay.spoil(MARKER);
        for body in [&b"before"[..], MARKER, b"behind"] {
            queue.publish(body, BasicProperties::default()).await;
        }
        let mut bridge = Bridge::start(Source::new(queue.source(&through(&url, relay.port()), 10)));
        let problem = raised(&mut bridge, ProblemKind::Undecodable).await;
        assert!(!problem.help.is_empty(), "{problem:?}");
        // The next sessions take one item at a time.
        let mut bodies = Vec::new();
        while bodies.is_empty() || bridge.losses() < 4 {
            if let Some(item) = bridge.delivery_within(Duration::from_millis(300)).await {
                assert_ne!(item.message.body, MARKER);
                bodies.push(item.message.body.clone());
                bridge.settle(item.outline.id, Settlement::Ack).await;
            }
        }
        relay.spoil(b"");
        while bodies.len() < 3 {
            let item = bridge.delivery().await;
            if item.message.body == "behind" {
                let returns = item.message.header("x-delivery-count").and_then(|count| count.as_int());
                assert!(returns.unwrap_or(0) <= 1, "{returns:?}");
            }
            bodies.push(item.message.body.clone());
            bridge.settle(item.outline.id, Settlement::Ack).await;
        }
        bodies.sort();
        assert_eq!(bodies, [&b"before"[..], b"behind", MARKER]);
        bridge.close().await;
        assert_eq!(queue.ready().await, 0);
        queue.delete().await;
    }
}

/// The virtual host allows no more connections. The source connects when one is free.
#[tokio::test]
async fn a_limit_of_connections_is_named_until_one_is_free() {
    let url = &brokers()[0];
    let Ok(ctl) = std::env::var("LONGHAUL_TEST_RABBITMQ_CTL") else { return };
    let name = format!("full-{}", uuid::Uuid::new_v4());
    let add = format!(
        "V = <<\"{name}\">>, rabbit_vhost:add(V, <<\"test\">>), \
         rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, V, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>), \
         rabbit_vhost_limit:set(V, [{{<<\"max-connections\">>, 1}}], <<\"test\">>)."
    );
    rabbitmqctl(&ctl, &["eval", &add]).await;
    let mut full = url::Url::parse(url).unwrap();
    full.set_path(&format!("/{name}"));
    let queue = Queue::create(full.as_str(), QueueKind::Quorum).await;
    let mut bridge = Bridge::start(Source::new(queue.source(full.as_str(), 1)));
    let problem = raised(&mut bridge, ProblemKind::SourceRefused).await;
    assert!(problem.text.contains("530") && problem.text.contains("limit"), "{problem:?}");
    assert!(problem.help.contains("set_vhost_limits"), "{problem:?}");
    queue.publish(b"item", BasicProperties::default()).await;
    drop(queue);
    solved(&mut bridge, ProblemKind::SourceRefused).await;
    let item = bridge.delivery().await;
    bridge.settle(item.outline.id, Settlement::Ack).await;
    bridge.close().await;
    rabbitmqctl(&ctl, &["delete_vhost", &name]).await;
}

async fn rabbitmqctl(ctl: &str, arguments: &[&str]) {
    let called = tokio::process::Command::new(ctl).arg("rabbitmqctl").args(arguments).output();
    let output = called.await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
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
