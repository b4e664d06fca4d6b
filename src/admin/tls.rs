//! TLS of the admin port. The files are read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::connect::http::{Error, KEY_TYPES, Watched};

/// The certificate that the admin port shows.
#[derive(Clone)]
pub struct Tls(Arc<Watched<Arc<ServerConfig>>>);

impl Tls {
    /// # Errors
    /// If a file cannot be used.
    pub fn from_files(cert_file: &Path, key_file: &Path) -> Result<Self, Error> {
        let files = vec![cert_file.to_owned(), key_file.to_owned()];
        let (cert_file, key_file) = (cert_file.to_owned(), key_file.to_owned());
        let watched = Watched::new("admin certificate", files, move || load(&cert_file, &key_file))?;
        Ok(Tls(Arc::new(watched)))
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config: Arc<ServerConfig> = self.0.get().as_ref().clone();
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn load(cert_file: &PathBuf, key_file: &PathBuf) -> Result<Arc<ServerConfig>, Error> {
    let unusable = |file: &PathBuf, reason: &dyn std::fmt::Display| Error::Certificate {
        place: file.display().to_string(),
        reason: reason.to_string(),
    };
    let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(cert_file, &error))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unusable(key_file, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| unusable(cert_file, &format!("{error}; {KEY_TYPES}")))?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_used_names_the_types_that_can() {
        let file = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
        assert!(Tls::from_files(&file("server.pem"), &file("server-key.pem")).is_ok());
        let error = Tls::from_files(&file("p521.pem"), &file("p521-key.pem")).err().unwrap();
        assert!(error.to_string().contains("P-256 or P-384"), "{error}");
    }
}
