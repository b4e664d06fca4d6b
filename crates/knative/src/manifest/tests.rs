use std::time::Duration;

use super::*;
use crate::kpa::Cluster;

const SERVICE: &str = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: { name: hello }
spec:
  template:
    spec:
      containers:
        - image: hello
";

/// The whole ConfigMap of a cluster that never goes to zero, with every key.
const CONFIG_MAP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: config-autoscaler, namespace: knative-serving }
data:
  _example: |
    stable-window: "nonsense"
  container-concurrency-target-percentage: "70"
  container-concurrency-target-default: "100"
  requests-per-second-target-default: "200"
  target-burst-capacity: "211"
  stable-window: "60s"
  panic-window-percentage: "10.0"
  panic-threshold-percentage: "200.0"
  max-scale-up-rate: "1000.0"
  max-scale-down-rate: "2.0"
  enable-scale-to-zero: "false"
  scale-to-zero-grace-period: "30s"
  scale-to-zero-pod-retention-period: "0s"
  pod-autoscaler-class: "kpa.autoscaling.knative.dev"
  activator-capacity: "100.0"
  initial-scale: "1"
  allow-zero-initial-scale: "false"
  min-scale: "0"
  max-scale: "0"
  scale-down-delay: "0s"
  max-scale-limit: "0"
"#;

fn service(text: &str) -> Result<Loaded, Error> {
    load(("service.yaml", text), None)
}

/// Returns a Service with these lines in its revision's `spec`.
fn with_spec(lines: &str) -> String {
    SERVICE.replace("    spec:\n      containers:", &format!("    spec:\n{lines}      containers:"))
}

fn with_container(lines: &str) -> String {
    format!("{SERVICE}{lines}")
}

fn with_annotation(name: &str, value: &str) -> String {
    let metadata = format!("    metadata: {{ annotations: {{ {name}: {value} }} }}\n    spec:\n      c");
    SERVICE.replace("    spec:\n      c", &metadata)
}

fn mistakes(result: Result<Loaded, Error>) -> String {
    result.map(|loaded| loaded.service.name).unwrap_err().to_string()
}

