//! `longhaul plan`: forecasts how a backlog will be worked off, without running an item.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::exit;
use crate::config::MAX_IN_FLIGHT_MAX;
use crate::plan::advice::{Advice, advise};
use crate::plan::{Forecast, Scenario, drawing, json, text};

mod bridge;
mod load;
mod scenarios;
mod variant;

pub use bridge::with_defaults;
use load::Repeated;
use variant::Variant;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The Knative Service's manifest. Several are compared. Without one: one request per replica,
    /// and Knative's defaults.
    #[arg(short, long = "file", env = "LONGHAUL_FILE", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The cluster's config-autoscaler (and config-defaults). Several are compared, each with every
    /// manifest.
    #[arg(long, env = "LONGHAUL_AUTOSCALER", value_name = "FILE")]
    autoscaler: Vec<PathBuf>,
    /// Compare with a variant of the first scenario: `KEY=VALUE,…`, where KEY is an
    /// `autoscaling.knative.dev/` annotation without that prefix, a field of the manifest
    /// (containerConcurrency, timeoutSeconds, responseStartTimeoutSeconds, idleTimeoutSeconds), or
    /// max-in-flight, bridges, cold-start, failure-rate, price.
    #[arg(long = "try", env = "LONGHAUL_TRY", value_name = "KEY=VALUE,…", value_parser = Variant::parse)]
    tries: Vec<Variant>,

    /// Items that are in the queue at the start.
    #[arg(long, env = "LONGHAUL_ITEMS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    items: Option<u32>,
    /// A file of arrivals, one on each line: seconds from any start (Unix time too), or RFC 3339,
    /// all in the same form and within 365 days.
    #[arg(long, env = "LONGHAUL_ARRIVALS", value_name = "FILE")]
    arrivals: Option<PathBuf>,
    /// Items that arrive one by one at this mean rate, such as `5/s`, `30/m` or `100/h`; needs
    /// `--for`.
    #[arg(long, env = "LONGHAUL_RATE", value_parser = Repeated::parse, requires = "lasting")]
    rate: Option<Repeated>,
    /// So many items at once, again and again, such as `100/15m`; needs `--for`.
    #[arg(long, env = "LONGHAUL_BURST", value_parser = Repeated::parse, requires = "lasting")]
    burst: Option<Repeated>,
    /// How long `--rate` and `--burst` go on; at most 365 days.
    #[arg(long = "for", id = "lasting", env = "LONGHAUL_FOR", value_name = "DURATION", value_parser = super::duration)]
    lasting: Option<Duration>,
    /// How long the work on an item takes: `60s`; `60s±20s` (or `60s+-20s`) for anything between 40
    /// s and 80 s; or a file of observed durations, one on each line: `61.5s`, or `61.5` for
    /// seconds.
    #[arg(long, env = "LONGHAUL_DURATION", default_value = "60s", value_name = "DURATION|FILE")]
    duration: String,
    /// The share of attempts that fail, such as `0.02` or `2%`.
    #[arg(long, env = "LONGHAUL_FAILURE_RATE", default_value = "0", value_parser = load::share)]
    failure_rate: f64,

    /// The bridge's configuration file, for its retry rules, its sink's timeout and its
    /// max_in_flight. Without it: their defaults.
    #[arg(short, long = "config", env = "LONGHAUL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The pipeline of that file; the first one if left out.
    #[arg(long, env = "LONGHAUL_PIPELINE", requires = "config")]
    pipeline: Option<String>,
    /// Requests that one replica of the bridge holds open at once. Left out: the pipeline's, or 10.
    #[arg(long, env = "LONGHAUL_MAX_IN_FLIGHT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_IN_FLIGHT_MAX)))]
    max_in_flight: Option<u32>,
    /// Replicas of the bridge.
    #[arg(long, env = "LONGHAUL_BRIDGES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    bridges: u32,
    /// The time from the decision for a replica until it takes requests: scheduling, image, start
    /// of the worker; at most a day.
    #[arg(long, env = "LONGHAUL_COLD_START", default_value = "1s", value_parser = load::cold_start)]
    cold_start: Duration,
    /// The service was just deployed, with its initial scale, in place of idle for long.
    #[arg(long, env = "LONGHAUL_FRESH")]
    fresh: bool,
    /// The cost of a replica in an hour.
    #[arg(long, env = "LONGHAUL_PRICE", value_parser = load::price)]
    price: Option<f64>,

    /// The first seed. One seed gives one result, to the last byte.
    #[arg(long, env = "LONGHAUL_SEED", default_value_t = 1)]
    seed: u64,
    /// Seeds to run, for the median and the spread. Left out: 5, or 1 for more than 100,000 items.
    #[arg(long, env = "LONGHAUL_SEEDS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    seeds: Option<u32>,
    /// Print JSON.
    #[arg(long, env = "LONGHAUL_JSON")]
    json: bool,
    /// Draw replicas, requests and backlog over time into this SVG file.
    #[arg(long, env = "LONGHAUL_DRAWING", value_name = "FILE.svg", value_parser = svg_file)]
    drawing: Option<PathBuf>,
}

