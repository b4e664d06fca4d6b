//! Measures the upper bound: our own HTTP client with the requests of a bridge, fed from memory,
//! without broker and bridge.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::HeaderMap;
use longhaul::config;
use longhaul::delivery::Outcome;
use longhaul::sink::http::{Client, Environment, Replies, Settings};
use longhaul::sink::{Request, Sink};
use tokio::sync::Semaphore;

use crate::measure::{IN_FLIGHT, ITEM_BYTES};

pub async fn send(url: &str, items: u64) -> Result<()> {
    let client = Arc::new(Client::new(Settings {
        sink: config::Sink { url: Some(url.to_owned()), ..config::Sink::default() },
        headers: Vec::new(),
        max_in_flight: IN_FLIGHT,
        replies: Replies::Ignored,
        environment: Environment::from_variables(|_| None),
    })?);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "6f1c0a52-9a57-4f0e-8d3b-0f5c3f0e7a11"),
        ("ce-type", "dev.knative.rabbitmq.event"),
        ("ce-source", "/apis/v1/namespaces/default/rabbitmqsources/bench#bench"),
        ("ce-subject", "6f1c0a52-9a57-4f0e-8d3b-0f5c3f0e7a11"),
        ("ce-time", "2026-01-01T00:00:00.123456789+00:00"),
        ("ce-attempt", "1"),
        ("ce-redelivered", "false"),
    ] {
        headers.insert(name, value.parse()?);
    }
    let (slots, body) = (Arc::new(Semaphore::new(IN_FLIGHT)), Bytes::from(vec![b'x'; ITEM_BYTES]));
    // Each item has a task, as in a bridge.
    for _ in 0..items {
        let slot = slots.clone().acquire_owned().await?;
        let (client, request) = (client.clone(), Request { headers: headers.clone(), body: body.clone() });
        tokio::spawn(async move {
            let answer = client.send(request).await;
            assert_eq!(answer.outcome, Outcome::Done, "{}", answer.detail);
            drop(slot);
        });
    }
    let _all = slots.acquire_many(IN_FLIGHT as u32).await?;
    Ok(())
}
