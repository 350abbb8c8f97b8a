use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::identity::Identity;
use crate::room::{Epoch, Room, RoomId};
use crate::users::Users;

/// A universe of room names. Rooms of one name in two spaces have nothing in common: each row
/// of a table of endpoints has a space of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub u32);

/// All rooms, and the number of users.
///
/// Shared by all workers. Finding a room takes a read lock of one of 64 shards, creating or
/// forgetting one a write lock. Names are hashed with keys of their own (SipHash), because
/// clients choose them.
///
/// # How a room is forgotten
///
/// [`Hub::release`] locks the shard, then the order of the room. If the room is without
/// members, it is marked as forgotten and leaves the registry, in one step as seen from both
/// locks. A joiner that got the room before that and locks its order after it finds the mark:
/// [`Order::join`](crate::Order::join) answers [`Forgotten`](crate::Forgotten), and asking the
/// hub again brings a new room. So nobody is ever a member of a room the hub does not know.
pub struct Hub {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    rooms: AtomicUsize,
    next_room: AtomicU64,
    seed: u64,
    users: Users,
}

impl Hub {
    /// A hub without rooms. The epochs of its rooms follow from `seed`, which must be random
    /// and of this start of the process only.
    pub fn new(seed: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            rooms: AtomicUsize::new(0),
            next_room: AtomicU64::new(1),
            seed,
            users: Users::new(SHARDS),
        }
    }

    /// The room of this name, created on demand. The name is not looked at: check it with
    /// [`names::is_room`](throng_protocol::names::is_room) where it comes in.
    ///
    /// A room that nobody joins stays until [`Hub::release`]. A room with one member takes about
    /// 320 bytes.
    pub fn room(&self, space: Space, name: &str) -> Arc<Room> {
        if let Some(room) = self.find(space, name) {
            return room;
        }
        let mut shard = self.shard(space, name).write().unwrap_or_else(PoisonError::into_inner);
        let names = shard.entry(space).or_default();
        if let Some(room) = names.get(name) {
            return room.clone(); // somebody was faster
        }
        let id = RoomId(self.next_room.fetch_add(1, Ordering::Relaxed));
        let name: Arc<str> = name.into();
        let room = Arc::new(Room::new(id, space, name.clone(), Epoch::new(self.seed, id)));
        names.insert(name, room.clone());
        self.rooms.fetch_add(1, Ordering::Relaxed);
        room
    }

    /// The room of this name if there is one. No allocation.
    pub fn find(&self, space: Space, name: &str) -> Option<Arc<Room>> {
        let shard = self.shard(space, name).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&space)?.get(name).cloned()
    }

    /// Forgets a room if it is empty, and says whether it did. To be called after the last
    /// member has left, and after [`Hub::room`] when nobody joins after all; never while
    /// holding an [`Order`](crate::Order).
    pub fn release(&self, room: &Arc<Room>) -> bool {
        if !room.order().is_empty() {
            return false; // without the lock that others wait for
        }
        let shard = self.shard(room.space(), room.name());
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let Some(names) = shard.get_mut(&room.space()) else { return false };
        let known = names.get(room.name()).is_some_and(|known| Arc::ptr_eq(known, room));
        if !known || !room.forget() {
            return false; // somebody was faster, with joining or with this
        }
        names.remove(room.name());
        if names.is_empty() {
            shard.remove(&room.space());
        }
        self.rooms.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// The number of rooms.
    pub fn room_count(&self) -> usize {
        self.rooms.load(Ordering::Relaxed)
    }

    /// Counts a new connection of a user; whether it is the user's first. About 40 bytes per
    /// user, one lock of a shard.
    pub fn arrive(&self, who: &Arc<Identity>) -> bool {
        self.users.add(who)
    }

    /// Takes back one [`Hub::arrive`]; whether it was the user's last connection.
    pub fn depart(&self, who: &Identity) -> bool {
        self.users.remove(who.user_id())
    }

    /// The number of users that arrived and have not departed, in whatever rooms they are.
    pub fn user_count(&self) -> usize {
        self.users.count()
    }

    fn shard(&self, space: Space, name: &str) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one((space, name)) as usize % self.shards.len()]
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("rooms", &self.room_count())
            .field("users", &self.user_count())
            .finish_non_exhaustive()
    }
}

const SHARDS: usize = 64;

type Shard = HashMap<Space, HashMap<Arc<str>, Arc<Room>>>;
