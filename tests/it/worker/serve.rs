//! Tests `--serve`: one process for many items.

use super::shim::{Shim, children};

const LOOP: &str = r#"
echo loading
while read -r line; do
  echo "got $line"
  echo '{"level":"info"}'
  case "$line" in
    *die*) exit 3 ;;
    *last*) echo '{"outcome":"done"}'; exit 0 ;;
    *bad*) echo '{"outcome":"reject","reason":"bad one"}' ;;
    *left*) (sleep 1000 &) ; echo '{"outcome":"done"}' ;;
    *hang*) sleep 1000 ;;
    *) echo "{\"outcome\":\"done\",\"reply\":{\"pid\":$$}}" ;;
  esac
done"#;

#[tokio::test]
async fn one_process_answers_items_and_is_started_again_when_it_ends() {
    let shim = Shim::sh(&["--serve", "--timeout", "3s"], LOOP).await;
    let first = shim.item(r#"{"n":1}"#).await;
    assert_eq!((first.status, first.outcome()), (200, "done"));
    shim.logged(r#""data":{"n":1}}"#).await;
    assert_eq!(shim.item("more").await.body, first.body, "the same process");

    let bad = shim.item("bad").await;
    assert_eq!((bad.status, bad.outcome(), bad.reason()), (422, "reject", "bad one"));
    assert_eq!(shim.item("left").await.status, 200);
    assert_eq!(children(shim.pid()), 1, "only the process itself is left");

    let dead = shim.item("die").await;
    assert_eq!((dead.status, dead.outcome()), (500, "retry"));
    assert!(
        dead.reason().starts_with("the process ended without an answer: exit code 3"),
        "{}",
        dead.reason()
    );
    let second = shim.item("x").await;
    assert_eq!(second.status, 200);
    assert_ne!(second.body, first.body, "another process");

    assert_eq!(shim.item("last").await.status, 200, "an answer counts although the process ends after it");
    assert_eq!(shim.item("x").await.status, 200);
    let late = shim.item("hang").await;
    assert!(late.reason().starts_with("not finished within 3s (--timeout)"), "{}", late.reason());
    assert_eq!(shim.item("x").await.status, 200);
}

#[tokio::test]
async fn sigterm_ends_the_process() {
    let mut shim = Shim::sh(&["--serve"], LOOP).await;
    assert_eq!(shim.item("x").await.status, 200);
    shim.terminate();
    assert_eq!(shim.wait().await.code(), Some(0));
}
