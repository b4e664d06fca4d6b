//! Sends random records of every kind, among markers of transactions. Each arrives once and whole.

use longhaul::event::{Origin, Value};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::support::{Broker, PATIENCE, Running, until};

type Part = Option<Vec<u8>>;

#[derive(Debug, PartialEq)]
struct Generated {
    key: Part,
    value: Part,
    headers: Vec<(String, Part)>,
}

/// Returns the number of records; `LONGHAUL_TEST_RECORDS` sets another one.
fn count() -> usize {
    std::env::var("LONGHAUL_TEST_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

fn part(random: &mut fastrand::Rng) -> Part {
    let length = [0, 1, 7, 100, 3000][random.usize(..5)];
    random.u8(..5).ne(&0).then(|| (0..length).map(|_| random.u8(..)).collect())
}

fn generated(random: &mut fastrand::Rng) -> Generated {
    let names = ["a", "a", "ce_id", "content-type", "naïve", "", "longhaul-id", "x y"];
    let headers =
        (0..random.usize(..6)).map(|_| (names[random.usize(..names.len())].to_owned(), part(random)));
    let headers = headers.collect();
    Generated { key: part(random), value: part(random), headers }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_records_come_once_and_whole() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let broker = Broker::real("generated");
    let topic = &broker.name;
    broker.create_topic(topic, 1).await;
    let producer: BaseProducer =
        broker.client().set("transactional.id", topic).set("compression.type", "zstd").create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let mut wanted = Vec::new();
    while wanted.len() < count() {
        producer.begin_transaction().unwrap();
        let records: Vec<_> = (0..random.usize(..60)).map(|_| generated(&mut random)).collect();
        for one in &records {
            let headers = one.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header { key, value: value.as_deref() })
            });
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(0).headers(headers);
            record.key = one.key.as_deref();
            record.payload = one.value.as_deref();
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        if random.u8(..4) == 0 {
            producer.abort_transaction(PATIENCE).unwrap();
        } else {
            producer.commit_transaction(PATIENCE).unwrap();
            wanted.extend(records);
        }
    }
    let mut source = Running::start(broker.settings(&[topic]));
    for (number, wanted) in wanted.iter().enumerate() {
        let delivery = source.take(1).await.remove(0);
        let message = &delivery.message;
        let Origin::Kafka(origin) = &message.origin else { panic!("not from Kafka") };
        let headers = message.headers.iter().map(|(name, value)| match value {
            Value::Bytes(bytes) => (name.clone(), Some(bytes.to_vec())),
            _ => (name.clone(), None),
        });
        let found = Generated {
            key: origin.key.as_ref().map(|key| key.to_vec()),
            value: (!origin.is_null).then(|| message.body.to_vec()),
            headers: headers.collect(),
        };
        assert_eq!(found, *wanted, "seed {seed}, record {number}");
        source.ack(delivery.outline.id);
        source.events.clear();
    }
    let end = || {
        let consumer: rdkafka::consumer::BaseConsumer = broker.client().create().unwrap();
        rdkafka::consumer::Consumer::fetch_watermarks(&consumer, topic, 0, PATIENCE).unwrap().1
    };
    until("everything is committed, markers included", || broker.committed(topic).0 == end()).await;
    source.close().await;
}
