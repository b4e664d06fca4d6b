//! Describes the bridge to a plan, from the configuration file or the command line.

use std::path::Path;

use super::{Options, Refused, exit};
use crate::app;
use crate::config::{self, Pipeline, process_env};
use crate::delivery::{Policy, Targets};
use crate::plan::Bridge;

/// The requests of a bridge if neither a configuration nor `--max-in-flight` sets their number. It
/// is enough to see the service scale.
const IN_FLIGHT: u32 = 10;

pub fn build(options: &Options) -> Result<Bridge, Refused> {
    let mut bridge = match &options.config {
        None => with_defaults(IN_FLIGHT),
        Some(file) => of_pipeline(&pipeline(file, options.pipeline.as_deref())?),
    };
    bridge.replicas = options.bridges;
    bridge.policy.max_in_flight = options.max_in_flight.unwrap_or(bridge.policy.max_in_flight);
    Ok(bridge)
}

/// Returns one replica with the defaults of the configuration file, and a dead letter for items
/// that failed for good.
pub fn with_defaults(max_in_flight: u32) -> Bridge {
    let pipeline = Pipeline {
        name: "plan".to_owned(),
        // A plan has a queue of its own, so the source does not matter.
        source: config::Source::default(),
        sink: config::Sink::default(),
        max_in_flight,
        rate: None,
        retry: config::Retry::default(),
        on_unknown: config::OnUnknown::default(),
        on_failed: config::OnFailed::default(),
        dead_letter: Some(config::Target::default()),
        reply: None,
        breaker: config::Breaker::default(),
        stalled_after: None,
        checkpoints: None,
        limits: config::Limits::default(),
        event: config::Event::default(),
    };
    of_pipeline(&pipeline)
}

fn of_pipeline(pipeline: &Pipeline) -> Bridge {
    let targets =
        Targets { dead_letter: pipeline.dead_letter.is_some(), reply: pipeline.reply.is_some(), park: false };
    // In the bridge the core's seed is random. A plan sets the seed it was given.
    let policy = Policy { seed: 0, prefetched: false, ..app::policy(pipeline) };
    Bridge { replicas: 1, timeout: pipeline.sink.timeout.get(), policy: policy.with_targets(targets) }
}

fn pipeline(file: &Path, name: Option<&str>) -> Result<Pipeline, Refused> {
    let loaded = config::read(file, &process_env).map_err(|error| Refused {
        code: exit::CONFIG,
        what: format!("there are mistakes\n{error}"),
        hint: "`longhaul check` shows them too",
    })?;
    let mut pipelines = loaded.config.pipelines.into_iter();
    let found = match name {
        None => pipelines.next(),
        Some(name) => pipelines.find(|pipeline| pipeline.name == name),
    };
    let missing = || format!("{} has no pipeline {}", file.display(), name.unwrap_or_default());
    found.ok_or_else(|| Refused::usage(missing(), "name one of the file's pipelines"))
}
