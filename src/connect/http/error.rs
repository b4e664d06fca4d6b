//! Errors of a client before its first request, and the text of an error with its causes.

use std::io;
use std::path::PathBuf;

/// Returns the text of an error and of its causes. A failed request alone says only "error sending
/// request" and the address.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The keys of an own certificate that TLS can use.
pub const KEY_TYPES: &str =
    "a key is RSA with 2048 to 4096 bits, ECDSA with the curve P-256 or P-384, or Ed25519";

/// The reason why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url:?} is not an address to send to: {reason}")]
    Url { url: String, reason: String },
    #[error("host: {0:?} can't be a Host header")]
    Host(String),
    #[error("header {name:?}: {reason}")]
    Header { name: String, reason: String },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{place} holds no usable certificate: {reason}")]
    Certificate { place: String, reason: String },
    #[error("tls: cert_file and key_file go together")]
    HalfIdentity,
    #[error("the HTTP client can't be built: {0}")]
    Client(String),
}
