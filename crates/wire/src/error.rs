//! What a peer can do wrong, and the close code that tells it.

use thiserror::Error;

use crate::close::CloseCode;
use crate::frame::{MAX_CONTROL, MAX_REASON};

/// Why a connection has to fail (RFC 6455 §7.1.7): send a Close frame with
/// [`close_code`](Self::close_code), if any, then drop the connection.
///
/// It is always the peer that is at fault, or a limit of ours that it went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit that no extension gave a meaning to (RFC 6455 §5.2, RFC 7692 §6).
    #[error("a reserved bit is set")]
    ReservedBits,
    /// An opcode that has no meaning yet (RFC 6455 §5.2).
    #[error("the opcode {opcode:#x} is reserved")]
    ReservedOpcode {
        /// As received.
        opcode: u8,
    },
    /// A client did not mask (RFC 6455 §5.1).
    #[error("a client's frame is not masked")]
    Unmasked,
    /// A server masked (RFC 6455 §5.1).
    #[error("a server's frame is masked")]
    Masked,
    /// A control frame of more than 125 bytes (RFC 6455 §5.5).
    #[error("a control frame is longer than {MAX_CONTROL} bytes")]
    ControlTooLong,
    /// A control frame in parts (RFC 6455 §5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A length in more bytes than needed (RFC 6455 §5.2).
    #[error("a payload length is not in its shortest form")]
    LengthNotMinimal,
    /// A 64-bit length whose top bit is set (RFC 6455 §5.2).
    #[error("a payload length has its top bit set")]
    LengthTopBit,
    /// A continuation of nothing (RFC 6455 §5.4).
    #[error("a continuation frame does not follow the start of a message")]
    UnexpectedContinuation,
    /// A new message before the last one ended (RFC 6455 §5.4).
    #[error("a message begins before the previous one has ended")]
    InterleavedMessage,
    /// A Close frame with half a code (RFC 6455 §5.5.1).
    #[error("a close frame has a payload of one byte")]
    CloseTooShort,
    /// A close code that must not travel (RFC 6455 §7.4).
    #[error("the close code {code} must not be sent")]
    CloseCode {
        /// As received.
        code: u16,
    },
    /// The reason of a Close frame is not UTF-8 (RFC 6455 §5.5.1).
    #[error("a close reason is not valid UTF-8")]
    CloseReason,
    /// A text message is not UTF-8 (RFC 6455 §8.1).
    #[error("a text message is not valid UTF-8")]
    Utf8,
    /// A compressed message does not decompress (RFC 7692 §7.2.2).
    #[error("a compressed message is corrupt")]
    Deflate,
    /// Over [`Limits::max_frame`](crate::Limits::max_frame).
    #[error("a frame of {announced} bytes is longer than the {limit} allowed")]
    FrameTooBig {
        /// The length in the header.
        announced: u64,
        /// The limit.
        limit: usize,
    },
    /// Over [`Limits::max_message`](crate::Limits::max_message), compressed or not.
    #[error("a message is longer than the {limit} bytes allowed")]
    MessageTooBig {
        /// The limit.
        limit: usize,
    },
    /// Over [`Limits::max_fragments`](crate::Limits::max_fragments).
    #[error("a message has more than the {limit} fragments allowed")]
    TooManyFragments {
        /// The limit.
        limit: u32,
    },
}

impl ProtocolError {
    /// The code for the Close frame that says so (RFC 6455 §7.4.1).
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode { .. }
            | Self::Unmasked
            | Self::Masked
            | Self::ControlTooLong
            | Self::FragmentedControl
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::CloseTooShort
            | Self::CloseCode { .. } => CloseCode::PROTOCOL,
            Self::CloseReason | Self::Utf8 | Self::Deflate => CloseCode::INVALID_PAYLOAD,
            Self::FrameTooBig { .. } | Self::MessageTooBig { .. } => CloseCode::TOO_BIG,
            Self::TooManyFragments { .. } => CloseCode::POLICY,
        }
    }
}

/// The reason for a Close frame does not fit into one. This is the caller's fault, no peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a close reason of {len} bytes is longer than the {MAX_REASON} that fit")]
pub struct ReasonTooLong {
    /// Its length in bytes of UTF-8.
    pub len: usize,
}
