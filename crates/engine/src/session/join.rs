//! A client joins and leaves rooms, comes back to them, and gets what it missed.

use std::sync::Arc;

use throng_hub::{
    Asker, Closed, Ending, Joined, Refused, Replay, Rights, Room, Space, Start, Timestamp,
};
use throng_protocol::{Code, Fault, Join, Leave, Resume, Return, push};
use throng_wire::OpCode;

use super::typed::{
    Behind, Caller, Client, Done, Membership, Typed, joined_push, open_and, open_room, own_room,
};
use crate::clock::wall_clock;
use crate::conn::Conn;
use crate::engine::Shared;
use crate::inbox::{Echo, Post, Sight};
use crate::policy::TOO_SLOW;
use crate::session::Session;
use crate::tick::Out;
use crate::wheel::ConnId;

/// How somebody begins in a room.
#[derive(Clone, Copy)]
pub(super) struct Begin<'a> {
    pub(super) start: Start<'a>,
    pub(super) echo: Echo,
    /// The state of presence that is known; the list is told if it is another one now.
    pub(super) presence_seq: Option<u64>,
    /// Messages newer than this are owed.
    pub(super) newer: Option<Timestamp>,
    /// A position from the future, which is not of our past, is one that is lost instead of an error.
    pub(super) lenient: bool,
}

/// Rooms that are about to be joined, and not forgotten before.
struct Held<'a> {
    rooms: Vec<Arc<Room>>,
    shared: &'a Shared,
}

impl Held<'_> {
    /// It does not come to it now.
    fn let_go_later(mut self) {
        for room in std::mem::take(&mut self.rooms) {
            room.order().let_go();
            self.shared.release_later(&room);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for room in &self.rooms {
            let empty = room.order().let_go();
            if empty {
                self.shared.hub().release(room);
            }
        }
    }
}

impl Begin<'_> {
    pub(super) const NOW: Self = Self {
        start: Start::NOW,
        echo: Echo::Yes,
        presence_seq: None,
        newer: None,
        lenient: false,
    };
}

impl Typed {
    pub(super) fn join(
        &mut self,
        join: &Join<'_>,
        reply: &mut Vec<u8>,
        conn: &Conn,
        out: &mut Out,
        shared: &Shared,
    ) -> Result<Done, Fault> {
        self.check_may_join(&join.room, shared)?;
        let since = join.since.as_ref().map(|since| (&*since.epoch, since.seq));
        let start = Start { since, rewind: join.rewind.unwrap_or(0) };
        let echo = if join.echo { Echo::Yes } else { Echo::No };
        let begin = Begin { start, echo, ..Begin::NOW };
        let caller = Caller::of(conn, out);
        if !is_reached(&join.room, since, caller, shared)? {
            return Ok(Done::Wait);
        }
        let entered = self.enter(&join.room, &begin, caller, conn.id(), out, shared)?;
        let Some((joined, room)) = entered else { return Ok(Done::Wait) };
        let epoch = joined.epoch.to_string();
        let push = joined_push(join.reference, room.name(), &epoch, &joined);
        let told = self.find(&join.room).is_some_and(|m| m.allowed.may(Rights::PRESENCE));
        if join.presence && told {
            // Who has come or gone in between is announced behind this, and recognised by its number.
            let order = room.order();
            let push = push::Joined {
                user_count: order.user_count(),
                presence_seq: Some(order.presence_seq()),
                ..push
            };
            push::joined(reply, &push, order.listed_users());
        } else {
            push::joined(reply, &push, None::<std::iter::Empty<_>>);
        }
        Ok(Done::Yes)
    }

    pub(super) fn leave(
        &mut self,
        leave: &Leave<'_>,
        reply: &mut Vec<u8>,
        id: ConnId,
        out: &Out,
        shared: &Shared,
    ) -> Result<Done, Fault> {
        let at = self.rooms.iter().position(|member| member.room.name() == leave.room);
        let at = at.ok_or_else(|| Fault::new(Code::NotJoined))?;
        let member = self.rooms.swap_remove(at);
        self.behind -= u32::from(member.behind.is_some());
        shared.leave(&member.room, &self.who, out.worker, Some(id), Ending::Orderly);
        push::left(reply, leave.reference, &leave.room);
        Ok(Done::Yes)
    }

