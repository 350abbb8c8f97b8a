use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use throng_protocol::{Code, Fault, Publish, Timestamp, push};
use throng_wire::{OpCode, Prepared};

use crate::backend::{Asker, Log, Opened, Past, Unavailable};
use crate::history::{Kept, Refs, Ring, millis};
use crate::hub::Space;
use crate::identity::Identity;
use crate::ids;
use crate::rule::{Presence, Rule};
use crate::seats::Seats;

/// The most users a `presence` message lists; of a larger crowd it tells only the number, so
/// that a question of 20 bytes never costs the room milliseconds and the asker megabytes.
pub const MAX_LISTED: usize = 1000;

/// The number of a room, unique in its [`Hub`](crate::Hub) and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(pub u64);

/// The stretch of a room's life in which `seq` counts. It changes only when the room's past is gone.
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
    rule: Arc<Rule>,
    state: Mutex<State>,
}

impl Room {
    /// A room that waits for its backend to open it.
    pub(crate) fn opening(
        id: RoomId,
        space: Space,
        name: Arc<str>,
        rule: Arc<Rule>,
        epoch: Epoch,
        now: Timestamp,
        presence_seq: u64,
    ) -> Self {
        let state = State {
            life: Life::Opening(Vec::new()),
            epoch,
            seq: 0,
            time: now,
            presence_seq,
            counted: Timestamp(0),
            uncounted: false,
            alarm: None,
            seats: None,
            workers: Vec::new(),
            members: 0,
            pending: 0,
            memory: None,
        };
        Self { id, space, name, rule, state: Mutex::new(state) }
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

    /// What holds for it.
    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// Whether a message may be published here, as far as its type and payload tell. Not under the
    /// room's order: a schema may take its time.
    ///
    /// # Errors
    /// `forbidden` for a type the rule does not allow, `invalid_payload` with the path that does not
    /// match the schema.
    pub fn check(&self, message: &Publish<'_>) -> Result<(), Fault> {
        let types = &self.rule.types;
        if types.others && types.known.is_empty() {
            return Ok(());
        }
        match types.known.get(&*message.kind) {
            None if types.others => Ok(()),
            None => Err(Fault::new(Code::Forbidden)
                .with_message("Messages of this type may not be published in this room.")
                .with_reference(message.reference)),
            Some(None) => Ok(()),
            Some(Some(schema)) => schema.check(message).map_err(|violation| {
                Fault::new(Code::InvalidPayload)
                    .with_message(violation.to_string())
                    .with_reference(message.reference)
            }),
        }
    }

    /// Whether the hub has forgotten it: whoever is not a member and finds it so asks the hub again.
    pub fn is_forgotten(&self) -> bool {
        matches!(self.order().state.life, Life::Forgotten)
    }

    /// Waits for the room's turn. Push what comes out of it to the workers before dropping it;
    /// do nothing slow, do not call the hub, do not take a second one.
    pub fn order(&self) -> Order<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Order { room: self, state }
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
/// Frames that come out of it are for all members unless it says otherwise. What concerns
/// membership is in this file, messages are in `messages`.
pub struct Order<'a> {
    pub(crate) room: &'a Room,
    pub(crate) state: MutexGuard<'a, State>,
}

impl Order<'_> {
    /// Whether the room can be used. If it is still being opened, `asker` is told when that is over.
    ///
    /// # Errors
    /// See [`Closed`].
    pub fn ready(&mut self, asker: Asker) -> Result<(), Closed> {
        match &mut self.state.life {
            Life::Open(_) => Ok(()),
            Life::Opening(waiting) => {
                waiting.push(asker);
                Err(Closed::Opening)
            }
            Life::Failed => Err(Closed::Unavailable),
            Life::Forgotten => Err(Closed::Forgotten),
        }
    }

    /// The backend has opened the room, or cannot. Names those who wait.
    pub(crate) fn open(&mut self, result: Result<Opened, Unavailable>) -> Vec<Asker> {
        let state = &mut *self.state;
        let Life::Opening(waiting) = &mut state.life else { return Vec::new() };
        let waiting = std::mem::take(waiting);
        let Ok(opened) = result else {
            state.life = Life::Failed;
            return waiting;
        };
        state.epoch = opened.epoch;
        state.seq = opened.seq;
        state.time = state.time.max(opened.time);
        state.life = Life::Open(Some(opened.log));
        match opened.past {
            Past::None => self.restore(opened.refs, Vec::new()),
            Past::Kept(kept) => {
                state.memory =
                    Some(Box::new(Memory { ring: kept.ring, refs: kept.refs, late: Vec::new() }));
            }
            Past::Stored(stored) => self.restore(opened.refs, stored),
        }
        waiting
    }

