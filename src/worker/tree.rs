//! Reads the processes below the shim from `/proc`. On systems other than Linux the list is empty.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

/// The unit of times in `/proc/PID/stat` on every common architecture.
const TICKS_PER_SECOND: u64 = 100;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub pid: i32,
    parent: i32,
    /// Whether the shim is its parent.
    pub is_child: bool,
    pub is_zombie: bool,
    /// CPU time of the process and of the children that it has waited for.
    ticks: u64,
}

/// The memory and CPU time of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory: u64,
    pub cpu: Duration,
}

/// Returns all processes below this one, except for `keep` and the processes below that.
pub fn below_self(keep: Option<i32>) -> Vec<Entry> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    below(own, keep, all())
}

/// Adds up memory and CPU time. Shared memory counts once per process.
pub fn usage(entries: &[Entry]) -> Usage {
    let ticks: u64 = entries.iter().map(|entry| entry.ticks).sum();
    let memory = entries.iter().map(|entry| resident(entry.pid)).sum();
    Usage { memory, cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND) }
}

fn below(root: i32, keep: Option<i32>, all: Vec<Entry>) -> Vec<Entry> {
    let mut by_parent: HashMap<i32, Vec<Entry>> = HashMap::new();
    for entry in all {
        by_parent.entry(entry.parent).or_default().push(entry);
    }
    let (mut found, mut next, mut seen) = (Vec::new(), vec![root], HashSet::from([root]));
    while let Some(parent) = next.pop() {
        for mut entry in by_parent.remove(&parent).unwrap_or_default() {
            if Some(entry.pid) != keep && seen.insert(entry.pid) {
                entry.is_child = parent == root;
                next.push(entry.pid);
                found.push(entry);
            }
        }
    }
    found
}

fn all() -> Vec<Entry> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Reads a line of `/proc/PID/stat`. The program's name stands in brackets and may contain
/// anything, so the fields are counted from the last bracket.
fn parse(stat: &str) -> Option<Entry> {
    let pid = stat.split(' ').next()?.parse().ok()?;
    let rest: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| rest.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Some(Entry {
        pid,
        parent: rest.get(1)?.parse().ok()?,
        is_child: false,
        is_zombie: rest.first() == Some(&"Z"),
        ticks: (11..15).map(number).sum(),
    })
}

fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: i32, parent: i32) -> Entry {
        parse(&format!("{pid} (a) b) S {parent} 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0")).unwrap()
    }

    #[test]
    fn a_stat_line_is_read_from_its_last_bracket() {
        let expected = Entry { pid: 7, parent: 3, is_child: false, is_zombie: false, ticks: 10 };
        assert_eq!(entry(7, 3), expected);
        assert_eq!(parse("7 (x"), None);
    }

    #[test]
    fn the_tree_below_a_process_leaves_out_what_is_kept() {
        let all = vec![entry(2, 1), entry(3, 2), entry(4, 2), entry(5, 4), entry(6, 9)];
        let pids = |keep| {
            let mut pids: Vec<_> = below(2, keep, all.clone()).iter().map(|entry| entry.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(pids(None), [3, 4, 5]);
        assert_eq!(pids(Some(4)), [3]);
    }
}