    /// Comes back to many rooms at once. Each is answered for by itself.
    pub(super) fn resume(
        &mut self,
        resume: &Resume<'_>,
        reply: &mut Vec<u8>,
        conn: &mut Conn,
        out: &mut Out,
        shared: &Shared,
    ) -> Result<Done, Fault> {
        let caller = Caller::of(conn, out);
        let resuming = self.kind == (Client::Full { resuming: true });
        let Some(held) = self.hold(resume, resuming, caller, shared) else { return Ok(Done::Wait) };
        let mut results = Vec::with_capacity(resume.rooms.len());
        for back in &resume.rooms {
            let result = self.come_back(back, caller, conn.id(), out, shared);
            let result = result.map(|joined| (joined.epoch.to_string(), joined));
            results.push((&*back.room, result.map_err(|fault| fault.code)));
        }
        if resuming {
            self.kind = Client::Full { resuming: false };
            let own = own_room(&self.who);
            let is_named = resume.rooms.iter().any(|back| back.room == own);
            // Who has named it is told what became of it.
            if !is_named && self.find(&own).is_none() {
                let entered = self.enter(&own, &Begin::NOW, caller, conn.id(), out, shared);
                if !matches!(entered, Ok(Some(_))) {
                    conn.set_homeless(wall_clock());
                }
            }
        }
        drop(held);
        let results = results.iter().map(|(room, result)| {
            let told = match result {
                Ok((epoch, joined)) => Ok(push::Resumed {
                    recovered: joined.recovered,
                    epoch,
                    seq: joined.seq,
                    user_count: joined.user_count,
                    presence_seq: Some(joined.presence_seq),
                }),
                Err(code) => Err(*code),
            };
            (*room, told)
        });
        push::resumed(reply, resume.reference, results);
        conn.send(out, OpCode::Text, reply);
        reply.clear();
        Ok(Done::Yes)
    }

