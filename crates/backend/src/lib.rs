//! Where rooms are kept: implementations of [`Backend`](throng_hub::Backend).
//!
//! - [`Memory`] keeps nothing on disk. A message has its number at once; rooms nobody needs are
//!   remembered within a budget of bytes.
//! - [`Sqlite`] keeps rooms in one file. A message has its number when it is on the disk;
//!   all that wait at the same time are written together. Rooms, numbers and epochs survive a restart of
//!   the process and, as [`SyncMode`] says, of the machine.
//! - [`Redis`] keeps rooms in Redis, for many nodes at once. A message has its number when the room's server says
//!   so. Rooms and numbers survive what that server survives; when something may be lost there, an epoch begins.
//!
//! All pass one suite of tests, `tests/contract.rs`.
//!
//! Beside them, a [`Vault`] keeps who may come in: tickets, sessions, revocations, users, members, bans.
//!
//! ```
//! # use std::sync::Arc;
//! use throng_backend::{Memory, Options, Sqlite};
//! use throng_hub::{Backend, Hub, Keep, Outcome, Opened, Room, Rules, Sink, Unavailable};
//!
//! /// Passes on what comes later; an engine does more.
//! struct Results;
//! impl Sink for Results {
//!     fn opened(&self, _room: &Arc<Room>, _result: Result<Opened, Unavailable>) { /* Hub::opened */ }
//!     fn appended(&self, outcomes: &mut Vec<Outcome>) {
//!         for outcome in outcomes.drain(..) {
//!             outcome.room.order().complete(&outcome);
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let memory = Arc::new(Memory::default());
//! let disk = Arc::new(Sqlite::open(dir, Options::default())?);
//! let sink: Arc<dyn Sink> = Arc::new(Results);
//! memory.start(sink.clone());
//! disk.start(sink);
//! let hub = Hub::new(0x5eed, Rules::default(), Keep { memory, durable: Some(disk.clone()) });
//! // … `hub` goes to the engine …
//! disk.close(); // everything is answered and on the disk
//! # drop(hub);
//! # Ok(()) }
//! ```

mod memory;
mod redis;
mod sqlite;
mod threads;
mod vault;

pub use self::redis::{
    Directory, Follower, Listener, NodeInfo, Rates, Redis, RedisError, RedisMode, RedisOptions,
    RedisServer, RedisStatus, RedisTls, Registry, Remote, Report, Turn,
};
pub use memory::Memory;
pub use sqlite::{OpenError, Options, Sqlite, Stats, SyncMode};
pub use vault::{
    Answer, Begun, Member, NewSession, NewTicket, Redeemed, SessionRow, UserRow, Vault, VaultStats,
};
