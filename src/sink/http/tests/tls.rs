//! Checks which servers the client trusts, and how it proves its own identity.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// Whether the server asks for the clients' certificates.
#[derive(Clone, Copy)]
enum Clients {
    Any,
    Known,
}

/// Starts a server that answers every request with an empty 200. Returns its address.
async fn serve(clients: Clients) -> String {
    serve_with(clients, &[&TLS13, &TLS12]).await
}

async fn serve_with(clients: Clients, versions: &[&'static SupportedProtocolVersion]) -> String {
    run(config(clients, versions)).await
}

async fn serve_protocol(name: &[u8]) -> String {
    let mut config = config(Clients::Any, &[&TLS13]);
    config.alpn_protocols = vec![name.to_vec()];
    run(config).await
}

fn config(clients: Clients, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
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
    builder.with_single_cert(chain, key).unwrap()
}

async fn run(config: ServerConfig) -> String {
    let acceptor = TlsAcceptor::from(Arc::new(config));
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

/// With TLS 1.3 the client takes the handshake for complete and sends its request before the server
/// refuses its certificate.
#[tokio::test]
async fn a_client_certificate_that_is_refused_is_a_matter_of_the_configuration() {
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let url = serve_with(Clients::Known, versions).await;
        let mut stranger = settings(&url);
        stranger.sink.tls.ca_file = Some(fixture("ca.pem"));
        let stranger = Client::new(stranger).unwrap();
        for body in [Bytes::new(), Bytes::from_static(b"work"), vec![b'x'; 4 << 20].into()] {
            let length = body.len();
            let answer = stranger.send(Request { headers: HeaderMap::new(), body }).await;
            // The alert can get lost if the connection is closed while a body is being written.
            let is_right = answer.outcome == Outcome::Misconfigured
                || (length > 4096 && answer.outcome == NOT_STARTED && versions == [&TLS13]);
            assert!(is_right, "{length}: {:?} {}", answer.outcome, answer.detail);
            assert!(answer.detail.contains("client certificate"), "{}", answer.detail);
        }
    }
}

/// If a peer ends TLS before it answers, it did not pass the request on.
#[tokio::test]
async fn another_fatal_alert_before_the_answer_is_not_started() {
    // The client offers only HTTP/1.1, and the server speaks another protocol.
    let url = serve_protocol(b"h2").await;
    let mut settings = settings(&url);
    settings.sink.tls.ca_file = Some(fixture("ca.pem"));
    let answer = send(&Client::new(settings).unwrap()).await;
    assert_eq!(answer.outcome, NOT_STARTED, "{}", answer.detail);
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let url = serve(Clients::Known).await;
    let mut known = settings(&url);
    known.sink.tls = config::Tls {
        ca_file: Some(fixture("ca.pem")),
        cert_file: Some(fixture("client.pem")),
        key_file: Some(fixture("client-key.pem")),
    };
    let answer = send(&Client::new(known).unwrap()).await;
    assert_eq!(answer.outcome, Outcome::Done, "{}", answer.detail);
}

#[tokio::test]
async fn a_client_key_that_cannot_be_used_names_the_types_that_can() {
    let mut settings = settings("https://localhost");
    settings.sink.tls.cert_file = Some(fixture("p521.pem"));
    settings.sink.tls.key_file = Some(fixture("p521-key.pem"));
    let error = Client::new(settings).err().unwrap().to_string();
    assert!(error.contains("p521.pem with ") && error.contains("P-256 or P-384"), "{error}");
}

/// A server that refuses a certificate while a body is being written closes the connection with
/// unread bytes. The reset then destroys the alert, before or after the write fails.
#[tokio::test]
async fn an_alert_that_a_reset_destroys_is_not_started_at_first_contact() {
    let acceptor = TlsAcceptor::from(Arc::new(config(Clients::Any, &[&TLS13])));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // Some of the request is on its way.
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let mut settings = settings(&url);
    settings.sink.tls.ca_file = Some(fixture("ca.pem"));
    let client = Client::new(settings).unwrap();
    for _ in 0..50 {
        let body = vec![b'x'; 8 << 20].into();
        let answer = client.send(Request { headers: HeaderMap::new(), body }).await;
        assert_eq!(answer.outcome, NOT_STARTED, "{}", answer.detail);
        assert!(answer.detail.contains("client certificate"), "{}", answer.detail);
    }
}