    /// Opens everything before anything is joined, so that it is done in one go: none of it is forgotten until then,
    /// whoever leaves meanwhile. `None` while a room is still being opened; then the command is handled again when the
    /// first of those is open.
    fn hold<'a>(
        &self,
        resume: &Resume<'_>,
        resuming: bool,
        caller: Caller<'_>,
        shared: &'a Shared,
    ) -> Option<Held<'a>> {
        let own = own_room(&self.who);
        let named = resume.rooms.iter().map(|back| (&*back.room, back.since.as_ref()));
        let named = named.chain(resuming.then_some((own.as_str(), None)));
        let may_join = |(name, _): &(&str, _)| self.check_may_join(name, shared).is_ok();
        let most = shared.max_rooms.saturating_sub(self.rooms.len());
        let mut held = Held { rooms: Vec::new(), shared };
        let (mut waits, mut unused) = (false, Vec::new());
        for (name, since) in named.filter(may_join).take(most) {
            if waits {
                // Begins to open; whoever asked for the first one need not be told of every other.
                unused.extend(shared.found(Space::ROOMS, name, caller.permit));
                continue;
            }
            match open_and(name, caller, shared, |order| order.hold()) {
                Ok(Some(room)) => {
                    let since = since.map(|since| (&*since.epoch, since.seq));
                    waits = reach(&room, since, caller.asker) == Err(Closed::Opening);
                    held.rooms.push(room);
                }
                Ok(None) => waits = true,
                Err(_) => {}
            }
        }
        if !waits {
            return Some(held);
        }
        // The client may be gone by then.
        held.let_go_later();
        unused.iter().for_each(|room| shared.release_later(room));
        None
    }

    fn come_back(
        &mut self,
        back: &Return<'_>,
        caller: Caller<'_>,
        id: ConnId,
        out: &Out,
        shared: &Shared,
    ) -> Result<Joined, Fault> {
        self.check_may_join(&back.room, shared)?;
        let since = back.since.as_ref().map(|since| (&*since.epoch, since.seq));
        let echo = if back.echo { Echo::Yes } else { Echo::No };
        let start = Start { since, rewind: 0 };
        let begin =
            Begin { start, echo, presence_seq: back.presence_seq, newer: None, lenient: true };
        if let Some(room) = shared.hub().find(Space::ROOMS, &back.room)
            && reach(&room, since, caller.asker) == Err(Closed::Unavailable)
        {
            return Err(Fault::new(Code::Unavailable)); // this is not the time to say what is lost
        }
        let entered = self.enter(&back.room, &begin, caller, id, out, shared)?;
        // `None`: it could not be opened, or not be joined, a moment ago
        let (joined, _) = entered.ok_or_else(|| Fault::new(Code::Unavailable))?;
        Ok(joined)
    }

    /// Whether this client may join a room of this name (again).
    pub(super) fn check_may_join(&self, name: &str, shared: &Shared) -> Result<(), Fault> {
        if self.find(name).is_some() {
            return Err(Fault::new(Code::AlreadyJoined));
        }
        if self.rooms.len() >= shared.max_rooms {
            return Err(Fault::new(Code::TooManyRooms));
        }
        match self.allowed(name, shared)?.may(Rights::JOIN) {
            true => Ok(()),
            false => Err(self.may_not_join(name)),
        }
    }

    #[cold]
    fn may_not_join(&self, name: &str) -> Fault {
        let text = match (name.starts_with('@'), &self.pass) {
            (true, _) => "This room is somebody else's.",
            (false, Some(_)) => "You may not be in this room.",
            (false, None) => "Anonymous visitors may not be in this room: sign in.",
        };
        Fault::new(Code::Forbidden).with_message(text)
    }

    /// Becomes a member of a room: at once live if nothing was missed, else behind. `None` while the
    /// room is being opened.
    pub(super) fn enter(
        &mut self,
        name: &str,
        begin: &Begin<'_>,
        caller: Caller<'_>,
        id: ConnId,
        out: &Out,
        shared: &Shared,
    ) -> Result<Option<(Joined, Arc<Room>)>, Fault> {
        let allowed = self.allowed(name, shared)?;
        if !allowed.may(Rights::JOIN) {
            return Err(self.may_not_join(name));
        }
        let mut start = begin.start;
        if !allowed.may(Rights::HISTORY) {
            start = Start::NOW; // what was said before is not for everybody
        }
        loop {
            let Some(room) = open_room(name, caller, shared)? else { return Ok(None) };
            let mut order = room.order();
            if let Some(newer) = begin.newer {
                start.rewind = order.newer(newer);
            }
            let mut joined = order.join(&self.who, out.worker, &start, wall_clock());
            if begin.lenient && joined.as_ref().is_err_and(|refused| *refused == Refused::Future) {
                // At once: were the room let go and opened anew, this would begin again, and again.
                start.since = None;
                joined = order.join(&self.who, out.worker, &start, wall_clock());
            }
            let mut joined = match joined {
                Ok(joined) => joined,
                Err(refused) => {
                    drop(order);
                    shared.hub().release(&room); // unless somebody is there
                    match refused {
                        Refused::Closed(Closed::Forgotten | Closed::Opening) => continue,
                        Refused::Closed(Closed::Unavailable) => {
                            return Err(Fault::new(Code::Unavailable));
                        }
                        Refused::Full => return Err(Fault::new(Code::RoomFull)),
                        Refused::Future => {
                            return Err(Fault::new(Code::BadMessage)
                                .with_message("`since` is beyond the last message of the room."));
                        }
                    }
                }
            };
            joined.recovered &= begin.start.since.is_some() == start.since.is_some();
            if let Some(announcement) = &joined.announcement {
                shared.announce(&order, announcement);
            }
            let presence_seq = begin.presence_seq.unwrap_or(joined.presence_seq);
            let live = joined.after >= joined.seq && presence_seq == joined.presence_seq;
            if live {
                // Behind the announcement, so that it reaches the others only.
                let sight = Sight::of(allowed.may(Rights::PRESENCE));
                let enter = Post::Enter(id, Arc::clone(&room), begin.echo, sight);
                shared.inbox(out.worker).push(enter);
            }
            drop(order);
            if let Some(due) = joined.wake {
                shared.timers.at(due, &room);
            }
            let promised = start.since.is_some() && joined.recovered;
            let (epoch, after) = (joined.epoch, joined.after);
            let behind = (!live).then(|| Box::new(Behind { epoch, after, presence_seq, promised }));
            self.behind += u32::from(behind.is_some());
            if self.rooms.len() < FEW_ROOMS {
                self.rooms.reserve_exact(1); // most clients are in one or two
            }
            let member = Membership { room: Arc::clone(&room), allowed, echo: begin.echo, behind };
            self.rooms.push(member);
            return Ok(Some((joined, room)));
        }
    }

    /// Tries again to enter the client's own room, which could not be opened when it came. What was sent there since
    /// then follows, as if it had been in.
    #[cold]
    pub(crate) fn come_home(conn: &mut Conn, since: Timestamp, out: &mut Out, shared: &Shared) {
        let Session::Typed(mut typed) = std::mem::replace(&mut conn.session, Session::None) else {
            return;
        };
        let own = own_room(&typed.who);
        let begin = Begin { newer: Some(since), ..Begin::NOW };
        let entered = match typed.find(&own) {
            Some(_) => Ok(None), // it has joined by itself
            None => {
                let caller = Caller::of(conn, out);
                typed.enter(&own, &begin, caller, conn.id(), out, shared)
            }
        };
        let at_home = match &entered {
            Ok(_) => typed.find(&own).is_some(),
            Err(fault) => !fault.code.is_temporary(),
        };
        if at_home {
            conn.come_home();
        }
        if let Ok(Some((joined, _))) = &entered {
            let (epoch, mut text) = (joined.epoch.to_string(), Vec::new());
            let none = None::<std::iter::Empty<_>>;
            let push =
                push::Joined { seq: joined.after, ..joined_push(None, &own, &epoch, joined) };
            push::joined(&mut text, &push, none);
            conn.send(out, OpCode::Text, &text);
        }
        conn.session = Session::Typed(typed);
        Session::catch_up(conn, out, shared);
    }

    /// Hands out what is owed of the past, as much as the peer takes. A member that has got everything
    /// becomes live in the same moment.
    #[cold]
    pub(crate) fn catch_up(conn: &mut Conn, out: &mut Out, shared: &Shared) {
        let Session::Typed(mut typed) = std::mem::replace(&mut conn.session, Session::None) else {
            return;
        };
        conn.flush_cork(out);
        let mut turn = TURN;
        while typed.is_behind() && conn.takes_more(out) && turn > 0 {
            let behind = typed.rooms.iter_mut().find(|member| member.behind.is_some());
            let Some(Membership { room, allowed, echo, behind: Some(behind) }) = behind else {
                break;
            };
            let mut left = CHUNK;
            let order = room.order();
            // If the room began anew in between, the client has to as well: whoever is behind was not told.
            let goes_on = order.epoch() == behind.epoch;
            let replay = match goes_on {
                false => Replay::Lost,
                true => order.replay(behind.after, |frame| {
                    conn.send_frame(out, frame);
                    left = left.saturating_sub(frame.len());
                    turn = turn.saturating_sub(frame.len());
                    left > 0
                }),
            };
            match replay {
                Replay::More(after) => behind.after = after,
                // Whoever only wanted to look back begins with what there still is.
                Replay::Lost if goes_on && !behind.promised => {
                    behind.after = order.oldest();
                    continue;
                }
                Replay::Live => {
                    let told = allowed.may(Rights::PRESENCE);
                    if told && order.presence_seq() != behind.presence_seq {
                        let mut list = Vec::new();
                        order.list(&mut list, None);
                        conn.send(out, OpCode::Text, &list);
                    }
                    let sight = Sight::of(told);
                    let enter = Post::Enter(conn.id(), Arc::clone(room), *echo, sight);
                    shared.inbox(out.worker).push(enter);
                }
                Replay::Lost => {}
            }
            drop(order);
            if replay == Replay::Lost {
                out.counters.slow_disconnects.add(1);
                conn.begin_close(out, TOO_SLOW, "too slow a reader");
                break;
            }
            if replay == Replay::Live {
                let member = typed.rooms.iter_mut().find(|member| member.behind.is_some());
                if let Some(member) = member {
                    member.behind = None;
                }
                typed.behind -= 1;
            }
            conn.flush_cork(out);
        }
        conn.session = Session::Typed(typed);
    }
}

