//! What happens in rooms: who is there, in which order messages go, what is remembered, what the
//! others are told. No sockets, no clock, no randomness, no async: time and entropy are arguments.
//!
//! - A [`Hub`] knows all rooms by [`Space`] and name.
//! - A [`Room`] is one place. Everything that happens in it goes through its [`Order`], a lock
//!   that gives each message its place, keeps presence by user and the latest messages, and encodes what
//!   must be sent once for all receivers. What holds for it is its [`Rule`].
//! - A [`Backend`] is where rooms are kept: it numbers and stores, at once or later.
//! - An [`Identity`] is who is behind a connection. [`Sessions`] knows who is connected and which
//!   sessions may come back; [`Tokens`] are what they come back with.
//!
//! The hub does not know connections. It counts members per worker (a worker is a number), so
//! that the caller can hand each frame to the workers that have receivers, *before* it drops
//! the [`Order`]: that makes the order of the room the order of every worker's queue.
//!
//! A member begins where it wants ([`Start`]): [`Order::join`] says behind which number,
//! [`Order::replay`] hands out what is missing, piece by piece; when it says [`Replay::Live`], the
//! member is made to receive live messages before the order is dropped. So there is neither hole nor
//! duplicate between past and present.
//!
//! ```
//! # use std::sync::Arc;
//! # use throng_hub::{Backend, Epoch, Log, Opened, Opening, Past, Sink, Room, Draft, Append, Kept};
//! # #[derive(Debug)] struct Forgetful;
//! # #[derive(Debug)] struct Count(u64);
//! # impl Backend for Forgetful {
//! #     fn start(&self, _: Arc<dyn Sink>) {}
//! #     fn open(&self, _: &Arc<Room>, time: Timestamp) -> Opening {
//! #         let log = Box::new(Count(0));
//! #         Opening::Ready(Opened { epoch: Epoch(1), seq: 0, time, past: Past::None, refs: Vec::new(), elsewhere: Vec::new(), log })
//! #     }
//! # }
//! # impl Log for Count {
//! #     fn append(&mut self, _: &Draft<'_>, timestamp: Timestamp) -> Append {
//! #         self.0 += 1;
//! #         Append::Done { seq: self.0, timestamp }
//! #     }
//! #     fn close(self: Box<Self>, _: Kept) {}
//! # }
//! use throng_hub::{Asker, Author, Ending, Hub, Identity, Keep, Published, Rules, Space, Start, Timestamp};
//! use throng_protocol::{Command, parse};
//!
//! let keep = Keep { memory: Arc::new(Forgetful), durable: None }; // see the crate `throng-backend`
//! let hub = Hub::new(0x5eed, Rules::default(), keep);
//! let craig = Arc::new(Identity::anonymous("u_craig", "s_1", Some("Craig")));
//! let dora = Arc::new(Identity::anonymous("u_dora", "s_2", None));
//!
//! let lobby = hub.room(Space::ROOMS, "lobby", Timestamp(5));
//! let mut order = lobby.order();
//! order.join(&craig, 0, &Start::NOW, Timestamp(10)).unwrap();
//! let joined = order.join(&dora, 1, &Start::NOW, Timestamp(20)).unwrap();
//! assert_eq!(joined.user_count, 2);
//! assert!(joined.announcement.is_some()); // to be pushed to worker 0, for Craig
//!
//! let Ok(Command::Publish(chat)) = parse(br#"{"type":"chat","text":"hi"}"#) else { panic!() };
//! let dora_writes = Author { user_id: "u_dora", session: "s_2", asker: Asker::NOBODY };
//! let published = order.publish(&dora_writes, &chat, Timestamp(15)).unwrap();
//! let Published::Now { seq, timestamp, .. } = published else { panic!() };
//! assert_eq!((seq, timestamp), (Some(1), Timestamp(20))); // never goes back
//! assert_eq!(order.workers().collect::<Vec<_>>(), [0, 1]); // push the frame to these
//!
//! order.leave(&craig, 0, Ending::Orderly, Timestamp(30));
//! let left = order.leave(&dora, 1, Ending::Orderly, Timestamp(40));
//! drop(order);
//! if left.empty {
//!     hub.release(&lobby);
//! }
//! assert_eq!(hub.room_count(), 0);
//! ```
//!
//! # Locks
//!
//! Three kinds, all held for microseconds and none across a call that waits: a shard of the
//! registry, a shard of the sessions, and the order of a room. [`Hub::release`] takes a shard and
//! then an order; so whoever holds an [`Order`] must not call the hub. Only one order may be
//! held at a time. Poisoned locks are entered regardless: a panic elsewhere does not take a
//! room down.

mod backend;
mod budget;
mod grants;
mod history;
mod hub;
mod identity;
pub mod ids;
mod knocks;
mod limits;
mod membership;
mod messages;
mod pass;
mod rights;
mod room;
mod rule;
mod schema;
mod seats;
mod sessions;
mod token;

pub use backend::{
    Append, Asker, Backend, Draft, Elsewhere, Log, Opened, Opening, Outcome, Past, Renewed, Sink,
    Stored, Unavailable, Used,
};
pub use budget::{Budget, Crowded, Deed};
pub use grants::{Grant, Grants, GrantsError};
pub use history::{Kept, REF_WINDOW};
pub use hub::{Hub, Keep, Space};
pub use identity::{Identity, IdentityError};
pub use knocks::Knocks;
pub use limits::{CountedMeter, Meter, Rate, RateError, SharedMeter};
pub use membership::{Due, Ending, Joined, Left, Refused, Start};
pub use messages::{Author, Completed, Page, Published, Replay, Span, text_of};
pub use pass::{Pass, Via};
pub use rights::{Access, Allowed, Ban, DEMO, Rights};
pub use room::{Closed, Epoch, MAX_LISTED, Order, Room, RoomId};
pub use rule::{History, Pattern, Presence, Rule, Rules, SlowPolicy, Types};
pub use schema::{Schema, SchemaError, Violation};
pub use sessions::{Listed, MAX_WINDOW, REMEMBERED, Revoked, Sessions, Standing, Turn};
pub use throng_protocol::Timestamp;
pub use token::{Claim, Tokens};
