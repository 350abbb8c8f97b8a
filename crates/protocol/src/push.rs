//! Writers of the messages of the server. Each appends one JSON object to a `Vec<u8>`, and
//! costs no allocation but the growth of that vector.

use crate::command::Publish;
use crate::error::{Code, Fault};
use crate::json::{write_number, write_string};
use crate::time::Timestamp;

/// What the server stamps on an application message.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The room it was published to.
    pub room: &'a str,
    /// The id of the user who published it.
    pub from: &'a str,
    /// Its position in the room: 1, 2, 3 …; `None` in a volatile room, which numbers nothing.
    pub seq: Option<u64>,
    /// When; never earlier than that of the message before.
    pub timestamp: Timestamp,
}

/// An application message: `type`, the stamp, then the payload fields as the sender wrote them.
/// Grows `out` once, or twice for a `type` with escapes.
pub fn message(out: &mut Vec<u8>, stamp: &Stamp<'_>, message: &Publish<'_>) {
    out.reserve(room_for(stamp.room, stamp.from, message) + STAMP_LEN);
    write_head(out, stamp.room, stamp.from, message);
    write_stamp(out, stamp.seq, stamp.timestamp);
    write_payload(out, message);
}

/// `,"seq":` and `,"timestamp":` with two numbers of 20 digits.
pub(crate) const STAMP_LEN: usize = 60;

/// How many bytes a message takes without its stamp when its `type` needs no escapes.
pub(crate) fn room_for(room: &str, from: &str, message: &Publish<'_>) -> usize {
    31 + message.kind.len() + room.len() + from.len() + message.fields_len()
}

