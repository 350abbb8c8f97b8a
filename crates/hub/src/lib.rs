//! What happens in rooms: who is there, in which order messages go, what the others are told.
//! No sockets, no clock, no randomness, no async: time and entropy are arguments.
//!
//! - A [`Hub`] knows all rooms by [`Space`] and name, and counts the connected users.
//! - A [`Room`] is one place. Everything that happens in it goes through its [`Order`], a lock
//!   that gives each message its number and its time, keeps presence by user, and encodes what
//!   must be sent once for all receivers.
//! - An [`Identity`] is who is behind a connection.
//!
//! The hub does not know connections. It counts members per worker (a worker is a number), so
//! that the caller can hand each frame to the workers that have receivers, *before* it drops
//! the [`Order`]: that makes the order of the room the order of every worker's queue.
//!
//! ```
//! use std::sync::Arc;
//! use throng_hub::{Hub, Identity, Space, Timestamp};
//! use throng_protocol::{Command, parse};
//!
//! let hub = Hub::new(0x5eed);
//! let craig = Arc::new(Identity::anonymous("u_craig", "s_1", Some("Craig")));
//! let dora = Arc::new(Identity::anonymous("u_dora", "s_2", None));
//!
//! let lobby = hub.room(Space(0), "lobby");
//! let mut order = lobby.order();
//! order.join(&craig, 0, Timestamp(10)).unwrap();
//! let joined = order.join(&dora, 1, Timestamp(20)).unwrap();
//! assert_eq!(joined.user_count, 2);
//! assert!(joined.announcement.is_some()); // to be pushed to worker 0, for Craig
//!
//! let Ok(Command::Publish(chat)) = parse(br#"{"type":"chat","text":"hi"}"#) else { panic!() };
//! let published = order.publish(&dora, &chat, Timestamp(15));
//! assert_eq!((published.seq, published.timestamp), (1, Timestamp(20))); // never goes back
//! assert_eq!(order.workers().collect::<Vec<_>>(), [0, 1]); // push `published.frame` to these
//!
//! order.leave(&craig, 0, Timestamp(30));
//! let left = order.leave(&dora, 1, Timestamp(40));
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
//! registry, a shard of the users, and the order of a room. [`Hub::release`] takes a shard and
//! then an order; so whoever holds an [`Order`] must not call the hub. Only one order may be
//! held at a time. Poisoned locks are entered regardless: a panic elsewhere does not take a
//! room down.

mod hub;
mod identity;
pub mod ids;
mod room;
mod users;

pub use hub::{Hub, Space};
pub use identity::{Identity, IdentityError};
pub use room::{Epoch, Forgotten, Joined, Left, MAX_LISTED, Order, Published, Room, RoomId};
pub use throng_protocol::Timestamp;
