//! One room of this node: what it waits for, and what it asks next.

use std::sync::Arc;

use bytes::Bytes;
use throng_hub::{Elsewhere, Epoch, Identity, Stored, Timestamp, Unavailable};
use throng_wire::OpCode;

use super::ahead::Ahead;
use super::graves::Graves;
use super::line::{Line, Waiting};
use super::look::Look;
use super::roll::{Heard, Moves, Roll, Shift};
use super::seats::Seats;
use super::shared::{Life, MAX_LINE, MAX_WAITING, Purpose, Shared};
use super::{AskId, Channel, Draft, Effect, Held, Kind, Opened};
use crate::redis::step::{Ask, Change, Event, Failure, Name, NodeId, Told, What};

/// A room.
#[derive(Debug)]
pub(super) struct Room<R, T> {
    pub(super) life: Life,
    pub(super) name: Name,
    pub(super) handle: R,
    pub(super) held: Held,
    pub(super) stage: Stage,
    /// The channel is heard.
    pub(super) subscribed: bool,
    /// Nothing can be asked.
    pub(super) away: bool,
    /// Since the channel is heard, the room was looked at.
    pub(super) verified: bool,
    current: bool,
    /// What the hub has: the last message of this epoch with this number.
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) look: Look,
    pub(super) ahead: Ahead,
    pub(super) line: Line<T>,
    pub(super) roll: Roll,
    pub(super) seats: Seats,
    pub(super) graves: Graves,
    /// When a timer rings, the earliest of those that were set.
    pub(super) alarm: Option<u64>,
    is_ready: bool,
    is_paced: bool,
}

/// ```text
///   Opening ──▶ Open ──▶ Leaving ──▶ (forgotten)
///      └──────────────────────────────────▲
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until then.
    Opening(u64),
    Open,
    /// Only own seats have to be taken away.
    Leaving,
}

impl<R: Clone, T> Room<R, T> {
    pub(super) fn new(life: Life, name: Name, handle: R, held: Held, now: u64) -> Self {
        let patience = if held.kind == Kind::Kept { OPEN_PATIENCE } else { BARE_PATIENCE };
        Self {
            life,
            name,
            handle,
            held,
            stage: Stage::Opening(now + patience),
            subscribed: false,
            away: false,
            verified: false,
            current: false,
            epoch: Epoch(0),
            seq: 0,
            time: Timestamp(0),
            look: Look::default(),
            ahead: Ahead::default(),
            line: Line::default(),
            roll: Roll::default(),
            seats: Seats::default(),
            graves: Graves::default(),
            alarm: None,
            is_ready: false,
            is_paced: false,
        }
    }

    /// The room is open.
    pub(super) fn opened(&mut self, shared: &mut Shared<R, T>, past: Vec<Stored>) {
        self.stage = Stage::Open;
        let (epoch, seq, time) = (self.epoch, self.seq, self.time);
        let (elsewhere, current) = (self.roll.everybody(), self.is_current());
        let opened = Opened { epoch, seq, time, past, elsewhere, current };
        shared.tell(self.life, Effect::Opened { room: self.handle.clone(), result: Ok(opened) });
    }

    /// Opens a room without Redis.
    fn open_bare(&mut self, shared: &mut Shared<R, T>, now: u64) {
        self.epoch = shared.fresh();
        self.look.drop_flight(shared);
        if self.held.kind == Kind::Seen {
            self.look.renew = true;
            self.look.verify_at = Some(now);
        }
        self.opened(shared, Vec::new());
    }

    /// The room cannot be opened now. Whether it is to be forgotten.
    pub(super) fn fail_open(&mut self, shared: &mut Shared<R, T>, now: u64) -> bool {
        if self.held.kind != Kind::Kept {
            self.open_bare(shared, now);
            return false;
        }
        let result = Err(Unavailable);
        shared.tell(self.life, Effect::Opened { room: self.handle.clone(), result });
        true
    }

    /// Nobody needs the room any more. Whether nothing is left to do.
    pub(super) fn close(&mut self, shared: &mut Shared<R, T>, now: u64) -> bool {
        shared.channels.push_back(Channel::Unsubscribe(self.name.clone()));
        self.look.drop_flight(shared);
        if let Some(ask) = self.line.flight() {
            shared.land(ask);
        }
        self.look = Look::default();
        self.ahead.clear();
        self.roll = Roll::default();
        while let Some(waiting) = self.line.take_any() {
            self.give_up(shared, waiting);
        }
        self.line = Line::default();
        self.seats.leave(now, shared.patience);
        self.graves.leave(shared);
        self.subscribed = false;
        self.stage = Stage::Leaving;
        self.has_left()
    }