    /// The room needs no backend.
    pub(crate) fn open_bare(&mut self) {
        self.state.life = Life::Open(None);
    }

    /// A connection of a user comes in, on this worker.
    ///
    /// Only the first connection of a user is announced, to the members there are already; not
    /// to the joiner itself, which has nothing to expect from the workers yet. A user who was lost
    /// and comes back within the grace is not announced.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    ///
    /// Cost: some 20 to 40 bytes for a new user; an announcement is one allocation besides its
    /// frame's own.
    pub fn join(
        &mut self,
        who: &Arc<Identity>,
        worker: usize,
        start: &Start<'_>,
        now: Timestamp,
    ) -> Result<Joined, Refused> {
        self.check_open()?;
        let rule = Arc::clone(&self.room.rule);
        // Who comes back may find the connection that was lost still counted.
        let full = rule.max_members > 0 && self.member_count() >= rule.max_members;
        if full && !self.state.seats().has(who.user_id()) {
            return Err(Refused::Full);
        }
        let (recovered, after) = self.start(start, now)?;
        let alone = self.is_empty();
        self.attach(worker)?;
        let timestamp = self.state.advance(now);
        let mut announcement = None;
        if rule.presence != Presence::Off && self.state.seats_mut().add(who) {
            self.state.presence_seq += 1;
            if !alone {
                announcement = self.announce(push::user_joined, who, timestamp);
            }
        }
        Ok(Joined {
            announcement,
            wake: self.state.next_wake(),
            user_count: self.user_count(),
            epoch: self.state.epoch,
            seq: self.state.seq,
            presence_seq: self.state.presence_seq,
            recovered,
            after,
            timestamp,
        })
    }

    /// A connection of a user that came in on this worker goes.
    ///
    /// Only the last connection of a user is announced, to the members that remain: at once when it
    /// was closed in good order, after the rule's grace when it was lost. Somebody who is not
    /// here changes nothing. When the room is `empty` afterwards, drop the order and
    /// [`release`](crate::Hub::release) the room.
    pub fn leave(
        &mut self,
        who: &Arc<Identity>,
        worker: usize,
        ending: Ending,
        now: Timestamp,
    ) -> Left {
        let mut announcement = None;
        if self.room.rule.presence != Presence::Off && !self.state.seats().has(who.user_id()) {
            let (user_count, empty) = (self.user_count(), self.is_empty());
            return Left { announcement, wake: None, user_count, empty };
        }
        self.detach(worker);
        let empty = self.is_empty();
        if self.room.rule.presence != Presence::Off {
            let grace = match ending {
                Ending::Lost => millis(self.room.rule.grace),
                Ending::Orderly => 0,
            };
            if grace > 0 && !empty {
                let due = Timestamp(now.0.saturating_add(grace));
                self.state.seats_mut().lose(who, due);
            } else if self.state.seats_mut().remove(who.user_id()) == Some(true) {
                self.state.presence_seq += 1;
                let timestamp = self.state.advance(now);
                if !empty {
                    announcement = self.announce(push::user_left, who, timestamp);
                }
            }
        }
        let wake = if empty { None } else { self.state.next_wake() };
        Left { announcement, wake, user_count: self.user_count(), empty }
    }

