//! WebSocket without IO: frames, messages, compression and handshake of RFC 6455 and RFC 7692,
//! for both roles.
//!
//! Nothing in here touches a socket, a clock or a source of randomness. Bytes come in as mutable
//! slices and leave as borrowed events; what is to be sent is appended to a `Vec<u8>` or shared
//! as [`Bytes`](bytes::Bytes).
//!
//! | Where | What |
//! |---|---|
//! | [`handshake`] | an HTTP request becomes a WebSocket, or is refused with the right status |
//! | [`extension`] | what both sides agree on about compression |
//! | [`decode`] | [`Decoder`]: received bytes → [`Event`]s; [`Scratch`]: what its thread lends it |
//! | [`frame`] | headers, masking, whole frames to send |
//! | [`prepared`] | [`Prepared`]: one message encoded once for any number of receivers |
//! | [`deflate`] | bounded inflation and deflation of messages |
//! | [`close`] | [`CloseCode`], and [`CloseState`]: how far the closing handshake is |
//! | [`error`] | [`ProtocolError`]: what a peer did wrong, and the close code for it |
//!
//! A connection owns a [`Decoder`] of a few words, which has no heap memory between messages.
//! Everything large (inflate context, output buffers) is in the [`Scratch`] that all connections
//! of a thread share. A frame that is whole in the received bytes is unmasked where it is and
//! costs neither an allocation nor a copy.
//!
//! ```
//! use throng_wire::{Decoder, Event, Kind, Limits, OpCode, Role, Scratch, encode};
//!
//! // A client sends …
//! let mut bytes = Vec::new();
//! encode(&mut bytes, OpCode::Text, b"good day", Some([1, 2, 3, 4]));
//! encode(&mut bytes, OpCode::Ping, b"are you there?", Some([5, 6, 7, 8]));
//!
//! // … a server receives …
//! let mut decoder = Decoder::new(Role::Server, None);
//! let (limits, mut scratch) = (Limits::default(), Scratch::new());
//! let (mut at, mut answers) = (0, Vec::new());
//! while at < bytes.len() {
//!     let step = decoder.next(&limits, &mut bytes[at..], &mut scratch)?;
//!     at += step.consumed;
//!     match step.event {
//!         Some(Event::Message { kind: Kind::Text, payload }) => {
//!             assert_eq!(payload, b"good day");
//!             encode(&mut answers, OpCode::Text, payload, None);
//!         }
//!         Some(Event::Ping(payload)) => encode(&mut answers, OpCode::Pong, payload, None),
//!         _ => {}
//!     }
//! }
//! // … and answers.
//! assert_eq!(answers, b"\x81\x08good day\x8a\x0eare you there?");
//! # Ok::<(), throng_wire::ProtocolError>(())
//! ```

pub mod close;
pub mod decode;
pub mod deflate;
pub mod error;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod prepared;

mod mask;

pub use close::{CloseCode, CloseFrame, CloseState};
pub use decode::{Decoder, Event, Limits, Scratch, Step};
pub use deflate::Deflater;
pub use error::{ProtocolError, ReasonTooLong};
pub use extension::{Deflate, DeflateOptions};
pub use frame::{Kind, OpCode, Role, encode, encode_close, encode_compressed};
pub use prepared::Prepared;
