//! Metrics of the process, with the names that all Prometheus clients use. They come from `/proc`,
//! so only Linux has them.

use std::fmt::{self, Write};
use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::Row;

const fn row(name: &'static str, kind: &'static str, help: &'static str) -> Row {
    Row { name, kind, labels: &[], help }
}

pub(super) const ROWS: &[Row] = &[
    row("process_cpu_seconds_total", "counter", "CPU time of the process"),
    row("process_resident_memory_bytes", "gauge", "Resident memory"),
    row("process_virtual_memory_bytes", "gauge", "Virtual memory"),
    row("process_threads", "gauge", "Threads"),
    row("process_start_time_seconds", "gauge", "Start of the process, in seconds since 1970"),
    row("process_open_fds", "gauge", "Open file descriptors"),
    row("process_max_fds", "gauge", "Most file descriptors that may be open"),
];

/// Appends the samples in the OpenMetrics format. Leaves out values that cannot be read.
pub(super) fn write(text: &mut String) -> fmt::Result {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in brackets; it may have spaces.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = clock_ticks_per_second() as f64;
    let values = [
        field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks),
        field(24).map(|pages| pages * page_size() as f64),
        field(23),
        field(20),
        field(22).zip(boot_time()).map(|(since_boot, boot)| boot + since_boot / ticks),
        fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64),
        getrlimit(Resource::Nofile).current.map(|limit| limit as f64),
    ];
    for (row, value) in ROWS.iter().zip(values) {
        let Some(value) = value else { continue };
        let (name, family) = (row.name, row.name.trim_end_matches("_total"));
        writeln!(text, "# HELP {family} {}.\n# TYPE {family} {}", row.help, row.kind)?;
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(&format!("_{unit}")));
        if let Some(unit) = unit {
            writeln!(text, "# UNIT {family} {unit}")?;
        }
        writeln!(text, "{name} {value}")?;
    }
    Ok(())
}

/// Seconds since 1970.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
