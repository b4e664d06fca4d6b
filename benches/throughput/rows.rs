//! Measures the figures besides throughput: longhaul and the bridge by hand in turn, round by
//! round.

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::sleep;

use crate::brokers::{self, Filled, Queue};
use crate::child::{Child, Speaks};
use crate::counter::Counter;
use crate::measure::{Bridge, PROGRAM};
use crate::rest;
use crate::table::Spread;

/// Held requests, and records of the row with work of a few milliseconds.
const MANY: u64 = 10_000;
/// Items of the row with one slot.
const ONE_BY_ONE: u64 = 3000;
/// An idle bridge has done all its first work after this time.
const SETTLED: Duration = Duration::from_secs(8);
const ROUNDS: usize = 5;

/// A figure that is measured for both bridges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Milliseconds from the start of the process to the first request.
    Start,
    /// MiB of resident memory without items.
    Idle,
    /// KiB of resident memory for each held request.
    Held,
    /// Requests that are open at once, of as many that are allowed, with one Kafka partition.
    Partition,
    /// Microseconds for each item with one slot.
    Slot,
    /// Seconds for records that take 0 to 5 ms each, 100 at once, with one Kafka partition.
    Varied,
}

impl Row {
    pub const ALL: [(&str, Row); 6] = [
        ("start", Row::Start),
        ("idle", Row::Idle),
        ("held", Row::Held),
        ("partition", Row::Partition),
        ("slot", Row::Slot),
        ("varied", Row::Varied),
    ];

    fn unit(self) -> &'static str {
        match self {
            Row::Start => "ms to the first request",
            Row::Idle => "MiB idle",
            Row::Held => "KiB for each held request",
            Row::Partition => "requests open at once",
            Row::Slot => "µs for each item, one slot",
            Row::Varied => "s for 10,000 records of 0-5 ms",
        }
    }

    fn is_of(self, queue: &Queue) -> bool {
        match queue {
            Queue::Kafka { partitions } => *partitions == 1,
            Queue::Rabbitmq { kind, .. } => {
                *kind == "classic" && !matches!(self, Row::Partition | Row::Varied)
            }
        }
    }

    fn items(self) -> u64 {
        match self {
            Row::Start => 1,
            Row::Idle => 0,
            Row::Slot => ONE_BY_ONE,
            Row::Held | Row::Partition | Row::Varied => MANY,
        }
    }

    fn in_flight(self) -> usize {
        match self {
            Row::Start | Row::Idle => 20,
            Row::Slot => 1,
            Row::Varied => 100,
            Row::Held | Row::Partition => MANY as usize,
        }
    }

    /// The path of the sink with the behaviour that the row needs.
    fn path(self) -> &'static str {
        match self {
            Row::Start | Row::Idle | Row::Slot => "",
            Row::Held | Row::Partition => "hold",
            Row::Varied => "varied",
        }
    }
}

/// Measures one row on each broker that it is for, and prints it with the ratio to the bridge by
/// hand.
pub async fn measure(row: Row) -> Result<()> {
    let go = std::env::var_os("LONGHAUL_BENCH_GO");
    for queue in brokers::queues().await?.iter().filter(|queue| row.is_of(queue)) {
        let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(one(row, queue, &Bridge::Longhaul).await?);
            if let Some(program) = &go {
                by_hand.push(one(row, queue, &Bridge::ByHand(program.clone())).await?);
            }
        }
        let (ours, by_hand) = (Spread::of(ours.into_iter()), Spread::of(by_hand.into_iter()));
        let ratio = ours.median / by_hand.median;
        let title = queue.title();
        println!("{title:<26} {:<32} longhaul {ours}  Go {by_hand}  ratio {ratio:.2}", row.unit());
    }
    Ok(())
}

/// The size of the stripped program, in MB.
pub async fn size() -> Result<()> {
    let stripped = tempfile::NamedTempFile::new()?;
    let strip = Command::new("strip").arg("-o").arg(stripped.path()).arg(PROGRAM).status().await?;
    if !strip.success() {
        bail!("strip failed");
    }
    println!("{:.1} MB stripped", std::fs::metadata(stripped.path())?.len() as f64 / 1e6);
    Ok(())
}

async fn one(row: Row, queue: &Queue, bridge: &Bridge<OsString>) -> Result<f64> {
    // A sink for each measurement: open requests of the one before must not count.
    let (_sink, address) = Child::role(&["sink"], Speaks::ALine).await?;
    let sink = Counter::of(&address)?;
    let filled = queue.fill(row.items()).await?;
    rest::wait().await?;
    let (command, _file) = bridge.command(&sink.path(row.path()), queue, &filled, row.in_flight())?;
    let began = SystemTime::now();
    let child = Child::start(command)?;
    let figure = figure(row, &sink, &child, began).await.with_context(|| queue.title())?;
    end(row, child, queue, &filled).await?;
    Ok(figure)
}

async fn figure(row: Row, sink: &Counter, child: &Child, began: SystemTime) -> Result<f64> {
    match row {
        Row::Start => {
            sink.wait(1, child).await?;
            let first = SystemTime::UNIX_EPOCH + Duration::from_micros(sink.first().await?);
            Ok(first.duration_since(began)?.as_secs_f64() * 1e3)
        }
        Row::Idle => {
            sleep(SETTLED).await;
            Ok(child.resident_bytes()? / f64::from(1 << 20))
        }
        Row::Held => {
            sink.wait(MANY, child).await?;
            sleep(SETTLED).await;
            Ok(child.resident_bytes()? / 1024.0 / MANY as f64)
        }
        Row::Partition => {
            // It may stop below the number that is allowed; then this is the figure.
            let reached = sink.wait(MANY, child).await;
            let count = sink.take().await?.count;
            if reached.is_err() {
                eprintln!("only {count} requests are open");
            }
            Ok(count as f64)
        }
        Row::Slot | Row::Varied => {
            sink.wait(row.items(), child).await?;
            sleep(Duration::from_millis(100)).await;
            let taken = sink.take().await?;
            Ok(if row == Row::Slot { taken.seconds * 1e6 / taken.count as f64 } else { taken.seconds })
        }
    }
}

/// A bridge with held requests would wait for them.
async fn end(row: Row, child: Child, queue: &Queue, filled: &Filled) -> Result<()> {
    match row {
        Row::Held | Row::Partition => child.kill().await?,
        _ => child.terminate().await?,
    }
    queue.remove(filled).await
}
