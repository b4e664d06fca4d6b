//! The machine at rest. Brokers go on writing and tidying for seconds after they were filled, and a
//! program that is measured then would pay for it.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

/// At rest is a machine that was busy for less than this share of a [`LOOK`].
const BUSY: f64 = 0.1;
const LOOK: Duration = Duration::from_millis(1500);
/// A machine that does something else too is measured as it is.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn wait() -> Result<()> {
    let began = Instant::now();
    let mut before = times()?;
    loop {
        sleep(LOOK).await;
        let now = times()?;
        let busy = (now.busy - before.busy) / (now.all - before.all).max(1.0);
        if busy < BUSY {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            eprintln!("this machine does not come to rest: {:.0} % busy", busy * 100.0);
            return Ok(());
        }
        before = now;
    }
}

/// The busy time of all cores since the start of the machine, in hundredths of seconds.
struct Times {
    busy: f64,
    all: f64,
}

/// `/proc/stat`, first line: user, nice, system, idle, iowait, irq, softirq, steal; guest times are
/// in user already.
fn times() -> Result<Times> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("an odd /proc/stat")?;
    let fields = line.split_whitespace().take(8).map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let all: f64 = fields.iter().sum();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    Ok(Times { busy: all - idle, all })
}
