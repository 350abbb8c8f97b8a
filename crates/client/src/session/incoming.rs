//! The messages of the server, read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::session::error::Refusal;
use crate::session::event::{RoomMessage, User, WireUser};

/// A message of the server.
pub(crate) enum Incoming<'a> {
    Connected(Connected),
    Joined(Joined),
    Resumed(Resumed),
    Left { reference: Option<u64>, room: String },
    Ack(Ack),
    History(History<'a>),
    Presence(Presence),
    UserJoined(Passage),
    UserLeft(Passage),
    Pong { reference: Option<u64> },
    Authed { reference: Option<u64>, expires_at: Option<u64> },
    Error { reference: Option<u64>, room: Option<String>, refusal: Refusal },
    Reconnect { after: Duration },
    Message { room: Cow<'a, str>, message: RoomMessage },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Connected {
    pub(crate) user_id: String,
    pub(crate) session_id: String,
    pub(crate) resume: Option<String>,
    #[serde(default)]
    pub(crate) resumed: bool,
    pub(crate) resume_window: Option<u64>,
    pub(crate) info: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) user_count: u64,
    pub(crate) heartbeat: u64,
    pub(crate) expires_at: Option<u64>,
    #[serde(default)]
    pub(crate) limits: ServerLimits,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerLimits {
    pub(crate) max_payload: Option<usize>,
}

pub(crate) struct Joined {
    pub(crate) reference: Option<u64>,
    pub(crate) room: String,
    pub(crate) place: Place,
}

/// Where a room is, as `joined` and `resumed` tell.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    #[serde(default)]
    pub(crate) epoch: String,
    #[serde(default)]
    pub(crate) seq: u64,
    #[serde(default)]
    pub(crate) recovered: bool,
    #[serde(default)]
    pub(crate) user_count: u64,
    pub(crate) presence_seq: Option<u64>,
    pub(crate) users: Option<Vec<WireUser>>,
    /// Instead of all others: why not.
    pub(crate) error: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Resumed {
    #[serde(rename = "ref")]
    pub(crate) reference: Option<u64>,
    pub(crate) rooms: BTreeMap<String, Place>,
}

#[derive(Deserialize)]
pub(crate) struct Ack {
    #[serde(rename = "ref")]
    pub(crate) reference: u64,
    pub(crate) seq: Option<u64>,
    pub(crate) timestamp: u64,
    #[serde(default)]
    pub(crate) duplicate: bool,
}

#[derive(Deserialize)]
pub(crate) struct History<'a> {
    #[serde(rename = "ref")]
    pub(crate) reference: Option<u64>,
    #[serde(default)]
    pub(crate) epoch: String,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    #[serde(default)]
    pub(crate) more: bool,
}

impl History<'_> {
    pub(crate) fn messages(&self) -> impl Iterator<Item = RoomMessage> {
        self.messages.iter().filter_map(|raw| RoomMessage::read(raw.get()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Presence {
    #[serde(rename = "ref")]
    pub(crate) reference: Option<u64>,
    pub(crate) room: String,
    pub(crate) user_count: u64,
    pub(crate) presence_seq: Option<u64>,
    pub(crate) users: Option<Vec<WireUser>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Passage {
    pub(crate) room: String,
    user_id: String,
    info: Option<Box<RawValue>>,
    pub(crate) user_count: u64,
    pub(crate) presence_seq: Option<u64>,
}

impl Passage {
    pub(crate) fn user(&self) -> User {
        let info = self.info.as_ref().map(|info| info.get().to_owned());
        User { id: self.user_id.clone(), info }
    }
}

/// Reads a text frame. `None` for what this client does not understand: it is from a newer
/// server, or broken; either way nothing can be done with it.
pub(crate) fn parse(text: &str) -> Option<Incoming<'_>> {
    let Kind { kind } = serde_json::from_str(text).ok()?;
    Some(match &*kind {
        "connected" => Incoming::Connected(read(text)?),
        "joined" => {
            // Not one structure with `flatten`: that cannot keep the text of raw values.
            let Referred { reference, room } = read(text)?;
            Incoming::Joined(Joined { reference, room: room?, place: read(text)? })
        }
        "resumed" => Incoming::Resumed(read(text)?),
        "left" => {
            let Referred { reference, room } = read(text)?;
            Incoming::Left { reference, room: room? }
        }
        "ack" => Incoming::Ack(read(text)?),
        "history" => Incoming::History(read(text)?),
        "presence" => Incoming::Presence(read(text)?),
        "user_joined" => Incoming::UserJoined(read(text)?),
        "user_left" => Incoming::UserLeft(read(text)?),
        "pong" => Incoming::Pong { reference: read::<Referred>(text)?.reference },
        "error" => {
            let error: WireError = read(text)?;
            let refusal = Refusal {
                code: error.code,
                message: error.message,
                temporary: error.temporary,
                retry_after: error.retry_after.map(millis),
            };
            Incoming::Error { reference: error.reference, room: error.room, refusal }
        }
        "reconnect" => Incoming::Reconnect { after: millis(read::<Reconnect>(text)?.after) },
        "authed" => {
            let Authed { reference, expires_at } = read(text)?;
            Incoming::Authed { reference, expires_at }
        }
        _ => {
            let room = read::<Addressed<'_>>(text)?.room;
            Incoming::Message { room, message: RoomMessage::read(text)? }
        }
    })
}

/// A time that the server gave. No longer than a day, so that no sum can overflow.
pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis.min(24 * 60 * 60 * 1000))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Addressed<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Referred {
    #[serde(rename = "ref")]
    reference: Option<u64>,
    room: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authed {
    #[serde(rename = "ref")]
    reference: Option<u64>,
    expires_at: Option<u64>,
}

#[derive(Deserialize)]
struct Reconnect {
    #[serde(default)]
    after: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireError {
    #[serde(rename = "ref")]
    reference: Option<u64>,
    room: Option<String>,
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
    retry_after: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_understood_is_left_out() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"connected"}"#,
            r#"{"type":"ack","ref":-1,"timestamp":1}"#,
            r#"{"type":"history","messages":7}"#,
            r#"{"type":"chat","room":"lobby","from":"u","seq":"1","timestamp":1}"#,
            r#"{"type":"chat","from":"u","seq":1,"timestamp":1}"#,
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_payload_may_have_fields_of_any_name() {
        let text = r#"{"type":"a\u0062","room":"lobby","from":"u","seq":3,"timestamp":1,"users":1,
            "message":{"ref":"x"},"recovered":[]}"#;
        let Some(Incoming::Message { room, message }) = parse(text) else { panic!("{text}") };
        assert_eq!((&*room, &*message.kind, message.seq), ("lobby", "ab", Some(3)));
        assert_eq!(message.json, text);
    }

    #[test]
    fn infos_stay_the_text_they_were() {
        let text = r#"{"type":"joined","room":"r","epoch":"e","seq":1,"recovered":true,
            "userCount":1,"users":[{"userId":"u","info":{"name": "Ada"}}]}"#;
        let Some(Incoming::Joined(joined)) = parse(text) else { panic!("{text}") };
        let users = joined.place.users.unwrap();
        let user = User::from(users.into_iter().next().unwrap());
        assert_eq!(user.info.as_deref(), Some(r#"{"name": "Ada"}"#));
    }

    #[test]
    fn times_of_the_server_do_not_overflow() {
        let text = r#"{"type":"reconnect","after":18446744073709551615}"#;
        let Some(Incoming::Reconnect { after }) = parse(text) else { panic!("{text}") };
        assert_eq!(after, Duration::from_secs(86_400));
    }
}
