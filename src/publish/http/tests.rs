//! Checks which answers confirm a write, and which mean that it can never succeed.

use std::sync::Mutex;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use tokio::net::TcpListener;

use super::*;

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Starts a service that remembers its requests and gives all of them the same answer. Returns its
/// address.
async fn serve(status: u16, answer: &'static str) -> (String, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            log.lock().unwrap().push((parts.headers, body));
            (StatusCode::from_u16(status).unwrap(), [(LOCATION, "/elsewhere")], answer).into_response()
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dead", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

fn client(url: &str, timeout: Duration) -> Client {
    let target = config::HttpTarget {
        url: url.to_owned(),
        host: Some("dead.example.com".to_owned()),
        timeout: config::Span::from_millis(timeout.as_millis() as u64),
        headers: Default::default(),
        tls: config::Tls::default(),
    };
    let token = Arc::new("Bearer t".to_owned()) as Arc<dyn HeaderSource>;
    Client::new(Settings {
        target,
        headers: vec![("Authorization".to_owned(), token)],
        ca_certs: None,
        trust_bundles: PathBuf::from("/nonexistent"),
        namespace: Some("jobs".to_owned()),
    })
    .unwrap()
}

async fn post(url: &str) -> Result<(), PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert("ce-id", HeaderValue::from_static("1"));
    client(url, Duration::from_secs(10)).post(headers, Bytes::from_static(b"body")).await
}

#[tokio::test]
async fn any_2xx_confirms_a_whole_request() {
    for status in [200, 202, 204] {
        let (url, seen) = serve(status, "").await;
        post(&url).await.unwrap();
        let seen = seen.lock().unwrap();
        let [(headers, body)] = &seen[..] else { panic!("{} requests", seen.len()) };
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!((header("ce-id"), header("kn-namespace")), ("1".into(), "jobs".into()));
        assert_eq!((header("host"), header("authorization")), ("dead.example.com".into(), "Bearer t".into()));
        assert_eq!(body, "body");
    }
}

#[tokio::test]
async fn only_what_blames_the_message_is_for_good() {
    for (status, transient) in [
        (400, false),
        (413, false),
        (301, true),
        (401, true),
        (404, true),
        (429, true),
        (500, true),
        (503, true),
    ] {
        let (url, seen) = serve(status, "because").await;
        let error = post(&url).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{status}: {error}");
        assert!(error.what.contains(&status.to_string()) && error.what.contains("because"), "{error}");
        assert_eq!(seen.lock().unwrap().len(), 1, "{status}: sent once, and nowhere else");
    }
}

#[tokio::test]
async fn no_answer_is_no_confirmation() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let client = client(&url, Duration::from_millis(200));
    let waiting = client.post(HeaderMap::new(), Bytes::new());
    let error = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap_err();
    assert!(error.is_transient() && error.what.contains("did not answer within 200ms"), "{error}");
    drop(silent);
    let error = post(&url).await.unwrap_err();
    assert!(error.is_transient() && error.what.contains("refused"), "{error}");
}