    /// Whether nothing is left to do for a room that is closed.
    pub(super) fn has_left(&self) -> bool {
        self.stage == Stage::Leaving && self.seats.is_settled() && self.graves.is_empty()
    }

    /// Nobody wants an answer to anything any more.
    pub(super) fn land_all(&mut self, shared: &mut Shared<R, T>) {
        self.look.drop_flight(shared);
        for ask in [self.line.flight(), self.seats.flight(), self.graves.flight()] {
            ask.and_then(|ask| shared.land(ask));
        }
    }

    pub(super) fn append(&mut self, shared: &mut Shared<R, T>, draft: Draft<T>, now: u64) {
        let origin = (shared.node.clone(), shared.origin());
        self.line.push(draft, origin, now.saturating_add(shared.patience));
        let weight = self.line.last_weight();
        shared.waiting.0 += 1;
        shared.waiting.1 += weight;
        let (count, bytes) = shared.waiting;
        let full = self.line.len() > MAX_LINE || count > MAX_WAITING.0 || bytes > MAX_WAITING.1;
        let cannot = self.held.kind != Kind::Kept || self.away;
        if (full || cannot)
            && let Some(waiting) = self.line.take_last()
        {
            self.give_up(shared, waiting);
        }
    }

    pub(super) fn cast(&mut self, shared: &mut Shared<R, T>, opcode: OpCode, payload: Bytes) {
        if self.stage != Stage::Leaving && !self.away {
            let size = payload.len();
            let what = What::Cast { node: shared.node.clone(), opcode, payload };
            shared.cast(Ask { room: self.name.clone(), what }, size);
        }
    }

    pub(super) fn seat(&mut self, who: Arc<Identity>) {
        if self.held.kind != Kind::Cast && self.stage != Stage::Leaving {
            self.seats.seat(who);
        }
    }

    /// A message of this node that is answered as unavailable.
    pub(super) fn give_up(&mut self, shared: &mut Shared<R, T>, waiting: Waiting<T>) {
        let weight = waiting.weight();
        // What is stored for sure, but not delivered yet, is delivered as that of others.
        let outcome = match waiting.placed() {
            Some(placed) => waiting.duplicate(placed.seq, placed.timestamp),
            None => waiting.failed(),
        };
        self.answer(shared, outcome, weight);
    }

    pub(super) fn answer(
        &mut self,
        shared: &mut Shared<R, T>,
        outcome: super::Outcome<T>,
        weight: usize,
    ) {
        shared.waiting.0 -= 1;
        shared.waiting.1 -= weight;
        let outcomes = vec![outcome];
        shared.tell(self.life, Effect::Stored { room: self.handle.clone(), outcomes });
    }

    pub(super) fn tell_elsewhere(&mut self, shared: &mut Shared<R, T>, news: Vec<Elsewhere>) {
        if !news.is_empty() && self.stage == Stage::Open {
            shared.tell(self.life, Effect::Elsewhere { room: self.handle.clone(), news });
        }
    }

    pub(super) fn handle_subscribed(&mut self, shared: &mut Shared<R, T>, now: u64) {
        self.subscribed = true;
        self.look.spoil();
        self.roll.cut();
        match (self.held.kind, self.stage) {
            (_, Stage::Leaving) => self.subscribed = false,
            (Kind::Cast, Stage::Opening(_)) => self.open_bare(shared, now),
            (Kind::Cast, _) => {}
            _ => self.look.verify_at = Some(now),
        }
    }

    pub(super) fn handle_unsubscribed(&mut self) {
        self.subscribed = false;
        self.verified = false;
        self.look.spoil();
    }

    pub(super) fn handle_event(&mut self, shared: &mut Shared<R, T>, event: Event, now: u64) {
        if self.stage == Stage::Leaving {
            return;
        }
        match event {
            Event::Stored { epoch, records } => {
                if self.held.kind == Kind::Kept {
                    self.hear(shared, epoch, records, now);
                }
            }
            Event::Seats { node, seats, changes } => {
                if node == shared.node {
                    self.seats.echo(&changes);
                }
                let after = seats.saturating_add(changes.len() as u64);
                let what = Moves::Changes(changes);
                self.hear_shift(shared, Shift { before: seats, after, node, what }, now);
            }
            Event::Buried { dead, seats } => {
                if dead == shared.node {
                    shared.fence();
                }
                self.graves.forget(&dead);
                let before = seats.saturating_sub(1);
                let shift = Shift { before, after: seats, node: dead, what: Moves::Buried };
                self.hear_shift(shared, shift, now);
            }
            Event::Cast { node, opcode, payload } => {
                if self.stage == Stage::Open && !shared.is_us(&node) {
                    let room = self.handle.clone();
                    shared.tell(self.life, Effect::Cast { room, opcode, payload });
                }
            }
        }
    }

