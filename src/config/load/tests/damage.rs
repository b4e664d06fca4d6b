use super::*;

const FILE: &str = r#"
pipelines:
  - name: thumbnails # one
    source:
      rabbitmq:
        url: amqp://ann:hunter2@mq
        queue: ${env:QUEUE}
        declare: { type: classic, arguments: { x-consumer-timeout: 43200000 }, bind: [{ exchange: e }] }
    sink: &sink
      url: http://thumbs
      timeout: 4h
      headers: { Authorization: "Bearer hunter2", X-A: 'hunter2' }
    max_in_flight: 20
    retry: { attempts: 5, backoff: 10s }
    dead_letter: { rabbitmq: { queue: thumbnails.dead } }
  - name: records
    source:
      kafka:
        bootstrap_servers: ["a:9092"]
        topics:
          - thumbnails
        group: thumbnails
        options:
          security.protocol: sasl_plaintext
          sasl.password: hunter2
          socket.nagle.disable: true
    sink: *sink
    max_in_flight: 1
admin:
  listen: 0.0.0.0:9090
  token: hunter2
"#;

const SYNTAX: [char; 25] = [
    ' ', '\n', '\t', ':', '-', '\'', '"', '{', '}', '[', ']', ',', '&', '*', '#', '?', '|', '>', '!', '%',
    '@', 'é', '$', '0', 'a',
];

/// Inserts, removes and swaps letters. Every resulting mistake has a place within the file and an
/// explanation, and shows no secret.
#[test]
fn a_damaged_file_is_explained_and_never_a_panic() {
    loaded(FILE);
    let mut refused = 0;
    for seed in 0..1000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text: Vec<char> = FILE.chars().collect();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..text.len());
            match random.u8(..4) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, random.choice(SYNTAX).unwrap()),
                2 => text[at] = random.choice(SYNTAX).unwrap(),
                _ => text.swap(at, (at + 1).min(FILE.len() - 3)),
            }
        }
        let text: String = text.into_iter().collect();
        let Err(mistakes) = load("f", &text, ALL, &env) else { continue };
        refused += 1;
        let lines = text.lines().count() + 1;
        for mistake in &mistakes.list {
            assert!((1..=lines).contains(&mistake.line) && mistake.column >= 1, "seed {seed}: {mistake:?}");
            assert!(!mistake.reason.is_empty() && !mistake.help.is_empty(), "seed {seed}: {mistake:?}");
            assert!(!mistake.help.contains("longhaul schema"), "seed {seed}: {mistake:?}");
        }
        assert!(!mistakes.to_string().contains("hunter2"), "seed {seed}:\n{mistakes}\n{text}");
    }
    assert!(refused > 500, "{refused}");
}
