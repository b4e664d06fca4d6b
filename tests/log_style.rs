//! Checks the style of log lines: the message is a literal that starts with a capital letter and
//! has no final full stop. Values are fields.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

const LEVELS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

#[test]
fn every_log_message_starts_with_a_capital_letter_and_has_no_final_stop() {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "crates"] {
        collect(&root.join(folder), &mut files);
    }
    let (mut wrong, mut count) = (Vec::new(), 0);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().display().to_string();
        for (line, call) in calls(&text) {
            count += 1;
            match message(&call) {
                None => wrong.push(format!("{name}:{line}: the message is not a literal")),
                Some(message) => {
                    let reason = fault(&message);
                    wrong.extend(reason.map(|reason| format!("{name}:{line}: {reason}: {message:?}")));
                }
            }
        }
    }
    assert!(count > 50, "found only {count} log lines");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn fault(message: &str) -> Option<&'static str> {
    if !message.starts_with(|first: char| first.is_uppercase())
        && !matches!(message, "{$message}" | "{message}")
    {
        return Some("no capital letter at the start");
    }
    if message.ends_with(['.', '!', ':']) {
        return Some("a stop at the end");
    }
    message.contains('\n').then_some("a line break")
}

/// Returns the line and the arguments of each log macro.
fn calls(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("tracing::") {
        let after = &text[at + "tracing::".len()..];
        let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        if text[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let Some(level) = LEVELS.iter().find(|level| after.starts_with(**level)) else { continue };
        let line = text[..at].matches('\n').count() + 1;
        found.push((line, arguments(&after[level.len()..])));
    }
    found
}

/// Returns the text up to the closing bracket.
fn arguments(text: &str) -> String {
    text[..end(text, |depth, _| depth < 0).unwrap_or(text.len())].to_owned()
}

/// Returns the first argument that is a literal and not a field. A macro's own `$message` is a
/// literal of its caller.
fn message(arguments: &str) -> Option<String> {
    let mut rest = arguments;
    while !rest.trim().is_empty() {
        let (argument, after) = first_argument(rest);
        let argument = argument.trim();
        if let Some(text) = argument.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            return Some(text.to_owned());
        }
        if argument == "$message" {
            return Some("{$message}".to_owned());
        }
        rest = after;
    }
    None
}

/// Splits off the text up to the first comma that is not inside of brackets.
fn first_argument(text: &str) -> (&str, &str) {
    match end(text, |depth, character| depth == 0 && character == ',') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    }
}

/// Returns the place of the first character outside of literals for which `is_end` returns true. It
/// gets the depth of brackets after the character.
fn end(text: &str, is_end: impl Fn(i32, char) -> bool) -> Option<usize> {
    let (mut depth, mut in_text, mut is_escaped) = (0, false, false);
    text.char_indices().find_map(|(at, character)| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if in_text => is_escaped = true,
            '"' => in_text = !in_text,
            '(' | '[' | '{' if !in_text => depth += 1,
            ')' | ']' | '}' if !in_text => depth -= 1,
            _ => {}
        }
        (!in_text && is_end(depth, character)).then_some(at)
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" && name != "target" {
            collect(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}