    /// What has become due: users whose grace is over, a number of users that was held back. The
    /// frames are for all members.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Due {
        self.state.alarm = self.state.alarm.filter(|alarm| *alarm > now);
        let mut frames = Vec::new();
        let mut changed = false;
        // Not all of a crowd at once: others wait for the room.
        let due = if self.state.seats().next_lost().is_some() { MOST_DUE } else { 0 };
        for _ in 0..due {
            let Some(who) = self.state.seats_mut().pop_lost(now) else { break };
            self.state.presence_seq += 1;
            changed = true;
            if self.room.rule.presence == Presence::Full {
                let timestamp = self.state.advance(now);
                frames.push(self.passage(push::user_left, &who, timestamp));
            }
        }
        if self.room.rule.presence == Presence::Count && (changed || self.state.uncounted) {
            frames.extend(self.count(now));
        }
        Due { frames, wake: self.state.next_wake() }
    }

    /// Asks for a look at this time, if nobody is here. `None` when one is arranged already.
    pub fn look_again(&mut self, due: Timestamp) -> Option<Timestamp> {
        if !self.is_empty() || self.state.alarm.is_some_and(|alarm| alarm <= due) {
            return None;
        }
        self.state.alarm = Some(due);
        self.state.alarm
    }

    /// A connection without a user comes in, on this worker: a member of a relay.
    ///
    /// # Errors
    /// [`Refused`], as [`Order::join`].
    pub fn attach(&mut self, worker: usize) -> Result<(), Refused> {
        self.check_open()?;
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

    /// Appends a `presence` message for one member: the number of users, and where the rule allows it
    /// and they are at most [`MAX_LISTED`] also who they are. One pass over the listed users under the lock,
    /// 50 to 350 ns each, depending on whether they are in the CPU's cache.
    ///
    /// # Errors
    /// `forbidden` where the rule says that presence is off.
    pub fn presence(&self, out: &mut Vec<u8>, reference: Option<u64>) -> Result<(), Fault> {
        if self.room.rule.presence == Presence::Off {
            return Err(Fault::new(Code::Forbidden)
                .with_message("This room does not tell who is there.")
                .with_reference(reference));
        }
        let (name, seq) = (self.room.name(), Some(self.state.presence_seq));
        push::presence(out, reference, name, self.user_count(), seq, self.listed_users());
        Ok(())
    }

    /// The users as members may see them: user id and info. `None` where the rule does not tell, or when
    /// there are more than [`MAX_LISTED`].
    pub fn listed_users(&self) -> Option<impl Iterator<Item = (&str, Option<&str>)>> {
        let told = self.room.rule.presence == Presence::Full;
        let users = self.users().map(|who| (who.user_id(), who.info()));
        (told && users.len() <= MAX_LISTED).then_some(users)
    }

    /// The workers that have members.
    pub fn workers(&self) -> impl Iterator<Item = usize> + '_ {
        let workers = self.state.workers.iter().enumerate();
        workers.filter(|&(_, &members)| members > 0).map(|(worker, _)| worker)
    }

    /// The users here, each as the identity of the first of its connections, in no particular
    /// order.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<Identity>> {
        self.state.seats().iter()
    }

    /// The number of users; of connections where presence is off.
    pub fn user_count(&self) -> usize {
        match self.room.rule.presence {
            Presence::Off => self.member_count(),
            Presence::Full | Presence::Count => self.state.seats().len(),
        }
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

    /// Grows with each change of who is here.
    pub fn presence_seq(&self) -> u64 {
        self.state.presence_seq
    }

    /// The room whose turn it is.
    pub fn room(&self) -> &Room {
        self.room
    }

    /// Marks the room as forgotten if nobody needs it, and says whether that is so. Its past is handed
    /// to its backend.
    pub(crate) fn forget(&mut self) -> bool {
        let state = &mut *self.state;
        let idle = state.members == 0 && state.pending == 0;
        if !idle || matches!(state.life, Life::Opening(_)) {
            return false;
        }
        if let Life::Open(Some(log)) = std::mem::replace(&mut state.life, Life::Forgotten) {
            let memory = state.memory.take().unwrap_or_default();
            let Memory { ring, refs, .. } = *memory;
            let (epoch, seq, time) = (state.epoch, state.seq, state.time);
            log.close(Kept { epoch, seq, time, ring, refs });
        }
        true
    }

    fn check_open(&self) -> Result<(), Refused> {
        match &self.state.life {
            Life::Open(_) => Ok(()),
            Life::Opening(_) => Err(Refused::Closed(Closed::Opening)),
            Life::Failed => Err(Refused::Closed(Closed::Unavailable)),
            Life::Forgotten => Err(Refused::Closed(Closed::Forgotten)),
        }
    }

    /// Tells the members of a change, as the rule says.
    fn announce(
        &mut self,
        write: fn(&mut Vec<u8>, &push::Passage<'_>),
        who: &Identity,
        timestamp: Timestamp,
    ) -> Option<Prepared> {
        match self.room.rule.presence {
            Presence::Full => Some(self.passage(write, who, timestamp)),
            Presence::Count => self.count(timestamp),
            Presence::Off => None,
        }
    }

    /// The number of users, unless it was told less than a second ago; then it is told later.
    fn count(&mut self, now: Timestamp) -> Option<Prepared> {
        self.state.uncounted = now < self.state.recount_at();
        if self.state.uncounted {
            return None;
        }
        self.state.counted = now;
        let mut text = Vec::new();
        let none = None::<std::iter::Empty<_>>;
        let (name, seq) = (self.room.name(), Some(self.state.presence_seq));
        push::presence(&mut text, None, name, self.user_count(), seq, none);
        Some(Prepared::new(OpCode::Text, &text))
    }

    fn passage(
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
                presence_seq: self.state.presence_seq,
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

/// Where somebody who joins wants to begin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// The last position that is known: an epoch as it was told, and a `seq` in it.
    pub since: Option<(&'a str, u64)>,
    /// So many of the last messages, where there is no `since` or it is of no use any more.
    pub rewind: u32,
}

impl Start<'_> {
    /// With the next message.
    pub const NOW: Self = Self { since: None, rewind: 0 };
}

/// What happened when a connection joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// For the members that were here before: `user_joined`, or their number. None for a further
    /// connection of the same user or when nobody was here.
    pub announcement: Option<Prepared>,
    /// When [`Order::handle_timeout`] wants to be called; none when that is arranged already.
    pub wake: Option<Timestamp>,
    /// The users here, the new one included.
    pub user_count: usize,
    /// The epoch in which `seq` counts.
    pub epoch: Epoch,
    /// The number of the last message before.
    pub seq: u64,
    /// The state of presence, with the joiner.
    pub presence_seq: u64,
    /// Nothing of what was asked for is missing.
    pub recovered: bool,
    /// The joiner is owed the messages behind this number; see [`Order::replay`].
    pub after: u64,
    /// When.
    pub timestamp: Timestamp,
}

/// What happened when a connection left.
#[derive(Clone, Debug)]
pub struct Left {
    /// For the members that remain: `user_left`, or their number; none while the user has other
    /// connections or may come back.
    pub announcement: Option<Prepared>,
    /// When [`Order::handle_timeout`] wants to be called; none when that is arranged already.
    pub wake: Option<Timestamp>,
    /// The users that remain.
    pub user_count: usize,
    /// Nobody remains: the room is to be released.
    pub empty: bool,
}

/// What [`Order::handle_timeout`] found.
#[derive(Debug)]
pub struct Due {
    /// For all members, in this order.
    pub frames: Vec<Prepared>,
    /// When it wants to be called again.
    pub wake: Option<Timestamp>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The user said so, or left the room.
    Orderly,
    /// The connection was lost: the user may be back soon.
    Lost,
}

/// Why a room cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its backend is still opening it.
    Opening,
    /// Its backend cannot open it at the moment.
    Unavailable,
    /// It was released between [`Hub::room`](crate::Hub::room) and this. Ask the hub again: it has or
    /// makes another one.
    Forgotten,
}

