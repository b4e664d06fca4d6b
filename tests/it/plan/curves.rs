//! Compares replica curves with those of a real control plane (autoscaler, activator and
//! queue-proxy): each file of `tests/fixtures/curves`, or of the folder in `LONGHAUL_CURVES`, whose
//! requests all ended well and undisturbed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhaul::cli::plan::with_defaults;
use longhaul::knative::kpa::{Cluster, Config};
use longhaul::plan::{Arrivals, Durations, Forecast, Load, ResponseStart, Scenario, Service, Spread, Start};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recording {
    case: String,
    annotations: BTreeMap<String, String>,
    #[serde(rename = "containerConcurrency")]
    container_concurrency: u32,
    #[serde(rename = "timeoutSeconds")]
    timeout_seconds: u64,
    summary: Summary,
    requests: Vec<Request>,
    curve: Vec<Row>,
}

#[derive(Deserialize)]
struct Summary {
    peak_spec: u32,
    peak_ready: u32,
    last_answer: f64,
    spec_zero_at: Option<f64>,
}

#[derive(Deserialize)]
struct Request {
    s: f64,
    start: f64,
}

/// A row has time, desired, spec, actual, pods, running, ready, ending and mode.
#[derive(Deserialize)]
#[allow(dead_code, reason = "the columns that are not compared keep the others in their places")]
struct Row(f64, i64, u32, u32, u32, u32, u32, u32, String);

/// Recordings with faults: something was killed, or a client left.
const DISTURBED: [&str; 4] = ["killed", "abandon", "shrink", "seed-nozero"];
/// The number of runs; their medians are compared, because the position of the load relative to the
/// autoscaler's ticks is random.
const SEEDS: u32 = 25;
/// The allowed difference of a time: this many seconds, or this share.
const SECONDS: f64 = 4.0;
const SHARE: f64 = 0.15;

#[test]
fn recorded_replica_curves_are_forecast() {
    let folder = std::env::var_os("LONGHAUL_CURVES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/curves"), PathBuf::from);
    let mut compared = 0;
    let mut wrong = Vec::new();
    for recording in recordings(&folder) {
        compared += 1;
        let forecast = Forecast::make(scenario(&recording), 1, SEEDS).unwrap();
        let differences = differences(&recording, &forecast);
        println!("{}: {differences:?}", recording.case);
        wrong.extend(
            differences.into_iter().filter(|d| !d.fits()).map(|d| format!("{}: {d:?}", recording.case)),
        );
    }
    assert!(compared >= 8 || std::env::var_os("LONGHAUL_CURVES").is_some(), "only {compared} recordings");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[derive(Debug)]
struct Difference {
    #[allow(dead_code, reason = "shown")]
    what: &'static str,
    recorded: f64,
    planned: Spread,
    exact: bool,
}

impl Difference {
    fn fits(&self) -> bool {
        let off = (self.recorded - self.planned.median).abs();
        if self.exact { off == 0.0 } else { off <= SECONDS.max(SHARE * self.recorded) }
    }
}

fn differences(recording: &Recording, forecast: &Forecast) -> Vec<Difference> {
    let summary = &recording.summary;
    let all_ready = recording.curve.iter().find(|row| row.6 == summary.peak_ready).map_or(0.0, |row| row.0);
    let time = |what, recorded, planned: Spread| Difference { what, recorded, planned, exact: false };
    let mut all = vec![
        Difference {
            what: "most pods",
            recorded: f64::from(summary.peak_spec),
            planned: forecast.spread(|run| f64::from(run.most_replicas)),
            exact: true,
        },
        time("all ready", all_ready, forecast.spread(|run| run.all_ready.as_secs_f64())),
        time("last answer", summary.last_answer, forecast.spread(|run| run.last_answer.as_secs_f64())),
    ];
    if let Some(zero) = summary.spec_zero_at {
        all.push(time("to zero", zero - summary.last_answer, forecast.to_floor().unwrap()));
    }
    all
}

fn scenario(recording: &Recording) -> Scenario {
    let cluster = Cluster { allow_zero_initial_scale: true, ..Cluster::default() };
    let config = Config::resolve(&cluster, &recording.annotations, recording.container_concurrency);
    let mut service = Service::new(config);
    service.container_concurrency = recording.container_concurrency;
    service.timeout = Duration::from_secs(recording.timeout_seconds);
    service.response_start = ResponseStart::Unlimited;
    let starts = recording.requests.iter().map(|request| Duration::from_secs_f64(request.start)).collect();
    Scenario {
        name: recording.case.clone(),
        load: Load {
            arrivals: vec![Arrivals::Times(starts)],
            durations: Durations::Fixed(Duration::from_secs_f64(recording.requests[0].s)),
            failure_rate: 0.0,
        },
        bridge: with_defaults(recording.requests.len() as u32),
        service,
        start: Start::Fresh(Duration::from_secs(5)),
        price: None,
    }
}

/// Returns the recordings with steady requests of one length.
fn recordings(folder: &Path) -> Vec<Recording> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let recording: Recording = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).ok()?;
        let disturbed = DISTURBED.iter().any(|word| recording.case.contains(word));
        let steady = recording.requests.iter().all(|request| request.s == recording.requests[0].s);
        (!disturbed && steady).then_some(recording)
    };
    files.into_iter().filter_map(read).collect()
}
