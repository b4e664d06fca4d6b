//! Checks the rules of docs/style.md that a machine can check, in every file of the project: code,
//! tests, benchmarks, scripts, configuration and documents.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest line of a comment, so that it fits beside other windows and into a review.
const WIDTH: usize = 100;

#[test]
fn comments_fit_into_a_hundred_columns() {
    let mut long = Vec::new();
    for file in files().iter().filter(|file| !is_document(file)) {
        for (line, number) in read(file).lines().zip(1..) {
            if is_comment(file, line) && line.chars().count() > WIDTH && !line.contains("://") {
                long.push(format!("{}:{number}", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "comments of more than {WIDTH} columns:\n{}", long.join("\n"));
}

/// A free relative ("what runs") hides its noun. A question or a real clause may use the word.
#[test]
fn few_comments_say_what_or_whatever() {
    let (mut comments, mut found) = (0, Vec::new());
    for file in files().iter().filter(|file| is_rust(file)) {
        for (line, number) in read(file).lines().zip(1..).filter(|(line, _)| is_comment(file, line)) {
            comments += 1;
            if ["what", "whatever", "whoever"].iter().any(|word| has_words(line, word)) {
                found.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(comments > 5_000, "found only {comments} lines of comments");
    assert!(found.len() * 100 <= comments, "of {comments} comment lines:\n{}", found.join("\n"));
}

#[test]
fn words_that_the_style_avoids_are_rare() {
    let limits: [(&[&str], usize); 2] =
        [(&["is no", "are no"], 9), (&["mend", "mends", "mended", "mending", "anew"], 0)];
    for (words, most) in limits {
        let mut found = Vec::new();
        for file in files().iter().filter(|file| !file.ends_with("docs/style.md")) {
            let text = read(file);
            let is_found = |line: &str| words.iter().any(|words| has_words(line, words));
            let lines = text.lines().zip(1..).filter(|(line, _)| is_found(line));
            found.extend(lines.map(|(line, at)| format!("{}:{at}: {}", file.display(), line.trim())));
        }
        assert!(found.len() <= most, "at most {most} lines with {words:?}:\n{}", found.join("\n"));
    }
}

/// Returns every text file of the project that a person writes. This file names the words, so it is
/// left out. Generated files are left out because they repeat the text of others.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, &mut files);
    files.retain(|file| is_written(file));
    assert!(files.len() > 400, "found only {} files", files.len());
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            // Worktrees and build folders are not part of the project.
            if !matches!(name.as_str(), "target" | ".git" | "fixtures" | "snapshots" | "corpus") {
                collect(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

fn is_written(file: &Path) -> bool {
    let extensions = ["rs", "go", "c", "toml", "yaml", "yml", "md"];
    let scripts = ["tests/run", "tests/brokers", "benches/run", "docs/knative/run", "docs/knative/draw"];
    let others = ["justfile", "Dockerfile"];
    let generated = ["docs/configuration.md", "docs/metrics.md", "tests/architecture/english.rs"];
    let is_known = file.extension().is_some_and(|its| extensions.iter().any(|known| its == *known))
        || scripts.iter().any(|script| file.ends_with(script))
        || file.file_name().is_some_and(|name| others.iter().any(|other| name == *other));
    is_known && !generated.iter().any(|other| file.ends_with(other))
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn is_document(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "md")
}

fn is_comment(file: &Path, line: &str) -> bool {
    let line = line.trim_start();
    let marks_with_slashes = file.extension().is_some_and(|its| its == "rs" || its == "go" || its == "c");
    if marks_with_slashes { line.starts_with("//") } else { line.starts_with('#') }
}

/// Whether the words stand in the line, whole and in either case.
fn has_words(line: &str, words: &str) -> bool {
    let line = line.to_lowercase();
    let is_letter = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(words)
        .any(|(at, _)| !line[..at].ends_with(is_letter) && !line[at + words.len()..].starts_with(is_letter))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}
