//! Tests the client against a peer that ends requests in every possible way.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::config;
use crate::config::Span;
use crate::delivery::Outcome;
use server::{Server, Then};

mod endings;
mod generated;
mod requests;
mod server;
mod startup;
mod tls;

const NOT_STARTED: Outcome = Outcome::NotStarted { retry_after: None };

fn environment() -> Environment {
    Environment {
        k_sink: None,
        k_ca_certs: None,
        namespace: None,
        trust_bundles: PathBuf::from("/nonexistent/bundles"),
        oidc_token: PathBuf::from("/nonexistent/token"),
    }
}

fn settings(url: &str) -> Settings {
    let sink =
        config::Sink { url: Some(url.to_owned()), timeout: Span::from_secs(20), ..config::Sink::default() };
    Settings {
        sink,
        headers: Vec::new(),
        max_in_flight: 20,
        replies: Replies::Ignored,
        environment: environment(),
    }
}

fn client(url: &str) -> Client {
    Client::new(settings(url)).unwrap()
}

fn request(body: &'static str) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("ce-id", "1".parse().unwrap());
    headers.insert("content-type", "text/plain".parse().unwrap());
    Request { headers, body: Bytes::from_static(body.as_bytes()) }
}

/// Sends one request. An ending that takes longer fails the test.
async fn send(client: &Client) -> Answer {
    tokio::time::timeout(Duration::from_secs(30), client.send(request("work"))).await.unwrap()
}
