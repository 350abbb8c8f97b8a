//! Rooms in memory.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, Weak};

use throng_hub::{
    Append, Backend, Draft, Epoch, Kept, Log, Opened, Opening, Past, REMEMBERED, Room, Sink, Space,
    Timestamp,
};

use crate::threads::lock;

/// Keeps rooms in memory, and nothing on disk: a message is stored when it has its number, and gone with
/// the process.
///
/// A room that nobody needs is remembered within a budget: the one that was closed longest ago goes
/// first. It goes in two steps: first its messages, also when they are too old, then its epoch and number
/// as well. Of rooms without messages only the epoch is remembered, at about 100 bytes each.
///
/// Cost: appending takes a few nanoseconds and no allocation. Opening and closing take a lock that all rooms
/// share, for less than a microsecond; letting go of a large room takes as long as freeing it.
#[derive(Debug)]
pub struct Memory {
    store: Arc<Mutex<Store>>,
}

impl Memory {
    /// What is remembered of closed rooms if nothing else is said: 64 MiB.
    pub const BUDGET: usize = 64 << 20;

    /// Remembers closed rooms in about so many bytes; 0 forgets them at once.
    pub fn new(budget: usize) -> Self {
        Self { store: Arc::new(Mutex::new(Store::new(budget))) }
    }

    /// About how many bytes closed rooms take at the moment.
    pub fn bytes(&self) -> usize {
        lock(&self.store).bytes()
    }

    /// How many closed rooms are remembered.
    pub fn closed_rooms(&self) -> usize {
        lock(&self.store).rooms.values().map(HashMap::len).sum()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Self::BUDGET)
    }
}

impl Backend for Memory {
    fn start(&self, _sink: Arc<dyn Sink>) {}

    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Opening {
        let mut store = lock(&self.store);
        let closed = store.take(room, now);
        let epoch = closed.as_ref().map_or_else(|| store.fresh(), |closed| closed.epoch);
        drop(store);
        let (seq, time, past) = match closed {
            None => (0, now, Past::None),
            Some(Closed { seq, time, kept, .. }) => {
                (seq, time, kept.map_or(Past::None, Past::Kept))
            }
        };
        let log = Appender { store: self.store.clone(), room: Arc::downgrade(room), seq, time };
        Opening::Ready(Opened {
            epoch,
            seq,
            time,
            past,
            refs: Vec::new(),
            elsewhere: Vec::new(),
            log: Box::new(log),
        })
    }
}

/// The messages of a room: only counted, the room itself remembers them.
#[derive(Debug)]
struct Appender {
    store: Arc<Mutex<Store>>,
    /// The room has this, not the other way round.
    room: Weak<Room>,
    seq: u64,
    time: Timestamp,
}

impl Log for Appender {
    fn append(&mut self, _draft: &Draft<'_>, now: Timestamp) -> Append {
        self.seq += 1;
        self.time = self.time.max(now);
        Append::Done { seq: self.seq, timestamp: self.time }
    }

    fn close(self: Box<Self>, kept: Kept) {
        if let Some(room) = self.room.upgrade() {
            let gone = lock(&self.store).put(&room, kept);
            drop(gone); // without the lock: a large room takes a while
        }
    }
}

/// The closed rooms.
#[derive(Debug)]
struct Store {
    budget: usize,
    rooms: HashMap<Space, HashMap<Arc<str>, Closed>>,
    /// Those with messages, by the time of closing. What no longer matches its room is passed over.
    full: VecDeque<Place>,
    full_bytes: usize,
    /// Those of which only epoch and number are left.
    slim: VecDeque<Place>,
    slim_bytes: usize,
    /// The latest time that was heard of.
    now: Timestamp,
    closings: u64,
    epochs: u64,
    seed: u64,
}

#[derive(Debug)]
struct Closed {
    closing: u64,
    epoch: Epoch,
    seq: u64,
    time: Timestamp,
    kept: Option<Box<Kept>>,
    /// When its messages are too old.
    ends: Timestamp,
    /// What it takes with its messages, and without.
    bytes: (usize, usize),
}

/// Which room, and which of its closings.
#[derive(Clone, Debug)]
struct Place {
    space: Space,
    name: Arc<str>,
    closing: u64,
}

