//! The rooms of one node, without IO: decides what to ask Redis, puts what comes back into order, and says what the
//! hub is to be told. No clock, no randomness, no connection: time is an argument (milliseconds of a clock that never goes
//! back), answers and events are handed in.
//!
//! ```text
//!   open, append, cast, seat, unseat, close ──▶┌──────┐──▶ poll_ask      ──▶ Redis
//!   handle_told, handle_event,                 │ Core │──▶ poll_channel  ──▶ subscriptions
//!   handle_subscribed, handle_unsubscribed  ──▶│      │──▶ poll_effect   ──▶ hub::Sink
//!   handle_away, handle_back, handle_dead … ──▶└──────┘──▶ poll_timeout, poll_fenced
//! ```
//!
//! After each call, poll everything until there is nothing more.

mod ahead;
mod graves;
mod line;
mod look;
mod roll;
mod room;
mod seats;
mod shared;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use throng_hub::{Asker, Elsewhere, Epoch, Identity, Renewed, Stored, Timestamp, Unavailable};
use throng_protocol::Body;
use throng_wire::OpCode;

use super::step::{Ask, Event, Limits, Name, NodeId, Told};
use room::{Room, Stage};
use shared::{Life, MAX_PACED, Purpose, Shared};

/// The rooms of one node. `R` is the caller's handle of a room, `T` what it wants back with the outcome of a message.
#[derive(Debug)]
pub(crate) struct Core<R, T = Asker> {
    names: HashMap<Name, Life>,
    rooms: Rooms<R, T>,
    shared: Shared<R, T>,
}

/// Which question an answer belongs to. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AskId(pub(crate) u64);

/// What holds for a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) limits: Limits,
    pub(crate) kind: Kind,
}

/// What a room needs Redis for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its messages, who is there, and casts. It cannot be opened without Redis.
    Kept,
    /// Who is there, and casts (volatile rooms with presence). Without Redis it is opened all the same, and told later.
    Seen,
    /// Casts only: it is just subscribed. Opened without Redis as well.
    Cast,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Draft<T> {
    /// The session that publishes; empty for none.
    pub(crate) session: Box<str>,
    /// Its `ref`; 0 for none.
    pub(crate) reference: u64,
    pub(crate) body: Body,
    /// Given back with the [`Outcome`].
    pub(crate) token: T,
}

/// What is to be done with the channel of a room. A subscription is kept, through reconnections, until it is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Call [`Core::handle_subscribed`] whenever it is heard from anew.
    Subscribe(Name),
    /// Nothing more is needed from it.
    Unsubscribe(Name),
}

/// What the hub is to be told: one call of `hub::Sink` each. In order for each room.
#[derive(Debug)]
pub(crate) enum Effect<R, T = Asker> {
    /// A room is open, or cannot be opened and is forgotten.
    Opened { room: R, result: Result<Opened, Unavailable> },
    /// What became of messages of this node. Those that are stored and no duplicates are the next ones of the room.
    Stored { room: R, outcomes: Vec<Outcome<T>> },
    /// The next messages of the room, of other nodes.
    Arrived { room: R, messages: Vec<Stored> },
    /// The room begins anew.
    Renewed { room: R, renewed: Renewed },
    /// Who is on other nodes has changed.
    Elsewhere { room: R, news: Vec<Elsewhere> },
    /// What there was when [`Core::look`] was called has come, or cannot be had at the moment.
    Looked { room: R },
    /// Another node has cast this.
    Cast { room: R, opcode: OpCode, payload: Bytes },
    /// Whether what is known of the room is up to date; told with each change, and right behind `Opened` if that
    /// said so already.
    Current { room: R, current: bool },
}

/// A room as it is when it is opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) epoch: Epoch,
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    /// The newest messages, without holes, the last one numbered `seq`.
    pub(crate) past: Vec<Stored>,
    /// Who is on other nodes.
    pub(crate) elsewhere: Vec<Arc<Identity>>,
    /// Whether this is up to date.
    pub(crate) current: bool,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) token: T,
    pub(crate) session: Box<str>,
    pub(crate) reference: u64,
    pub(crate) body: Body,
    pub(crate) result: Result<(u64, Timestamp), Unavailable>,
    /// It was stored before; only whoever asked is answered.
    pub(crate) duplicate: bool,
}

