//! Waits until the machine is idle. Brokers write and tidy up for seconds after they were filled,
//! which would slow down the measured program.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

/// A machine is idle if it was busy for less than this share of a [`LOOK`].
const BUSY: f64 = 0.1;
const LOOK: Duration = Duration::from_millis(1500);
/// The longest wait. After it the measurement starts even on a busy machine.
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

/// The busy time of all cores since the machine started, in hundredths of a second.
struct Times {
    busy: f64,
    all: f64,
}

/// Reads the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
/// Guest times are already part of user.
fn times() -> Result<Times> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("an odd /proc/stat")?;
    let fields = line.split_whitespace().take(8).map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let all: f64 = fields.iter().sum();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    Ok(Times { busy: all - idle, all })
}
