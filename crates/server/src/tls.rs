//! TLS of the listeners that have it: one configuration, made anew when its files change.

mod certificates;
mod files;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderValue;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoClientAuth, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::certificates::Certificates;
use self::files::Files;
use crate::acme::{Acme, CHALLENGE};
use crate::config::{self, ClientAuth, Storage, TlsVersion};

/// The TLS side of listeners.
pub(crate) struct Tls {
    config: config::Tls,
    acme: Option<Acme>,
    current: RwLock<Arc<ServerConfig>>,
    /// The files as they were when they were last looked at.
    files: Mutex<Files>,
    /// Opens the tickets with which clients resume sessions; stateless, so that they outlive a change of files.
    tickets: Arc<dyn ProducesTickets>,
    hsts: Option<HeaderValue>,
}

/// Why TLS cannot be had, in one sentence.
#[derive(Debug)]
pub(crate) struct TlsError(String);

impl Tls {
    /// Reads the files. Without certificates of ACME, there must be others.
    pub(crate) fn new(config: &config::Tls, data: &Storage) -> Result<Arc<Self>, TlsError> {
        let acme = match config.acme_domains.is_empty() {
            true => None,
            false => Some(Acme::new(config, data)?),
        };
        if acme.is_none() && config.cert.is_empty() {
            return Err(TlsError(
                "a listener has TLS, but there is no certificate: set tls.cert and tls.key (`throng cert \
                 --self-signed` makes them for development), or tls.acme_domains"
                    .into(),
            ));
        }
        let tickets = new_tickets()?;
        let files = Files::look(config);
        let current = make(config, acme.as_ref(), Arc::clone(&tickets))?;
        let seconds = config.hsts.as_secs();
        let hsts = (seconds > 0).then(|| HeaderValue::try_from(format!("max-age={seconds}")).ok());
        Ok(Arc::new(Self {
            config: config.clone(),
            acme,
            current: RwLock::new(Arc::new(current)),
            files: Mutex::new(files),
            tickets,
            hsts: hsts.flatten(),
        }))
    }

    /// What answers say, so that browsers come by TLS from now on.
    pub(crate) fn hsts(&self) -> Option<HeaderValue> {
        self.hsts.clone()
    }

    /// The handshake. `None` after one that an ACME authority made to see our challenge.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<Option<TlsStream<TcpStream>>> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let bounded = |state: &mut ServerConnection| state.set_buffer_limit(Some(MOST_CIPHERTEXT));
        let stream = TlsAcceptor::from(config).accept_with(stream, bounded).await?;
        let is_challenge = stream.get_ref().1.alpn_protocol() == Some(CHALLENGE);
        Ok((!is_challenge).then_some(stream))
    }

    /// Keeps certificates up to date until the task is dropped: by files that change, on SIGHUP, by ACME.
    pub(crate) async fn keep(self: Arc<Self>) {
        let renew = async {
            match &self.acme {
                Some(acme) => acme.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(renew, self.watch());
    }

    async fn watch(&self) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let is_asked = tokio::select! {
                _ = asked => true,
                _ = ticks.tick() => false,
            };
            self.refresh(is_asked);
        }
    }

    /// Reads the files again if they have changed, or `always`. When they cannot be used, everything stays as
    /// it is.
    pub(crate) fn refresh(&self, always: bool) {
        let now = Files::look(&self.config);
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now && !always {
            return;
        }
        *known = now;
        // A ticket stands for a client certificate that the authorities of then vouched for.
        let tickets = match self.config.client_auth {
            ClientAuth::Off => Ok(Arc::clone(&self.tickets)),
            ClientAuth::Optional | ClientAuth::Required => new_tickets(),
        };
        match tickets.and_then(|tickets| make(&self.config, self.acme.as_ref(), tickets)) {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                tracing::info!("new certificates are in use");
            }
            Err(error) => {
                tracing::error!(%error, "the changed certificates cannot be used, the old ones stay in use");
            }
        }
    }
}

/// The configuration of rustls that follows from ours and the files as they are now.
fn make(
    config: &config::Tls,
    acme: Option<&Acme>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = Certificates::load(config, &provider)?;
    let versions: &[_] = match config.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| TlsError(format!("tls.min_version: {error}")))?;
    let verifier = match config.client_auth {
        ClientAuth::Off => Arc::new(NoClientAuth),
        ClientAuth::Optional => clients(config, provider, false)?,
        ClientAuth::Required => clients(config, provider, true)?,
    };
    let resolver = certificates.with_acme(acme.map(|acme| (acme.resolver(), acme.domains())));
    let mut made =
        builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(resolver));
    // HTTP/2 is not offered: a WebSocket would be one of its streams.
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    made.alpn_protocols.extend(acme.map(|_| CHALLENGE.to_vec()));
    made.ticketer = tickets;
    Ok(made)
}

fn clients(
    config: &config::Tls,
    provider: Arc<CryptoProvider>,
    required: bool,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let Some(path) = config.client_ca.path() else {
        return Err(TlsError(
            "tls.client_auth needs tls.client_ca: who vouches for clients".into(),
        ));
    };
    let roots = authorities("tls.client_ca", path)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsError(format!("tls.client_ca: {}: {error}", path.display())))
}

/// The authorities in a file.
pub(crate) fn authorities(key: &str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in files::certificates(key, path)? {
        let added = roots.add(authority);
        added.map_err(|error| TlsError(format!("{key}: {}: {error}", path.display())))?;
    }
    Ok(roots)
}

fn new_tickets() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    aws_lc_rs::Ticketer::new().map_err(|error| TlsError(format!("cannot draw keys: {error}")))
}

impl TlsError {
    pub(crate) fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// Files are looked at this often.
const LOOK: Duration = Duration::from_secs(2);
/// What a client has not taken is bounded, as long as it speaks HTTP.
const MOST_CIPHERTEXT: usize = 64 << 10;
