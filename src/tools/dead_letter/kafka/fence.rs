//! Keeps a second command away from the letters that this one handles.
//!
//! Two commands that handle the letters of one group would bring every letter back twice. So a
//! command joins the group, and is its only member. A second command sees that member and refuses
//! to start. If the first one loses its membership, for example because it was stopped for a while,
//! the group takes none of its commits any more, and it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::bindings::rd_kafka_resp_err_t as Response;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::connect;
use crate::connect::kafka::raw::Question;
use crate::tools::Failure;
use crate::tools::kafka::failure;
use crate::tools::place::Kafka;

/// The group forgets a command that was killed after this time.
const SESSION: Duration = Duration::from_secs(10);
/// How long a member of the group is waited for: it may belong to a command that was killed.
const PATIENCE: Duration = Duration::from_secs(12);
/// The longest wait for the group to take this command.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait for one answer about the members.
const ANSWER: Duration = Duration::from_secs(5);
const NAP: Duration = Duration::from_millis(100);

/// The only member of a group.
pub struct Fence {
    member: BaseConsumer<Sole>,
}

/// A member that reads nothing.
#[derive(Default)]
struct Sole {
    has_joined: AtomicBool,
}

impl Fence {
    /// Joins the group of the topic's letters. Blocks.
    ///
    /// # Errors
    /// Returns an error if the group has another member, or does not take this one.
    pub fn join(place: &Kafka, topic: &str, group: &str) -> Result<Self, Failure> {
        let owned = [
            ("group.id", group.to_owned()),
            ("session.timeout.ms", SESSION.as_millis().to_string()),
            ("heartbeat.interval.ms", "1000".to_owned()),
            // One letter may be written for a long time.
            ("max.poll.interval.ms", "86400000".to_owned()),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("allow.auto.create.topics", "false".to_owned()),
        ];
        let member = place.cluster()?.client(&[], &owned).create_with_context(Sole::default());
        let member: BaseConsumer<Sole> = member
            .map_err(|error| Failure::config(connect::kafka::creation_error(&error), "correct the option"))?;
        let fence = Fence { member };
        fence.wait_for_an_empty_group(group)?;
        fence.member.subscribe(&[topic]).map_err(|error| failure(place, &error))?;
        let joined_by = Instant::now() + JOIN_TIMEOUT;
        while !fence.member.context().has_joined.load(Ordering::Relaxed) {
            if let Some(Err(error)) = fence.member.poll(NAP) {
                tracing::debug!(%error, group, "The group has not taken this command yet");
            }
            if Instant::now() >= joined_by {
                return Err(Failure::unavailable(
                    format!("the group {group} does not take this command within {JOIN_TIMEOUT:?}"),
                    "see whether the coordinator of the group is up, and whether this user may Read the group",
                ));
            }
        }
        // Two commands that start at the same time see each other here, and both refuse.
        match fence.members(group) {
            Some(members) if members > 1 => Err(refused(group)),
            _ => Ok(fence),
        }
    }

    fn wait_for_an_empty_group(&self, group: &str) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        let mut is_told = false;
        while self.members(group).is_some_and(|members| members > 0) {
            if Instant::now() >= until {
                return Err(refused(group));
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!(group, "The group has a member; waiting in case that it was killed");
            }
            sleep(NAP * 5);
        }
        Ok(())
    }

    /// Returns the number of members, or `None` if the broker does not tell it.
    fn members(&self, group: &str) -> Option<usize> {
        let mut question = Question::new(self.member.client())?;
        question.ask_members(&self.member, group, ANSWER);
        question.members(ANSWER)
    }

    /// Commits as the member.
    ///
    /// # Errors
    /// Returns an error if the broker refuses the commit, as it does after the membership is lost.
    pub fn commit(&self, list: &TopicPartitionList) -> Result<(), KafkaError> {
        while self.member.poll(Duration::ZERO).is_some() {}
        self.member.commit(list, CommitMode::Sync)
    }
}

fn refused(group: &str) -> Failure {
    Failure::unavailable(
        format!("the group {group} has another member: another redrive or purge of these letters runs"),
        "wait for its end, or name another group with --group; the letters that it has handled count for its group only",
    )
}

impl ConsumerContext for Sole {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: Response, _: &mut TopicPartitionList) {
        let is_assigned = what == Response::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        // The letters are read by another client.
        let answered =
            if is_assigned { consumer.assign(&TopicPartitionList::new()) } else { consumer.unassign() };
        if let Err(error) = answered {
            tracing::debug!(%error, "Could not answer a rebalance");
        }
        self.has_joined.fetch_or(is_assigned, Ordering::Relaxed);
    }
}

impl ClientContext for Sole {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        connect::kafka::log(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka client reports an error");
    }
}