    fn hear_shift(&mut self, shared: &mut Shared<R, T>, shift: Shift, now: u64) {
        if self.held.kind == Kind::Cast {
            return;
        }
        if matches!(shift.what, Moves::Changes(_)) {
            self.judge(shared, &shift.node);
        }
        let (after, mut news) = (shift.after, Vec::new());
        let heard = self.roll.shift(shift, &|node| shared.is_us(node), &mut news);
        match heard {
            Heard::Fine => self.fill(),
            Heard::Hole => self.look.hear_seats(after, now),
            Heard::Back => self.look.verify_at = Some(now),
        }
        self.tell_elsewhere(shared, news);
    }

    /// A node has somebody here: it had better be alive.
    pub(super) fn judge(&mut self, shared: &mut Shared<R, T>, node: &NodeId) {
        if shared.is_dead(node) {
            self.graves.dig(node);
        } else if *node != shared.node {
            shared.census.see(node);
        }
    }

    /// An answer to one of this room's questions, other than looks.
    pub(super) fn handle_told(
        &mut self,
        shared: &mut Shared<R, T>,
        ask: AskId,
        purpose: Purpose,
        told: Told,
        now: u64,
    ) {
        match (purpose, told) {
            (Purpose::Look { .. }, told) => self.looked(shared, ask, told, now),
            (Purpose::Append, Told::Appended { epoch, placed }) => {
                self.placed(shared, ask, epoch, &placed, now);
            }
            (Purpose::Append, told) => {
                let failure = failure(&told);
                let counters = self.line.answered(ask);
                if failure == Failure::Unknown {
                    self.line.doubt(&counters);
                } else {
                    for waiting in self.line.take_fresh(&counters) {
                        self.give_up(shared, waiting);
                    }
                }
                self.line.back_off(now);
            }
            (Purpose::Seat, Told::Seated { seats }) => {
                self.seats.answered(ask, now, shared.patience);
                self.expect_seats(seats, now);
            }
            (Purpose::Seat, Told::Buried) => {
                let node = self.seats.failed(ask, false, now, 0);
                if node.is_some_and(|node| node == shared.node) {
                    shared.fence();
                }
            }
            (Purpose::Seat, told) => {
                let doubtful = failure(&told) == Failure::Unknown;
                self.seats.failed(ask, doubtful, now, shared.patience);
            }
            (Purpose::Bury, told) => {
                let done = matches!(told, Told::Seated { .. });
                self.graves.answered(ask, done, now);
                if let Told::Seated { seats } = told {
                    self.expect_seats(seats, now);
                }
            }
        }
    }

    /// Events up to this state of the roll are on their way.
    fn expect_seats(&mut self, seats: u64, now: u64) {
        let known = self.roll.version.is_none_or(|version| version >= seats);
        if self.stage == Stage::Open && !known {
            self.look.hear_seats(seats, now + GRACE);
        }
    }

    pub(super) fn handle_away(&mut self, shared: &mut Shared<R, T>) {
        self.away = true;
        self.verified = false;
        self.seats.shake();
        self.look.spoil();
        self.tell_looked(shared, true);
        for waiting in self.line.take_unsent() {
            self.give_up(shared, waiting);
        }
    }

    pub(super) fn handle_back(&mut self, now: u64) {
        self.away = false;
        self.line.retry_at = None;
        self.seats.retry_at = None;
        self.graves.retry_at = None;
        if self.stage == Stage::Open && self.held.kind != Kind::Cast {
            self.look.verify_at = Some(now);
        }
    }

    pub(super) fn handle_reborn(&mut self, shared: &mut Shared<R, T>, old: &NodeId) {
        if !self.seats.is_used() {
            return;
        }
        if let Some(ask) = self.seats.flight() {
            shared.land(ask);
        }
        self.seats.reborn();
        self.graves.dig(old);
    }

    /// Time has passed. Whether the room is to be forgotten.
    pub(super) fn handle_timeout(&mut self, shared: &mut Shared<R, T>, now: u64) -> bool {
        if let Stage::Opening(until) = self.stage
            && until <= now
            && self.fail_open(shared, now)
        {
            return true;
        }
        while let Some(late) = self.line.take_late(now) {
            self.give_up(shared, late);
        }
        self.seats.again(now);
        false
    }

    /// Tells whether what is known is up to date, if that has changed.
    pub(super) fn tell_current(&mut self, shared: &mut Shared<R, T>) {
        if self.stage == Stage::Open && self.is_current() != self.current {
            self.current = !self.current;
            let (room, current) = (self.handle.clone(), self.current);
            shared.tell(self.life, Effect::Current { room, current });
        }
    }

