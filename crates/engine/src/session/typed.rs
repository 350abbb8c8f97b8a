//! A client of the typed protocol: who it is, which rooms it is in, what it asks for.

use std::sync::Arc;

use throng_hub::{
    Allowed, Asker, Closed, CountedMeter, Epoch, Identity, Joined, Order, Pass, Revoked, Rights,
    Room, Space, ids,
};
use throng_protocol::{Code, Command, Fault, History, Presence, names, parse, push};
use throng_wire::{Kind, OpCode};

use crate::admission::Permit;
use crate::clock::wall_clock;
use crate::conn::{Bill, Conn, Farewell};
use crate::engine::Shared;
use crate::inbox::{Echo, Post};
use crate::policy::{REPLACED, SIGNED_OUT};
use crate::rooms::RETRY_AFTER;
use crate::session::Session;
use crate::session::cost::MISTAKE;
use crate::session::join::{Begin, is_reached};
use crate::tick::Out;
use crate::wheel::ConnId;

/// Who comes, and what they may do.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    /// Who.
    pub who: Who,
    /// Of whoever is signed in.
    pub pass: Option<Arc<Pass>>,
}

/// Who comes, as far as the handshake told.
#[derive(Clone, Debug)]
pub enum Who {
    /// An anonymous visitor, and what it wants to be called (`?name=`): shown to others as `info.name`, cleaned
    /// by [`names::display_name`].
    Anonymous(Option<String>),
    /// Somebody who has signed in, with a new session.
    Known(Identity),
    /// Whose session is taken up again: what a genuine token says, if the session may come back.
    Resumed(Identity),
}

impl Default for Who {
    fn default() -> Self {
        Self::Anonymous(None)
    }
}

/// Where a plain client begins in its room.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The last position that it knows.
    pub since: Option<(String, u64)>,
    /// So many of the last messages.
    pub rewind: u32,
}

impl Start {
    fn is_asked_for(&self) -> bool {
        self.since.is_some() || self.rewind > 0
    }
}

/// The session of a client of the typed protocol. About 40 bytes, and 24 for each room.
pub(crate) struct Typed {
    pub(super) who: Arc<Identity>,
    /// None for anonymous visitors.
    pub(super) pass: Option<Arc<Pass>>,
    /// Of a plain client exactly one.
    pub(super) rooms: Vec<Membership>,
    pub(super) kind: Client,
    /// How many memberships are behind.
    pub(super) behind: u32,
    /// Another credential is being looked at.
    pub(super) refreshing: bool,
    /// What all connections of a signed-in user spend together, where that has a limit.
    pub(super) meter: Option<Arc<CountedMeter>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// In one room, without saying so.
    Plain,
    /// Negotiated `throng.v1`. `resuming`: it took a session up and has not named its rooms yet.
    Full { resuming: bool },
}

/// A room that somebody is in.
pub(super) struct Membership {
    pub(super) room: Arc<Room>,
    /// As of when it was joined, or of the last change.
    pub(super) allowed: Allowed,
    pub(super) echo: Echo,
    /// What is owed before live messages. Few members are behind, and not for long.
    pub(super) behind: Option<Box<Behind>>,
}

/// How far a member is behind.
#[derive(Clone, Copy)]
pub(super) struct Behind {
    /// In which its messages count.
    pub(super) epoch: Epoch,
    /// It has the messages up to this number.
    pub(super) after: u64,
    /// It knows this state of presence.
    pub(super) presence_seq: u64,
    /// It was told that nothing of this is missing.
    pub(super) promised: bool,
}

/// What a handled command comes to.
pub(super) enum Done {
    /// What was appended to the reply, if anything, is sent.
    Yes,
    /// A room is still being opened: the command is to be handled again.
    Wait,
}

/// A client that has not been greeted.
pub(crate) struct Greeting {
    who: Arc<Identity>,
    pass: Option<Arc<Pass>>,
    resumed: bool,
    room: Option<(Box<str>, Start)>,
}

