//! The front door: sockets, the accept loop, and HTTP until a connection becomes a WebSocket.
//!
//! hyper's own accept loops have no cap, no timeout that also covers a client that does not take its
//! answer, and no opinion on running out of files; so this one is ours. A connection costs one task.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, UPGRADE};
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower_service::Service as _;

use crate::config::{Address, Limits};
use crate::pages::plain;
use crate::turn::{Paced, Turn};

/// Everything that connections share before they are WebSockets: limits and counters.
pub(crate) struct Front {
    http: http1::Builder,
    timeout: Duration,
    max_open: usize,
    max_streams: usize,
    /// 0: no limit.
    max_per_ip: usize,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
    closing: watch::Sender<bool>,
    pub(crate) counts: Counts,
}

/// What the front has counted.
#[derive(Default)]
pub(crate) struct Counts {
    /// Open now and neither WebSockets nor streams of events.
    pub(crate) open: AtomicUsize,
    /// Open now and streams of events.
    pub(crate) streams: AtomicUsize,
    /// Since the start, as the following.
    pub(crate) accepted: AtomicU64,
    /// Refused: too many connections in all.
    pub(crate) refused_full: AtomicU64,
    /// Refused: too many from one address.
    pub(crate) refused_per_ip: AtomicU64,
    /// Cut: too slow with a request or in taking a response, or idle.
    pub(crate) timed_out: AtomicU64,
    /// Times that accepting failed, for want of file descriptors most likely.
    pub(crate) accept_failed: AtomicU64,
}

/// A connection while it speaks HTTP.
struct Guest {
    front: Arc<Front>,
    router: Router,
    peer: SocketAddr,
    turn: Arc<Turn>,
    is_stream: AtomicBool,
}

