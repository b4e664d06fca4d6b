use lapin::ExchangeKind;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use longhaul::config::QueueKind;

use super::{check, clean, only, pipeline, service};
use crate::support::broker::OwnRabbitmq;
use crate::support::eventually;
use crate::support::process::Longhaul;
use crate::support::rabbitmq::{Queue, brokers};
use crate::support::scripted::Scripted;

/// A short timeout, so that the server's own ack timeout is long enough.
fn sink(url: &str) -> String {
    format!("url: '{url}', timeout: 20m")
}

fn source(url: &str, queue: &str) -> String {
    format!("{{ rabbitmq: {{ url: '{url}', queue: {queue} }} }}")
}

fn dead(queue: &str) -> String {
    format!("    dead_letter: {{ rabbitmq: {{ queue: {queue} }} }}\n")
}

enum Set {
    Text(&'static str, &'static str),
    Number(&'static str, i32),
    Flag(&'static str),
}

/// Declares a queue with these arguments; false if this version has no such queue.
async fn declare(queue: &Queue, kind: &str, set: &[Set], options: QueueDeclareOptions) -> bool {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    for one in set {
        let (name, value) = match *one {
            Set::Text(name, text) => (name, AMQPValue::LongString(text.into())),
            Set::Number(name, number) => (name, AMQPValue::LongInt(number)),
            Set::Flag(name) => (name, AMQPValue::Boolean(true)),
        };
        arguments.insert(name.into(), value);
    }
    queue.channel.queue_declare(queue.name.as_str().into(), options, arguments).await.is_ok()
}

const NOTES: [&str; 2] = ["policies", "ack-timeout"];

#[tokio::test(flavor = "multi_thread")]
async fn a_correct_queue_has_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let service = service().await;
    for broker in brokers() {
        let work = Queue::create(&broker, QueueKind::Quorum).await;
        let letters = Queue::create(&broker, QueueKind::Quorum).await;
        let config = pipeline(&source(&broker, &work.name), &sink(&service), &dead(&letters.name));
        clean(&NOTES, check(folder.path(), &config, &[]).await);
        assert_eq!((work.ready().await, letters.ready().await), (0, 0), "nothing is written");
        work.delete().await;
        letters.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_arguments_of_the_work_queue_are_found() {
    use Set::{Flag, Number, Text};
    let folder = tempfile::tempdir().unwrap();
    let service = service().await;
    let plain = QueueDeclareOptions::durable;
    let cases: [(&str, &str, &[Set], QueueDeclareOptions); 13] = [
        ("queue-type", "stream", &[], plain()),
        ("delivery-limit", "quorum", &[Number("x-delivery-limit", 1)], plain()),
        ("delivery-limit", "quorum", &[Number("x-delivery-limit", 10)], plain()),
        ("message-ttl", "quorum", &[Number("x-message-ttl", 60_000)], plain()),
        ("message-ttl", "classic", &[Number("x-message-ttl", 60_000)], plain()),
        ("expires", "quorum", &[Number("x-expires", 600_000)], plain()),
        ("overflow", "quorum", &[Number("x-max-length", 1000)], plain()),
        (
            "overflow",
            "classic",
            &[Number("x-max-length-bytes", 1000), Text("x-overflow", "drop-head")],
            plain(),
        ),
        ("auto-delete", "classic", &[], QueueDeclareOptions { auto_delete: true, ..plain() }),
        ("not-durable", "classic", &[], QueueDeclareOptions { durable: false, ..plain() }),
        ("single-active-consumer", "quorum", &[Flag("x-single-active-consumer")], plain()),
        ("dead-letter-wiring", "quorum", &[Text("x-dead-letter-exchange", "no-such-exchange")], plain()),
        (
            "dead-letter-wiring",
            "classic",
            &[Text("x-dead-letter-exchange", ""), Text("x-dead-letter-routing-key", "no-such-queue")],
            plain(),
        ),
    ];
    for broker in brokers() {
        for (kind, queue_type, set, options) in &cases {
            let queue = Queue::unborn(&broker).await;
            if !declare(&queue, queue_type, set, *options).await {
                // A newer version has no transient queues.
                assert_eq!(*kind, "not-durable");
                continue;
            }
            let config = pipeline(&source(&broker, &queue.name), &sink(&service), "    on_failed: hold\n");
            only(kind, check(folder.path(), &config, &[]).await);
            queue.delete().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_of_broker_and_targets_are_found() {
    use Set::Number;
    let folder = tempfile::tempdir().unwrap();
    let service = service().await;
    let broker = brokers().pop().unwrap();
    let work = Queue::create(&broker, QueueKind::Quorum).await;
    let hold = "    on_failed: hold\n";
    let sink = sink(&service);
    let at = |url: &str| pipeline(&source(url, &work.name), &sink, hold);
    for (kind, config) in [
        ("broker", at(&broker.replace("guest:guest", "guest:wrong"))),
        ("broker", at(&broker.replace("/%2f", "/no-such-host"))),
        ("broker", at("amqp://guest:guest@127.0.0.1:9/%2f")),
        ("queue-missing", pipeline(&source(&broker, "no-such-queue"), &sink, hold)),
        ("target-refuses", pipeline(&source(&broker, &work.name), &sink, &dead("no-such-queue"))),
        (
            "declare",
            pipeline(
                &format!(
                    "{{ rabbitmq: {{ url: '{broker}', queue: {}, declare: {{ type: classic }} }} }}",
                    work.name
                ),
                &sink,
                hold,
            ),
        ),
    ] {
        only(kind, check(folder.path(), &config, &[]).await);
    }
    for (kind, set) in [
        ("message-ttl", Number("x-message-ttl", 60_000)),
        ("overflow", Number("x-max-length", 10)),
        ("expires", Number("x-expires", 600_000)),
        ("delivery-limit", Number("x-delivery-limit", 5)),
    ] {
        let letters = Queue::unborn(&broker).await;
        assert!(declare(&letters, "quorum", &[set], QueueDeclareOptions::durable()).await);
        let config = pipeline(&source(&broker, &work.name), &sink, &dead(&letters.name));
        only(kind, check(folder.path(), &config, &[]).await);
        letters.delete().await;
    }
    work.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_lead_back_are_found() {
    use Set::Text;
    let folder = tempfile::tempdir().unwrap();
    let service = service().await;
    for broker in brokers() {
        let (work, letters) = (Queue::unborn(&broker).await, Queue::unborn(&broker).await);
        let itself = [Text("x-dead-letter-exchange", "")];
        assert!(declare(&work, "quorum", &itself, QueueDeclareOptions::durable()).await);
        let config = pipeline(&source(&broker, &work.name), &sink(&service), "    on_failed: hold\n");
        only("loop", check(folder.path(), &config, &[]).await);
        work.delete().await;

        let work = Queue::create(&broker, QueueKind::Quorum).await;
        let mut back = FieldTable::default();
        for (name, text) in [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", &work.name)] {
            back.insert(name.into(), AMQPValue::LongString(text.into()));
        }
        let (name, options) = (letters.name.as_str().into(), QueueDeclareOptions::durable());
        letters.channel.queue_declare(name, options, back).await.unwrap();
        let config = pipeline(&source(&broker, &work.name), &sink(&service), &dead(&letters.name));
        only("loop", check(folder.path(), &config, &[]).await);
        letters.delete().await;

        // A queue of another program has the name of a parking queue.
        let parking = Queue::unborn(&broker).await;
        let name = format!("parked.{}.10s", work.name);
        let options = QueueDeclareOptions::durable();
        parking.channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await.unwrap();
        let retry = "    on_failed: hold\n    retry: { queue: parked, backoff: 10s, backoff_max: 10s }\n";
        let config = pipeline(&source(&broker, &work.name), &sink(&service), retry);
        only("parking", check(folder.path(), &config, &[]).await);
        let options = lapin::options::QueueDeleteOptions::default();
        parking.channel.queue_delete(name.as_str().into(), options).await.unwrap();
        work.delete().await;
    }
}

/// The first look of a running bridge: once, in the log, and never in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_logs_the_faults_of_the_source() {
    let worker = Scripted::start().await;
    let broker = brokers().swap_remove(0);
    let work = Queue::unborn(&broker).await;
    let lives = [Set::Number("x-message-ttl", 3_600_000)];
    assert!(declare(&work, "quorum", &lives, QueueDeclareOptions::durable()).await);
    let config = pipeline(&source(&broker, &work.name), &sink(&worker.url), "    on_failed: hold\n");
    let bridge = Longhaul::run(&config);
    eventually("the warning", async || bridge.log().contains("messages of the queue")).await;
    let log = bridge.log();
    assert!(log.contains("message-ttl") && log.contains("remove message-ttl"), "{log}");
    assert_eq!(log.matches("that `check --connect` finds").count(), 1, "{log}");
    bridge.stop().await;
    work.delete().await;
}

/// Policies and permissions, with the management API of a node of our own.
#[tokio::test(flavor = "multi_thread")]
async fn policies_and_permissions_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let service = service().await;
    if !OwnRabbitmq::can_be_had("rabbitmq") {
        return;
    }
    let node = tokio::task::spawn_blocking(|| OwnRabbitmq::start("rabbitmq")).await.unwrap();
    let management = node.enable_management().await;
    let work = Queue::create(&node.url, QueueKind::Quorum).await;
    let config = pipeline(&source(&node.url, &work.name), &sink(&service), "    on_failed: hold\n");
    let rest = ["--management", management.as_str()];
    let (code, findings) = check(folder.path(), &config, &rest).await;
    assert!(code == 0 && findings.is_empty(), "{findings:?}");

    // What the broker drops goes to an exchange that leads nowhere.
    let wired = Queue::unborn(&node.url).await;
    let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declaring = wired.channel.exchange_declare(
        "nowhere".into(),
        ExchangeKind::Fanout,
        exchange,
        FieldTable::default(),
    );
    declaring.await.unwrap();
    let set = [Set::Text("x-dead-letter-exchange", "nowhere")];
    assert!(declare(&wired, "quorum", &set, QueueDeclareOptions::durable()).await);
    let unbound = config.replace(&work.name, &wired.name);
    eventually("an exchange without a queue", async || {
        let (code, findings) = check(folder.path(), &unbound, &rest).await;
        code == 78
            && findings
                .iter()
                .all(|it| it.kind == "dead-letter-wiring" && it.fact.contains("no queue is bound"))
    })
    .await;
    wired.delete().await;

    // Another program takes items of the queue.
    let options = BasicConsumeOptions::default();
    let (name, arguments) = (work.name.as_str(), FieldTable::default());
    // Dropping it would cancel it.
    let other = work.channel.basic_consume(name.into(), "other".into(), options, arguments).await.unwrap();
    eventually("other consumers", async || {
        let (code, findings) = check(folder.path(), &config, &rest).await;
        code == 1 && findings.iter().all(|it| it.kind == "other-consumers" && !it.fix.is_empty())
    })
    .await;
    drop(other);
    eventually("no other consumer", async || check(folder.path(), &config, &rest).await.0 == 0).await;

    // The broker believes that a member is on another node, which is away.
    let with_member = |member: &str| {
        format!(
            "rabbit_misc:execute_mnesia_transaction(fun() -> \
             rabbit_amqqueue:update(rabbit_misc:r(<<\"/\">>, queue, <<\"{}\">>), fun(Q) -> \
             amqqueue:set_type_state(Q, #{{nodes => [node(){member}]}}) end) end).",
            work.name
        )
    };
    node.ctl(&["rabbitmqctl", "eval", &with_member(", gone@nowhere")]).await;
    eventually("a missing member", async || {
        let (code, findings) = check(folder.path(), &config, &rest).await;
        code == 1 && findings.iter().all(|it| it.kind == "members" && it.fact.contains("1 of 2"))
    })
    .await;
    node.ctl(&["rabbitmqctl", "eval", &with_member("")]).await;

    for (kind, policy) in [
        ("message-ttl", r#"{"message-ttl": 60000}"#),
        ("delivery-limit", r#"{"delivery-limit": 2}"#),
        ("overflow", r#"{"max-length": 5}"#),
    ] {
        node.ctl(&["rabbitmqctl", "set_policy", "planted", ".*", policy]).await;
        // The management API shows a policy some seconds later.
        eventually(kind, async || {
            let (code, findings) = check(folder.path(), &config, &rest).await;
            code == 78 && findings.iter().all(|it| it.kind == kind && !it.fix.is_empty())
        })
        .await;
    }
    node.ctl(&["rabbitmqctl", "clear_policy", "planted"]).await;
    node.ctl(&["rabbitmqctl", "add_user", "reader", "secret"]).await;
    let reader = config.replace("guest:guest", "reader:secret");
    for (kind, write, read) in [("consume", ".*", "^$"), ("copy-refused", "^$", ".*")] {
        node.ctl(&["rabbitmqctl", "set_permissions", "reader", ".*", write, read]).await;
        only(kind, check(folder.path(), &reader, &[]).await);
    }

    // The queue is known, and its process has ended.
    let classic = Queue::create(&node.url, QueueKind::Classic).await;
    node.ctl(&["rabbitmqctl", "eval", "rabbit_amqqueue_sup_sup:stop_for_vhost(<<\"/\">>)."]).await;
    let config = pipeline(&source(&node.url, &classic.name), &sink(&service), "    on_failed: hold\n");
    only("queue-down", check(folder.path(), &config, &[]).await);
}
