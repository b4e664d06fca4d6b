//! Puts strangers at a peer's address, and lets strangers ask: no answer is believed, no item
//! changes, and memory stays bounded.

use std::time::SystemTime;

use super::super::seal::{HEADER, Key, milliseconds};
use super::support::response;
use super::*;

const DONE: &str = r#"{"instance":"a","answer":{"answer":"finished","verdict":{"verdict":"done"}}}"#;

/// Before the proof existed, a stranger at a peer's address said that redelivered items were done,
/// and 5 of 5 were acked without a run.
#[tokio::test]
async fn a_stranger_at_the_address_of_a_peer_is_not_believed() {
    let other = Key::from_secret("a guess").unwrap();
    let signed = other.answer(&other.question(b""), DONE.as_bytes());
    for headers in [String::new(), "longhaul-proof: 1 00\r\n".to_owned(), format!("{HEADER}: {signed}\r\n")] {
        let (address, asked) = script(std::iter::repeat(Scripted::Raw(response(&headers, DONE))));
        assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Unknown, "{headers}");
        assert!(asked.load(Ordering::SeqCst) > 0);
    }
}

/// A recorder in between gives an old answer of a true replica to a new question.
#[tokio::test]
async fn an_answer_to_another_question_is_not_believed() {
    let items = Items::with("item", ItemStatus::Finished(Verdict::Done));
    let replica = Replica::start(&items);
    let (client, key) = (plain(), Key::from_secret(SECRET).unwrap());
    let question = question("item");
    let proof = key.question(question.as_bytes());
    let answered = ask(&client, &replica.address, &proof.to_string(), &question).await;
    assert_eq!(answered.status(), 200);
    let code = answered.headers()[HEADER].to_str().unwrap().to_owned();
    let body = answered.text().await.unwrap();
    assert!(body.contains("finished"), "{body}");
    let recorded = response(&format!("{HEADER}: {code}\r\n"), &body);
    let (address, _) = script(std::iter::repeat(Scripted::Raw(recorded)));
    assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Unknown);
}

#[tokio::test]
async fn the_secret_is_in_no_question() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = peers(&[&format!("http://{}", listener.local_addr().unwrap())]);
    let asking = tokio::spawn(async move { claim(&peers, "item").await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"}") {
        tokio::io::AsyncReadExt::read_buf(&mut stream, &mut seen).await.unwrap();
    }
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains(HEADER) && !seen.contains(SECRET) && !seen.contains("authorization"), "{seen}");
    asking.abort();
}

#[tokio::test]
async fn a_stranger_learns_and_changes_nothing() {
    let items = Items::with("item", ItemStatus::Finished(Verdict::Done));
    let replica = Replica::start(&items);
    let (client, key) = (plain(), Key::from_secret(SECRET).unwrap());
    let (question, now) = (question("item"), milliseconds(SystemTime::now()));
    let guess = Key::from_secret("a guess").unwrap().question(question.as_bytes()).to_string();
    let of_another = key.question(b"another question").to_string();
    let old = key.question_at(now - 61_000, [1; 16], question.as_bytes()).to_string();
    let early = key.question_at(now + 90_000, [2; 16], question.as_bytes()).to_string();
    for wrong in ["", "1", &format!("Bearer {SECRET}"), &guess, &of_another, &old, &early] {
        let answered = ask(&client, &replica.address, wrong, &question).await;
        assert_eq!(answered.status(), 401, "{wrong}");
        let reason = answered.text().await.unwrap();
        assert!(!reason.is_empty() && !reason.contains(SECRET), "{reason}");
    }
    assert_eq!(items.claims(), []);

    let proven = |body: &str| key.question(body.as_bytes()).to_string();
    assert_eq!(ask(&client, &replica.address, &proven("{}"), "{}").await.status(), 400);
    let long = " ".repeat(20_000);
    assert_eq!(ask(&client, &replica.address, &proven(&long), &long).await.status(), 413);
    let proof = proven(&question);
    assert_eq!(ask(&client, &replica.address, &proof, &question).await.status(), 200);
    assert_eq!(items.claims().len(), 1);
    // The same question again is a recording.
    assert_eq!(ask(&client, &replica.address, &proof, &question).await.status(), 401);
    assert_eq!(items.claims().len(), 1);
}

