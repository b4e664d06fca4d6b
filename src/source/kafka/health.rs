//! Watches whether the cluster can be reached and the group has admitted this member, and explains
//! why not.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;

use super::thread::Worker;
use crate::source::SourceEvent;
use crate::telemetry::{Problem, ProblemKind};

/// The most error texts that are remembered, so that each is logged once.
const TOLD: usize = 64;
/// A join that takes longer is a problem. A problem must be visible within 10 s.
const JOIN: Duration = Duration::from_secs(8);
/// A cluster that answers no question for this long is a problem, even if its connections are open.
const SILENCE: Duration = Duration::from_secs(4);
/// How long the group must be steady after a refusal before the refusal counts as over.
const QUIET: Duration = Duration::from_secs(5);

const UNREACHABLE_HELP: &str = "see whether the brokers are up, and whether source.kafka.bootstrap_servers and security.protocol are right for that port";

pub struct Health {
    reachable: Option<bool>,
    /// librdkafka's last text about a failed connection.
    reason: String,
    /// The state of the join, in librdkafka's words.
    join: String,
    /// The time since which the group is not steady; `None` while it is.
    unsteady_since: Option<Instant>,
    /// The first question since the last answer of a broker.
    asked_at: Option<Instant>,
    /// The number of answers of all brokers.
    answers: u64,
    /// The last refusal of the whole source.
    refused_at: Option<Instant>,
    commit_error: Option<Code>,
    told: HashSet<String>,
}

/// The parts of librdkafka's statistics that are read. Only they show that a broker is back.
#[derive(serde::Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    cgrp: Group,
}

#[derive(serde::Deserialize)]
struct Broker {
    state: String,
    /// The number of its answers.
    #[serde(default)]
    rx: u64,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Group {
    state: String,
    join_state: String,
}

impl Health {
    pub fn new(now: Instant) -> Self {
        Health {
            reachable: None,
            reason: String::new(),
            join: "init".to_owned(),
            unsteady_since: Some(now),
            asked_at: None,
            answers: 0,
            refused_at: None,
            commit_error: None,
            told: HashSet::new(),
        }
    }

    pub fn is_reachable(&self) -> bool {
        self.reachable != Some(false)
    }

    /// Records whether a broker connection is up. Returns whether that changed.
    pub fn set_reachable(&mut self, reachable: bool) -> bool {
        if self.reachable == Some(reachable) {
            return false;
        }
        if reachable {
            tracing::info!("Connected to kafka");
        } else {
            tracing::warn!(error = self.last_error(), "Kafka can't be reached, trying again until it can");
        }
        self.reachable = Some(reachable);
        true
    }

    /// Records that a broker was asked. It is asked every few seconds.
    pub fn asked(&mut self, now: Instant) {
        self.asked_at.get_or_insert(now);
    }

    /// Whether no broker has answered for too long. A broker that accepts connections and is
    /// stopped, or overloaded, is up for librdkafka until a request times out after a minute.
    fn is_silent(&self, now: Instant) -> bool {
        self.asked_at.is_some_and(|at| now.saturating_duration_since(at) >= SILENCE)
    }

    /// Whether the group has admitted this member.
    pub fn is_established(&self) -> bool {
        self.unsteady_since.is_none()
    }

    pub fn commit_error(&mut self, code: Code) {
        self.commit_error = Some(code);
    }

    pub fn last_commit_error(&self) -> String {
        self.commit_error.map_or_else(|| "no answer".to_owned(), |code| code.to_string())
    }

    fn last_error(&self) -> &str {
        if self.reason.is_empty() { "no answer yet" } else { &self.reason }
    }

