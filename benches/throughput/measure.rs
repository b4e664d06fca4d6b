//! The measurements.

use std::ffi::OsStr;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::brokers::{self, Filled, Queue};
use crate::child::{Child, Speaks};
use crate::counter::Counter;
use crate::rest;
use crate::table::{Run, Table};

pub const IN_FLIGHT: usize = 200;
pub const ITEM_BYTES: usize = 1024;
/// How often each case is measured.
const ROUNDS: usize = 5;

/// The result of one case.
struct Rate {
    per_second: f64,
    /// CPU time of the sending process per item, in microseconds.
    cpu: Option<f64>,
}

pub async fn all() -> Result<()> {
    let items: u64 = std::env::var("LONGHAUL_BENCH_ITEMS").unwrap_or("50000".to_owned()).parse()?;
    let (_sink, address) = Child::role(&["sink"], Speaks::ALine).await?;
    let sink = Counter::of(&address)?;
    let queues = brokers::queues().await?;
    // The program of benches/go, if a Go compiler is installed.
    let go = std::env::var_os("LONGHAUL_BENCH_GO");
    println!(
        "{items} items of {ITEM_BYTES} bytes, {IN_FLIGHT} in flight, a sink that does nothing, {ROUNDS} rounds"
    );
    let mut table = Table::default();
    for _ in 0..ROUNDS {
        let wrk = wrk(&sink).await?;
        for queue in &queues {
            let filled = queue.fill(items).await?;
            // This runs directly before each bridge, so that the machine is in the same state for
            // both.
            let client = memory(&sink, items).await?;
            table.add("wrk", wrk.beside(&wrk, &client));
            table.add("same client from memory", client.beside(&wrk, &client));
            let bridge = longhaul(&sink, items, queue, filled).await.with_context(|| queue.title())?;
            table.add(&queue.title(), bridge.beside(&wrk, &client));
            if let Some(program) = &go {
                let filled = queue.fill(items).await?;
                let bridge =
                    by_hand(program, &sink, items, queue, filled).await.with_context(|| queue.title())?;
                table.add(&format!("{}, in Go", queue.title()), bridge.beside(&wrk, &client));
            }
        }
    }
    println!(
        "\nMedian (least–most) of the rounds, each beside wrk and the client of its own round\n\n{table}"
    );
    Ok(())
}

async fn wrk(sink: &Counter) -> Result<Rate> {
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    std::fs::write(
        script.path(),
        format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {ITEM_BYTES})\n"),
    )?;
    rest::wait().await?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{IN_FLIGHT}"), "-d5s", "-s"])
        .arg(script.path())
        .arg(&sink.url)
        .output()
        .await
        .context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line =
        text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk printed no rate")?;
    sink.take().await?;
    Ok(Rate { per_second: line.trim().parse()?, cpu: None })
}

async fn memory(sink: &Counter, items: u64) -> Result<Rate> {
    rest::wait().await?;
    let (mut client, _) = Child::role(&["client", &sink.url, &items.to_string()], Speaks::Nothing).await?;
    let rate = rate(sink, items, &client).await?;
    client.wait().await?;
    Ok(rate)
}

async fn longhaul(sink: &Counter, items: u64, queue: &Queue, filled: Filled) -> Result<Rate> {
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/longhaul"));
    command.args(["--log", "warn", "run", "-c"]).arg(file.path());
    let config = format!(
        "pipelines:\n  - {{ name: bench, source: {}, sink: {{ url: \"{}\" }}, max_in_flight: {IN_FLIGHT}, on_failed: hold }}\n",
        filled.source, sink.url
    );
    std::fs::write(file.path(), config)?;
    bridge(sink, items, queue, filled, command).await
}

async fn by_hand(program: &OsStr, sink: &Counter, items: u64, queue: &Queue, filled: Filled) -> Result<Rate> {
    let mut command = Command::new(program);
    command.args([queue.broker(), &queue.address()?, &filled.name, &sink.url, &IN_FLIGHT.to_string()]);
    bridge(sink, items, queue, filled, command).await
}

async fn bridge(sink: &Counter, items: u64, queue: &Queue, filled: Filled, command: Command) -> Result<Rate> {
    rest::wait().await?;
    let bridge = Child::start(command)?;
    let rate = rate(sink, items, &bridge).await?;
    bridge.terminate().await?;
    queue.remove(&filled).await?;
    Ok(rate)
}

/// Waits until the sender has sent all items, each once.
async fn rate(sink: &Counter, items: u64, sender: &Child) -> Result<Rate> {
    let cpu_seconds = sink.wait(items, sender).await?;
    let taken = sink.take().await?;
    if taken.count != items {
        bail!("{} requests for {items} items", taken.count);
    }
    let each = |seconds: f64| seconds / items as f64;
    Ok(Rate { per_second: 1.0 / each(taken.seconds), cpu: Some(each(cpu_seconds * 1e6)) })
}

impl Rate {
    fn beside(&self, wrk: &Rate, client: &Rate) -> Run {
        Run {
            per_second: self.per_second,
            of_wrk: self.per_second / wrk.per_second,
            of_client: self.per_second / client.per_second,
            cpu: self.cpu,
        }
    }
}
