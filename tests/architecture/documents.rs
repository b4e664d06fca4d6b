//! The documents name things that exist, and the example files are complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_guarantee_names_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let mut missing = Vec::new();
    for (file, name) in quoted(&text).filter_map(|quoted| quoted.split_once(".rs::")) {
        let file = format!("{file}.rs");
        let source = fs::read_to_string(root().join(&file)).unwrap_or_default();
        if !source.contains(&format!("fn {name}(")) {
            missing.push(format!("{file}::{name}"));
        }
    }
    assert!(missing.is_empty(), "docs/guarantees.md names tests that do not exist: {missing:#?}");
    let (_, tests) = text.split_once("## Tests").unwrap();
    for id in ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "D1", "D2", "D3", "D4"] {
        assert!(tests.contains(&format!("\n### {id}\n\n* `")), "docs/guarantees.md names no test for {id}");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 120, "README.md has {lines} lines: move details to docs/");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        for target in links(&text).filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            if !path.exists() || (!anchor.is_empty() && !anchors(&path).contains(anchor)) {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_example_names_its_schema() {
    let mut examples = Vec::new();
    for folder in ["config", "deploy"] {
        collect(&root().join(folder), "yaml", &mut examples);
    }
    examples.retain(|file| fs::read_to_string(file).unwrap().contains("\npipelines:"));
    assert!(examples.len() >= 5, "{examples:?}");
    for file in examples {
        let text = fs::read_to_string(&file).unwrap();
        let line = text.lines().next().unwrap_or_default();
        let schema = line.strip_prefix("# yaml-language-server: $schema=").unwrap_or_default();
        let schema = file.parent().unwrap().join(schema);
        assert!(schema.ends_with("schema.json") && schema.is_file(), "{}: {line}", file.display());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files of the project.
fn documents() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    for folder in ["docs", ".github"] {
        collect(&root().join(folder), "md", &mut files);
    }
    files
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, extension, files);
        } else if path.extension().is_some_and(|its| its == extension) {
            files.push(path);
        }
    }
}

/// Returns the text between each pair of backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Returns the anchors that GitHub makes of the headings.
fn anchors(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}