fn svg_file(name: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(name);
    let is_svg = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
    is_svg
        .then_some(file)
        .ok_or_else(|| format!("{name:?} is not an SVG file: write a name that ends in .svg"))
}

/// The reason why a plan is refused.
#[derive(Debug)]
struct Refused {
    code: u8,
    what: String,
    hint: &'static str,
}

/// A larger load runs with only one seed, unless the user asks for more.
const MANY_ITEMS: usize = 100_000;
const SEEDS: u32 = 5;

/// Prints the forecast to `out`, and warnings about the manifests to `err`.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let report = scenarios::build(options, err).and_then(|scenarios| forecast(options, scenarios));
    match report {
        Ok(report) => {
            out.write_all(report.as_bytes())?;
            Ok(exit::OK)
        }
        Err(refused) => {
            exit::say(err, &refused.what, refused.hint)?;
            Ok(refused.code)
        }
    }
}

fn forecast(options: &Options, scenarios: Vec<Scenario>) -> Result<String, Refused> {
    let mut forecasts: Vec<(Forecast, Vec<Advice>)> = Vec::new();
    for scenario in scenarios {
        let seeds = options.seeds.unwrap_or_else(|| if is_large(&scenario) { 1 } else { SEEDS });
        let forecast = Forecast::make(scenario, options.seed, seeds)
            .map_err(|error| Refused::usage(&error, error.help()))?;
        check_items(&forecast)?;
        let advice = advise(&forecast);
        forecasts.push((forecast, advice));
    }
    if let Some(file) = &options.drawing {
        let drawn: Vec<&Forecast> = forecasts.iter().map(|(forecast, _)| forecast).collect();
        let svg = drawing::svg(&drawn).map_err(|error| Refused {
            code: exit::UNAVAILABLE,
            what: error.to_string(),
            hint: "leave --drawing out",
        })?;
        std::fs::write(file, svg).map_err(|error| Refused {
            code: exit::UNAVAILABLE,
            what: format!("{} can't be written: {error}", file.display()),
            hint: "name a file in a folder that exists",
        })?;
    }
    if !options.json {
        return Ok(text::report(&forecasts, options.seed));
    }
    let json = json::report(&forecasts, options.seed).map_err(|error| Refused {
        code: exit::UNAVAILABLE,
        what: error.to_string(),
        hint: "leave --json out",
    })?;
    Ok(format!("{json:#}\n"))
}

/// Refuses a forecast without items: a short time at a low rate may bring none, and then there is
/// nothing to report.
fn check_items(forecast: &Forecast) -> Result<(), Refused> {
    match forecast.runs().iter().find(|run| run.items == 0) {
        None => Ok(()),
        Some(run) => Err(Refused::usage(
            format!("with seed {} no item arrives at all", run.seed),
            "plan for longer (--for), or for more items",
        )),
    }
}

fn is_large(scenario: &Scenario) -> bool {
    scenario.load.arrivals.iter().map(crate::plan::Arrivals::about).sum::<usize>() > MANY_ITEMS
}

impl Refused {
    fn usage(what: impl std::fmt::Display, hint: &'static str) -> Self {
        Refused { code: exit::USAGE, what: what.to_string(), hint }
    }
}
