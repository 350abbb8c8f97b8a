//! Does throng keep its promises when everything around it breaks?
//!
//! The program `chaos` starts the real server with a data directory, and clients that publish and
//! receive in several rooms. Between them stands a [`proxy`] that cuts connections at any byte.
//! Meanwhile the server is killed with SIGKILL and started again, or its [`disk`] fails. Every
//! client writes down what it did and saw, as lines of [`record`]. In the end the [`check`]er, which
//! knows only these lines, says which promises were kept.
//!
//! ```text
//!   client ┐                       ┌ kill -9, start
//!   client ┼──▶ proxy ──▶ server ──▶ data directory
//!   client ┘      ✂            └ full, read-only
//!      └───────▶ log ──▶ check ──▶ N passed, N failed
//! ```
//!
//! The [`client`] is written from `docs/protocol.md`, and shares no code with throng.
//! Everything random comes from one seed, see [`plan`]; as threads and sockets have a mind of their
//! own, a seed repeats the plan and not every byte.
//!
//! ```
//! use throng_chaos::check::{Check, Checker};
//!
//! let mut checker = Checker::default();
//! for (index, line) in [
//!     r#"{"at":0,"event":{"begun":{"seed":1,"clients":1,"command":"","keeps":{"durable":true,"history":9,"little":false}}}}"#,
//!     r#"{"at":9,"event":{"died":{"status":"signal: 6"}}}"#,
//!     r#"{"at":9,"event":{"finished":{"cuts":0}}}"#,
//! ]
//! .iter()
//! .enumerate()
//! {
//!     checker.read(index + 1, serde_json::from_str(line).unwrap());
//! }
//! let verdict = checker.finish();
//! assert_eq!(verdict.findings()[0].check, Check::Server);
//! ```

pub mod board;
pub mod check;
pub mod client;
pub mod cluster;
pub mod dice;
pub mod disk;
pub mod doors;
pub mod link;
pub mod plan;
pub mod proxy;
pub mod record;
pub mod run;
pub mod victim;
