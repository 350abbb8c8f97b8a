//! Looking where a room is, and putting what comes into order.

use throng_hub::{Elsewhere, Epoch, Renewed, Stored};

use super::line::back_off;
use super::room::{GRACE, Room, Stage};
use super::shared::{Shared, small};
use super::{AskId, Effect, Kind};
use crate::redis::step::{At, Placed, Record, Roll, Told, What};

/// When a room is looked at next, and why. One look is under way at a time, so an answer is never older than the one
/// before.
#[derive(Debug, Default)]
pub(super) struct Look {
    flight: Option<Flight>,
    /// It has to be looked at from then on.
    pub(super) verify_at: Option<u64>,
    /// From then on, if what was heard of has not come by then.
    hole_at: Option<u64>,
    /// From then on, to be sure.
    pub(super) probe_at: Option<u64>,
    /// Messages up to this number of this epoch were heard of, since the last look.
    heard_seq: Option<(Epoch, u64)>,
    /// The roll was heard to be in this state, since the last look.
    heard_seats: u64,
    /// What is known cannot be gone on from: the next look begins anew.
    pub(super) renew: bool,
    /// So many wait for a look that begins from now on.
    asked: u32,
    /// So many wait for the look that is under way, or was begun.
    awaited: u32,
    tries: u32,
}

/// A look under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    ask: AskId,
    /// What was known then.
    after: u64,
    seats: u64,
    whole: bool,
    /// What comes later is heard.
    sound: bool,
}

impl Look {
    /// When there is a look to be made.
    pub(super) fn due(&self) -> Option<u64> {
        if self.flight.is_some() {
            return None;
        }
        [self.verify_at, self.hole_at, self.probe_at].into_iter().flatten().min()
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// Nobody wants the answer any more.
    pub(super) fn drop_flight<R, T>(&mut self, shared: &mut Shared<R, T>) {
        if let Some(flight) = self.flight.take() {
            shared.land(flight.ask);
        }
    }

    /// What comes later than the look under way was not heard, perhaps.
    pub(super) fn spoil(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.sound = false;
        }
    }

    /// There are messages up to this one.
    fn hear_seq(&mut self, epoch: Epoch, seq: u64, at: u64) {
        let known = match self.heard_seq {
            Some((other, known)) if other == epoch => known,
            _ => 0,
        };
        self.heard_seq = Some((epoch, seq.max(known)));
        self.hole_at = Some(self.hole_at.map_or(at, |other| other.min(at)));
    }

    /// There is this state of the roll.
    pub(super) fn hear_seats(&mut self, seats: u64, at: u64) {
        self.heard_seats = self.heard_seats.max(seats);
        self.hole_at = Some(self.hole_at.map_or(at, |other| other.min(at)));
    }
}

impl<R: Clone, T> Room<R, T> {
    /// Somebody wants to know what there is now.
    pub(super) fn handle_look(&mut self, shared: &mut Shared<R, T>, now: u64) {
        if self.held.kind != Kind::Kept || self.away {
            shared.tell(self.life, Effect::Looked { room: self.handle.clone() });
        } else {
            self.look.asked += 1;
            self.look.verify_at = Some(now);
        }
    }

    /// Whoever waits for a look is told that it is over; with `all`, also for one that has not begun.
    pub(super) fn tell_looked(&mut self, shared: &mut Shared<R, T>, all: bool) {
        let asked = if all { std::mem::take(&mut self.look.asked) } else { 0 };
        for _ in 0..std::mem::take(&mut self.look.awaited) + asked {
            shared.tell(self.life, Effect::Looked { room: self.handle.clone() });
        }
    }

    /// Looks at the room.
    pub(super) fn look(&mut self, shared: &mut Shared<R, T>, ask: AskId) -> What {
        let whole = self.look.renew || self.stage != Stage::Open;
        let (after, seats) = (self.seq, self.roll.version.unwrap_or(0));
        let sound = self.subscribed;
        self.look.flight = Some(Flight { ask, after, seats, whole, sound });
        self.look.awaited += std::mem::take(&mut self.look.asked);
        // What was heard of until now is in the answer.
        (self.look.verify_at, self.look.hole_at, self.look.probe_at) = (None, None, None);
        (self.look.heard_seq, self.look.heard_seats) = (None, 0);
        let (fresh, keep) = (shared.fresh(), self.held.limits);
        if whole {
            What::Open { fresh, keep }
        } else {
            What::Read { fresh, keep, after, most: MOST, seats }
        }
    }

