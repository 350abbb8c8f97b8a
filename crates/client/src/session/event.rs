use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use throng_protocol::Timestamp;

use crate::session::error::{Refusal, SessionError};

/// What happens in a room, in the order it happened.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomEvent {
    /// An application message: each exactly once and in order, but for what [`Lost`](Self::Lost)
    /// tells.
    Message(RoomMessage),
    /// The room was joined; also after each reconnection, and when it goes on from elsewhere because
    /// the server has lost some of it.
    Joined(Joined),
    /// What came before this position and has not been seen, will not be: the room's history
    /// does not reach back, or the room began anew.
    Lost(Position),
    /// Somebody came.
    UserJoined {
        /// Who.
        user: User,
        /// The users in the room from now on.
        user_count: u64,
    },
    /// Somebody went.
    UserLeft {
        /// Who.
        user: User,
        /// The users in the room from now on.
        user_count: u64,
    },
    /// Who is there, where single steps were missed.
    Presence {
        /// The users in the room.
        user_count: u64,
        /// All of them, where that was [asked for](JoinOptions::presence) and there are not too
        /// many.
        users: Option<Vec<User>>,
    },
    /// Something sent to the room without waiting for an answer was refused.
    Refused(Refusal),
    /// The membership is over, not by this side. The last event.
    Ended(SessionError),
}

impl RoomEvent {
    /// What it takes of a room's buffer, in bytes.
    pub(crate) fn cost(&self) -> usize {
        let users = |users: &Option<Vec<User>>| {
            users.iter().flatten().map(|user| USER + user.len()).sum::<usize>()
        };
        EVENT
            + match self {
                Self::Message(message) => {
                    message.kind.len() + message.from.len() + message.json.len()
                }
                Self::Joined(joined) => users(&joined.users),
                Self::Presence { users: list, .. } => users(list),
                Self::UserJoined { user, .. } | Self::UserLeft { user, .. } => user.len(),
                Self::Lost(_) | Self::Refused(_) | Self::Ended(_) => 0,
            }
    }
}

/// An application message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomMessage {
    /// Its `type`.
    pub kind: String,
    /// The id of the user who sent it.
    pub from: String,
    /// Its position in the room; `None` in volatile rooms.
    pub seq: Option<u64>,
    /// When the server took it.
    pub timestamp: Timestamp,
    /// The whole message, as it came.
    pub json: String,
}

impl RoomMessage {
    /// The message as a value of the caller's own type, which finds its fields next to `type`,
    /// `room`, `from`, `seq` and `timestamp`.
    ///
    /// # Errors
    ///
    /// When the message is not of that type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        serde_json::from_str(&self.json).map_err(ParseError)
    }

    /// Reads an application message; `None` if it is not one.
    pub(crate) fn read(json: &str) -> Option<Self> {
        let stamp: Stamp<'_> = serde_json::from_str(json).ok()?;
        Some(Self {
            kind: stamp.kind.into_owned(),
            from: stamp.from.into_owned(),
            seq: stamp.seq,
            timestamp: Timestamp(stamp.timestamp),
            json: json.to_owned(),
        })
    }
}

/// A message is not of the type that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the message is not of this type: {0}")]
pub struct ParseError(serde_json::Error);

/// A user, as others see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: String,
    /// What the server tells about the user, as JSON text.
    pub info: Option<String>,
}

impl User {
    fn len(&self) -> usize {
        self.id.len() + self.info.as_ref().map_or(0, String::len)
    }
}

/// A place in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which past of the room; it changes when that is gone.
    pub epoch: String,
    /// The number of the last message before this place.
    pub seq: u64,
}

/// What the server says when a room was joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Where the room was at that moment.
    pub position: Position,
    /// After which message those begin that are told: earlier than `position` where something
    /// was missed or a rewind was asked for.
    pub start: Position,
    /// Whether nothing was lost since the last time.
    pub recovered: bool,
    /// The users in the room.
    pub user_count: u64,
    /// All of them, where that was asked for and there are not too many. Not told after a
    /// reconnection: if somebody came or went meanwhile, [`Presence`](RoomEvent::Presence)
    /// follows.
    pub users: Option<Vec<User>>,
}

/// How to join a room.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    pub(crate) since: Option<Position>,
    pub(crate) rewind: u32,
    pub(crate) presence: bool,
    pub(crate) no_echo: bool,
}

impl JoinOptions {
    /// The last so many messages come first, at most 1,000. Default 0.
    pub fn rewind(mut self, messages: u32) -> Self {
        self.rewind = messages.min(1000);
        self
    }

    /// Goes on from a position of an earlier session, see
    /// [`Room::position`](crate::Room::position). Default: from now on.
    pub fn since(mut self, position: Position) -> Self {
        self.since = Some(position);
        self
    }

    /// Whether to be told who is in the room. Default false.
    pub fn presence(mut self, wanted: bool) -> Self {
        self.presence = wanted;
        self
    }

    /// Whether the session's own messages come back. Default true. Even without, one may come
    /// after a reconnection: one whose answer was lost with the connection before.
    pub fn echo(mut self, wanted: bool) -> Self {
        self.no_echo = !wanted;
        self
    }
}

/// What the server made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its position in the room; `None` in volatile rooms.
    pub seq: Option<u64>,
    /// When the server took it.
    pub timestamp: Timestamp,
    /// The server had it already, from before a reconnection. It was published once.
    pub duplicate: bool,
}

/// Which part of a room's past to fetch.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    pub(crate) bound: Option<Bound>,
    pub(crate) limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Before(u64),
    After(u64),
}

impl HistoryQuery {
    /// The newest messages.
    pub fn newest() -> Self {
        Self::default()
    }

    /// The messages just before this number.
    pub fn before(seq: u64) -> Self {
        Self { bound: Some(Bound::Before(seq)), limit: None }
    }

    /// The messages just after this number.
    pub fn after(seq: u64) -> Self {
        Self { bound: Some(Bound::After(seq)), limit: None }
    }

    /// At most so many, 1 to 200. Default 50.
    pub fn limit(mut self, messages: u32) -> Self {
        self.limit = Some(messages.clamp(1, 200));
        self
    }
}

/// A part of a room's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Which past of the room.
    pub epoch: String,
    /// The oldest first.
    pub messages: Vec<RoomMessage>,
    /// Whether there is more in that direction.
    pub more: bool,
}

/// What the server stamps on an application message.
#[derive(Deserialize)]
struct Stamp<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    from: Cow<'a, str>,
    seq: Option<u64>,
    timestamp: u64,
}

/// A user as on the wire.
#[derive(Deserialize)]
pub(crate) struct WireUser {
    #[serde(rename = "userId")]
    id: String,
    info: Option<Box<RawValue>>,
}

impl From<WireUser> for User {
    fn from(user: WireUser) -> Self {
        Self { id: user.id, info: user.info.map(|info| info.get().to_owned()) }
    }
}

/// What an event takes besides its texts.
const EVENT: usize = 160;
/// What a user of a list takes besides the texts.
const USER: usize = 48;
