//! A session that outlives its connections.

mod backoff;
mod builder;
mod core;
mod driver;
mod error;
mod event;
mod feed;
mod incoming;
mod outgoing;
mod room;
mod status;

use std::sync::Arc;
use std::time::Duration;

use throng_protocol::{Timestamp, names};
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use self::builder::SessionBuilder;
use self::core::{Answer, Target};
use self::driver::{Command, Reply};
pub use self::error::{CloseReason, Refusal, SessionError};
pub use self::event::{
    HistoryQuery, JoinOptions, Joined, Page, ParseError, Position, RoomEvent, RoomMessage, Sent,
    User,
};
use self::feed::Feed;
use self::room::Reader;
pub use self::room::{Publisher, Room};
pub use self::status::{Identity, Status, StatusWatch};

/// A session with a server that speaks `throng.v1`: rooms, and messages that arrive once.
///
/// A task of the runtime keeps it connected. When a connection breaks, it opens another one
/// after a while (full-jitter exponential backoff, without giving up), resumes the session,
/// rejoins its rooms where it left them, and sends again what has not been answered, under the
/// same numbers, so that nothing is published twice. What the server cannot take at the moment
/// waits, and is sent again in its order. A server that is about to stop says when to leave it:
/// until then all goes on as before.
///
/// Clones are handles of the same session. It is closed by [`close`](Self::close), or when the
/// last handle is gone: session, [`Room`] and [`Publisher`].
///
/// It is also closed for good when the server closes with a code after which trying again would
/// not help, or answers the handshake so; see [`CloseReason`]. After code 4401 or status 401 a
/// new session begins, with a new ticket.
#[derive(Clone)]
pub struct Session {
    handle: Handle,
    returned: Arc<Notify>,
    buffer: usize,
}

impl Session {
    /// A session with the server at `url`, such as `wss://example.org/ws`.
    pub fn builder(url: &str) -> SessionBuilder {
        SessionBuilder::new(url)
    }

    /// The status now.
    pub fn status(&self) -> Status {
        self.handle.status.borrow().clone()
    }

    /// Follows the status.
    pub fn watch(&self) -> StatusWatch {
        StatusWatch(self.handle.status.clone())
    }

    /// Waits until the session is online, if it is not. Nothing else needs this: what is asked
    /// of a session waits by itself.
    ///
    /// # Errors
    ///
    /// [`Closed`](SessionError::Closed).
    pub async fn online(&self) -> Result<Arc<Identity>, SessionError> {
        let mut status = self.handle.status.clone();
        let settled = |status: &Status| matches!(status, Status::Online(_) | Status::Closed(_));
        match status.wait_for(settled).await.as_deref() {
            Ok(Status::Online(identity)) => Ok(Arc::clone(identity)),
            Ok(Status::Closed(reason)) => Err(SessionError::Closed(reason.clone())),
            _ => Err(SessionError::Closed(CloseReason::Gone)),
        }
    }

    /// Joins a room; waits until the server says so. Dropping the [`Room`], or this future,
    /// leaves it.
    ///
    /// # Errors
    ///
    /// [`Refused`](SessionError::Refused), [`Name`](SessionError::Name),
    /// [`AlreadyJoined`](SessionError::AlreadyJoined) while this session has such a room,
    /// [`Closed`](SessionError::Closed).
    pub async fn join(&self, room: &str, options: JoinOptions) -> Result<Room, SessionError> {
        let name = room.to_owned();
        self.read(|feed, buffer, reply| Command::Join { name, options, feed, buffer, reply }).await
    }

    /// The user's own room, in which [direct](Self::direct) messages arrive. Those that came
    /// before this call are not seen; its [`history`](Room::history) may have them.
    ///
    /// # Errors
    ///
    /// [`AlreadyJoined`](SessionError::AlreadyJoined) while this session has that room,
    /// [`Closed`](SessionError::Closed).
    pub async fn me(&self) -> Result<Room, SessionError> {
        self.read(|feed, buffer, reply| Command::Me { feed, buffer, reply }).await
    }

    /// Sends messages to a user, wherever that user is connected.
    ///
    /// # Errors
    ///
    /// [`Name`](SessionError::Name) for what cannot be the id of a user.
    pub fn direct(&self, user_id: &str) -> Result<Publisher, SessionError> {
        if !names::is_user(user_id) {
            return Err(SessionError::Name);
        }
        let target = Target::User(format!("@{user_id}").into());
        Ok(Publisher { target, handle: self.handle.clone() })
    }

    /// Measures the way through the server and back.
    ///
    /// # Errors
    ///
    /// [`Offline`](SessionError::Offline), [`Closed`](SessionError::Closed).
    pub async fn ping(&self) -> Result<Duration, SessionError> {
        match self.handle.ask(|reply| Command::Ping { reply }).await? {
            Answer::Pong(time) => Ok(time),
            _ => Err(SessionError::Offline),
        }
    }

    /// Shows the server a new ticket of the same user on the open connection, so that the session
    /// lasts longer, with the rights of that ticket. Until when, if it ends by itself. A resumed
    /// session keeps what it had; a new one asks for its [own](SessionBuilder::ticket).
    ///
    /// # Errors
    ///
    /// [`Refused`](SessionError::Refused) with `unauthorized` for a ticket that is no good or is of another
    /// user: then all stays as it was; [`Offline`](SessionError::Offline),
    /// [`Closed`](SessionError::Closed).
    pub async fn authenticate(
        &self,
        ticket: impl Into<String>,
    ) -> Result<Option<Timestamp>, SessionError> {
        let ticket = ticket.into();
        match self.handle.ask(|reply| Command::Auth { ticket, reply }).await? {
            Answer::Authed(expires_at) => Ok(expires_at),
            _ => Err(SessionError::Offline),
        }
    }

    /// Tries to connect now, where the session waits for its next attempt: for a program that
    /// knows that the network is back.
    pub async fn hurry(&self) {
        let _ = self.handle.commands.send(Command::Hurry).await;
    }

    /// Closes the session in good order, and waits for that. What has not been answered yet
    /// fails with [`Closed`](SessionError::Closed).
    pub async fn close(&self) {
        let _ = self.handle.commands.send(Command::Close).await;
        self.handle.closed().await;
    }

    /// Gets something to read events from.
    async fn read(
        &self,
        command: impl FnOnce(Arc<Feed>, usize, Reply) -> Command,
    ) -> Result<Room, SessionError> {
        let feed = Arc::new(Feed::new(self.buffer, Arc::clone(&self.returned)));
        // When this future is dropped, the task learns of it by this.
        let reader = Reader(Arc::clone(&feed));
        match self.handle.ask(|reply| command(feed, self.buffer, reply)).await? {
            Answer::Joined(key) => Ok(Room::new(key, reader, self.handle.clone())),
            _ => Err(SessionError::Left),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// The way to the session's task.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

impl Handle {
    async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<Answer, SessionError> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_ok()
            && let Ok(answer) = answer.await
        {
            return answer;
        }
        Err(SessionError::Closed(self.closed().await))
    }

    /// Waits for the end of the session.
    async fn closed(&self) -> CloseReason {
        let mut status = self.status.clone();
        match status.wait_for(|status| matches!(status, Status::Closed(_))).await.as_deref() {
            Ok(Status::Closed(reason)) => reason.clone(),
            _ => CloseReason::Gone,
        }
    }
}
