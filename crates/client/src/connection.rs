use std::net::SocketAddr;
use std::sync::Arc;

use http::Response;
use throng_wire::handshake::client::Agreed;
use throng_wire::{CloseCode, Deflate};

use crate::client::Client;
use crate::error::Error;
use crate::link::Link;
use crate::message::Message;
use crate::receiver::{Close, Receiver};
use crate::sender::Sender;
use crate::subprotocols::shown;
use crate::target::without_query;
use crate::transport::Transport;

/// An open WebSocket connection.
///
/// Dropping it (all halves of it) sends what was sent before and a Close frame with code 1001,
/// as far as the peer takes them within the [close timeout](Client::close_timeout). A task of
/// the runtime sees to it; where the runtime ends as well, so does the connection.
#[derive(Debug)]
pub struct WebSocket {
    sender: Sender,
    receiver: Receiver,
    handshake: Handshake,
}

/// How a connection came to be.
struct Handshake {
    url: String,
    response: Response<()>,
    agreed: Agreed,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
}

impl WebSocket {
    pub(crate) fn new(
        client: &Client,
        transport: Transport,
        url: String,
        response: Response<()>,
        agreed: Agreed,
        received: &[u8],
    ) -> Self {
        let peer = transport.tcp().peer_addr().ok();
        let local = transport.tcp().local_addr().ok();
        let link = Arc::new(Link::new(transport, client.send_buffer, client.close_timeout));
        let compression = agreed.deflate.zip(client.deflate.clone());
        Self {
            sender: Sender::new(Arc::clone(&link), compression),
            receiver: Receiver::new(link, agreed.deflate, client.limits.clone(), received),
            handshake: Handshake { url, response, agreed, peer, local },
        }
    }

    /// Sends a message, see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Sends a ping, see [`Sender::ping`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn ping(&self, payload: &[u8]) -> Result<(), Error> {
        self.sender.ping(payload).await
    }

    /// Waits for all to be written, see [`Sender::flush`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn flush(&self) -> Result<(), Error> {
        self.sender.flush().await
    }

    /// The next message, see [`Receiver::next`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        self.receiver.next().await
    }

    /// Closes the connection and waits for the end: what was sent goes out before, what is
    /// received meanwhile is discarded.
    ///
    /// # Errors
    ///
    /// [`ReasonTooLong`](Error::ReasonTooLong), without closing; otherwise what
    /// [`next`](Self::next) says. The connection is gone then in any case.
    pub async fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.sender.close(code, reason)?;
        while self.receiver.next().await?.is_some() {}
        Ok(())
    }

    /// Cuts the connection off at once, without a closing handshake.
    pub fn terminate(&self) {
        self.sender.terminate();
    }

    /// The bytes sent that still wait here, see [`Sender::buffered_amount`].
    pub fn buffered_amount(&self) -> usize {
        self.sender.buffered_amount()
    }

    /// What the peer said when it closed, once [`next`](Self::next) has returned `None`.
    pub fn closed(&self) -> Option<&Close> {
        self.receiver.closed()
    }

    /// The two halves, for tasks of their own.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The subprotocol that the server chose.
    pub fn subprotocol(&self) -> Option<&str> {
        self.handshake.agreed.subprotocol.as_deref()
    }

    /// The compression that was agreed on.
    pub fn deflate(&self) -> Option<Deflate> {
        self.handshake.agreed.deflate
    }

    /// The server's response with all its headers.
    pub fn response(&self) -> &Response<()> {
        &self.handshake.response
    }

    /// Where the connection leads, redirects followed, without user and password.
    pub fn url(&self) -> &str {
        &self.handshake.url
    }

    /// The address at the other end, the proxy's if there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.handshake.peer
    }

    /// The address at our end.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.handshake.local
    }
}

impl std::fmt::Debug for Handshake {
    /// Without what may be secret: the query, and what the server says of subprotocols or cookies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("url", &without_query(&self.url))
            .field("status", &self.response.status())
            .field("subprotocol", &self.agreed.subprotocol.as_deref().map(shown))
            .field("deflate", &self.agreed.deflate)
            .field("peer", &self.peer)
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
