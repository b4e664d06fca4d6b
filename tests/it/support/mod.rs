//! The parts that several tests share: a source under test with its bridge end, brokers, and a
//! relay that fails on demand.

pub mod app;
pub mod bridge;
pub mod broker;
pub mod browser;
pub mod process;
pub mod rabbitmq;
pub mod relay;
pub mod scripted;
pub mod worker;

use std::future::Future;
use std::time::Duration;

/// Longer than anything that works ever takes, also on a machine that is ten times slower. Only a
/// failing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Whether the tests have the sizes and the limits of time of an acceptance run. Such a run needs a
/// machine without other work.
pub fn is_full_size() -> bool {
    std::env::var_os("LONGHAUL_TEST_FULL").is_some()
}

/// Returns a client for the requests that a test makes itself.
pub fn http() -> reqwest::Client {
    longhaul::connect::http::builder().build().unwrap()
}

/// Makes one such request.
pub async fn get(url: impl reqwest::IntoUrl) -> reqwest::Result<reqwest::Response> {
    http().get(url).send().await
}

/// Awaits `future`, and fails the test with `what` if it does not end.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Repeats `probe` until it is true, and fails the test with `what` if it never is.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut probe: impl FnMut() -> F) {
    within(what, async {
        while !probe().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}
