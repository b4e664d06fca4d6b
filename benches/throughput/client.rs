//! The upper bound: our own HTTP client, fed from memory, with no broker and no bridge.

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
    let (slots, body) = (Arc::new(Semaphore::new(IN_FLIGHT)), Bytes::from(vec![b'x'; ITEM_BYTES]));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "partition:0/offset:12345"),
        ("ce-type", "dev.knative.kafka.event"),
        ("ce-source", "/apis/v1/namespaces/default/kafkasources/bench#topic"),
        ("ce-attempt", "1"),
        ("ce-redelivered", "false"),
    ] {
        headers.insert(name, value.parse()?);
    }
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
