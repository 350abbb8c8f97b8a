use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Code, Fault};
use crate::json::{self, Flaw, MAX_DEPTH};
use crate::names;
use crate::request::{Auth, History, Join, Leave, Resume};

/// The longest `type`, in bytes.
pub const MAX_TYPE: usize = 64;

/// The most fields a message may have at its top level.
pub const MAX_FIELDS: usize = 256;

/// What a client asks for. Borrows from the frame it came in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command<'a> {
    /// An application message, to be published.
    Publish(Publish<'a>),
    /// `ping`: asks for a `pong`.
    Ping(Ping<'a>),
    /// `presence`: asks who is in a room.
    Presence(Presence<'a>),
    /// `join`: brings the connection into a room.
    Join(Join<'a>),
    /// `leave`: takes the connection out of a room.
    Leave(Leave<'a>),
    /// `history`: asks for a page of the past.
    History(History<'a>),
    /// `resume`: brings a connection back to its rooms.
    Resume(Resume<'a>),
    /// `auth`: shows another credential, so that the session goes on.
    Auth(Auth<'a>),
}

impl Command<'_> {
    /// The `ref`: the command wants exactly one reply, with the same `ref`.
    pub fn reference(&self) -> Option<u64> {
        match self {
            Self::Publish(publish) => publish.reference,
            Self::Ping(ping) => ping.reference,
            Self::Presence(presence) => presence.reference,
            Self::Join(join) => join.reference,
            Self::Leave(leave) => leave.reference,
            Self::History(history) => history.reference,
            Self::Resume(resume) => resume.reference,
            Self::Auth(auth) => auth.reference,
        }
    }
}

/// A message of a `type` the protocol does not reserve: the application's own.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// The `type`: 1–64 bytes without control characters.
    pub kind: Cow<'a, str>,
    /// The room it goes to, a well-formed name; a plain client may leave it out.
    pub room: Option<Cow<'a, str>>,
    /// The user it goes to instead of a room; never set together with `room`.
    pub to: Option<Cow<'a, str>>,
    /// The `ref`: an `ack` is wanted.
    pub reference: Option<u64>,
    fields: Fields<'a>,
    fields_len: usize,
}

impl<'a> Publish<'a> {
    /// The payload: every other field in the order it came, names and values as the JSON text
    /// they were (names with their quotes).
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + '_ {
        self.fields.0.iter().map(|field| (field.key, field.value))
    }

    /// The JSON text of one payload field.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.get(name)
    }

    /// How many bytes the payload takes in a message: `,"name":value` for each field.
    pub fn fields_len(&self) -> usize {
        self.fields_len
    }
}

/// `ping`: a round trip through the application's own path.
#[derive(Clone, Debug)]
pub struct Ping<'a> {
    /// The number to give back, as the JSON text it was; at most 32 bytes.
    pub sent: Option<&'a str>,
    /// The `ref`.
    pub reference: Option<u64>,
}

/// `presence`: who is in a room?
#[derive(Clone, Debug)]
pub struct Presence<'a> {
    /// The room, a well-formed name; a plain client may leave it out.
    pub room: Option<Cow<'a, str>>,
    /// The `ref`.
    pub reference: Option<u64>,
}

/// Reads one text frame of a client.
///
/// The text must be one JSON object with a string `type`. Nothing is decoded but the names and
/// values the protocol itself needs: payload stays text.
///
/// Errors, each with the `ref` if that could be read:
/// - `bad_json`: not JSON, or a string in it has a lone surrogate, which not every receiver
///   could read;
/// - `bad_message`: not an object; `type` missing, not a string, empty, longer than 64 bytes or
///   with control characters; `ref` not an integer from 1 to 2^53-1; `room` or `to` not a
///   well-formed name, or both at once; a field of a reserved type with the wrong type of value;
///   two fields of one name in one of the objects the protocol reads; more than 256 at the top
///   level; nesting deeper than 64;
/// - `reserved_field`: `from`, `seq` or `timestamp` is set, or `type` is one that only the
///   server sends.
///
/// Cost: one pass, one allocation for the list of fields (none without payload); one more for
/// each of `type`, `room`, `to` that is written with escapes, and for more than 16 fields.
/// `since` of a `join`, `rooms` of a `resume` and each entry there are read in a pass of their
/// own, with two allocations each.
pub fn parse(text: &[u8]) -> Result<Command<'_>, Fault> {
    let text = std::str::from_utf8(text)
        .map_err(|_| Fault::new(Code::BadJson).with_message("The message is not UTF-8."))?;
    let start = text.trim_start_matches(SPACE);
    if !start.starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Fault::new(Code::BadMessage).with_message("A message is one JSON object."),
            Err(_) => Fault::new(Code::BadJson),
        });
    }

    let mut message = Message::default();
    let mut reader = serde_json::Deserializer::from_str(start);
    let well_formed = reader.deserialize_map(&mut message).and_then(|()| reader.end());
    let reference = message.reference;
    let result = match (well_formed, message.fault.take()) {
        (Err(_), _) => Err(Fault::new(Code::BadJson)),
        (Ok(()), Some(fault)) => Err(fault),
        (Ok(()), None) => message.into_command(),
    };
    result.map_err(|fault| fault.with_reference(reference))
}

