//! Converts the manifest of another tool to a configuration and to manifests for longhaul.
//!
//! [`ledger`] walks the documents and remembers which of their values were used, so that each value
//! has a line in the report: none is dropped silently. [`knative`], [`keda`] and [`redpanda`] read
//! one kind each and fill a [`Draft`]. [`draft`] writes the configuration, [`manifests`] the files
//! around it.

use longhaul_places::yaml::{self, Document};
use longhaul_places::{Mistakes, Report};

mod delivery;
mod draft;
mod keda;
mod knative;
mod ledger;
mod manifests;
mod redpanda;
mod text;
mod worker;

use draft::Draft;
pub use ledger::{Fate, Line};
use ledger::{Ledger, Part};

/// The result of a conversion.
#[derive(Debug)]
pub struct Migration {
    pub files: Vec<File>,
    /// One line for each value of the source, and for each decision, sorted by place.
    pub report: Vec<Line>,
}

/// A file to write, with a path relative to the folder of the user.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub text: String,
}

const KINDS: &str = "RabbitmqSource, KafkaSource, ScaledJob, ScaledObject, or a Redpanda Connect pipeline with `input` and `output`";

/// Converts the text of a file. `name` is the name of the file in mistakes and comments.
///
/// # Errors
/// All mistakes: text that is not YAML, and documents from which no pipeline can be made.
pub fn migrate(name: &str, text: &str) -> Result<Migration, Mistakes> {
    let mut report = Report::default();
    let documents = match yaml::documents(text) {
        Ok(documents) => documents,
        Err(error) => {
            report.at(error.at.start, &Default::default(), error.reason, error.help);
            return Err(report.finish(name, text).0);
        }
    };
    let mut ledger = Ledger::default();
    let mut drafts = Vec::new();
    for document in &documents {
        for error in &document.errors {
            report.at(error.at.start, &Default::default(), error.reason.as_str(), error.help.as_str());
        }
        drafts.extend(convert(document, &documents, &mut ledger, &mut report));
        ledger.finish_document();
    }
    let (mistakes, _) = report.finish(name, text);
    if !mistakes.list.is_empty() {
        return Err(mistakes);
    }
    if drafts.is_empty() {
        let at = documents.first().map_or(yaml::Range::START, |document| document.root.range).start;
        let help = format!("name a file with one of these: {KINDS}");
        let mut report = Report::default();
        report.at(at, &Default::default(), "nothing in this file can be converted", help);
        return Err(report.finish(name, text).0);
    }
    draft::separate_names(&mut drafts);
    Ok(Migration { files: manifests::files(name, &drafts), report: ledger.into_lines() })
}

/// Makes the pipelines of one document. `all` are the documents of the file, because an object of
/// KEDA names others.
fn convert(document: &Document, all: &[Document], ledger: &mut Ledger, report: &mut Report) -> Vec<Draft> {
    let root = Part::root(&document.root);
    let kind = root.get("kind").and_then(|kind| kind.text());
    let version = root.get("apiVersion").and_then(|version| version.text()).unwrap_or_default();
    match kind.as_deref() {
        Some("RabbitmqSource") => knative::rabbitmq(&root, ledger, report),
        Some("KafkaSource") if version.contains("knative.dev/") => knative::kafka(&root, ledger, report),
        Some("ScaledJob" | "ScaledObject") => keda::convert(&root, all, ledger, report),
        Some("TriggerAuthentication" | "ClusterTriggerAuthentication") if all.len() > 1 => {
            ledger.carry(&root, "the Secrets that it names are mounted by the pipeline that uses it");
            Vec::new()
        }
        Some(kind) => {
            let text = format!("a {kind} is not converted: it stays as it is");
            ledger.without(&root, text);
            Vec::new()
        }
        None if root.get("input").is_some() => redpanda::convert(&root, ledger, report),
        None => {
            ledger.without(&root, "this document has neither a `kind` nor an `input`");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests;
