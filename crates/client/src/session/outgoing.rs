//! What the client sends, written.

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer as _, Serialize};
use throng_protocol::write_string;

use crate::session::error::SessionError;
use crate::session::event::{Bound, HistoryQuery, JoinOptions, Position};

/// One of our own commands: an object that is written field by field.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: &'static str) -> Self {
        let mut writer = Self(Vec::with_capacity(128));
        writer.0.extend_from_slice(br#"{"type":""#);
        writer.0.extend_from_slice(kind.as_bytes());
        writer.0.push(b'"');
        writer
    }

    pub(crate) fn string(mut self, name: &'static str, value: &str) -> Self {
        self.name(name);
        write_string(&mut self.0, value);
        self
    }

    pub(crate) fn number(mut self, name: &'static str, value: u64) -> Self {
        self.name(name);
        self.0.extend_from_slice(value.to_string().as_bytes());
        self
    }

    pub(crate) fn bool(mut self, name: &'static str, value: bool) -> Self {
        self.name(name);
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push(b'}');
        String::from_utf8(self.0).unwrap_or_default() // only texts went in
    }

    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(br#",""#);
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(br#"":"#);
    }

    fn since(mut self, position: &Position) -> Self {
        self.name("since");
        self.0.extend_from_slice(br#"{"epoch":"#);
        write_string(&mut self.0, &position.epoch);
        self.0.extend_from_slice(format!(r#","seq":{}}}"#, position.seq).as_bytes());
        self
    }
}

/// `join`.
pub(crate) fn join(
    reference: u64,
    room: &str,
    options: &JoinOptions,
    since: Option<&Position>,
) -> String {
    let mut writer = Writer::new("join").string("room", room);
    if let Some(position) = since {
        writer = writer.since(position);
    } else if options.rewind > 0 {
        writer = writer.number("rewind", options.rewind.into());
    }
    if options.no_echo {
        writer = writer.bool("echo", false);
    }
    if options.presence {
        writer = writer.bool("presence", true);
    }
    writer.number("ref", reference).finish()
}

/// `history`.
pub(crate) fn history(
    reference: u64,
    room: &str,
    query: &HistoryQuery,
    epoch: Option<&str>,
) -> String {
    let mut writer = Writer::new("history").string("room", room);
    writer = match query.bound {
        None => writer,
        Some(Bound::Before(seq)) => writer.number("before", seq),
        Some(Bound::After(seq)) => writer.number("after", seq),
    };
    if let Some(epoch) = epoch {
        writer = writer.string("epoch", epoch);
    }
    writer.number("limit", query.limit.unwrap_or(50).into()).number("ref", reference).finish()
}

/// A room as the `resume` frame names it.
pub(crate) struct Place<'a> {
    pub(crate) room: &'a str,
    pub(crate) position: Option<Position>,
    pub(crate) presence_seq: Option<u64>,
    pub(crate) no_echo: bool,
}

/// `resume`.
pub(crate) fn resume<'a>(reference: u64, places: impl Iterator<Item = Place<'a>>) -> String {
    let mut out = br#"{"type":"resume","rooms":{"#.to_vec();
    for (index, place) in places.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(&mut out, place.room);
        out.extend_from_slice(b":{");
        let mut first = true;
        let mut field = |out: &mut Vec<u8>, name: &str, value: &dyn Fn(&mut Vec<u8>)| {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            out.extend_from_slice(format!(r#""{name}":"#).as_bytes());
            value(out);
        };
        if let Some(position) = &place.position {
            field(&mut out, "epoch", &|out| write_string(out, &position.epoch));
            field(&mut out, "seq", &|out| {
                out.extend_from_slice(position.seq.to_string().as_bytes())
            });
        }
        if let Some(seq) = place.presence_seq {
            field(&mut out, "presenceSeq", &|out| {
                out.extend_from_slice(seq.to_string().as_bytes());
            });
        }
        if place.no_echo {
            field(&mut out, "echo", &|out| out.extend_from_slice(b"false"));
        }
        out.push(b'}');
    }
    out.extend_from_slice(format!(r#"}},"ref":{reference}}}"#).as_bytes());
    String::from_utf8(out).unwrap_or_default() // only texts went in
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// To a room, by its name.
    Room,
    /// To a user; the lane has the name of the user's own room.
    User,
}

/// The text of a message in its envelope. `lane` is the name of the room, `@` and the id for a
/// user.
pub(crate) fn publish(
    message: &Body,
    address: Address,
    lane: &str,
    reference: Option<u64>,
) -> String {
    let mut out = Vec::with_capacity(message.0.len() + lane.len() + 40);
    match address {
        Address::Room => {
            out.extend_from_slice(br#"{"room":"#);
            write_string(&mut out, lane);
        }
        Address::User => {
            out.extend_from_slice(br#"{"to":"#);
            write_string(&mut out, lane.strip_prefix('@').unwrap_or(lane));
        }
    }
    if let Some(reference) = reference {
        out.extend_from_slice(format!(r#","ref":{reference}"#).as_bytes());
    }
    out.push(b',');
    out.extend_from_slice(&message.0.as_bytes()[1..]);
    String::from_utf8(out).unwrap_or_default() // only texts went in
}

/// An application message that can be sent: the text of an object that has a `type`.
#[derive(Clone, Debug)]
pub(crate) struct Body(String);

impl Body {
    /// Writes `message` and checks it.
    pub(crate) fn new(message: &impl Serialize) -> Result<Self, SessionError> {
        let text = serde_json::to_string(message)
            .map_err(|_| SessionError::Invalid("it cannot be written as JSON"))?;
        let mut check = Check { kind: None, fault: None };
        let mut reader = serde_json::Deserializer::from_str(&text);
        if reader.deserialize_map(&mut check).is_err() {
            return Err(SessionError::Invalid("it is not an object"));
        }
        match check {
            Check { fault: Some(fault), .. } => Err(SessionError::Invalid(fault)),
            Check { kind: None, .. } => Err(SessionError::Invalid("it has no type")),
            // Raw values may bring white space along; what is spliced is behind the brace.
            Check { .. } if !text.starts_with('{') => {
                Err(SessionError::Invalid("it does not begin with a brace"))
            }
            Check { .. } => Ok(Self(text)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Looks at the fields of a message.
struct Check {
    kind: Option<()>,
    fault: Option<&'static str>,
}

impl<'de> Visitor<'de> for &mut Check {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "type" {
                let kind = map.next_value::<serde_json::Value>()?;
                match kind.as_str() {
                    None => self.fault = Some("its type is not a string"),
                    Some(kind) if RESERVED.contains(&kind) => {
                        self.fault = Some("its type belongs to the protocol");
                    }
                    Some(_) => self.kind = Some(()),
                }
                continue;
            }
            if STAMPED.contains(&&*name) {
                self.fault = Some("it has a field that belongs to the protocol");
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Types that are no application messages.
const RESERVED: [&str; 18] = [
    "join",
    "leave",
    "history",
    "presence",
    "resume",
    "auth",
    "ping",
    "connected",
    "joined",
    "left",
    "user_joined",
    "user_left",
    "ack",
    "resumed",
    "authed",
    "pong",
    "error",
    "reconnect",
];

/// Fields that the session or the server sets.
const STAMPED: [&str; 6] = ["room", "to", "ref", "from", "seq", "timestamp"];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_messages_can_be_sent() {
        for (message, why) in [
            (json!([1]), "it is not an object"),
            (json!("x"), "it is not an object"),
            (json!({}), "it has no type"),
            (json!({"type": 1}), "its type is not a string"),
            (json!({"type": "join"}), "its type belongs to the protocol"),
            (json!({"type": "chat", "ref": 1}), "it has a field that belongs to the protocol"),
            (json!({"type": "chat", "room": "x"}), "it has a field that belongs to the protocol"),
        ] {
            let error = Body::new(&message).unwrap_err();
            assert_eq!(error, SessionError::Invalid(why), "{message}");
        }
        assert!(Body::new(&json!({"type": "chat"})).is_ok());
    }

    #[test]
    fn envelopes_are_json() {
        let body = Body::new(&json!({"type": "chat", "text": "\"hi\" }"})).unwrap();
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(
            read(publish(&body, Address::Room, "a:1", Some(7))),
            json!({"type": "chat", "text": "\"hi\" }", "room": "a:1", "ref": 7})
        );
        assert_eq!(
            read(publish(&body, Address::User, "@u_1", None)),
            json!({"type": "chat", "text": "\"hi\" }", "to": "u_1"})
        );
        let position = Position { epoch: "e".into(), seq: 3 };
        let options = JoinOptions::default().rewind(5).presence(true).echo(false);
        assert_eq!(
            read(join(1, "r", &options, None)),
            json!({"type": "join", "room": "r", "rewind": 5, "echo": false, "presence": true, "ref": 1})
        );
        assert_eq!(
            read(join(1, "r", &JoinOptions::default(), Some(&position))),
            json!({"type": "join", "room": "r", "since": {"epoch": "e", "seq": 3}, "ref": 1})
        );
        assert_eq!(
            read(history(2, "r", &HistoryQuery::after(3).limit(999), Some("e"))),
            json!({"type": "history", "room": "r", "after": 3, "epoch": "e", "limit": 200, "ref": 2})
        );
        let places = [
            Place { room: "a", position: Some(position), presence_seq: Some(4), no_echo: true },
            Place { room: "b", position: None, presence_seq: None, no_echo: false },
        ];
        assert_eq!(
            read(resume(3, places.into_iter())),
            json!({"type": "resume", "ref": 3,
                "rooms": {"a": {"epoch": "e", "seq": 3, "presenceSeq": 4, "echo": false}, "b": {}}})
        );
    }
}
