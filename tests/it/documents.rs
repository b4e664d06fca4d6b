//! The examples of the documents work: every configuration passes the check, and every command line
//! of longhaul can be parsed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use longhaul::cli::Cli;

use super::manifests::{check_example, root};

/// A fenced block of a document.
struct Block {
    place: String,
    language: String,
    text: String,
}

#[test]
fn every_configuration_passes_the_check() {
    let blocks = blocks();
    let is_configuration = |block: &&Block| block.language == "yaml" && block.text.starts_with("pipelines:");
    let whole = |block: &&Block| block.text.contains("source:") && block.text.contains("max_in_flight:");
    let mut count = 0;
    for block in blocks.iter().filter(is_configuration).filter(whole) {
        check_example(&block.place, &block.text);
        count += 1;
    }
    assert!(count >= 1, "found no configuration");
}

#[test]
fn every_command_line_can_be_parsed() {
    let mut count = 0;
    for block in blocks().iter().filter(|block| block.language == "sh") {
        for words in block.text.replace("\\\n", " ").lines().flat_map(commands) {
            count += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                let is_asked = matches!(
                    error.kind(),
                    clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
                );
                assert!(is_asked, "{}: {words:?}\n{error}", block.place);
            }
        }
    }
    assert!(count >= 20, "found only {count} command lines");
}

/// Returns the words of each command of longhaul in a line of a shell.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    for word in words(line) {
        match word.as_str() {
            "|" | "&&" | ";" | "||" => commands.push(Vec::new()),
            _ => commands.last_mut().unwrap().push(word),
        }
    }
    commands.into_iter().filter_map(command).collect()
}

/// Returns the words behind `longhaul` or `cargo run --`, without variables before and redirections
/// behind.
fn command(words: Vec<String>) -> Option<Vec<String>> {
    let is_variable = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let words: Vec<String> = words.into_iter().skip_while(is_variable).collect();
    let words = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cargo", "run", "--", ..] => [vec!["longhaul".to_owned()], words[3..].to_vec()].concat(),
        ["longhaul", ..] => words,
        _ => return None,
    };
    let end = words.iter().position(|word| word.starts_with(['>', '<']) || word == "&" || word == "2>");
    Some(words[..end.unwrap_or(words.len())].to_vec())
}

/// Splits a line into words as a shell does, as far as the documents need it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_open) = (Vec::new(), String::new(), None, false);
    for letter in line.trim_start_matches("$ ").chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => word.push(letter),
            (None, '\'' | '"') => (quote, is_open) = (Some(letter), true),
            (None, '#') if word.is_empty() && !is_open => break,
            (None, ';') => {
                words.extend((is_open || !word.is_empty()).then(|| std::mem::take(&mut word)));
                words.push(";".to_owned());
                is_open = false;
            }
            (None, _) if letter.is_whitespace() => {
                words.extend((is_open || !word.is_empty()).then(|| std::mem::take(&mut word)));
                is_open = false;
            }
            (None, _) => word.push(letter),
        }
    }
    words.extend((is_open || !word.is_empty()).then_some(word));
    words
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        let mut open: Option<Block> = None;
        for (line, number) in text.lines().zip(1..) {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    let place = format!("{}:{number}", file.display());
                    open = Some(Block { place, language: language.to_owned(), text: String::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
    }
    assert!(blocks.len() > 20, "found only {} blocks", blocks.len());
    for block in &mut blocks {
        // A comment may come before the first key.
        let skipped = block
            .text
            .lines()
            .take_while(|line| line.starts_with('#'))
            .map(|line| line.len() + 1)
            .sum::<usize>();
        if block.language == "yaml" {
            block.text.drain(..skipped);
        }
    }
    blocks
}

fn documents() -> Vec<PathBuf> {
    let mut files = vec![root("README.md"), root("CONTRIBUTING.md")];
    for folder in ["docs", "deploy", "chart"] {
        collect(&root(folder), &mut files);
    }
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}
