//! A plain client of the typed protocol: one room, joined on connect.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use throng_hub::{Identity, Room, Space, ids};
use throng_protocol::{Code, Command, Fault, Publish, Timestamp, names, parse, push};
use throng_wire::{Kind, OpCode};

use crate::conn::Conn;
use crate::engine::Shared;
use crate::inbox::Post;
use crate::session::Session;
use crate::tick::Out;

/// Who comes, as far as the handshake told.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    /// What an anonymous visitor wants to be called (`?name=`). Shown to others as
    /// `info.name`; cleaned by [`names::display_name`].
    pub name: Option<String>,
}

/// The session of a plain client.
pub(crate) struct Typed {
    room: Arc<Room>,
    who: Arc<Identity>,
}

impl Typed {
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Joins the room, greets the client, and announces it to the others.
    pub(crate) fn open(
        conn: &mut Conn,
        space: Space,
        room: &str,
        visitor: Visitor,
        out: &mut Out,
        shared: &Shared,
    ) -> Box<Self> {
        let who = Arc::new(identify(&visitor));
        let (room, joined) = loop {
            let room = shared.hub().room(space, room);
            let mut order = room.order();
            let Ok(joined) = order.join(&who, out.worker, wall_clock()) else {
                continue; // forgotten in the meantime: the hub makes another one
            };
            if let Some(announcement) = &joined.announcement {
                shared.deliver(&order, &room, announcement);
            }
            // Behind the announcement, so that it reaches the others only.
            shared.inbox(out.worker).push(Post::Enter(conn.id(), Arc::clone(&room)));
            drop(order);
            break (room, joined);
        };

        let mut text = Vec::new();
        push::connected(
            &mut text,
            &push::Connected {
                user_id: who.user_id(),
                session_id: who.session_id(),
                resume: None,
                info: who.info(),
                user_count: joined.user_count,
                room: Some(room.name()),
                heartbeat: shared.heartbeat.as_millis() as u64,
                timestamp: joined.timestamp,
                max_payload: conn.policy().limits.max_message,
            },
        );
        conn.send(out, OpCode::Text, &text);
        Box::new(Self { room, who })
    }

    /// Handles one message of the client.
    pub(crate) fn message(
        conn: &mut Conn,
        kind: Kind,
        payload: &[u8],
        out: &mut Out,
        shared: &Shared,
    ) {
        let Session::Typed(typed) = &conn.session else { return };
        let mut reply = Vec::new();
        let handled = match kind {
            Kind::Binary => Err(Fault::new(Code::UnsupportedData)),
            Kind::Text => {
                parse(payload).and_then(|command| typed.apply(command, &mut reply, out, shared))
            }
        };
        if let Err(fault) = handled {
            reply.clear();
            push::error(&mut reply, &fault, None, None);
        }
        if !reply.is_empty() {
            conn.send(out, OpCode::Text, &reply);
        }
    }

    fn apply(
        &self,
        command: Command<'_>,
        reply: &mut Vec<u8>,
        out: &Out,
        shared: &Shared,
    ) -> Result<(), Fault> {
        match command {
            Command::Publish(message) => self.publish(&message, reply, out, shared),
            Command::Ping(ping) => {
                push::pong(reply, ping.reference, ping.sent, wall_clock());
                Ok(())
            }
            Command::Presence(presence) => {
                self.check_room(presence.room.as_deref(), presence.reference)?;
                self.room.order().presence(reply, presence.reference);
                Ok(())
            }
            other => Err(Fault::new(Code::BadMessage)
                .with_message("This command needs the subprotocol throng.v1.")
                .with_reference(other.reference())),
        }
    }

    fn publish(
        &self,
        message: &Publish<'_>,
        reply: &mut Vec<u8>,
        _out: &Out,
        shared: &Shared,
    ) -> Result<(), Fault> {
        self.check_room(message.room.as_deref(), message.reference)?;
        if message.to.is_some() {
            return Err(Fault::new(Code::Forbidden)
                .with_message("Messages to one user need the subprotocol throng.v1.")
                .with_reference(message.reference));
        }
        let mut order = self.room.order();
        let published = order.publish(&self.who, message, wall_clock());
        shared.deliver(&order, &self.room, &published.frame);
        drop(order);
        if let Some(reference) = message.reference {
            push::ack(reply, reference, self.room.name(), published.seq, published.timestamp);
        }
        Ok(())
    }

    /// A plain client is in its endpoint's room and no other.
    fn check_room(&self, named: Option<&str>, reference: Option<u64>) -> Result<(), Fault> {
        match named {
            Some(named) if named != self.room.name() => {
                Err(Fault::new(Code::NotJoined).with_reference(reference))
            }
            _ => Ok(()),
        }
    }

    /// Leaves the room and tells the others.
    pub(crate) fn part(&mut self, worker: usize, shared: &Shared) {
        let mut order = self.room.order();
        let left = order.leave(&self.who, worker, wall_clock());
        if let Some(announcement) = &left.announcement {
            shared.deliver(&order, &self.room, announcement);
        }
        drop(order);
        if left.empty {
            shared.hub().release(&self.room);
        }
    }
}

/// A fresh anonymous user.
fn identify(visitor: &Visitor) -> Identity {
    let (mut user, mut session) = ([0; 8], [0; 10]);
    let filled = getrandom::fill(&mut user).and_then(|()| getrandom::fill(&mut session));
    // invariant: the engine did not start without entropy, and the kernel's does not run out
    filled.expect("invariant: entropy is available");
    let name = visitor.name.as_deref().and_then(names::display_name);
    Identity::anonymous(&ids::user_id(user), &ids::session_id(session), name.as_deref())
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}
