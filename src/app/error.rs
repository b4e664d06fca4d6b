//! The reasons why the bridge cannot be built from its configuration.

use std::fmt::Display;
use std::io;

use crate::telemetry::traces::TracesError;

/// A part that cannot be built, and the help.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct BuildError {
    kind: BuildErrorKind,
    reason: String,
    help: String,
}

/// The place of the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildErrorKind {
    /// The configuration must change.
    Config,
    /// The machine does not provide a resource of the configuration, such as a port.
    Unavailable,
}

impl BuildError {
    pub(super) fn config(pipeline: &str, reason: impl Display, help: &str) -> Self {
        Self::whole(format!("pipeline {pipeline}: {reason}"), help)
    }

    /// Returns the error of a part that does not belong to a pipeline.
    pub(super) fn whole(reason: impl Display, help: &str) -> Self {
        BuildError { kind: BuildErrorKind::Config, reason: reason.to_string(), help: help.to_owned() }
    }

    /// Returns the error of a resource that the machine does not provide.
    pub(super) fn unavailable(reason: impl Display, help: &str) -> Self {
        BuildError { kind: BuildErrorKind::Unavailable, reason: reason.to_string(), help: help.to_owned() }
    }

    pub(super) fn traces(error: &TracesError) -> Self {
        Self::whole(error, error.help)
    }

    pub(super) fn listen(key: &str, address: &str, error: io::Error) -> Self {
        BuildError {
            kind: BuildErrorKind::Unavailable,
            reason: format!("{key}: {address} cannot be bound: {error}"),
            help: "choose a free port, or end the program that has it".to_owned(),
        }
    }

    pub fn kind(&self) -> BuildErrorKind {
        self.kind
    }

    pub fn hint(&self) -> &str {
        &self.help
    }
}
