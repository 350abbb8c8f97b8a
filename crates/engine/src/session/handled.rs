//! A connection run by an embedder's handler.

use std::panic::{AssertUnwindSafe, catch_unwind};

use throng_wire::{CloseCode, Kind};

use crate::conn::Conn;
use crate::engine::Shared;
use crate::handler::{Handler, Message, Peer, Rooms};
use crate::session::Session;
use crate::tick::Out;

pub(crate) struct Handled {
    handler: Box<dyn Handler>,
    pub(crate) rooms: Rooms,
}

impl Handled {
    pub(crate) fn new(handler: Box<dyn Handler>) -> Self {
        Self { handler, rooms: Rooms::default() }
    }

    /// Lets the handler of a connection do something, if it has one. A panic of the handler
    /// ends this connection and nothing else.
    pub(crate) fn call(
        conn: &mut Conn,
        out: &mut Out,
        shared: &Shared,
        act: impl FnOnce(&mut dyn Handler, &mut Peer<'_>),
    ) {
        if !matches!(conn.session, Session::Handled(_)) {
            return;
        }
        let Session::Handled(mut handled) = std::mem::replace(&mut conn.session, Session::None)
        else {
            return;
        };
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let Handled { handler, rooms } = &mut *handled;
            act(handler.as_mut(), &mut Peer { conn, out, shared, rooms });
        }))
        .is_err();
        conn.session = Session::Handled(handled);
        if panicked {
            out.counters.handler_panics.add(1);
            tracing::error!("a handler panicked; its connection is closed with 1011");
            conn.begin_close(out, CloseCode::INTERNAL, "internal error");
        }
    }

    pub(crate) fn message(
        conn: &mut Conn,
        kind: Kind,
        payload: &[u8],
        out: &mut Out,
        shared: &Shared,
    ) {
        let message = match kind {
            Kind::Binary => Message::Binary(payload),
            // The decoder has checked it; `forbid(unsafe_code)` makes us look again.
            Kind::Text => match std::str::from_utf8(payload) {
                Ok(text) => Message::Text(text),
                Err(_) => return,
            },
        };
        Self::call(conn, out, shared, |handler, peer| handler.message(peer, message));
    }

    pub(crate) fn close(self, (code, reason): (u16, Box<str>), out: &Out) {
        let mut handler = self.handler;
        let close = AssertUnwindSafe(move || {
            handler.close(code, &reason);
            drop(handler);
        });
        if catch_unwind(close).is_err() {
            out.counters.handler_panics.add(1);
            tracing::error!("a handler panicked in close");
        }
    }
}
