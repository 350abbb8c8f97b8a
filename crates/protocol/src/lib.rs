//! The messages of `throng.v1`: what clients may send, what the server answers, and the table
//! of errors. Bytes in, values out; no sockets, no clock, no async.
//!
//! - [`parse`] turns one text frame into a [`Command`] that borrows from it, or into a
//!   [`Fault`] that says what to tell the sender. Payload fields stay the JSON text they were.
//! - [`push`] writes every message of the server into a `Vec<u8>`.
//! - [`Body`] is a message that is stored before it has its number.
//! - [`Code`] is the error table: wire name, text, whether trying again may help, HTTP status.
//! - [`names`] says what may be the name of a room, a user, a visitor.
//!
//! ```
//! use throng_protocol::{Command, Timestamp, parse, push};
//!
//! let command = parse(br#"{"type":"chat","text":"hi","ref":1}"#).unwrap();
//! let Command::Publish(message) = command else { panic!("not an application message") };
//!
//! let mut out = Vec::new();
//! let stamp = push::Stamp { room: "lobby", from: "u_1", seq: Some(7), timestamp: Timestamp(1000) };
//! push::message(&mut out, &stamp, &message);
//! assert_eq!(
//!     String::from_utf8(out).unwrap(),
//!     r#"{"type":"chat","room":"lobby","from":"u_1","seq":7,"timestamp":1000,"text":"hi"}"#,
//! );
//! ```

mod body;
mod command;
mod error;
mod json;
pub mod names;
mod object;
pub mod push;
mod request;
mod time;

pub use body::Body;
pub use command::{Command, MAX_FIELDS, MAX_TYPE, Ping, Presence, Publish, parse};
pub use error::{Code, Fault};
pub use json::{MAX_DEPTH, is_value, write_string};
pub use request::{
    Auth, Credential, DEFAULT_PAGE, History, Join, Leave, MAX_CREDENTIAL, MAX_EPOCH, MAX_PAGE,
    MAX_RETURNS, MAX_REWIND, Resume, Return, Since,
};
pub use time::Timestamp;

/// The subprotocol that clients of the full protocol negotiate.
pub const SUBPROTOCOL: &str = "throng.v1";
