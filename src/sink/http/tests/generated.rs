//! Sends 10,000 random answers. None counts as a success unless an independent reader finds a whole
//! 2xx in the bytes.

use fastrand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

const STARTS: [&str; 10] = [
    "HTTP/1.1 200 OK",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 202 Accepted",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 500 X",
    "HTTP/1.1 403 X",
    "HTTP/1.1 100 Continue",
    "HTTP/2 200 OK",
    "HTTP/1.1 2OO OK",
    "hello",
];
const HEADERS: [&str; 16] = [
    "content-length: 5",
    "content-length: 50",
    "content-length: -1",
    "content-length : 5",
    "Content-Length: 5, 5",
    "transfer-encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "connection: close",
    "longhaul-outcome: done",
    "longhaul-outcome: retry",
    "x: \u{1}",
    "bad name: v",
    "no colon",
    " folded",
    "x-long: vvvvvvvvvvvvvvvvvvvvvvvv",
    "retry-after: 1",
];
const BODIES: [&str; 7] = [
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n",
    "g\r\nhello\r\n0\r\n\r\n",
    "5;x=y\r\nhello\r\n0\r\nt: v\r\n\r\n",
    "request timeout",
    "",
];

fn answer(random: &mut Rng) -> Vec<u8> {
    if random.u8(0..10) == 0 {
        return (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
    }
    let mut text = format!("{}\r\n", STARTS[random.usize(0..STARTS.len())]);
    for _ in 0..random.usize(0..5) {
        text += HEADERS[random.usize(0..HEADERS.len())];
        text += "\r\n";
    }
    if random.u8(0..20) == 0 {
        text.extend((0..random.usize(0..6_000)).map(|number| format!("x-{number}: v\r\n")));
    }
    text += "\r\n";
    text += BODIES[random.usize(0..BODIES.len())];
    let mut bytes = text.into_bytes();
    for _ in 0..random.usize(0..3) {
        let at = random.usize(0..bytes.len());
        bytes[at] = random.u8(..);
    }
    if random.u8(0..3) == 0 {
        bytes.truncate(random.usize(0..bytes.len()));
    }
    bytes
}

/// Whether the bytes contain a whole 2xx, after any number of 1xx. It follows the framing rules of
/// RFC 9112, and accepts the few deviations that the client accepts.
fn is_whole_success(mut bytes: &[u8]) -> bool {
    loop {
        let Some((status, headers, rest)) = head(bytes) else { return false };
        match status {
            100 | 102..=199 => bytes = rest,
            200..=299 => return status == 204 || is_whole_body(&headers, rest),
            _ => return false,
        }
    }
}

type Headers = Vec<(String, String)>;

fn head(bytes: &[u8]) -> Option<(u16, Headers, &[u8])> {
    let lossy: Vec<u8> = bytes.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
    let text = std::str::from_utf8(&lossy).unwrap();
    // A line ends with LF, with or without CR.
    let mut lines = Vec::new();
    let mut at = 0;
    loop {
        let end = at + text[at..].find('\n')?;
        let line = text[at..end].strip_suffix('\r').unwrap_or(&text[at..end]);
        at = end + 1;
        if line.is_empty() && lines.is_empty() {
            continue;
        }
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let status = lines[0].strip_prefix("HTTP/1.1 ").or_else(|| lines[0].strip_prefix("HTTP/1.0 "))?;
    let status = status.get(..3)?.parse().ok()?;
    let mut headers = Headers::new();
    for line in &lines[1..] {
        if line.starts_with([' ', '\t']) {
            headers.last_mut()?.1.push_str(line);
            continue;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.trim_end().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some((status, headers, &bytes[at..]))
}

fn is_whole_body(headers: &[(String, String)], body: &[u8]) -> bool {
    let all = |wanted: &str| headers.iter().filter(|(name, _)| name == wanted).collect::<Vec<_>>();
    let encodings = all("transfer-encoding");
    if let Some((_, last)) = encodings.last() {
        // Any other coding lasts until the connection ends.
        let last = last.rsplit(',').next().unwrap_or_default().trim();
        return !last.eq_ignore_ascii_case("chunked") || is_whole_in_chunks(body);
    }
    let lengths: Vec<&str> =
        all("content-length").into_iter().flat_map(|(_, value)| value.split(',').map(str::trim)).collect();
    let Some(first) = lengths.first() else { return true };
    lengths.iter().all(|length| length == first)
        && first.parse().is_ok_and(|length: usize| body.len() >= length)
}

fn is_whole_in_chunks(mut body: &[u8]) -> bool {
    loop {
        let Some(end) = body.windows(2).position(|pair| pair == b"\r\n") else { return false };
        let size = body[..end].split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
        let size = std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size else { return false };
        body = &body[end + 2..];
        if size == 0 {
            return body.starts_with(b"\r\n") || body.windows(4).any(|end| end == b"\r\n\r\n");
        }
        if body.len() < size + 2 || &body[size..size + 2] != b"\r\n" {
            return false;
        }
        body = &body[size + 2..];
    }
}

/// Answers each connection with the next of the random answers, then closes it.
async fn serve(listener: TcpListener) {
    for seed in 0.. {
        let (mut stream, _) = listener.accept().await.unwrap();
        let bytes = answer(&mut Rng::with_seed(seed));
        server::read_request(&mut stream).await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        // Waits until the client has read everything, because a reset could overtake the answer.
        let mut rest = [0; 64];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

#[tokio::test]
async fn only_a_whole_2xx_is_done() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings(&format!("http://{}/work", listener.local_addr().unwrap()));
    settings.max_in_flight = 0;
    settings.replies = Replies::Used;
    let client = Client::new(settings).unwrap();
    let server = tokio::spawn(serve(listener));
    let (mut done, mut unreadable) = (0, 0);
    for seed in 0..10_000 {
        let answer_seen = send(&client).await;
        let sent = answer(&mut Rng::with_seed(seed));
        let shown = || String::from_utf8_lossy(&sent[..sent.len().min(200)]).into_owned();
        match answer_seen.outcome {
            Outcome::Done => {
                done += 1;
                assert!(is_whole_success(&sent), "seed {seed}: {:?}", shown());
            }
            Outcome::NotStarted { .. } => panic!("seed {seed}: {} {:?}", answer_seen.detail, shown()),
            Outcome::Unreadable => unreadable += 1,
            _ => {}
        }
        assert!(answer_seen.detail.len() < 4096 && !answer_seen.detail.contains('\n'), "seed {seed}");
        if let Some(response) = answer_seen.response {
            let head: usize =
                response.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            assert!(response.body.len() <= 64 << 10 && head <= 64 << 10, "seed {seed}");
            assert!(answer_seen.outcome == Outcome::Done || response.body.len() <= 1024, "seed {seed}");
        }
    }
    server.abort();
    assert!(done > 500 && unreadable > 1_000, "{done} done, {unreadable} unreadable");
}