impl Store {
    fn new(budget: usize) -> Self {
        Self {
            budget,
            rooms: HashMap::new(),
            full: VecDeque::new(),
            full_bytes: 0,
            slim: VecDeque::new(),
            slim_bytes: 0,
            now: Timestamp(0),
            closings: 0,
            epochs: 0,
            seed: RandomState::new().hash_one(0),
        }
    }

    fn bytes(&self) -> usize {
        self.full_bytes + self.slim_bytes
    }

    /// An epoch that was never there.
    fn fresh(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch::new(self.seed, self.epochs)
    }

    /// What is remembered of a room, which is then no longer remembered here.
    fn take(&mut self, room: &Room, now: Timestamp) -> Option<Closed> {
        self.now = self.now.max(now);
        let names = self.rooms.get_mut(&room.space())?;
        let closed = names.remove(room.name())?;
        if names.is_empty() {
            self.rooms.remove(&room.space());
        }
        self.uncount(&closed);
        Some(closed)
    }

    /// Remembers a room, and lets go of others. Those are returned, to be dropped.
    #[expect(clippy::vec_box, reason = "they are in boxes already")]
    fn put(&mut self, room: &Room, kept: Kept) -> Vec<Box<Kept>> {
        self.now = self.now.max(kept.time());
        self.closings += 1;
        // Whoever comes back can tell that nothing is missing, and its `ref`s are known.
        let ttl = room.rule().history.ttl.max(REMEMBERED);
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let (name, space): (Arc<str>, _) = (room.name().into(), room.space());
        let slim = SLIM + name.len();
        let closed = Closed {
            closing: self.closings,
            epoch: kept.epoch(),
            seq: kept.seq(),
            time: kept.time(),
            ends: Timestamp(kept.time().0.saturating_add(ttl)),
            bytes: (slim + kept.bytes(), slim),
            kept: (kept.seq() > 0).then(|| Box::new(kept)),
        };
        let place = Place { space, name: name.clone(), closing: closed.closing };
        if closed.kept.is_some() {
            self.full_bytes += closed.bytes.0;
            self.full.push_back(place);
        } else {
            self.slim_bytes += closed.bytes.1;
            self.slim.push_back(place);
        }
        if let Some(old) = self.rooms.entry(space).or_default().insert(name, closed) {
            self.uncount(&old); // closed twice: no hub does that
        }
        let gone = self.trim();
        self.compact();
        gone
    }

    /// Lets go of what is too old or too much.
    #[expect(clippy::vec_box, reason = "they are in boxes already")]
    fn trim(&mut self) -> Vec<Box<Kept>> {
        let mut gone = Vec::new();
        while let Some(place) = self.full.front() {
            let closed = find(&mut self.rooms, place);
            let old = closed.as_ref().is_none_or(|closed| closed.ends <= self.now);
            if !old && self.full_bytes + self.slim_bytes <= self.budget {
                break;
            }
            if let Some(closed) = closed {
                self.full_bytes -= closed.bytes.0;
                self.slim_bytes += closed.bytes.1;
                gone.extend(closed.kept.take());
                self.slim.push_back(place.clone());
            }
            self.full.pop_front();
        }
        let slim_budget = self.budget / 8;
        while self.slim_bytes > slim_budget
            && let Some(place) = self.slim.pop_front()
        {
            let Some(closed) = find(&mut self.rooms, &place) else { continue };
            self.slim_bytes -= closed.bytes.1;
            if let Some(names) = self.rooms.get_mut(&place.space) {
                names.remove(&place.name);
                if names.is_empty() {
                    self.rooms.remove(&place.space);
                }
            }
        }
        gone
    }

    /// Forgets places that lead nowhere, when they are as many as the others.
    fn compact(&mut self) {
        let Self { rooms, full, slim, .. } = self;
        let known: usize = rooms.values().map(HashMap::len).sum();
        if full.len() + slim.len() > 2 * known + 64 {
            full.retain(|place| find(rooms, place).is_some());
            slim.retain(|place| find(rooms, place).is_some());
        }
    }

    fn uncount(&mut self, closed: &Closed) {
        match closed.kept {
            Some(_) => self.full_bytes -= closed.bytes.0,
            None => self.slim_bytes -= closed.bytes.1,
        }
    }
}