    /// A look is answered.
    pub(super) fn looked(&mut self, shared: &mut Shared<R, T>, ask: AskId, told: Told, now: u64) {
        let Some(flight) = self.look.flight.take_if(|flight| flight.ask == ask) else { return };
        let Told::Read { at, past, roll } = told else {
            // Before it is open, the caller decides.
            let wait = back_off(&mut self.look.tries, RETRY, RETRY_MOST);
            self.look.verify_at = Some(now + wait);
            return self.tell_looked(shared, false);
        };
        self.look.tries = 0;
        self.look.probe_at = Some(now + shared.probe_in(self.life));
        let complete = match self.stage {
            Stage::Opening(_) => {
                self.first(shared, at, past, roll);
                true
            }
            Stage::Open if flight.whole => {
                self.renew(shared, flight, at, past, roll);
                true
            }
            Stage::Open => self.read(shared, flight, at, past, roll),
            Stage::Leaving => return,
        };
        if !complete {
            self.look.verify_at = Some(now);
        }
        self.settle(complete);
        if complete {
            self.seats.settle(now, shared.patience);
            self.verified |= flight.sound && self.subscribed && !self.away;
            self.tell_looked(shared, false);
        }
    }

    /// The first look: the room is open.
    fn first(&mut self, shared: &mut Shared<R, T>, at: At, past: Vec<Record>, roll: Option<Roll>) {
        (self.epoch, self.seq, self.time) = (at.epoch, at.seq, at.time);
        self.adopt(shared, at.seats, roll.unwrap_or_default(), &mut Vec::new());
        let past = newest(past, at.seq);
        self.opened(shared, past.into_iter().map(stored).collect());
        self.drain(shared);
    }

    /// What is behind the last message. Whether that was all.
    fn read(
        &mut self,
        shared: &mut Shared<R, T>,
        flight: Flight,
        at: At,
        past: Vec<Record>,
        roll: Option<Roll>,
    ) -> bool {
        if at.epoch != self.epoch || at.seq < flight.after {
            self.look.renew = true;
            return false;
        }
        if self.held.kind == Kind::Kept {
            let next = self.seq.saturating_add(1);
            let gone = match past.iter().find(|record| record.seq >= next) {
                _ if at.seq < next => false,
                Some(record) => record.seq > next,
                None => past.is_empty(),
            };
            for record in past {
                if self.is_next(record.seq) {
                    self.deliver(shared, record);
                }
            }
            self.drain(shared);
            self.look.renew = gone && self.seq < at.seq;
        }
        if let Some(roll) = roll {
            // Events may have been faster.
            let newer = self.roll.version.is_some_and(|known| known > at.seats);
            if !newer || at.seats < flight.seats {
                let mut news = Vec::new();
                self.adopt(shared, at.seats, roll, &mut news);
                self.tell_elsewhere(shared, news);
            }
        }
        self.held.kind != Kind::Kept || self.seq >= at.seq
    }

    /// The room begins anew.
    fn renew(
        &mut self,
        shared: &mut Shared<R, T>,
        flight: Flight,
        at: At,
        past: Vec<Record>,
        roll: Option<Roll>,
    ) {
        self.look.renew = false;
        let same = at.epoch == self.epoch;
        let is_known = same && flight.after <= at.seq && at.seq <= self.seq;
        if !is_known {
            (self.epoch, self.seq, self.time) = (at.epoch, at.seq, at.time);
            if same && at.seq < flight.after {
                self.ahead.clear(); // those were lost
            }
        }
        if self.held.kind == Kind::Kept && !is_known {
            let past = newest(past, at.seq);
            let mut claimed = Vec::new();
            for record in &past {
                if let Some(waiting) = self.line.claim(&record.entry.origin) {
                    claimed.push((waiting, record.seq, record.timestamp));
                }
            }
            let renewed = Renewed {
                epoch: at.epoch,
                seq: at.seq,
                time: at.time,
                past: past.into_iter().map(stored).collect(),
            };
            shared.tell(self.life, Effect::Renewed { room: self.handle.clone(), renewed });
            let overtaken = !claimed.is_empty();
            for (waiting, seq, timestamp) in claimed {
                let weight = waiting.weight();
                self.answer(shared, waiting.duplicate(seq, timestamp), weight);
            }
            for waiting in self.line.decide(at.epoch, Some(at.seq), overtaken) {
                self.give_up(shared, waiting);
            }
            self.drain(shared);
        }
        let mut news = Vec::new();
        self.adopt(shared, at.seats, roll.unwrap_or_default(), &mut news);
        self.tell_elsewhere(shared, news);
    }

    /// The whole roll is told.
    fn adopt(
        &mut self,
        shared: &mut Shared<R, T>,
        version: u64,
        roll: Roll,
        news: &mut Vec<Elsewhere>,
    ) {
        let listed = roll.nodes.iter().find(|(node, _)| *node == shared.node);
        self.seats.compare(listed.map_or(&[], |(_, users)| users));
        self.graves.retain(|dead| {
            shared.former.contains(dead) || roll.nodes.iter().any(|(node, _)| node == dead)
        });
        for (node, _) in &roll.nodes {
            self.judge(shared, node);
        }
        self.roll.adopt(version, roll, &|node| shared.is_us(node), news);
    }

