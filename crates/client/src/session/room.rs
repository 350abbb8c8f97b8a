use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::session::Handle;
use crate::session::core::{Answer, RoomKey, Target};
use crate::session::driver::Command;
use crate::session::error::SessionError;
use crate::session::event::{HistoryQuery, Page, Position, RoomEvent, RoomMessage, Sent, User};
use crate::session::feed::Feed;
use crate::session::outgoing::Body;

/// A room that the session is in. Dropping it leaves the room.
///
/// What comes waits in a buffer of [limited size](crate::SessionBuilder::buffer). When that is
/// full because nobody calls [`next`](Self::next), messages are not kept; they are fetched from
/// the room's history as soon as there is room again, in their order and without holes. Where
/// the history does not reach back so far, [`Lost`](RoomEvent::Lost) says so. Other rooms, and
/// answers, are not held up by a slow reader. Messages of volatile rooms have no history and are
/// dropped.
pub struct Room {
    key: RoomKey,
    reader: Reader,
    publisher: Publisher,
    position: Option<Position>,
    user_count: u64,
    users: Option<BTreeMap<String, User>>,
}

impl Room {
    pub(crate) fn new(key: RoomKey, reader: Reader, handle: Handle) -> Self {
        let publisher = Publisher { target: Target::Room(key), handle };
        Self { key, reader, publisher, position: None, user_count: 0, users: None }
    }

    /// What happens next in the room; `None` after the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<RoomEvent> {
        let event = self.reader.0.next().await?;
        self.follow(&event);
        Some(event)
    }

    /// The next message: like [`next`](Self::next), for those who want nothing else.
    pub async fn next_message(&mut self) -> Option<RoomMessage> {
        loop {
            if let RoomEvent::Message(message) = self.next().await? {
                return Some(message);
            }
        }
    }

    /// Publishes a message in the room, see [`Publisher::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&self, message: &impl Serialize) -> Result<Sent, SessionError> {
        self.publisher.send(message).await
    }

    /// Publishes a message without making sure of it, see [`Publisher::send_volatile`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send_volatile(&self, message: &impl Serialize) -> Result<(), SessionError> {
        self.publisher.send_volatile(message).await
    }

    /// Publishes messages from elsewhere, while this reads.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Fetches a part of the room's past; waits for a connection where there is none.
    ///
    /// # Errors
    ///
    /// [`Refused`](SessionError::Refused), [`Left`](SessionError::Left),
    /// [`Closed`](SessionError::Closed).
    pub async fn history(&self, query: HistoryQuery) -> Result<Page, SessionError> {
        let key = self.key;
        let handle = &self.publisher.handle;
        match handle.ask(|reply| Command::History { key, query, reply }).await? {
            Answer::Page(page) => Ok(page),
            _ => Err(SessionError::Left),
        }
    }

    /// Up to where the room has been read: what [`JoinOptions::since`](crate::JoinOptions::since)
    /// takes, in this program or its next run. `None` before the first
    /// [`Joined`](RoomEvent::Joined) has been read, and for volatile rooms of no use.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The users in the room, as of what has been read.
    pub fn user_count(&self) -> u64 {
        self.user_count
    }

    /// Who is in the room, as of what has been read, by id. `None` where that was not
    /// [asked for](crate::JoinOptions::presence), the room does not tell, or there are too many.
    pub fn users(&self) -> Option<impl ExactSizeIterator<Item = &User>> {
        self.users.as_ref().map(BTreeMap::values)
    }

    /// Leaves the room; waits for the server to say so, or for the connection to break.
    pub async fn leave(self) {
        let key = self.key;
        let _ = self.publisher.handle.ask(|reply| Command::Leave { key, reply }).await;
    }

    fn follow(&mut self, event: &RoomEvent) {
        match event {
            RoomEvent::Message(message) => {
                if let (Some(seq), Some(position)) = (message.seq, &mut self.position) {
                    position.seq = seq;
                }
            }
            RoomEvent::Lost(position) => self.position = Some(position.clone()),
            RoomEvent::Joined(joined) => {
                self.user_count = joined.user_count;
                if let Some(users) = &joined.users {
                    self.users = Some(by_id(users));
                }
                self.position.get_or_insert_with(|| joined.start.clone());
            }
            RoomEvent::UserJoined { user, user_count } => {
                self.user_count = *user_count;
                if let Some(users) = &mut self.users {
                    users.insert(user.id.clone(), user.clone());
                }
            }
            RoomEvent::UserLeft { user, user_count } => {
                self.user_count = *user_count;
                if let Some(users) = &mut self.users {
                    users.remove(&user.id);
                }
            }
            RoomEvent::Presence { user_count, users } => {
                self.user_count = *user_count;
                self.users = users.as_ref().map(|users| by_id(users));
            }
            RoomEvent::Refused(_) | RoomEvent::Ended(_) => {}
        }
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("position", &self.position)
            .field("user_count", &self.user_count)
            .finish_non_exhaustive()
    }
}

/// Publishes messages in a room, or to a user. Clones do the same.
#[derive(Clone)]
pub struct Publisher {
    pub(crate) target: Target,
    pub(crate) handle: Handle,
}

impl Publisher {
    /// Publishes a message and waits for the server's answer. `message` is anything that
    /// serialises to an object with a `type`, such as `serde_json::json!({"type": "chat"})`.
    ///
    /// Without a connection it waits in the [outbox](crate::SessionBuilder::outbox), and so it
    /// does where the server refuses it for a while only. The messages of one room are
    /// published in the order of the calls, but for one that was refused for a while: those
    /// that were on their way already overtake it. Up to 64 of a room are on their way at once.
    ///
    /// Dropping the future does not take the message back.
    ///
    /// # Errors
    ///
    /// [`Invalid`](SessionError::Invalid), [`TooLarge`](SessionError::TooLarge),
    /// [`Full`](SessionError::Full), [`Refused`](SessionError::Refused),
    /// [`Uncertain`](SessionError::Uncertain), [`Left`](SessionError::Left),
    /// [`Closed`](SessionError::Closed).
    pub async fn send(&self, message: &impl Serialize) -> Result<Sent, SessionError> {
        let body = Body::new(message)?;
        let target = self.target.clone();
        match self.handle.ask(|reply| Command::Publish { target, body, reply }).await? {
            Answer::Sent(sent) => Ok(sent),
            _ => Err(SessionError::Left),
        }
    }

    /// Publishes a message at most once, if there is a connection that takes it now, and
    /// otherwise not at all: for what is worthless later, such as who is typing. Nothing says
    /// whether it was published.
    ///
    /// # Errors
    ///
    /// [`Invalid`](SessionError::Invalid).
    pub async fn send_volatile(&self, message: &impl Serialize) -> Result<(), SessionError> {
        let body = Body::new(message)?;
        let target = self.target.clone();
        // The task is never busy for long; a closed session drops it like one without
        // connection.
        let _ = self.handle.commands.send(Command::Volatile { target, body }).await;
        Ok(())
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("target", &self.target).finish_non_exhaustive()
    }
}

/// The reading end of a feed; dropping it tells the task.
pub(crate) struct Reader(pub(crate) Arc<Feed>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn by_id(users: &[User]) -> BTreeMap<String, User> {
    users.iter().map(|user| (user.id.clone(), user.clone())).collect()
}
