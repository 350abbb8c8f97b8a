use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use throng_protocol::{Code, Fault, Publish, Timestamp};

use crate::backend::{Asker, Log, Opened, Past, Unavailable};
use crate::budget::{Budget, Deed};
use crate::history::{Kept, Refs, Ring};
use crate::hub::Space;
use crate::identity::Identity;
use crate::ids;
use crate::limits::Meter;
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
    /// The `n`th epoch of a seed. No two of one seed are alike.
    pub fn new(seed: u64, n: u64) -> Self {
        // The finish of SplitMix64, which is one to one.
        let mut x = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
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
    pub(crate) budget: Arc<Budget>,
    /// Whether other nodes have it, too.
    shared: bool,
    state: Mutex<State>,
}

impl Room {
    /// A room that waits for its backend to open it.
    pub(crate) fn opening(
        id: RoomId,
        space: Space,
        name: Arc<str>,
        (rule, budget, shared): (Arc<Rule>, Arc<Budget>, bool),
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
            held: 0,
            memory: None,
            deed: None,
        };
        Self { id, space, name, rule, budget, shared, state: Mutex::new(state) }
    }

    /// Keeps this until it is forgotten.
    pub(crate) fn given(&mut self, deed: Option<Deed>) {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).deed = deed;
    }

    /// Whether other nodes have it, too.
    pub fn is_shared(&self) -> bool {
        self.shared
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
        self.order().is_forgotten()
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
/// membership is in `membership`, messages are in `messages`.
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
        if self.room.rule.presence != Presence::Off {
            for who in &opened.elsewhere {
                state.seats_mut().add_elsewhere(who);
            }
        }
        match opened.past {
            Past::None => self.restore(opened.refs, Vec::new()),
            Past::Kept(kept) => {
                state.memory = Some(Box::new(Memory {
                    ring: kept.ring,
                    refs: kept.refs,
                    ..Memory::default()
                }));
                self.account();
            }
            Past::Stored(stored) => self.restore(opened.refs, stored),
        }
        waiting
    }

    /// The room needs no backend.
    pub(crate) fn open_bare(&mut self) {
        self.state.life = Life::Open(None);
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

    /// See [`Room::is_forgotten`].
    pub fn is_forgotten(&self) -> bool {
        matches!(self.state.life, Life::Forgotten)
    }

    /// Somebody is about to join: the room is not forgotten until it was [let go](Order::let_go) as often.
    pub fn hold(&mut self) {
        self.state.held += 1;
    }

    /// Takes back a [`hold`](Order::hold); whether nobody is here, and the room to be released.
    pub fn let_go(&mut self) -> bool {
        self.state.held = self.state.held.saturating_sub(1);
        self.is_empty()
    }

    /// Marks the room as forgotten if nobody needs it, and says whether that is so. Its past is handed
    /// to its backend.
    pub(crate) fn forget(&mut self) -> bool {
        let state = &mut *self.state;
        let idle = state.members == 0 && state.pending == 0 && state.held == 0;
        // Those who were lost are still here as far as other nodes know.
        let kept = self.room.shared
            && (state.seats().next_lost().is_some()
                || state.memory.as_ref().is_some_and(|m| m.looks.iter().any(|look| !look.done)));
        if !idle || kept || matches!(state.life, Life::Opening(_)) {
            return false;
        }
        state.deed = None;
        if let Life::Open(Some(log)) = std::mem::replace(&mut state.life, Life::Forgotten) {
            let memory = state.memory.take().unwrap_or_default();
            let Memory { ring, refs, accounted, .. } = *memory;
            self.room.budget.change(accounted, 0);
            let (epoch, seq, time) = (state.epoch, state.seq, state.time);
            log.close(Kept { epoch, seq, time, ring, refs });
        }
        true
    }
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("room", self.room).field("state", &*self.state).finish()
    }
}

