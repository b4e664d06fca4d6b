//! Certificates for `amqps://`.

use std::path::Path;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPScheme;

use super::Error;
use crate::config::Tls;

/// Reads the files. Their authorities are added to the system's.
pub(super) async fn read(tls: &Tls, scheme: &AMQPScheme) -> Result<OwnedTLSConfig, Error> {
    if *scheme == AMQPScheme::AMQP {
        return Ok(OwnedTLSConfig::default());
    }
    let cert_chain = match &tls.ca_file {
        Some(path) => Some(text(path).await?),
        None => None,
    };
    let identity = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            Some(OwnedIdentity::PKCS8 { pem: bytes(cert).await?, key: bytes(key).await? })
        }
        // `check` reports a certificate without a key, and a key without a certificate.
        _ => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

async fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|source| Error::File { path: path.to_owned(), source })
}

async fn text(path: &Path) -> Result<String, Error> {
    let invalid = |_| Error::File { path: path.to_owned(), source: std::io::ErrorKind::InvalidData.into() };
    String::from_utf8(bytes(path).await?).map_err(invalid)
}