/// Answers as a stranger may make them: shuffled, cut, repeated, from other answers, with and
/// without a proof.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_thousand_random_answers_none_is_believed() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let answers: Vec<Scripted> = (0..2000).map(|_| Scripted::Raw(random_answer(&mut random))).collect();
    let (address, asked) = script(answers.into_iter().chain(std::iter::repeat(Scripted::Nothing)));
    let peers = Arc::new(peers(&[&address]));
    while asked.load(Ordering::SeqCst) < 2000 {
        let claims = (0..20).map(|_| claim(&peers, "item"));
        let claimed = futures_util::future::join_all(claims).await;
        assert!(claimed.iter().all(|claimed| *claimed == Claimed::Unknown), "seed {seed}: {claimed:?}");
        assert!(peers.in_flight("p", "t", 0, 7).await.is_empty(), "seed {seed}");
        assert!(!peers.somebody_stays("p").await, "seed {seed}");
    }
}

/// Before answers had a limit, answers of 8 MiB took 1.3 GB.
#[tokio::test(flavor = "multi_thread")]
async fn endless_answers_take_little_memory() {
    let body = "x".repeat(8 << 20);
    let endless = Scripted::Raw(response("", &body));
    let addresses: Vec<String> = (0..20).map(|_| script(std::iter::repeat(endless.clone())).0).collect();
    let peers = Arc::new(peers(&addresses.iter().collect::<Vec<_>>()));
    let before = resident();
    let claims = (0..20).map(|_| claim(&peers, "item"));
    futures_util::future::join_all(claims)
        .await
        .iter()
        .for_each(|claimed| assert_eq!(*claimed, Claimed::Unknown));
    let grown = resident().saturating_sub(before);
    assert!(grown < 400 << 20, "{} MiB for 400 answers of 8 MiB", grown >> 20);
}

fn random_answer(random: &mut fastrand::Rng) -> Vec<u8> {
    const BODIES: [&str; 8] = [
        DONE,
        r#"{"instance":"a","answer":{"answer":"running"}}"#,
        r#"{"instance":"a","answer":{"answer":"not-yours"}}"#,
        r#"{"instance":"a","answer":{"answer":"in-flight","offsets":[1,2,3,-9223372036854775808]}}"#,
        r#"{"instance":"a","answer":{"answer":"staying"}}"#,
        r#"{"instance":"a","answer":{"answer":"finished","verdict":{"verdict":"failed","attempts":4294967295,"reason":"x"}}}"#,
        "[[[[[[[[",
        "",
    ];
    let mut body = random.choice(BODIES).unwrap().as_bytes().to_vec();
    for _ in 0..random.usize(0..4) {
        match random.u8(0..4) {
            0 => body.truncate(random.usize(0..=body.len())),
            1 => body.extend_from_within(random.usize(0..=body.len())..),
            2 if !body.is_empty() => {
                let at = random.usize(0..body.len());
                body[at] = random.u8(..);
            }
            _ => body.extend(std::iter::repeat_n(random.u8(..), random.usize(0..2000))),
        }
    }
    let hex =
        |random: &mut fastrand::Rng, count| -> String { (0..count).map(|_| random.digit(16)).collect() };
    let proof = match random.u8(0..4) {
        0 => String::new(),
        1 => format!("{HEADER}: 1 {}\r\n", hex(random, 64)),
        2 => format!("{HEADER}: {}\r\n", hex(random, 70)),
        _ => format!("{HEADER}: 1 {}\r\nauthorization: Bearer {SECRET}\r\n", "0".repeat(64)),
    };
    let statuses = [
        "200 OK",
        "200 OK",
        "200 OK",
        "204 No Content",
        "401 Unauthorized",
        "302 Found",
        "500 Oops",
        "999 ?",
        "",
    ];
    let status = random.choice(statuses).unwrap();
    let length = if random.bool() { body.len() } else { random.usize(0..1 << 20) };
    let framing = if random.u8(0..8) == 0 {
        "transfer-encoding: chunked".to_owned()
    } else {
        format!("content-length: {length}")
    };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{proof}{framing}\r\n\r\n");
    [head.as_bytes(), &body].concat()
}

fn question(identity: &str) -> String {
    format!(
        r#"{{"question":"claim","pipeline":"p","asker":"a","delivery":"d","identity":"{identity}","wait_seconds":0}}"#
    )
}

fn plain() -> reqwest::Client {
    crate::connect::http::builder().tls_certs_only(Vec::new()).build().unwrap()
}

async fn ask(client: &reqwest::Client, address: &str, proof: &str, question: &str) -> reqwest::Response {
    let request = client.post(format!("{address}/api/v1/peers/question")).header(HEADER, proof);
    request.body(question.to_owned()).send().await.unwrap()
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
