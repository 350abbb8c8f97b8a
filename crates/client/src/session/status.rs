use std::sync::Arc;
use std::time::Duration;

use throng_protocol::Timestamp;
use tokio::sync::watch;

use crate::session::error::CloseReason;

/// How a session stands with the server.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// A connection is being opened.
    Connecting,
    /// Connected; this is who we are.
    Online(Arc<Identity>),
    /// No connection; the next attempt is after this time.
    Offline {
        /// From when the status was set.
        retry_in: Duration,
    },
    /// It is over.
    Closed(CloseReason),
}

/// Who the server says we are.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id of the user.
    pub user_id: String,
    /// The id of the session.
    pub session_id: String,
    /// What others see of the user, as JSON text.
    pub info: Option<String>,
    /// Whether this session goes on from before a reconnection.
    pub resumed: bool,
    /// All connected users, when this connection began.
    pub user_count: u64,
    /// When the session ends, unless it is [renewed](crate::Session::authenticate) before. `None`
    /// where it does not end by itself, and from servers that do not tell.
    pub expires_at: Option<Timestamp>,
}

/// Follows the [`Status`] of a session.
#[derive(Clone, Debug)]
pub struct StatusWatch(pub(crate) watch::Receiver<Status>);

impl StatusWatch {
    /// The status now.
    pub fn get(&self) -> Status {
        self.0.borrow().clone()
    }

    /// Waits for a status that this watch has not seen; the latest, if there were several.
    /// `None` when the session is closed and that has been seen. Dropping the future loses
    /// nothing.
    pub async fn changed(&mut self) -> Option<Status> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
