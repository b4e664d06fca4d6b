//! Makes the scenarios to compare: every manifest with every ConfigMap, and then the variants of
//! the first.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::{Options, Refused, bridge, exit, load};
use crate::knative::kpa::{Cluster, Metric};
use crate::knative::manifest::{self, Defaults, Loaded, Timeouts, Written};
use crate::plan::{Bridge, Load, ResponseStart, Scenario, Service, Start};

/// A scenario and the sources of its service, from which a variant makes another scenario.
#[derive(Clone, Debug)]
pub struct Base {
    pub scenario: Scenario,
    pub cluster: Cluster,
    pub annotations: BTreeMap<String, String>,
    pub defaults: Defaults,
    pub timeouts: Written,
}

/// The most scenarios of one report. Each is a column.
const SCENARIOS_MAX: usize = 32;

/// The manifest that is used if none is named.
const BUILT_IN: &str = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: { name: service }
spec: { template: { spec: { containerConcurrency: 1, containers: [{ image: worker }] } } }
";

pub fn build(options: &Options, err: &mut dyn Write) -> Result<Vec<Scenario>, Refused> {
    let frame = Frame { options, load: load::build(options)?, bridge: bridge::build(options)? };
    let files: Vec<Option<&Path>> = each(&options.files);
    let clusters: Vec<Option<&Path>> = each(&options.autoscaler);
    let mut bases = Vec::new();
    for file in &files {
        for cluster in &clusters {
            let loaded = read(*file, *cluster, err)?;
            let mut names = Vec::new();
            names.extend(file.filter(|_| files.len() > 1).map_or(Some(loaded.service.name.clone()), stem));
            names.extend(cluster.filter(|_| clusters.len() > 1).and_then(stem));
            bases.push(frame.around(names.join(", "), loaded));
        }
    }
    let varied =
        bases.first().into_iter().flat_map(|base| options.tries.iter().map(|variant| variant.apply(base)));
    let varied: Vec<Scenario> = varied
        .collect::<Result<_, _>>()
        .map_err(|what| Refused::usage(what, "`longhaul plan --help` names the keys of --try"))?;
    let scenarios: Vec<Scenario> = bases.into_iter().map(|base| base.scenario).chain(varied).collect();
    if scenarios.len() > SCENARIOS_MAX {
        let what = format!("these are {} scenarios, and {SCENARIOS_MAX} can be compared", scenarios.len());
        return Err(Refused::usage(what, "compare fewer at once"));
    }
    Ok(scenarios)
}

/// The parts that all scenarios share.
struct Frame<'a> {
    options: &'a Options,
    load: Load,
    bridge: Bridge,
}

impl Frame<'_> {
    fn around(&self, name: String, loaded: Loaded) -> Base {
        let options = self.options;
        let mut service = Service::new(loaded.service.autoscaling);
        service.container_concurrency = loaded.service.container_concurrency;
        service.cold_start = options.cold_start;
        set_timeouts(&mut service, loaded.service.timeouts);
        let scenario = Scenario {
            name,
            load: self.load.clone(),
            bridge: self.bridge.clone(),
            service,
            // The load starts two ticks after the replicas are up.
            start: if options.fresh {
                Start::Fresh(options.cold_start + Duration::from_secs(4))
            } else {
                Start::Idle
            },
            price: options.price,
        };
        Base {
            scenario,
            cluster: loaded.settings.autoscaler,
            annotations: loaded.service.annotations,
            defaults: loaded.settings.defaults,
            timeouts: loaded.service.written_timeouts,
        }
    }
}

/// Sets all three timeouts.
pub fn set_timeouts(service: &mut Service, timeouts: Timeouts) {
    service.timeout = timeouts.request;
    service.idle_timeout = timeouts.idle;
    service.response_start = match timeouts.response_start {
        Some(limit) if timeouts.response_start_is_default => ResponseStart::Default(limit),
        Some(limit) => ResponseStart::Limit(limit),
        None => ResponseStart::Unlimited,
    };
}

fn read(file: Option<&Path>, cluster: Option<&Path>, err: &mut dyn Write) -> Result<Loaded, Refused> {
    let cluster_text = cluster.map(load::read).transpose()?;
    let cluster_name = cluster.map(|file| file.display().to_string()).unwrap_or_default();
    let cluster = cluster_text.as_ref().map(|text| (cluster_name.as_str(), text.as_str()));
    let text = file.map_or_else(|| Ok(BUILT_IN.to_owned()), load::read)?;
    let name = file.map_or_else(|| "the built-in service".to_owned(), |file| file.display().to_string());
    let loaded = manifest::load((&name, &text), cluster).map_err(|error| Refused {
        code: exit::CONFIG,
        what: format!("there are mistakes\n{error}"),
        hint: "correct them; most of them a cluster refuses too",
    })?;
    if loaded.service.autoscaling.metric != Metric::Concurrency {
        return Err(Refused {
            code: exit::CONFIG,
            what: format!("{name}: metric `rps` can't be planned"),
            hint: super::super::INSTEAD_OF_RPS,
        });
    }
    for warning in &loaded.warnings {
        // A forecast without its warning is better than no forecast.
        let _ = writeln!(err, "{warning}");
    }
    Ok(loaded)
}

/// Returns each file, or a single `None` if no file was named.
fn each(files: &[std::path::PathBuf]) -> Vec<Option<&Path>> {
    if files.is_empty() { vec![None] } else { files.iter().map(|file| Some(file.as_path())).collect() }
}

fn stem(file: &Path) -> Option<String> {
    Some(file.file_stem()?.to_string_lossy().into_owned())
}
