//! The reason why a command cannot go on, with the help.

/// The reason, and the next step of the person at the terminal.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    pub kind: FailureKind,
    pub what: String,
    pub help: String,
}

/// The part that has to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The command line, or an input that it names.
    Usage,
    /// A broker, a server or a file of this machine.
    Unavailable,
    /// The configuration file.
    Config,
}

impl Failure {
    pub fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Usage, what: what.into(), help: help.into() }
    }

    pub fn unavailable(what: impl Into<String>, help: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Unavailable, what: what.into(), help: help.into() }
    }

    pub fn config(what: impl Into<String>, help: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Config, what: what.into(), help: help.into() }
    }
}
