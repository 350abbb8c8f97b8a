//! Messages of this node that wait to be stored in one room.

use std::collections::VecDeque;

use throng_hub::Epoch;

use super::shared::small;
use super::{AskId, Draft, Outcome};
use crate::redis::step::{Entry, NodeId, Placed};

/// Messages of this node that are not answered yet, in the order they came.
///
/// ```text
///   Fresh ── asked, answer lost ──▶ Doubtful ◀─┐
///     └──────────────┬─────────────────┘       │ in an epoch that is not the room's
///                    └── answered ──▶ Placed ──┘
/// ```
///
/// A message leaves when its record is the room's next, or when it is known that nothing more comes of it.
#[derive(Debug)]
pub(super) struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    /// How many of these are placed.
    placed: usize,
    /// How many of these in an epoch that is not the room's, as far as is known.
    undecided: usize,
    flight: Option<Flight>,
    /// Nothing is asked before.
    pub(super) retry_at: Option<u64>,
    tries: u32,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) entry: Entry,
    token: T,
    /// When it is answered as unavailable.
    deadline: u64,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nobody has it.
    Fresh,
    /// It may be stored.
    Doubtful,
    /// It is stored, but is not the room's next message yet.
    Placed(Epoch, Placed, bool),
}

/// The question that is under way.
#[derive(Debug)]
struct Flight {
    ask: AskId,
    /// The numbers of the messages in it.
    counters: Vec<u64>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            placed: 0,
            undecided: 0,
            flight: None,
            retry_at: None,
            tries: 0,
        }
    }
}

impl<T> Line<T> {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a message at the end.
    pub(super) fn push(&mut self, draft: Draft<T>, origin: (NodeId, u64), deadline: u64) {
        let Draft { session, reference, body, token } = draft;
        let entry = Entry { origin, session, reference, body };
        self.waiting.push_back(Waiting { entry, token, deadline, state: State::Fresh });
    }

    /// What the last one counts as.
    pub(super) fn last_weight(&self) -> usize {
        self.waiting.back().map_or(0, Waiting::weight)
    }

    /// Takes the last one out, which has just come.
    pub(super) fn take_last(&mut self) -> Option<Waiting<T>> {
        let taken = self.waiting.pop_back();
        taken.inspect(|taken| self.uncount(taken.state))
    }

    /// The question that is under way.
    pub(super) fn flight(&self) -> Option<AskId> {
        self.flight.as_ref().map(|flight| flight.ask)
    }

    /// Whether there is something to be asked.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.is_waiting() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether there is something to be asked, now or later.
    pub(super) fn is_waiting(&self) -> bool {
        self.flight.is_none() && self.undecided == 0 && self.waiting.len() > self.placed
    }