    /// After a look: whether there is another one to be made.
    fn settle(&mut self, complete: bool) {
        if self.look.hole_at.is_none() {
            // What was heard of before the look and is not in it never comes.
            if complete || self.ahead.is_foreign(self.epoch) {
                self.ahead.clear();
            }
            self.roll.drop_later();
        }
        self.fill();
        if complete && self.look.hole_at.is_none() {
            self.line.decide(self.epoch, None, false);
        }
    }

    /// If everything has come that was heard of, it need not be looked for.
    pub(super) fn fill(&mut self) {
        let seq = match self.look.heard_seq {
            Some((epoch, seq)) => epoch == self.epoch && seq <= self.seq,
            None => true,
        };
        if seq && self.roll.version.is_some_and(|version| version >= self.look.heard_seats) {
            self.look.hole_at = None;
        }
    }

    /// Messages are heard of.
    pub(super) fn hear(
        &mut self,
        shared: &mut Shared<R, T>,
        epoch: Epoch,
        records: Vec<Record>,
        now: u64,
    ) {
        let Some(last) = records.last().map(|record| record.seq) else { return };
        let known = self.stage == Stage::Open && epoch == self.epoch;
        for record in records {
            if known && self.is_next(record.seq) {
                self.deliver(shared, record);
            } else if !known || record.seq > self.seq {
                self.ahead.put(epoch, record);
            }
        }
        if known {
            self.drain(shared);
        }
        if !known || last > self.seq {
            self.look.hear_seq(epoch, last, now);
        }
        self.fill();
    }

    /// Messages of this node are stored.
    pub(super) fn placed(
        &mut self,
        shared: &mut Shared<R, T>,
        ask: AskId,
        epoch: Epoch,
        placed: &[Placed],
        now: u64,
    ) {
        let counters = self.line.answered(ask);
        self.line.relax();
        let known = epoch == self.epoch;
        for (&counter, &place) in counters.iter().zip(placed) {
            self.place(shared, epoch, counter, place, now);
        }
        if let Some(rest) = counters.get(placed.len()..) {
            self.line.doubt(rest); // an answer for each is missing: no script does that
            if !rest.is_empty() {
                self.line.back_off(now);
            }
        }
        if known {
            self.drain(shared);
            self.fill();
        }
    }

    fn place(
        &mut self,
        shared: &mut Shared<R, T>,
        epoch: Epoch,
        counter: u64,
        place: Placed,
        now: u64,
    ) {
        let known = epoch == self.epoch;
        if !known {
            // Whether that is over or has just begun, a look will tell.
            self.line.place(counter, epoch, place, false);
            self.look.hear_seq(epoch, place.seq, now);
            return;
        }
        let Some(waiting) = self.line.get(counter) else { return };
        if place.duplicate || place.seq <= self.seq {
            let origin = waiting.entry.origin.clone();
            if let Some(waiting) = self.line.claim(&origin) {
                let weight = waiting.weight();
                self.answer(shared, waiting.duplicate(place.seq, place.timestamp), weight);
            }
        } else {
            let (entry, timestamp) = (waiting.entry.clone(), place.timestamp);
            let record = Record { seq: place.seq, timestamp, entry };
            if self.is_next(place.seq) {
                self.deliver(shared, record);
            } else {
                self.line.place(counter, epoch, place, true);
                self.ahead.put(epoch, record);
            }
        }
        if place.seq > self.seq {
            self.look.hear_seq(epoch, place.seq, now + GRACE);
        }
    }

    /// Whether this is the number of the room's next message.
    fn is_next(&self, seq: u64) -> bool {
        self.seq.checked_add(1) == Some(seq)
    }

    /// Delivers what is no longer ahead.
    fn drain(&mut self, shared: &mut Shared<R, T>) {
        while let Some(record) = self.ahead.next(self.epoch, self.seq) {
            self.deliver(shared, record);
        }
    }

    /// The room's next message.
    fn deliver(&mut self, shared: &mut Shared<R, T>, record: Record) {
        self.seq = record.seq;
        self.time = self.time.max(record.timestamp);
        if let Some(waiting) = self.line.claim(&record.entry.origin) {
            let weight = waiting.weight();
            self.answer(shared, waiting.stored(record.seq, record.timestamp), weight);
        } else {
            let messages = vec![stored(record)];
            shared.tell(self.life, Effect::Arrived { room: self.handle.clone(), messages });
        }
    }
}

/// The records up to `seq` without holes.
fn newest(mut past: Vec<Record>, seq: u64) -> Vec<Record> {
    let fits =
        |(back, record): &(usize, &Record)| record.seq.checked_add(*back as u64) == Some(seq);
    let fitting = past.iter().rev().enumerate().take_while(fits).count();
    past.drain(..past.len() - fitting);
    past
}

fn stored(record: Record) -> Stored {
    let Record { seq, timestamp, entry } = record;
    let (session, reference, body) = (entry.session, entry.reference, entry.body);
    Stored { seq, timestamp, session, reference, body }
}

/// Messages of one look.
const MOST: usize = small(256, 5);
const RETRY: u64 = 50;
const RETRY_MOST: u64 = 2000;
