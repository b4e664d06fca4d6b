//! Reads real manifests: a Knative Service, and the cluster's ConfigMaps `config-autoscaler` and
//! `config-defaults`. The same files are refused as by Knative's own webhook. One run reports all
//! mistakes, each with its line and column.
//!
//! Some fields have no meaning on this machine (volumes, limits, sidecars). They are ignored, with
//! a warning if the worker would notice the difference.

use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};

use crate::kpa;
use crate::kpa::annotations::CLASS;
use longhaul_places::Mistakes;
use longhaul_places::path::Path;
use longhaul_places::report::Report;
use longhaul_places::yaml::{self, Document, Range};

mod annotations;
mod cluster;
mod container;
mod defaults;
mod env;
mod probe;
mod service;
mod timeouts;
mod tree;

pub use cluster::Settings;
pub use defaults::Defaults;
pub use env::Variable;
pub use probe::{Check, Probe};
pub use service::{Service, Source};
pub use timeouts::{Remark, Resolved, Timeouts, Written};

use tree::{Field, Mapping};

/// A service as its manifest describes it, and the settings of the cluster that it would run in.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub service: Service,
    pub settings: Settings,
    /// Settings that work, but may have an unintended effect.
    pub warnings: Vec<Mistakes>,
}

/// The reasons why the files give no service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be read: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}", Joined(.0))]
    Mistakes(Vec<Mistakes>),
}

struct Joined<'a>(&'a [Mistakes]);

/// Reads and checks a Service, and the cluster's ConfigMaps if a file is named.
///
/// # Errors
/// A file that cannot be read, or all mistakes of both files.
pub fn read(service: &FilePath, cluster: Option<&FilePath>) -> Result<Loaded, Error> {
    let service_text = read_text(service)?;
    let cluster = match cluster {
        Some(file) => Some((file.display().to_string(), read_text(file)?)),
        None => None,
    };
    let cluster = cluster.as_ref().map(|(file, text)| (file.as_str(), text.as_str()));
    load((&service.display().to_string(), &service_text), cluster)
}

/// Works like [`read`], but takes the texts, each behind the name of its file.
///
/// # Errors
/// All mistakes of both files. If the cluster's file is wrong, the Service is checked with
/// Knative's defaults.
pub fn load(service: (&str, &str), cluster: Option<(&str, &str)>) -> Result<Loaded, Error> {
    let mut mistakes = Vec::new();
    let mut warnings = Vec::new();
    let mut keep = |found: (Mistakes, Mistakes)| {
        mistakes.extend((!found.0.list.is_empty()).then_some(found.0));
        warnings.extend((!found.1.list.is_empty()).then_some(found.1));
    };
    let mut settings = Settings::default();
    if let Some((file, text)) = cluster {
        let mut report = Report::default();
        settings = cluster::read(text, &mut report);
        keep(report.finish(file, text));
    }
    let (file, text) = service;
    let mut report = Report::default();
    let service = service::read(text, &settings, &mut report);
    keep(report.finish(file, text));
    match service {
        Some(service) if mistakes.is_empty() => Ok(Loaded { service, settings, warnings }),
        _ => Err(Error::Mistakes(mistakes)),
    }
}

fn read_text(file: &FilePath) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|source| Error::Unreadable { file: file.to_owned(), source })
}

/// Returns the documents of a file. If it is not YAML, reports that and returns `None`.
fn documents(text: &str, report: &mut Report) -> Option<Vec<Document>> {
    match yaml::documents(text) {
        Ok(documents) => Some(documents),
        Err(error) => {
            report.at(error.at.start, &Path::default(), error.reason, error.help);
            None
        }
    }
}

/// Returns the mapping of a document, and reports the document's own mistakes.
fn open<'a>(document: &'a Document, report: &mut Report) -> Option<Mapping<'a>> {
    for error in &document.errors {
        report.at(error.at.start, &Path::default(), error.reason.as_str(), error.help.as_str());
    }
    Field::root(&document.root, report).mapping(report)
}

/// Returns the text of a key of the document. Reports nothing, because this may not be the wanted
/// document.
fn peek(document: &Document, key: &str) -> Option<String> {
    let mut unused = Report::default();
    let root = Field::root(&document.root, &mut unused).mapping(&mut unused)?;
    root.text(key, &mut unused)
}

fn is_kind(document: &Document, kind: &str) -> bool {
    peek(document, "kind").is_some_and(|text| text == kind)
}

fn missing(what: &str, help: &str, report: &mut Report) {
    report.at(Range::START.start, &Path::default(), format!("this file holds no {what}"), help);
}

/// Reports the mistakes that the autoscaler's own rules find, each at its value in `mapping`.
fn refuse(problems: Vec<kpa::Problem>, mapping: &Path, report: &mut Report) {
    for kpa::Problem { key, reason } in problems {
        let help = if key == CLASS.name() {
            "leave it out: Knative may take it, but this machine has only Knative's own autoscaler"
        } else {
            "Knative refuses it too: keep to the rule, or leave the key out for the default"
        };
        report.mistake(&mapping.key(&key), reason, help);
    }
}

impl fmt::Display for Joined<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistakes) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{mistakes}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
