//! A revision's timeouts as they are written, so that a variant of one of them gets what Knative makes of all of them.

use std::collections::BTreeMap;

use crate::config::yaml::{self, Content, Document, Node};
use crate::knative::manifest::{self, Error};
use crate::plan::{ResponseStart, Service};

/// The fields of the revision's spec that one rule resolves together, all in seconds.
pub const FIELDS: [&str; 3] = ["timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"];

/// What stands in the manifest, and the cluster's ConfigMaps with the defaults for what does not.
#[derive(Clone, Debug, Default)]
pub struct Written {
    fields: BTreeMap<&'static str, String>,
    cluster: Option<String>,
}

impl Written {
    /// The fields of `service`, a manifest that was read without mistakes; `cluster` is the text of the file beside it.
    pub fn read(service: &str, cluster: Option<&str>) -> Self {
        // What does not parse was refused before, so there is nothing to say about it here.
        let documents = yaml::documents(service).unwrap_or_default();
        let spec = documents.iter().find(|document| is_service(document)).and_then(spec);
        let text = |field| Some((field, scalar(child(spec?, field)?)?.to_owned()));
        Written { fields: FIELDS.into_iter().filter_map(text).collect(), cluster: cluster.map(str::to_owned) }
    }

    /// Writes `seconds` in place of what stood there.
    pub fn write(&mut self, field: &'static str, seconds: u32) {
        self.fields.insert(field, seconds.to_string());
    }

    /// The timeouts that Knative makes of the fields.
    ///
    /// # Errors
    /// What the cluster would refuse, such as a limit above `timeoutSeconds`.
    pub fn resolve(&self) -> Result<manifest::Timeouts, String> {
        let cluster = self.cluster.as_deref().map(|text| ("the cluster", text));
        let loaded = manifest::load(("the variant", &self.manifest()), cluster).map_err(reasons)?;
        Ok(loaded.service.timeouts)
    }

    /// A manifest with these fields and otherwise no more than it needs: the rule itself is the reader's.
    fn manifest(&self) -> String {
        let fields: String = self.fields.iter().map(|(field, text)| format!("{field}: {text}, ")).collect();
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{ name: variant }}\n\
             spec: {{ template: {{ spec: {{ {fields}containers: [{{ image: worker }}] }} }} }}\n"
        )
    }
}

/// Sets all three of `service`.
pub fn set(service: &mut Service, timeouts: manifest::Timeouts) {
    service.timeout = timeouts.request;
    service.idle_timeout = timeouts.idle;
    service.response_start = match timeouts.response_start {
        Some(limit) if timeouts.response_start_is_default => ResponseStart::Default(limit),
        Some(limit) => ResponseStart::Limit(limit),
        None => ResponseStart::Unlimited,
    };
}

/// Without the places, which are those of a manifest that nobody wrote.
fn reasons(error: Error) -> String {
    let Error::Mistakes(files) = error else { return error.to_string() };
    let mistakes = files.iter().flat_map(|file| &file.list);
    let reasons = mistakes.map(|mistake| {
        let field = mistake.path.rsplit('.').next().unwrap_or_default();
        format!("{field}: {}; {}", mistake.reason, mistake.mend)
    });
    reasons.collect::<Vec<_>>().join("\n")
}

/// One of Knative's: Kubernetes has the same kind.
fn is_service(document: &Document) -> bool {
    let text = |key| child(&document.root, key).and_then(scalar).unwrap_or_default();
    text("kind") == "Service" && text("apiVersion").starts_with("serving.knative.dev/")
}

fn spec(document: &Document) -> Option<&Node> {
    child(child(child(&document.root, "spec")?, "template")?, "spec")
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Content::Map(entries) = &node.content else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, .. } => Some(text),
        Content::List(_) | Content::Map(_) => None,
    }
}
