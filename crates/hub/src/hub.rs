use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use throng_protocol::Timestamp;

use crate::backend::{Asker, Backend, Opened, Opening, Unavailable};
use crate::budget::{Budget, Crowded, Deed};
use crate::room::{Epoch, Room, RoomId};
use crate::rule::{History, Presence, Rule, Rules};

/// A universe of room names. Rooms of one name in two spaces have nothing in common: each row
/// of a table of endpoints has a space of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub u32);

impl Space {
    /// Where the rooms of the typed protocol are. All others pass messages on verbatim.
    pub const ROOMS: Self = Self(0);
}

/// All rooms.
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
/// hub again brings a new room. So nobody is ever a member of a room the hub does not know. Who must not
/// find it so, because several rooms are joined at once, [holds](crate::Order::hold) it.
pub struct Hub {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    rooms: AtomicUsize,
    max_rooms: usize,
    budget: Arc<Budget>,
    next_room: AtomicU64,
    /// Above every number of presence that a forgotten room had.
    presence_floor: AtomicU64,
    seed: u64,
    rules: Rules,
    verbatim: Arc<Rule>,
    keep: Keep,
}

/// Where rooms are kept.
#[derive(Clone, Debug)]
pub struct Keep {
    /// For rooms whose rule does not ask for more.
    pub memory: Arc<dyn Backend>,
    /// For rooms whose rule says `durable`; without one, they are kept in memory like the others.
    pub durable: Option<Arc<dyn Backend>>,
}

