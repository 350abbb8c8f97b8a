//! How the connections of one endpoint are treated.

use std::time::Duration;

use throng_hub::{Rate, SlowPolicy};
use throng_wire::{CloseCode, DeflateOptions, Limits};

/// What holds for every connection of one endpoint; shared by all of them.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Largest frame, message and fragment count taken from a peer. Beyond it the connection
    /// fails with `1009` or `1008`.
    pub limits: Limits,
    /// permessage-deflate as offered to peers; `None` never compresses.
    pub deflate: Option<DeflateOptions>,
    /// Bytes that may wait for a peer that reads slowly. Default 1 MiB.
    ///
    /// A peer beyond it is not read from until it has caught up; frames of a room that would
    /// go beyond it meet [`SlowPolicy`]. Worst case kept for one connection: this, plus one
    /// message, plus one chunk of unread input.
    pub outbox: usize,
    /// What happens to frames of a room for a reader beyond `outbox`, unless the room's rule says otherwise.
    /// Default: disconnect.
    pub slow: SlowPolicy,
    /// How often one connection may send: messages by what they cost, pings, pongs, and parts of messages of
    /// less than 256 bytes. Default `None`: as often as it likes.
    ///
    /// A client of the typed protocol is refused what comes too fast (`rate_limited`), and closed with
    /// `4429` when it sends as much again all the same. Any other connection is not read from until it may
    /// go on, so that nothing is lost; that takes up to 50 ms more than it must.
    pub rate: Option<Rate>,
    /// How many bytes of messages one connection may send, decompressed, with 8 for each. As `rate`.
    pub bytes_rate: Option<Rate>,
    /// How often all connections of one signed-in user may send together. Clients of the typed protocol only.
    pub user_rate: Option<Rate>,
    /// Bytes that one connection may make us keep: what is incomplete, what waits for it, what was read and
    /// not handled yet. Default 0: as much as the other limits amount to. Beyond it an incomplete message
    /// fails with `1009`, and what would have to wait meets `slow`.
    pub budget: usize,
    /// How long a message may take from its first byte to its last; then `1008`. Default 30 s, precision
    /// 50 ms. What we do not read for reasons of ours does not count.
    pub partial_timeout: Duration,
    /// How long a room's frames may be gathered before they are written.
    pub flush: Flush,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            deflate: None,
            outbox: 1 << 20,
            slow: SlowPolicy::Disconnect,
            rate: None,
            bytes_rate: None,
            user_rate: None,
            budget: 0,
            partial_timeout: Duration::from_secs(30),
            flush: Flush::Every(Duration::ZERO),
        }
    }
}

/// When the frames that wait for a room's members are written.
///
/// Within one turn of a worker's loop frames are always gathered; this is about gathering
/// beyond it, which trades latency for writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The first message after a pause goes out at once; the following ones are held up to
    /// [`Flush::AUTO_HOLD`] apart as the worker gets busy, never when it is idle.
    Auto,
    /// Writes of one room are at least this far apart; the first after a pause goes out at
    /// once. Zero writes at the end of every turn. At most [`Flush::MAX`].
    Every(Duration),
}

impl Flush {
    /// How far apart `Auto` holds a room's writes on a busy worker.
    pub const AUTO_HOLD: Duration = Duration::from_millis(6);
    /// The longest interval that can be asked for.
    pub const MAX: Duration = Duration::from_millis(50);

    /// How far apart the writes of a room are to be now, given the share of its time the
    /// worker has lately been busy (0 to 1).
    ///
    /// `Auto` rises linearly from nothing at one third busy to [`Flush::AUTO_HOLD`] at one
    /// half: holding frees time, so the load settles in between instead of flapping.
    pub fn interval(self, busy: f32) -> Duration {
        const IDLE: f32 = 0.33;
        const FULL: f32 = 0.5;
        match self {
            Self::Every(interval) => interval.min(Self::MAX),
            Self::Auto => Self::AUTO_HOLD.mul_f32(((busy - IDLE) / (FULL - IDLE)).clamp(0.0, 1.0)),
        }
    }
}

/// The close code for a reader beyond its outbox; a client resumes and catches up
/// (`docs/protocol.md` §6).
pub(crate) const TOO_SLOW: CloseCode = code(4508);

/// The close code for a peer from which nothing came back after a ping.
pub(crate) const HEARTBEAT: CloseCode = code(4408);

/// The close code for a connection whose session another one has taken up.
pub(crate) const REPLACED: CloseCode = code(4409);

/// The close code for a session that is not good any more: revoked, or over.
pub(crate) const SIGNED_OUT: CloseCode = code(4401);

/// The close code for a client that sends too much although it is told so.
pub(crate) const ABUSE: CloseCode = code(4429);

/// The close code for somebody whose room cannot be had at the moment.
pub(crate) const TRY_LATER: CloseCode = code(1013);

/// The close code for somebody who may not be where the handshake asked for.
pub(crate) const FORBIDDEN: CloseCode = code(4403);

const fn code(code: u16) -> CloseCode {
    match CloseCode::new(code) {
        Some(code) => code,
        None => CloseCode::INTERNAL, // not reached: all that are asked for may travel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_holds_only_when_busy() {
        assert_eq!(Flush::Auto.interval(0.0), Duration::ZERO);
        assert_eq!(Flush::Auto.interval(0.3), Duration::ZERO);
        assert_eq!(Flush::Auto.interval(0.9), Flush::AUTO_HOLD);
        let between = Flush::Auto.interval(0.42);
        assert!(between > Duration::ZERO && between < Flush::AUTO_HOLD);
    }

    #[test]
    fn a_fixed_interval_is_capped() {
        assert_eq!(Flush::Every(Duration::from_secs(9)).interval(0.0), Flush::MAX);
        assert_eq!(Flush::Every(Duration::ZERO).interval(1.0), Duration::ZERO);
    }
}
