//! A model of one Redis server, with what the scripts do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use throng_hub::{Epoch, Identity, Timestamp};

use super::ledger::{Ledger, message_of};
use crate::redis::step::{
    Ask, At, Change, Entry, Event, Failure, Limits, Name, NodeId, Placed, Record, Roll, Told, What,
};

/// A server from its promotion or start to the next.
#[derive(Debug)]
pub(super) struct Server {
    /// Changes with each promotion and start.
    pub(super) owner: u64,
    pub(super) data: Data,
    /// What a replica has, or the disk.
    pub(super) replica: Data,
    /// How far its clock is off.
    pub(super) skew: i64,
    /// Takes no writes.
    pub(super) full: bool,
    /// With what it began.
    pub(super) began: Data,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) rooms: BTreeMap<Name, State>,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) owner: u64,
    pub(super) epoch: Epoch,
    /// The epoch with which the data began.
    born: Epoch,
    pub(super) seq: u64,
    time: u64,
    /// What is kept.
    stream: BTreeMap<u64, Record>,
    /// What was ever stored: number and message.
    pub(super) archive: BTreeMap<u64, u64>,
    dedup: BTreeMap<(Box<str>, u64), (Epoch, Placed)>,
    /// Up to this number, messages of a node are forgotten.
    gone: BTreeMap<NodeId, u64>,
    seats: u64,
    pub(super) roll: BTreeMap<NodeId, BTreeMap<Box<str>, Arc<Identity>>>,
    graves: BTreeSet<NodeId>,
    /// When its epoch began, and when the last message was stored, by the clock of the world.
    pub(super) began: u64,
    pub(super) changed: u64,
}

impl Server {
    pub(super) fn new(owner: u64, data: Data, skew: i64) -> Self {
        let (replica, began) = (data.clone(), data.clone());
        Self { owner, data, replica, skew, full: false, began }
    }

    /// Runs a script. `fresh` is for those that bring no epoch of their own.
    pub(super) fn run(
        &mut self,
        ask: Ask,
        now: u64,
        fresh: Epoch,
        ledger: &mut Ledger,
    ) -> (Told, Option<Event>) {
        let writes = matches!(ask.what, What::Append { .. } | What::Seat { .. });
        if writes && self.full {
            return (Told::Failed(Failure::Refused), None);
        }
        let fresh = match &ask.what {
            What::Open { fresh, .. } | What::Append { fresh, .. } | What::Read { fresh, .. } => {
                *fresh
            }
            _ => fresh,
        };
        if let What::Cast { node, opcode, payload } = ask.what {
            return (Told::Done, Some(Event::Cast { node, opcode, payload }));
        }
        let clock = (DAWN + now).saturating_add_signed(self.skew);
        let state = self.state(&ask.room, now, clock, fresh, ledger);
        let time = clock.max(state.time);
        match ask.what {
            What::Open { keep, .. } => {
                state.trim(keep, time);
                let past = state.stream.values().rev().take(keep.size).cloned().collect::<Vec<_>>();
                let past = past.into_iter().rev().collect();
                (Told::Read { at: state.at(), past, roll: Some(state.told_roll()) }, None)
            }
            What::Read { keep, after, most, seats, .. } => {
                state.trim(keep, time);
                let past = state.stream.range(after.saturating_add(1)..).take(most);
                let past = past.map(|(_, record)| record.clone()).collect();
                let roll = (seats != state.seats).then(|| state.told_roll());
                (Told::Read { at: state.at(), past, roll }, None)
            }
            What::Append { keep, entries, .. } => {
                let (told, event) = state.append(entries, time, &ask.room, ledger);
                if event.is_some() {
                    state.changed = now;
                }
                state.trim(keep, time);
                (told, event)
            }
            What::Seat { node, changes, .. } => {
                if state.graves.contains(&node) {
                    return (Told::Buried, None);
                }
                let before = state.seats;
                for change in &changes {
                    state.seats += 1;
                    let users = state.roll.entry(node.clone()).or_default();
                    match change {
                        Change::Here(who) => {
                            users.insert(who.user_id().into(), who.clone());
                        }
                        Change::Gone(user) => {
                            users.remove(user);
                        }
                    }
                }
                state.roll.retain(|_, users| !users.is_empty());
                let told = Told::Seated { seats: state.seats };
                (told, Some(Event::Seats { node, seats: before, changes }))
            }
            What::Bury { dead, .. } => {
                if !state.graves.insert(dead.clone()) {
                    return (Told::Seated { seats: state.seats }, None);
                }
                state.roll.remove(&dead);
                state.seats += 1;
                let seats = state.seats;
                (Told::Seated { seats }, Some(Event::Buried { dead, seats }))
            }
            What::Cast { .. } => (Told::Done, None),
        }
    }

