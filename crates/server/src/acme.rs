//! Certificates from an authority that speaks ACME (RFC 8555), by TLS-ALPN-01 (RFC 8737): the authority makes
//! a TLS connection to port 443 of the name, so nothing but the listener is needed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::ResolvesServerCert;

use crate::config::{self, Storage};
use crate::tls::TlsError;

/// The protocol by which the authority asks for the challenge.
pub(crate) const CHALLENGE: &[u8] = b"acme-tls/1";

#[cfg(feature = "acme")]
mod cache;

#[cfg(feature = "acme")]
mod with {
    use std::fmt::Debug;
    use std::fs::DirBuilder;
    use std::os::unix::fs::DirBuilderExt as _;

    use futures_util::StreamExt as _;
    use rustls::ClientConfig;
    use rustls_acme::{AcmeConfig, AcmeState, EventOk, ResolvesServerCertAcme};
    use tokio::sync::Mutex;

    use super::cache::Files;
    use super::*;
    use crate::tls::authorities;

    /// Asks for a certificate, and for the next one in time.
    pub(crate) struct Acme {
        state: Mutex<AcmeState<std::io::Error>>,
        resolver: Arc<ResolvesServerCertAcme>,
        domains: Vec<String>,
    }

    impl Acme {
        /// Prepares it; nothing is asked before [`Acme::run`].
        pub(crate) fn new(config: &config::Tls, data: &Storage) -> Result<Self, TlsError> {
            let Some(cache) = cache(config, data) else {
                return Err(TlsError::new(
                    "tls.acme_domains needs a directory to keep account and certificates in: set \
                     tls.acme_cache, or data"
                        .into(),
                ));
            };
            // It will hold private keys.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&cache);
            made.map_err(|error| {
                let (cache, reason) = (cache.display(), crate::reason(&error));
                TlsError::new(format!("tls.acme_cache: cannot make {cache}: {reason}"))
            })?;
            let Some(directory) = config.acme_directory.url() else {
                return Err(TlsError::new("tls.acme_domains needs tls.acme_directory".into()));
            };
            let domains: Vec<String> = config.acme_domains.iter().map(str::to_owned).collect();
            let mut acme = AcmeConfig::new(&domains).cache(Files(cache)).directory(directory);
            let contact = config.acme_contact.0.trim();
            if !contact.is_empty() {
                let scheme = if contact.contains(':') { "" } else { "mailto:" };
                acme = acme.contact_push(format!("{scheme}{contact}"));
            }
            if let Some(path) = config.acme_ca.path() {
                let roots = authorities("tls.acme_ca", path)?;
                let client = ClientConfig::builder_with_provider(Arc::new(
                    rustls::crypto::aws_lc_rs::default_provider(),
                ))
                .with_safe_default_protocol_versions()
                .map_err(|error| TlsError::new(format!("tls.acme_ca: {error}")))?
                .with_root_certificates(roots)
                .with_no_client_auth();
                acme = acme.client_tls_config(Arc::new(client));
            }
            let state = acme.state();
            let resolver = state.resolver();
            Ok(Self { state: Mutex::new(state), resolver, domains })
        }

        /// What clients are shown.
        pub(crate) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
            self.resolver.clone()
        }

        /// The names it is for.
        pub(crate) fn domains(&self) -> Vec<String> {
            self.domains.clone()
        }

        /// Obtains and renews until it is dropped. What goes wrong is logged and tried again.
        pub(crate) async fn run(&self) {
            let domains = self.domains.join(" ");
            let mut state = self.state.lock().await;
            while let Some(event) = state.next().await {
                match event {
                    Ok(EventOk::DeployedCachedCert) => {
                        tracing::info!(domains, "a certificate was found in the cache");
                    }
                    Ok(EventOk::DeployedNewCert) => {
                        tracing::info!(domains, "a certificate was obtained");
                    }
                    Ok(EventOk::CertCacheStore) => {
                        tracing::info!(domains, "the certificate is in the cache");
                    }
                    Ok(EventOk::AccountCacheStore) => {}
                    Err(error) => failed(&domains, &error),
                }
            }
        }
    }

    fn failed(domains: &str, error: &dyn Debug) {
        tracing::error!(domains, ?error, "no certificate yet, trying again");
    }
}

#[cfg(not(feature = "acme"))]
mod with {
    use super::*;

    /// Not built in.
    pub(crate) struct Acme(std::convert::Infallible);

    impl Acme {
        pub(crate) fn new(config: &config::Tls, data: &Storage) -> Result<Self, TlsError> {
            let _ = cache(config, data);
            Err(TlsError::new("tls.acme_domains: this throng was built without ACME".into()))
        }

        pub(crate) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
            match self.0 {}
        }

        pub(crate) fn domains(&self) -> Vec<String> {
            match self.0 {}
        }

        pub(crate) async fn run(&self) {
            match self.0 {}
        }
    }
}

pub(crate) use self::with::Acme;

/// Where account and certificates are kept: as configured, or with the other data.
fn cache(config: &config::Tls, data: &Storage) -> Option<PathBuf> {
    match (config.acme_cache.path(), data) {
        (Some(path), _) => Some(path.to_owned()),
        (None, Storage::Directory(data)) => Some(data.join("acme")),
        (None, Storage::Memory) => None,
    }
}
