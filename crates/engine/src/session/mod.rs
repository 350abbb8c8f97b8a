//! What a connection is for: what happens to the messages that come in on it.

mod cost;
mod guest;
mod handled;
mod join;
mod publish;
mod review;
mod typed;

use std::sync::Arc;

use throng_hub::{Ending, Revoked, Room, RoomId, Space};
use throng_wire::{Kind, OpCode, ProtocolError};

use crate::conn::{Conn, Farewell};
use crate::engine::Shared;
use crate::handler::Handler;
use crate::policy::{SIGNED_OUT, TRY_LATER};
use crate::tick::Out;
use crate::wheel::ConnId;

pub(crate) use guest::Guest;
use handled::Handled;
pub use review::Refresh;
pub(crate) use review::Review;
pub(crate) use typed::identify;
use typed::{Greeting, Typed};
pub use typed::{Start, Visitor, Who};

/// How a new connection begins.
pub enum Opening {
    /// Every message comes back to its sender.
    Echo,
    /// Every message goes verbatim to all members of a room, the sender included.
    Relay(Space, Box<str>),
    /// The typed protocol for a plain client, joined to a room on connect.
    Plain(Box<str>, Start, Visitor),
    /// The typed protocol for a client that joins rooms by itself.
    Full(Visitor),
    /// An embedder's handler.
    Handler(Box<dyn Handler>),
    /// One of the others, which does not ask who somebody is, for somebody who has signed in to get there.
    Guarded(Box<Opening>, Visitor),
}

/// What a connection is doing.
pub(crate) enum Session {
    /// Nothing any more, or not yet.
    None,
    Echo,
    Relay(Arc<Room>),
    /// The typed protocol, before the client has been greeted: a room is still being opened.
    Greeting(Box<Greeting>),
    Typed(Box<Typed>),
    Handled(Box<Handled>),
}

impl Session {
    pub(crate) fn open(conn: &mut Conn, opening: Opening, out: &mut Out, shared: &Shared) {
        match opening {
            Opening::Echo => conn.session = Self::Echo,
            Opening::Relay(space, name) => {
                match shared.enter(space, &name, out.worker, conn.id(), conn.permit()) {
                    Ok(room) => conn.session = Self::Relay(room),
                    Err(_) => conn.begin_close(out, TRY_LATER, "no room can be opened"),
                }
            }
            Opening::Plain(room, start, visitor) => {
                Greeting::new(visitor, Some((room, start))).proceed(conn, out, shared);
            }
            Opening::Full(visitor) => Greeting::new(visitor, None).proceed(conn, out, shared),
            Opening::Handler(handler) => {
                conn.session = Self::Handled(Box::new(Handled::new(handler)));
                Handled::call(conn, out, shared, |handler, peer| handler.open(peer));
            }
            Opening::Guarded(opening, visitor) => match Guest::arrive(visitor, conn, out, shared) {
                Ok(guest) => {
                    conn.set_guest(guest);
                    Self::open(conn, *opening, out, shared);
                }
                Err(Revoked) => conn.begin_close(out, SIGNED_OUT, "session revoked"),
            },
        }
    }

    #[inline]
    pub(crate) fn message(
        conn: &mut Conn,
        kind: Kind,
        payload: &mut [u8],
        out: &mut Out,
        shared: &Shared,
    ) {
        let opcode = match kind {
            Kind::Text => OpCode::Text,
            Kind::Binary => OpCode::Binary,
        };
        match &conn.session {
            Self::None | Self::Greeting(_) => {}
            Self::Echo => conn.send(out, opcode, payload),
            Self::Relay(room) => shared.relay(room, opcode, payload),
            Self::Typed(_) => Typed::message(conn, kind, payload, out, shared),
            Self::Handled(_) => Handled::message(conn, kind, payload, out, shared),
        }
    }

    pub(crate) fn ping(conn: &mut Conn, payload: &[u8], out: &mut Out, shared: &Shared) {
        Handled::call(conn, out, shared, |handler, peer| handler.ping(peer, payload));
    }

    pub(crate) fn pong(conn: &mut Conn, payload: &[u8], out: &mut Out, shared: &Shared) {
        Handled::call(conn, out, shared, |handler, peer| handler.pong(peer, payload));
    }

