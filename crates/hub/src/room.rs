use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use throng_protocol::{Publish, Timestamp, push};
use throng_wire::{OpCode, Prepared};

use crate::hub::Space;
use crate::identity::Identity;
use crate::ids;
use crate::users::Seats;

/// The most users a `presence` message lists; of a larger crowd it tells only the number, so
/// that a question of 20 bytes never costs the room milliseconds and the asker megabytes.
pub const MAX_LISTED: usize = 1000;

/// The number of a room, unique in its [`Hub`](crate::Hub) and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(pub u64);

/// The stretch of a room's life in which `seq` counts. A room that was forgotten and comes back
/// has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    pub(crate) fn new(seed: u64, room: RoomId) -> Self {
        // The finish of SplitMix64: one to one, so rooms of one seed never share an epoch.
        let mut x = seed.wrapping_add(room.0.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self(x ^ x >> 31)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ids::encode("", &self.0.to_be_bytes()))
    }
}

/// A place where everybody sees the same messages in the same order.
pub struct Room {
    id: RoomId,
    space: Space,
    name: Arc<str>,
    state: Mutex<State>,
}

impl Room {
    pub(crate) fn new(id: RoomId, space: Space, name: Arc<str>, epoch: Epoch) -> Self {
        Self { id, space, name, state: Mutex::new(State::new(epoch)) }
    }

    /// Its number.
    pub fn id(&self) -> RoomId {
        self.id
    }

    /// The universe it belongs to.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the room's turn. Push what comes out of it to the workers before dropping it;
    /// do nothing slow, do not call the hub, do not take a second one.
    pub fn order(&self) -> Order<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Order { room: self, state }
    }

    /// Marks the room as forgotten if it is empty, and says whether it is.
    pub(crate) fn forget(&self) -> bool {
        let mut order = self.order();
        order.state.forgotten = order.is_empty();
        order.state.forgotten
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("id", &self.id)
            .field("space", &self.space)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A room's turn: what is done with one `Order` happens for all members between what was done
/// with the one before and the one after.
///
/// Frames that come out of it are for all members unless it says otherwise.
pub struct Order<'a> {
    room: &'a Room,
    state: MutexGuard<'a, State>,
}