    /// The room, whose numbers belong to this server.
    fn state(
        &mut self,
        room: &Name,
        now: u64,
        clock: u64,
        fresh: Epoch,
        ledger: &mut Ledger,
    ) -> &mut State {
        let owner = self.owner;
        let state = self.data.rooms.entry(room.clone()).or_insert_with(|| State {
            owner,
            epoch: fresh,
            born: fresh,
            seq: 0,
            time: clock,
            stream: BTreeMap::new(),
            archive: BTreeMap::new(),
            dedup: BTreeMap::new(),
            gone: BTreeMap::new(),
            seats: clock * 1000,
            roll: BTreeMap::new(),
            graves: BTreeSet::new(),
            began: now,
            changed: now,
        });
        if state.owner != owner {
            state.owner = owner;
            state.epoch = fresh;
            state.seats += 1_000_000;
            state.began = now;
            for (&seq, &message) in &state.archive {
                ledger.number(room, fresh, seq, message);
            }
        }
        state
    }
}

impl State {
    fn at(&self) -> At {
        At { epoch: self.epoch, seq: self.seq, time: Timestamp(self.time), seats: self.seats }
    }

    fn told_roll(&self) -> Roll {
        let users = |users: &BTreeMap<_, Arc<Identity>>| users.values().cloned().collect();
        Roll { nodes: self.roll.iter().map(|(node, all)| (node.clone(), users(all))).collect() }
    }

    fn append(
        &mut self,
        entries: Vec<Entry>,
        time: u64,
        room: &Name,
        ledger: &mut Ledger,
    ) -> (Told, Option<Event>) {
        let (mut placed, mut records) = (Vec::new(), Vec::new());
        for entry in entries {
            let key = match entry.reference {
                0 => (Box::from(&*entry.origin.0), entry.origin.1),
                reference => (format!("session {}", entry.session).into(), reference),
            };
            let gone = self.gone.get(&entry.origin.0).copied().unwrap_or(0);
            if entry.reference == 0 && entry.origin.1 <= gone {
                let timestamp = Timestamp(0);
                placed.push(Placed { seq: 0, timestamp, duplicate: true });
                continue;
            }
            if let Some(&(born, known)) = self.dedup.get(&key)
                && born == self.born
                && known.seq <= self.seq
            {
                placed.push(Placed { duplicate: true, ..known });
                continue;
            }
            self.seq += 1;
            self.time = time;
            let at = Placed { seq: self.seq, timestamp: Timestamp(time), duplicate: false };
            let message = message_of(&entry.body);
            ledger.number(room, self.epoch, self.seq, message);
            ledger.stored.insert((room.clone(), message));
            self.archive.insert(self.seq, message);
            self.dedup.insert(key, (self.born, at));
            let record = Record { seq: at.seq, timestamp: at.timestamp, entry };
            self.stream.insert(at.seq, record.clone());
            records.push(record);
            placed.push(at);
        }
        self.forget();
        let epoch = self.epoch;
        let event = (!records.is_empty()).then_some(Event::Stored { epoch, records });
        (Told::Appended { epoch, placed }, event)
    }

    /// Remembers so many attempts of each node.
    fn forget(&mut self) {
        while self.dedup.len() > WINDOW {
            let oldest = self.dedup.iter().min_by_key(|(_, (_, at))| at.seq);
            let Some((key, _)) = oldest.map(|(key, at)| (key.clone(), *at)) else { return };
            self.dedup.remove(&key);
            if !key.0.starts_with("session ") {
                let gone = self.gone.entry(NodeId::from(&*key.0)).or_default();
                *gone = key.1.max(*gone);
            }
        }
    }

    fn trim(&mut self, keep: Limits, time: u64) {
        while let Some(oldest) = self.stream.first_entry() {
            let old = oldest.get().timestamp.0.saturating_add(keep.ttl) < time;
            if !old && *oldest.key() + keep.size as u64 > self.seq {
                break;
            }
            oldest.remove();
        }
    }
}

/// So far from the beginning of time that a clock can be set back.
const DAWN: u64 = 1 << 40;
/// Attempts remembered for each room.
const WINDOW: usize = 320;