    /// Reads librdkafka's statistics. Returns whether a broker is up, or `None` if they are
    /// unreadable.
    fn statistics(&mut self, json: &[u8], now: Instant) -> Option<bool> {
        let read: Statistics = match serde_json::from_slice(json) {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "The statistics of librdkafka are unreadable");
                return None;
            }
        };
        let answers = read.brokers.values().map(|broker| broker.rx).sum();
        if answers != self.answers {
            self.answers = answers;
            self.asked_at = None;
        }
        if read.cgrp.join_state == "steady" && read.cgrp.state == "up" {
            self.unsteady_since = None;
        } else {
            self.unsteady_since.get_or_insert(now);
            self.join = format!("{}, {}", read.cgrp.state, read.cgrp.join_state);
        }
        Some(read.brokers.values().any(|broker| broker.state == "UP"))
    }

    fn log_once(&mut self, code: Code, reason: &str) {
        match code {
            Code::AllBrokersDown => {}
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                tracing::debug!(error = reason, "Kafka connection failed");
            }
            _ if self.told.contains(reason) => {}
            _ => {
                tracing::warn!(error = reason, ?code, "Kafka reports an error");
                if self.told.len() < TOLD {
                    self.told.insert(reason.to_owned());
                }
            }
        }
    }
}

impl Worker {
    pub fn set_reachable(&mut self, reachable: bool) {
        if self.health.set_reachable(reachable) {
            self.send(SourceEvent::Connected(reachable));
        }
    }

    pub fn statistics(&mut self, json: &[u8], now: Instant) {
        if let Some(reachable) = self.health.statistics(json, now) {
            self.set_reachable(reachable && !self.health.is_silent(now));
        }
        self.look_at_group(now);
    }

    /// Handles an error that librdkafka recovers from by itself.
    pub fn failed(&mut self, code: Code, reason: &str, now: Instant) {
        self.health.log_once(code, reason);
        match code {
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownTopicId
            | Code::UnknownPartition
            | Code::OffsetOutOfRange
            | Code::AutoOffsetReset
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch => self.topics.hurry(now),
            Code::AllBrokersDown => {}
            _ => self.health.reason = reason.to_owned(),
        }
        if matches!(code, Code::Authentication | Code::SaslAuthenticationFailed) {
            self.read_credentials_again();
        }
        if let Some(help) = refusal_help(code) {
            self.health.refused_at = Some(now);
            let group = self.settings.group.clone();
            self.problem(ProblemKind::SourceRefused, &group, reason.to_owned(), help);
        }
    }

    /// Reports a group that does not admit us, or a cluster that does not answer.
    pub fn look_at_group(&mut self, now: Instant) {
        let group = self.settings.group.clone();
        let servers = self.settings.cluster.bootstrap_servers.join(",");
        if self.health.is_silent(now) && self.stopped_at.is_none() {
            let error = self.health.last_error();
            let text = format!("no broker of {servers} answers: {error}");
            return self.problem(ProblemKind::SourceUnreachable, &servers, text, UNREACHABLE_HELP);
        }
        let Some(since) = self.health.unsteady_since else {
            self.solved(ProblemKind::GroupNotJoined, &group);
            self.solved(ProblemKind::SourceUnreachable, &servers);
            if self.health.refused_at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET) {
                self.solved(ProblemKind::SourceRefused, &group);
            }
            return;
        };
        // A draining source has left the group, or takes nothing.
        if now.saturating_duration_since(since) < JOIN || self.stopped_at.is_some() {
            return;
        }
        let error = self.health.last_error().to_owned();
        if !self.health.is_reachable() || self.health.reachable.is_none() {
            let text = format!("no broker of {servers} answers: {error}");
            return self.problem(ProblemKind::SourceUnreachable, &servers, text, UNREACHABLE_HELP);
        }
        self.solved(ProblemKind::SourceUnreachable, &servers);
        // A group cannot be joined for topics that do not exist.
        if self.has_problem(ProblemKind::SourceMissing) && self.sessions.is_empty() {
            return self.solved(ProblemKind::GroupNotJoined, &group);
        }
        let text = format!(
            "the group {group} has not admitted this member for more than {} s (state {}; last error: {error})",
            JOIN.as_secs(),
            self.health.join
        );
        let help = "see whether the group's coordinator is up, other members answer, security.protocol fits the port, and this user may Read the group";
        self.problem(ProblemKind::GroupNotJoined, &group, text, help);
    }

    /// Reports a problem, unless the same words were already reported.
    pub fn problem(&mut self, kind: ProblemKind, subject: &str, text: String, help: &str) {
        let known = self.problems.entry((kind, subject.to_owned()));
        let is_new = match &known {
            std::collections::hash_map::Entry::Occupied(known) => *known.get() != text,
            std::collections::hash_map::Entry::Vacant(_) => true,
        };
        if is_new {
            known.insert_entry(text.clone());
            let (subject, help) = (subject.to_owned(), help.to_owned());
            self.send(SourceEvent::Problem(Problem { kind, subject, text, help }));
        }
    }

    pub fn solved(&mut self, kind: ProblemKind, subject: &str) {
        if self.problems.remove(&(kind, subject.to_owned())).is_some() {
            self.send(SourceEvent::Solved { kind, subject: subject.to_owned() });
        }
    }

    fn has_problem(&self, kind: ProblemKind) -> bool {
        self.problems.keys().any(|(known, _)| *known == kind)
    }
}