impl Order<'_> {
    /// Whether the room has come to this position, which somebody knows from another node. If not, `asker` is told when it
    /// has, or cannot; then [`Order::join`] says what is to be said.
    ///
    /// # Errors
    /// [`Closed::Opening`] for whoever has to wait, [`Closed::Unavailable`] when that would be for too long.
    pub fn reach(&mut self, epoch: &str, seq: u64, asker: Asker) -> Result<(), Closed> {
        if !self.room.shared || seq <= self.state.seq || epoch != self.state.epoch.to_string() {
            return Ok(());
        }
        let state = &mut *self.state;
        let Life::Open(Some(log)) = &mut state.life else { return Ok(()) };
        let looks = &mut state.memory.get_or_insert_default().looks;
        if let Some(look) = looks.iter().find(|look| look.asker == asker) {
            return match look.done {
                false => Err(Closed::Opening),
                true if log.is_current() => Ok(()),
                true => Err(Closed::Unavailable),
            };
        }
        if looks.len() >= MAX_LOOKS {
            looks.retain(|look| !look.done); // these have come back long since, or are gone
        }
        if !log.is_current() || looks.len() >= MAX_LOOKS {
            return Err(Closed::Unavailable);
        }
        looks.push(Look { asker, done: false });
        log.look();
        Err(Closed::Opening)
    }

    /// The first [`Log::look`] that was not over yet is. Names who waits for it.
    pub fn looked(&mut self) -> Option<Asker> {
        let looks = &mut self.state.memory.as_mut()?.looks;
        let first = looks.iter_mut().find(|look| !look.done)?;
        first.done = true;
        Some(first.asker)
    }

    /// # Errors
    /// `unavailable` while others may know more of the room than is known here.
    pub(crate) fn check_current(&self) -> Result<(), Fault> {
        match &self.state.life {
            Life::Open(Some(log)) if !log.is_current() => {
                Err(Fault::new(Code::Unavailable).with_retry_after(RETRY_AFTER))
            }
            _ => Ok(()),
        }
    }
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
    pub(crate) counted: Timestamp,
    /// When [`Order::handle_timeout`] will be called.
    pub(crate) alarm: Option<Timestamp>,
    /// None where presence is off: most rooms of that kind are somebody's own.
    seats: Option<Box<Seats>>,
    /// Connections by worker, as long as the highest worker that ever had one.
    pub(crate) workers: Vec<u32>,
    /// The sum of these.
    pub(crate) members: u32,
    /// Messages that the backend has not answered for yet.
    pub(crate) pending: u32,
    /// How many are about to join.
    pub(crate) held: u32,
    /// The number of users has changed since it was told.
    pub(crate) uncounted: bool,
    /// From the first message on.
    pub(crate) memory: Option<Box<Memory>>,
    /// Of whoever has brought it into being.
    pub(crate) deed: Option<Deed>,
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
    /// How often something was published lately, where there is a limit.
    pub(crate) meter: Meter,
    /// Who waits for what other nodes have.
    pub(crate) looks: Vec<Look>,
    /// What the budget knows of this.
    pub(crate) accounted: usize,
}

/// Somebody waits for [`Order::looked`].
#[derive(Debug)]
pub(crate) struct Look {
    asker: Asker,
    done: bool,
}

impl State {
    /// Lets time pass; it never goes back, whatever the clock says.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.time = self.time.max(now);
        self.time
    }

    /// Tells the backend something.
    pub(crate) fn tell(&mut self, what: impl FnOnce(&mut dyn Log)) {
        if let Life::Open(Some(log)) = &mut self.life {
            what(&mut **log);
        }
    }

    pub(crate) fn seats(&self) -> &Seats {
        static EMPTY: LazyLock<Seats> = LazyLock::new(Seats::default);
        self.seats.as_deref().unwrap_or(&EMPTY)
    }

    pub(crate) fn seats_mut(&mut self) -> &mut Seats {
        self.seats.get_or_insert_default()
    }

    /// When something becomes due, unless that is arranged already.
    pub(crate) fn next_wake(&mut self) -> Option<Timestamp> {
        let lost = self.seats().next_lost();
        let recount = self.uncounted.then(|| self.recount_at());
        let due = lost.into_iter().chain(recount).min()?;
        if self.alarm.is_some_and(|alarm| alarm <= due) {
            return None;
        }
        self.alarm = Some(due);
        self.alarm
    }

    pub(crate) fn recount_at(&self) -> Timestamp {
        Timestamp(self.counted.0 + COUNT_INTERVAL)
    }
}

/// So many may wait for what other nodes have.
const MAX_LOOKS: usize = 1024;
/// When to ask again for what nobody can say at the moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The number of users is told at most this often, in milliseconds.
const COUNT_INTERVAL: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_room_is_small() {
        assert!(size_of::<Room>() <= 216, "{}", size_of::<Room>());
        assert!(size_of::<State>() <= 160, "{}", size_of::<State>());
    }
}
