//! Checks the files that people start from: every example loads without a mistake, and limits that
//! are written in several places agree.

use std::fs;
use std::path::{Path, PathBuf};

use longhaul::config::{Config, Features, Span, load};

/// Loads a file like the image would: with all features, and with every variable and `${file:…}`
/// readable.
fn load_example(file: &Path) -> Config {
    check_example(&file.display().to_string(), &fs::read_to_string(file).unwrap())
}

/// Works like [`load_example`], for a text.
pub fn check_example(name: &str, text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let text = with_readable_files(text, folder.path());
    let features = Features { kafka: true, kafka_tls: true, guard: true };
    let env = |name: &str| match name {
        "K_SINK" => Some("http://worker.default.svc.cluster.local".to_owned()),
        // As deploy/base/bridge.yaml sets them.
        "PEERS" | "WORKER" | "NAMESPACE" | "POD_NAME" => Some("name".to_owned()),
        "POD_IP" => Some("10.0.0.7".to_owned()),
        _ => Some("user:password@host:5672/%2f".to_owned()),
    };
    let loaded = load(name, &text, features, &env).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    loaded.config
}

fn with_readable_files(text: &str, folder: &Path) -> String {
    let mut parts = text.split("${file:");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        let (name, rest) = part.split_once('}').unwrap();
        let file = folder.join(index.to_string());
        let scheme = if name.ends_with("rabbitmq-url") { "amqp://" } else { "" };
        fs::write(&file, format!("{scheme}user:password@host:5672/%2f\n")).unwrap();
        result += &format!("${{file:{}}}{rest}", file.display());
    }
    result
}

pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files
}

/// Returns the number after the first `key:` in `text`, quoted or not.
fn number(text: &str, key: &str) -> u64 {
    let (_, value) = text.split_once(&format!("{key}:")).unwrap_or_else(|| panic!("no {key}"));
    let digits: String =
        value.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{key} is not a number"))
}

fn overlays() -> Vec<Config> {
    let files = yaml_files(&root("deploy/overlays"));
    let files = files.iter().filter(|file| file.ends_with("longhaul.yaml"));
    let configs: Vec<Config> = files.map(|file| load_example(file)).collect();
    assert!(configs.len() >= 7, "only {} configurations", configs.len());
    configs
}

#[test]
fn every_example_loads_without_a_mistake() {
    let files = yaml_files(&root("config"));
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        load_example(&file);
    }
}

#[test]
fn a_pod_is_given_longer_to_stop_than_its_drain_takes() {
    let pod = fs::read_to_string(root("deploy/base/bridge.yaml")).unwrap();
    let grace = Span::from_secs(number(&pod, "terminationGracePeriodSeconds"));
    for config in overlays() {
        assert!(grace > config.drain.timeout, "{grace} for {}", config.drain.timeout);
    }
    let compose = fs::read_to_string(root("docker-compose.yml")).unwrap();
    let grace = Span::from_secs(number(&compose, "stop_grace_period"));
    for file in yaml_files(&root("config/compose")) {
        let drain = load_example(&file).drain.timeout;
        assert!(grace > drain, "{}: {grace} for {drain}", file.display());
    }
}

#[test]
fn the_workers_timeout_comes_before_the_bridges_and_both_fit_into_the_drain() {
    let worker = fs::read_to_string(root("deploy/base/worker.yaml")).unwrap();
    let timeout = Span::from_secs(number(&worker, " timeoutSeconds"));
    for config in overlays() {
        for pipeline in &config.pipelines {
            assert!(timeout < pipeline.sink.timeout && pipeline.sink.timeout < config.drain.timeout);
        }
    }
}

#[test]
fn what_the_bridge_sends_at_once_fits_the_workers_greatest_scale() {
    let worker = fs::read_to_string(root("deploy/base/worker.yaml")).unwrap();
    let bridge = fs::read_to_string(root("deploy/base/bridge.yaml")).unwrap();
    for config in overlays() {
        let at_once: u64 = config.pipelines.iter().map(|pipeline| u64::from(pipeline.max_in_flight)).sum();
        assert!(
            number(&bridge, "  replicas") * at_once <= number(&worker, "autoscaling.knative.dev/max-scale")
        );
    }
}

#[test]
fn the_workers_manifest_loads_as_a_cluster_would_take_it() {
    let file = root("deploy/base/worker.yaml");
    let loaded = longhaul::knative::manifest::read(&file, None).unwrap_or_else(|error| panic!("{error}"));
    let service = loaded.service;
    assert_eq!((service.name.as_str(), service.container_concurrency), ("worker", 1));
    assert_eq!(service.timeouts.request.as_secs(), 14_400);
    assert_eq!((service.timeouts.response_start, service.timeouts.idle), (None, None));
    assert_eq!((service.autoscaling.max_scale, service.autoscaling.target_value), (20, 1.0));
}