/// What stands before the stamp.
pub(crate) fn write_head(out: &mut Vec<u8>, room: &str, from: &str, message: &Publish<'_>) {
    out.extend_from_slice(br#"{"type":"#);
    write_string(out, &message.kind);
    out.extend_from_slice(br#","room":"#);
    write_string(out, room);
    out.extend_from_slice(br#","from":"#);
    write_string(out, from);
}

/// The stamp but for the names.
pub(crate) fn write_stamp(out: &mut Vec<u8>, seq: Option<u64>, timestamp: Timestamp) {
    if let Some(seq) = seq {
        out.extend_from_slice(br#","seq":"#);
        write_number(out, seq);
    }
    out.extend_from_slice(br#","timestamp":"#);
    write_number(out, timestamp.0);
}

/// What stands behind the stamp.
pub(crate) fn write_payload(out: &mut Vec<u8>, message: &Publish<'_>) {
    for (key, value) in message.fields() {
        out.push(b',');
        out.extend_from_slice(key.as_bytes());
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
}

/// The first message on every connection.
#[derive(Clone, Copy, Debug)]
pub struct Connected<'a> {
    /// The id of the user.
    pub user_id: &'a str,
    /// The id of the session.
    pub session_id: &'a str,
    /// The token that brings the session back.
    pub resume: Option<&'a str>,
    /// Whether this is a session that was brought back.
    pub resumed: bool,
    /// How long after the end of the connection the token is good, in milliseconds.
    pub resume_window: u64,
    /// When the session ends by itself; only of one that is signed in.
    pub expires_at: Option<Timestamp>,
    /// What others see of the user, as raw JSON.
    pub info: Option<&'a str>,
    /// Users in the room of a plain client, else all connected users.
    pub user_count: usize,
    /// The room of a plain client.
    pub room: Option<&'a str>,
    /// Where that room is.
    pub position: Option<Position<'a>>,
    /// After how much silence the server pings, in milliseconds.
    pub heartbeat: u64,
    /// Now.
    pub timestamp: Timestamp,
    /// The largest message the server takes, in bytes.
    pub max_payload: usize,
    /// The most rooms a connection may be in.
    pub max_rooms: usize,
    /// How many of a session's latest `ref`s each room remembers.
    pub ref_window: usize,
}

/// Where a room is when a connection comes to it.
#[derive(Clone, Copy, Debug)]
pub struct Position<'a> {
    /// In which its numbers count.
    pub epoch: &'a str,
    /// The number of its last message; 0 before the first.
    pub seq: u64,
    /// The state of its presence; `None` where nobody is told of it.
    pub presence_seq: Option<u64>,
    /// Whether the client gets all it missed; `None` when it did not ask for the past.
    pub recovered: Option<bool>,
}

/// `connected`.
pub fn connected(out: &mut Vec<u8>, connected: &Connected<'_>) {
    let mut object = Object::open(out, "connected");
    object.string("userId", connected.user_id);
    object.string("sessionId", connected.session_id);
    object.optional("resume", connected.resume, Object::string);
    object.boolean("resumed", connected.resumed);
    object.number("resumeWindow", connected.resume_window);
    object.optional("expiresAt", connected.expires_at.map(|at| at.0), Object::number);
    object.optional("info", connected.info, Object::raw);
    object.number("userCount", connected.user_count as u64);
    object.optional("room", connected.room, Object::string);
    if let Some(position) = &connected.position {
        object.string("epoch", position.epoch);
        object.number("seq", position.seq);
        object.optional("recovered", position.recovered, Object::boolean);
        object.optional("presenceSeq", position.presence_seq, Object::number);
    }
    object.number("heartbeat", connected.heartbeat);
    object.number("timestamp", connected.timestamp.0);
    object.name("limits");
    object.out.extend_from_slice(br#"{"maxPayload":"#);
    write_number(object.out, connected.max_payload as u64);
    object.number("maxRooms", connected.max_rooms as u64);
    object.number("refWindow", connected.ref_window as u64);
    object.out.push(b'}');
    object.close();
}

/// Somebody who came to a room or left it.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// The room.
    pub room: &'a str,
    /// The id of the user.
    pub user_id: &'a str,
    /// What others see of the user, as raw JSON.
    pub info: Option<&'a str>,
    /// The users in the room from now on.
    pub user_count: usize,
    /// The state of presence from now on.
    pub presence_seq: u64,
    /// When.
    pub timestamp: Timestamp,
}

/// `user_joined`.
pub fn user_joined(out: &mut Vec<u8>, passage: &Passage<'_>) {
    write_passage(out, "user_joined", passage);
}

/// `user_left`.
pub fn user_left(out: &mut Vec<u8>, passage: &Passage<'_>) {
    write_passage(out, "user_left", passage);
}

/// What became of an application message with a `ref`.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// The `ref`.
    pub reference: u64,
    /// The room it was published to.
    pub room: &'a str,
    /// Its position there; `None` in a volatile room.
    pub seq: Option<u64>,
    /// Its time.
    pub timestamp: Timestamp,
    /// Whether it had been published before, by a publish with the same `ref`.
    pub duplicate: bool,
}

/// `ack`: the application message with this `ref` has been published.
pub fn ack(out: &mut Vec<u8>, ack: &Ack<'_>) {
    let mut object = Object::open(out, "ack");
    object.number("ref", ack.reference);
    object.string("room", ack.room);
    object.optional("seq", ack.seq, Object::number);
    object.number("timestamp", ack.timestamp.0);
    object.optional("duplicate", ack.duplicate.then_some(true), Object::boolean);
    object.close();
}

/// `pong`, with the number of the `ping` as it was written.
pub fn pong(out: &mut Vec<u8>, reference: Option<u64>, sent: Option<&str>, timestamp: Timestamp) {
    let mut object = Object::open(out, "pong");
    object.optional("ref", reference, Object::number);
    object.optional("sent", sent, Object::raw);
    object.number("timestamp", timestamp.0);
    object.close();
}

/// The room a connection has come to.
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a> {
    /// The `ref` of the `join`; `None` when the server itself brought the connection there.
    pub reference: Option<u64>,
    /// The room.
    pub room: &'a str,
    /// In which its numbers count.
    pub epoch: &'a str,
    /// The number of its last message; 0 before the first.
    pub seq: u64,
    /// Whether the client gets all it missed.
    pub recovered: bool,
    /// The users in the room.
    pub user_count: usize,
    /// The state of its presence; `None` where nobody is told of it.
    pub presence_seq: Option<u64>,
}

/// `joined`, with the users as for [`presence`] if they are to be listed.
pub fn joined<'a>(
    out: &mut Vec<u8>,
    joined: &Joined<'_>,
    users: Option<impl IntoIterator<Item = (&'a str, Option<&'a str>)>>,
) {
    let mut object = Object::open(out, "joined");
    object.optional("ref", joined.reference, Object::number);
    object.string("room", joined.room);
    object.string("epoch", joined.epoch);
    object.number("seq", joined.seq);
    object.boolean("recovered", joined.recovered);
    object.number("userCount", joined.user_count as u64);
    object.optional("presenceSeq", joined.presence_seq, Object::number);
    object.optional("users", users, Object::users);
    object.close();
}

/// `left`.
pub fn left(out: &mut Vec<u8>, reference: Option<u64>, room: &str) {
    let mut object = Object::open(out, "left");
    object.optional("ref", reference, Object::number);
    object.string("room", room);
    object.close();
}

/// `history`: a page of messages, oldest first, each the JSON as it was sent when it was live,
/// and whether there are more of those asked for.
pub fn history(
    out: &mut Vec<u8>,
    reference: Option<u64>,
    room: &str,
    epoch: &str,
    messages: impl IntoIterator<Item = impl AsRef<[u8]>>,
    more: bool,
) {
    let mut object = Object::open(out, "history");
    object.optional("ref", reference, Object::number);
    object.string("room", room);
    object.string("epoch", epoch);
    object.name("messages");
    object.list(messages, |out, message| out.extend_from_slice(message.as_ref()));
    object.boolean("more", more);
    object.close();
}

/// A room a connection has come back to.
#[derive(Clone, Copy, Debug)]
pub struct Resumed<'a> {
    /// Whether the client gets all it missed.
    pub recovered: bool,
    /// In which the room's numbers count.
    pub epoch: &'a str,
    /// The number of its last message; 0 before the first.
    pub seq: u64,
    /// The users in the room.
    pub user_count: usize,
    /// The state of its presence; `None` where nobody is told of it.
    pub presence_seq: Option<u64>,
}

/// `resumed`: what became of each room that was named.
pub fn resumed<'a>(
    out: &mut Vec<u8>,
    reference: Option<u64>,
    rooms: impl IntoIterator<Item = (&'a str, Result<Resumed<'a>, Code>)>,
) {
    let mut object = Object::open(out, "resumed");
    object.optional("ref", reference, Object::number);
    object.name("rooms");
    object.out.push(b'{');
    for (position, (room, result)) in rooms.into_iter().enumerate() {
        if position > 0 {
            object.out.push(b',');
        }
        write_string(object.out, room);
        match result {
            Ok(resumed) => {
                object.out.extend_from_slice(br#":{"recovered":"#);
                write_boolean(object.out, resumed.recovered);
                object.string("epoch", resumed.epoch);
                object.number("seq", resumed.seq);
                object.number("userCount", resumed.user_count as u64);
                object.optional("presenceSeq", resumed.presence_seq, Object::number);
            }
            Err(code) => {
                object.out.extend_from_slice(br#":{"error":"#);
                write_string(object.out, code.name());
            }
        }
        object.out.push(b'}');
    }
    object.out.push(b'}');
    object.close();
}

/// `presence`: how many users are in the room, and who: each as user id and what others see of
/// the user (raw JSON). Without a list, only the number is told.
pub fn presence<'a>(
    out: &mut Vec<u8>,
    reference: Option<u64>,
    room: &str,
    user_count: usize,
    presence_seq: Option<u64>,
    users: Option<impl IntoIterator<Item = (&'a str, Option<&'a str>)>>,
) {
    let mut object = Object::open(out, "presence");
    object.optional("ref", reference, Object::number);
    object.string("room", room);
    object.number("userCount", user_count as u64);
    object.optional("presenceSeq", presence_seq, Object::number);
    object.optional("users", users, Object::users);
    object.close();
}

/// `authed`: the session goes on, until then if it ends by itself.
pub fn authed(out: &mut Vec<u8>, reference: Option<u64>, expires_at: Option<Timestamp>) {
    let mut object = Object::open(out, "authed");
    object.optional("ref", reference, Object::number);
    object.optional("expiresAt", expires_at.map(|at| at.0), Object::number);
    object.close();
}

/// `reconnect`: the server is about to close, and this client is to come back after so many
/// milliseconds.
pub fn reconnect(out: &mut Vec<u8>, after: u64) {
    let mut object = Object::open(out, "reconnect");
    object.number("after", after);
    object.close();
}

/// `error`, about a room when it is known, and with the milliseconds after which trying again
/// may help.
pub fn error(out: &mut Vec<u8>, fault: &Fault, room: Option<&str>, retry_after: Option<u64>) {
    let mut object = Object::open(out, "error");
    object.optional("ref", fault.reference, Object::number);
    object.optional("room", room, Object::string);
    object.string("code", fault.code.name());
    object.string("message", &fault.message);
    object.boolean("temporary", fault.code.is_temporary());
    object.optional("retryAfter", retry_after, Object::number);
    object.close();
}

fn write_passage(out: &mut Vec<u8>, kind: &'static str, passage: &Passage<'_>) {
    let mut object = Object::open(out, kind);
    object.string("room", passage.room);
    object.string("userId", passage.user_id);
    object.optional("info", passage.info, Object::raw);
    object.number("userCount", passage.user_count as u64);
    object.number("presenceSeq", passage.presence_seq);
    object.number("timestamp", passage.timestamp.0);
    object.close();
}

fn write_boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// An object under construction. Names are ours and need no escapes.
struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>, kind: &'static str) -> Self {
        out.reserve(256);
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        Self { out }
    }

    fn name(&mut self, name: &'static str) {
        self.out.extend_from_slice(br#",""#);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(br#"":"#);
    }

    fn string(&mut self, name: &'static str, value: &str) {
        self.name(name);
        write_string(self.out, value);
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        write_number(self.out, value);
    }

    fn raw(&mut self, name: &'static str, value: &str) {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
    }

    fn boolean(&mut self, name: &'static str, value: bool) {
        self.name(name);
        write_boolean(self.out, value);
    }

    fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        self.out.push(b'[');
        for (position, item) in items.into_iter().enumerate() {
            if position > 0 {
                self.out.push(b',');
            }
            write(self.out, item);
        }
        self.out.push(b']');
    }

    fn users<'u>(
        &mut self,
        name: &'static str,
        users: impl IntoIterator<Item = (&'u str, Option<&'u str>)>,
    ) {
        self.name(name);
        self.list(users, |out, (user_id, info)| {
            out.extend_from_slice(br#"{"userId":"#);
            write_string(out, user_id);
            let mut object = Object { out };
            object.optional("info", info, Object::raw);
            object.close();
        });
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        value: Option<T>,
        write: impl Fn(&mut Self, &'static str, T),
    ) {
        if let Some(value) = value {
            write(self, name, value);
        }
    }

    fn close(self) {
        self.out.push(b'}');
    }
}
