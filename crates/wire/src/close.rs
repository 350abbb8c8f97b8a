//! The closing handshake (RFC 6455 §5.5.1, §7).

use std::fmt;

use crate::error::ProtocolError;

/// Why a connection closes: a number that may travel in a Close frame (RFC 6455 §7.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server goes down, or the user left the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// A kind of data that is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// A message that is not what it says, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The message breaks a rule of ours.
    pub const POLICY: Self = Self(1008);
    /// The message is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// A client needs an extension that the server did not agree to.
    pub const EXTENSION: Self = Self(1010);
    /// Something unexpected went wrong in the server.
    pub const INTERNAL: Self = Self(1011);
    /// The server restarts; come back in a while.
    pub const RESTART: Self = Self(1012);
    /// The server is overloaded; come back in a while.
    pub const OVERLOADED: Self = Self(1013);
    /// A gateway got no valid answer from the server behind it.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code, if it may travel: 1000–1003, 1007–1014 and 3000–4999.
    ///
    /// 1004, 1005, 1006 and 1015 are for local use only, the others are unassigned
    /// (RFC 6455 §7.4.2).
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The payload of a Close frame that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why.
    pub code: CloseCode,
    /// The same for people; at most 123 bytes, often empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads a received payload. An empty one says nothing, which is allowed.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Option<Self>, ProtocolError> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return if payload.is_empty() { Ok(None) } else { Err(ProtocolError::CloseTooShort) };
        };
        let code = u16::from_be_bytes(*code);
        let code = CloseCode::new(code).ok_or(ProtocolError::CloseCode { code })?;
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReason)?;
        Ok(Some(Self { code, reason }))
    }
}

/// How far the closing handshake is. RFC 6455 §7 describes it in prose; as a diagram:
///
/// ```text
///                  ┌──────┐
///        ┌─────────┤ Open ├─────────┐
///  sent  │         └──────┘         │  received
///   ┌────▼─────┐             ┌──────▼───┐
///   │   Sent   │             │ Received │
///   └────┬─────┘             └──────┬───┘
///        │  received          sent  │
///        │        ┌────────┐        │
///        └────────► Closed ◄────────┘
///                 └────────┘
/// ```
///
/// | | we may send | what we receive |
/// |---|---|---|
/// | `Open` | anything | is handled |
/// | `Sent` | nothing more | control frames are still read, data is discarded |
/// | `Received` | the answering Close, the rest of a message first if need be | is discarded |
/// | `Closed` | nothing | is discarded; the server now closes the TCP connection |
///
/// Every transition takes the state and gives the next one, or `None` if it must not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub enum CloseState {
    /// No Close frame yet.
    #[default]
    Open,
    /// We have sent ours and wait for the peer's.
    Sent,
    /// The peer has sent its own and waits for ours.
    Received,
    /// Both have been sent.
    Closed,
}

impl CloseState {
    /// We send a Close frame. `None`: we have sent one already and must not send another
    /// (RFC 6455 §5.5.1).
    pub const fn send(self) -> Option<Self> {
        match self {
            Self::Open => Some(Self::Sent),
            Self::Received => Some(Self::Closed),
            Self::Sent | Self::Closed => None,
        }
    }

    /// A Close frame came. `None`: it is not the first, and is to be discarded as everything
    /// after the first (RFC 6455 §1.4).
    pub const fn receive(self) -> Option<Self> {
        match self {
            Self::Open => Some(Self::Received),
            Self::Sent => Some(Self::Closed),
            Self::Received | Self::Closed => None,
        }
    }

    /// Whether new messages may be sent.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether received bytes have a meaning still.
    pub const fn is_reading(self) -> bool {
        matches!(self, Self::Open | Self::Sent)
    }

    /// Whether the peer waits for our Close frame.
    pub const fn owes_answer(self) -> bool {
        matches!(self, Self::Received)
    }

    /// Whether the handshake is complete.
    pub const fn is_closed(self) -> bool {
        matches!(self, Self::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_codes_of_the_table_may_travel() {
        let mut allowed = Vec::new();
        for code in 0..=u16::MAX {
            if let Some(good) = CloseCode::new(code) {
                assert_eq!(good.get(), code);
                allowed.push(code);
            }
        }
        let want: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, want);
    }

    #[test]
    fn each_side_closes_once() {
        use CloseState::{Closed, Open, Received, Sent};
        let table = [
            (Open, Some(Sent), Some(Received)),
            (Sent, None, Some(Closed)),
            (Received, Some(Closed), None),
            (Closed, None, None),
        ];
        for (state, sent, received) in table {
            assert_eq!(state.send(), sent);
            assert_eq!(state.receive(), received);
        }
    }

    #[test]
    fn payloads_are_read_as_the_rfc_says() {
        assert_eq!(CloseFrame::parse(b""), Ok(None));
        assert_eq!(CloseFrame::parse(b"\x03"), Err(ProtocolError::CloseTooShort));
        let normal = CloseFrame { code: CloseCode::NORMAL, reason: "" };
        assert_eq!(CloseFrame::parse(b"\x03\xe8"), Ok(Some(normal)));
        let reason = CloseFrame { code: CloseCode::new(4999).unwrap(), reason: "é" };
        assert_eq!(CloseFrame::parse(b"\x13\x87\xc3\xa9"), Ok(Some(reason)));
        assert_eq!(CloseFrame::parse(b"\x03\xedx"), Err(ProtocolError::CloseCode { code: 1005 }));
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xc3"), Err(ProtocolError::CloseReason));
    }
}
