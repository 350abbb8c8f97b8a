//! A client for tokio, in two layers: sessions with a throng server, and the WebSocket client
//! (RFC 6455, RFC 7692) below them, which talks to any server.
//!
//! | What | Where |
//! |---|---|
//! | a session that outlives its connections | [`Session`], made by [`SessionBuilder`] |
//! | the rooms it is in, and what happens there | [`Room`], [`RoomEvent`], [`RoomMessage`] |
//! | sending, from anywhere | [`Publisher`], [`Sent`], [`SessionError`] |
//! | whether it is connected | [`Status`], [`StatusWatch`], [`CloseReason`] |
//! | **the layer below:** where to connect and how | [`Client`] |
//! | an open connection | [`WebSocket`], and its halves [`Sender`] and [`Receiver`] |
//! | what is said on it | [`Message`], and [`CloseCode`] and [`Close`] at the end |
//! | what can go wrong, and whose doing it is | [`Error`], [`Fault`] |
//!
//! # Sessions
//!
//! A [`Session`] speaks `throng.v1`. It connects by itself and again, resumes, and rejoins its
//! rooms. What is sent is published exactly once and in order, as long as the server knows the
//! session (two minutes without connection, by default); what comes is seen exactly once and in
//! order, as far as the room's history reaches, and where it does not, the room
//! [says so](RoomEvent::Lost).
//!
//! ```
//! use serde::Deserialize;
//! use serde_json::json;
//! use throng_client::{JoinOptions, RoomEvent, Session};
//!
//! #[derive(Deserialize)]
//! struct Chat {
//!     text: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let url = format!("ws://{}/ws", listener.local_addr()?);
//! # std::thread::spawn(move || {
//! #     use tungstenite::handshake::server::{Request, Response};
//! #     let protocol = |_: &Request, mut response: Response| {
//! #         let throng = "throng.v1".parse().unwrap();
//! #         response.headers_mut().insert("sec-websocket-protocol", throng);
//! #         Ok(response)
//! #     };
//! #     let mut ws = tungstenite::accept_hdr(listener.accept().unwrap().0, protocol).unwrap();
//! #     let mut say = |ws: &mut tungstenite::WebSocket<_>, it: serde_json::Value| {
//! #         ws.send(it.to_string().into()).unwrap();
//! #     };
//! #     say(&mut ws, json!({"type": "connected", "userId": "u_1", "sessionId": "s_1",
//! #         "userCount": 1, "heartbeat": 25_000, "timestamp": 1}));
//! #     while let Ok(message) = ws.read() {
//! #         let Ok(text) = message.into_text() else { break };
//! #         let Ok(it) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
//! #         if it["type"] == "join" {
//! #             say(&mut ws, json!({"type": "joined", "ref": it["ref"], "room": it["room"],
//! #                 "epoch": "e", "seq": 0, "recovered": true, "userCount": 1}));
//! #         } else {
//! #             say(&mut ws, json!({"type": "ack", "ref": it["ref"], "room": it["room"],
//! #                 "seq": 1, "timestamp": 1}));
//! #             say(&mut ws, json!({"type": "chat", "room": it["room"], "from": "u_1",
//! #                 "seq": 1, "timestamp": 1, "text": it["text"]}));
//! #         }
//! #     }
//! # });
//! let session = Session::builder(&url).name("Ada").connect()?;
//! let mut room = session.join("chat:1", JoinOptions::default().rewind(50)).await?;
//!
//! let sent = room.send(&json!({"type": "chat", "text": "good day"})).await?;
//! println!("it is message {:?} of the room", sent.seq);
//!
//! while let Some(event) = room.next().await {
//!     match event {
//!         RoomEvent::Message(message) if message.kind == "chat" => {
//!             let Chat { text } = message.parse()?;
//!             println!("{}: {text}", message.from);
//!             break;
//!         }
//!         RoomEvent::Lost(_) => println!("we were away for too long"),
//!         _ => {}
//!     }
//! }
//! session.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Everything that waits is bounded: what is to be sent by
//! [`outbox`](SessionBuilder::outbox), which then fails with [`Full`](SessionError::Full); what
//! a room's reader has not taken by [`buffer`](SessionBuilder::buffer), and what does not fit is
//! fetched from the room's history later.
//!
//! # The WebSocket client
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
mod session;
mod subprotocols;
mod target;
#[cfg(feature = "tls")]
mod tls;
mod transport;

pub use throng_protocol::{Code, Timestamp};
pub use throng_wire::handshake::client::{HandshakeError, InvalidRequest};
pub use throng_wire::{CloseCode, Deflate, DeflateOptions, Limits, ProtocolError, ReasonTooLong};

pub use self::client::Client;
pub use self::connection::WebSocket;
pub use self::error::{Error, Fault};
pub use self::message::Message;
pub use self::receiver::{Close, Receiver};
pub use self::sender::Sender;
pub use self::session::{
    CloseReason, HistoryQuery, Identity, JoinOptions, Joined, Page, ParseError, Position,
    Publisher, Refusal, Room, RoomEvent, RoomMessage, Sent, Session, SessionBuilder, SessionError,
    Status, StatusWatch, User,
};
