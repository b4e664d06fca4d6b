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
    // An earlier build of longhaul.
    let before = std::env::var_os("LONGHAUL_BENCH_BEFORE");
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
            let ours = bridge(&sink, items, queue, filled, Bridge::Longhaul).await;
            let ours = ours.with_context(|| queue.title())?;
            table.add(&queue.title(), ours.beside(&wrk, &client));
            let others = [
                ("before", before.as_deref().map(Bridge::Before)),
                ("in Go", go.as_deref().map(Bridge::ByHand)),
            ];
            for (name, other) in others {
                let Some(other) = other else { continue };
                let filled = queue.fill(items).await?;
                let theirs = bridge(&sink, items, queue, filled, other).await;
                let theirs = theirs.with_context(|| queue.title())?;
                table.add(&format!("{}, {name}", queue.title()), theirs.beside(&wrk, &client));
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

/// The program of a release build.
pub const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/longhaul");

/// A bridge to measure.
pub enum Bridge<P> {
    Longhaul,
    /// An earlier build of longhaul, which runs in turn with the present one.
    Before(P),
    /// The program of benches/go.
    ByHand(P),
}

impl<P: AsRef<OsStr>> Bridge<P> {
    /// The command that starts it, and the file that the command needs.
    pub fn command(
        &self,
        sink: &str,
        queue: &Queue,
        filled: &Filled,
        in_flight: usize,
    ) -> Result<(Command, tempfile::NamedTempFile)> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        let program = match self {
            Bridge::Longhaul => OsStr::new(PROGRAM),
            Bridge::Before(program) => program.as_ref(),
            Bridge::ByHand(program) => {
                let mut command = Command::new(program);
                let address = queue.address()?;
                command.args([queue.broker(), &address, &filled.name, sink, &in_flight.to_string()]);
                return Ok((command, file));
            }
        };
        let mut command = Command::new(program);
        command.args(["--log", "warn", "run", "-c"]).arg(file.path());
        let config = format!(
            "pipelines:\n  - {{ name: bench, source: {}, sink: {{ url: \"{sink}\" }}, max_in_flight: {in_flight}, on_failed: hold }}\n",
            filled.source
        );
        std::fs::write(file.path(), config)?;
        Ok((command, file))
    }
}

async fn bridge(
    sink: &Counter,
    items: u64,
    queue: &Queue,
    filled: Filled,
    bridge: Bridge<&OsStr>,
) -> Result<Rate> {
    let (command, _file) = bridge.command(&sink.url, queue, &filled, IN_FLIGHT)?;
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
