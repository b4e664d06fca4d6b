//! Runs `longhaul plan` as a program.

use std::process::{Command, Output};

fn plan(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longhaul")).arg("plan").args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn one_seed_gives_one_result_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let forecast = |drawing: &str| {
        let drawing = folder.path().join(drawing);
        let arguments = [
            "--items=50",
            "--rate=30/m",
            "--for=5m",
            "--duration=20s±10s",
            "--failure-rate=5%",
            "--seed=3",
            "--json",
            "--drawing",
            drawing.to_str().unwrap(),
        ];
        (stdout(&plan(&arguments)), std::fs::read(drawing).unwrap())
    };
    assert_eq!(forecast("a.svg"), forecast("b.svg"));
}

#[test]
fn manifests_and_variants_are_compared_and_what_hurts_is_named() {
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/base/worker.yaml");
    let arguments = [
        "-f",
        worker,
        "--items=100",
        "--duration=10m",
        "--max-in-flight=20",
        "--json",
        "--price=0.5",
        "--try",
        "responseStartTimeoutSeconds=300",
        "--try",
        "target-utilization-percentage=70,max-scale=10",
    ];
    let report: serde_json::Value = serde_json::from_str(&stdout(&plan(&arguments))).unwrap();
    let advised = |index: usize| -> Vec<String> {
        let advice = report["scenarios"][index]["advice"].as_array().unwrap();
        advice
            .iter()
            .map(|one| format!("{} {}", one["weight"].as_str().unwrap(), one["setting"].as_str().unwrap()))
            .collect()
    };
    assert!(advised(0).iter().all(|one| !one.starts_with("harm")), "{:?}", advised(0));
    assert_eq!(advised(1)[0], "harm responseStartTimeoutSeconds");
    assert!(report["scenarios"][1]["dead_lettered"]["median"] == 100.0, "every item is cut at five minutes");
    for expected in ["cost max-scale", "note target-utilization-percentage"] {
        assert!(advised(2).iter().any(|one| one == expected), "{expected} is missing in {:?}", advised(2));
    }
    assert_eq!(report["scenarios"][2]["limits"][0]["limit"], "max-scale");
    assert!(report["scenarios"][0]["cost"]["median"].as_f64().unwrap() > 8.0, "16.7 hours of work at 0.5");
}

#[test]
fn arrivals_durations_and_retries_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let arrivals = write(
        "arrivals",
        "2026-01-31T12:00:30Z\n2026-01-31T12:00:00Z\n# and one more\n2026-01-31T12:01:00Z\n",
    );
    let durations = write("durations", "10\n10s\n");
    let config = write(
        "longhaul.yaml",
        "pipelines:\n  - name: a\n    source: { rabbitmq: { url: amqp://localhost, queue: a } }\n    sink: { url: http://localhost, timeout: 5s }\n    max_in_flight: 2\n    retry: { attempts: 3 }\n    on_failed: drop\n",
    );
    let plan = |more: &[&str]| -> serde_json::Value {
        let arguments =
            [&["--json", "--seeds=1", "--arrivals", &arrivals, "--duration", &durations][..], more].concat();
        let report: serde_json::Value = serde_json::from_str(&stdout(&plan(&arguments))).unwrap();
        report["scenarios"][0].clone()
    };
    let good = plan(&[]);
    assert_eq!((&good["items"], &good["ideal_seconds"]), (&3.into(), &70.0.into()));
    // Each item is given up after three attempts of five seconds.
    let given_up = plan(&["-c", &config]);
    assert_eq!((&given_up["max_in_flight"], &given_up["cut_attempts"]["median"]), (&2.into(), &9.0.into()));
    assert!(given_up["advice"].as_array().unwrap().iter().any(|one| one["setting"] == "sink.timeout"));
}

