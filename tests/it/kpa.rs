//! Compares the autoscaler's arithmetic with recorded decisions of Knative's own code, one by one:
//! every file of `tests/fixtures/kpa-traces`, or of the folder in `LONGHAUL_KPA_TRACES`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longhaul::knative::kpa::{Autoscaler, Cluster, Config, Time};
use serde::Deserialize;

/// One recording: the settings, the events, and the decision at each tick.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    container_concurrency: u32,
    #[serde(rename = "base_unix")]
    base_unix: i64,
    events: Vec<Event>,
    decisions: Vec<Decision>,
}

/// An event `t` seconds after the base. Events at the same time are in their order.
#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Stat { t: f64, stat: f64 },
    Ready { ready: u32 },
    Tick { t: f64, tick: bool },
}

#[derive(Debug, Deserialize)]
struct Decision {
    t: f64,
    ready: u32,
    stable: f64,
    panic: f64,
    desired: i32,
    ebc: i32,
    valid: bool,
}

#[test]
fn recorded_decisions_come_out_the_same() {
    let folder = std::env::var_os("LONGHAUL_KPA_TRACES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kpa-traces"),
        PathBuf::from,
    );
    let files = recordings(&folder);
    assert!(!files.is_empty(), "no recording (*.json) in {}", folder.display());
    let mut decisions = 0;
    let mut mismatches = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let trace: Trace = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(!trace.decisions.is_empty(), "{}: no decisions", file.display());
        decisions += trace.decisions.len();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        mismatches.extend(replay(&trace).into_iter().map(|mismatch| format!("{name}: {mismatch}")));
    }
    println!("{decisions} decisions of {} recordings", files.len());
    assert!(mismatches.is_empty(), "{} of {decisions} differ:\n{}", mismatches.len(), mismatches.join("\n"));
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

/// Runs the events and returns the decisions that differ from the recorded ones.
fn replay(trace: &Trace) -> Vec<String> {
    let cluster = Cluster::parse(&trace.config).unwrap_or_else(|e| panic!("{e}"));
    let config = Config::resolve(&cluster, &trace.annotations, trace.container_concurrency);
    let mut autoscaler = Autoscaler::new(config, moment(trace, 0.0), 0);
    let mut ready = 0;
    let mut mismatches = Vec::new();
    let mut expected = trace.decisions.iter().enumerate();
    for event in &trace.events {
        match *event {
            Event::Stat { t, stat } => autoscaler.record(moment(trace, t), stat),
            Event::Ready { ready: now_ready } => ready = now_ready,
            Event::Tick { tick: false, .. } => {}
            Event::Tick { t, tick: true } => {
                let got = decide(&mut autoscaler, trace, t, ready);
                match expected.next() {
                    None => mismatches.push(format!("no decision recorded for the tick at {t}")),
                    Some((_, expected)) if same(expected, &got) => {}
                    Some((index, expected)) => {
                        mismatches.push(format!("decision {index}: expected {expected:?}, got {got:?}"));
                    }
                }
            }
        }
    }
    let missing = expected.map(|(index, decision)| format!("decision {index}: no tick for {decision:?}"));
    mismatches.extend(missing);
    mismatches
}

fn decide(autoscaler: &mut Autoscaler, trace: &Trace, t: f64, ready: u32) -> Decision {
    match autoscaler.decide(moment(trace, t), ready) {
        Some(d) => {
            let (stable, panic, ebc) = (d.stable, d.panic, d.excess_burst_capacity);
            Decision { t, ready, stable, panic, desired: d.desired, ebc, valid: true }
        }
        None => Decision { t, ready, stable: 0.0, panic: 0.0, desired: 0, ebc: 0, valid: false },
    }
}

/// Whether two decisions agree. Counts must be equal; the averages may differ in the last digits,
/// which depend on the order of a sum.
fn same(expected: &Decision, got: &Decision) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
    expected.t == got.t
        && expected.ready == got.ready
        && expected.desired == got.desired
        && expected.ebc == got.ebc
        && expected.valid == got.valid
        && close(expected.stable, got.stable)
        && close(expected.panic, got.panic)
}

/// The recorder measured `t` in whole nanoseconds, so the file's seconds are rounded to
/// nanoseconds.
fn moment(trace: &Trace, t: f64) -> Time {
    Time::from_unix_nanos(trace.base_unix * 1_000_000_000 + (t * 1e9).round() as i64)
}
