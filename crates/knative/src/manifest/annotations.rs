//! Reads the annotations of a revision, and finds those in the wrong place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::refuse;
use super::tree::Mapping;
use crate::duration;
use crate::kpa::annotations::{ALL, GROUP};
use crate::kpa::{Annotations, Cluster};
use longhaul_places::report::Report;
use longhaul_places::shape::nearest;

const PROGRESS_DEADLINE: &str = "serving.knative.dev/progress-deadline";

/// Reads the annotations of `spec.template.metadata`, which belong to the revision.
pub fn of_revision(
    metadata: Option<&Mapping<'_>>,
    cluster: &Cluster,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let Some(mapping) = metadata.and_then(|metadata| metadata.mapping("annotations", report)) else {
        return BTreeMap::new();
    };
    let annotations = mapping.text_by_key(report);
    let known: Vec<String> = ALL.into_iter().flat_map(|key| key.names()).collect();
    let is_unknown = |name: &&String| name.starts_with(GROUP) && !known.contains(name);
    for name in annotations.keys().filter(is_unknown) {
        let help = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove it".into(),
        };
        report.warning(&mapping.path.key(name), "Knative knows no such annotation and ignores it", help);
    }
    if let Err(error) = Annotations(&annotations).check(cluster) {
        refuse(error.problems, &mapping.path, report);
    }
    let whole_and_above_zero = |length: &Duration| !length.is_zero() && length.subsec_nanos() == 0;
    if let Some(text) = annotations.get(PROGRESS_DEADLINE)
        && !duration::parse(text).is_ok_and(|length| whole_and_above_zero(&length))
    {
        let path = mapping.path.key(PROGRESS_DEADLINE);
        report.mistake(&path, "it must be whole seconds above 0", "write a duration such as \"600s\"");
    }
    annotations
}

/// Reports autoscaler annotations on the Service itself. They have no effect there, and Knative
/// refuses them.
pub fn of_service(metadata: &Mapping<'_>, report: &mut Report) {
    let Some(mapping) = metadata.mapping("annotations", report) else { return };
    for name in mapping.keys().filter(|name| name.starts_with(GROUP)) {
        let reason = "an autoscaling annotation does nothing on the Service itself";
        report.mistake(&mapping.path.key(name), reason, "move it to spec.template.metadata.annotations");
    }
}
