//! The answers that a client of Knative can get, row by row, without and with
//! `sink.require_outcome`.

use http::{HeaderName, HeaderValue};

use super::*;

const DONE: Outcome = Outcome::Done;
const FAILED: Outcome = Outcome::Failed { retry_after: None };
const REJECTED: Outcome = Outcome::Rejected;
const UNKNOWN: Outcome = Outcome::Unknown;
const MISCONFIGURED: Outcome = Outcome::Misconfigured;
const INTERRUPTED: Outcome = Outcome::Interrupted;
const UNREADABLE: Outcome = Outcome::Unreadable;
const NOT_STARTED: Outcome = Outcome::NotStarted { retry_after: None };

type Row = (u16, &'static [(&'static str, &'static str)], &'static str, Outcome, Outcome);

const ENVOY: &[(&str, &str)] = &[("server", "envoy")];
const THROUGH_ENVOY: &[(&str, &str)] = &[("server", "envoy"), ("x-envoy-upstream-service-time", "7")];
const LENGTH: &[(&str, &str)] = &[("content-length", "15")];
const SAYS_DONE: &[(&str, &str)] = &[("longhaul-outcome", " Done ")];
const SAYS_RETRY: &[(&str, &str)] = &[("longhaul-outcome", "retry")];
const SAYS_REJECT: &[(&str, &str)] = &[("longhaul-outcome", "reject")];
const SAYS_INTERRUPTED: &[(&str, &str)] = &[("longhaul-outcome", "interrupted")];
const SAYS_NONSENSE: &[(&str, &str)] = &[("longhaul-outcome", "failed")];

