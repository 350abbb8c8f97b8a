//! A client publishes: to a room it is in, or to a user.

use throng_hub::{Asker, Author, Published};
use throng_protocol::{Code, Fault, Publish, names, push};

use super::typed::{Caller, Done, Typed, asker, open_room};
use crate::conn::Conn;
use crate::engine::Shared;
use crate::inbox::Echo;
use crate::tick::Out;

impl Typed {
    #[inline]
    pub(super) fn publish(
        &self,
        message: &Publish<'_>,
        reply: &mut Vec<u8>,
        conn: &Conn,
        out: &Out,
        shared: &Shared,
    ) -> Result<Done, Fault> {
        let asker = asker(conn, out);
        if let Some(user) = &message.to {
            return self.publish_to(user, message, reply, asker, shared);
        }
        let member = self.room(message.room.as_deref())?;
        if !member.allowed.may_send(&message.kind) {
            return Err(may_not_send());
        }
        let author = Author { user_id: self.who.user_id(), session: self.who.session_id(), asker };
        let published = shared.publish(&member.room, &author, message, member.echo)?;
        acknowledge(reply, message.reference, member.room.name(), &published);
        Ok(Done::Yes)
    }

    /// To the room of one user, whether there is such a user or not: who is there is not for everybody to
    /// find out.
    fn publish_to(
        &self,
        user: &str,
        message: &Publish<'_>,
        reply: &mut Vec<u8>,
        asker: Asker,
        shared: &Shared,
    ) -> Result<Done, Fault> {
        let name = format!("@{user}");
        let may = names::is_room(&name)
            && self.allowed(&name, shared).is_ok_and(|allowed| allowed.may_send(&message.kind));
        if !may {
            return Err(may_not_send());
        }
        let author = Author { user_id: self.who.user_id(), session: self.who.session_id(), asker };
        // Nobody stays in it.
        let caller = Caller { asker, permit: None };
        loop {
            let Some(room) = open_room(&name, caller, shared)? else { return Ok(Done::Wait) };
            let published = shared.publish(&room, &author, message, Echo::Yes);
            if published.is_err() && room.is_forgotten() {
                continue; // the last member has left in between
            }
            shared.hub().release(&room); // unless somebody is there
            acknowledge(reply, message.reference, &name, &published?);
            return Ok(Done::Yes);
        }
    }
}

#[cold]
fn may_not_send() -> Fault {
    Fault::new(Code::Forbidden).with_message("You may not send messages of this type there.")
}

fn acknowledge(reply: &mut Vec<u8>, reference: Option<u64>, room: &str, published: &Published) {
    let Some(reference) = reference else { return };
    let (seq, timestamp, duplicate) = match published {
        Published::Now { seq, timestamp, .. } => (*seq, *timestamp, false),
        Published::Before { seq, timestamp } => (Some(*seq), *timestamp, true),
        Published::Later => return,
    };
    push::ack(reply, &push::Ack { reference, room, seq, timestamp, duplicate });
}