    pub(super) fn is_current(&self) -> bool {
        let known = self.held.kind == Kind::Cast || self.verified;
        self.stage == Stage::Open && known
    }

    /// Gets into the queues, and sets the timer.
    pub(super) fn arm(&mut self, shared: &mut Shared<R, T>, now: u64) {
        if !self.is_ready && self.is_ready_now(shared, now) {
            self.is_ready = true;
            shared.ready.push_back(self.life);
        }
        if !self.is_paced && self.is_paced_now(now) {
            self.is_paced = true;
            shared.paced.push_back(self.life);
        }
        if let Some(due) = self.due(shared, now)
            && self.alarm.is_none_or(|alarm| due < alarm)
        {
            self.alarm = Some(due);
            shared.alarms.push(std::cmp::Reverse((due, self.life)));
        }
    }

    fn is_ready_now(&self, shared: &Shared<R, T>, now: u64) -> bool {
        let first = matches!(self.stage, Stage::Opening(_)) && self.look.is_due(now);
        let append = self.stage == Stage::Open && self.line.is_due(now);
        let seat = self.may_seat(shared) && self.seats.is_due(now);
        !self.away && (first || append || seat)
    }

    fn may_seat(&self, shared: &Shared<R, T>) -> bool {
        !shared.fenced && !matches!(self.stage, Stage::Opening(_))
    }

    fn is_paced_now(&self, now: u64) -> bool {
        let look = self.stage == Stage::Open && self.look.is_due(now);
        !self.away && (look || self.graves.is_due(now))
    }

    /// When there is something to do that is not in a queue.
    fn due(&self, shared: &Shared<R, T>, now: u64) -> Option<u64> {
        let opening = match self.stage {
            Stage::Opening(until) => Some(until),
            _ => None,
        };
        let ask = |waiting: bool, at: Option<u64>| at.filter(|_| waiting && !self.away);
        let asks = [
            ask(self.stage != Stage::Leaving, self.look.due()),
            ask(self.line.is_waiting(), self.line.retry_at),
            ask(self.seats.is_waiting() && self.may_seat(shared), self.seats.retry_at),
            ask(self.graves.is_waiting(), self.graves.retry_at),
        ];
        // What is due already is in a queue.
        let asks = asks.into_iter().flatten().filter(|&at| at > now).min();
        [opening, self.line.deadline(), self.seats.again_at(), asks].into_iter().flatten().min()
    }

    /// The next question that need not wait for its turn.
    pub(super) fn next_ready(
        &mut self,
        shared: &mut Shared<R, T>,
        now: u64,
    ) -> Option<(AskId, Ask)> {
        self.is_ready = false;
        if self.away {
            return None;
        }
        let keep = self.held.limits;
        let (ask, what) = if matches!(self.stage, Stage::Opening(_)) && self.look.is_due(now) {
            let ask = shared.take_off(self.life, Purpose::Look { paced: false });
            (ask, self.look(shared, ask))
        } else if self.stage == Stage::Open && self.line.is_due(now) {
            let ask = shared.take_off(self.life, Purpose::Append);
            let entries = self.line.ask(ask);
            (ask, What::Append { fresh: shared.fresh(), keep, entries })
        } else if self.may_seat(shared) && self.seats.is_due(now) {
            let ask = shared.take_off(self.life, Purpose::Seat);
            let changes: Vec<Change> = self.seats.ask(ask, &shared.node);
            (ask, What::Seat { node: shared.node.clone(), keep, changes })
        } else {
            return None;
        };
        Some((ask, Ask { room: self.name.clone(), what }))
    }

    /// The next question of those of which only so many are asked at a time.
    pub(super) fn next_paced(
        &mut self,
        shared: &mut Shared<R, T>,
        now: u64,
    ) -> Option<(AskId, Ask)> {
        self.is_paced = false;
        if self.away {
            return None;
        }
        let (ask, what) = if self.stage == Stage::Open && self.look.is_due(now) {
            let ask = shared.take_off(self.life, Purpose::Look { paced: true });
            (ask, self.look(shared, ask))
        } else if self.graves.is_due(now) {
            let ask = shared.take_off(self.life, Purpose::Bury);
            let dead = self.graves.ask(ask)?;
            (ask, What::Bury { dead, keep: self.held.limits })
        } else {
            return None;
        };
        Some((ask, Ask { room: self.name.clone(), what }))
    }
}

fn failure(told: &Told) -> Failure {
    match told {
        Told::Failed(failure) => *failure,
        _ => Failure::Unknown, // no answer to this question: nobody knows what was done
    }
}

/// How long events have to come that were sent before an answer was.
pub(super) const GRACE: u64 = 20;
const OPEN_PATIENCE: u64 = 5000;
const BARE_PATIENCE: u64 = 1000;