impl Greeting {
    pub(super) fn new(visitor: Visitor, room: Option<(Box<str>, Start)>) -> Box<Self> {
        let (who, resumed) = match visitor.who {
            Who::Anonymous(name) => (identify(name.as_deref()), false),
            Who::Known(who) => (who, false),
            Who::Resumed(who) => (who, true),
        };
        Box::new(Self { who: Arc::new(who), pass: visitor.pass, resumed, room })
    }

    /// It does not come to it: a new session is over before it began.
    pub(super) fn abandon(&self, shared: &Shared) {
        if !self.resumed {
            shared.sessions.abandon(&self.who, self.pass.as_ref());
        }
    }

    /// Joins the room of a plain client, or the own room of another, and greets; later if the room is
    /// still being opened.
    pub(super) fn proceed(self: Box<Self>, conn: &mut Conn, out: &mut Out, shared: &Shared) {
        let own;
        let (name, start) = match &self.room {
            Some((name, start)) => (Some(&**name), start.clone()),
            None if self.resumed => (None, Start::default()),
            None => {
                own = own_room(&self.who);
                (Some(own.as_str()), Start::default())
            }
        };
        let kind = match &self.room {
            Some(_) => Client::Plain,
            None => Client::Full { resuming: self.resumed },
        };
        let (who, pass) = (Arc::clone(&self.who), self.pass.clone());
        let limited = pass.is_some() && conn.policy().user_rate.is_some();
        let meter = limited.then(|| shared.users.of(who.user_id(), out.now));
        let mut typed =
            Typed { who, pass, rooms: Vec::new(), kind, behind: 0, refreshing: false, meter };
        let mut joined = None;
        if let Some(name) = name {
            let since = start.since.as_ref().map(|(epoch, seq)| (epoch.as_str(), *seq));
            let start = throng_hub::Start { since, rewind: start.rewind };
            let begin = Begin { start, lenient: true, ..Begin::NOW };
            match typed.begin(name, &begin, conn, out, shared) {
                Ok(Some(entered)) => joined = Some(entered),
                Ok(None) => {
                    conn.session = Session::Greeting(self);
                    return conn.park(None);
                }
                Err(fault) if kind == Client::Plain => {
                    self.abandon(shared);
                    return turn_away(conn, &fault, out);
                }
                // Without its own room a full client still has all others; it is tried again.
                Err(fault) if fault.code.is_temporary() => conn.set_homeless(wall_clock()),
                Err(_) => {}
            }
        }
        let place = asker(conn, out);
        match shared.sessions.arrive(&self.who, self.pass.as_ref(), place, wall_clock()) {
            Ok(Some(older)) => {
                if let Some(inbox) = shared.inbox_of(older) {
                    let why = "another connection has taken up this session".into();
                    inbox.push(Post::Close(ConnId::from_token(older.token), REPLACED, why));
                }
            }
            Ok(None) => {}
            Err(Revoked) => {
                typed.part(out.worker, conn.id(), Farewell::Over, shared);
                return conn.begin_close(out, SIGNED_OUT, "session revoked");
            }
        }
        self.greet(conn, &typed, joined, out, shared);
        conn.session = Session::Typed(Box::new(typed));
        Session::catch_up(conn, out, shared);
    }

