//! The measurements, and the table at the end.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::brokers::{self, Queue};
use crate::child::{Child, Speaks};

pub const IN_FLIGHT: usize = 200;
pub const ITEM_BYTES: usize = 1024;
/// A case that takes longer than this is broken.
const CASE_TIMEOUT: Duration = Duration::from_secs(180);

/// One row of the table.
struct Row {
    case: &'static str,
    per_second: f64,
    /// Of the sending process.
    cpu_micros: Option<f64>,
}

pub async fn all() -> Result<()> {
    let items: u64 = std::env::var("LONGHAUL_BENCH_ITEMS").unwrap_or("50000".to_owned()).parse()?;
    let (_sink, address) = Child::role(&["sink"], Speaks::ALine).await?;
    let url = format!("http://{address}/");
    println!("{items} items of {ITEM_BYTES} bytes, {IN_FLIGHT} in flight, a sink that does nothing");
    let mut rows = vec![wrk(&url).await?, memory(&url, items).await?];
    for queue in [
        Queue::Kafka { partitions: 1 },
        Queue::Kafka { partitions: 8 },
        Queue::Rabbitmq("classic"),
        Queue::Rabbitmq("quorum"),
    ] {
        rows.push(bridge(&url, items, queue).await?);
    }
    print(&rows);
    Ok(())
}

async fn wrk(url: &str) -> Result<Row> {
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    std::fs::write(
        script.path(),
        format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {ITEM_BYTES})\n"),
    )?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{IN_FLIGHT}"), "-d5s", "-s"])
        .arg(script.path())
        .arg(url)
        .output()
        .await
        .context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line =
        text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk printed no rate")?;
    take(url).await?;
    Ok(Row { case: "wrk", per_second: line.trim().parse()?, cpu_micros: None })
}

async fn memory(url: &str, items: u64) -> Result<Row> {
    let began = Instant::now();
    let (mut client, _) = Child::role(&["client", url, &items.to_string()], Speaks::Nothing).await?;
    let mut cpu = 0.0;
    // Its CPU time can be read only while it lives: the last look before its end is near enough.
    while count(url).await? < items {
        if began.elapsed() > CASE_TIMEOUT {
            bail!("the client did not finish in time");
        }
        cpu = client.cpu_seconds().unwrap_or(cpu);
        sleep(Duration::from_millis(20)).await;
    }
    client.wait().await?;
    row("same client from memory", url, items, cpu).await
}

async fn bridge(url: &str, items: u64, queue: Queue) -> Result<Row> {
    let filled = brokers::fill(queue, items).await?;
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    let config = format!(
        "pipelines:\n  - {{ name: bench, source: {}, sink: {{ url: \"{url}\" }}, max_in_flight: {IN_FLIGHT}, on_failed: hold }}\n",
        filled.source
    );
    std::fs::write(file.path(), config)?;
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/longhaul"));
    command.args(["--log", "warn", "run", "-c"]).arg(file.path());
    let began = Instant::now();
    let bridge = Child::start(command)?;
    while count(url).await? < items {
        if began.elapsed() > CASE_TIMEOUT {
            bail!(
                "{}: only {} of {items} items arrived in {CASE_TIMEOUT:?}",
                queue.name(),
                count(url).await?
            );
        }
        sleep(Duration::from_millis(50)).await;
    }
    let cpu = bridge.cpu_seconds()?;
    let row = row(queue.name(), url, items, cpu).await?;
    bridge.terminate().await?;
    brokers::remove(queue, &filled).await?;
    Ok(row)
}

async fn row(case: &'static str, url: &str, items: u64, cpu_seconds: f64) -> Result<Row> {
    let (count, seconds) = take(url).await?;
    if count != items {
        bail!("{case}: {count} requests for {items} items");
    }
    Ok(Row { case, per_second: items as f64 / seconds, cpu_micros: Some(cpu_seconds * 1e6 / items as f64) })
}

async fn count(url: &str) -> Result<u64> {
    Ok(get(&format!("{url}count")).await?.parse()?)
}

async fn take(url: &str) -> Result<(u64, f64)> {
    let text = get(&format!("{url}take")).await?;
    let (count, seconds) = text.split_once(' ').context("an odd answer of the sink")?;
    Ok((count.parse()?, seconds.parse()?))
}

async fn get(url: &str) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    Ok(client.get(url).timeout(Duration::from_secs(10)).send().await?.text().await?)
}

fn print(rows: &[Row]) {
    let rate = |index: usize| rows.get(index).map_or(f64::NAN, |row| row.per_second);
    println!(
        "\n{:<26} {:>9} {:>8} {:>16} {:>14}",
        "", "items/s", "of wrk", "of client alone", "CPU µs an item"
    );
    for row in rows {
        let cpu = row.cpu_micros.map_or("-".to_owned(), |micros| format!("{micros:.0}"));
        let (of_wrk, of_client) = (row.per_second / rate(0), row.per_second / rate(1));
        println!("{:<26} {:>9.0} {of_wrk:>8.2} {of_client:>16.2} {cpu:>14}", row.case, row.per_second);
    }
}