/// Why somebody could not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The room cannot be used (yet, or any more).
    Closed(Closed),
    /// It has as many members as the rule allows.
    Full,
    /// `since` is beyond the last message.
    Future,
}

/// What the order lock protects.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) life: Life,
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
    /// The time of the last thing that happened.
    pub(crate) time: Timestamp,
    /// Starts so that it never says the same of two openings.
    pub(crate) presence_seq: u64,
    /// When the number of users was last told, where only that is.
    counted: Timestamp,
    /// When [`Order::handle_timeout`] will be called.
    alarm: Option<Timestamp>,
    /// None where presence is off: most rooms of that kind are somebody's own.
    seats: Option<Box<Seats>>,
    /// Connections by worker, as long as the highest worker that ever had one.
    workers: Vec<u32>,
    /// The sum of these.
    members: u32,
    /// Messages that the backend has not answered for yet.
    pub(crate) pending: u32,
    /// The number of users has changed since it was told.
    uncounted: bool,
    /// From the first message on.
    pub(crate) memory: Option<Box<Memory>>,
}

/// Whether a room can be used.
#[derive(Debug)]
pub(crate) enum Life {
    Opening(Vec<Asker>),
    /// Without a log where nothing is numbered.
    Open(Option<Box<dyn Log>>),
    Failed,
    Forgotten,
}

/// What a room remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) ring: Ring,
    pub(crate) refs: Refs,
    /// Who asked again for a `ref` that is being stored.
    pub(crate) late: Vec<(Box<str>, u64, Asker)>,
}

impl State {
    /// Lets time pass; it never goes back, whatever the clock says.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.time = self.time.max(now);
        self.time
    }

    fn seats(&self) -> &Seats {
        static EMPTY: LazyLock<Seats> = LazyLock::new(Seats::default);
        self.seats.as_deref().unwrap_or(&EMPTY)
    }

    fn seats_mut(&mut self) -> &mut Seats {
        self.seats.get_or_insert_default()
    }

    /// When something becomes due, unless that is arranged already.
    fn next_wake(&mut self) -> Option<Timestamp> {
        let lost = self.seats().next_lost();
        let recount = self.uncounted.then(|| self.recount_at());
        let due = lost.into_iter().chain(recount).min()?;
        if self.alarm.is_some_and(|alarm| alarm <= due) {
            return None;
        }
        self.alarm = Some(due);
        self.alarm
    }

    fn recount_at(&self) -> Timestamp {
        Timestamp(self.counted.0 + COUNT_INTERVAL)
    }
}

/// So many users are told to have left in one turn.
const MOST_DUE: usize = 256;

/// The number of users is told at most this often, in milliseconds.
const COUNT_INTERVAL: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_room_is_small() {
        assert!(size_of::<Room>() <= 208, "{}", size_of::<Room>());
        assert!(size_of::<State>() <= 160, "{}", size_of::<State>());
    }
}
