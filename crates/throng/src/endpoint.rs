//! What is served at a path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::request::Parts;
use throng_engine::{Flush, Handler, Policy, Rate, SlowPolicy, Space};
use throng_wire::DeflateOptions;

use crate::axum::Response;
use crate::origin::Origins;

/// A WebSocket endpoint: what its connections are for, and how they are treated.
///
/// | kind | largest message | origins | flush |
/// |---|---|---|---|
/// | [`Endpoint::rooms`] | 64 KiB | same host | auto |
/// | [`Endpoint::relay`] | 1 MiB | any | every turn |
/// | [`Endpoint::echo`] | 16 MiB | any | every turn |
/// | [`Endpoint::handler`] | 1 MiB | same host | every turn |
///
/// Relay and echo hold nothing that a browser's cookies could give away, so pages from anywhere
/// may use them; the others take connections from pages of the same host only, unless told
/// otherwise. Clients that are not browsers send no `Origin` and are not concerned.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) kind: Kind,
    pub(crate) policy: Arc<Policy>,
    pub(crate) origins: Origins,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) anonymous: bool,
    /// The universe its rooms are in.
    pub(crate) space: Space,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Rooms(String),
    Relay(String),
    Echo,
    Handler(Arc<Decide>),
}

/// The rooms of the typed protocol are one universe, whatever path or listener leads there.
const ROOMS: Space = Space(0);

/// Looks at a request and gives the handler of the connection, or the answer that refuses it.
pub(crate) type Decide = dyn Fn(&Parts) -> Result<Box<dyn Handler>, Response> + Send + Sync;

impl Endpoint {
    /// The typed protocol. Plain clients are joined to `room`, or to the one named in the path:
    /// mounted at `/ws` it serves `/ws/{room}` too.
    pub fn rooms(room: impl Into<String>) -> Self {
        Self::new(Kind::Rooms(room.into()), 64 << 10).flush(Flush::Auto)
    }

    /// Passes every message on verbatim to all members of `room`, the sender included, or of
    /// the room named in the path.
    ///
    /// Every relay is a universe of its own: its rooms have nothing to do with those of the same
    /// name elsewhere. Clones of an endpoint are the same relay.
    pub fn relay(room: impl Into<String>) -> Self {
        Self::new(Kind::Relay(room.into()), 1 << 20).origins(Origins::Any)
    }

    /// Sends every message back to its sender.
    pub fn echo() -> Self {
        Self::new(Kind::Echo, 16 << 20).origins(Origins::Any)
    }

    /// A handler of your own for each connection; `make` is called in the handshake.
    ///
    /// ```
    /// use throng::{Endpoint, Message, Peer};
    /// let shout = Endpoint::handler(|_request| {
    ///     |peer: &mut Peer<'_>, message: Message<'_>| match message {
    ///         Message::Text(text) => peer.send(&text.to_uppercase()),
    ///         binary => peer.send(binary),
    ///     }
    /// });
    /// ```
    pub fn handler<H: Handler>(make: impl Fn(&Parts) -> H + Send + Sync + 'static) -> Self {
        Self::try_handler(move |request| Ok(make(request)))
    }

    /// Like [`Endpoint::handler`], but the request (path, query, headers, cookies) can be
    /// refused before the 101, with any answer.
    pub fn try_handler<H: Handler>(
        make: impl Fn(&Parts) -> Result<H, Response> + Send + Sync + 'static,
    ) -> Self {
        let decide = move |request: &Parts| {
            make(request).map(|handler| Box::new(handler) as Box<dyn Handler>)
        };
        Self::new(Kind::Handler(Arc::new(decide)), 1 << 20)
    }

    fn new(kind: Kind, max_message: usize) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(ROOMS.0 + 1);
        let space = match kind {
            Kind::Rooms(_) => ROOMS,
            _ => Space(NEXT.fetch_add(1, Ordering::Relaxed)),
        };
        Self {
            kind,
            policy: Arc::default(),
            origins: Origins::SameHost,
            subprotocols: Vec::new(),
            anonymous: true,
            space,
        }
        .max_message(max_message)
    }

    /// Largest message in bytes, after inflating; beyond it the connection fails with `1009`.
    pub fn max_message(mut self, bytes: usize) -> Self {
        let limits = &mut self.policy_mut().limits;
        limits.max_message = bytes;
        limits.max_frame = bytes;
        self
    }

    /// permessage-deflate, or `None` (the default) for none. Costs a worker about 260 KiB in
    /// all, and a connection nothing unless context takeover is switched on.
    pub fn deflate(mut self, options: Option<DeflateOptions>) -> Self {
        self.policy_mut().deflate = options;
        self
    }

    /// From which pages browsers may connect.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// How long a room's frames may be gathered before they are written.
    pub fn flush(mut self, flush: Flush) -> Self {
        self.policy_mut().flush = flush;
        self
    }

    /// Whether visitors without a ticket or token are let in. Default `true`: what they may do in rooms is for
    /// [`Access`](crate::Access) to say. Handlers decide by themselves.
    pub fn anonymous(mut self, admitted: bool) -> Self {
        self.anonymous = admitted;
        self
    }

    /// Bytes that may wait for a slow reader. Default 1 MiB.
    pub fn outbox(mut self, bytes: usize) -> Self {
        self.policy_mut().outbox = bytes;
        self
    }

    /// What happens when more would have to wait. Default: disconnect.
    pub fn slow(mut self, policy: SlowPolicy) -> Self {
        self.policy_mut().slow = policy;
        self
    }

    /// The subprotocols spoken here; the first that the client lists and we speak is agreed.
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// How often one connection may send; more is refused with `rate_limited`, and closed with `4429` when it
    /// goes on; other connections than those of rooms are read from more slowly. Default `None`: as often as
    /// it likes.
    pub fn rate(mut self, rate: Option<Rate>) -> Self {
        self.policy_mut().rate = rate;
        self
    }

    /// How many bytes one connection may send, decompressed. As [`Endpoint::rate`].
    pub fn bytes_rate(mut self, rate: Option<Rate>) -> Self {
        self.policy_mut().bytes_rate = rate;
        self
    }

    /// How often all connections of one signed-in user may send together, to rooms. As [`Endpoint::rate`].
    pub fn user_rate(mut self, rate: Option<Rate>) -> Self {
        self.policy_mut().user_rate = rate;
        self
    }

    /// Bytes that one connection may make us keep. Default `None`: as much as the other limits amount to.
    pub fn budget(mut self, bytes: Option<usize>) -> Self {
        self.policy_mut().budget = bytes.unwrap_or(0);
        self
    }

    /// How long a message may take from its first byte to its last; then `1008`. Default 30 s.
    pub fn partial_timeout(mut self, time: Duration) -> Self {
        self.policy_mut().partial_timeout = time;
        self
    }

    fn policy_mut(&mut self) -> &mut Policy {
        Arc::make_mut(&mut self.policy)
    }
}
