//! The front door: the accept loop, and HTTP until a connection becomes a WebSocket.
//!
//! hyper's own accept loops have no cap, no timeout that also covers a client that does not take its
//! answer, and no opinion on running out of files; so this one is ours. A connection costs one task.
//!
//! ```text
//! accept ─▶ seat ─▶ (PROXY header) ─▶ rate and seat of the address ─▶ (TLS) ─▶ HTTP ─▶ WebSocket
//! ```
//!
//! [`seat`] counts, [`guest`] speaks HTTP, [`redirect`] sends people to `https`, [`socket`] opens sockets.

mod guest;
mod redirect;
mod seat;
mod socket;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use http::HeaderValue;
use hyper::server::conn::http1;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use self::guest::Door;
pub(crate) use self::redirect::redirect;
pub(crate) use self::socket::{BindError, bind};

use self::guest::Guest;
use self::seat::{Handshake, Seat, Seats};
use crate::config::Limits;
use crate::proxy;
use crate::tls::Tls;

/// Everything that connections share before they are WebSockets: limits and counters.
pub(crate) struct Front {
    http: http1::Builder,
    timeout: Duration,
    max_open: usize,
    max_streams: usize,
    seats: Seats,
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
    /// Refused: connections of one address too fast one after the other.
    pub(crate) refused_rate: AtomicU64,
    /// Refused: too many TLS handshakes under way, in all or of one address.
    pub(crate) refused_handshakes: AtomicU64,
    /// Closed: no PROXY header where there must be one, or a wrong one, or not from a trusted proxy.
    pub(crate) refused_proxy: AtomicU64,
    /// Closed: no TLS, or none that we speak, or not with this certificate.
    pub(crate) refused_tls: AtomicU64,
    /// TLS handshakes that were completed.
    pub(crate) tls: AtomicU64,
    /// Cut: too slow with a request or in taking a response, or idle.
    pub(crate) timed_out: AtomicU64,
    /// Times that accepting failed, for want of file descriptors most likely.
    pub(crate) accept_failed: AtomicU64,
}

/// How those who come by a listener are received.
pub(crate) struct Entrance {
    /// Who answers.
    pub(crate) router: Router,
    /// With TLS, and nothing else.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Only trusted proxies come, and say first on whose behalf.
    pub(crate) proxy_protocol: bool,
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
            seats: Seats::new(limits),
            closing: watch::Sender::new(false),
            counts: Counts::default(),
        })
    }

    /// Whether an address may open one more connection; counted as refused if not.
    fn knock(&self, ip: IpAddr) -> bool {
        let may = self.seats.knock(ip);
        if !may {
            self.counts.refused_rate.fetch_add(1, Ordering::Relaxed);
        }
        may
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

    /// Accepts connections until the task is dropped. Out of file descriptors or memory, it waits and goes on.
    pub(crate) async fn accept(self: Arc<Self>, listener: TcpListener, entrance: Arc<Entrance>) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    pause = SHORTEST_PAUSE;
                    self.welcome(stream, peer, &entrance);
                }
                Err(error) if socket::concerns_one_connection(&error) => {}
                Err(error) => {
                    self.counts.accept_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, ?pause, "cannot accept connections, trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Receives a connection in a task of its own, or refuses it.
    fn welcome(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, entrance: &Arc<Entrance>) {
        let peer = canonical(peer);
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        // Behind a proxy everybody has its address; they are counted when theirs is known.
        let known = !entrance.proxy_protocol;
        if known && !self.knock(peer.ip()) {
            return entrance.refuse(stream);
        }
        let Some(mut seat) = Seat::take(self) else { return entrance.refuse(stream) };
        if known && !seat.count(peer.ip()) {
            return entrance.refuse(stream);
        }
        // On Linux and the BSDs, TCP_NODELAY is inherited from the listening socket.
        if cfg!(not(unix)) {
            let _ = stream.set_nodelay(true);
        }
        tokio::spawn(Arc::clone(entrance).receive(stream, peer, seat));
    }
}