/// What JSON calls white space.
const SPACE: [char; 4] = [' ', '\n', '\r', '\t'];

/// The longest number that `ping` gives back.
const MAX_SENT: usize = 32;

/// The largest integer that every JSON reader keeps exact.
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// From this many fields on, duplicates are looked for by hash: a linear search of the fields
/// so far would make a message of many fields cost their square.
const FEW_FIELDS: usize = 16;

/// A field at the top level: slices of the message.
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    key: &'a str, // with its quotes
    value: &'a str,
}

/// The fields of a message that have no meaning common to all types, each name once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields<'a>(Vec<Field<'a>>);

impl<'a> Fields<'a> {
    /// The JSON text of one field.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|field| json::decode_string(field.key).is_some_and(|key| key == name))
            .map(|field| field.value)
    }
}

/// What has been read of a message so far.
#[derive(Default)]
struct Message<'a> {
    kind: Option<Cow<'a, str>>,
    room: Option<Cow<'a, str>>,
    to: Option<Cow<'a, str>>,
    reference: Option<u64>,
    fields: Fields<'a>,
    fields_len: usize,
    /// The names so far, as a set of bits for those with a meaning of their own.
    reserved: u8,
    /// All other names so far, once there are more than a few.
    seen: HashSet<Cow<'a, str>>,
    count: usize,
    /// The first thing wrong; reading goes on in search of the `ref`.
    fault: Option<Fault>,
}

const TYPE: u8 = 1;
const ROOM: u8 = 2;
const TO: u8 = 4;
const REF: u8 = 8;

impl<'a> Message<'a> {
    fn handle_field(&mut self, key: &'a str, value: &'a str) {
        self.count += 1;
        let Some(name) = json::decode_string(key) else {
            return self.refuse_flaw(Flaw::LoneSurrogate);
        };
        match &*name {
            "type" => self.handle_reserved(TYPE, value),
            "room" => self.handle_reserved(ROOM, value),
            "to" => self.handle_reserved(TO, value),
            "ref" => self.handle_reserved(REF, value),
            "from" => self.refuse(Code::ReservedField, "Only the server may set `from`."),
            "seq" => self.refuse(Code::ReservedField, "Only the server may set `seq`."),
            "timestamp" => self.refuse(Code::ReservedField, "Only the server may set `timestamp`."),
            _ => self.handle_payload(name, key, value),
        }
    }

    fn handle_reserved(&mut self, bit: u8, value: &'a str) {
        if self.reserved & bit != 0 {
            return self.refuse(Code::BadMessage, "Two fields have the same name.");
        }
        self.reserved |= bit;
        match bit {
            TYPE => match json::decode_string(value) {
                Some(kind) if is_type(&kind) => self.kind = Some(kind),
                _ => self.refuse(
                    Code::BadMessage,
                    "`type` must be a string of 1 to 64 bytes without control characters.",
                ),
            },
            ROOM => match json::decode_string(value) {
                Some(room) if names::is_room(&room) => self.room = Some(room),
                _ => self.refuse(
                    Code::BadMessage,
                    "`room` must be a string of 1 to 128 characters A-Z a-z 0-9 _ . : @ / -",
                ),
            },
            TO => match json::decode_string(value) {
                Some(to) if names::is_user(&to) => self.to = Some(to),
                _ => self.refuse(Code::BadMessage, "`to` must be the id of a user."),
            },
            _ => match value.parse() {
                Ok(reference @ 1..=MAX_INTEGER) => self.reference = Some(reference),
                _ => self.refuse(Code::BadMessage, "`ref` must be an integer from 1 to 2^53-1."),
            },
        }
    }

