//! Sends the requests that were once sent to a real control plane, and compares the replicas.
//!
//! The recordings are from real Knative with a cold start of 1 s. From run to run its times differ
//! by up to 4 s or 15 %, because the autoscaler's ticks have a random position. Here the ticks
//! always start when load wakes the service.

use std::path::Path;

use serde_json::Value;

use super::*;

/// The recorded case, and the numbers that are compared.
struct Recording {
    annotations: Vec<(String, String)>,
    requests: Vec<(f64, f64)>,
    most_ready: u32,
    /// The time at which the highest number of replicas was ready.
    most_ready_at: f64,
    last_answer: f64,
    zero_at: Option<f64>,
}

fn recording(name: &str) -> Recording {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/fixtures/curves/{name}.json"));
    let json: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let pairs = json["annotations"].as_object().unwrap().iter();
    let annotations = pairs.map(|(key, value)| {
        let key = key.strip_prefix("autoscaling.knative.dev/").unwrap();
        (key.to_owned(), value.as_str().unwrap().to_owned())
    });
    let number = |value: &Value| value.as_f64().unwrap();
    let requests = json["requests"].as_array().unwrap().iter();
    let most_ready = json["summary"]["peak_ready"].as_u64().unwrap();
    let column =
        json["curve_columns"].as_array().unwrap().iter().position(|column| column == "ready").unwrap();
    let curve = json["curve"].as_array().unwrap();
    let peak = curve.iter().find(|row| row[column].as_u64() == Some(most_ready)).unwrap();
    Recording {
        annotations: annotations.collect(),
        requests: requests.map(|request| (number(&request["start"]), number(&request["s"]))).collect(),
        most_ready: u32::try_from(most_ready).unwrap(),
        most_ready_at: number(&peak[0]),
        last_answer: number(&json["summary"]["last_answer"]),
        zero_at: json["summary"]["spec_zero_at"].as_f64(),
    }
}

/// Whether the number is within 4 s or 15 % of the recorded one.
fn is_near(here: f64, recorded: f64) -> bool {
    (here - recorded).abs() <= (0.15 * recorded).max(4.0)
}

/// Sends the recorded requests `phase` after one of the ticks of a service without load.
async fn replay(name: &str, keys: &str, phase: Duration) {
    let recorded = recording(name);
    let annotations: Vec<(&str, &str)> =
        recorded.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let spec =
        "      containerConcurrency: 1\n      timeoutSeconds: 3600\n      responseStartTimeoutSeconds: 0\n";
    let world = World::start(settings(spec, &annotations, keys, sleeper()));
    tokio::time::sleep(Duration::from_secs(6) + phase).await;
    let begun = Instant::now();
    let near = |what: &str, here: f64, there: f64| {
        assert!(is_near(here, there), "{name}, {phase:?}: {what} after {here:.1} s, recorded {there:.1} s");
    };
    let mut answers = Vec::new();
    for (start, seconds) in &recorded.requests {
        tokio::time::sleep_until(begun + Duration::from_secs_f64(*start)).await;
        answers.push(world.send(*seconds));
    }
    let wanted = recorded.most_ready;
    if world.engine.counts().borrow().ready < wanted {
        until(&world, 200, name, |counts| counts.ready >= wanted).await;
        near("most replicas", begun.elapsed().as_secs_f64(), recorded.most_ready_at);
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().0, 200, "{name}");
    }
    let last_answer = begun.elapsed().as_secs_f64();
    if let Some(zero_at) = recorded.zero_at {
        until(&world, 200, name, |counts| counts.desired == 0).await;
        near("zero", begun.elapsed().as_secs_f64() - last_answer, zero_at - recorded.last_answer);
    } else if !keys.is_empty() {
        tokio::time::sleep(Duration::from_secs(150)).await;
        assert_eq!(world.engine.counts().borrow().desired, 1, "{name}: one stays");
    }
    assert_eq!(world.engine.counts().borrow().most_ready_ever, recorded.most_ready, "{name}: most replicas");
}

#[tokio::test(start_paused = true)]
async fn replicas_come_and_go_as_on_a_running_control_plane() {
    for name in [
        "default-2",
        "default-10",
        "util100-2",
        "util100-10",
        "window6-2",
        "window6-10",
        "window6-util100-tbcoff-10",
        "advised-10",
        "seed-two",
        "max5-held20",
        "grow-10-15",
    ] {
        for step in 0..10 {
            replay(name, "", Duration::from_millis(200 * step + 10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_replica_stays_where_scale_to_zero_is_off() {
    replay("seed-nozero", "enable-scale-to-zero: \"false\"", Duration::from_millis(10)).await;
}
