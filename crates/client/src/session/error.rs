use std::fmt;
use std::time::Duration;

use throng_protocol::Code;

/// Why something asked of a session did not happen.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    // The caller.
    /// Not a message: it must serialise to an object with a `type` that the protocol does not
    /// reserve, and without `room`, `to`, `ref`, `from`, `seq`, `timestamp`.
    #[error("not a message that can be sent: {0}")]
    Invalid(&'static str),
    /// The name of a room or the id of a user is not one.
    #[error("not a well-formed name")]
    Name,
    /// The session has a [`Room`](crate::Room) of that name already.
    #[error("the session is in this room already")]
    AlreadyJoined,
    /// The room was left, or its membership ended, before this was done.
    #[error("not in the room any more")]
    Left,
    /// Longer than the server takes.
    #[error("a message of {len} bytes, where the server takes {limit}")]
    TooLarge {
        /// The length of the message with its envelope, in bytes.
        len: usize,
        /// What the server takes.
        limit: usize,
    },
    /// The [outbox](crate::SessionBuilder::outbox), or the list of open requests, is full.
    #[error("too much is waiting to be sent")]
    Full,

    // The way.
    /// Sent, but the connection broke before the answer, or the answer was that it cannot be
    /// stored for now; and the server does not know the session any more: it may have been
    /// published or not.
    #[error("it is not known whether this was published")]
    Uncertain,
    /// The connection broke before the answer to a ping.
    #[error("not connected")]
    Offline,
    /// The session has ended.
    #[error("the session is closed: {0}")]
    Closed(CloseReason),

    // The server.
    /// The server says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// An `error` message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name in the error table, such as `forbidden`.
    pub code: String,
    /// The same for people.
    pub message: String,
    /// Whether the same may succeed later.
    pub temporary: bool,
    /// After how long.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// The row of the error table; `None` for a code newer than this client.
    pub fn known(&self) -> Option<Code> {
        Code::from_name(&self.code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// Why a session is closed for good.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// [`close`](crate::Session::close) was called, or all handles were dropped.
    Ours,
    /// The server closed with a code after which trying again would not help, such as 4403, or
    /// 4409: another connection has taken the session over.
    Code {
        /// The close code.
        code: u16,
        /// The server's words, often empty.
        reason: String,
    },
    /// The handshake was answered with a status after which trying again would not help.
    Status(u16),
    /// Settings that no connection can be made with.
    Settings(String),
    /// The task of the session is gone, with its runtime.
    Gone,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("by this side"),
            Self::Code { code, reason } if reason.is_empty() => write!(f, "by code {code}"),
            Self::Code { code, reason } => write!(f, "by code {code}, {reason}"),
            Self::Status(status) => write!(f, "the handshake was answered {status}"),
            Self::Settings(why) => f.write_str(why),
            Self::Gone => f.write_str("its runtime has ended"),
        }
    }
}