#[test]
fn mistakes_say_what_to_do() {
    for (arguments, code, said) in [
        (&["--duration=2s"][..], 64, "add --items"),
        (&["--items=1", "--duration=2"], 64, "has no unit"),
        (&["--items=1", "--duration=/"], 64, "nor a file"),
        (&["--items=1", "-c", "/no/such.yaml"], 78, "cannot be read"),
        (&["--rate=5/s"], 64, "--for"),
        (&["--items=1", "--try", "max-scales=3"], 64, "no key"),
        (&["--items=1", "--try", "window=1s"], 64, "6s..1h"),
        (&["--items=1", "--try", "metric=rps"], 64, "only concurrency"),
        (&["--items=1", "-f", "/no/such.yaml"], 78, "can't be read"),
        (&["--items=1", "--cold-start=100h"], 64, "at most a day"),
        (&["--items=1", "--try", "cold-start=100h"], 64, "at most a day"),
        (&["--items=1", "--duration=10000h"], 64, "more than 8760h"),
        (&["--items=20", "--duration=8760h", "--max-in-flight=1"], 64, "at most 365 d 0 h can be simulated"),
        (&["--items=1", "--max-in-flight=20000"], 64, "1..=10000"),
        (&["--rate=1/h", "--for=10000h"], 64, "more than 8760h"),
        (&["--items=1", "--drawing=/no/such/plan.png"], 64, ".svg"),
        (&["--items=1", "--duration=0s"], 64, "--duration is zero"),
        (&["--items=1", "--duration=0s±0s"], 64, "--duration is zero"),
        (&["--rate=5/s", "--for=0s"], 64, "--for is zero"),
        (&["--burst=5/s", "--for=0s"], 64, "--for is zero"),
        (&["--rate=1/h", "--for=1ms"], 64, "no item arrives"),
    ] {
        let output = plan(arguments);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
}

/// A variant equals a manifest with the same field. Without a limit for the start of the answer,
/// that limit is 300 s if the timeout is longer.
#[test]
fn a_variant_of_a_timeout_gets_what_knative_makes_of_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |name: &str, fields: &str| {
        let file = folder.path().join(name);
        let text = format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{ name: a }}\n\
             spec: {{ template: {{ spec: {{ containerConcurrency: 1, {fields} containers: [{{ image: a }}] }} }} }}\n"
        );
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let explicit = manifest("explicit.yaml", "timeoutSeconds: 300, responseStartTimeoutSeconds: 0,");
    let fifty = manifest("fifty.yaml", "timeoutSeconds: 60, responseStartTimeoutSeconds: 50,");
    let idle = folder.path().join("defaults.yaml");
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: config-defaults }\ndata:\n  \
                revision-timeout-seconds: \"700\"\n  max-revision-timeout-seconds: \"3600\"\n  \
                revision-idle-timeout-seconds: \"400\"\n";
    std::fs::write(&idle, text).unwrap();
    let cuts = |arguments: &[&str]| {
        let arguments =
            [&["--items=1", "--duration=600s", "--seeds=1", "--json", "--try"][..], arguments].concat();
        let report: serde_json::Value = serde_json::from_str(&stdout(&plan(&arguments))).unwrap();
        report["scenarios"][1]["cut_attempts"]["median"].as_f64().unwrap()
    };
    assert!(cuts(&["timeoutSeconds=3600"]) > 0.0, "300 s are set for what is left out");
    assert_eq!(cuts(&["timeoutSeconds=3600,responseStartTimeoutSeconds=0"]), 0.0);
    assert_eq!(cuts(&["timeoutSeconds=3600", "-f", &explicit]), 0.0, "0 is written, and so no limit");
    let cluster = ["--autoscaler", idle.to_str().unwrap()];
    assert!(cuts(&[&["timeoutSeconds=3600"][..], &cluster].concat()) > 0.0, "the cluster's idle timeout");
    assert_eq!(cuts(&[&["timeoutSeconds=3600,idleTimeoutSeconds=0"][..], &cluster].concat()), 0.0);

    let refused = plan(&["--items=1", "-f", &fifty, "--try", "timeoutSeconds=20"]);
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{err}");
    assert!(err.contains("is more than the timeoutSeconds of 20"), "{err}");
}

#[test]
fn a_variant_wins_over_the_other_spelling_of_its_annotation() {
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/base/worker.yaml");
    let arguments =
        ["-f", worker, "--items=20", "--max-in-flight=10", "--seeds=1", "--json", "--try", "maxScale=2"];
    let report: serde_json::Value = serde_json::from_str(&stdout(&plan(&arguments))).unwrap();
    assert_eq!(report["scenarios"][1]["most_replicas"]["median"], 2.0, "the manifest has max-scale: 20");
}

/// With some seeds an item fails for good and is held, with others not: the table says never, and
/// the text below it tells why.
#[test]
fn a_load_that_drains_with_some_seeds_only_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("longhaul.yaml");
    let text = "pipelines:\n  - name: a\n    source: { rabbitmq: { url: amqp://localhost, queue: a } }\n    \
                sink: { url: http://localhost }\n    max_in_flight: 2\n    retry: { attempts: 1 }\n    on_failed: hold\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let text = stdout(&plan(&["--items=1", "--failure-rate=30%", "--seeds=9", "-c", config]));
    assert!(text.contains("never: see below"), "{text}");
    assert!(text.contains("of 9 seeds: 1 item left, 1 of them held (seed "), "{text}");
}

/// Replicas that were told to stop while they work are in the curve, so the report counts them too.
#[test]
fn the_most_replicas_of_the_curve_are_in_the_report() {
    let arguments =
        ["--duration=100s±99s", "--max-in-flight=20", "--burst=20/150s", "--for=40m", "--seeds=1"];
    let report: serde_json::Value =
        serde_json::from_str(&stdout(&plan(&[&arguments[..], &["--json"]].concat()))).unwrap();
    let scenario = &report["scenarios"][0];
    let of = |point: &serde_json::Value, key: &str| point[key].as_u64().unwrap();
    let points = scenario["curve"].as_array().unwrap().iter();
    let most = points.map(|p| of(p, "ready") + of(p, "starting") + of(p, "terminating")).max().unwrap();
    assert_eq!(scenario["most_paid_replicas"]["median"].as_f64(), Some(most as f64));
    assert!(scenario["most_replicas"]["median"].as_f64() < Some(most as f64), "the load has stopping ones");
    let text = stdout(&plan(&arguments));
    assert!(text.contains(&format!("with stopping ones  {most}\n")), "{text}");
    assert!(text.contains(&format!("| {most} at most")), "{text}");
}

#[test]
fn arrivals_that_would_never_be_gone_through_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("arrivals");
    for (text, said) in
        [("0\n2026-01-31T12:00:00Z\n", ":2: "), ("0\n5\n1e12\n", ":3: this is more than 365 days")]
    {
        std::fs::write(&file, text).unwrap();
        let output = plan(&["--arrivals", file.to_str().unwrap()]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{err}");
        assert!(err.contains(&format!("{}{said}", file.display())), "{err}");
    }
}
