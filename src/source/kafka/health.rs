//! Whether the cluster can be reached, and which errors no waiting will mend.

use std::collections::HashSet;

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::source::SourceError;

/// Distinct error texts remembered so that each is told once.
const TOLD: usize = 64;

#[derive(Default)]
pub struct Health {
    reachable: Option<bool>,
    /// librdkafka's last words on a connection that failed.
    reason: String,
    /// The group has given us something once, so credentials and permissions were right.
    established: bool,
    told: HashSet<String>,
}

impl Health {
    pub fn is_reachable(&self) -> bool {
        self.reachable != Some(false)
    }

    /// Takes note of whether a broker connection is up; true when that is news.
    pub fn set_reachable(&mut self, reachable: bool) -> bool {
        if self.reachable == Some(reachable) {
            return false;
        }
        if reachable {
            tracing::info!("connected to kafka");
        } else {
            let reason = if self.reason.is_empty() { "no answer yet" } else { &self.reason };
            tracing::warn!(error = reason, "kafka can't be reached, trying again until it can");
        }
        self.reachable = Some(reachable);
        true
    }

    /// The group assigned partitions, or none: it works.
    pub fn established(&mut self) {
        self.established = true;
    }

    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Takes note of an error that librdkafka goes on after by itself.
    ///
    /// # Errors
    /// When it never got anywhere and waiting will not help: then a person has to act.
    pub fn failed(&mut self, code: Code, reason: String) -> Result<(), SourceError> {
        if let Some(hint) = refusal_hint(code).filter(|_| !self.established) {
            return Err(SourceError { what: reason, hint: hint.to_owned() });
        }
        match code {
            Code::AllBrokersDown => {}
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                tracing::debug!(error = %reason, "kafka connection failed");
                self.reason = reason;
            }
            _ if self.told.contains(&reason) => {}
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                tracing::warn!(error = %reason,
                    "topic is missing and waited for; create it, or correct source.kafka.topics");
                self.remember(reason);
            }
            _ => {
                tracing::warn!(error = %reason, code = ?code, "kafka reports an error");
                self.remember(reason);
            }
        }
        Ok(())
    }

    fn remember(&mut self, reason: String) {
        if self.told.len() < TOLD {
            self.told.insert(reason);
        }
    }
}

/// The consumer can't go on: what to do about it.
pub fn fatal(code: Code, reason: String) -> SourceError {
    let hint = match code {
        Code::FencedInstanceId => {
            "another member of the group runs with the same instance_id; give each replica its own, such as \
             the pod name of a StatefulSet"
        }
        _ => "the consumer can't go on after this error; restart longhaul",
    };
    SourceError { what: reason, hint: hint.to_owned() }
}

/// What mends a refusal, or nothing where it may pass by itself.
fn refusal_hint(code: Code) -> Option<&'static str> {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            Some("correct sasl.mechanism, sasl.username and sasl.password in source.kafka.options")
        }
        Code::TopicAuthorizationFailed => {
            Some("allow this user to Read and Describe the topics of source.kafka.topics")
        }
        Code::GroupAuthorizationFailed => Some("allow this user to Read the group of source.kafka.group"),
        Code::ClusterAuthorizationFailed => Some("allow this user to use the cluster"),
        Code::InvalidGroupId => Some("correct source.kafka.group"),
        Code::InvalidSessionTimeout => Some(
            "bring source.kafka.session_timeout within the broker's group.min.session.timeout.ms and \
             group.max.session.timeout.ms",
        ),
        Code::InconsistentGroupProtocol => Some(
            "all members of the group must use cooperative-sticky assignment; stop the others, or choose \
             another source.kafka.group",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_end_it_only_before_anything_worked() {
        let mut health = Health::default();
        let error = health.failed(Code::Authentication, "invalid password".into()).unwrap_err();
        assert!(error.what.contains("invalid password") && error.hint.contains("sasl.password"));
        health.established();
        assert!(health.failed(Code::Authentication, "invalid password".into()).is_ok());
    }

    #[test]
    fn what_may_pass_never_ends_it() {
        let mut health = Health::default();
        for code in [Code::AllBrokersDown, Code::Resolve, Code::UnknownTopicOrPartition, Code::NotCoordinator]
        {
            assert!(health.failed(code, "x".into()).is_ok());
        }
    }

    #[test]
    fn tells_changes_only() {
        let mut health = Health::default();
        assert!(health.set_reachable(false) && !health.set_reachable(false));
        assert!(health.set_reachable(true) && !health.set_reachable(true));
    }
}
