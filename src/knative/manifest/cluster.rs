//! The cluster's ConfigMaps. A file may hold several; those that have no part in it are passed over.

use super::defaults::Defaults;
use super::{documents, is_kind, missing, open, refuse};
use crate::config::report::Report;
use crate::config::shape::keys::nearest;
use crate::knative::kpa::{self, Cluster};

/// What a cluster is set to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `config-autoscaler`.
    pub autoscaler: Cluster,
    /// `config-defaults`.
    pub defaults: Defaults,
}

const AUTOSCALER: &str = "config-autoscaler";
const DEFAULTS: &str = "config-defaults";

/// Reads both ConfigMaps where they are there. What is wrong is reported, and stood in for by Knative's default.
pub fn read(text: &str, report: &mut Report) -> Settings {
    let documents = documents(text, report);
    let mut settings = Settings::default();
    let mut found = false;
    let is_config_map = |document: &&_| is_kind(document, "ConfigMap");
    for document in documents.iter().filter(is_config_map) {
        found = true;
        let Some(root) = open(document, report) else { continue };
        let name = root.mapping("metadata", report).and_then(|metadata| metadata.text("name", report));
        let Some(data) = root.mapping("data", report) else { continue };
        match name.as_deref() {
            Some(AUTOSCALER) => {
                let values = data.text_by_key(report);
                // A name that Knative does not know does nothing there.
                for key in values.keys().filter(|key| !is_known(key)) {
                    let mend = nearest(key, Cluster::KEYS.into_iter())
                        .map_or("remove it".into(), |near| format!("did you mean `{near}`?"));
                    report.warning(&data.path.key(key), "Knative knows no such key and ignores it", mend);
                }
                check_class(values.get(CLASS).map(String::as_str), &data.path, report);
                match Cluster::parse(&values) {
                    Ok(cluster) => settings.autoscaler = cluster,
                    Err(error) => refuse(error.problems, &data.path, report),
                }
            }
            Some(DEFAULTS) => settings.defaults = Defaults::read(&data, report),
            _ => {}
        }
    }
    if !found && !report.is_given(&Default::default()) {
        missing("ConfigMap", report);
    }
    settings
}

const CLASS: &str = "pod-autoscaler-class";

fn is_known(key: &str) -> bool {
    key == "_example" || key == CLASS || Cluster::KEYS.contains(&key)
}

fn check_class(class: Option<&str>, data: &crate::config::path::Path, report: &mut Report) {
    if class.is_some_and(|class| class != kpa::CLASS) {
        let mend = format!("write {}; this machine has no other", kpa::CLASS);
        report.mistake(&data.key(CLASS), "only Knative's own autoscaler is here", mend);
    }
}
