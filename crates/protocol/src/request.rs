use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use crate::command::{Fields, MAX_INTEGER};
use crate::error::{Code, Fault};
use crate::json;
use crate::names;
use crate::object::{Members, Shape};

/// The most messages a `join` may ask to see again.
pub const MAX_REWIND: u32 = 1000;

/// The most messages on a page of history.
pub const MAX_PAGE: u32 = 200;

/// The messages on a page of history when `limit` is left out.
pub const DEFAULT_PAGE: u32 = 50;

/// The most rooms a `resume` may name.
pub const MAX_RETURNS: usize = 1000;

/// The longest `epoch`, in bytes.
pub const MAX_EPOCH: usize = 64;

/// The longest ticket or token, in bytes.
pub const MAX_CREDENTIAL: usize = 8192;

/// `since`: the last message a client has of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since<'a> {
    /// The epoch of the room as the client knew it: 1–64 bytes. Opaque: any other than the
    /// room's own only says that the past is another one.
    pub epoch: Cow<'a, str>,
    /// The number of the message; 0 for none.
    pub seq: u64,
}

/// `join`: brings the connection into a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join<'a> {
    /// The room, a well-formed name.
    pub room: Cow<'a, str>,
    /// What the client has: everything behind it is wanted.
    pub since: Option<Since<'a>>,
    /// How many of the last messages are wanted: 1 to [`MAX_REWIND`].
    pub rewind: Option<u32>,
    /// Whether the client's own messages come back to it; default `true`.
    pub echo: bool,
    /// Whether the answer is to list the users; default `false`.
    pub presence: bool,
    /// The `ref`.
    pub reference: Option<u64>,
}

/// `leave`: takes the connection out of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave<'a> {
    /// The room, a well-formed name.
    pub room: Cow<'a, str>,
    /// The `ref`.
    pub reference: Option<u64>,
}

/// `history`: asks for a page of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<'a> {
    /// The room, a well-formed name; a plain client may leave it out.
    pub room: Option<Cow<'a, str>>,
    /// Only messages before this number; never set together with `after`.
    pub before: Option<u64>,
    /// Only messages after this number.
    pub after: Option<u64>,
    /// The epoch the numbers are of: 1–64 bytes.
    pub epoch: Option<Cow<'a, str>>,
    /// The most messages: 1 to [`MAX_PAGE`], by default [`DEFAULT_PAGE`].
    pub limit: u32,
    /// The `ref`.
    pub reference: Option<u64>,
}

/// `resume`: brings a connection back to the rooms of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume<'a> {
    /// The rooms in the order they were named: at most [`MAX_RETURNS`], none twice.
    pub rooms: Vec<Return<'a>>,
    /// The `ref`.
    pub reference: Option<u64>,
}

/// A room that a [`Resume`] names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return<'a> {
    /// The room, a well-formed name.
    pub room: Cow<'a, str>,
    /// What the client has of it.
    pub since: Option<Since<'a>>,
    /// The state of presence that the client knows.
    pub presence_seq: Option<u64>,
    /// Whether the client's own messages come back to it; default `true`.
    pub echo: bool,
}

/// `auth`: shows another credential for the same user, so that the session goes on.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth<'a> {
    /// What is shown.
    pub credential: Credential<'a>,
    /// The `ref`.
    pub reference: Option<u64>,
}

/// What says who somebody is: 1 to [`MAX_CREDENTIAL`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A ticket of the server.
    Ticket(Cow<'a, str>),
    /// A token of somebody else, such as a JWT.
    Token(Cow<'a, str>),
}

impl<'a> Auth<'a> {
    pub(crate) fn read(fields: &Fields<'a>, reference: Option<u64>) -> Result<Self, Fault> {
        const TEXT: &str = "`auth` needs a `ticket` or a `token`: a string of 1 to 8192 bytes.";
        let read = |raw| {
            let text = json::decode_string(raw);
            text.filter(|text| (1..=MAX_CREDENTIAL).contains(&text.len()))
                .ok_or_else(|| wrong(TEXT))
        };
        let credential = match (fields.get("ticket"), fields.get("token")) {
            (Some(ticket), None) => Credential::Ticket(read(ticket)?),
            (None, Some(token)) => Credential::Token(read(token)?),
            _ => return Err(wrong(TEXT)),
        };
        Ok(Self { credential, reference })
    }
}

impl fmt::Debug for Auth<'_> {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl<'a> Join<'a> {
    pub(crate) fn read(
        room: Option<Cow<'a, str>>,
        fields: &Fields<'a>,
        reference: Option<u64>,
    ) -> Result<Self, Fault> {
        let room = room.ok_or_else(|| wrong("`join` needs the name of a `room`."))?;
        let since = fields.get("since").map(Since::read).transpose()?;
        let rewind = fields
            .get("rewind")
            .map(|raw| small(raw, 1..=MAX_REWIND, "`rewind` must be an integer from 1 to 1000."))
            .transpose()?;
        let echo = boolean(fields.get("echo"), true, "`echo` must be true or false.")?;
        let presence = boolean(fields.get("presence"), false, "`presence` must be true or false.")?;
        Ok(Self { room, since, rewind, echo, presence, reference })
    }
}

