//! Where the account and the certificate are kept: a file for each, written whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::pin::Pin;

use rustls_acme::{AccountCache, CertCache};
use sha2::{Digest as _, Sha256};

/// A directory.
pub(super) struct Files(pub(super) PathBuf);

type Step<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

impl Files {
    /// Named by what it is for, so that other names or another authority are another file.
    fn path(&self, what: &str, of: &[String], directory: &str) -> PathBuf {
        let mut hash = Sha256::new();
        for part in of.iter().map(String::as_str).chain([directory]) {
            hash.update(part);
            hash.update([0]);
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.join(format!("{what}-{hash}"))
    }

    fn load(&self, what: &str, of: &[String], directory: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(what, of, directory)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&self, what: &str, of: &[String], directory: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(what, of, directory);
        let new = path.with_extension("new");
        let mut open = OpenOptions::new();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(new, path)
    }
}

impl CertCache for Files {
    type EC = io::Error;

    fn load_cert<'s, 'd, 'u, 'f>(
        &'s self,
        domains: &'d [String],
        directory: &'u str,
    ) -> Step<'f, Option<Vec<u8>>>
    where
        's: 'f,
        'd: 'f,
        'u: 'f,
    {
        Box::pin(async move { self.load("cert", domains, directory) })
    }

    fn store_cert<'s, 'd, 'u, 'c, 'f>(
        &'s self,
        domains: &'d [String],
        directory: &'u str,
        cert: &'c [u8],
    ) -> Step<'f, ()>
    where
        's: 'f,
        'd: 'f,
        'u: 'f,
        'c: 'f,
    {
        Box::pin(async move { self.store("cert", domains, directory, cert) })
    }
}

impl AccountCache for Files {
    type EA = io::Error;

    fn load_account<'s, 'd, 'u, 'f>(
        &'s self,
        contact: &'d [String],
        directory: &'u str,
    ) -> Step<'f, Option<Vec<u8>>>
    where
        's: 'f,
        'd: 'f,
        'u: 'f,
    {
        Box::pin(async move { self.load("account", contact, directory) })
    }

    fn store_account<'s, 'd, 'u, 'c, 'f>(
        &'s self,
        contact: &'d [String],
        directory: &'u str,
        account: &'c [u8],
    ) -> Step<'f, ()>
    where
        's: 'f,
        'd: 'f,
        'u: 'f,
        'c: 'f,
    {
        Box::pin(async move { self.store("account", contact, directory, account) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_for_the_same_names_only() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files(directory.path().to_owned());
        let [a, b] = ["a.example", "b.example"].map(|name| vec![name.to_owned()]);
        assert!(files.load("cert", &a, "x").unwrap().is_none());
        files.store("cert", &a, "x", b"one").unwrap();
        files.store("cert", &a, "x", b"two").unwrap();
        assert_eq!(files.load("cert", &a, "x").unwrap().unwrap(), b"two");
        assert!(files.load("cert", &b, "x").unwrap().is_none());
        assert!(files.load("cert", &a, "y").unwrap().is_none());
        assert!(files.load("account", &a, "x").unwrap().is_none());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }
}