/// The same for a room that may have to be opened first; `false` while that takes time.
///
/// # Errors
/// `unavailable` when nobody can say at the moment, and those of [`open_room`].
pub(super) fn is_reached(
    name: &str,
    since: Option<(&str, u64)>,
    caller: Caller<'_>,
    shared: &Shared,
) -> Result<bool, Fault> {
    if since.is_none() {
        return Ok(true);
    }
    let Some(room) = open_room(name, caller, shared)? else { return Ok(false) };
    match reach(&room, since, caller.asker) {
        Ok(()) | Err(Closed::Forgotten) => Ok(true),
        Err(Closed::Unavailable) => Err(Fault::new(Code::Unavailable)),
        Err(Closed::Opening) => {
            shared.release_later(&room);
            Ok(false)
        }
    }
}

/// Whether a room has come to a position that is known from another node.
fn reach(room: &Room, since: Option<(&str, u64)>, asker: Asker) -> Result<(), Closed> {
    let Some((epoch, seq)) = since else { return Ok(()) };
    room.order().reach(epoch, seq, asker)
}

/// Up to here the list of a client's rooms grows one by one.
const FEW_ROOMS: usize = 4;
/// So much of the past is handed out while a room waits.
const CHUNK: usize = 32 << 10;
/// So much is handed out to one connection before it is the others' turn.
const TURN: usize = 1 << 20;