    fn greet(
        &self,
        conn: &mut Conn,
        typed: &Typed,
        joined: Option<Joined>,
        out: &mut Out,
        shared: &Shared,
    ) {
        let now = wall_clock();
        let plain = self.room.as_ref().zip(joined.as_ref());
        let epoch = joined.as_ref().map(|joined| joined.epoch.to_string()).unwrap_or_default();
        let token = shared.tokens.issue(&self.who, self.pass.is_some(), now);
        let mut text = Vec::new();
        push::connected(
            &mut text,
            &push::Connected {
                user_id: self.who.user_id(),
                session_id: self.who.session_id(),
                resume: Some(&token),
                resumed: self.resumed,
                resume_window: shared.sessions.window().as_millis() as u64,
                expires_at: self.pass.as_ref().and_then(|pass| pass.expires),
                info: self.who.info(),
                user_count: plain
                    .map_or_else(|| shared.sessions.all_users(), |(_, joined)| joined.user_count),
                room: plain.map(|((room, _), _)| &**room),
                position: plain.map(|((_, start), joined)| push::Position {
                    epoch: &epoch,
                    seq: joined.seq,
                    presence_seq: Some(joined.presence_seq),
                    recovered: start.is_asked_for().then_some(joined.recovered),
                }),
                heartbeat: shared.heartbeat.as_millis() as u64,
                timestamp: joined.as_ref().map_or(now, |joined| joined.timestamp),
                max_payload: conn.policy().limits.max_message,
                max_rooms: shared.max_rooms,
                ref_window: throng_hub::REF_WINDOW,
            },
        );
        conn.send(out, OpCode::Text, &text);
        if let (None, Some(own), Some(joined)) = (&self.room, typed.rooms.first(), &joined) {
            text.clear();
            let none = None::<std::iter::Empty<_>>;
            push::joined(&mut text, &joined_push(None, own.room.name(), &epoch, joined), none);
            conn.send(out, OpCode::Text, &text);
        }
    }
}

impl Typed {
    /// Enters its first room; `None` while that is being opened, or comes to where the client says that it is.
    fn begin(
        &mut self,
        name: &str,
        begin: &Begin<'_>,
        conn: &Conn,
        out: &Out,
        shared: &Shared,
    ) -> Result<Option<Joined>, Fault> {
        let caller = Caller::of(conn, out);
        if begin.start.since.is_some() {
            self.check_may_join(name, shared)?;
        }
        if !is_reached(name, begin.start.since, caller, shared)? {
            return Ok(None);
        }
        let entered = self.enter(name, begin, caller, conn.id(), out, shared)?;
        Ok(entered.map(|(joined, _)| joined))
    }

    pub(super) fn find(&self, name: &str) -> Option<&Membership> {
        self.rooms.iter().find(|member| member.room.name() == name)
    }

    pub(crate) fn is_in(&self, room: &Arc<Room>) -> bool {
        self.rooms.iter().any(|member| Arc::ptr_eq(&member.room, room))
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.behind > 0
    }

    /// Handles one message of the client.
    pub(crate) fn message(
        conn: &mut Conn,
        kind: Kind,
        payload: &[u8],
        out: &mut Out,
        shared: &Shared,
    ) {
        // Taken out meanwhile, so that the connection is free to be written to.
        let Session::Typed(mut typed) = std::mem::replace(&mut conn.session, Session::None) else {
            return;
        };
        let mut reply = Vec::new();
        let mut about = None;
        let parsed = match kind {
            Kind::Binary => Err(Fault::new(Code::UnsupportedData)),
            Kind::Text => parse(payload),
        };
        let (cost, reference) = match &parsed {
            Ok(command) => (typed.cost(command, shared), command.reference()),
            Err(fault) => (MISTAKE, fault.reference),
        };
        let urgent = matches!(parsed, Ok(Command::Ping(_)));
        let bill = Bill { cost, bytes: payload.len(), urgent, user: typed.meter.as_deref() };
        let paid = conn.admit(&bill, out);
        let paid = paid.map_err(|fault| fault.with_reference(reference));
        let done = match parsed {
            Ok(command) => {
                let done = paid.and_then(|()| typed.apply(&command, &mut reply, conn, out, shared));
                if done.is_err() {
                    about = room_of(&command).map(str::to_owned);
                }
                done
            }
            Err(fault) => Err(paid.err().unwrap_or(fault)),
        };
        conn.session = Session::Typed(typed);
        match done {
            Ok(Done::Yes) => {}
            Ok(Done::Wait) => return conn.park(Some(payload)),
            Err(fault) => {
                reply.clear();
                let retry = fault.code.is_temporary().then_some(RETRY_AFTER);
                let retry = fault.retry_after.or(retry);
                push::error(&mut reply, &fault, about.as_deref(), retry);
            }
        }
        if !reply.is_empty() {
            conn.send(out, OpCode::Text, &reply);
        }
    }