impl<'a> Leave<'a> {
    pub(crate) fn read(room: Option<Cow<'a, str>>, reference: Option<u64>) -> Result<Self, Fault> {
        let room = room.ok_or_else(|| wrong("`leave` needs the name of a `room`."))?;
        Ok(Self { room, reference })
    }
}

impl<'a> History<'a> {
    pub(crate) fn read(
        room: Option<Cow<'a, str>>,
        fields: &Fields<'a>,
        reference: Option<u64>,
    ) -> Result<Self, Fault> {
        let before = fields
            .get("before")
            .map(|raw| integer(raw, "`before` must be an integer from 0 to 2^53-1."))
            .transpose()?;
        let after = fields
            .get("after")
            .map(|raw| integer(raw, "`after` must be an integer from 0 to 2^53-1."))
            .transpose()?;
        if before.is_some() && after.is_some() {
            return Err(wrong("A page lies `before` a message or `after` one, not both."));
        }
        let epoch = fields.get("epoch").map(epoch).transpose()?;
        let limit = fields.get("limit").map_or(Ok(DEFAULT_PAGE), |raw| {
            small(raw, 1..=MAX_PAGE, "`limit` must be an integer from 1 to 200.")
        })?;
        Ok(Self { room, before, after, epoch, limit, reference })
    }
}

impl<'a> Resume<'a> {
    pub(crate) fn read(fields: &Fields<'a>, reference: Option<u64>) -> Result<Self, Fault> {
        const SHAPE: Shape = Shape {
            limit: MAX_RETURNS,
            not_an_object: "`rooms` must be an object: for each room its name and an object.",
            too_many: "`rooms` names at most 1000 rooms.",
            twice: "`rooms` names a room twice.",
        };
        let rooms = fields.get("rooms").ok_or_else(|| wrong(SHAPE.not_an_object))?;
        let members = Members::read(rooms, &SHAPE)?;
        let rooms = members.into_iter().map(|(room, raw)| Return::read(room, raw));
        Ok(Self { rooms: rooms.collect::<Result<_, _>>()?, reference })
    }
}

impl<'a> Return<'a> {
    fn read(room: Cow<'a, str>, raw: &'a str) -> Result<Self, Fault> {
        const SHAPE: Shape = Shape {
            limit: MAX_MEMBERS,
            not_an_object: "Each of the `rooms` must be an object, such as {} or {epoch, seq}.",
            too_many: TOO_MANY,
            twice: TWICE,
        };
        if !names::is_room(&room) {
            let text = "Each name in `rooms` must be 1 to 128 characters A-Z a-z 0-9 _ . : @ / -";
            return Err(wrong(text));
        }
        let members = Members::read(raw, &SHAPE)?;
        let since = match (members.get("epoch"), members.get("seq")) {
            (None, None) => None,
            (Some(raw_epoch), Some(raw_seq)) => {
                Some(Since { epoch: epoch(raw_epoch)?, seq: integer(raw_seq, SEQ)? })
            }
            _ => return Err(wrong("Of one of the `rooms`, `epoch` or `seq` is missing.")),
        };
        let presence_seq = members
            .get("presenceSeq")
            .map(|raw| integer(raw, "`presenceSeq` must be an integer from 0 to 2^53-1."))
            .transpose()?;
        let echo = boolean(members.get("echo"), true, "`echo` must be true or false.")?;
        Ok(Self { room, since, presence_seq, echo })
    }
}

impl<'a> Since<'a> {
    fn read(raw: &'a str) -> Result<Self, Fault> {
        const SHAPE: Shape = Shape {
            limit: MAX_MEMBERS,
            not_an_object: "`since` must be an object with `epoch` and `seq`.",
            too_many: TOO_MANY,
            twice: TWICE,
        };
        let members = Members::read(raw, &SHAPE)?;
        match (members.get("epoch"), members.get("seq")) {
            (Some(raw_epoch), Some(raw_seq)) => {
                Ok(Self { epoch: epoch(raw_epoch)?, seq: integer(raw_seq, SEQ)? })
            }
            _ => Err(wrong(SHAPE.not_an_object)),
        }
    }
}

/// The most fields of an object inside of a command.
const MAX_MEMBERS: usize = 64;

const TOO_MANY: &str = "An object of the message has too many fields.";
const TWICE: &str = "Two fields of an object have the same name.";
const SEQ: &str = "`seq` must be an integer from 0 to 2^53-1.";

fn wrong(text: &'static str) -> Fault {
    Fault::new(Code::BadMessage).with_message(text)
}

// Each of these is given one well-formed JSON value, and refuses with the text what is not right.

fn integer(raw: &str, text: &'static str) -> Result<u64, Fault> {
    raw.parse().ok().filter(|number| *number <= MAX_INTEGER).ok_or_else(|| wrong(text))
}

fn small(raw: &str, range: RangeInclusive<u32>, text: &'static str) -> Result<u32, Fault> {
    raw.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| wrong(text))
}

fn boolean(raw: Option<&str>, default: bool, text: &'static str) -> Result<bool, Fault> {
    match raw {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(wrong(text)),
    }
}

fn epoch(raw: &str) -> Result<Cow<'_, str>, Fault> {
    json::decode_string(raw)
        .filter(|epoch| (1..=MAX_EPOCH).contains(&epoch.len()))
        .ok_or_else(|| wrong("`epoch` must be a string of 1 to 64 bytes."))
}
