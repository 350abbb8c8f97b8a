//! throng and other WebSocket implementations talk to each other, both ways.
//!
//! - [`servers`]: throng in this process, and the others; all of them echo, and close when a text
//!   such as `close 4001 bye` asks for it.
//! - [`Talk`]: what every client can do, in [`clients`].
//! - [`exchange`]: the conversations. `tests/interop_server.rs` has foreign clients hold them with
//!   throng, `tests/interop_client.rs` has our client hold them with foreign servers. Node's `ws`
//!   holds its own, in `node/client.mjs`.

pub mod clients;
pub mod exchange;
pub mod servers;

use std::future::Future;

/// What a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The end, with the server's close code and reason when it gave one.
    Closed(Option<(u16, String)>),
}

/// A client of any implementation. Everything panics on errors: it is a test that calls.
pub trait Talk: Sized {
    /// Connects.
    fn connect(url: &str) -> impl Future<Output = Self>;
    /// Sends a text message.
    fn text(&mut self, text: String) -> impl Future<Output = ()>;
    /// Sends a binary message.
    fn binary(&mut self, bytes: Vec<u8>) -> impl Future<Output = ()>;
    /// Sends one text message in several frames.
    fn fragments(&mut self, parts: &[&str]) -> impl Future<Output = ()>;
    /// Sends a ping.
    fn ping(&mut self, payload: &[u8]) -> impl Future<Output = ()>;
    /// Starts the close handshake; [`Got::Closed`] follows.
    fn close(&mut self, code: u16, reason: &str) -> impl Future<Output = ()>;
    /// The next message, pong or end.
    fn next(&mut self) -> impl Future<Output = Got>;
}