impl<R: Clone, T> Core<R, T> {
    /// No rooms yet. `seed` is random: the epochs this node gives follow from it.
    pub(crate) fn new(node: NodeId, seed: u64) -> Self {
        Self { names: HashMap::new(), rooms: Rooms::new(), shared: Shared::new(node, seed) }
    }

    /// How often a quiet room is looked at, and how long a message waits for an answer, in milliseconds. Default 30,000 and
    /// 10,000.
    pub(crate) fn tune(&mut self, probe: u64, patience: u64) {
        (self.shared.probe, self.shared.patience) = (probe.max(1), patience);
    }

    /// Opens a room; [`Effect::Opened`] says how it ended. If Redis cannot be reached for this room at the moment, call
    /// [`handle_away`](Self::handle_away) for it right after this.
    pub(crate) fn open(&mut self, room: Name, handle: R, held: Held, now: u64) {
        self.close(&room, now);
        let old = self.names.remove(&room).and_then(|life| self.rooms.remove(life));
        let life = self.rooms.reserve();
        let mut new = Room::new(life, room.clone(), handle, held, now);
        if let Some(old) = old {
            // What is still to be said of its last life.
            (new.seats, new.graves, new.away) = (old.seats, old.graves, old.away);
            new.seats.come_back();
            for ask in new.seats.flight().into_iter().chain(new.graves.flight()) {
                self.shared.hand_over(ask, life);
            }
        }
        self.shared.channels.push_back(Channel::Subscribe(room.clone()));
        self.names.insert(room, life);
        self.rooms.insert(new);
        self.after(life, now);
    }

    /// Nobody needs the room any more. What is still under way is answered as unavailable; own seats are taken away.
    pub(crate) fn close(&mut self, room: &str, now: u64) {
        let Some(&life) = self.names.get(room) else { return };
        if self.rooms.peek(life).is_some_and(|room| room.stage != Stage::Leaving) {
            self.end(life, now);
        }
    }

    /// Stores a message; [`Effect::Stored`] says how it ended. Given back if the room is not open.
    pub(crate) fn append(&mut self, room: &str, draft: Draft<T>, now: u64) -> Result<(), Draft<T>> {
        let Self { names, rooms, shared } = self;
        let room = names.get(room).and_then(|&life| rooms.get(life));
        let Some(room) = room.filter(|room| room.stage != Stage::Leaving) else {
            return Err(draft);
        };
        room.append(shared, draft, now);
        room.arm(shared, now);
        Ok(())
    }

    /// Passes a frame on to the members on other nodes, at most once.
    pub(crate) fn cast(&mut self, room: &str, opcode: OpCode, payload: Bytes, now: u64) {
        self.with(room, now, |room, shared| room.cast(shared, opcode, payload));
    }

    /// A user is here now, on this node.
    pub(crate) fn seat(&mut self, room: &str, who: Arc<Identity>, now: u64) {
        self.with(room, now, |room, _| room.seat(who));
    }

    /// A user is no longer here, on this node.
    pub(crate) fn unseat(&mut self, room: &str, user: &str, now: u64) {
        self.with(room, now, |room, _| room.seats.unseat(user));
    }

    /// Asks for whatever is stored by now; [`Effect::Looked`] says when it has come, once for each call,
    /// in order.
    pub(crate) fn look(&mut self, room: &str, now: u64) {
        self.with(room, now, |room, shared| room.handle_look(shared, now));
    }

    /// The channel is heard from here on: for the first time, and again after each cut.
    pub(crate) fn handle_subscribed(&mut self, room: &str, now: u64) {
        self.with(room, now, |room, shared| room.handle_subscribed(shared, now));
    }

    /// The channel is no longer heard: from here on something may be missed.
    pub(crate) fn handle_unsubscribed(&mut self, room: &str, now: u64) {
        self.with(room, now, |room, _| room.handle_unsubscribed());
    }

