//! Compares the file descriptors that the configuration needs with the limit of the process.
//!
//! Every running request, broker connection and admin connection takes one descriptor. Without a
//! free descriptor a request does not start, a probe gets no answer and a lost broker connection
//! does not come back. So the soft limit, often 1,024, is raised to the hard limit at the start,
//! and a configuration that needs more is refused.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::BuildError;
use crate::admin;
use crate::config::Config;

/// Descriptors for the runtime, the log, files that are read again, and name lookups.
const BASE: u64 = 128;

/// Descriptors for a pipeline's connections to its brokers. A Kafka client has a connection and two
/// pipes for each broker.
const PER_PIPELINE: u64 = 64;

/// Descriptors for first questions to other replicas about redelivered items.
const QUESTIONS: u64 = 256;

/// Descriptors of the intake beside its requests: probes, and the connections to the broker.
const INTAKE: u64 = 64;

/// The largest number of connections from other replicas. Each may wait for an item that runs here.
const KNOWN_MAX: u64 = 4096;

/// Returns the number of admin connections of other replicas and operators.
pub(super) fn known_connections(config: &Config) -> usize {
    let wanted = if config.peers.is_some() { 2 * in_flight(config) } else { 0 };
    usize::try_from(wanted.clamp(16, KNOWN_MAX)).unwrap_or(usize::MAX)
}

/// Returns the largest number of descriptors that the configuration needs.
pub fn needed(config: &Config) -> u64 {
    let admin = if config.admin.listen.is_some() { admin::STRANGERS + known_connections(config) } else { 0 };
    // An item that runs at another replica has a question open, and no request.
    let questions = if config.peers.is_some() { QUESTIONS } else { 0 };
    let pipelines = PER_PIPELINE * config.pipelines.len() as u64;
    let intake = config.intake.as_ref().map_or(0, |intake| u64::from(intake.window) + INTAKE);
    BASE + intake + pipelines + in_flight(config) + admin as u64 + questions
}

/// Raises the soft limit to the hard limit. Returns the new limit, or `None` without a limit.
pub fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => return maximum,
            Err(error) => {
                tracing::warn!(%error, limit = current, "The limit of open files could not be raised")
            }
        }
    }
    current
}

/// # Errors
/// Returns an error if the configuration needs more descriptors than the process may have.
pub(super) fn check(config: &Config, limit: Option<u64>) -> Result<(), BuildError> {
    let needed = needed(config);
    match limit {
        Some(limit) if limit < needed => Err(BuildError::unavailable(
            format!(
                "max_in_flight of all pipelines is {}, which needs {needed} open files, and this process may have {limit}",
                in_flight(config)
            ),
            "lower max_in_flight, or raise the hard limit of open files (`ulimit -Hn`, LimitNOFILE=, or the container runtime's)",
        )),
        _ => Ok(()),
    }
}

fn in_flight(config: &Config) -> u64 {
    config.pipelines.iter().map(|pipeline| u64::from(pipeline.max_in_flight)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Features, load};

    fn config(max_in_flight: u32, more: &str) -> Config {
        let text = format!(
            "pipelines:\n- {{ name: a, source: {{ rabbitmq: {{ url: amqp://mq, queue: q }} }}, sink: {{ url: http://s }}, max_in_flight: {max_in_flight} }}\n{more}"
        );
        load("f", &text, Features::BUILD, &|_| None).unwrap().config
    }

    #[test]
    fn every_request_and_every_connection_is_counted() {
        assert_eq!(needed(&config(20, "")), BASE + PER_PIPELINE + 20);
        let admin = "admin: { listen: '127.0.0.1:0', token: t }\n";
        assert_eq!(needed(&config(20, admin)), BASE + PER_PIPELINE + 20 + 64 + 16);
        let peers = format!("{admin}peers: {{ dns: 'a:1' }}\n");
        assert_eq!(needed(&config(20, &peers)), BASE + PER_PIPELINE + 20 + 64 + 40 + QUESTIONS);
        assert_eq!(known_connections(&config(10_000, &peers)), 4096);
    }

    #[test]
    fn a_configuration_that_does_not_fit_is_refused_with_both_numbers() {
        let config = config(2000, "");
        assert!(check(&config, None).is_ok() && check(&config, Some(4096)).is_ok());
        let error = check(&config, Some(1024)).unwrap_err();
        let expected = "max_in_flight of all pipelines is 2000, which needs 2192 open files, and this process may have 1024";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_limit(), hard);
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