    fn handle_payload(&mut self, name: Cow<'a, str>, key: &'a str, value: &'a str) {
        if self.count > MAX_FIELDS {
            return self.refuse(Code::BadMessage, "A message has at most 256 fields.");
        }
        if let Err(flaw) = json::check(value, MAX_DEPTH - 1) {
            return self.refuse_flaw(flaw);
        }
        if self.fault.is_some() {
            return; // only the `ref` matters now
        }
        let known = &mut self.fields;
        if known.0.len() == FEW_FIELDS {
            self.seen.extend(known.0.iter().filter_map(|field| json::decode_string(field.key)));
        }
        let twice = if known.0.len() < FEW_FIELDS {
            known.get(&name).is_some()
        } else {
            !self.seen.insert(name)
        };
        if twice {
            return self.refuse(Code::BadMessage, "Two fields have the same name.");
        }
        self.fields_len += key.len() + value.len() + 2;
        self.fields.0.push(Field { key, value });
    }

    fn refuse(&mut self, code: Code, message: &'static str) {
        self.fault.get_or_insert_with(|| Fault::new(code).with_message(message));
    }

    fn refuse_flaw(&mut self, flaw: Flaw) {
        match flaw {
            Flaw::TooDeep => self.refuse(Code::BadMessage, "The message is nested too deeply."),
            Flaw::LoneSurrogate => {
                self.refuse(Code::BadJson, "A string of the message has a lone surrogate.");
            }
        }
    }

    fn into_command(self) -> Result<Command<'a>, Fault> {
        let fault = |text| Err(Fault::new(Code::BadMessage).with_message(text));
        let Some(kind) = self.kind else {
            return fault("A message has a `type`.");
        };
        let (room, fields, reference) = (self.room, self.fields, self.reference);
        if is_reserved(&kind) {
            return read_reserved(&kind, room, &fields, reference);
        }
        if room.is_some() && self.to.is_some() {
            return fault("A message goes to a `room` or `to` a user, not both.");
        }
        let (to, fields_len) = (self.to, self.fields_len);
        Ok(Command::Publish(Publish { kind, room, to, reference, fields, fields_len }))
    }
}

/// Whether this `type` is the protocol's own.
fn is_reserved(kind: &str) -> bool {
    matches!(
        kind,
        "ping"
            | "presence"
            | "join"
            | "leave"
            | "history"
            | "resume"
            | "auth"
            | "connected"
            | "joined"
            | "left"
            | "user_joined"
            | "user_left"
            | "ack"
            | "resumed"
            | "authed"
            | "pong"
            | "error"
            | "reconnect"
    )
}

/// Reads what is not an application message; out of line, for nearly everything is one.
#[cold]
fn read_reserved<'a>(
    kind: &str,
    room: Option<Cow<'a, str>>,
    fields: &Fields<'a>,
    reference: Option<u64>,
) -> Result<Command<'a>, Fault> {
    match kind {
        "ping" => match fields.get("sent") {
            Some(sent) if sent.len() > MAX_SENT || !is_number(sent) => {
                Err(Fault::new(Code::BadMessage).with_message("`sent` must be a number."))
            }
            sent => Ok(Command::Ping(Ping { sent, reference })),
        },
        "presence" => Ok(Command::Presence(Presence { room, reference })),
        "join" => Join::read(room, fields, reference).map(Command::Join),
        "leave" => Leave::read(room, reference).map(Command::Leave),
        "history" => History::read(room, fields, reference).map(Command::History),
        "resume" => Resume::read(fields, reference).map(Command::Resume),
        "auth" => Auth::read(fields, reference).map(Command::Auth),
        _ => {
            let text = format!("Only the server may send messages of type `{kind}`.");
            Err(Fault::new(Code::ReservedField).with_message(text))
        }
    }
}

fn is_type(kind: &str) -> bool {
    let is_plain = |kind: &str| kind.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (1..=MAX_TYPE).contains(&kind.len()) && (is_plain(kind) || !kind.chars().any(char::is_control))
}

/// Whether a well-formed JSON value is a number.
fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

impl<'de> Visitor<'de> for &mut Message<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&'de RawValue>()? {
            let value = map.next_value::<&'de RawValue>()?;
            self.handle_field(key.get(), value.get());
        }
        Ok(())
    }
}
