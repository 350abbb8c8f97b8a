//! The files that TLS is made from.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::config;

/// Whether files are still those that were there before: by which file it is, its length, and when it changed.
#[derive(PartialEq, Eq)]
pub(super) struct Files(Vec<Option<[i64; 5]>>);

impl Files {
    /// As they are now. What is behind a symbolic link counts.
    pub(super) fn look(config: &config::Tls) -> Self {
        let paths = config.cert.iter().chain(config.key.iter()).chain([&config.client_ca]);
        Self(paths.map(|file| stamp(file.path()?)).collect())
    }
}

fn stamp(path: &Path) -> Option<[i64; 5]> {
    let of = fs::metadata(path).ok()?;
    Some([of.ino() as i64, of.len() as i64, of.mtime(), of.mtime_nsec(), of.ctime()])
}

/// The certificates in a file, at least one.
pub(super) fn certificates(
    key: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(key, path, "has no certificate in PEM")),
        Err(error) => Err(wrong(key, path, &reason(&error))),
    }
}

/// The private key in a file.
pub(super) fn private_key(key: &str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(key, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        Error::NoItemsFound => {
            wrong(key, path, "has no private key in PEM (PKCS #8, PKCS #1 or SEC 1, unencrypted)")
        }
        error => wrong(key, path, &reason(&error)),
    })
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| {
        let (path, reason) = (path.display(), crate::reason(&error));
        TlsError::new(format!("{key}: cannot read {path}: {reason}"))
    })
}

/// Without what the file holds: it may be a key.
fn reason(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { .. } => "ends in the middle of PEM".into(),
        _ => "is not valid PEM".into(),
    }
}

fn wrong(key: &str, path: &Path, what: &str) -> TlsError {
    TlsError::new(format!("{key}: {} {what}", path.display()))
}
