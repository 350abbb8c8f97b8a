//! Writers of the messages of the server. Each appends one JSON object to a `Vec<u8>`, and
//! costs no allocation but the growth of that vector.

use crate::command::Publish;
use crate::error::Fault;
use crate::json::{write_number, write_string};
use crate::time::Timestamp;

/// What the server stamps on an application message.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The room it was published to.
    pub room: &'a str,
    /// The id of the user who published it.
    pub from: &'a str,
    /// Its position in the room: 1, 2, 3 …
    pub seq: u64,
    /// When; never earlier than that of the message before.
    pub timestamp: Timestamp,
}

/// An application message: `type`, the stamp, then the payload fields as the sender wrote them.
/// Grows `out` at most once.
pub fn message(out: &mut Vec<u8>, stamp: &Stamp<'_>, message: &Publish<'_>) {
    // Names of fields, punctuation and two numbers of 20 digits take 94 bytes.
    let names = message.kind.len() + stamp.room.len() + stamp.from.len();
    out.reserve(96 + names + message.fields_len());
    out.extend_from_slice(br#"{"type":"#);
    write_string(out, &message.kind);
    out.extend_from_slice(br#","room":"#);
    write_string(out, stamp.room);
    out.extend_from_slice(br#","from":"#);
    write_string(out, stamp.from);
    out.extend_from_slice(br#","seq":"#);
    write_number(out, stamp.seq);
    out.extend_from_slice(br#","timestamp":"#);
    write_number(out, stamp.timestamp.0);
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
    /// What others see of the user, as raw JSON.
    pub info: Option<&'a str>,
    /// Users in the room of a plain client, else all connected users.
    pub user_count: usize,
    /// The room of a plain client.
    pub room: Option<&'a str>,
    /// After how much silence the server pings, in milliseconds.
    pub heartbeat: u64,
    /// Now.
    pub timestamp: Timestamp,
    /// The largest message the server takes, in bytes.
    pub max_payload: usize,
}

/// `connected`.
pub fn connected(out: &mut Vec<u8>, connected: &Connected<'_>) {
    let mut object = Object::open(out, "connected");
    object.string("userId", connected.user_id);
    object.string("sessionId", connected.session_id);
    object.optional("resume", connected.resume, Object::string);
    object.optional("info", connected.info, Object::raw);
    object.number("userCount", connected.user_count as u64);
    object.optional("room", connected.room, Object::string);
    object.number("heartbeat", connected.heartbeat);
    object.number("timestamp", connected.timestamp.0);
    object.name("limits");
    object.out.extend_from_slice(br#"{"maxPayload":"#);
    write_number(object.out, connected.max_payload as u64);
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

/// `ack`: the application message with this `ref` has been published.
pub fn ack(out: &mut Vec<u8>, reference: u64, room: &str, seq: u64, timestamp: Timestamp) {
    let mut object = Object::open(out, "ack");
    object.number("ref", reference);
    object.string("room", room);
    object.number("seq", seq);
    object.number("timestamp", timestamp.0);
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

/// `presence`: how many users are in the room, and who: each as user id and what others see of
/// the user (raw JSON). Without a list, only the number is told.
pub fn presence<'a>(
    out: &mut Vec<u8>,
    reference: Option<u64>,
    room: &str,
    user_count: usize,
    users: Option<impl IntoIterator<Item = (&'a str, Option<&'a str>)>>,
) {
    let mut object = Object::open(out, "presence");
    object.optional("ref", reference, Object::number);
    object.string("room", room);
    object.number("userCount", user_count as u64);
    object.optional("users", users, |object, name, users| {
        object.name(name);
        object.out.push(b'[');
        for (position, (user_id, info)) in users.into_iter().enumerate() {
            object.out.extend_from_slice(match position {
                0 => br#"{"userId":"#,
                _ => br#",{"userId":"#,
            });
            write_string(object.out, user_id);
            object.optional("info", info, Object::raw);
            object.out.push(b'}');
        }
        object.out.push(b']');
    });
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
    object.name("temporary");
    object.out.extend_from_slice(if fault.code.is_temporary() { b"true" } else { b"false" });
    object.optional("retryAfter", retry_after, Object::number);
    object.close();
}

fn write_passage(out: &mut Vec<u8>, kind: &'static str, passage: &Passage<'_>) {
    let mut object = Object::open(out, kind);
    object.string("room", passage.room);
    object.string("userId", passage.user_id);
    object.optional("info", passage.info, Object::raw);
    object.number("userCount", passage.user_count as u64);
    object.number("timestamp", passage.timestamp.0);
    object.close();
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