impl Order<'_> {
    /// A connection of a user comes in, on this worker.
    ///
    /// Only the first connection of a user is announced, to the members there are already; not
    /// to the joiner itself, which has nothing to expect from the workers yet.
    ///
    /// # Errors
    /// [`Forgotten`]: the hub has forgotten the room in the meantime; ask it again.
    ///
    /// Cost: some 20 to 40 bytes for a new user; an announcement is one allocation besides its
    /// frame's own.
    pub fn join(
        &mut self,
        who: &Arc<Identity>,
        worker: usize,
        now: Timestamp,
    ) -> Result<Joined, Forgotten> {
        let alone = self.is_empty();
        self.attach(worker)?;
        let first = self.state.seats.add(who);
        let timestamp = self.state.advance(now);
        let announce = first && !alone;
        Ok(Joined {
            announcement: announce.then(|| self.announce(push::user_joined, who, timestamp)),
            user_count: self.user_count(),
            epoch: self.state.epoch,
            seq: self.state.seq,
            timestamp,
        })
    }

    /// A connection of a user that came in on this worker goes.
    ///
    /// Only the last connection of a user is announced, to the members that remain. Somebody
    /// who is not here changes nothing. When the room is `empty` afterwards, drop the order and
    /// [`release`](crate::Hub::release) the room.
    pub fn leave(&mut self, who: &Identity, worker: usize, now: Timestamp) -> Left {
        let last = self.state.seats.remove(who.user_id());
        if last.is_some() {
            self.detach(worker);
        }
        let empty = self.is_empty();
        let announce = last == Some(true) && !empty;
        let announcement = announce.then(|| {
            let timestamp = self.state.advance(now);
            self.announce(push::user_left, who, timestamp)
        });
        Left { announcement, user_count: self.user_count(), empty }
    }

    /// A connection without a user comes in, on this worker: a member of a relay.
    ///
    /// # Errors
    /// [`Forgotten`], as [`Order::join`].
    pub fn attach(&mut self, worker: usize) -> Result<(), Forgotten> {
        if self.state.forgotten {
            return Err(Forgotten);
        }
        let workers = &mut self.state.workers;
        if workers.len() <= worker {
            workers.reserve_exact(worker + 1 - workers.len());
            workers.resize(worker + 1, 0);
        }
        workers[worker] += 1;
        self.state.members += 1;
        Ok(())
    }

    /// A connection without a user goes; whether the room is empty now, and to be released.
    pub fn detach(&mut self, worker: usize) -> bool {
        let state = &mut *self.state;
        if let Some(members @ 1..) = state.workers.get_mut(worker) {
            *members -= 1;
            state.members -= 1;
        }
        self.is_empty()
    }

    /// Gives an application message its number and time, and encodes it for all members, the
    /// sender included. One allocation besides the frame's own, 150 ns for 128 bytes.
    pub fn publish(&mut self, from: &Identity, message: &Publish<'_>, now: Timestamp) -> Published {
        let timestamp = self.state.advance(now);
        let seq = self.state.seq + 1;
        let stamp = push::Stamp { room: self.room.name(), from: from.user_id(), seq, timestamp };
        let mut payload = Vec::new();
        push::message(&mut payload, &stamp, message);
        let frame = Prepared::new(OpCode::Text, &payload);
        self.state.seq = seq;
        Published { frame, seq, timestamp }
    }

    /// Passes a message on as it is: text stays text, binary stays binary.
    pub fn relay(&mut self, opcode: OpCode, payload: &[u8]) -> Prepared {
        Prepared::new(opcode, payload)
    }

    /// Appends a `presence` message for one member: the number of users, and with at most
    /// [`MAX_LISTED`] of them also who they are. One pass over the listed users under the lock,
    /// 50 to 350 ns each, depending on whether they are in the CPU's cache.
    pub fn presence(&self, out: &mut Vec<u8>, reference: Option<u64>) {
        let users = self.users().map(|who| (who.user_id(), who.info()));
        let users = Some(users).filter(|users| users.len() <= MAX_LISTED);
        push::presence(out, reference, self.room.name(), self.user_count(), users);
    }

    /// The workers that have members.
    pub fn workers(&self) -> impl Iterator<Item = usize> + '_ {
        let workers = self.state.workers.iter().enumerate();
        workers.filter(|&(_, &members)| members > 0).map(|(worker, _)| worker)
    }

    /// The users here, each as the identity of the first of its connections, in no particular
    /// order.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<Identity>> {
        self.state.seats.iter()
    }

    /// The number of users.
    pub fn user_count(&self) -> usize {
        self.state.seats.len()
    }

    /// The number of connections.
    pub fn member_count(&self) -> usize {
        self.state.members as usize
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.state.members == 0
    }

    /// The number of the last message; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.state.seq
    }

    /// The epoch in which `seq` counts.
    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// The room whose turn it is.
    pub fn room(&self) -> &Room {
        self.room
    }

    fn announce(
        &self,
        write: fn(&mut Vec<u8>, &push::Passage<'_>),
        who: &Identity,
        timestamp: Timestamp,
    ) -> Prepared {
        let mut payload = Vec::new();
        write(
            &mut payload,
            &push::Passage {
                room: self.room.name(),
                user_id: who.user_id(),
                info: who.info(),
                user_count: self.user_count(),
                timestamp,
            },
        );
        Prepared::new(OpCode::Text, &payload)
    }
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("room", self.room).field("state", &*self.state).finish()
    }
}

/// What happened when a connection joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// `user_joined`, for the members that were here before; none for a further connection of
    /// the same user or when nobody was here.
    pub announcement: Option<Prepared>,
    /// The users here, the new one included.
    pub user_count: usize,
    /// The epoch in which `seq` counts.
    pub epoch: Epoch,
    /// The number of the last message before.
    pub seq: u64,
    /// When.
    pub timestamp: Timestamp,
}

/// What happened when a connection left.
#[derive(Clone, Debug)]
pub struct Left {
    /// `user_left`, for the members that remain; none while the user has other connections.
    pub announcement: Option<Prepared>,
    /// The users that remain.
    pub user_count: usize,
    /// Nobody remains: the room is to be released.
    pub empty: bool,
}

/// A message that has its place.
#[derive(Clone, Debug)]
#[must_use = "the frame must be pushed to the workers"]
pub struct Published {
    /// The frame for all members.
    pub frame: Prepared,
    /// Its number.
    pub seq: u64,
    /// Its time, never earlier than that of the message before.
    pub timestamp: Timestamp,
}

/// The room was released between [`Hub::room`](crate::Hub::room) and the attempt to join it.
/// Ask the hub again: it has or makes another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten;

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the room was forgotten in the meantime")
    }
}

impl std::error::Error for Forgotten {}

/// What the order lock protects.
#[derive(Debug)]
struct State {
    epoch: Epoch,
    seq: u64,
    /// The time of the last thing that happened.
    time: Timestamp,
    seats: Seats,
    /// Connections by worker, as long as the highest worker that ever had one.
    workers: Vec<u32>,
    /// The sum of these.
    members: u32,
    forgotten: bool,
}

impl State {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            seq: 0,
            time: Timestamp(0),
            seats: Seats::default(),
            workers: Vec::new(),
            members: 0,
            forgotten: false,
        }
    }

    /// Lets time pass; it never goes back, whatever the clock says.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.time = self.time.max(now);
        self.time
    }
}
