//! The real-time server to embed: WebSocket endpoints for an axum application, on its runtime and
//! its port, with connections on worker threads of their own.
//!
//! - [`Server`] is made once. [`Server::routes`] are merged into the application;
//!   [`Server::accept`] answers a single request that the application has already looked at.
//! - [`Endpoint`] says what is at a path: typed rooms, a verbatim relay, echo, or a [`Handler`].
//! - [`Peer`] is the connection inside a handler, [`Handle`] the same from other threads.
//!
//! ```no_run
//! use throng::axum::Router;
//! use throng::{Endpoint, Message, Peer, Server};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let throng = Server::builder()
//!     .endpoint("/ws", Endpoint::rooms("lobby"))
//!     .endpoint(
//!         "/shout",
//!         Endpoint::handler(|_request| {
//!             |peer: &mut Peer<'_>, message: Message<'_>| match message {
//!                 Message::Text(text) => peer.send(&text.to_uppercase()),
//!                 binary => peer.send(binary),
//!             }
//!         }),
//!     )
//!     .build()?;
//! let app = Router::new().merge(throng.routes());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! ::axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```

mod cluster;
mod credentials;
mod desk;
mod drain;
mod endpoint;
mod events;
mod gate;
mod handover;
mod keeper;
mod mount;
mod nodes;
mod operator;
mod origin;
mod rooms;
mod server;
mod sessions;
mod stats;
mod upgrade;

pub use credentials::{Authenticate, Denied, Verdict, Visa, Visit};
pub use drain::Draining;
pub use endpoint::Endpoint;
pub use events::{Events, Subscription};
pub use gate::{NewTicket, Ticket};
pub use mount::BadPath;
pub use nodes::Node;
pub use operator::Operator;
pub use origin::Origins;
pub use rooms::{Author, Counts, Page, Placed, RoomInfo, Sent, SessionRef, Target};
pub use server::{Builder, Error, Server};
pub use sessions::SessionInfo;
pub use stats::Stats;
pub use throng_backend::{
    OpenError, RedisError, RedisMode, RedisOptions, RedisServer, RedisStatus, RedisTls,
    Report as NodeReport, Stats as StorageStats, SyncMode, UserRow, Vault,
};
pub use throng_engine::{Flush, Handle, Handler, Message, Peer, SlowPolicy};
pub use throng_hub::{
    Access, Ban, Grant, Grants, GrantsError, History, Pattern, Presence, Rate, Rights, Rule, Rules,
    Schema, SchemaError, Types, Via,
};
pub use throng_protocol::{Code, Fault};
pub use throng_wire::{CloseCode, DeflateOptions, Kind, ProtocolError, ReasonTooLong};
pub use upgrade::Subprotocol;

/// The types of axum that appear in signatures here.
pub mod axum {
    pub use ::axum::Router;
    pub use ::axum::body::Body;
    pub use ::axum::extract::Request;
    pub use ::axum::http::{StatusCode, request::Parts};
    pub use ::axum::response::{IntoResponse, Response};
}