    /// Something came on the room's channel.
    pub(crate) fn handle_event(&mut self, room: &str, event: Event, now: u64) {
        self.with(room, now, |room, shared| room.handle_event(shared, event, now));
    }

    /// A question is answered. Each one that was polled must be, once; [`Told::Failed`] if there is no other answer.
    pub(crate) fn handle_told(&mut self, ask: AskId, told: Told, now: u64) {
        if self.shared.land_cast(ask) {
            return;
        }
        let Some((life, purpose)) = self.shared.land(ask) else { return };
        let Some(room) = self.rooms.get(life) else { return };
        let opening = matches!(room.stage, Stage::Opening(_));
        let failed = opening
            && matches!(purpose, Purpose::Look { .. })
            && !matches!(told, Told::Read { .. });
        room.handle_told(&mut self.shared, ask, purpose, told, now);
        if failed && room.fail_open(&mut self.shared, now) || room.has_left() {
            return self.end(life, now);
        }
        self.after(life, now);
    }

    /// The registry says that a node is dead.
    pub(crate) fn handle_dead(&mut self, node: &NodeId, now: u64) {
        if *node == self.shared.node {
            return self.shared.fence();
        }
        self.shared.census.bury(node);
        self.each(now, |room, _| {
            if room.roll.has(node) {
                room.graves.dig(node);
            }
        });
    }

    /// The registry says that these nodes are alive. Lists are handed in one after the other, each asked for after the one
    /// before was there.
    pub(crate) fn handle_alive(&mut self, nodes: &[NodeId], now: u64) {
        for node in self.shared.census.count(nodes) {
            if !self.shared.is_us(&node) {
                self.handle_dead(&node, now);
            }
        }
    }

    /// This node was taken for dead and has another id now.
    pub(crate) fn handle_reborn(&mut self, node: NodeId, now: u64) {
        let old = std::mem::replace(&mut self.shared.node, node);
        self.shared.was(old.clone());
        self.shared.fenced = false;
        self.each(now, |room, shared| room.handle_reborn(shared, &old));
    }

    /// Nothing can be asked about these rooms for the time being. Costs a look at every room.
    pub(crate) fn handle_away(&mut self, of: impl Fn(&str) -> bool, now: u64) {
        let mut failed = Vec::new();
        self.each(now, |room, shared| {
            if of(&room.name) && !room.away {
                room.handle_away(shared);
                let opening = matches!(room.stage, Stage::Opening(_));
                if opening && room.fail_open(shared, now) {
                    failed.push(room.life);
                }
            }
        });
        for life in failed {
            self.end(life, now);
        }
    }

    /// These rooms can be asked about again. Costs a look at every room.
    pub(crate) fn handle_back(&mut self, of: impl Fn(&str) -> bool, now: u64) {
        self.each(now, |room, _| {
            if of(&room.name) && room.away {
                room.handle_back(now);
            }
        });
    }

