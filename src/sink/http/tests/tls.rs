//! Whom the client trusts, and how it shows who it is.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// Whether the server wants to know its clients.
#[derive(Clone, Copy)]
enum Clients {
    Any,
    Known,
}

/// A server that answers every request with an empty 200; its address.
async fn serve(clients: Clients) -> String {
    let provider = Arc::new(default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = match clients {
        Clients::Any => builder.unwrap().with_no_client_auth(),
        Clients::Known => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.unwrap().with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(fixture("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(fixture("server-key.pem")).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.flush().await;
            }
        }
    });
    url
}

#[tokio::test]
async fn an_unknown_authority_is_not_started_and_each_place_makes_it_known() {
    let url = serve(Clients::Any).await;
    let answer = send(&client(&url)).await;
    assert_eq!(answer.outcome, NOT_STARTED, "{}", answer.detail);
    assert!(answer.detail.contains("certificate"), "{}", answer.detail);

    let bundles = tempfile::tempdir().unwrap();
    fs::write(bundles.path().join("bad.pem"), "junk").unwrap();
    fs::copy(fixture("ca.pem"), bundles.path().join("good.pem")).unwrap();
    let places: [&dyn Fn(&mut Settings); 3] = [
        &|settings| settings.sink.tls.ca_file = Some(fixture("ca.pem")),
        &|settings| settings.environment.k_ca_certs = fs::read_to_string(fixture("ca.pem")).ok(),
        &|settings| settings.environment.trust_bundles = bundles.path().to_owned(),
    ];
    for place in places {
        let mut settings = settings(&url);
        place(&mut settings);
        let answer = send(&Client::new(settings).unwrap()).await;
        assert_eq!(answer.outcome, Outcome::Done, "{}", answer.detail);
    }
}

#[tokio::test]
async fn a_new_trust_bundle_is_noticed() {
    let url = serve(Clients::Any).await;
    let bundles = tempfile::tempdir().unwrap();
    let mut settings = settings(&url);
    settings.environment.trust_bundles = bundles.path().to_owned();
    let client = Client::new(settings).unwrap();
    assert_eq!(send(&client).await.outcome, NOT_STARTED);
    fs::copy(fixture("ca.pem"), bundles.path().join("ca.pem")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while send(&client).await.outcome != Outcome::Done {
        assert!(Instant::now() < deadline);
    }
}

/// With TLS 1.3 a server refuses a client only after the client takes the handshake for done and has sent its request:
/// without a certificate the ending is an unknown one.
#[tokio::test]
async fn a_client_certificate_is_shown() {
    let url = serve(Clients::Known).await;
    let mut stranger = settings(&url);
    stranger.sink.tls.ca_file = Some(fixture("ca.pem"));
    assert_ne!(send(&Client::new(stranger).unwrap()).await.outcome, Outcome::Done);
    let mut known = settings(&url);
    known.sink.tls = config::Tls {
        ca_file: Some(fixture("ca.pem")),
        cert_file: Some(fixture("client.pem")),
        key_file: Some(fixture("client-key.pem")),
    };
    let answer = send(&Client::new(known).unwrap()).await;
    assert_eq!(answer.outcome, Outcome::Done, "{}", answer.detail);
}
