//! Tests the input of the command, and its reports while it runs.

use super::shim::{Answer, Note, Posts, Shim};
use crate::support::eventually;

#[tokio::test]
async fn a_binary_event_reaches_the_command() {
    let script = r#"cat; echo; echo "$CE_ID|$CE_TYPE|$CE_CHECKPOINT|$CE_DATACONTENTTYPE|$CE_DATA_FILE"; pwd; echo "$CE_WORK_DIR""#;
    let shim = Shim::sh(&[], script).await;
    let request = shim.post("the data").header("ce-type", "a%20b").header("ce-checkpoint", "row%2017");
    let answer = request.header("content-type", "text/plain").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    shim.logged("[item 1] the data\n").await;
    shim.logged("[item 1] item 1|a b|row 17|text/plain|\n").await;
    let log = shim.log();
    let folders: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("[item 1] /")).collect();
    assert_eq!(folders.len(), 2, "{log}");
    assert_eq!(folders[0], folders[1]);
}

#[tokio::test]
async fn a_structured_event_is_the_same() {
    let shim =
        Shim::sh(&["--input", "file"], r#"cat "$CE_DATA_FILE"; echo "|$CE_ID|$CE_ATTEMPT"; cat"#).await;
    let body =
        r#"{"specversion":"1.0","id":"7","attempt":2,"datacontenttype":"text/plain","data":"the data"}"#;
    let send = |body: &'static str| {
        let request =
            crate::support::http().post(shim.url()).header("content-type", "application/cloudevents+json");
        async move { Answer::of(request.body(body).send().await.unwrap()).await }
    };
    assert_eq!(send(body).await.status, 200);
    shim.logged("[7] the data|7|2\n").await;
    let refused = send("{").await;
    assert_eq!((refused.status, refused.outcome()), (422, "reject"));
    assert!(refused.reason().starts_with("not a CloudEvent in JSON"), "{}", refused.reason());
    assert_eq!(shim.left_files(), [""; 0]);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_rejected() {
    let shim = Shim::sh(&["--body-bytes", "1KiB"], "cat").await;
    let refused = Answer::of(shim.post(vec![b'x'; 1025]).send().await.unwrap()).await;
    assert_eq!((refused.status, refused.outcome()), (413, "reject"));
    let taken = Answer::of(shim.post(vec![b'x'; 1024]).send().await.unwrap()).await;
    assert_eq!(taken.status, 200);
    let shim = Shim::sh(&["--input", "none"], "wc -c").await;
    assert_eq!(shim.item("data").await.status, 200);
    shim.logged("[item 1] 0\n").await;
}

#[tokio::test]
async fn progress_checkpoint_and_lines_are_posted() {
    let (posts, go) = (Posts::listen().await, Note::new());
    let script = format!(
        "echo first; echo ::progress 40% nearly there; echo ::checkpoint row 17; while [ ! -s {} ]; do sleep 0.05; done; \
         echo last >&2; exit 75",
        go.path()
    );
    let shim = Shim::sh(&[], &script).await;
    let request = shim.post("").header("ce-progressurl", &posts.url);
    let item = tokio::spawn(async move { Answer::of(request.send().await.unwrap()).await });
    eventually("a post with the checkpoint", || {
        let found = posts.last("checkpoint").is_some() && posts.last("pod").is_some();
        async move { found }
    })
    .await;
    assert_eq!(posts.last("pod").unwrap(), "pod-7");
    assert_eq!(posts.last("percent").unwrap(), 40.0);
    assert_eq!(posts.last("note").unwrap(), "nearly there");
    assert_eq!(posts.last("checkpoint").unwrap(), "row 17");
    std::fs::write(go.path(), "go").unwrap();
    let answer = item.await.unwrap();
    assert_eq!((answer.status, answer.header("longhaul-checkpoint")), (503, "row%2017"));
    let lines: Vec<_> =
        posts.all().iter().filter_map(|post| post["log"].as_array().cloned()).flatten().collect();
    assert_eq!(lines, ["first", "last"]);
}

#[tokio::test]
async fn a_checkpoint_that_is_too_long_for_the_event_is_fetched() {
    let long = "page ".repeat(600);
    let posts = Posts::with_checkpoint(&long).await;
    let shim = Shim::sh(&[], "printf %s \"$CE_CHECKPOINT\" | wc -c; exit 65").await;
    let answer = shim.post("").header("ce-progressurl", &posts.url).send().await.unwrap();
    assert_eq!(answer.status(), 422);
    shim.logged("[item 1] 3000\n").await;
    // A short one is in the event, and nothing is asked.
    let request = shim.post("").header("ce-progressurl", &posts.url).header("ce-checkpoint", "row%201");
    assert_eq!(request.send().await.unwrap().status(), 422);
    shim.logged("[item 1] 5\n").await;
}

#[tokio::test]
async fn an_unreachable_progress_url_costs_nothing_but_a_second() {
    let shim = Shim::sh(&[], "echo line").await;
    for url in ["http://127.0.0.1:1/x", "https://127.0.0.1:1/x", "nonsense"] {
        let answer = shim.post("").header("ce-progressurl", url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{url}");
    }
}

#[tokio::test]
async fn the_command_of_the_large_program_is_the_same() {
    let mut shim = Shim::start_command(&["--keep-cwd"], &["sh", "-c", "pwd; exit 65"]).await;
    assert_eq!(shim.item("").await.status, 422);
    let folder = std::env::current_dir().unwrap();
    shim.logged(&format!("[item 1] {}\n", folder.display())).await;
    shim.terminate();
    assert_eq!(shim.wait().await.code(), Some(0));
}

#[tokio::test]
async fn an_event_with_many_headers_is_taken() {
    let shim = Shim::sh(&[], "env | grep -c ^CE_EXTENSION").await;
    let request = (0..500).fold(shim.post(""), |request, number| {
        request.header(format!("ce-extension{number}"), "x".repeat(100))
    });
    assert_eq!(request.send().await.unwrap().status(), 200);
    shim.logged("[item 1] 500\n").await;
}
