//! `longhaul plan` as a program.

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
fn mistakes_say_what_to_do() {
    for (arguments, code, said) in [
        (&["--duration=2s"][..], 64, "add --items"),
        (&["--items=1", "--duration=2"], 64, "missing unit"),
        (&["--rate=5/s"], 64, "--for"),
        (&["--items=1", "--try", "max-scales=3"], 64, "no key"),
        (&["--items=1", "--try", "window=1s"], 64, "6s..1h"),
        (&["--items=1", "-f", "/no/such.yaml"], 78, "can't be read"),
    ] {
        let output = plan(arguments);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
}
