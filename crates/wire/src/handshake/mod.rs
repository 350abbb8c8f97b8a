//! The opening handshake (RFC 6455 §4), both roles, without IO.
//!
//! A server hands the parsed head of a request to [`server::accept`] and gets either the
//! complete `101` response with what was agreed, or a [`server::Refusal`] that knows its own
//! HTTP response. A client builds its request with [`client::request`], sends the bytes, and
//! gives the response to the [`client::Verifier`] that came with them.
//!
//! ```
//! use throng_wire::extension::DeflateOptions;
//! use throng_wire::handshake::{client, server};
//!
//! let deflate = DeflateOptions::default();
//! let (request, verifier) = client::request("example.org", "/chat")?
//!     .subprotocol("chat.v1")?
//!     .deflate(Some(deflate.clone()))
//!     .build([7; 16]); // sixteen unpredictable bytes in earnest
//!
//! let options = server::ServerOptions { subprotocols: &["chat.v1"], deflate: Some(&deflate) };
//! let accepted =
//!     server::accept(request.method(), request.version(), request.headers(), &options)?;
//!
//! let agreed = verifier.verify(&accepted.response)?;
//! assert_eq!(agreed.subprotocol.as_deref(), Some("chat.v1"));
//! assert_eq!(agreed.deflate, accepted.deflate);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod client;
pub mod server;

pub(crate) mod header;
mod key;

/// The only version of the protocol there is (RFC 6455 §4.1): the value of
/// `Sec-WebSocket-Version`.
pub const VERSION: &str = "13";