impl Hub {
    /// A hub without rooms. `seed` must be random and of this start of the process only: the epochs of
    /// rooms that are not kept follow from it. The backends must have been started.
    pub fn new(seed: u64, rules: Rules, keep: Keep) -> Self {
        let verbatim = Rule {
            history: History::NONE,
            durable: false,
            volatile: true,
            presence: Presence::Off,
            ..Rule::default()
        };
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            rooms: AtomicUsize::new(0),
            max_rooms: usize::MAX,
            budget: Arc::default(),
            next_room: AtomicU64::new(1),
            presence_floor: AtomicU64::new(0),
            seed,
            rules,
            verbatim: Arc::new(verbatim),
            keep,
        }
    }

    /// The same with at most so many rooms, and a budget for what they remember: see [`Hub::open`].
    pub fn with_limits(mut self, max_rooms: usize, budget: Arc<Budget>) -> Self {
        self.max_rooms = max_rooms;
        self.budget = budget;
        self
    }

    /// What rooms and connections may make the process keep.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether other nodes have the same rooms.
    pub fn is_shared(&self) -> bool {
        self.keep.memory.is_shared()
    }

    /// The rules of all rooms.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What holds for the rooms of [`Space::ROOMS`] of this name, whether there is one or not.
    pub fn rule(&self, name: &str) -> &Arc<Rule> {
        self.rules.of(name)
    }

    /// The room of this name, created on demand if there may be one more.
    ///
    /// # Errors
    /// When there is none of this name, and there are as many as there may be, or little memory is left.
    /// Counted by the [`Budget`].
    pub fn open(&self, space: Space, name: &str, now: Timestamp) -> Result<Arc<Room>, Crowded> {
        self.found(space, name, now, || Ok(None))
    }

    /// The same for somebody who may bring only so many rooms into being: `deed` is asked when there is none of this
    /// name, and what it gives is dropped when the room is forgotten.
    ///
    /// # Errors
    /// As [`Hub::open`], and what `deed` says.
    pub fn found(
        &self,
        space: Space,
        name: &str,
        now: Timestamp,
        deed: impl FnOnce() -> Result<Option<Deed>, Crowded>,
    ) -> Result<Arc<Room>, Crowded> {
        if let Some(room) = self.find(space, name) {
            return Ok(room);
        }
        let made = match self.budget.is_tight() {
            true => Err(Crowded::Memory),
            false => deed().and_then(|deed| {
                self.make(space, name, now, self.max_rooms, deed).ok_or(Crowded::Rooms)
            }),
        };
        made.inspect_err(|_| self.budget.refuse_room())
    }

    /// The room of this name, created on demand whatever the limits. The name is not looked at: check it with
    /// [`names::is_room`](throng_protocol::names::is_room) where it comes in.
    ///
    /// A new room is opened by its backend, at once or soon: see [`Order::ready`](crate::Order::ready). A
    /// room that nobody joins stays until [`Hub::release`]. A room with one member takes about 500 bytes.
    pub fn room(&self, space: Space, name: &str, now: Timestamp) -> Arc<Room> {
        if let Some(room) = self.find(space, name) {
            return room;
        }
        loop {
            if let Some(room) = self.make(space, name, now, usize::MAX, None) {
                return room;
            }
        }
    }

    /// The room of this name; a new one unless there are already `most`.
    fn make(
        &self,
        space: Space,
        name: &str,
        now: Timestamp,
        most: usize,
        deed: Option<Deed>,
    ) -> Option<Arc<Room>> {
        let mut shard = self.shard(space, name).write().unwrap_or_else(PoisonError::into_inner);
        let names = shard.entry(space).or_default();
        if let Some(room) = names.get(name) {
            return Some(room.clone()); // somebody was faster
        }
        let one_more = |rooms: usize| (rooms < most).then_some(rooms + 1);
        if self.rooms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            if names.is_empty() {
                shard.remove(&space);
            }
            return None;
        }
        let id = RoomId(self.next_room.fetch_add(1, Ordering::Relaxed));
        let name: Arc<str> = name.into();
        let rule = if space == Space::ROOMS { self.rules.of(&name) } else { &self.verbatim };
        let epoch = Epoch::new(self.seed, id.0);
        let backend = match &self.keep.durable {
            Some(durable) if rule.durable => durable,
            _ => &self.keep.memory,
        };
        let shared = backend.is_shared();
        let mut presence = first_presence(now).max(self.presence_floor.load(Ordering::Relaxed));
        if shared {
            presence += self.seed & 0x3ff; // no two nodes number alike
        }
        let holds = (Arc::clone(rule), Arc::clone(&self.budget), shared);
        let mut room = Room::opening(id, space, name.clone(), holds, epoch, now, presence);
        room.given(deed);
        let room = Arc::new(room);
        names.insert(name, room.clone());
        if rule.volatile && !shared {
            room.order().open_bare();
        } else if let Opening::Ready(opened) = backend.open(&room, now) {
            room.order().open(Ok(opened));
        }
        Some(room)
    }

    /// A backend has opened a room, or cannot: see [`Sink::opened`](crate::Sink::opened). Names those who
    /// wait; they try again what they wanted. A room that could not be opened says so until it is
    /// [released](Hub::release); whoever comes after that tries anew.
    pub fn opened(&self, room: &Arc<Room>, result: Result<Opened, Unavailable>) -> Vec<Asker> {
        room.order().open(result)
    }

    /// The room of this name if there is one. No allocation.
    pub fn find(&self, space: Space, name: &str) -> Option<Arc<Room>> {
        let shard = self.shard(space, name).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&space)?.get(name).cloned()
    }

    /// Forgets a room if nobody needs it, and says whether it did. To be called after the last
    /// member has left, and after [`Hub::room`] when nobody joins after all; never while
    /// holding an [`Order`](crate::Order). What the room remembers goes back to its backend.
    pub fn release(&self, room: &Arc<Room>) -> bool {
        if !room.order().is_empty() {
            return false; // without the lock that others wait for
        }
        let shard = self.shard(room.space(), room.name());
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let known = shard.get(&room.space()).and_then(|names| names.get(room.name()));
        if !known.is_some_and(|known| Arc::ptr_eq(known, room)) {
            return false; // somebody was faster
        }
        let mut order = room.order();
        self.presence_floor.fetch_max(order.presence_seq() + 1, Ordering::Relaxed);
        if !order.forget() {
            return false; // somebody was faster with joining
        }
        drop(order);
        self.remove(&mut shard, room);
        true
    }

    fn remove(&self, shard: &mut Shard, room: &Arc<Room>) {
        let Some(names) = shard.get_mut(&room.space()) else { return };
        if names.get(room.name()).is_some_and(|known| Arc::ptr_eq(known, room)) {
            names.remove(room.name());
            if names.is_empty() {
                shard.remove(&room.space());
            }
            self.rooms.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The rooms of a space whose names come behind `after`, by name, at most `limit`. A look at all
    /// rooms: for people, not for messages.
    pub fn list(&self, space: Space, after: Option<&str>, limit: usize) -> Vec<Arc<Room>> {
        let mut rooms: Vec<Arc<Room>> = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let names = shard.get(&space).into_iter().flatten();
            let behind = names.filter(|(name, _)| after.is_none_or(|after| &***name > after));
            rooms.extend(behind.map(|(_, room)| Arc::clone(room)));
            if rooms.len() > 4 * limit.max(1024) {
                rooms.select_nth_unstable_by(limit, |a, b| a.name().cmp(b.name()));
                rooms.truncate(limit);
            }
        }
        rooms.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        rooms.truncate(limit);
        rooms
    }

    /// The number of rooms.
    pub fn room_count(&self) -> usize {
        self.rooms.load(Ordering::Relaxed)
    }

    fn shard(&self, space: Space, name: &str) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one((space, name)) as usize % self.shards.len()]
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("rooms", &self.room_count()).finish_non_exhaustive()
    }
}

/// The number of presence in a room that is opened at this time: larger than any of an earlier run, at
/// a thousand changes for each millisecond, and exact in every JSON reader until 2248.
fn first_presence(now: Timestamp) -> u64 {
    now.0.max(1) << 10
}

const SHARDS: usize = 64;

type Shard = HashMap<Space, HashMap<Arc<str>, Arc<Room>>>;
