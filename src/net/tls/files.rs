//! Certificates and keys from PEM files: the only place that knows their format.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

use super::TlsError;
use crate::cause::cause;
use crate::config::options::CertFiles;
use crate::limits;

/// Where systems keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A chain, the server's own certificate first, and its key.
pub(super) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What a PEM file holds that concerns us, whatever is written between.
fn items(path: &Path) -> Result<Vec<Item>, String> {
    let text = read(path)?;
    let (mut rest, mut items) = (text.as_slice(), Vec::new());
    while let Some((item, after)) =
        rustls_pemfile::read_one_from_slice(rest).map_err(|error| describe(path, &error))?
    {
        items.push(item);
        rest = after;
    }
    Ok(items)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let ceiling = u64::try_from(limits::TLS_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = Vec::new();
    let file = File::open(path).and_then(|file| {
        let mut start = file.take(ceiling.saturating_add(1));
        start.read_to_end(&mut text)
    });
    file.map_err(|error| format!("open {}: {}", path.display(), cause(&error)))?;
    if text.len() > limits::TLS_FILE_BYTES_MAX {
        let (path, limit) = (path.display(), limits::TLS_FILE_BYTES_MAX);
        let text = format!("{path}: file is too large for TLS, the limit is {limit} bytes");
        return Err(text);
    }
    Ok(text)
}

fn describe(path: &Path, error: &rustls_pemfile::Error) -> String {
    let what = match error {
        rustls_pemfile::Error::MissingSectionEnd { .. } => "a section of PEM has no end",
        rustls_pemfile::Error::IllegalSectionStart { .. } => "a section of PEM has no proper start",
        rustls_pemfile::Error::Base64Decode(_) => "a section of PEM is not base64",
    };
    format!("{}: {what}", path.display())
}

/// Reads a chain and its key: PKCS#1, PKCS#8 or SEC1, not encrypted.
pub(super) fn pair(files: &CertFiles) -> Result<Pair, String> {
    let in_cert_file = items(&files.cert_file)?;
    let has_key = in_cert_file.iter().any(|item| as_key(item).is_some());
    let chain: Vec<_> = in_cert_file
        .into_iter()
        .filter_map(as_certificate)
        .collect();
    if chain.is_empty() {
        return Err(if has_key {
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
             have been switched"
        } else {
            "tls: failed to find any PEM data in certificate input"
        }
        .into());
    }
    let in_key_file = items(&files.key_file)?;
    if let Some(key) = in_key_file.iter().find_map(as_key) {
        return Ok((chain, key));
    }
    let has_certificate = in_key_file
        .into_iter()
        .any(|item| as_certificate(item).is_some());
    let is_encrypted = read(&files.key_file).is_ok_and(|text| {
        memchr::memmem::find(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----").is_some()
    });
    Err(if is_encrypted {
        "tls: failed to parse private key: it is encrypted, and there is nobody to ask for its password"
    } else if has_certificate {
        "tls: found a certificate rather than a key in the PEM for the private key"
    } else {
        "tls: failed to find any PEM data in key input"
    }
    .into())
}

fn as_certificate(item: Item) -> Option<CertificateDer<'static>> {
    match item {
        Item::X509Certificate(der) => Some(der),
        _ => None,
    }
}

fn as_key(item: &Item) -> Option<PrivateKeyDer<'static>> {
    match item {
        Item::Pkcs1Key(key) => Some(PrivateKeyDer::Pkcs1(key.clone_key())),
        Item::Pkcs8Key(key) => Some(PrivateKeyDer::Pkcs8(key.clone_key())),
        Item::Sec1Key(key) => Some(PrivateKeyDer::Sec1(key.clone_key())),
        _ => None,
    }
}

/// The authorities to trust: those in `bundle`, each of which is an end of chains, or the system's.
pub(super) fn authorities(bundle: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let Some(path) = bundle else {
        return Ok(system_authorities());
    };
    let items = items(path).map_err(TlsError::Authorities)?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(items.into_iter().filter_map(as_certificate));
    if store.is_empty() {
        return Err(TlsError::Authorities(
            "failed to parse root ca certificate".into(),
        ));
    }
    Ok(store)
}

/// The authorities that the system trusts; none, if it says so nowhere.
fn system_authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let named = std::env::var_os("SSL_CERT_FILE").map(std::path::PathBuf::from);
    let usual = SYSTEM_AUTHORITIES.iter().map(std::path::PathBuf::from);
    let mut files = named.into_iter().chain(usual);
    if let Some(items) = files.find_map(|path| items(&path).ok()) {
        store.add_parsable_certificates(items.into_iter().filter_map(as_certificate));
    }
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_limit_is_not_taken_in() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let limit = u64::try_from(limits::TLS_FILE_BYTES_MAX).unwrap();
        file.as_file().set_len(limit + 1).unwrap();
        let expected = format!(
            "{}: file is too large for TLS, the limit is 16777216 bytes",
            file.path().display()
        );
        assert_eq!(items(file.path()).unwrap_err(), expected);
        file.as_file().set_len(limit).unwrap();
        assert!(items(file.path()).unwrap().is_empty());
    }
}
