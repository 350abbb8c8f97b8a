//! One HTTP request of the server's own, to where it may go.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::reach::Reach;
use crate::config::Hosts;

/// Asks services. Cheap to clone.
///
/// A name is looked up once, the addresses are judged by [`Reach`], and the connection goes to one of those
/// that may be gone to: there is no second look-up that could say something else. Redirects are answers
/// like any other, proxies from the environment are not used, bodies are not unpacked.
#[derive(Clone)]
pub(super) struct Fetch(Arc<Inner>);

struct Inner {
    reach: Reach,
    /// Made when it is first needed: reading the system's certificates takes a while.
    tls: OnceLock<TlsConnector>,
    /// Look-ups that may run at a time. They cannot be cut off, so they hold their place to their end.
    lookups: Arc<Semaphore>,
}

/// What is asked.
pub(super) struct Question<'q> {
    url: &'q Uri,
    method: Method,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// Of the body of the answer, in bytes.
    limit: usize,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Neither `http://` nor `https://` with a host.
    #[error("the URL cannot be used")]
    Url,
    #[error("{0} is not found")]
    Lookup(String),
    /// All addresses of the host are ones that may not be gone to.
    #[error("{0} is at an address that is not public; webhook.allow says which others may be used")]
    Forbidden(String),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS fails: {0}")]
    Tls(io::Error),
    #[error("the answer breaks off: {0}")]
    Http(hyper::Error),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("there is no answer in time")]
    Timeout,
}

impl FetchError {
    /// Whether the next attempt may do better.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Lookup(_) | Self::Connect(_) | Self::Tls(_) | Self::Http(_))
    }
}

impl Question<'_> {
    /// `GET`.
    pub(super) fn get(url: &Uri, limit: usize) -> Question<'_> {
        let (headers, body) = Default::default();
        Question { url, method: Method::GET, headers, body, limit }
    }

    /// `POST` of JSON.
    pub(super) fn post(url: &Uri, body: Bytes, limit: usize) -> Question<'_> {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Question { url, method: Method::POST, headers, body, limit }
    }

    /// With this header, too.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, FetchError> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority().ok_or(FetchError::Url)?;
        let mut request = Request::builder()
            .method(&self.method)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("throng/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body.clone())).map_err(|_| FetchError::Url)
    }
}

impl Fetch {
    /// Goes to public addresses, and to those in `allow`. Trusts the certificate authorities of the
    /// operating system; where it has none, Mozilla's.
    pub(super) fn new(allow: Hosts) -> Self {
        let lookups = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Self(Arc::new(Inner { reach: Reach::new(allow), tls: OnceLock::new(), lookups }))
    }

    /// The same, but with these certificate authorities.
    #[cfg(test)]
    pub(super) fn trusting(allow: Hosts, roots: RootCertStore) -> Self {
        let fetch = Self::new(allow);
        let _ = fetch.0.tls.set(connector(roots));
        fetch
    }

    /// Asks, and waits for the whole answer until `deadline`.
    pub(super) async fn ask(
        &self,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Answer, FetchError> {
        let answer = self.exchange(question, deadline);
        timeout_at(deadline, answer).await.unwrap_or(Err(FetchError::Timeout))
    }

    async fn exchange(
        &self,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Answer, FetchError> {
        let tls = match question.url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(FetchError::Url),
        };
        let host = question.url.host().ok_or(FetchError::Url)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = question.url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let request = question.request()?;
        let addresses = self.addresses(host, port).await?;
        let stream = connect(&addresses, deadline).await.map_err(FetchError::Connect)?;
        let _ = stream.set_nodelay(true);
        if !tls {
            return talk(stream, request, question.limit).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Url)?;
        let connector = self.0.tls.get_or_init(|| connector(roots()));
        let stream = connector.connect(name, stream).await.map_err(FetchError::Tls)?;
        talk(stream, request, question.limit).await
    }

    /// The addresses of a host that may be gone to; at least one, at most four.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.look_up(host, port).await?,
        };
        if found.is_empty() {
            return Err(FetchError::Lookup(host.to_owned()));
        }
        let allowed = found.into_iter().filter(|to| self.0.reach.allows(host, to.ip()));
        let allowed: Vec<_> = allowed.take(MAX_ADDRESSES).collect();
        match allowed.is_empty() {
            true => Err(FetchError::Forbidden(host.to_owned())),
            false => Ok(allowed),
        }
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
        let lost = || FetchError::Lookup(host.to_owned());
        let place = Arc::clone(&self.0.lookups).acquire_owned().await.map_err(|_| lost())?;
        let name = host.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            drop(place);
            found
        });
        found.await.map_err(|_| lost())?.map_err(|_| lost())
    }
}

/// Connects to the first address that answers. One that is silent does not use up the time of the others.
async fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = u32::try_from(addresses.len() - at).unwrap_or(1);
        let patience = (left / share).max(Duration::from_millis(1));
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// Sends the request, and reads the answer to its end.
async fn talk<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Http)?;
    let answer = std::pin::pin!(async {
        let answer = sender.send_request(request).await.map_err(FetchError::Http)?;
        let status = answer.status();
        if answer.body().size_hint().lower() > limit as u64 {
            return Err(FetchError::TooLarge(limit));
        }
        match Limited::new(answer.into_body(), limit).collect().await {
            Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(error) => FetchError::Http(*error),
                Err(_) => FetchError::TooLarge(limit),
            }),
        }
    });
    // The connection is done when its last byte is read; the answer may still have to pick it up.
    match select(answer, std::pin::pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Systems have odd certificates among their own; what can be read counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn connector(roots: RootCertStore) -> TlsConnector {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("invariant: the provider has the suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

impl fmt::Debug for Question<'_> {
    /// Without what is asked: it has tokens in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// How many addresses of a host are tried.
const MAX_ADDRESSES: usize = 4;

/// A thread each.
const MAX_LOOKUPS: usize = 16;

/// Of an answer.
const MAX_HEADERS: usize = 100;

/// Of an answer, in bytes; what one read brings may come on top.
const MAX_HEAD: usize = 32 * 1024;
