//! A cluster over TLS with SASL/SCRAM. These tests need a build with the feature `kafka-tls`.

use axum::http::StatusCode;

use super::acl::{Operation, Resource};
use super::secured::Secured;
use super::support::{PATIENCE, until};

/// Returns the address of a listener of the broker under test, and the file of its certificate.
fn listener(variable: &str) -> Option<(String, String)> {
    let Ok(value) = std::env::var(variable) else {
        eprintln!("left out: {variable} is not set; tests/brokers sets it");
        return None;
    };
    let (address, file) = value.split_once(' ').expect("an address and a file");
    Some((address.to_owned(), file.to_owned()))
}

/// The authority of the tests, which signs none of the broker's certificates.
const OTHER_AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");

fn scram(ca: &str, password: &std::path::Path) -> String {
    format!(
        "security.protocol: sasl_ssl, ssl.ca.location: \"{ca}\", sasl.mechanism: SCRAM-SHA-256, \
         sasl.username: tester, sasl.password: \"${{file:{}}}\"",
        password.display()
    )
}

/// The source and the target of dead letters reach the cluster with a password from a file. The
/// file is wrong at first.
#[tokio::test(flavor = "multi_thread")]
async fn items_and_dead_letters_go_over_tls_with_scram() {
    let Some((address, ca)) = listener("LONGHAUL_TEST_KAFKA_SCRAM") else { return };
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "wrong").unwrap();
    let more = "  dead_letter: { kafka: { topic: NAME-dead } }";
    let verdict =
        |body: &[u8]| if body == b"t 0" { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let topics = ["t", "dead"];
    let secured = Secured::at(&address, "tls", &topics, &scram(&ca, &password), more, folder, verdict).await;
    secured.allow_reading("t");
    secured.allow_group();
    secured.allow(Resource::Topic, &secured.topic("dead"), Operation::Write);
    secured.produce("t", 5).await;
    secured.says(&["sasl.password", "uthentication"]).await;
    std::fs::write(&password, "right").unwrap();
    secured.runs(5).await;
    secured.is_ready().await;
    let (broker, dead) = (secured.broker.clone(), secured.topic("dead"));
    let letters = tokio::task::spawn_blocking(move || {
        use rdkafka::consumer::{BaseConsumer, Consumer as _};
        let consumer: BaseConsumer = broker.client().create().unwrap();
        until_blocking(|| consumer.fetch_watermarks(&dead, 0, PATIENCE).unwrap().1 == 1);
    });
    letters.await.unwrap();
    until("everything is committed", || secured.broker.committed(&secured.topic("t")).0 == 5).await;
    secured.ends("t", 5).await;
}

fn until_blocking(is: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "the dead letter did not come");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The broker's certificate is signed by another authority, or is out of date. The readiness names
/// the certificate within 10 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_trusted_is_named() {
    for (variable, ca, said) in [
        ("LONGHAUL_TEST_KAFKA_TLS", Some(OTHER_AUTHORITY), "certificate"),
        ("LONGHAUL_TEST_KAFKA_EXPIRED", None, "certificate"),
    ] {
        let Some((address, own)) = listener(variable) else { return };
        let folder = tempfile::tempdir().unwrap();
        let options =
            format!("security.protocol: ssl, ssl.ca.location: \"{}\"", ca.map_or(own, str::to_owned));
        let secured =
            Secured::at(&address, "tls-untrusted", &["t"], &options, "", folder, |_| StatusCode::OK).await;
        secured.says(&["ssl.ca.location", said]).await;
        secured.program.stop().await;
    }
}