    /// It is time for what [`poll_timeout`](Self::poll_timeout) announced.
    pub(crate) fn handle_timeout(&mut self, now: u64) {
        while let Some(&std::cmp::Reverse((due, life))) = self.shared.alarms.peek()
            && due <= now
        {
            self.shared.alarms.pop();
            let Some(room) = self.rooms.get(life) else { continue };
            if room.alarm == Some(due) {
                room.alarm = None;
            }
            if room.handle_timeout(&mut self.shared, now) {
                self.end(life, now);
            } else {
                self.after(life, now);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.shared.alarms.peek().map(|alarm| alarm.0.0)
    }

    /// The next question. Every one must be answered, by [`handle_told`](Self::handle_told).
    pub(crate) fn poll_ask(&mut self, now: u64) -> Option<(AskId, Ask)> {
        let Self { rooms, shared, .. } = self;
        if let Some(cast) = shared.next_cast() {
            return Some(cast);
        }
        while let Some(life) = shared.ready.pop_front() {
            let Some(room) = rooms.get(life) else { continue };
            let asked = room.next_ready(shared, now);
            room.arm(shared, now); // behind the others
            if asked.is_some() {
                return asked;
            }
        }
        while shared.pacing < MAX_PACED
            && let Some(life) = shared.paced.pop_front()
        {
            let Some(room) = rooms.get(life) else { continue };
            let asked = room.next_paced(shared, now);
            room.arm(shared, now);
            if asked.is_some() {
                return asked;
            }
        }
        None
    }

    /// The next change of subscriptions.
    pub(crate) fn poll_channel(&mut self) -> Option<Channel> {
        self.shared.channels.pop_front()
    }

    /// The next thing the hub is to be told.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect<R, T>> {
        self.shared.next_effect()
    }

    /// Whether Redis has taken this node for dead since the last call: it needs another id
    /// ([`handle_reborn`](Self::handle_reborn)). Until then nobody is seated.
    pub(crate) fn poll_fenced(&mut self) -> bool {
        std::mem::take(&mut self.shared.tell_fenced)
    }

    /// How many rooms there are, those included of which only seats have to be taken away.
    pub(crate) fn rooms(&self) -> usize {
        self.names.len()
    }

    /// How many questions are under way.
    pub(crate) fn asks(&self) -> usize {
        self.shared.flights()
    }

    /// Does something with a room.
    fn with(&mut self, room: &str, now: u64, act: impl FnOnce(&mut Room<R, T>, &mut Shared<R, T>)) {
        let Some(&life) = self.names.get(room) else { return };
        if let Some(room) = self.rooms.get(life) {
            act(room, &mut self.shared);
            self.after(life, now);
        }
    }

    /// Does something with every room.
    fn each(&mut self, now: u64, mut act: impl FnMut(&mut Room<R, T>, &mut Shared<R, T>)) {
        for room in self.rooms.all() {
            act(room, &mut self.shared);
            room.tell_current(&mut self.shared);
            room.arm(&mut self.shared, now);
        }
    }

    /// Something has happened in a room.
    fn after(&mut self, life: Life, now: u64) {
        if let Some(room) = self.rooms.get(life) {
            room.tell_current(&mut self.shared);
            room.arm(&mut self.shared, now);
        }
    }

    /// A room is over, but for what its last life has left to say.
    fn end(&mut self, life: Life, now: u64) {
        let Some(room) = self.rooms.get(life) else { return };
        if room.stage != Stage::Leaving && !room.close(&mut self.shared, now) {
            return self.after(life, now);
        }
        let Some(mut room) = self.rooms.remove(life) else { return };
        if self.names.get(&room.name) == Some(&life) {
            self.names.remove(&room.name);
        }
        room.land_all(&mut self.shared);
    }
}

/// The rooms by their lives.
#[derive(Debug)]
struct Rooms<R, T> {
    slots: Vec<Option<Box<Room<R, T>>>>,
    free: Vec<u32>,
    lives: u32,
}

impl<R, T> Rooms<R, T> {
    fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), lives: 0 }
    }

    /// A life for a room that is to come.
    fn reserve(&mut self) -> Life {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.lives = self.lives.wrapping_add(1);
        Life(u64::from(self.lives) << 32 | u64::from(slot))
    }

    fn insert(&mut self, room: Room<R, T>) {
        if let Some(slot) = self.slots.get_mut(room.life.slot()) {
            *slot = Some(Box::new(room));
        }
    }

    fn get(&mut self, life: Life) -> Option<&mut Room<R, T>> {
        let room = self.slots.get_mut(life.slot())?.as_deref_mut()?;
        (room.life == life).then_some(room)
    }

    fn peek(&self, life: Life) -> Option<&Room<R, T>> {
        self.slots.get(life.slot())?.as_deref().filter(|room| room.life == life)
    }

    fn remove(&mut self, life: Life) -> Option<Box<Room<R, T>>> {
        let slot = self.slots.get_mut(life.slot())?;
        let room = slot.take_if(|room| room.life == life)?;
        self.free.push(life.slot() as u32);
        Some(room)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Room<R, T>> {
        self.slots.iter_mut().filter_map(|slot| slot.as_deref_mut())
    }
}
