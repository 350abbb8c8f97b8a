//! Tokens and questions over real sockets.

mod issuer;
mod published;
mod questions;
mod reached;
mod service;
mod tokens;

use std::future::Future;
use std::path::Path;

use tempfile::TempDir;
use throng::{Authenticate as _, Denied, Visa, Visit};

use super::{Authenticator, BadKeys};
use crate::config::{Config, Flags, Machine};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A configuration with these settings, and the files that it names.
struct Setup {
    directory: TempDir,
    settings: Vec<(String, String)>,
}

impl Setup {
    fn new(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { directory: tempfile::tempdir().unwrap(), settings }
    }

    fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// A setting that is a file with this in it.
    fn file(self, key: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path(key), content).unwrap();
        let path = self.path(key).display().to_string();
        self.set(key, path)
    }

    fn path(&self, key: &str) -> std::path::PathBuf {
        self.directory.path().join(Path::new(key))
    }

    fn config(&self) -> Config {
        let settings = self.settings.iter();
        let settings = settings.map(|(k, v)| ("--set".to_owned(), k.clone(), v.clone())).collect();
        let file = self.directory.path().join("throng.toml");
        std::fs::write(&file, "").unwrap();
        let flags = Flags { file: Some(file), settings, ..Flags::default() };
        Config::load(&flags, &[], Machine { cores: 1, files: 100 }).unwrap()
    }

    fn try_start(&self) -> Result<Authenticator, BadKeys> {
        let config = self.config();
        Authenticator::start(&config.jwt, &config.webhook).map(|started| started.unwrap())
    }

    fn start(&self) -> Authenticator {
        self.try_start().unwrap()
    }
}

async fn show(authenticator: &Authenticator, token: &str) -> Result<Visa, Denied> {
    authenticator.authenticate(token.to_owned(), Visit::default()).await
}

/// Runs a test as the front runs requests.
fn run<F: Future>(test: F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test)
}