/// A row has the status, the headers, the body, the outcome, and the outcome with
/// `require_outcome`.
const TABLE: &[Row] = &[
    // These come from queue-proxy and activator; no worker code ran.
    (503, &[], "pending request queue full\n", NOT_STARTED, NOT_STARTED),
    (404, &[], "Error getting active endpoint: revision \"a/b\" not found\n", NOT_STARTED, NOT_STARTED),
    (502, &[], "dial tcp 127.0.0.1:8080: connect: connection refused\n", NOT_STARTED, NOT_STARTED),
    (502, &[], "dial tcp 10.42.0.7:8012: connect: connection refused\n", NOT_STARTED, NOT_STARTED),
    (502, &[], "timed out dialing after 2.10s\n", NOT_STARTED, NOT_STARTED),
    (500, &[], "", FAILED, NOT_STARTED),
    (500, &[], "\n", FAILED, NOT_STARTED),
    // These come from Envoy; no worker was reached.
    (404, ENVOY, "", NOT_STARTED, NOT_STARTED),
    (503, ENVOY, "no healthy upstream", NOT_STARTED, NOT_STARTED),
    (
        503,
        ENVOY,
        "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
        NOT_STARTED,
        NOT_STARTED,
    ),
    (
        503,
        ENVOY,
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, transport failure reason: delayed connect error: Connection refused",
        NOT_STARTED,
        NOT_STARTED,
    ),
    // These come from probe handlers; the request itself is at fault.
    (400, &[], "unexpected probe header value \"x\"\n", REJECTED, REJECTED),
    (400, &[], "a probe request must contain a non-empty K-Network-Hash\n", REJECTED, REJECTED),
    // A component in between gave up; the worker may have run, or may still run.
    (504, &[], "activator request timeout", UNKNOWN, UNKNOWN),
    (504, &[], "request timeout", UNKNOWN, UNKNOWN),
    (504, ENVOY, "upstream request timeout", UNKNOWN, UNKNOWN),
    (502, &[], "EOF\n", UNKNOWN, UNKNOWN),
    (502, &[], "unexpected EOF\n", UNKNOWN, UNKNOWN),
    (502, &[], "read tcp 10.0.0.1:1->10.0.0.2:8012: read: connection reset by peer\n", UNKNOWN, UNKNOWN),
    (502, &[], "", UNKNOWN, UNKNOWN),
    (
        503,
        ENVOY,
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        UNKNOWN,
        UNKNOWN,
    ),
    (200, &[], "line\nline\nrequest timeout", UNKNOWN, UNKNOWN),
    // The worker's header wins over the text of its body.
    (200, SAYS_DONE, "line\nrequest timeout\n", DONE, DONE),
    (200, SAYS_RETRY, "line\nrequest timeout\n", FAILED, FAILED),
    // The same texts, in places where Knative cannot have written them.
    (200, LENGTH, "request timeout", DONE, UNKNOWN),
    (200, &[], "there was no request timeout at all", DONE, UNKNOWN),
    (503, &[], "our pending request queue full of cats", FAILED, UNKNOWN),
    (404, THROUGH_ENVOY, "", FAILED, UNKNOWN),
    (404, &[], "", FAILED, UNKNOWN),
    // These come from the worker, as far as a status can tell.
    (200, &[], "Hello world!", DONE, UNKNOWN),
    (202, &[], "", DONE, UNKNOWN),
    (204, &[], "", DONE, UNKNOWN),
    (300, &[], "", MISCONFIGURED, MISCONFIGURED),
    (301, &[("location", "https://elsewhere/")], "", MISCONFIGURED, MISCONFIGURED),
    (304, &[], "", MISCONFIGURED, MISCONFIGURED),
    (307, &[], "", MISCONFIGURED, MISCONFIGURED),
    (308, THROUGH_ENVOY, "", MISCONFIGURED, MISCONFIGURED),
    (400, &[], "bad image", REJECTED, UNKNOWN),
    (400, &[], "Client sent an HTTP request to an HTTPS server.\n", MISCONFIGURED, MISCONFIGURED),
    (401, &[], "", MISCONFIGURED, MISCONFIGURED),
    (403, &[], "RBAC: access denied", MISCONFIGURED, MISCONFIGURED),
    (407, &[], "", MISCONFIGURED, MISCONFIGURED),
    (101, &[("upgrade", "websocket")], "", UNREADABLE, UNREADABLE),
    (404, &[], "no such image", FAILED, UNKNOWN),
    (408, &[], "", FAILED, UNKNOWN),
    (409, &[], "", FAILED, UNKNOWN),
    (413, &[], "", REJECTED, UNKNOWN),
    (422, &[], "", REJECTED, UNKNOWN),
    (429, &[], "", FAILED, UNKNOWN),
    (500, &[], "panic", FAILED, UNKNOWN),
    (501, &[], "", FAILED, UNKNOWN),
    (503, &[], "database is away", FAILED, UNKNOWN),
    (599, &[], "", FAILED, UNKNOWN),
    (799, &[], "", FAILED, UNKNOWN),
    // These come from the worker, as its header proves.
    (200, SAYS_DONE, "ok", DONE, DONE),
    (200, SAYS_RETRY, "not yet", FAILED, FAILED),
    (200, SAYS_REJECT, "never", REJECTED, REJECTED),
    (500, SAYS_REJECT, "never", REJECTED, REJECTED),
    (422, SAYS_RETRY, "later", FAILED, FAILED),
    (504, SAYS_RETRY, "request timeout", FAILED, FAILED),
    (502, SAYS_RETRY, "dial tcp 10.0.0.1:5432: connect: connection refused", FAILED, FAILED),
    (500, SAYS_DONE, "crashed after all", FAILED, FAILED),
    (422, SAYS_DONE, "", REJECTED, REJECTED),
    (403, SAYS_REJECT, "", REJECTED, REJECTED),
    (403, SAYS_RETRY, "", FAILED, FAILED),
    (401, SAYS_DONE, "", REJECTED, REJECTED),
    (503, SAYS_INTERRUPTED, "stopping", INTERRUPTED, INTERRUPTED),
    (200, SAYS_INTERRUPTED, "request timeout", INTERRUPTED, INTERRUPTED),
    (200, SAYS_NONSENSE, "", FAILED, FAILED),
];

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |&(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn classify(status: u16, pairs: &[(&'static str, &str)], body: &[u8], require_outcome: bool) -> Classified {
    let headers = headers(pairs);
    let status = StatusCode::from_u16(status).unwrap();
    let seen = Seen { status, headers: &headers, body, tail: body, cut: None };
    answer(&seen, &Rules { require_outcome, ..Rules::default() }, SystemTime::UNIX_EPOCH)
}

#[test]
fn the_table_holds() {
    for &(status, pairs, body, plain, strict) in TABLE {
        for (require_outcome, expected) in [(false, plain), (true, strict)] {
            let verdict = classify(status, pairs, body.as_bytes(), require_outcome);
            assert_eq!(
                verdict.outcome, expected,
                "{status} {pairs:?} {body:?} require_outcome={require_outcome}"
            );
            assert!(!verdict.detail.is_empty() && !verdict.detail.contains('\n'), "{:?}", verdict.detail);
        }
    }
}

#[test]
fn an_answer_that_was_cut_is_never_a_verdict() {
    for status in [200, 404, 422, 500, 503] {
        let headers = headers(&[("longhaul-outcome", "done"), ("content-length", "9")]);
        let status = StatusCode::from_u16(status).unwrap();
        for (cut, outcome) in [
            (Failure::Lost("end of file".to_owned()), UNKNOWN),
            (Failure::Unreadable("bad chunk\u{1b}\n end of file".to_owned()), UNREADABLE),
        ] {
            let seen = Seen { status, headers: &headers, body: b"half", tail: b"half", cut: Some(&cut) };
            let verdict = answer(&seen, &Rules::default(), SystemTime::UNIX_EPOCH);
            assert_eq!(verdict.outcome, outcome, "{status}");
            assert!(verdict.detail.ends_with("end of file") && !verdict.detail.contains('\u{1b}'));
        }
    }
}

#[test]
fn endings_without_an_answer() {
    let cases = [
        (Failure::NotConnected("refused".to_owned()), NOT_STARTED, "refused"),
        (Failure::NotSent("closed".to_owned()), NOT_STARTED, "closed"),
        (Failure::TimedOut(Duration::from_secs(90)), UNKNOWN, "within 90s"),
        (Failure::Lost("reset".to_owned()), UNKNOWN, "reset"),
        (Failure::TooManyHeaders, REJECTED, "headers"),
        (Failure::HeadTooLarge(70_000), REJECTED, "70000 bytes, and 65536"),
        (
            Failure::Unreadable("x".to_owned()),
            UNREADABLE,
            "the service answered, but the answer is not valid HTTP",
        ),
        (Failure::Alert("handshake failure".to_owned()), NOT_STARTED, "before any answer"),
        (Failure::CertificateRefused("unknown CA".to_owned()), MISCONFIGURED, "client certificate"),
    ];
    for (case, expected, words) in cases {
        let verdict = failure(&case);
        assert_eq!(verdict.outcome, expected, "{case:?}");
        assert!(verdict.detail.contains(words), "{}", verdict.detail);
    }
}

#[test]
fn a_wait_is_read_in_both_forms() {
    let wait = |value| match classify(503, &[("retry-after", value)], b"busy", false).outcome {
        Outcome::Failed { retry_after } => retry_after.map(|wait| wait.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait("120"), Some(120));
    assert_eq!(wait(" 0 "), Some(0));
    assert_eq!(wait("Thu, 01 Jan 1970 00:01:30 GMT"), Some(90));
    assert_eq!(wait("Wed, 31 Dec 1969 23:00:00 GMT"), None, "a date before the epoch is refused");
    assert_eq!(wait("18446744073709551615"), Some(RETRY_AFTER_MAX.as_secs()));
    for none in ["-1", "1.5", "soon", ""] {
        assert_eq!(wait(none), None, "{none}");
    }
    let full = classify(503, &[("retry-after", "7")], b"pending request queue full", false);
    assert_eq!(full.outcome, Outcome::NotStarted { retry_after: Some(Duration::from_secs(7)) });
    let past = retry_after(&headers(&[("retry-after", "Thu, 01 Jan 1970 00:01:30 GMT")]), SystemTime::now());
    assert_eq!(past, Some(Duration::ZERO));
}

#[test]
fn the_detail_is_one_short_line() {
    let with_reason = classify(422, &[("longhaul-reason", "bad\theader  of image")], b"long text", false);
    assert_eq!(with_reason.detail, "bad header of image");
    assert_eq!(classify(500, &[], b"  a\r\n\x1b[31mb\0 c\n", false).detail, "500: a [31mb c");
    assert_eq!(classify(200, &[], b"secret result", false).detail, "200 OK");
    assert_eq!(classify(599, &[], b"", false).detail, "599");
    assert_eq!(classify(500, &[], "ä".repeat(5000).as_bytes(), false).detail.chars().count(), 205);
    assert!(classify(500, &[], b"\xff\xfe", false).detail.starts_with("500: \u{fffd}"));
}

#[test]
fn a_worker_may_use_a_listed_status_for_items() {
    let with = |status, body: &[u8], require_outcome| {
        let headers = HeaderMap::new();
        let status = StatusCode::from_u16(status).unwrap();
        let seen = Seen { status, headers: &headers, body, tail: body, cut: None };
        let rules = Rules { require_outcome, reject_on: vec![403, 404, 302] };
        answer(&seen, &rules, SystemTime::UNIX_EPOCH).outcome
    };
    assert_eq!(
        (with(403, b"", false), with(404, b"", false), with(302, b"", false)),
        (REJECTED, REJECTED, REJECTED)
    );
    assert_eq!((with(401, b"", false), with(503, b"", false)), (MISCONFIGURED, FAILED));
    assert_eq!(with(404, b"Error getting active endpoint: x", false), NOT_STARTED);
    assert_eq!(with(403, b"", true), MISCONFIGURED, "without its header it is not the worker's");
}

#[test]
fn a_redirect_names_its_place_without_the_query() {
    let verdict = classify(302, &[("location", "https://login/x?state=secret")], b"", false);
    assert_eq!(verdict.detail, "302 Found to https://login/x");
}
