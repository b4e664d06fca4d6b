//! Clear errors: no bridge there, another program there, a mistake on the command line. The server
//! of these tests gives the same answer to everything.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::{free_address, longhaul};

/// A server with one answer. Returns its address, and the paths that were asked for.
async fn server(status: StatusCode, body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        asked.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        async move { (status, body).into_response() }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_work_is_explained() {
    let free = free_address();
    let (html, _) = server(StatusCode::OK, "<html>another program</html>").await;
    let (missing, _) = server(StatusCode::NOT_FOUND, "").await;
    for (url, code, text, help) in [
        (free.to_string(), 64, "has no scheme", format!("write http://{free}")),
        ("ftp://a".to_owned(), 64, "is not http:// or https://", "http://127.0.0.1:9090".to_owned()),
        (format!("http://{free}"), 69, "nothing listens at", "--url or LONGHAUL_URL".to_owned()),
        ("http://no-such-host.invalid:1".to_owned(), 69, "no answer of", "--url or LONGHAUL_URL".to_owned()),
        (html, 69, "is not the one of a bridge", "admin.listen".to_owned()),
        (missing, 69, "answers with status 404", "admin".to_owned()),
    ] {
        let ended = longhaul(&url, &["ps"]).await;
        assert_eq!(ended.code, Some(code), "{url}: {ended:?}");
        assert!(ended.err.starts_with("error: ") && ended.err.contains(text), "{url}: {ended:?}");
        assert!(ended.err.contains("\n  help: ") && ended.err.contains(&help), "{url}: {ended:?}");
    }
    let ended = longhaul(&format!("http://{free}"), &["health"]).await;
    assert!(ended.code == Some(1) && ended.err.contains("nothing listens"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_that_could_mean_everything_is_refused() {
    let (url, seen) = server(StatusCode::OK, r#"{"matched":3,"changed":3}"#).await;
    for arguments in [
        &["items", "drop"][..],
        &["items", "drop", "--pipeline", "files"],
        &["items", "drop", "--pipeline", "files", "--state", "hold"],
        &["items", "drop", "an-id", "--state", "held"],
        &["items", "drop", "--state", "held"],
        &["items", "drop", "--pipeline", "files", "--older", "long"],
        &["limit", "files", "0"],
    ] {
        let ended = longhaul(&url, arguments).await;
        let code = ended.code.unwrap();
        assert!(code == 64 || code == 2, "{arguments:?}: {ended:?}");
    }
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
}

/// An id is any text. It never becomes another path.
#[tokio::test(flavor = "multi_thread")]
async fn ids_and_filters_are_encoded() {
    let (url, seen) = server(StatusCode::OK, r#"{"matched":1,"changed":1}"#).await;
    let ended = longhaul(&url, &["items", "retry", "partition:0/offset:7 ?#%", "--pipeline", "a&b"]).await;
    assert_eq!(ended.out, "partition:0/offset:7 ?#%: sent on at once\n", "{ended:?}");
    let filter =
        ["--pipeline", "files", "--state", "held,retrying", "--older", "5m", "--key", "a&b=*", "--yes"];
    let ended = longhaul(&url, &[&["items", "release"], &filter[..]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], "POST /api/v1/items/partition:0%2Foffset:7%20%3F%23%25/retry?pipeline=a%26b");
    assert_eq!(
        seen[1],
        "POST /api/v1/pipelines/files/items/release?state=held%2Cretrying&older=5m&key=a%26b%3D*"
    );
}
