//! `longhaul debug bundle`, `version`, `completions`, and the ways to name a configuration.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use super::{Ran, command, run};
use crate::run::backlog::{Backlog, Rabbitmq};
use crate::support::process::Longhaul;
use crate::support::{eventually, within};

fn contents(path: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let read = |mut entry: tar::Entry<'_, _>| {
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    };
    archive.entries().unwrap().map(|entry| read(entry.unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_the_facts_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Rabbitmq::create().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = format!(
        "pipelines:\n  - name: a\n    source: {}\n    sink: {{ url: 'http://127.0.0.1:9/?key=hunter2', headers: {{ authorization: 'Bearer hunter3' }} }}\n    max_in_flight: 1\n    on_failed: hold\nadmin: {{ listen: '{admin}', token: hunter2-and-more }}\n",
        queue.source().replace("guest:guest", "guest:${env:PASSWORD}")
    );
    std::fs::write(folder.path().join("longhaul.yaml"), &config).unwrap();
    std::fs::write(folder.path().join("log"), "a line with hunter2-and-more\n").unwrap();
    let bridge = Longhaul::run_with(&config, "info", &[("PASSWORD", "guest".to_owned())]);
    let url = format!("http://{admin}");
    eventually("the admin server", async || crate::support::get(format!("{url}/livez")).await.is_ok()).await;
    let mut command = command(
        folder.path(),
        &["debug", "bundle", "--url", &url, "--output", "b.tar.gz", "--log-file", "log", "--json"],
    );
    let ran: Ran = within("the end", command.env("PASSWORD", "guest").output()).await.unwrap().into();
    assert_eq!(ran.code, 0, "{ran:?}");
    let files = contents(&folder.path().join("b.tar.gz"));
    for name in [
        "version.json",
        "configuration.json",
        "readyz.json",
        "metrics.txt",
        "findings.json",
        "topology.json",
        "log-1.txt",
    ] {
        assert!(
            files.get(&format!("longhaul/{name}")).is_some_and(|text| !text.is_empty()),
            "{name}: {:?}",
            files.keys()
        );
    }
    assert!(files["longhaul/metrics.txt"].contains("longhaul_items_in_flight"));
    assert!(files["longhaul/topology.json"].contains("quorum"), "{}", files["longhaul/topology.json"]);
    assert!(files["longhaul/findings.json"].contains("sink-refused"));
    for (name, text) in &files {
        assert!(!text.contains("hunter"), "{name}: {text}");
    }
    let again = run(folder.path(), &["debug", "bundle", "--offline", "--output", "b.tar.gz"]).await;
    assert_eq!(again.code, 69, "an existing file stays: {again:?}");
    bridge.stop().await;
    queue.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_comes_from_standard_input_or_a_default_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = "pipelines: [{ name: a, source: { rabbitmq: { url: 'amqp://h', queue: q } }, sink: { url: 'http://h' }, max_in_flight: 1, on_failed: hold }]\n";
    let mut child = command(folder.path(), &["check", "-c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).await.unwrap();
    let output = within("the end", child.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let ran = run(folder.path(), &["check"]).await;
    assert_eq!((ran.code, ran.err.contains("longhaul.yaml cannot be read")), (78, true), "{ran:?}");
    std::fs::write(folder.path().join("longhaul.yaml"), config).unwrap();
    let ran = run(folder.path(), &["check"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "longhaul.yaml: ok, 1 pipeline\n"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["man", "pages/man1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    let page = |name: &str| {
        let file = folder.path().join("pages/man1").join(format!("{name}.1"));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    assert!(page("longhaul").contains(".TH longhaul 1"));
    let help = run(folder.path(), &["--help"]).await;
    let (_, commands) = help.out.split_once("Commands:\n").unwrap();
    let names = commands.lines().take_while(|line| !line.is_empty());
    let names: Vec<&str> = names
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(page(&format!("longhaul-{name}")).contains("SYNOPSIS"), "{name}");
    }
    assert!(page("longhaul-dead-letter-redrive").contains("OPTIONS"));
    let hidden: Vec<_> = std::fs::read_dir(folder.path().join("pages/man1")).unwrap().flatten().collect();
    assert!(!hidden.iter().any(|file| file.file_name().to_string_lossy().contains("guard")), "{hidden:?}");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let ran = run(folder.path(), &["man", "file"]).await;
    assert!(ran.code == 69 && ran.err.contains("help: "), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn version_completions_and_a_hint_for_a_wrong_command() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["version", "--json"]).await;
    assert_eq!(ran.json()["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(folder.path(), &["completions", shell]).await;
        assert!(ran.code == 0 && ran.out.contains("dead-letter"), "{shell}");
    }
    let ran = run(folder.path(), &["enqueu"]).await;
    assert_eq!((ran.code, ran.err.contains("enqueue")), (64, true), "{ran:?}");
}