    fn apply(
        &mut self,
        command: &Command<'_>,
        reply: &mut Vec<u8>,
        conn: &mut Conn,
        out: &mut Out,
        shared: &Shared,
    ) -> Result<Done, Fault> {
        let done = match command {
            Command::Publish(message) => self.publish(message, reply, conn, out, shared),
            Command::Ping(ping) => {
                push::pong(reply, ping.reference, ping.sent, wall_clock());
                Ok(Done::Yes)
            }
            Command::Presence(presence) => self.presence(presence, reply),
            Command::History(history) => self.history(history, reply),
            Command::Join(_) | Command::Leave(_) | Command::Resume(_)
                if self.kind == Client::Plain =>
            {
                Err(Fault::new(Code::BadMessage)
                    .with_message("This command needs the subprotocol throng.v1."))
            }
            Command::Join(join) => self.join(join, reply, conn, out, shared),
            Command::Leave(leave) => self.leave(leave, reply, conn.id(), out, shared),
            Command::Resume(resume) => self.resume(resume, reply, conn, out, shared),
            Command::Auth(auth) => self.refresh(auth, conn, out, shared),
            _ => Err(Fault::new(Code::BadMessage)),
        };
        done.map_err(|fault| fault.with_reference(command.reference()))
    }

    /// The room a command is about: the one it names, or the only one of a plain client.
    pub(super) fn room(&self, named: Option<&str>) -> Result<&Membership, Fault> {
        match (named, self.kind) {
            (Some(name), _) => self.find(name).ok_or_else(|| Fault::new(Code::NotJoined)),
            (None, Client::Plain) => self.rooms.first().ok_or_else(|| Fault::new(Code::NotJoined)),
            (None, Client::Full { .. }) => {
                Err(Fault::new(Code::BadMessage).with_message("Say which `room`."))
            }
        }
    }

    /// What this client may do in a room.
    ///
    /// # Errors
    /// `unknown_room` where there can be none of this name.
    pub(super) fn allowed(&self, name: &str, shared: &Shared) -> Result<Allowed, Fault> {
        let rule = shared.hub().rule(name);
        if !rule.allow {
            return Err(Fault::new(Code::UnknownRoom));
        }
        Ok(shared.access.of(&self.who, self.pass.as_deref(), name, rule, wall_clock()))
    }

    fn presence(&self, presence: &Presence<'_>, reply: &mut Vec<u8>) -> Result<Done, Fault> {
        let member = self.room(presence.room.as_deref())?;
        member.check(Rights::PRESENCE, "You may not see who is in this room.")?;
        member.room.order().presence(reply, presence.reference)?;
        Ok(Done::Yes)
    }

    fn history(&self, history: &History<'_>, reply: &mut Vec<u8>) -> Result<Done, Fault> {
        let member = self.room(history.room.as_deref())?;
        member.check(Rights::HISTORY, "You may not read the past of this room.")?;
        let room = &member.room;
        let span = match (history.before, history.after) {
            (Some(before), _) => throng_hub::Span::Before(before),
            (None, Some(after)) => throng_hub::Span::After(after),
            (None, None) => throng_hub::Span::Newest,
        };
        let mut order = room.order();
        let (limit, epoch) = (history.limit as usize, history.epoch.as_deref());
        let page = order.history(span, limit, PAGE_BYTES, epoch, wall_clock())?;
        let epoch = order.epoch().to_string();
        drop(order);
        push::history(reply, history.reference, room.name(), &epoch, &page.messages, page.more);
        Ok(Done::Yes)
    }

    /// Leaves every room and gives the session back.
    pub(crate) fn part(&mut self, worker: usize, id: ConnId, farewell: Farewell, shared: &Shared) {
        for member in self.rooms.drain(..) {
            shared.leave(&member.room, &self.who, worker, None, farewell.of_rooms());
        }
        self.behind = 0;
        let place = Asker { worker: worker as u32, token: id.token() };
        shared.sessions.depart(&self.who, place, farewell.of_session(), wall_clock());
    }
}

