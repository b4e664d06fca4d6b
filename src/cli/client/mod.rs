//! The commands' side of the admin API.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::exit;
use crate::view::PipelineList;

mod http;

pub use http::Client;

/// How the bridge is reached.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Server {
    /// The bridge's admin server.
    #[arg(long, env = "LONGHAUL_URL", default_value = "http://127.0.0.1:9090", value_name = "URL")]
    pub url: String,
    /// The token of `admin.token`, or of `admin.read_token` to look only.
    #[arg(long, env = "LONGHAUL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The certificate authority of `admin.tls`, as a PEM file.
    #[arg(long, env = "LONGHAUL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// The same, for commands that can print the answer of the API as it is.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    #[command(flatten)]
    pub server: Server,
    /// Print JSON for programs, as the API returns it.
    #[arg(long, env = "LONGHAUL_JSON")]
    pub json: bool,
}

/// The reason for a missing result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The exit code.
    pub code: u8,
    pub reason: String,
    pub help: String,
}

impl Failure {
    fn unavailable(reason: impl Into<String>, help: impl Into<String>) -> Self {
        Failure { status: None, code: exit::UNAVAILABLE, reason: reason.into(), help: help.into() }
    }

    pub fn usage(reason: impl Into<String>, help: impl Into<String>) -> Self {
        Failure { status: None, code: exit::USAGE, reason: reason.into(), help: help.into() }
    }

    /// Writes the error, and returns the exit code.
    ///
    /// # Errors
    /// If `err` cannot be written.
    pub fn say(&self, err: &mut dyn Write) -> io::Result<u8> {
        exit::say(err, &self.reason, &self.help)?;
        Ok(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.reason)
    }
}

/// An answer: its text for `--json`, and its value.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    pub text: String,
    pub value: T,
}

/// Output or an error of the bridge. Only writing fails as [`io::Error`].
pub type Outcome = io::Result<Result<(), Failure>>;

impl Client {
    /// Reads a value of the API.
    ///
    /// # Errors
    /// If the bridge is not there or refuses, or its answer is not of this type.
    pub fn read<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer<T>, Failure> {
        self.parse(self.get(path, query)?)
    }

    /// Makes a change.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn change<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Answer<T>, Failure> {
        self.parse(self.post(path, query)?)
    }

    fn parse<T: DeserializeOwned>(&self, text: String) -> Result<Answer<T>, Failure> {
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Answer { text: text.trim_end().to_owned(), value }),
            Err(error) => Err(Failure::unavailable(
                format!("the answer of {} is not the one of a bridge: {error}", self.address()),
                "give the address of the bridge's `admin.listen` with --url",
            )),
        }
    }

    /// All pipelines.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn pipelines(&self) -> Result<Answer<PipelineList>, Failure> {
        self.read(&["api", "v1", "pipelines"], &[])
    }

    /// The pipelines of all replicas.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn pipelines_of_all(&self) -> Result<Answer<PipelineList>, Failure> {
        self.read(&["api", "v1", "pipelines"], &[("replicas", "all")])
    }

    /// Explains a failure of a request about this pipeline: an unknown name gets the list of the
    /// known ones.
    pub fn about_pipeline(&self, name: &str, failure: Failure) -> Failure {
        if failure.status != Some(404) {
            return failure;
        }
        let Ok(list) = self.pipelines() else { return failure };
        let names: Vec<&str> = list.value.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        if names.contains(&name) {
            return failure;
        }
        let help = match names.as_slice() {
            [] => "the bridge has no pipelines".to_owned(),
            names => format!("the pipelines are {}", names.join(", ")),
        };
        Failure { reason: format!("the bridge has no pipeline {name}"), help, ..failure }
    }
}

/// Runs a command against the bridge and prints its failure.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(
    server: &Server,
    err: &mut dyn Write,
    command: impl FnOnce(&Client, &mut dyn Write) -> Outcome,
) -> io::Result<u8> {
    let client = match Client::new(server) {
        Ok(client) => client,
        Err(failure) => return failure.say(err),
    };
    match command(&client, err)? {
        Ok(()) => Ok(exit::OK),
        Err(failure) => failure.say(err),
    }
}