    /// When somebody has waited too long.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.waiting.front().map(|waiting| waiting.deadline)
    }

    /// The first ones, to be asked with this question.
    pub(super) fn ask(&mut self, ask: AskId) -> Vec<Entry> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let unplaced = self.waiting.iter().filter(|waiting| !waiting.is_placed());
        for Waiting { entry, .. } in unplaced.take(MAX_BATCH) {
            bytes += weight(entry);
            if bytes > MAX_BATCH_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        let counters = entries.iter().map(|entry| entry.origin.1).collect();
        self.flight = Some(Flight { ask, counters });
        self.retry_at = None;
        entries
    }

    /// The question is answered: the numbers of the messages in it.
    pub(super) fn answered(&mut self, ask: AskId) -> Vec<u64> {
        match self.flight.take() {
            Some(flight) if flight.ask == ask => flight.counters,
            other => {
                self.flight = other;
                Vec::new()
            }
        }
    }

    /// The answer was good.
    pub(super) fn relax(&mut self) {
        self.tries = 0;
    }

    /// Asks again, after a while.
    pub(super) fn back_off(&mut self, now: u64) {
        self.retry_at = Some(now + back_off(&mut self.tries, RETRY, RETRY_MOST));
    }

    /// Nobody knows whether these are stored.
    pub(super) fn doubt(&mut self, counters: &[u64]) {
        for &counter in counters {
            if let Some(waiting) = self.find(counter).and_then(|at| self.waiting.get_mut(at))
                && matches!(waiting.state, State::Fresh)
            {
                waiting.state = State::Doubtful;
            }
        }
    }

    /// Takes those of these out that are surely not stored.
    pub(super) fn take_fresh(&mut self, counters: &[u64]) -> Vec<Waiting<T>> {
        let mut taken = Vec::new();
        for &counter in counters {
            if let Some(at) = self.find(counter)
                && matches!(self.waiting[at].state, State::Fresh)
            {
                taken.extend(self.waiting.remove(at));
            }
        }
        taken
    }

    /// Takes those out that nobody has been asked about.
    pub(super) fn take_unsent(&mut self) -> Vec<Waiting<T>> {
        let sent = self.flight.as_ref().map_or(&[][..], |flight| &flight.counters);
        let is_unsent = |waiting: &Waiting<T>| {
            matches!(waiting.state, State::Fresh)
                && sent.binary_search(&waiting.entry.origin.1).is_err()
        };
        let mut taken = Vec::new();
        // They are at the end, but for those that were sent.
        while let Some(at) = self.waiting.iter().rposition(is_unsent) {
            taken.extend(self.waiting.remove(at));
        }
        taken.reverse();
        taken
    }

    /// Takes those out that have waited too long.
    pub(super) fn take_late(&mut self, now: u64) -> Option<Waiting<T>> {
        self.waiting.front().filter(|waiting| waiting.deadline <= now)?;
        let taken = self.waiting.pop_front();
        taken.inspect(|taken| self.uncount(taken.state))
    }

    pub(super) fn take_any(&mut self) -> Option<Waiting<T>> {
        let taken = self.waiting.pop_front();
        taken.inspect(|taken| self.uncount(taken.state))
    }

    /// Takes a message out whose record was seen.
    pub(super) fn claim(&mut self, origin: &(NodeId, u64)) -> Option<Waiting<T>> {
        let at = self.find(origin.1)?;
        if self.waiting[at].entry.origin.0 != origin.0 {
            return None;
        }
        let taken = self.waiting.remove(at);
        taken.inspect(|taken| self.uncount(taken.state))
    }

    /// The message with this number.
    pub(super) fn get(&self, counter: u64) -> Option<&Waiting<T>> {
        self.find(counter).map(|at| &self.waiting[at])
    }

    /// A message is stored, and its record comes later. `decided`: in the room's epoch.
    pub(super) fn place(&mut self, counter: u64, epoch: Epoch, placed: Placed, decided: bool) {
        let Some(at) = self.find(counter) else { return };
        self.uncount(self.waiting[at].state);
        self.waiting[at].state = State::Placed(epoch, placed, decided);
        self.placed += 1;
        self.undecided += usize::from(!decided);
    }

    /// The room is in this epoch for sure: what was placed in another one is asked again. With `seq`, also what was
    /// placed behind it. What was placed before is taken out, and also what cannot be asked again, since others that came
    /// later have overtaken it (`overtaken`, or they are here or under way).
    pub(super) fn decide(
        &mut self,
        epoch: Epoch,
        seq: Option<u64>,
        overtaken: bool,
    ) -> Vec<Waiting<T>> {
        let mut taken = Vec::new();
        if self.placed == 0 || (seq.is_none() && self.undecided == 0) {
            return taken;
        }
        let mut overtaken = overtaken || self.flight.is_some();
        for at in (0..self.waiting.len()).rev() {
            let State::Placed(of, placed, decided) = self.waiting[at].state else { continue };
            let here = of == epoch;
            overtaken |= here;
            if here && decided && seq.is_none() {
                continue;
            }
            self.uncount(self.waiting[at].state);
            let done = here && seq.is_some_and(|seq| placed.seq <= seq);
            self.waiting[at].state =
                if done { State::Placed(of, placed, true) } else { State::Doubtful };
            if done || (overtaken && !here) {
                taken.extend(self.waiting.remove(at));
            }
        }
        taken.reverse();
        taken
    }

    fn find(&self, counter: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&counter, |waiting| waiting.entry.origin.1).ok()
    }

    fn uncount(&mut self, state: State) {
        if let State::Placed(_, _, decided) = state {
            self.placed -= 1;
            self.undecided -= usize::from(!decided);
        }
    }
}

impl<T> Waiting<T> {
    pub(super) fn weight(&self) -> usize {
        weight(&self.entry)
    }

    fn is_placed(&self) -> bool {
        matches!(self.state, State::Placed(..))
    }

    /// Where it is stored in the room's epoch, if that is known.
    pub(super) fn placed(&self) -> Option<Placed> {
        match self.state {
            State::Placed(_, placed, true) => Some(placed),
            _ => None,
        }
    }

    /// It is stored there: told as such.
    pub(super) fn stored(self, seq: u64, timestamp: throng_hub::Timestamp) -> Outcome<T> {
        self.outcome(Ok((seq, timestamp)), false)
    }

    /// It was stored there before, or is delivered in another way.
    pub(super) fn duplicate(self, seq: u64, timestamp: throng_hub::Timestamp) -> Outcome<T> {
        self.outcome(Ok((seq, timestamp)), true)
    }

    pub(super) fn failed(self) -> Outcome<T> {
        self.outcome(Err(throng_hub::Unavailable), false)
    }

    fn outcome(
        self,
        result: Result<(u64, throng_hub::Timestamp), throng_hub::Unavailable>,
        duplicate: bool,
    ) -> Outcome<T> {
        let Entry { session, reference, body, .. } = self.entry;
        Outcome { token: self.token, session, reference, body, result, duplicate }
    }
}

/// What a message counts as.
pub(super) fn weight(entry: &Entry) -> usize {
    entry.body.len() + entry.session.len() + 128
}

/// How long to wait before the next try: `first`, and twice as long each time.
pub(super) fn back_off(tries: &mut u32, first: u64, most: u64) -> u64 {
    let wait = first.saturating_mul(1 << (*tries).min(16));
    *tries = tries.saturating_add(1);
    wait.min(most)
}

const MAX_BATCH: usize = small(256, 4);
const MAX_BATCH_BYTES: usize = 1 << 20;
const RETRY: u64 = 10;
const RETRY_MOST: u64 = 1000;
