//! Transactions that their producers leave open.

use std::time::Duration;

use longhaul::source::SourceEvent;
use longhaul::telemetry::ProblemKind;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::support::{Broker, PATIENCE, Running};

fn producer(broker: &Broker) -> BaseProducer {
    let mut client = broker.client();
    client.set("transactional.id", &broker.name).set("transaction.timeout.ms", "600000");
    let producer: BaseProducer = client.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

/// Writes a record to partition 0 in a transaction that stays open.
fn begin(producer: &BaseProducer, topic: &str) {
    producer.begin_transaction().unwrap();
    let record = BaseRecord::<str, str>::to(topic).partition(0).payload("open");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
}

async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(call).await.unwrap()
}

async fn backlog_is(source: &mut Running, count: u64) {
    source.wait_for(|event| *event == SourceEvent::Backlog(count)).await;
}

/// Records behind an open transaction wait visibly, and are read when the transaction ends.
#[tokio::test(flavor = "multi_thread")]
async fn records_behind_an_open_transaction_are_counted_and_explained() {
    for commits in [true, false] {
        let broker = Broker::real("open-transaction");
        let topic = broker.name.clone();
        broker.create_topic(&topic, 1).await;
        broker.produce(&topic, 0, ["before".to_owned()]).await;
        let (of, to) = (broker.clone(), topic.clone());
        let producer = blocking(move || {
            let producer = producer(&of);
            begin(&producer, &to);
            producer
        })
        .await;
        broker.produce(&topic, 0, (0..3).map(|number| format!("behind {number}"))).await;
        let mut source = broker.start(&[&topic]);
        let taken = source.take(1).await;
        assert_eq!(taken[0].message.body, "before");
        backlog_is(&mut source, 4).await;
        let event = source
            .wait_for(
                |event| matches!(event, SourceEvent::Problem(problem) if problem.kind == ProblemKind::Stalled),
            )
            .await;
        let SourceEvent::Problem(problem) = event else { unreachable!() };
        assert!(problem.text.contains("transaction") && problem.text.contains("offset 1"), "{problem:?}");

        let end = move || {
            if commits { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) }
        };
        blocking(end).await.unwrap();
        let expected = if commits { 4 } else { 3 };
        source.take(expected).await;
        source.no_problem().await;
        source.close().await;
    }
}

/// Ordinary transactions are never reported.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_end_are_no_problem() {
    let broker = Broker::real("transactions");
    let topic = broker.name.clone();
    broker.create_topic(&topic, 1).await;
    let mut source = broker.start(&[&topic]);
    let (of, to) = (broker.clone(), topic.clone());
    let producing = tokio::task::spawn_blocking(move || {
        let producer = producer(&of);
        // Each is open for half a second, and one is open at nearly any time.
        for _ in 0..24 {
            begin(&producer, &to);
            std::thread::sleep(Duration::from_millis(500));
            producer.commit_transaction(PATIENCE).unwrap();
        }
    });
    source.take(24).await;
    producing.await.unwrap();
    let stalled = |event: &&SourceEvent| matches!(event, SourceEvent::Problem(problem) if problem.kind == ProblemKind::Stalled);
    assert_eq!(source.events.iter().find(stalled), None);
    source.close().await;
}
