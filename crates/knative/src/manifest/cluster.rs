//! Reads the cluster's ConfigMaps. A file may hold several; those that are not needed are skipped.

use super::defaults::Defaults;
use super::tree::Mapping;
use super::{documents, is_kind, missing, open, refuse};
use crate::kpa::{self, Cluster};
use longhaul_places::report::Report;
use longhaul_places::shape::nearest;

/// The settings of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `config-autoscaler`.
    pub autoscaler: Cluster,
    /// `config-defaults`.
    pub defaults: Defaults,
}

const AUTOSCALER: &str = "config-autoscaler";
const DEFAULTS: &str = "config-defaults";

/// Reads both ConfigMaps, if the file has them. A wrong value is reported and replaced by Knative's
/// default.
pub fn read(text: &str, report: &mut Report) -> Settings {
    let mut settings = Settings::default();
    let mut found = false;
    let is_config_map = |document: &&_| is_kind(document, "ConfigMap");
    let Some(documents) = documents(text, report) else { return settings };
    for document in documents.iter().filter(is_config_map) {
        let Some(root) = open(document, report) else { continue };
        let name = root.mapping("metadata", report).and_then(|metadata| metadata.text("name", report));
        let name = name.as_deref().unwrap_or(AUTOSCALER);
        found |= [AUTOSCALER, DEFAULTS].contains(&name);
        let Some(data) = root.mapping("data", report) else { continue };
        match name {
            AUTOSCALER => settings.autoscaler = autoscaler(&data, report),
            DEFAULTS => settings.defaults = Defaults::read(&data, report),
            _ => {}
        }
    }
    if !found {
        let help = "name a file with a document of `kind: ConfigMap` and `name: config-autoscaler`";
        missing("ConfigMap config-autoscaler", help, report);
    }
    settings
}

fn autoscaler(data: &Mapping<'_>, report: &mut Report) -> Cluster {
    let values = data.text_by_key(report);
    for key in values.keys().filter(|key| !is_known(key)) {
        let help = nearest(key, Cluster::KEYS.into_iter())
            .map_or("remove it".into(), |near| format!("did you mean `{near}`?"));
        report.warning(&data.path.key(key), "Knative knows no such key and ignores it", help);
    }
    if values.get(CLASS).is_some_and(|class| class != kpa::CLASS) {
        let help = format!("write {}; this machine has no other", kpa::CLASS);
        report.mistake(&data.path.key(CLASS), "only Knative's own autoscaler is here", help);
    }
    Cluster::parse(&values).unwrap_or_else(|error| {
        refuse(error.problems, &data.path, report);
        Cluster::default()
    })
}

const CLASS: &str = "pod-autoscaler-class";

fn is_known(key: &str) -> bool {
    key == "_example" || key == CLASS || Cluster::KEYS.contains(&key)
}
