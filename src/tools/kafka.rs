//! Kafka access for the commands: finds topics, creates them and measures consumer lag.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::Failure;
use super::place::Kafka;
use crate::connect;
use crate::connect::kafka::Logging;

/// The longest wait for the cluster's answer to one request.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

pub type Client = BaseConsumer<Logging>;

/// A consumer that commits only what it is told to. It blocks its thread.
///
/// # Errors
/// Returns an error if an option is wrong, or if a variable or file that it names cannot be read.
pub fn client(place: &Kafka, group: &str) -> Result<Client, Failure> {
    let owned = [
        ("group.id", group.to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("auto.offset.reset", "earliest".to_owned()),
        ("enable.partition.eof", "true".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
    ];
    let config = place.cluster()?.client(&[], &owned);
    config
        .create_with_context(Logging)
        .map_err(|error| Failure::config(connect::kafka::creation_error(&error), "correct the option"))
}

/// Returns the number of partitions of the topic, or `None` if the topic does not exist.
///
/// # Errors
/// Returns an error if the cluster does not answer, or refuses.
pub fn partition_count(place: &Kafka) -> Result<Option<usize>, Failure> {
    let client = client(place, "longhaul-tools")?;
    let metadata = metadata(&client, place)?;
    partitions(&metadata, place.topic()?)
}

/// Asks for the metadata of the place's topic.
///
/// # Errors
/// Returns an error if the cluster does not answer.
pub fn metadata(client: &Client, place: &Kafka) -> Result<Metadata, Failure> {
    let topic = place.topic.as_deref();
    tokio::task::block_in_place(|| client.fetch_metadata(topic, ANSWER_TIMEOUT))
        .map_err(|error| failure(place, &error))
}

fn partitions(metadata: &Metadata, topic: &str) -> Result<Option<usize>, Failure> {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(Code::from) {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        Some(Code::InvalidTopic) => Err(Failure::usage(
            format!("{topic} cannot be the name of a topic"),
            "use letters, digits, `.`, `_` and `-`",
        )),
        Some(error) => Err(Failure::unavailable(
            format!("Kafka does not show topic {topic}: {error}"),
            "give the user of the options the right to describe and write the topic",
        )),
        None if found.partitions().is_empty() => Ok(None),
        None => Ok(Some(found.partitions().len())),
    }
}

/// Makes a failure, with help, of the error of a request to the cluster.
pub fn failure(place: &Kafka, error: &KafkaError) -> Failure {
    let servers = place.servers.join(", ");
    match error.rdkafka_error_code() {
        Some(
            Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve,
        ) => Failure::unavailable(
            format!("Kafka at {servers} does not answer: {error}"),
            "check the addresses, and the options for TLS and SASL (security.protocol)",
        ),
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => Failure::unavailable(
            format!("Kafka at {servers} refuses: {error}"),
            "give this user the right (ACL)",
        ),
        _ => Failure::unavailable(format!("Kafka at {servers}: {error}"), "see the broker's log"),
    }
}

/// Creates the topic with the broker's default number of replicas. An existing topic is not an
/// error.
///
/// # Errors
/// Returns an error if the cluster does not answer, or refuses.
pub async fn create(place: &Kafka, partitions: i32) -> Result<(), Failure> {
    let topic = place.topic()?;
    let config = place.cluster()?.client(&[], &[]);
    let admin: AdminClient<Logging> = config
        .create_with_context(Logging)
        .map_err(|error| Failure::config(connect::kafka::creation_error(&error), "correct the option"))?;
    let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let options =
        AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT)).request_timeout(Some(ANSWER_TIMEOUT));
    let answers = admin.create_topics([&wanted], &options).await.map_err(|error| failure(place, &error))?;
    match answers.into_iter().next() {
        Some(Err((name, Code::TopicAlreadyExists))) => {
            tracing::debug!(topic = name, "Topic exists already");
            Ok(())
        }
        Some(Err((name, code))) => Err(Failure::unavailable(
            format!("Kafka does not create topic {name}: {code}"),
            "create it with another tool, or give this user the right to create topics",
        )),
        _ => Ok(()),
    }
}

/// A partition: the commit of the client's group, and the bounds of the log.
pub struct Position {
    pub topic: String,
    pub partition: i32,
    /// `None` if the group has committed nothing.
    pub committed: Option<i64>,
    pub metadata: String,
    /// The first offset and the end.
    pub bounds: Result<(i64, i64), KafkaError>,
}

/// Returns all partitions of the topics.
pub fn partitions_of(all: &Metadata, is_wanted: impl Fn(&str) -> bool) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for topic in all.topics().iter().filter(|topic| is_wanted(topic.name())) {
        for partition in topic.partitions() {
            list.add_partition(topic.name(), partition.id());
        }
    }
    list
}

/// Returns the position of the client's group in each of these partitions. It blocks the thread.
///
/// # Errors
/// Returns an error if the cluster does not tell the commits.
pub fn positions(client: &Client, partitions: TopicPartitionList) -> Result<Vec<Position>, KafkaError> {
    let committed = client.committed_offsets(partitions, ANSWER_TIMEOUT)?;
    let position = |element: TopicPartitionListElem<'_>| {
        let (topic, partition) = (element.topic().to_owned(), element.partition());
        let bounds = client.fetch_watermarks(&topic, partition, ANSWER_TIMEOUT);
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Position { topic, partition, committed, metadata: element.metadata().to_owned(), bounds }
    };
    Ok(committed.elements().into_iter().map(position).collect())
}

/// Counts the records that a group has not committed yet.
#[derive(Clone)]
pub struct Lag {
    /// The client of the latest count that succeeded. After a failure the next count makes another
    /// one, which reads the options again: a password in a file may have changed.
    client: Arc<Mutex<Option<Client>>>,
    place: Kafka,
    group: String,
}

impl Lag {
    /// # Errors
    /// Returns an error if an option is wrong.
    pub fn of(place: &Kafka, group: &str) -> Result<Self, Failure> {
        let client = client(place, group)?;
        let (place, group) = (place.clone(), group.to_owned());
        Ok(Lag { client: Arc::new(Mutex::new(Some(client))), place, group })
    }

    /// Returns the number of offsets in all partitions of the topic that the group has not
    /// committed. The questions block a thread of their own.
    ///
    /// # Errors
    /// Returns an error if the cluster does not answer, or refuses.
    pub async fn count(&self) -> Result<u64, Failure> {
        let lag = self.clone();
        let counting = tokio::task::spawn_blocking(move || lag.count_blocking());
        let ended = counting.await;
        ended.unwrap_or_else(|error| Err(Failure::unavailable(error.to_string(), "report this as a bug")))
    }

    fn count_blocking(&self) -> Result<u64, Failure> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match kept.take() {
            Some(client) => client,
            None => client(&self.place, &self.group)?,
        };
        let lag = lag(&client, &self.place)?;
        *kept = Some(client);
        Ok(lag)
    }
}

fn lag(client: &Client, place: &Kafka) -> Result<u64, Failure> {
    let topic = place.topic()?;
    let all = metadata(client, place)?;
    let partitions = partitions_of(&all, |name| name == topic);
    let mut lag = 0;
    for position in positions(client, partitions).map_err(|error| failure(place, &error))? {
        let (low, end) = position.bounds.map_err(|error| failure(place, &error))?;
        let from = position.committed.map_or(low, |offset| offset.max(low));
        lag += u64::try_from(end - from).unwrap_or(0);
    }
    Ok(lag)
}
