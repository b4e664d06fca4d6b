//! Checks the rules of the code that a machine can check. Each rule has its reason beside it. A
//! change that breaks a rule on purpose changes the rule here, where a reviewer sees it.

#![allow(clippy::unwrap_used, reason = "a test that panics has said what it has to say")]

use std::fs;
use std::path::{Path, PathBuf};

mod documents;
mod english;

/// A source file, without its tests: everything up to the first `#[cfg(test)]` on a module with a
/// body.
struct Source {
    path: String,
    code: String,
    lines: usize,
}

#[test]
fn rooms_know_only_whom_they_may() {
    // (folder, banned words, reason)
    let rules: &[(&str, &[&str], &str)] = &[
        (
            "config/",
            &[
                "crate::delivery",
                "crate::event",
                "crate::source",
                "crate::sink",
                "crate::publish",
                "crate::bridge",
                "crate::app",
            ],
            "config knows no component; components make their settings from it",
        ),
        (
            "event/",
            &["lapin", "rdkafka", "crate::source", "crate::sink", "crate::publish", "crate::bridge"],
            "an event knows no broker and no way to travel",
        ),
        (
            "source/",
            &["crate::sink", "crate::publish", "crate::peers", "crate::bridge"],
            "a source knows neither sink nor shell",
        ),
        (
            "sink/",
            &["crate::source", "crate::publish", "crate::peers", "crate::bridge"],
            "a sink knows neither source nor shell",
        ),
        (
            "publish/",
            &["crate::source", "crate::sink", "crate::peers", "crate::bridge"],
            "a publisher knows neither source nor shell",
        ),
        (
            "peers/",
            &["crate::source", "crate::sink", "crate::publish", "crate::bridge", "crate::delivery::{"],
            "peers carry questions and answers, and know nothing of what they mean",
        ),
        (
            "knative/kpa/",
            &["tokio", "tracing", "serde", "longhaul_places", "crate::serve", "crate::service"],
            "the arithmetic is pure",
        ),
        (
            "plan/",
            &[
                "tokio",
                "lapin",
                "rdkafka",
                "reqwest",
                "SystemTime",
                "Instant",
                "std::fs",
                "fastrand",
                "crate::app",
                "crate::bridge",
                "crate::config",
                "crate::sink",
                "crate::publish",
                "crate::source",
                "knative::serve",
            ],
            "a plan is the core and the arithmetic: no clock, no file, no broker, one seed for one result",
        ),
        (
            "knative/service/",
            &["tokio", "tracing", "axum", "SystemTime", "Instant"],
            "the service is arithmetic; serve and plan give it time",
        ),
        (
            "knative/serve/replica/",
            &["crate::serve::engine", "super::engine"],
            "a replica knows its host by a trait",
        ),
        ("knative/manifest/", &["tokio", "axum", "crate::serve"], "manifests are read, not run"),
        ("places/", &["tokio", "tracing", "std::process"], "a file is read and checked, nothing else"),
        (
            "bridge/",
            &["lapin", "rdkafka", "reqwest", "crate::app", "crate::cli"],
            "the shell knows contracts, not brokers",
        ),
        (
            "worker/",
            &["crate::", "lapin", "rdkafka", "reqwest", "tracing"],
            "the worker is a small program of its own",
        ),
        (
            "guard/",
            &[
                "lapin",
                "rdkafka",
                "crate::source",
                "crate::sink",
                "crate::bridge",
                "crate::delivery",
                "crate::app",
            ],
            "the guard knows pods and running requests, and nothing about items",
        ),
        (
            "tools/",
            &[
                "crate::source",
                "crate::sink",
                "crate::bridge",
                "crate::peers",
                "crate::delivery",
                "crate::app",
                "crate::cli",
            ],
            "a command around a bridge uses connections and confirmed writes, and no other part",
        ),
        ("app/", &["crate::cli"], "the library does not know the command line"),
        ("admin/", &["crate::bridge", "crate::delivery", "crate::app"], "admin shows what telemetry holds"),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        for (place, banned, why) in rules {
            for word in banned.iter().filter(|_| source.path.starts_with(place)) {
                broken.extend(places(&source, word).into_iter().map(|place| format!("{place}: {why}")));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn outside_crates_stay_in_their_modules() {
    let homes: [(&str, &[&str]); 5] = [
        ("lapin::", &["rabbitmq"]),
        ("rdkafka::", &["kafka"]),
        ("reqwest::", &["http", "peers"]),
        // `kube::` alone is also the path of our own module.
        ("kube::api", &["kube"]),
        ("k8s_openapi::", &["kube"]),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        let modules: Vec<&str> = source.path.trim_end_matches(".rs").split('/').collect();
        for (krate, home) in
            homes.iter().filter(|(_, homes)| !homes.iter().any(|home| modules.contains(home)))
        {
            broken.extend(
                places(&source, krate)
                    .into_iter()
                    .map(|place| format!("{place}: only in modules named {}", home.join(" or "))),
            );
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_command_line_prints_or_exits() {
    let words = ["println!", "print!", "eprintln!", "process::exit"];
    let outside = |source: &&Source| {
        !source.path.starts_with("cli/") && source.path != "main.rs" && !source.path.starts_with("bin/")
    };
    let broken: Vec<String> = sources()
        .iter()
        .filter(outside)
        .flat_map(|source| words.iter().flat_map(|word| places(source, word)))
        .collect();
    assert!(broken.is_empty(), "only cli and main print or exit:\n{}", broken.join("\n"));
}

#[test]
fn only_the_shell_and_supervisors_spawn() {
    let homes =
        ["admin/", "app/", "bridge/", "cli/", "source/", "publish/", "connect/", "knative/serve/", "worker/"];
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| !homes.iter().any(|home| source.path.starts_with(home)))
        .flat_map(|source| places(source, "spawn("))
        .collect();
    assert!(broken.is_empty(), "spawned outside of app, bridge, cli and supervisors:\n{}", broken.join("\n"));
}

/// `items.rs` owns the items and every index over them. Its fields are private, so the compiler
/// keeps all rules away from them; this test keeps them private, and keeps a second index from
/// appearing elsewhere.
#[test]
fn no_rule_of_the_core_writes_to_a_counter_or_an_index() {
    let core: Vec<Source> =
        sources().into_iter().filter(|source| source.path.starts_with("delivery/")).collect();
    let owner = core.iter().find(|source| source.path.ends_with("/items.rs")).unwrap();
    for name in ["struct Items {", "struct Indexes {"] {
        let body = owner.code.split(name).nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
        assert!(!body.contains("pub"), "the fields of `{name}` are private to items.rs");
    }
    let collections = ["BTreeMap<", "BTreeSet<", "HashMap<", "HashSet<", "VecDeque<"];
    let is_index = |line: &str| {
        let holds_items = line.contains("ItemId") && !line.contains("fn ") && !line.contains("let ");
        holds_items && collections.iter().any(|collection| line.contains(collection))
    };
    let others = core.iter().filter(|source| !source.path.ends_with("/items.rs"));
    let broken: Vec<String> = others
        .flat_map(|source| source.code.lines().map(move |line| (source, line)))
        .filter(|(_, line)| is_index(line))
        .map(|(source, line)| format!("{}: {}", source.path, line.trim()))
        .collect();
    assert!(broken.is_empty(), "only items.rs holds an index over items:\n{}", broken.join("\n"));
}

#[test]
fn unsafe_is_in_one_file_at_most() {
    let with_unsafe: Vec<String> = sources()
        .into_iter()
        .filter(|source| uses(source, "unsafe {").next().is_some())
        .map(|source| source.path)
        .collect();
    assert!(with_unsafe.len() <= 1, "unsafe in {with_unsafe:?}");
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > 500)
        .map(|source| format!("{} has {} lines", source.path, source.lines))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Returns the places of `word` for the message.
fn places(source: &Source, word: &str) -> Vec<String> {
    uses(source, word).map(|line| format!("{}:{line}: `{word}`", source.path)).collect()
}

/// Returns the numbers of the code lines that contain `word`; comments do not count.
fn uses<'a>(source: &'a Source, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_code = |line: &str| !line.trim_start().starts_with("//");
    source
        .code
        .lines()
        .enumerate()
        .filter(move |(_, line)| is_code(line) && contains_word(line, word))
        .map(|(index, _)| index + 1)
}

/// Whether the line contains `word`, and not only as the end of a longer word.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

/// Returns all source files. A file of the root package is named like `bridge/mod.rs`, a file of a
/// crate like `knative/kpa/mod.rs`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = package(&root.join("src"), "");
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        sources.extend(package(&entry.path().join("src"), &format!("{name}/")));
    }
    sources
}

fn package(folder: &Path, prefix: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(folder, &mut files);
    assert!(files.len() > 5, "found only {} files below {}", files.len(), folder.display());
    files.iter().map(|file| read(folder, file, prefix)).collect()
}

fn read(folder: &Path, file: &Path, prefix: &str) -> Source {
    let text = fs::read_to_string(file).unwrap();
    let path = format!("{prefix}{}", file.strip_prefix(folder).unwrap().to_string_lossy());
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    Source { lines: text.lines().count(), path, code }
}

/// Collects all files, apart from test modules, which may use anything.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            collect(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}
