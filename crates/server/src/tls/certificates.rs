//! Which certificate a client is shown.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, files};
use crate::acme::CHALLENGE;
use crate::config;

/// Those from files, in order, and the one from ACME.
pub(super) struct Certificates {
    listed: Vec<Arc<CertifiedKey>>,
    acme: Option<FromAcme>,
}

struct FromAcme {
    resolver: Arc<dyn ResolvesServerCert>,
    domains: Vec<String>,
}

impl Certificates {
    /// Reads certificates and keys, which must belong together.
    pub(super) fn load(config: &config::Tls, provider: &CryptoProvider) -> Result<Self, TlsError> {
        if config.cert.len() != config.key.len() {
            return Err(TlsError::new(format!(
                "tls.cert names {} files and tls.key {}; each certificate needs its key",
                config.cert.len(),
                config.key.len()
            )));
        }
        let mut listed = Vec::new();
        for (cert, key) in config.cert.iter().zip(config.key.iter()) {
            let (Some(cert), Some(key)) = (cert.path(), key.path()) else { continue };
            let chain = files::certificates("tls.cert", cert)?;
            let secret = files::private_key("tls.key", key)?;
            let made = CertifiedKey::from_der(chain, secret, provider).map_err(|error| {
                let (cert, key) = (cert.display(), key.display());
                let why = match error {
                    rustls::Error::InconsistentKeys(_) => "they do not belong together".to_owned(),
                    error => error.to_string(),
                };
                TlsError::new(format!("tls.cert: {cert} with the key {key}: {why}"))
            })?;
            listed.push(Arc::new(made));
        }
        Ok(Self { listed, acme: None })
    }

    /// Together with what ACME obtains for its domains.
    pub(super) fn with_acme(
        mut self,
        acme: Option<(Arc<dyn ResolvesServerCert>, Vec<String>)>,
    ) -> Self {
        self.acme = acme.map(|(resolver, domains)| FromAcme { resolver, domains });
        self
    }

    /// The first one for this name whose key the client can check; else the first one whose key it can; else
    /// the first one, and the client says what it thinks of it.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = &self.listed[..] {
            return Some(Arc::clone(only));
        }
        let fits =
            |made: &&Arc<CertifiedKey>| made.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named =
            name.and_then(|name| self.listed.iter().filter(fits).find(|made| is_for(made, &name)));
        named.or_else(|| self.listed.iter().find(fits)).or(self.listed.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(acme) = &self.acme else { return self.choose(&hello) };
        let is_challenge = hello.alpn().is_some_and(|mut offered| offered.any(|p| p == CHALLENGE));
        let is_domain = hello.server_name().is_some_and(|name| {
            acme.domains.iter().any(|domain| domain.eq_ignore_ascii_case(name))
        });
        if is_challenge || is_domain || self.listed.is_empty() {
            return acme.resolver.resolve(hello);
        }
        self.choose(&hello)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("listed", &self.listed.len()).finish_non_exhaustive()
    }
}

fn is_for(made: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = made.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
}