impl Entrance {
    /// From the first byte to the last one before the connection ends or becomes a WebSocket. The time for a
    /// first request includes everything that comes before it.
    async fn receive(self: Arc<Self>, mut stream: TcpStream, mut peer: SocketAddr, mut seat: Seat) {
        let front = Arc::clone(seat.front());
        let counts = &front.counts;
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let deadline = Instant::now() + front.timeout;
        if self.proxy_protocol {
            if !front.seats.trusts(peer.ip()) {
                tracing::debug!(%peer, "PROXY headers are not believed from there");
                return count(&counts.refused_proxy);
            }
            match timeout_at(deadline, proxy::read_header(&mut stream)).await {
                Ok(Ok(client)) => peer = canonical(client.unwrap_or(peer)),
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "no PROXY header");
                    return count(&counts.refused_proxy);
                }
                Err(_) => return count(&counts.timed_out),
            }
            if !front.knock(peer.ip()) || !seat.count(peer.ip()) {
                return self.refuse(stream);
            }
        }
        let Some(tls) = &self.tls else {
            let mut first = [0; HTTP_2.len()];
            return match timeout_at(deadline, stream.peek(&mut first)).await {
                Ok(Ok(0) | Err(_)) => {}
                Ok(Ok(_)) if first == *HTTP_2 => self.refuse_http_2(stream).await,
                Ok(Ok(_)) => Guest::new(self, seat, peer).serve(stream, deadline).await,
                Err(_) => count(&counts.timed_out),
            };
        };
        // Before a byte of it is read: the cryptography is what a handshake costs.
        let Some(handshake) = Handshake::begin(&front, peer.ip()) else {
            return self.refuse(stream);
        };
        let mut stream = match timeout_at(deadline, tls.accept(stream)).await {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return, // an authority that wanted to see a certificate
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no TLS");
                return count(&counts.refused_tls);
            }
            Err(_) => return count(&counts.timed_out),
        };
        drop(handshake);
        count(&counts.tls);
        match timeout_at(deadline, stream.fill_buf()).await {
            Ok(Ok([]) | Err(_)) => {}
            Ok(Ok(first)) if first.starts_with(HTTP_2) => self.refuse_http_2(stream).await,
            Ok(Ok(_)) => Guest::new(self, seat, peer).serve(stream, deadline).await,
            Err(_) => count(&counts.timed_out),
        }
    }

    /// What every answer says beside what it says.
    fn hsts(&self) -> Option<HeaderValue> {
        self.tls.as_ref()?.hsts()
    }

    /// Answers 429 without reading more than is there, and closes.
    fn refuse(&self, stream: TcpStream) {
        let Ok(mut stream) = stream.into_std() else { return };
        // Unread bytes would turn the close into a reset, which may overtake the answer.
        let _ = stream.read(&mut [0; 2048]);
        if self.tls.is_none() {
            let _ = stream.write(TOO_MANY);
        }
    }

    /// hyper would hang up without a word.
    async fn refuse_http_2(&self, mut stream: impl tokio::io::AsyncWrite + Unpin) {
        let _ = tokio::time::timeout(LAST_WORD, async {
            stream.write_all(NO_HTTP_2).await?;
            stream.shutdown().await
        })
        .await;
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 22\r\nconnection: close\r\n\r\n\
    Too many connections.\n";

/// How HTTP/2 begins without having been agreed on (RFC 9113 §3.4), as far as it can be nothing else.
const HTTP_2: &[u8; 14] = b"PRI * HTTP/2.0";
const NO_HTTP_2: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 29\r\nconnection: close\r\n\r\n\
    This server speaks HTTP/1.1.\n";

/// hyper does not take a smaller one.
const SMALLEST_BUFFER: usize = 8192;
const HYPERS_HEADER_COUNT: usize = 100;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LAST_WORD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_their_length() {
        for text in [TOO_MANY, NO_HTTP_2] {
            let text = std::str::from_utf8(text).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{text}");
        }
    }
}
