//! A WebSocket client (RFC 6455, RFC 7692) for tokio: `ws://` and `wss://`, proxies, redirects,
//! compression, and backpressure in both directions.
//!
//! | What | Where |
//! |---|---|
//! | where to connect and how | [`Client`] |
//! | an open connection | [`WebSocket`], and its halves [`Sender`] and [`Receiver`] |
//! | what is said on it | [`Message`], and [`CloseCode`] and [`Close`] at the end |
//! | what can go wrong, and whose doing it is | [`Error`], [`Fault`] |
//!
//! [`Client::connect`] dials, goes through the proxy, speaks TLS, shakes hands and follows
//! redirects, all within one timeout. Then messages go out through a bounded queue that a task
//! of the runtime empties, so that no frame is ever left half written, and come in only while
//! [`next`](WebSocket::next) is being called, so that a slow reader slows its peer down. The
//! protocol itself is in [`throng_wire`].
//!
//! ```
//! use throng_client::{Client, CloseCode, Message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let url = format!("ws://{}/echo", listener.local_addr()?);
//! # std::thread::spawn(move || {
//! #     let mut ws = tungstenite::accept(listener.accept().unwrap().0).unwrap();
//! #     while let Ok(message) = ws.read() {
//! #         if message.is_text() {
//! #             ws.send(message).unwrap();
//! #         }
//! #     }
//! # });
//! let mut ws = Client::new(&url)?
//!     .header("authorization", "Bearer secret")
//!     .connect()
//!     .await?;
//! ws.send("good day").await?;
//! while let Some(message) = ws.next().await? {
//!     if let Message::Text(text) = message {
//!         assert_eq!(text, "good day");
//!         break;
//!     }
//! }
//! ws.close(CloseCode::NORMAL, "that was all").await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod connect;
mod connection;
mod entropy;
mod error;
mod head;
mod link;
mod message;
mod proxy;
mod receiver;
mod sender;
mod target;
#[cfg(feature = "tls")]
mod tls;
mod transport;

pub use throng_wire::handshake::client::{HandshakeError, InvalidRequest};
pub use throng_wire::{CloseCode, Deflate, DeflateOptions, Limits, ProtocolError, ReasonTooLong};

pub use self::client::Client;
pub use self::connection::WebSocket;
pub use self::error::{Error, Fault};
pub use self::message::Message;
pub use self::receiver::{Close, Receiver};
pub use self::sender::Sender;
