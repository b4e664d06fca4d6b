//! Makes a topic for the demo: in a broker in this process (librdkafka's mock cluster), or in a
//! real Kafka.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Failure;

const PARTITIONS: i32 = 4;
const TIMEOUT: Duration = Duration::from_secs(15);
const HINT: &str =
    "check --broker: is Kafka running there, and does its advertised listener lead back to it?";

pub struct Topic {
    servers: String,
    name: String,
    embedded: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Topic {
    pub fn embedded() -> Result<Self, Failure> {
        const DEFECT: &str = "this is a defect of longhaul: please report it";
        let cluster = MockCluster::new(1)
            .map_err(|error| Failure::part(format!("the embedded broker can't start: {error}"), DEFECT))?;
        let name = topic_name();
        cluster
            .create_topic(&name, PARTITIONS, 1)
            .map_err(|error| Failure::part(format!("the embedded broker has no topic: {error}"), DEFECT))?;
        Ok(Topic { servers: cluster.bootstrap_servers(), name, embedded: Some(cluster) })
    }

    pub async fn create(servers: &str) -> Result<Self, Failure> {
        let topic = Topic { servers: servers.to_owned(), name: topic_name(), embedded: None };
        let new = NewTopic::new(&topic.name, PARTITIONS, TopicReplication::Fixed(1));
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let created =
            topic.admin()?.create_topics([&new], &options).await.map_err(failed("create a topic"))?;
        match created.into_iter().next() {
            Some(Err((_, code))) => Err(failed("create a topic")(KafkaError::AdminOp(code))),
            _ => Ok(topic),
        }
    }

    pub fn describe(&self) -> String {
        match self.embedded {
            Some(_) => "Kafka protocol, broker in this process".to_owned(),
            None => format!("Kafka topic of {PARTITIONS} partitions"),
        }
    }

    pub fn source(&self) -> String {
        let servers: Vec<&str> = self.servers.split(',').collect();
        serde_json::json!({
            "kafka": { "bootstrap_servers": servers, "topics": [self.name], "group": self.name }
        })
        .to_string()
    }

    pub async fn enqueue(&mut self, items: u32) -> Result<(), Failure> {
        let producer: FutureProducer = self.client().create().map_err(failed("make a producer"))?;
        let mut sent = Vec::new();
        for number in 0..items {
            let (partition, body) = (number as i32 % PARTITIONS, format!("item {}", number + 1));
            let record = FutureRecord::<(), _>::to(&self.name).payload(&body).partition(partition);
            sent.push(producer.send_result(record).map_err(|(error, _)| failed("produce")(error))?);
        }
        for confirm in sent {
            match confirm.await {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => return Err(failed("produce")(error)),
                Err(_) => return Err(Failure::part("Kafka: the producer ended early", HINT)),
            }
        }
        Ok(())
    }

    pub async fn left(&mut self) -> Option<u64> {
        let (client, name) = (self.client(), self.name.clone());
        // These calls block, so they get a thread.
        tokio::task::spawn_blocking(move || left(&client, &name)).await.ok().flatten()
    }

    pub async fn clean_up(&mut self) {
        if self.embedded.is_none()
            && let Ok(admin) = self.admin()
        {
            // A topic that cannot be removed does no harm, and its name tells where it comes from.
            let _ =
                admin.delete_topics(&[&self.name], &AdminOptions::new().request_timeout(Some(TIMEOUT))).await;
        }
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Failure> {
        self.client().create().map_err(failed("make an admin client"))
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.servers)
            .set("group.id", &self.name)
            .set("message.timeout.ms", "15000");
        client
    }
}

/// Returns the number of records above the committed offsets.
fn left(client: &ClientConfig, topic: &str) -> Option<u64> {
    let consumer: BaseConsumer = client.create().ok()?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        asked.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(asked, TIMEOUT).ok()?;
    let mut left = 0;
    for partition in 0..PARTITIONS {
        let (_, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT).ok()?;
        let next = match committed.find_partition(topic, partition)?.offset() {
            Offset::Offset(next) => next,
            _ => 0,
        };
        left += u64::try_from(end - next).ok()?;
    }
    Some(left)
}

fn topic_name() -> String {
    format!("longhaul-demo-{}", uuid::Uuid::new_v4())
}

fn failed(what: &'static str) -> impl Fn(KafkaError) -> Failure {
    move |error| Failure::part(format!("Kafka: can't {what}: {error}"), HINT)
}
