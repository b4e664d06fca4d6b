//! Asks the sink for its counts.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use crate::child::Child;

/// The limit of one case; a longer one is broken.
const CASE_TIMEOUT: Duration = Duration::from_secs(180);
/// The time between two questions for the count.
const LOOK: Duration = Duration::from_millis(50);

pub struct Counter {
    pub url: String,
    http: reqwest::Client,
}

/// The requests between two calls of [`Counter::take`].
pub struct Taken {
    pub count: u64,
    /// The time from the first request to the last.
    pub seconds: f64,
}

impl Counter {
    pub fn of(address: &str) -> Result<Self> {
        let http = longhaul::connect::http::builder().timeout(Duration::from_secs(10)).build()?;
        Ok(Counter { url: format!("http://{address}/"), http })
    }

    /// Waits until `items` have arrived. Returns the CPU time that `sender` had used by then, in
    /// seconds.
    pub async fn wait(&self, items: u64, sender: &Child) -> Result<f64> {
        let began = Instant::now();
        let mut cpu = 0.0;
        loop {
            let count: u64 = self.get("count").await?.parse()?;
            cpu = sender.cpu_seconds().unwrap_or(cpu);
            if count >= items {
                return Ok(cpu);
            }
            if began.elapsed() > CASE_TIMEOUT {
                bail!("only {count} of {items} items arrived in {CASE_TIMEOUT:?}");
            }
            sleep(LOOK).await;
        }
    }

    /// Reads the count and starts again at zero.
    pub async fn take(&self) -> Result<Taken> {
        let text = self.get("take").await?;
        let (count, seconds) = text.split_once(' ').context("an odd answer of the sink")?;
        Ok(Taken { count: count.parse()?, seconds: seconds.parse()? })
    }

    /// The time of the first request, in microseconds since 1970.
    pub async fn first(&self) -> Result<u64> {
        Ok(self.get("first").await?.parse()?)
    }

    /// The address with another behaviour.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn get(&self, path: &str) -> Result<String> {
        Ok(self.http.get(format!("{}{path}", self.url)).send().await?.text().await?)
    }
}
