use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use throng_wire::handshake::client::{HandshakeError, InvalidRequest};
use throng_wire::{ProtocolError, ReasonTooLong};

/// Everything that can go wrong; [`fault`](Self::fault) says whose doing it was.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The caller.
    /// The URL is no absolute `ws://` or `wss://` URL without fragment (RFC 6455 §3).
    #[error("not a usable WebSocket URL: {0}")]
    Url(&'static str),
    /// The proxy's URL is no `http://host:port`.
    #[error("the proxy URL is not usable: {0}")]
    ProxyUrl(&'static str),
    /// A header, the origin or a subprotocol cannot be sent.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// A header's name or value has characters that it must not have.
    #[error("a header cannot be sent: {0}")]
    Header(String),
    /// The certificates or keys given for TLS cannot be used.
    #[error("the TLS settings are not usable: {0}")]
    TlsSettings(String),
    /// `wss://` in a build without the feature `tls`.
    #[error("this build has no TLS")]
    NoTls,
    /// A close reason of more than 123 bytes.
    #[error(transparent)]
    ReasonTooLong(#[from] ReasonTooLong),
    /// The payload of a ping or pong of more than 125 bytes.
    #[error("a payload of {0} bytes is longer than the 125 that fit into a ping or pong")]
    ControlTooLong(usize),
    /// Something to send after the connection was closed, by whichever side.
    #[error("the connection is closed")]
    Closed,

    // The way.
    /// The name of the host has no address, or nobody listens there, or the connection broke.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The connection ended without a closing handshake (code 1006 elsewhere).
    #[error("the connection was lost without a closing handshake")]
    Lost,
    /// No open connection within the handshake timeout, redirects and all.
    #[error("the opening handshake timed out")]
    HandshakeTimeout,
    /// We closed, and the peer did not answer in time.
    #[error("the closing handshake timed out")]
    CloseTimeout,
    /// The operating system has no random bytes for us.
    #[error("no randomness: {0}")]
    Entropy(#[source] io::Error),
    /// The proxy refused; mostly 407, or 502 where it cannot reach the host.
    #[error("the proxy answered {0}")]
    ProxyRefused(StatusCode),
    /// The proxy does not speak HTTP.
    #[error("the proxy answered something that is not HTTP: {0}")]
    ProxyResponse(&'static str),

    // The server.
    /// Another answer than `101`: here it is, with up to 16 KiB of its body.
    #[error("the server refused the connection with {}", .0.status())]
    Refused(Box<Response<Bytes>>),
    /// More redirects than allowed. With none allowed, a redirect is [`Refused`](Self::Refused).
    #[error("more than {0} redirects")]
    TooManyRedirects(u32),
    /// A redirect without a usable `Location`, or from `wss://` to `ws://`.
    #[error("a redirect that must not be followed: {0}")]
    Redirect(&'static str),
    /// The answer is not HTTP, or its head is longer than 16 KiB.
    #[error("the server's answer is not usable: {0}")]
    Response(&'static str),
    /// A `101` that does not complete the handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// No agreement about TLS; mostly a certificate that we do not trust.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// The peer broke the protocol or went over our limits. It has been told.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Whose doing an [`Error`] is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The program's that calls: trying again will not help.
    Caller,
    /// The network's, the proxy's or the machine's: trying again may help.
    Way,
    /// The server's: trying again may help if the status or the time is another.
    Server,
}

impl Error {
    /// Whose doing it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Url(_)
            | Self::ProxyUrl(_)
            | Self::Request(_)
            | Self::Header(_)
            | Self::TlsSettings(_)
            | Self::NoTls
            | Self::ReasonTooLong(_)
            | Self::ControlTooLong(_)
            | Self::Closed => Fault::Caller,
            Self::Io(_)
            | Self::Lost
            | Self::HandshakeTimeout
            | Self::CloseTimeout
            | Self::Entropy(_)
            | Self::ProxyRefused(_)
            | Self::ProxyResponse(_) => Fault::Way,
            Self::Refused(_)
            | Self::TooManyRedirects(_)
            | Self::Redirect(_)
            | Self::Response(_)
            | Self::Handshake(_)
            | Self::Tls(_)
            | Self::Protocol(_) => Fault::Server,
        }
    }

    /// The status of the server's answer, if it was an answer other than `101`.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(response) => Some(response.status()),
            _ => None,
        }
    }

    /// An IO error that both halves of a connection may come to see.
    pub(crate) fn shared_io(error: &Arc<io::Error>) -> Self {
        Self::Io(io::Error::new(error.kind(), Arc::clone(error)))
    }
}
