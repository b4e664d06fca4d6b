//! The error of a command: the problem and the user's next step.

/// A problem that ends a command, with the user's next step in `help`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    pub kind: FailureKind,
    pub what: String,
    pub help: String,
}

/// Where the cause of the failure lies. The exit code depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The command line, or an input that it names.
    Usage,
    /// A broker, a server or a resource of this machine, such as a file.
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