/// The connection that a request came through, in the extensions of the request.
#[derive(Clone)]
pub(crate) struct Door(Arc<Guest>);

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(crate) struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl Front {
    /// Limits as configured.
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let mut http = http1::Builder::new();
        http.max_header_size(limits.header_size.0);
        http.max_buf_size(limits.header_size.0.max(SMALLEST_BUFFER));
        if limits.header_count != HYPERS_HEADER_COUNT {
            // hyper keeps 100 headers on the stack; any other number is an allocation per request.
            http.max_headers(limits.header_count);
        }
        Arc::new(Self {
            http,
            timeout: limits.handshake_timeout,
            max_open: limits.max_http_connections.value,
            max_streams: limits.max_connections.value,
            max_per_ip: limits.max_connections_per_ip,
            per_ip: Mutex::default(),
            closing: watch::Sender::new(false),
            counts: Counts::default(),
        })
    }

    /// Ends all streams of events, at once and for ever.
    pub(crate) fn close_streams(&self) {
        self.closing.send_replace(true);
    }

    /// Resolves when streams of events have to end.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            // An error: the front is gone, which is an end, too.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }

    /// Accepts connections and serves them with `router`, until the task is dropped. Out of file
    /// descriptors or memory, it waits and goes on.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener, router: Router) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    pause = SHORTEST_PAUSE;
                    self.clone().welcome(stream, peer, &router);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.counts.accept_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, ?pause, "cannot accept connections, trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Serves a connection in a task of its own, or refuses it.
    fn welcome(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, router: &Router) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        if !self.enter(peer.ip()) {
            return refuse(stream);
        }
        let guest = Arc::new(Guest {
            front: self,
            router: router.clone(),
            peer,
            turn: Arc::default(),
            is_stream: AtomicBool::new(false),
        });
        // On Linux and the BSDs, TCP_NODELAY is inherited from the listening socket.
        if cfg!(not(unix)) {
            let _ = stream.set_nodelay(true);
        }
        tokio::spawn(guest.serve(stream));
    }

    fn enter(&self, ip: IpAddr) -> bool {
        if self.counts.open.fetch_add(1, Ordering::Relaxed) >= self.max_open {
            self.counts.open.fetch_sub(1, Ordering::Relaxed);
            self.counts.refused_full.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if self.max_per_ip == 0 {
            return true;
        }
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let open = per_ip.entry(ip).or_default();
        if *open >= self.max_per_ip {
            drop(per_ip);
            self.counts.open.fetch_sub(1, Ordering::Relaxed);
            self.counts.refused_per_ip.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        *open += 1;
        true
    }

    /// Gives back what was taken from an address.
    fn leave(&self, ip: IpAddr) {
        if self.max_per_ip == 0 {
            return;
        }
        let mut per_ip = self.per_ip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = per_ip.get_mut(&ip) {
            *open -= 1;
            if *open == 0 {
                per_ip.remove(&ip);
            }
        }
    }
}

impl Guest {
    /// Serves requests until the connection ends, becomes a WebSocket, or makes no progress for the
    /// length of the timeout.
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let guest = Arc::clone(&self);
        let service = service_fn(move |request| guest.clone().answer(request));
        let http = self.front.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(http.with_upgrades());
        let mut deadline = pin!(sleep(self.front.timeout));
        let mut seen = 0;
        loop {
            tokio::select! {
                biased;
                // An error is the peer's: it went away, or sent what is not HTTP.
                _ = connection.as_mut() => return,
                () = deadline.as_mut() => {
                    if self.turn.is_stuck(&mut seen) {
                        self.front.counts.timed_out.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    deadline.as_mut().reset(Instant::now() + self.front.timeout);
                }
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<axum::response::Response, Infallible> {
        self.turn.ours();
        if request.version() == Version::HTTP_11 && !has_one_host(request.headers()) {
            // RFC 9112 §3.2: whoever does not say which host is meant may be playing two servers
            // against each other.
            self.turn.theirs();
            return Ok(plain(
                StatusCode::BAD_REQUEST,
                "A request needs exactly one Host header.\n",
            ));
        }
        let wants_upgrade = request.headers().contains_key(UPGRADE);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request.extensions_mut().insert(Door(Arc::clone(&self)));
        let Ok(mut response) = self.router.clone().call(request).await;
        if wants_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // A refused WebSocket client has no other use for the connection.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.turn.theirs();
        let turn = Arc::clone(&self.turn);
        Ok(response.map(|body| Body::new(Paced::new(body, turn))))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let counts = &self.front.counts;
        let counter = if *self.is_stream.get_mut() { &counts.streams } else { &counts.open };
        counter.fetch_sub(1, Ordering::Relaxed);
        self.front.leave(self.peer.ip());
    }
}

impl Door {
    /// From now on the connection counts as a stream of events and not as one of the few that HTTP may
    /// have; `false` when there are as many streams as there may be. It still counts for its address.
    pub(crate) fn become_stream(&self) -> bool {
        let Self(guest) = self;
        let (front, counts) = (&guest.front, &guest.front.counts);
        if guest.is_stream.load(Ordering::Relaxed) {
            return true;
        }
        if counts.streams.fetch_add(1, Ordering::Relaxed) >= front.max_streams {
            counts.streams.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        guest.is_stream.store(true, Ordering::Relaxed);
        counts.open.fetch_sub(1, Ordering::Relaxed);
        true
    }
}

fn has_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    hosts.next().is_some() && hosts.next().is_none()
}

/// Opens the sockets of an address: two for `localhost` and `*`, where the machine has both families.
pub(crate) fn bind(
    address: Address,
    backlog: usize,
) -> Result<Vec<std::net::TcpListener>, BindError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut bound: Vec<std::net::TcpListener> = Vec::new();
        let mut port = address.port();
        let mut missing = None;
        let mut taken = None;
        for wanted in address.sockets(0) {
            let wanted = SocketAddr::new(wanted.ip(), port);
            let opened =
                open(wanted, backlog).and_then(|socket| Ok((socket.local_addr()?, socket)));
            match opened {
                Ok((actual, socket)) => {
                    port = actual.port();
                    bound.push(socket);
                }
                Err(error) if is_missing_family(&error) => {
                    missing = Some(BindError { address: wanted, error });
                }
                Err(error) => {
                    taken = Some(BindError { address: wanted, error });
                    break;
                }
            }
        }
        match taken {
            // The free port of the first family was not free in the second.
            Some(_) if address.port() == 0 && !bound.is_empty() && attempts < 16 => {}
            Some(error) => return Err(error),
            None => match missing {
                Some(error) if bound.is_empty() => return Err(error),
                _ => return Ok(bound),
            },
        }
    }
}

fn open(address: SocketAddr, backlog: usize) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `*` and `localhost` have a socket for each family; an explicit address is just that.
        socket.set_only_v6(true)?;
    }
    if cfg!(unix) {
        // A restart need not wait for old connections to be forgotten. (On Windows it would mean that
        // two servers can have the same port.)
        socket.set_reuse_address(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Answers 429 without reading more than is there, and closes.
fn refuse(stream: TcpStream) {
    let Ok(mut stream) = stream.into_std() else { return };
    // Unread bytes would turn the close into a reset, which may overtake the answer.
    let _ = stream.read(&mut [0; 2048]);
    let _ = stream.write(TOO_MANY);
}

/// Whether accepting failed because of that one connection (it was reset while it waited).
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Whether the machine has no such address family (a container without IPv6).
fn is_missing_family(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    matches!(error.kind(), AddrNotAvailable | Unsupported)
        || error.raw_os_error() == Some(no_family)
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: the port is in use; stop the other server, or choose \
                 another port, such as --listen {}",
                address.port().saturating_add(1)
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: permission denied (ports below 1024 are privileged); \
                 choose another port, such as --listen 3000"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "cannot listen on {address}: this machine does not have that address")
            }
            _ => write!(f, "cannot listen on {address}: {}", crate::reason(error)),
        }
    }
}

const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 22\r\nconnection: close\r\n\r\n\
    Too many connections.\n";

/// hyper does not take a smaller one.
const SMALLEST_BUFFER: usize = 8192;
const HYPERS_HEADER_COUNT: usize = 100;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_one_port_in_both_families() {
        let sockets = bind(Address::Loopback(0), 16).unwrap();
        let addresses: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
    }

    #[test]
    fn a_busy_port_is_told_in_one_sentence() {
        let first = bind(Address::Exact("127.0.0.1:0".parse().unwrap()), 16).unwrap();
        let address = first[0].local_addr().unwrap();
        let sentence = bind(Address::Exact(address), 16).unwrap_err().to_string();
        assert!(
            sentence.starts_with(&format!("cannot listen on {address}: the port is in use; ")),
            "{sentence}"
        );
        assert!(bind(Address::Loopback(address.port()), 16).is_err(), "one family is enough");
    }

    #[test]
    fn an_address_of_another_machine_is_told_as_such() {
        // 192.0.2.0/24 is reserved for documentation.
        let sentence = bind(Address::Exact("192.0.2.1:0".parse().unwrap()), 16).unwrap_err();
        assert!(sentence.to_string().ends_with("this machine does not have that address"));
    }

    #[test]
    fn the_refusal_says_its_length() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{text}");
    }
}
