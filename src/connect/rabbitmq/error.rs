//! The faults of a connection to a broker, and the help for each.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lapin::ErrorKind;

use crate::telemetry::ProblemKind;

/// The reason why a connection, or an operation on it, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the URL cannot be built: {0}")]
    Secret(String),
    #[error("the URL is not an AMQP URI")]
    Uri,
    #[error("cannot read {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("the broker did not answer {0} within {1:?}")]
    Silent(&'static str, Duration),
    #[error("the broker cancelled the consumer (was the queue deleted, or an item unacked for too long?)")]
    Cancelled,
    #[error("the broker closed the channel (was an item unacked for longer than its consumer_timeout?)")]
    Closed,
    #[error(
        "x-delivery-limit is negative, and the server is RabbitMQ {0}, which drops every item of such a queue at its first return"
    )]
    Unlimited(String),
    #[error("{0} is a stream, which keeps its messages after an ack and counts no deliveries")]
    Stream(String),
    #[error(transparent)]
    TooLong(#[from] super::table::TooLong),
    #[error("{}", words(.0))]
    Amqp(#[from] lapin::Error),
}

/// The class of a fault, and the help for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: ProblemKind,
    pub help: &'static str,
}

impl Error {
    /// Returns AMQP's reply code, if the broker sent one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Amqp(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => Some(error.get_id()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns whether the broker sent bytes that lapin cannot read. The
    /// [`readable`](super::readable) stream leaves no known message that does this.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Error::Amqp(error) if matches!(error.kind(), ErrorKind::ParsingError(_)))
    }

    /// Returns whether only a change of the configuration file helps. Other faults may pass, or can
    /// be fixed at the broker.
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Unlimited(_) | Error::TooLong(_))
    }

    /// Returns the class of the problem and the help.
    pub fn refusal(&self) -> Refusal {
        use ProblemKind::{Configuration, SourceMissing, SourceRefused, SourceUnreachable, Undecodable};
        let text = self.to_string();
        let (kind, help) = match (self, self.code()) {
            (Error::Secret(_), _) => (Configuration, "check the file or variable that the url names"),
            (Error::Uri, _) => (
                Configuration,
                "write it as amqp://user:password@host:5672/vhost, special characters percent-encoded",
            ),
            (Error::File { .. }, _) => (Configuration, "check the paths under tls"),
            (Error::Tls(_), _) => (
                SourceUnreachable,
                "check tls.ca_file, and that the server's certificate is for the host of the URL",
            ),
            (Error::Protocol(_), _) => (SourceUnreachable, "check scheme and port of the URL"),
            (Error::TooLong(_), _) => (Configuration, "write a shorter name"),
            (Error::Unlimited(_), _) => (
                Configuration,
                "write a large number such as 1000000; -1 means no limit only from RabbitMQ 4.0 on",
            ),
            (Error::Stream(_), _) => {
                (SourceRefused, "consume a quorum or classic queue that is bound to the same exchange")
            }
            (_, Some(404)) => {
                (SourceMissing, "create it, or let longhaul do it with source.rabbitmq.declare")
            }
            (_, Some(403)) if text.contains("exclusive") => (
                SourceRefused,
                "stop the consumer with exclusive use of the queue; longhaul continues when it is gone",
            ),
            (_, Some(403)) if text.contains("ogin") => {
                (SourceRefused, "check user name and password in the URL, and that the user exists")
            }
            (_, Some(403)) => {
                (SourceRefused, "give the user of the URL permission for it (rabbitmqctl set_permissions)")
            }
            (_, Some(405)) => (
                SourceRefused,
                "the queue is exclusive to another connection; delete it there, or name another queue",
            ),
            (_, Some(530)) if text.contains("limit") => (
                SourceRefused,
                "close connections, or raise the limit (rabbitmqctl set_user_limits, set_vhost_limits)",
            ),
            (_, Some(530)) => (
                SourceRefused,
                "check the virtual host in the URL (/%2f or no path is the default one, / alone is an empty name) and the user's permission for it",
            ),
            (_, Some(406)) => (SourceRefused, "make declare agree with the existing queue, or leave it out"),
            _ if self.is_unreadable() => {
                (Undecodable, "take the first messages out of the queue with another client")
            }
            _ => {
                (SourceUnreachable, "check that the broker runs and that the network lets this host reach it")
            }
        };
        Refusal { kind, help }
    }
}

/// Returns the broker's own words, without lapin's text around them.
fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => format!("{} ({})", error.get_message(), error.get_id()),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::ParsingError(_) => "the broker sent bytes that are not AMQP 0-9-1".to_owned(),
        _ => error.to_string(),
    }
}
