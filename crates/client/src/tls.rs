//! TLS by rustls.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::error::Error;

/// Whom to trust, and who we are.
#[derive(Clone, Default)]
pub(crate) struct TlsSettings {
    pub(crate) roots: Roots,
    /// Certificate chain and private key, both PEM.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for TlsSettings {
    /// Without the private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let identity = self.identity.is_some();
        f.debug_struct("TlsSettings").field("identity", &identity).finish_non_exhaustive()
    }
}

/// The certificate authorities that are trusted.
#[derive(Clone, Default)]
pub(crate) enum Roots {
    /// Mozilla's, compiled in.
    #[default]
    Mozilla,
    /// The operating system's.
    Native,
    /// These alone.
    Pem(Vec<u8>),
}

impl TlsSettings {
    /// What speaks TLS by these settings.
    ///
    /// Cost: reads the system's certificates if they are the ones.
    pub(crate) fn connector(&self) -> Result<TlsConnector, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(self.root_store()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(chain)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(unusable)?;
                builder.with_client_auth_cert(chain, key).map_err(unusable)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn root_store(&self) -> Result<RootCertStore, Error> {
        let mut store = RootCertStore::empty();
        match &self.roots {
            Roots::Mozilla => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::Native => {
                // Systems have odd certificates among their own; what can be read counts.
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
            }
            Roots::Pem(pem) => {
                for certificate in certificates(pem)? {
                    store.add(certificate).map_err(unusable)?;
                }
            }
        }
        if store.is_empty() {
            return Err(Error::TlsSettings("there are no root certificates".to_owned()));
        }
        Ok(store)
    }
}

/// Makes a TLS stream to `host`, a name or an address.
pub(crate) async fn handshake(
    connector: &TlsConnector,
    host: String,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Error> {
    let name = ServerName::try_from(host)
        .map_err(|_| Error::Tls(io::Error::other("the host is no name for a certificate")))?;
    connector.connect(name, stream).await.map_err(|error| {
        let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        if tls { Error::Tls(error) } else { Error::Io(error) }
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match all.map_err(unusable)? {
        none if none.is_empty() => {
            Err(Error::TlsSettings("there is no certificate in the PEM".to_owned()))
        }
        some => Ok(some),
    }
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::TlsSettings(error.to_string())
}
