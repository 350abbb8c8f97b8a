//! What a client may do changes while it is connected: a refresh, a revocation of rights, an eviction.

use std::fmt;
use std::sync::Arc;

use throng_hub::{Asker, Ending, Identity, Pass, Rights};
use throng_protocol::{Auth, Code, Credential, Fault, push};
use throng_wire::OpCode;

use super::Session;
use super::typed::{Client, Done, Typed, asker};
use crate::conn::Conn;
use crate::engine::Shared;
use crate::inbox::{Post, Sight};
use crate::policy::FORBIDDEN;
use crate::tick::Out;

/// What has changed for a connection.
pub(crate) enum Review {
    /// It has another pass, which it asked for with this `ref`.
    Renewed(Arc<Pass>, Option<u64>),
    /// It asked for another one in vain.
    Refused(Fault, Option<u64>),
    /// Members or bans of rooms.
    Again,
    /// It is to leave this room.
    Evicted(Box<str>),
}

/// Another credential, shown by `auth`.
pub struct Refresh {
    /// The connection.
    pub asker: Asker,
    /// Whose session it is: the credential must be of the same user.
    pub who: Arc<Identity>,
    /// What holds so far.
    pub pass: Arc<Pass>,
    /// What is shown.
    pub credential: Credential<'static>,
    /// The `ref`.
    pub reference: Option<u64>,
}

impl fmt::Debug for Refresh {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh").field("who", &self.who).finish_non_exhaustive()
    }
}

impl Typed {
    /// Passes a credential on to the front, which answers later. One at a time.
    pub(super) fn refresh(
        &mut self,
        auth: &Auth<'_>,
        conn: &Conn,
        out: &Out,
        shared: &Shared,
    ) -> Result<Done, Fault> {
        let Some(pass) = &self.pass else {
            return Err(Fault::new(Code::Unauthorized)
                .with_message("This session is anonymous: open another one to sign in."));
        };
        if std::mem::replace(&mut self.refreshing, true) {
            return Err(Fault::new(Code::BadMessage)
                .with_message("Another credential is still being looked at."));
        }
        let credential = match &auth.credential {
            Credential::Ticket(ticket) => Credential::Ticket(ticket.to_string().into()),
            Credential::Token(token) => Credential::Token(token.to_string().into()),
        };
        let refresh = Refresh {
            asker: asker(conn, out),
            who: Arc::clone(&self.who),
            pass: Arc::clone(pass),
            credential,
            reference: auth.reference,
        };
        shared.inbox(shared.front()).push(Post::Refresh(Box::new(refresh)));
        Ok(Done::Yes)
    }

    /// What this client may do has changed.
    pub(super) fn review(conn: &mut Conn, review: Review, out: &mut Out, shared: &Shared) {
        let Session::Typed(mut typed) = std::mem::replace(&mut conn.session, Session::None) else {
            return;
        };
        let mut text = Vec::new();
        match review {
            Review::Renewed(pass, reference) => {
                push::authed(&mut text, reference, pass.expires);
                typed.pass = Some(pass);
                typed.refreshing = false;
                conn.send(out, OpCode::Text, &text);
                typed.review_rooms(conn, out, shared);
            }
            Review::Refused(fault, reference) => {
                typed.refreshing = false;
                let retry = fault.code.is_temporary().then_some(crate::rooms::RETRY_AFTER);
                push::error(&mut text, &fault.with_reference(reference), None, retry);
                conn.send(out, OpCode::Text, &text);
            }
            Review::Again => typed.review_rooms(conn, out, shared),
            Review::Evicted(room) => {
                typed.put_out(&room, "You were removed from this room.", conn, out, shared);
            }
        }
        conn.session = Session::Typed(typed);
    }

    /// Looks at every room again; those it may no longer be in are left.
    fn review_rooms(&mut self, conn: &mut Conn, out: &mut Out, shared: &Shared) {
        let mut lost = Vec::new();
        for at in 0..self.rooms.len() {
            let name = self.rooms[at].room.name();
            let allowed = self.allowed(name, shared).unwrap_or_default();
            if !allowed.may(Rights::JOIN) {
                lost.push(name.to_owned());
            }
            let member = &mut self.rooms[at];
            if allowed.may(Rights::PRESENCE) != member.allowed.may(Rights::PRESENCE) {
                let sight = Sight::of(allowed.may(Rights::PRESENCE));
                let enter = Post::Enter(conn.id(), Arc::clone(&member.room), member.echo, sight);
                // A member that is still catching up is told when it has.
                if member.behind.is_none() {
                    shared.inbox(out.worker).push(enter);
                }
            }
            if let Some(behind) = &mut member.behind
                && !allowed.may(Rights::HISTORY)
            {
                behind.after = behind.after.max(member.room.order().seq()); // not the past any more
            }
            member.allowed = allowed;
        }
        for room in lost {
            self.put_out(&room, "You may no longer be in this room.", conn, out, shared);
        }
    }

    /// Takes this client out of a room, and tells it. A plain client has nothing to stay for.
    fn put_out(
        &mut self,
        room: &str,
        why: &'static str,
        conn: &mut Conn,
        out: &mut Out,
        shared: &Shared,
    ) {
        let Some(at) = self.rooms.iter().position(|member| member.room.name() == room) else {
            return;
        };
        let member = self.rooms.swap_remove(at);
        self.behind -= u32::from(member.behind.is_some());
        shared.leave(&member.room, &self.who, out.worker, Some(conn.id()), Ending::Orderly);
        let mut text = Vec::new();
        let fault = Fault::new(Code::Forbidden).with_message(why);
        push::error(&mut text, &fault, Some(room), None);
        conn.send(out, OpCode::Text, &text);
        if self.kind == Client::Plain {
            return conn.begin_close(out, FORBIDDEN, why);
        }
        text.clear();
        push::left(&mut text, None, room);
        conn.send(out, OpCode::Text, &text);
    }
}
