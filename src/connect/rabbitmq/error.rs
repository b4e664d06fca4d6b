//! What can go wrong with a broker, and what waiting does not mend.

use std::path::PathBuf;
use std::time::Duration;

use lapin::ErrorKind;

/// Why a connection, or something on it, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the URL cannot be put together: {0}")]
    Secret(String),
    #[error("the URL is not an AMQP URI")]
    Uri,
    #[error("cannot read {path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the broker did not answer {0} within {1:?}")]
    Silent(&'static str, Duration),
    #[error("the broker cancelled the consumer (was the queue deleted?)")]
    Cancelled,
    #[error("the broker closed the channel (was an item unacked for longer than its consumer_timeout?)")]
    Closed,
    #[error(
        "x-delivery-limit is negative, and the server is RabbitMQ {0}, which drops every item of such a queue at its first return"
    )]
    Unlimited(String),
    #[error(transparent)]
    TooLong(#[from] super::table::TooLong),
    #[error("{}", words(.0))]
    Amqp(#[from] lapin::Error),
}

/// A fault that a person has to mend: it is the configuration's or the broker's, not the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to do about it.
    pub hint: &'static str,
}

impl Error {
    /// AMQP's reply code, where the broker sent one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Amqp(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => Some(error.get_id()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the broker sent something that lapin cannot read: a property or a header's name that is not UTF-8. The
    /// connection is lost with it, and so is the next one that meets the same message.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Error::Amqp(error) if matches!(error.kind(), ErrorKind::ParsingError(_)))
    }

    /// Whether trying again with the same configuration is likely to fail again.
    ///
    /// Likely only: 403 also means that an authentication backend is away, and 530 that a connection limit is
    /// reached. So it counts before the first session and never after it.
    pub fn refusal(&self) -> Option<Refusal> {
        let hint = match (self, self.code()) {
            (Error::Secret(_), _) => "check the file or variable that the url names",
            (Error::Uri, _) => {
                "write it as amqp://user:password@host:5672/vhost, special characters percent-encoded"
            }
            (Error::File { .. }, _) => "check the paths under tls",
            (Error::Unlimited(_), _) => {
                "write a large number such as 1000000; -1 is no limit from RabbitMQ 4.0 on only"
            }
            (_, Some(403)) if self.to_string().contains("ogin") => "check user name and password in the URL",
            (_, Some(403)) => {
                "give the user of the URL permission for this queue (rabbitmqctl set_permissions)"
            }
            (_, Some(530)) => {
                "check the virtual host in the URL (/%2f or nothing is the default one, / alone is none) and the user's right to it"
            }
            (_, Some(406)) => "make declare agree with the existing queue, or leave it out",
            _ => return None,
        };
        Some(Refusal { hint })
    }
}

/// The broker's own words, without lapin's frame around them.
fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => format!("{} ({})", error.get_message(), error.get_id()),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::ParsingError(_) => {
            "a message has a property or a header name that is not UTF-8".to_owned()
        }
        _ => error.to_string(),
    }
}
