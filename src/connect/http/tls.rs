//! Certificates for `https://`: which authorities we trust, and our own.

use std::error::Error as _;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, Client, ClientBuilder, Identity, Url};

use super::watched::Watched;
use super::{Error, KEY_TYPES, Trust};

/// Returns the client that `make` begins. It is built again when a certificate changes.
///
/// For `http://` no certificate is read: redirects are off, so none is ever needed, and reqwest
/// refuses to build a client on a system without certificates (an image from scratch).
///
/// # Errors
/// A certificate cannot be used.
pub fn client(
    trust: Trust,
    url: &Url,
    make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
) -> Result<Watched<Client>, Error> {
    if url.scheme() == "http" {
        return Watched::new("client", Vec::new(), move || finish(make().tls_certs_only(Vec::new())));
    }
    let tls = &trust.tls;
    let mut files: Vec<PathBuf> =
        [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().flatten().cloned().collect();
    files.push(trust.bundles.clone());
    Watched::new("certificates", files, move || {
        // They are added to the system's own, as in Knative's clients.
        let builder = make().tls_certs_merge(authorities(&trust)?);
        match identity(&trust)? {
            Some(identity) => finish(builder.identity(identity)).map_err(|error| unusable(&trust, error)),
            None => finish(builder),
        }
    })
}

fn finish(builder: ClientBuilder) -> Result<Client, Error> {
    builder.build().map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::Client(format!("{error}{cause}"))
    })
}

/// Reads `tls.ca_file`, `K_CA_CERTS` and the mounted trust bundles.
fn authorities(trust: &Trust) -> Result<Vec<Certificate>, Error> {
    let mut all = Vec::new();
    if let Some(path) = &trust.tls.ca_file {
        all.extend(certificates(&read(path)?, &path.display().to_string())?);
    }
    if let Some(text) = &trust.ca_certs {
        all.extend(certificates(text.as_bytes(), "K_CA_CERTS")?);
    }
    for path in bundles(&trust.bundles) {
        // One unusable bundle of the cluster must not hide the others.
        let found = read(&path).and_then(|pem| certificates(&pem, &path.display().to_string()));
        match found {
            Ok(found) => all.extend(found),
            Err(error) => tracing::warn!(%error, "A trust bundle is left out"),
        }
    }
    Ok(all)
}

fn certificates(pem: &[u8], place: &str) -> Result<Vec<Certificate>, Error> {
    let unusable = |reason: String| Error::Certificate { place: place.to_owned(), reason };
    let found = Certificate::from_pem_bundle(pem).map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("no PEM block of a certificate in it".to_owned()));
    }
    Ok(found)
}

/// Returns the files of the folder, ordered by name. Kubernetes uses names with two dots in front
/// for itself.
fn bundles(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with(".."))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths
}

fn identity(trust: &Trust) -> Result<Option<Identity>, Error> {
    let (certificate, key) = match (&trust.tls.cert_file, &trust.tls.key_file) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => return Err(Error::HalfIdentity),
    };
    let mut pem = read(certificate)?;
    pem.push(b'\n');
    pem.extend(read(key)?);
    let identity = Identity::from_pem(&pem).map_err(|error| {
        unusable(trust, error.source().map_or_else(|| error.to_string(), ToString::to_string))
    })?;
    Ok(Some(identity))
}

/// Our own certificate cannot be used.
fn unusable(trust: &Trust, reason: impl Display) -> Error {
    let name = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
    let places: Vec<String> =
        [&trust.tls.cert_file, &trust.tls.key_file].into_iter().filter_map(name).collect();
    Error::Certificate { place: places.join(" with "), reason: format!("{reason}; {KEY_TYPES}") }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}
