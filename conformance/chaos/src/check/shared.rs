//! What holds where several nodes share the rooms.

use std::collections::BTreeMap;

use super::{Check, Checker};
use crate::record::{Position, Shared};

impl Checker {
    fn shared(&self) -> Option<Shared> {
        self.keeps.and_then(|keeps| keeps.shared)
    }

    /// Whether something is being done to the nodes, or its consequences may still show.
    pub(super) fn is_disturbed(&self) -> bool {
        self.shared().is_some()
            && self.struck.is_some()
            && self.mended.is_none_or(|mended| self.now < mended + AFTERMATH)
    }

    /// Whether rooms may have begun anew by now.
    pub(super) fn may_renew(&self) -> bool {
        self.struck.is_some() && self.shared().is_some_and(|shared| shared.renews)
    }

    /// Whether acknowledged messages may be lost with their epoch.
    pub(super) fn may_lose(&self) -> bool {
        self.may_renew() && self.shared().is_some_and(|shared| shared.loses)
    }

    /// Whether this client's session may be gone: all may, or it had just begun when something was
    /// struck.
    pub(super) fn may_forget(&self, client: u32) -> bool {
        let (Some(shared), Some((_, last))) = (self.shared(), self.struck) else { return false };
        let born = self.clients.get(&client).map_or(0, |this| this.born);
        shared.forgets || born + YOUNG >= last
    }

    /// A room does not go on for a member, and the member was told so unasked.
    pub(super) fn renewed(
        &mut self,
        client: u32,
        connection: u32,
        line: usize,
        room: &str,
        now: &Position,
        recovered: bool,
    ) {
        self.verdict.count(Check::Recovery);
        let history = self.keeps.map_or(u64::MAX, |keeps| keeps.history);
        let seat =
            self.clients.entry(client).or_default().seats.entry(room.to_owned()).or_default();
        let before = (seat.epoch.clone(), seat.position());
        let same = before.0 == now.epoch;
        let member = seat.renew(connection, line, now);
        let text = if !member {
            Some(format!("client {client} is told of {room} without being there"))
        } else if recovered {
            Some(format!("client {client} is told unasked that it recovers in {room}"))
        } else if same && now.seq.saturating_sub(before.1) <= history {
            Some(format!("client {client} loses its place in {room}, which is kept"))
        } else {
            None
        };
        if let Some(text) = text {
            self.verdict.found(Check::Recovery, text, [line]);
        }
        self.epoch(room, now, line);
    }

    /// A member has asked for history: its epoch must be the one it was told.
    pub(super) fn told_epoch(&mut self, client: u32, line: usize, room: &str, epoch: &str) {
        let seat = self.clients.get(&client).and_then(|this| this.seats.get(room));
        let Some(seat) = seat.filter(|seat| seat.here() && seat.epoch != epoch) else { return };
        let text = format!("client {client} was not told that {room} begins anew as {epoch}");
        let lines = [seat.entered, line];
        self.verdict.found(Check::Recovery, text, lines);
    }

    /// Whether these are one place: the same number, in each epoch that has it. When an epoch ended and took
    /// messages with it, one that was not acknowledged may be in the next one as well.
    pub(super) fn is_at_one_place(&self, places: &[(String, u64, usize)]) -> bool {
        let others = |place: &(String, u64, usize)| {
            let (epoch, seq) = (place.0.clone(), place.1);
            places.iter().any(move |other| match other.0 == epoch {
                true => other.1 != seq,
                false => !self.may_renew() || (!self.may_lose() && other.1 != seq),
            })
        };
        !places.iter().any(others)
    }

    /// Where nothing may be lost, a number stands for the same message in all epochs of a room.
    pub(super) fn kept(&mut self) {
        if self.shared().is_none() || self.may_lose() {
            return;
        }
        for (name, room) in &self.rooms {
            let mut known: BTreeMap<u64, (&str, usize)> = BTreeMap::new();
            for (seq, fact) in room.epochs.values().flat_map(|stretch| &stretch.facts) {
                let (id, line) = known.entry(*seq).or_insert((&fact.id, fact.line));
                if *id != fact.id {
                    let text =
                        format!("{name}: {seq} is {id} in one epoch and {} in another", fact.id);
                    self.verdict.found(Check::Acks, text, [*line, fact.line]);
                }
            }
        }
    }

    /// In the end all members of a room are in the same epoch.
    pub(super) fn agreed(&mut self) {
        let mut rooms: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
        let mut found = Vec::new();
        for (client, this) in self.clients.iter().filter(|(_, this)| !this.departed) {
            for (room, seat) in this.seats.iter().filter(|(_, seat)| seat.here()) {
                let (epoch, line) = rooms.entry(room).or_insert((&seat.epoch, seat.entered));
                if *epoch != seat.epoch {
                    let text = format!("client {client} is in another epoch of {room} at the end");
                    found.push((text, [*line, seat.entered]));
                }
            }
        }
        for (text, lines) in found {
            self.verdict.found(Check::Recovery, text, lines);
        }
    }
}

/// How long after something was mended it may still show, in milliseconds: what waits for an answer gives
/// up after 10 s.
const AFTERMATH: u64 = 15_000;
/// A session this old, in milliseconds, is known to all nodes.
const YOUNG: u64 = 1000;
