//! What an embedder writes: a handler for each connection.

use std::sync::Arc;

use bytes::Bytes;
use throng_hub::{Room, RoomId, Space};
use throng_wire::frame::MAX_REASON;
use throng_wire::{CloseCode, Kind, OpCode, Prepared, ProtocolError, ReasonTooLong};

use crate::conn::Conn;
use crate::engine::Shared;
use crate::inbox::{Inbox, Post};
use crate::outbox::Backlog;
use crate::tick::Out;
use crate::wheel::ConnId;

/// The rooms that handlers join are a universe of their own.
pub(crate) const HANDLER_SPACE: Space = Space(u32::MAX);

/// One connection's behaviour. Each connection has its own value, so its state is simply in `self`.
///
/// The methods run on a worker thread, one at a time for a connection, in the order of what
/// arrived. They must not block: everything else on the worker waits. Long work belongs on
/// another thread or an async task, which answers through a [`Handle`]. A panic closes the
/// connection with `1011` and is counted; the others on the worker live on.
///
/// A closure `FnMut(&mut Peer, Message)` is a handler too.
pub trait Handler: Send + 'static {
    /// The handshake is complete. Nothing has been received yet.
    fn open(&mut self, peer: &mut Peer<'_>) {
        let _ = peer;
    }

    /// A whole message, unmasked, inflated, and checked to be UTF-8 when it is text.
    fn message(&mut self, peer: &mut Peer<'_>, message: Message<'_>);

    /// A ping came. Its pong has already been queued.
    fn ping(&mut self, peer: &mut Peer<'_>, payload: &[u8]) {
        let _ = (peer, payload);
    }

    /// A pong came, asked for or not.
    fn pong(&mut self, peer: &mut Peer<'_>, payload: &[u8]) {
        let _ = (peer, payload);
    }

    /// The peer broke the protocol or a limit; `close` follows.
    fn error(&mut self, peer: &mut Peer<'_>, error: &ProtocolError) {
        let _ = (peer, error);
    }

    /// The connection has ended; called exactly once after `open`. `code` is what the peer's
    /// close frame said, `1005` when it said nothing, `1006` when there was none (RFC 6455
    /// §7.1.5).
    fn close(&mut self, code: u16, reason: &str) {
        let _ = (code, reason);
    }
}

impl<F: FnMut(&mut Peer<'_>, Message<'_>) + Send + 'static> Handler for F {
    fn message(&mut self, peer: &mut Peer<'_>, message: Message<'_>) {
        self(peer, message);
    }
}

/// A data message, borrowed from the worker's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The payload, whatever its kind.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Whether it is text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) => Kind::Binary,
        }
    }

    pub(crate) fn opcode(&self) -> OpCode {
        match self {
            Self::Text(_) => OpCode::Text,
            Self::Binary(_) => OpCode::Binary,
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

pub(crate) fn check_reason(reason: &str) -> Result<(), ReasonTooLong> {
    if reason.len() > MAX_REASON { Err(ReasonTooLong { len: reason.len() }) } else { Ok(()) }
}

/// The connection a handler is being called for.
///
/// What is sent here is gathered and leaves in one write when the handler returns.
pub struct Peer<'a> {
    pub(crate) conn: &'a mut Conn,
    pub(crate) out: &'a mut Out,
    pub(crate) shared: &'a Shared,
    pub(crate) rooms: &'a mut Rooms,
}

impl Peer<'_> {
    /// Sends a message to this connection. Compressed when that was agreed and is worth it.
    /// Ignored once closing has begun.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        let message = message.into();
        self.conn.send(self.out, message.opcode(), message.as_bytes());
    }

    /// Sends a ping with at most 125 bytes; the rest is cut off.
    pub fn ping(&mut self, payload: &[u8]) {
        self.conn.send(self.out, OpCode::Ping, &payload[..payload.len().min(125)]);
    }

    /// Starts the closing handshake. What was sent before still arrives.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), ReasonTooLong> {
        check_reason(reason)?;
        self.conn.begin_close(self.out, code, reason);
        Ok(())
    }

    /// Drops the connection at once, without a closing handshake; unsent bytes are lost.
    pub fn terminate(&mut self) {
        self.conn.kill();
    }

    /// Bytes that wait for the peer to read.
    pub fn buffered_amount(&self) -> usize {
        self.conn.buffered() + self.out.cork.len()
    }

    /// Joins a room: from now on this connection receives what is broadcast there. Joining
    /// twice is joining once.
    pub fn join(&mut self, room: &str) {
        if self.rooms.joined.iter().any(|joined| joined.name() == room) {
            return;
        }
        let room = self.shared.enter(HANDLER_SPACE, room, self.out.worker, self.conn.id(), None);
        self.rooms.joined.extend(room);
    }

    /// Leaves a room.
    pub fn leave(&mut self, room: &str) {
        if let Some(at) = self.rooms.joined.iter().position(|joined| joined.name() == room) {
            let room = self.rooms.joined.swap_remove(at);
            self.shared.exit(&room, self.out.worker);
            self.rooms.left.push(room.id());
        }
    }

    /// Sends a message to every member of a room, this connection included if it is one.
    pub fn broadcast<'m>(&mut self, room: &str, message: impl Into<Message<'m>>) {
        let message = message.into();
        self.shared.broadcast(HANDLER_SPACE, room, message.opcode(), message.as_bytes());
    }

    /// A handle to this connection for other threads and tasks.
    pub fn handle(&mut self) -> Handle {
        Handle {
            inbox: Arc::clone(self.shared.inbox(self.out.worker)),
            id: self.conn.id(),
            backlog: self.conn.backlog(),
        }
    }
}

/// The rooms of a handled connection.
#[derive(Default)]
pub(crate) struct Rooms {
    pub(crate) joined: Vec<Arc<Room>>,
    /// Left during the current call; the worker stops delivering when it returns.
    pub(crate) left: Vec<RoomId>,
}

/// A connection, from anywhere: cheap to clone, `Send` and `Sync`.
///
/// Everything done through it is done in order. After the connection has ended it does nothing.
#[derive(Clone)]
pub struct Handle {
    inbox: Arc<Inbox>,
    id: ConnId,
    backlog: Arc<Backlog>,
}

impl Handle {
    /// Sends a message; it leaves at the end of the worker's current turn. A peer whose outbox
    /// is full is closed with `4508`, or the message dropped, as the endpoint's policy says.
    pub fn send<'m>(&self, message: impl Into<Message<'m>>) {
        let message = message.into();
        let prepared = Prepared::new(message.opcode(), message.as_bytes());
        self.push_frame(prepared.frame().clone());
    }

    /// Sends a ping with at most 125 bytes; the rest is cut off.
    pub fn ping(&self, payload: &[u8]) {
        let payload = &payload[..payload.len().min(125)];
        self.push_frame(Prepared::new(OpCode::Ping, payload).frame().clone());
    }

    /// Starts the closing handshake.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), ReasonTooLong> {
        check_reason(reason)?;
        self.inbox.push(Post::Close(self.id, code, reason.into()));
        Ok(())
    }

    /// Drops the connection without a closing handshake.
    pub fn terminate(&self) {
        self.inbox.push(Post::Terminate(self.id));
    }

    /// Bytes sent through handles or by the worker that the peer's socket has not taken yet; 0
    /// after the connection has ended.
    pub fn buffered_amount(&self) -> usize {
        self.backlog.bytes()
    }

    fn push_frame(&self, frame: Bytes) {
        self.backlog.post(frame.len());
        self.inbox.push(Post::Send(self.id, frame));
    }
}