impl Membership {
    /// # Errors
    /// `forbidden` with this text.
    pub(super) fn check(&self, right: Rights, text: &'static str) -> Result<(), Fault> {
        match self.allowed.may(right) {
            true => Ok(()),
            false => Err(Fault::new(Code::Forbidden).with_message(text)),
        }
    }
}

/// The name of a user's own room.
pub(super) fn own_room(who: &Identity) -> String {
    format!("@{}", who.user_id())
}

/// Who asks.
pub(super) fn asker(conn: &Conn, out: &Out) -> Asker {
    Asker { worker: out.worker as u32, token: conn.id().token() }
}

/// Who needs a room.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    /// Is told when it is open.
    pub(super) asker: Asker,
    /// Says for whom it counts when it has to be brought into being; `None`: for nobody.
    pub(super) permit: Option<&'a Permit>,
}

impl<'a> Caller<'a> {
    pub(super) fn of(conn: &'a Conn, out: &Out) -> Self {
        Self { asker: asker(conn, out), permit: conn.permit() }
    }
}

pub(super) fn joined_push<'a>(
    reference: Option<u64>,
    room: &'a str,
    epoch: &'a str,
    joined: &Joined,
) -> push::Joined<'a> {
    push::Joined {
        reference,
        room,
        epoch,
        seq: joined.seq,
        recovered: joined.recovered,
        user_count: joined.user_count,
        presence_seq: Some(joined.presence_seq),
    }
}

/// The room of this name, if it is open; `None` while it is being opened.
///
/// # Errors
/// `unavailable` when it cannot be opened at the moment, `too_many_rooms` and `overloaded` when there is not to
/// be one more.
pub(super) fn open_room(
    name: &str,
    caller: Caller<'_>,
    shared: &Shared,
) -> Result<Option<Arc<Room>>, Fault> {
    open_and(name, caller, shared, |_| {})
}

/// The same, and does something with an open room before anybody else can.
pub(super) fn open_and(
    name: &str,
    caller: Caller<'_>,
    shared: &Shared,
    first: impl Fn(&mut Order<'_>),
) -> Result<Option<Arc<Room>>, Fault> {
    loop {
        let room = shared.found(Space::ROOMS, name, caller.permit)?;
        let mut order = room.order();
        let ready = order.ready(caller.asker).map(|()| first(&mut order));
        drop(order);
        match ready {
            Ok(()) => return Ok(Some(room)),
            Err(Closed::Opening) => return Ok(None),
            Err(Closed::Unavailable) => return Err(Fault::new(Code::Unavailable)),
            Err(Closed::Forgotten) => {} // the hub makes another one
        }
    }
}

fn room_of<'a>(command: &'a Command<'_>) -> Option<&'a str> {
    match command {
        Command::Publish(message) => message.room.as_deref(),
        Command::Presence(presence) => presence.room.as_deref(),
        Command::History(history) => history.room.as_deref(),
        Command::Join(join) => Some(&join.room),
        Command::Leave(leave) => Some(&leave.room),
        _ => None,
    }
}

/// A plain client that cannot be in its room has nothing to stay for.
fn turn_away(conn: &mut Conn, fault: &Fault, out: &mut Out) {
    let mut text = Vec::new();
    let temporary = fault.code.is_temporary();
    push::error(&mut text, fault, None, temporary.then_some(RETRY_AFTER));
    conn.send(out, OpCode::Text, &text);
    let code = if temporary { crate::policy::TRY_LATER } else { crate::policy::FORBIDDEN };
    conn.begin_close(out, code, &fault.message);
}

/// A fresh anonymous user.
pub(crate) fn identify(name: Option<&str>) -> Identity {
    let (mut user, mut session) = ([0; 8], [0; 10]);
    let filled = getrandom::fill(&mut user).and_then(|()| getrandom::fill(&mut session));
    // invariant: the engine did not start without entropy, and the kernel's does not run out
    filled.expect("invariant: entropy is available");
    let name = name.and_then(names::display_name);
    Identity::anonymous(&ids::user_id(user), &ids::session_id(session), name.as_deref())
}

/// A page of history has about this many bytes at most.
const PAGE_BYTES: usize = 256 << 10;
