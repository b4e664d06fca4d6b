//! Runs the fuzz targets on seeded inputs: samples with random damage. `fuzz/` runs the same
//! functions under libfuzzer.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

const INPUTS: u64 = 5_000;

#[test]
fn metadata_survives_damage() {
    damaged(
        targets::metadata,
        &[
            "\u{2}k1.AQDFCINCAmIAAAIB",
            "\u{0}k1.AgI-ZLRvASNFZ4mrze8BI0VniavN7wBAqqqqqqqqqqo",
            "\u{2}k1.AwWChG1UASNFZ4mrze8BI0VniavN7wJiAVM",
            "\u{0}k1.AxXEayQ7ASNFZ4mrze8BI0VniavN7wAoA1VVBQJlXQU",
            "\u{40}k1.AwbatwgKASNFZ4mrze8BI0VniavN70DoRQwBAPh3SZIkSZIkSZI",
            "\u{0}longhaul",
            "\u{5}\n\0",
        ],
    );
}

#[test]
fn events_survive_damage() {
    damaged(
        targets::event,
        &[
            "content-type: application/cloudevents+json\n\n{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/a\",\"type\":\"b\",\"data\":{\"c\":[1,2]}}",
            "ce_specversion: 1.0\nce_id: 1\nce_source: /a\nce_type: b\nce_time: 2026-01-31T12:00:00Z\n\nbody",
            "cloudEvents:specversion: 1.0\ncloudEvents:id: \u{e9}\ncloudEvents:source: a b\ncloudEvents:type: t\n\n",
        ],
    );
}

#[test]
fn configurations_survive_damage() {
    damaged(
        targets::configuration,
        &[
            include_str!("../../config/minimal.yaml"),
            "a: &a [*a]\n",
            "pipelines: [{name: x, source: {kafka: {",
        ],
    );
}

#[test]
fn questions_of_peers_survive_damage() {
    damaged(
        targets::wire,
        &[
            "{\"verdict\":\"retry\",\"attempts\":1,\"delay_milliseconds\":5}",
            "{\"verdict\":\"failed\",\"attempts\":4294967295,\"reason\":\"x\"}",
            "{\"pipeline\":\"a\",\"asker\":\"b\",\"delivery\":\"c\",\"identity\":\"content:00\"}",
        ],
    );
}

#[test]
fn identities_survive_damage() {
    let digest = "0123456789abcdef0123456789abcdef";
    let samples = [
        format!("content:{digest}"),
        format!("copy:{digest}:{digest}"),
        format!("record:{digest}:{digest}:3:42:a:topic"),
    ];
    damaged(targets::identity, &samples.each_ref().map(String::as_str));
}

/// Runs the target on every sample and on seeded damage of it. A panic names the seed.
fn damaged(target: fn(&[u8]), samples: &[&str]) {
    samples.iter().for_each(|sample| target(sample.as_bytes()));
    for seed in 0..INPUTS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = samples[random.usize(..samples.len())].as_bytes().to_vec();
        for _ in 0..random.usize(1..6) {
            damage(&mut bytes, &mut random);
        }
        let result = std::panic::catch_unwind(|| target(&bytes));
        assert!(result.is_ok(), "seed {seed}: {:?}", String::from_utf8_lossy(&bytes));
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let at = random.usize(..=bytes.len());
    match random.u8(..5) {
        0 => bytes.insert(at, random.u8(..)),
        1 if at < bytes.len() => {
            bytes.remove(at);
        }
        2 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
        3 => bytes.truncate(at),
        _ => {
            let end = random.usize(at..=bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
    }
}
