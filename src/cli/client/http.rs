//! Requests to the admin server over HTTP.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::ACCEPT;
use serde::Deserialize;
use tokio::runtime::Runtime;
use url::Url;

use super::{Failure, Server};
use crate::cli::exit;
use crate::config;
use crate::connect::http;

/// Bound of each request.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The longest error text of a server that is not a bridge.
const FOREIGN_TEXT: usize = 200;

/// A client that waits for each answer.
pub struct Client {
    base: Url,
    token: Option<String>,
    http: Arc<reqwest::Client>,
    runtime: Runtime,
}

/// The body of a refusal.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    help: String,
}

impl Client {
    /// # Errors
    /// If the address or the certificate authority cannot be used.
    pub fn new(server: &Server) -> Result<Self, Failure> {
        let base = base(&server.url)?;
        let trust = http::Trust {
            tls: config::Tls { ca_file: server.ca_file.clone(), ..config::Tls::default() },
            ca_certs: None,
            bundles: PathBuf::new(),
        };
        let client = http::client(trust, &base, || http::builder().timeout(TIMEOUT));
        let client = client
            .map_err(|error| Failure::usage(error.to_string(), "correct --ca-file, or leave it out"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Failure::unavailable(format!("no runtime: {error}"), "give the command more resources")
        })?;
        Ok(Client { base, token: server.token.clone(), http: client.get(), runtime })
    }

    /// The address for messages.
    pub fn address(&self) -> String {
        http::shown(&self.base).trim_end_matches('/').to_owned()
    }

    /// # Errors
    /// If the bridge is not there or refuses.
    pub fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<String, Failure> {
        let (status, text) = self.send(self.http.get(self.url(path, query)))?;
        self.accepted(status, text)
    }

    /// # Errors
    /// If the bridge is not there or refuses.
    pub fn post(&self, path: &[&str], query: &[(&str, &str)]) -> Result<String, Failure> {
        let (status, text) = self.send(self.http.post(self.url(path, query)))?;
        self.accepted(status, text)
    }

    /// Reads a path whose status is an answer, and not a refusal.
    ///
    /// # Errors
    /// If the bridge is not there.
    pub fn probe(&self, path: &[&str]) -> Result<(u16, String), Failure> {
        self.send(self.http.get(self.url(path, &[])))
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let given = query.iter().filter(|(_, value)| !value.is_empty());
        if given.clone().next().is_some() {
            url.query_pairs_mut().extend_pairs(given);
        }
        url
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Result<(u16, String), Failure> {
        let mut request = request.header(ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok((status, response.text().await?))
        });
        answer.map_err(|error: reqwest::Error| self.unreachable(&error.without_url()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let address = self.address();
        let help = "give the address of the bridge's `admin.listen` with --url or LONGHAUL_URL, such as http://127.0.0.1:9090";
        if error.is_timeout() {
            return Failure::unavailable(
                format!("{address} does not answer within {} s", TIMEOUT.as_secs()),
                help,
            );
        }
        let mut cause = error.source();
        while let Some(deeper) = cause.and_then(std::error::Error::source) {
            cause = Some(deeper);
        }
        let refused = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
        if refused.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
            return Failure::unavailable(
                format!("nothing listens at {address}"),
                "start the bridge with `admin: { listen: … }` in its configuration, and give that address with --url or LONGHAUL_URL",
            );
        }
        let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
        Failure::unavailable(format!("no answer of {address}: {cause}"), help)
    }

    fn accepted(&self, status: u16, text: String) -> Result<String, Failure> {
        if (200..300).contains(&status) {
            return Ok(text);
        }
        let refusal = serde_json::from_str::<Refusal>(&text).unwrap_or_else(|_| Refusal {
            error: match text.trim().chars().take(FOREIGN_TEXT).collect::<String>() {
                text if text.is_empty() => format!("{} answers with status {status}", self.address()),
                text => text,
            },
            help: String::new(),
        });
        let (reason, help) = match (status, &self.token) {
            (401, None) => (
                "the bridge wants a token".to_owned(),
                "give the value of `admin.token` with --token or LONGHAUL_TOKEN",
            ),
            (401, Some(_)) => (
                "the bridge refuses this token".to_owned(),
                "compare --token or LONGHAUL_TOKEN with `admin.token` of the bridge's configuration",
            ),
            _ => (refusal.error, "see `admin` in the bridge's configuration"),
        };
        let help = if refusal.help.is_empty() || status == 401 { help.to_owned() } else { refusal.help };
        Err(Failure { status: Some(status), code: exit::UNAVAILABLE, reason, help })
    }
}

fn base(text: &str) -> Result<Url, Failure> {
    let example = "write a URL such as http://127.0.0.1:9090";
    let shown = http::shown_text(text);
    if !text.contains("://") {
        return Err(Failure::usage(
            format!("the address {shown:?} has no scheme"),
            format!("write http://{shown}, or https:// with admin.tls"),
        ));
    }
    let url = Url::parse(text)
        .map_err(|error| Failure::usage(format!("the address {shown:?} is not a URL: {error}"), example))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::usage(format!("the address {shown:?} is not http:// or https://"), example));
    }
    Ok(url)
}
