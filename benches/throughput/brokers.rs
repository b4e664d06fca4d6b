//! Queues and topics, filled before the clock starts.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use longhaul::{config, connect};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::process::Command;

use crate::measure::ITEM_BYTES;

/// The source of the items.
pub enum Queue {
    Kafka { partitions: i32 },
    Rabbitmq { url: String, version: String, kind: &'static str, ctl: Option<OsString> },
}

/// A queue with items in it.
pub struct Filled {
    pub name: String,
    /// The key `source` of the configuration.
    pub source: String,
}

/// Returns a queue of each kind on each available broker. RabbitMQ 4 may be missing.
pub async fn queues() -> Result<Vec<Queue>> {
    let mut queues = vec![Queue::Kafka { partitions: 1 }, Queue::Kafka { partitions: 8 }];
    let urls = [variable("LONGHAUL_TEST_AMQP_URL")]
        .into_iter()
        .chain(std::env::var("LONGHAUL_TEST_AMQP_URL_4").map(Ok));
    for (url, ctl) in urls.zip(["LONGHAUL_TEST_RABBITMQ_CTL", "LONGHAUL_TEST_RABBITMQ_4_CTL"]) {
        let (url, ctl) = (url?, std::env::var_os(ctl));
        let version = version(&url).await?;
        for kind in ["classic", "quorum"] {
            let (url, version, ctl) = (url.clone(), version.clone(), ctl.clone());
            queues.push(Queue::Rabbitmq { url, version, kind, ctl });
        }
    }
    Ok(queues)
}

impl Queue {
    pub fn title(&self) -> String {
        match self {
            Queue::Kafka { partitions: 1 } => "Kafka, 1 partition".to_owned(),
            Queue::Kafka { partitions } => format!("Kafka, {partitions} partitions"),
            Queue::Rabbitmq { version, kind, .. } => format!("RabbitMQ {version}, {kind}"),
        }
    }

    pub fn broker(&self) -> &'static str {
        match self {
            Queue::Kafka { .. } => "kafka",
            Queue::Rabbitmq { .. } => "rabbitmq",
        }
    }

    pub fn address(&self) -> Result<String> {
        match self {
            Queue::Kafka { .. } => servers(),
            Queue::Rabbitmq { url, .. } => Ok(url.clone()),
        }
    }

    pub async fn fill(&self, items: u64) -> Result<Filled> {
        let name = format!("bench-{}", uuid::Uuid::new_v4());
        let source = match self {
            Queue::Kafka { partitions } => fill_kafka(&name, *partitions, items).await?,
            Queue::Rabbitmq { url, kind, .. } => fill_rabbitmq(url, &name, kind, items).await?,
        };
        self.collect_garbage().await?;
        Ok(Filled { name, source })
    }

    /// Lets RabbitMQ collect its garbage before a measurement. Otherwise the process of a classic
    /// queue may collect the garbage of the filling while the queue is emptied, or may not,
    /// depending on its heap: 17,000 items/s or 26,000. A RabbitMQ that tests/brokers did not start
    /// is left alone.
    async fn collect_garbage(&self) -> Result<()> {
        if let Queue::Rabbitmq { ctl: Some(ctl), .. } = self {
            let mut command = Command::new(ctl);
            command.args(["rabbitmqctl", "--quiet", "force_gc"]);
            ensure!(command.status().await?.success(), "rabbitmqctl force_gc failed");
        }
        Ok(())
    }

    pub async fn remove(&self, filled: &Filled) -> Result<()> {
        match self {
            Queue::Kafka { .. } => {
                admin()?.delete_topics(&[&filled.name], &AdminOptions::new()).await?;
            }
            Queue::Rabbitmq { url, .. } => {
                let connection = Connection::connect(url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.queue_delete(filled.name.as_str().into(), QueueDeleteOptions::default()).await?;
            }
        }
        Ok(())
    }
}

async fn version(url: &str) -> Result<String> {
    let url = url.to_owned();
    let settings = connect::rabbitmq::Settings {
        url: Arc::new(move || Ok(url.clone())),
        tls: config::Tls::default(),
        name: "bench".to_owned(),
    };
    let connection = settings.connect().await?;
    let version = connection.server().version;
    connection.close().await;
    version.context("RabbitMQ does not tell its version")
}

async fn fill_rabbitmq(url: &str, name: &str, kind: &str, items: u64) -> Result<String> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments).await?;
    let body = vec![b'x'; ITEM_BYTES];
    let mut done = 0;
    while done < items {
        let mut confirms = Vec::new();
        for _ in 0..1000.min(items - done) {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            confirms.push(channel.basic_publish("".into(), name.into(), options, &body, properties).await?);
        }
        done += confirms.len() as u64;
        for confirm in confirms {
            ensure!(confirm.await? == Confirmation::Ack(None), "RabbitMQ did not take an item");
        }
    }
    Ok(serde_json::json!({ "rabbitmq": { "url": url, "queue": name } }).to_string())
}

async fn fill_kafka(name: &str, partitions: i32, items: u64) -> Result<String> {
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    admin()?.create_topics([&new], &AdminOptions::new()).await?;
    let producer: FutureProducer = client()?.set("linger.ms", "20").create()?;
    let body = vec![b'x'; ITEM_BYTES];
    let mut done = 0;
    while done < items {
        let mut confirms = Vec::new();
        for index in 0..10_000.min(items - done) {
            let partition = ((done + index) % partitions as u64) as i32;
            let record = FutureRecord::<(), _>::to(name).payload(&body).partition(partition);
            confirms.push(producer.send_result(record).map_err(|(error, _)| error)?);
        }
        done += confirms.len() as u64;
        for confirm in confirms {
            confirm.await?.map_err(|(error, _)| error)?;
        }
    }
    Ok(serde_json::json!({
        "kafka": { "bootstrap_servers": [servers()?], "topics": [name], "group": name }
    })
    .to_string())
}

fn admin() -> Result<AdminClient<DefaultClientContext>> {
    Ok(client()?.create()?)
}

fn client() -> Result<ClientConfig> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", servers()?);
    Ok(client)
}

fn servers() -> Result<String> {
    variable("LONGHAUL_TEST_KAFKA_BOOTSTRAP")
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: use benches/run"))
}
