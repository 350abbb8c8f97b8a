//! A connection while it speaks HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tower_service::Service as _;

use super::Entrance;
use super::seat::Seat;
use crate::client::client_address;
use crate::pages::plain;
use crate::turn::{Paced, Turn};

/// Who speaks HTTP with us.
pub(super) struct Guest {
    entrance: Arc<Entrance>,
    seat: Seat,
    peer: SocketAddr,
    turn: Arc<Turn>,
}

/// The connection that a request came through, in the extensions of the request.
#[derive(Clone)]
pub(crate) struct Door(Arc<Guest>);

impl Guest {
    pub(super) fn new(entrance: Arc<Entrance>, seat: Seat, peer: SocketAddr) -> Arc<Self> {
        Arc::new(Self { entrance, seat, peer, turn: Arc::default() })
    }

    /// Serves requests until the connection ends, becomes a WebSocket, or makes no progress for the
    /// length of the timeout; the first request until `deadline`.
    pub(super) async fn serve<S>(self: Arc<Self>, stream: S, deadline: Instant)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let guest = Arc::clone(&self);
        let service = service_fn(move |request| guest.clone().answer(request));
        let front = self.seat.front();
        let http = front.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(http.with_upgrades());
        let mut deadline = pin!(sleep_until(deadline));
        let mut seen = 0;
        loop {
            tokio::select! {
                biased;
                // An error is the peer's: it went away, or sent what is not HTTP.
                _ = connection.as_mut() => return,
                () = deadline.as_mut() => {
                    if self.turn.is_stuck(&mut seen) {
                        front.counts.timed_out.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    deadline.as_mut().reset(Instant::now() + front.timeout);
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
        if !has_one_length(request.headers()) {
            // RFC 9112 §6.1, §6.3: where one body ends and the next request begins must not depend on who reads.
            self.turn.theirs();
            let text = "A body is of one Content-Length, or chunked once, and not both.\n";
            let mut response = plain(StatusCode::BAD_REQUEST, text);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return Ok(response);
        }
        let wants_upgrade = request.headers().contains_key(UPGRADE);
        let client = self.client(request.headers());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(client));
        request.extensions_mut().insert(Door(Arc::clone(&self)));
        let Ok(mut response) = self.entrance.router.clone().call(request).await;
        if wants_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // A refused WebSocket client has no other use for the connection.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(hsts) = self.entrance.hsts() {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
        self.turn.theirs();
        let turn = Arc::clone(&self.turn);
        Ok(response.map(|body| Body::new(Paced::new(body, turn))))
    }

    /// Whose request it is. The port is only known of those who come without a proxy.
    fn client(&self, headers: &HeaderMap) -> SocketAddr {
        let ip = client_address(self.peer.ip(), headers, self.seat.front().seats.trusted());
        match ip == self.peer.ip() {
            true => self.peer,
            false => SocketAddr::new(ip, 0),
        }
    }
}

impl Door {
    /// From now on the connection counts as a stream of events and not as one of the few that HTTP may
    /// have; `false` when there are as many streams as there may be. It still counts for its address.
    pub(crate) fn become_stream(&self) -> bool {
        self.0.seat.become_stream()
    }
}

fn has_one_length(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return true };
    coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        && codings.next().is_none()
        && !headers.contains_key(CONTENT_LENGTH)
}

fn has_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    hosts.next().is_some() && hosts.next().is_none()
}