/// Returns the help for a refusal; `None` for an error that may pass without help.
fn refusal_help(code: Code) -> Option<&'static str> {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            Some("correct sasl.mechanism, sasl.username and sasl.password in source.kafka.options")
        }
        Code::SSL => Some(
            "see whether ssl.ca.location names the authority of the brokers' certificates, and whether these are in date and name the host of bootstrap_servers",
        ),
        Code::GroupAuthorizationFailed => Some("allow this user to Read the group of source.kafka.group"),
        Code::ClusterAuthorizationFailed => Some("allow this user to use the cluster"),
        Code::InvalidGroupId => Some("correct source.kafka.group"),
        Code::InvalidSessionTimeout => Some(
            "bring source.kafka.session_timeout within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
        ),
        Code::InconsistentGroupProtocol => Some(
            "all members of the group must use cooperative-sticky assignment; stop the others, or choose another source.kafka.group",
        ),
        Code::FencedInstanceId => Some(
            "another member of the group runs with the same instance_id; give each replica its own, such as the pod name of a StatefulSet",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(state: &str, join: &str, broker: &str) -> Vec<u8> {
        format!(r#"{{"brokers":{{"a":{{"state":"{broker}"}}}},"cgrp":{{"state":"{state}","join_state":"{join}"}}}}"#)
            .into_bytes()
    }

    #[test]
    fn changes_are_reported_once() {
        let mut health = Health::new(Instant::now());
        assert!(health.set_reachable(false) && !health.set_reachable(false));
        assert!(health.set_reachable(true) && !health.set_reachable(true));
    }

    #[test]
    fn silence_begins_with_the_first_question_without_an_answer() {
        let start = Instant::now();
        let second = |number: u64| start + Duration::from_secs(number);
        let mut health = Health::new(start);
        assert!(!health.is_silent(second(60)));
        health.asked(second(60));
        health.asked(second(65));
        assert!(!health.is_silent(second(63)) && health.is_silent(second(64)));
        let answered = br#"{"brokers":{"a":{"state":"UP","rx":7}}}"#;
        health.statistics(answered, second(66));
        assert!(!health.is_silent(second(67)));
        health.asked(second(67));
        health.statistics(answered, second(72));
        assert!(health.is_silent(second(72)));
    }

    #[test]
    fn a_group_is_steady_only_when_its_coordinator_is_up() {
        let now = Instant::now();
        let mut health = Health::new(now);
        assert_eq!(health.statistics(&statistics("up", "wait-join", "UP"), now), Some(true));
        assert!(!health.is_established());
        assert_eq!(health.statistics(&statistics("up", "steady", "DOWN"), now), Some(false));
        assert!(health.is_established());
        health.statistics(&statistics("wait-coord", "steady", "UP"), now);
        assert!(!health.is_established());
        assert_eq!(health.statistics(b"{", now), None);
    }
}