#[test]
fn the_full_config_map_loads_and_switches_scale_to_zero_off() {
    let loaded = load(("service.yaml", SERVICE), Some(("cm.yaml", CONFIG_MAP))).unwrap();
    assert_eq!(loaded.settings.autoscaler, Cluster { enable_scale_to_zero: false, ..Cluster::default() });
    assert!(!loaded.service.autoscaling.enable_scale_to_zero);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_least_service_has_knatives_defaults() {
    let Loaded { service, warnings, .. } = service(SERVICE).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!((service.name.as_str(), service.namespace.as_str()), ("hello", "default"));
    assert_eq!((service.container_concurrency, service.port), (0, 8080));
    let timeouts = Timeouts {
        request: Duration::from_secs(300),
        response_start: None,
        idle: None,
        response_start_is_default: false,
    };
    assert_eq!(service.timeouts, timeouts);
    assert_eq!(service.readiness, Probe::default());
}

#[test]
fn a_long_timeout_without_a_response_start_is_cut_at_300_seconds() {
    for (lines, start, is_default) in [
        ("      timeoutSeconds: 3600\n", Some(300), true),
        ("      timeoutSeconds: 3600\n      responseStartTimeoutSeconds: 0\n", None, false),
        ("      timeoutSeconds: 3600\n      responseStartTimeoutSeconds: 900\n", Some(900), false),
        ("      timeoutSeconds: 300\n", None, false),
        ("      timeoutSeconds: 0\n", None, false),
    ] {
        let loaded = service(&with_spec(lines)).unwrap();
        let timeouts = loaded.service.timeouts;
        assert_eq!(timeouts.response_start, start.map(Duration::from_secs), "{lines}");
        assert_eq!(timeouts.response_start_is_default, is_default, "{lines}");
        let warned = loaded.warnings.iter().any(|w| w.to_string().contains("responseStartTimeoutSeconds: 0"));
        assert_eq!(warned, is_default, "{lines}");
    }
}

#[test]
fn config_defaults_sets_timeouts_and_their_limit() {
    let defaults = "
kind: ConfigMap
metadata: { name: config-defaults }
data: { max-revision-timeout-seconds: \"4000\", revision-timeout-seconds: \"100\", revision-idle-timeout-seconds: \"50\" }
---
kind: ConfigMap
metadata: { name: config-autoscaler }
data: { stable-window: 6s }
";
    let loaded = load(("s.yaml", SERVICE), Some(("cm.yaml", defaults))).unwrap();
    assert_eq!(loaded.service.timeouts.request, Duration::from_secs(100));
    assert_eq!(loaded.service.timeouts.idle, Some(Duration::from_secs(50)));
    assert_eq!(loaded.service.autoscaling.stable_window, Duration::from_secs(6));
    let long = with_spec("      timeoutSeconds: 5000\n");
    let text = mistakes(load(("s.yaml", &long), Some(("cm.yaml", defaults))));
    assert!(text.starts_with("s.yaml:7:23: spec.template.spec.timeoutSeconds: 5000 is more than"), "{text}");
}

/// Returns a config-defaults with these keys.
fn defaults(keys: &str) -> String {
    format!("kind: ConfigMap\nmetadata: {{ name: config-defaults }}\ndata: {{ {keys} }}\n")
}

#[test]
fn config_defaults_is_refused_as_knative_refuses_it() {
    for (keys, expected) in [
        ("revision-timeout-seconds: \"601\"", "601 is more than the max-revision-timeout-seconds of 600"),
        (
            "revision-timeout-seconds: \"50\", revision-response-start-timeout-seconds: \"51\"",
            "3:82: data.revision-response-start-timeout-seconds: 51 is more than the revision-timeout-seconds of 50",
        ),
        ("revision-idle-timeout-seconds: \"301\"", "301 is more than the revision-timeout-seconds of 300"),
        ("container-concurrency: \"1001\"", "1001 is more than the container-concurrency-max-limit of 1000"),
        ("container-concurrency-max-limit: \"0\"", "it must be at least 1"),
        ("allow-container-concurrency-zero: \"maybe\"", "neither true nor false"),
    ] {
        let found = mistakes(load(("s.yaml", SERVICE), Some(("cm.yaml", &defaults(keys)))));
        assert!(found.contains(expected), "{keys}\n{found}");
        assert_eq!(found.matches("help: ").count(), 1, "{keys}\n{found}");
    }
}

#[test]
fn no_limit_of_requests_is_refused_where_the_cluster_does_not_allow_it() {
    let cluster = defaults("allow-container-concurrency-zero: \"false\"");
    let with = |lines: &str| load(("s.yaml", &with_spec(lines)), Some(("cm.yaml", &cluster)));
    let zero = mistakes(with("      containerConcurrency: 0\n"));
    assert!(zero.starts_with("s.yaml:7:29: spec.template.spec.containerConcurrency: 0 is refused"), "{zero}");
    assert!(mistakes(with("")).contains("containerConcurrency: 0 is refused"), "left out is 0 too");
    assert_eq!(with("      containerConcurrency: 1\n").unwrap().service.container_concurrency, 1);
}

#[test]
fn the_revision_has_the_name_of_its_template() {
    let named =
        |name: &str| {
            service(&SERVICE.replace(
                "    spec:\n      c",
                &format!("    metadata: {{ name: {name} }}\n    spec:\n      c"),
            ))
        };
    assert_eq!(service(SERVICE).unwrap().service.revision, "hello-00001");
    assert_eq!(named("hello-blue").unwrap().service.revision, "hello-blue");
    for (name, expected) in [
        ("blue", "6:23: spec.template.metadata.name: the name of a revision must begin with"),
        ("hello-", "6:23: spec.template.metadata.name: this is not a name for a revision"),
    ] {
        let found = mistakes(named(name));
        assert!(found.contains(expected), "{name}\n{found}");
    }
}

#[test]
fn a_port_of_0_is_knatives_default() {
    let text = with_container("          ports: [{ containerPort: 0 }]\n");
    assert_eq!(service(&text).unwrap().service.port, 8080);
}

#[test]
fn env_ports_and_probes_are_read() {
    let text = with_container(
        "          command: [run]
          args: [--fast]
          ports: [{ containerPort: 9000, name: http1 }]
          env:
            - { name: A, value: \"1\" }
            - { name: B, value: $(A)2 }
            - { name: C }
            - { name: D, valueFrom: { secretKeyRef: { name: s, key: k } } }
          readinessProbe: { httpGet: { path: healthz, port: http1 }, periodSeconds: 5, timeoutSeconds: 3 }
",
    );
    let service = service(&text).unwrap().service;
    assert_eq!((service.command, service.port), (vec!["run".to_owned(), "--fast".to_owned()], 9000));
    let value = |name: &str, value: &str| Variable { name: name.into(), source: Source::Value(value.into()) };
    let elsewhere = Variable { name: "D".into(), source: Source::Elsewhere };
    assert_eq!(service.env, [value("A", "1"), value("B", "12"), value("C", ""), elsewhere]);
    let check = Check::Http { path: "/healthz".into(), headers: Vec::new() };
    assert_eq!(service.readiness.check, check);
    assert_eq!(service.readiness.period, Some(Duration::from_secs(5)));
}

#[test]
fn each_bad_value_is_refused_at_its_place() {
    for (text, expected) in [
        (
            with_spec("      containerConcurrency: 1001\n"),
            "7:29: spec.template.spec.containerConcurrency: out of range",
        ),
        (
            with_spec("      containerConcurrency: -1\n"),
            "7:29: spec.template.spec.containerConcurrency: out of range",
        ),
        (
            with_spec("      timeoutSeconds: \"5\"\n"),
            "7:23: spec.template.spec.timeoutSeconds: a whole number",
        ),
        (
            with_spec("      timeoutSecond: 5\n"),
            "7:7: spec.template.spec.timeoutSecond: Knative knows no such field",
        ),
        (
            with_spec("      timeoutSeconds: 5\n      idleTimeoutSeconds: 6\n"),
            "8:27: spec.template.spec.idleTimeoutSeconds: 6 is more than the timeoutSeconds of 5",
        ),
        (
            with_container("          env: [{ name: PORT, value: a }]\n"),
            "9:25: spec.template.spec.containers[0].env[0].name: Knative sets PORT",
        ),
        (
            with_container("          env: [{ name: A, value: 5 }]\n"),
            "9:35: spec.template.spec.containers[0].env[0].value: text belongs here",
        ),
        (
            with_container("          env: [{ name: A, value: yes }]\n"),
            "9:35: spec.template.spec.containers[0].env[0].value: text belongs here",
        ),
        (
            with_container("          ports: [{ containerPort: 8012 }]\n"),
            "9:36: spec.template.spec.containers[0].ports[0].containerPort: Knative keeps",
        ),
        (with_container("          ports: [{ containerPort: 80, name: h2c }]\n"), "HTTP/2 to the worker"),
        (with_container("          readinessProbe: { tcpSocket: { port: 81 } }\n"), "9:48: "),
        (
            with_container("          readinessProbe: { exec: { command: [a] }, tcpSocket: {} }\n"),
            "a probe has one of",
        ),
        (
            with_annotation("autoscaling.knative.dev/window", "5s"),
            "6:64: spec.template.metadata.annotations.\"autoscaling.knative.dev/window\": \"5s\" does not do",
        ),
        (with_annotation("autoscaling.knative.dev/max-scale", "5"), "text belongs here"),
        (
            with_annotation("autoscaling.knative.dev/class", "hpa.autoscaling.knative.dev"),
            "help: leave it out: Knative may take it",
        ),
        (
            with_annotation("serving.knative.dev/progress-deadline", "\"0s\""),
            "it must be whole seconds above 0",
        ),
        (SERVICE.replace("{ name: hello }", "{ name: Hello }"), "3:19: metadata.name: this is not a name"),
        (
            SERVICE.replace(
                "{ name: hello }",
                "{ name: hello, annotations: { autoscaling.knative.dev/max-scale: \"5\" } }",
            ),
            "does nothing on the Service itself",
        ),
        (
            SERVICE.replace("serving.knative.dev/v1", "v1"),
            "1:13: apiVersion: this is a Service of Kubernetes",
        ),
        (SERVICE.replace("        - image: hello\n", "        - name: a\n"), "`image` is missing"),
        (SERVICE.replace("kind: Service", "kind: Deployment"), "1:1: this file holds no Service"),
        (String::new(), "this file holds no Service"),
    ] {
        let found = mistakes(service(&text));
        assert!(found.contains(expected), "{text}\n{found}");
        assert_eq!(found.matches("help: ").count(), 1, "{text}\n{found}");
    }
}

#[test]
fn mistakes_of_both_files_come_at_once_and_values_of_env_are_not_shown() {
    let text = with_container("          env: [{ name: A, value: secret, vlaue: b }]\n");
    let map =
        "kind: ConfigMap\nmetadata: { name: config-autoscaler }\ndata: { stable-window: 5s, max-scale: 5 }\n";
    let found = mistakes(load(("s.yaml", &text), Some(("cm.yaml", map))));
    assert!(found.starts_with("cm.yaml:3:24: data.stable-window: must lie in 6s..1h"), "{found}");
    assert!(found.contains("cm.yaml:3:39: data.max-scale: text belongs here"), "{found}");
    assert!(found.contains("did you mean `value`?") && !found.contains("secret"), "{found}");
}

#[test]
fn what_a_cluster_would_ignore_is_warned_of() {
    let loaded = service(&with_annotation("autoscaling.knative.dev/max-scal", "\"5\"")).unwrap();
    assert!(loaded.warnings[0].to_string().contains("did you mean `autoscaling.knative.dev/max-scale`?"));
    let map = "kind: ConfigMap\nmetadata: { name: config-autoscaler }\ndata: { stable-windows: 6s }\n";
    let loaded = load(("s.yaml", SERVICE), Some(("cm.yaml", map))).unwrap();
    assert!(loaded.warnings[0].to_string().contains("cm.yaml:3:25: warning: data.stable-windows"));
}

#[test]
fn a_damaged_manifest_is_explained_and_never_a_panic() {
    let whole = with_container(
        "          env: [{ name: A, value: $(B) }]\n          readinessProbe: { httpGet: { path: /, port: 8080 } }\n",
    );
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut letters: Vec<char> = whole.chars().collect();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..letters.len());
            match random.u8(..3) {
                0 => drop(letters.remove(at)),
                1 => letters
                    .insert(at, *random.choice(&['{', ':', '-', '\n', '"', ' ', '$', 'ü', '9']).unwrap()),
                _ => letters.truncate(at.max(1)),
            }
        }
        let text: String = letters.into_iter().collect();
        if let Err(error) = service(&text) {
            assert!(error.to_string().contains("help: "), "seed {seed}: {error}\n{text}");
        }
    }
}

#[test]
fn other_documents_of_a_file_are_passed_over() {
    let beside = format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: other }}\n---\n{SERVICE}");
    assert_eq!(service(&beside).unwrap().service.name, "hello");
    let twice = format!("{SERVICE}---\n{SERVICE}");
    assert!(mistakes(service(&twice)).starts_with("service.yaml:10:1: this is a second Service"));
    let other = "kind: ConfigMap\nmetadata: { name: config-network }\ndata: {}\n";
    let found = mistakes(load(("s.yaml", SERVICE), Some(("cm.yaml", other))));
    assert!(found.starts_with("cm.yaml:1:1: this file holds no ConfigMap config-autoscaler"), "{found}");
    let broken = mistakes(load(("s.yaml", SERVICE), Some(("cm.yaml", "data: [\n"))));
    assert_eq!(broken.matches("help: ").count(), 1, "{broken}");
}