fn find<'a>(
    rooms: &'a mut HashMap<Space, HashMap<Arc<str>, Closed>>,
    place: &Place,
) -> Option<&'a mut Closed> {
    let closed = rooms.get_mut(&place.space)?.get_mut(&place.name)?;
    (closed.closing == place.closing).then_some(closed)
}

/// What a room without messages takes beside its name: its entry and its place in the order.
const SLIM: usize = 100;

#[cfg(test)]
mod tests {
    use throng_hub::{Asker, Author, Hub, Keep, Rules};
    use throng_protocol::{Command, parse};

    use super::*;

    struct World {
        memory: Arc<Memory>,
        hub: Hub,
    }

    impl World {
        fn new(budget: usize) -> Self {
            let memory = Arc::new(Memory::new(budget));
            let keep = Keep { memory: memory.clone(), durable: None };
            Self { memory, hub: Hub::new(1, Rules::default(), keep) }
        }

        /// Opens a room, publishes so many messages of 1000 bytes and closes it: its epoch and last number,
        /// and how many messages it had from before.
        fn visit(&self, name: &str, messages: usize, now: u64) -> (Epoch, u64, usize) {
            let room = self.hub.room(Space::ROOMS, name, Timestamp(now));
            let json = format!(r#"{{"type":"chat","text":"{}"}}"#, "x".repeat(1000));
            let Ok(Command::Publish(message)) = parse(json.as_bytes()) else { panic!() };
            let author = Author { user_id: "u", session: "", asker: Asker::NOBODY };
            let mut order = room.order();
            let span = throng_hub::Span::Newest;
            let past = order.history(span, 1000, 1 << 30, None, Timestamp(now)).unwrap();
            for _ in 0..messages {
                let _ = order.publish(&author, &message, Timestamp(now)).unwrap();
            }
            let state = (order.epoch(), order.seq(), past.messages.len());
            drop(order);
            assert!(self.hub.release(&room));
            state
        }
    }

    #[test]
    fn the_least_recently_closed_goes_first() {
        let world = World::new(100_000); // some 80 messages
        let (a, ..) = world.visit("a", 30, 1);
        let (b, ..) = world.visit("b", 30, 2);
        assert_eq!(world.visit("a", 0, 3), (a, 30, 30));
        world.visit("c", 30, 4);
        assert!(world.memory.bytes() <= 100_000);
        assert_eq!(
            world.visit("b", 0, 5),
            (b, 30, 0),
            "the messages are gone, the number is known"
        );
        assert_eq!(world.visit("a", 0, 6), (a, 30, 30));
        assert_eq!(world.memory.closed_rooms(), 3);
    }

    #[test]
    fn rooms_without_messages_are_cheap_and_bounded() {
        let world = World::new(100_000);
        let (first, ..) = world.visit("room:0", 0, 1);
        assert_eq!(world.visit("room:0", 0, 2).0, first);
        for n in 1..10_000 {
            world.visit(&format!("room:{n}"), 0, 3);
        }
        assert!(world.memory.bytes() <= 100_000 / 8);
        assert!(world.memory.closed_rooms() > 100);
        assert_ne!(world.visit("room:0", 0, 4).0, first, "forgotten");
    }

    #[test]
    fn too_old() {
        let day = 24 * 60 * 60 * 1000;
        let world = World::new(1 << 20);
        let (epoch, ..) = world.visit("old", 10, 1);
        let full = world.memory.bytes();
        world.visit("other", 0, day + 2);
        assert!(world.memory.bytes() < full / 10);
        assert_eq!(world.visit("old", 0, day + 3), (epoch, 10, 0));
    }

    #[test]
    fn coming_and_going_leaves_nothing_behind() {
        let world = World::new(1 << 20);
        for n in 0..10_000 {
            world.visit("lobby", 1, n);
        }
        let store = lock(&world.memory.store);
        assert!(store.full.len() + store.slim.len() < 100);
        assert_eq!(store.rooms.len(), 1);
        drop(store);
        let forgetful = World::new(0);
        let (epoch, ..) = forgetful.visit("lobby", 10, 1);
        assert_ne!(forgetful.visit("lobby", 0, 2).0, epoch);
        assert_eq!((forgetful.memory.bytes(), forgetful.memory.closed_rooms()), (0, 0));
    }
}
