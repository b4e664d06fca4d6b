//! Asks queue-proxies which pods are busy.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use super::stat;
use crate::connect;

/// The port at which queue-proxy answers Knative's autoscaler.
const PORT: u16 = 9090;
/// Questions that are open at once.
const AT_ONCE: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest report that is read. It has less than 200 bytes.
const REPORT_BYTES: usize = 4096;

/// Asks queue-proxies.
#[derive(Clone, Debug)]
pub struct QueueProxies {
    client: reqwest::Client,
    port: u16,
}

impl QueueProxies {
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new() -> reqwest::Result<Self> {
        QueueProxies::at(PORT)
    }

    /// Like [`QueueProxies::new`], with another port.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn at(port: u16) -> reqwest::Result<Self> {
        let client = connect::http::builder().timeout(TIMEOUT).build()?;
        Ok(QueueProxies { client, port })
    }

    /// Returns each pod that answered, and whether it handles a request. A pod without an answer is
    /// left out, so that nothing changes for it.
    pub async fn ask(&self, pods: Vec<(String, String)>) -> Vec<(String, bool)> {
        let answers = stream::iter(pods).map(|(name, address)| async move {
            let concurrency = self.concurrency(&address).await?;
            Some((name, concurrency > 0.0))
        });
        answers.buffer_unordered(AT_ONCE).filter_map(|answer| async move { answer }).collect().await
    }

    async fn concurrency(&self, address: &str) -> Option<f64> {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let url = format!("http://{host}:{}/metrics", self.port);
        let mut response = self.client.get(url).send().await.ok()?.error_for_status().ok()?;
        let mut report = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            report.extend_from_slice(&chunk);
            if report.len() > REPORT_BYTES {
                return None;
            }
        }
        stat::concurrency(&report)
    }
}
