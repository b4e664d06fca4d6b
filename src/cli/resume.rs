//! `longhaul resume`: closes the breaker of a running pipeline.

use std::io::{self, Write};
use std::time::Duration;

use super::exit;
use crate::connect::http;

/// The limit of the whole request.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the pipeline.
    pipeline: String,
    /// The bridge's admin server.
    #[arg(long, env = "LONGHAUL_URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    /// The token of `admin.token`, if one is set.
    #[arg(long, env = "LONGHAUL_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Asks the bridge and prints its answer, which tells whether anything changed.
///
/// # Errors
/// If `out` or `err` cannot be written, or the runtime cannot be started.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(ask(options)) {
        Ok((true, answer)) => {
            write!(out, "{answer}")?;
            Ok(0)
        }
        Ok((false, answer)) => {
            exit::say(err, &answer.trim_end(), "see `admin` in the bridge's configuration")?;
            Ok(exit::UNAVAILABLE)
        }
        Err(reason) => {
            exit::say(
                err,
                &reason,
                "give the address of the bridge's `admin.listen` with --url, such as http://127.0.0.1:9090",
            )?;
            Ok(exit::UNAVAILABLE)
        }
    }
}

/// Sends the request. Returns whether the bridge accepted it, and its answer.
async fn ask(options: &Options) -> Result<(bool, String), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{} does not answer: {error}", options.url);
    let client = http::builder().timeout(TIMEOUT).build().map_err(|error| failed(&error))?;
    let address =
        format!("{}/api/v1/pipelines/{}/resume", options.url.trim_end_matches('/'), options.pipeline);
    let mut request = client.post(address);
    if let Some(token) = &options.token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.map_err(|error| failed(&error))?;
    let is_done = response.status().is_success();
    let text = response.text().await.map_err(|error| failed(&error))?;
    Ok((is_done, text))
}