    pub(crate) fn error(conn: &mut Conn, error: &ProtocolError, out: &mut Out, shared: &Shared) {
        Handled::call(conn, out, shared, |handler, peer| handler.error(peer, error));
    }

    /// Goes on with an opening that had to wait for a room.
    pub(crate) fn reopen(conn: &mut Conn, out: &mut Out, shared: &Shared) {
        if let Self::Greeting(greeting) = std::mem::replace(&mut conn.session, Self::None) {
            greeting.proceed(conn, out, shared);
        }
    }

    /// What a client of the typed protocol may do has changed.
    pub(crate) fn review(conn: &mut Conn, review: Review, out: &mut Out, shared: &Shared) {
        if matches!(conn.session, Self::Typed(_)) && conn.is_open() {
            Typed::review(conn, review, out, shared);
        }
    }

    /// Whether it is owed some of the past of a room.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self, Self::Typed(typed) if typed.is_behind())
    }

    /// Hands out some of the past it is owed, as much as the peer takes.
    #[inline]
    pub(crate) fn catch_up(conn: &mut Conn, out: &mut Out, shared: &Shared) {
        if conn.session.is_behind() {
            Typed::catch_up(conn, out, shared);
        }
    }

    /// Tries again to enter the room that is its user's own.
    pub(crate) fn come_home(conn: &mut Conn, out: &mut Out, shared: &Shared) {
        match (&conn.session, conn.homeless_since()) {
            (Self::Typed(_), Some(since)) => Typed::come_home(conn, since, out, shared),
            _ => conn.come_home(),
        }
    }

    /// Leaves every room, with the announcements that go with it.
    pub(crate) fn part(&mut self, worker: usize, id: ConnId, farewell: Farewell, shared: &Shared) {
        match self {
            Self::None | Self::Echo => {}
            Self::Greeting(greeting) => greeting.abandon(shared),
            Self::Relay(room) => shared.exit(room, worker),
            Self::Typed(typed) => typed.part(worker, id, farewell, shared),
            Self::Handled(handled) => {
                for room in handled.rooms.joined.drain(..) {
                    shared.exit(&room, worker);
                }
            }
        }
    }

    /// The end, after [`Session::part`]. Later calls do nothing.
    pub(crate) fn close(conn: &mut Conn, out: &Out) {
        if let Self::Handled(handled) = std::mem::replace(&mut conn.session, Self::None) {
            handled.close(conn.take_farewell(), out);
        }
    }

    /// Whether the peer's close frame matters to anybody.
    pub(crate) fn wants_farewell(&self) -> bool {
        matches!(self, Self::Handled(_))
    }

    /// Whether its input becomes work for other workers.
    pub(crate) fn publishes(&self) -> bool {
        !matches!(self, Self::None | Self::Echo | Self::Greeting(_))
    }

    /// Whether it can be told that something was refused.
    #[inline]
    pub(crate) fn refuses(&self) -> bool {
        matches!(self, Self::Typed(_) | Self::Greeting(_))
    }

    /// Whether it is (still) a member of the room.
    pub(crate) fn is_in(&self, room: &Arc<Room>) -> bool {
        match self {
            Self::None | Self::Echo | Self::Greeting(_) => false,
            Self::Relay(joined) => Arc::ptr_eq(joined, room),
            Self::Typed(typed) => typed.is_in(room),
            Self::Handled(handled) => {
                handled.rooms.joined.iter().any(|joined| Arc::ptr_eq(joined, room))
            }
        }
    }

    /// A room that was left during the last call of the handler.
    #[inline]
    pub(crate) fn take_left(&mut self) -> Option<RoomId> {
        match self {
            Self::Handled(handled) => handled.rooms.left.pop(),
            _ => None,
        }
    }
}

impl Farewell {
    /// What it means for the rooms.
    pub(crate) fn of_rooms(self) -> Ending {
        match self {
            Self::Lost => Ending::Lost,
            Self::Away | Self::Over => Ending::Orderly,
        }
    }

    /// What it means for the session.
    pub(crate) fn of_session(self) -> Ending {
        match self {
            Self::Lost | Self::Away => Ending::Lost,
            Self::Over => Ending::Orderly,
        }
    }
}
