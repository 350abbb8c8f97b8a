//! Sockets: workers, connections, outboxes, fan-out.
//!
//! A worker is one thread with one `epoll` loop. It owns its connections outright: no locks, no
//! tasks, no channel per connection. It lends them its one read buffer, its one inflate context
//! and its one output buffer while it handles them, so an idle connection is some 200 bytes.
//!
//! - [`Engine`] starts the workers and hands sockets to them, after a handshake that happened
//!   elsewhere ([`Handover`]).
//! - [`Opening`] says what a connection is for: echo, relay, typed rooms, or a [`Handler`].
//! - [`Front`] is rooms for whoever is not a connection of a worker: event streams, an HTTP API.
//! - [`Policy`] says how the connections of an endpoint are treated: limits, compression,
//!   outbox, how long frames may be gathered.
//! - [`Admission`] counts handshakes and connections, in all, by address and by user.
//! - [`Stats`] is what has been counted.
//!
//! One message: a worker reads into its buffer; the connection's decoder yields a borrowed
//! message; its session answers into the worker's cork, or takes the room's order lock, encodes
//! the message once and posts it to every worker that has members; at the end of the turn each
//! worker writes the frames of a room to its members from one shared buffer.
//!
//! ```no_run
//! use std::net::TcpListener;
//! use std::sync::Arc;
//! use throng_engine::{Config, Engine, Handover, Opening, Policy, Rooms};
//!
//! # fn keep() -> throng_hub::Keep { unimplemented!() }
//! let rooms = Rooms::new(Default::default(), keep())?; // where rooms are kept: see `throng-backend`
//! let engine = Engine::start(Config::default(), rooms, || { /* wake the front */ })?;
//! let policy = Arc::new(Policy::default());
//! let (socket, _) = TcpListener::bind("127.0.0.1:0")?.accept()?;
//! socket.set_nonblocking(true)?;
//! // … the opening handshake happens here …
//! let handover = Handover {
//!     read_ahead: Default::default(),
//!     opening: Opening::Echo,
//!     policy: policy.clone(),
//!     deflate: None,
//!     permit: None,
//!     companion: None,
//! };
//! engine.adopt(socket, handover);
//! # std::io::Result::Ok(())
//! ```

mod admission;
mod clock;
mod conn;
mod deadlines;
mod drain;
mod engine;
mod fanout;
mod front;
mod handler;
mod inbox;
mod outbox;
mod policy;
mod rooms;
mod session;
mod stats;
mod tick;
mod timers;
mod transport;
mod users;
mod wheel;
mod worker;

pub use admission::{Admission, Caps, Exempt, Full, Permit, Refusals};
pub use drain::{Drain, Slots};
pub use engine::{Config, Ended, Engine, Handover, Rooms};
pub use front::{Front, Note};
pub use handler::{Handle, Handler, Message, Peer};
pub use policy::{Flush, Policy};
pub use session::{Opening, Refresh, Start, Visitor, Who};
pub use stats::Stats;
pub use throng_hub::{Rate, SlowPolicy, Space};
