//! What waits to be published, and what has been sent and not been answered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_protocol::Code;

use crate::session::backoff::{Backoff, Random};
use crate::session::core::Token;
use crate::session::error::{Refusal, SessionError};
use crate::session::outgoing::{self, Address, Body};

/// One lane for each room or user, each first in first out.
///
/// ```text
///  push ──► queue ──poll──► flight ──ack──► done
///             ▲                │
///             └── disconnected, or refused for a while
/// ```
pub(crate) struct Outbox {
    lanes: HashMap<Arc<str>, Lane>,
    /// The lanes that may have something to send, each once; they take turns.
    ready: VecDeque<Arc<str>>,
    /// The lane of each `ref` in flight.
    flights: HashMap<u64, Arc<str>>,
    count: usize,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
    pushed: u64,
}

struct Lane {
    address: Address,
    /// The server takes messages of this lane.
    open: bool,
    /// Named in `ready`.
    listed: bool,
    /// In the order of `push`, but for those that are sent again after a loss: as they were sent.
    queue: VecDeque<Entry>,
    /// In the order they were sent.
    flight: VecDeque<Entry>,
    /// Nothing is sent before: the server wants a pause.
    hold: Option<Instant>,
    /// Those up to this number go one at a time, so that none overtakes a refused one again.
    careful: u64,
    backoff: Backoff,
}

struct Entry {
    token: Token,
    number: u64,
    body: Body,
    /// The `ref` it was sent with and may have been published with.
    reference: Option<u64>,
}

/// What to do next.
pub(crate) enum Send {
    /// Send this.
    Text(String),
    /// Tell the sender that it cannot be sent.
    Fail(Token, SessionError),
}

impl Outbox {
    pub(crate) fn new(max_count: usize, max_bytes: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            flights: HashMap::new(),
            count: 0,
            bytes: 0,
            max_count,
            max_bytes,
            pushed: 0,
        }
    }

    /// Takes a message, or not: then it is full.
    pub(crate) fn push(
        &mut self,
        token: Token,
        name: &Arc<str>,
        address: Address,
        open: bool,
        body: Body,
    ) -> Result<(), SessionError> {
        if self.count >= self.max_count || self.bytes + body.len() > self.max_bytes {
            return Err(SessionError::Full);
        }
        self.count += 1;
        self.bytes += body.len();
        self.pushed += 1;
        let entry = Entry { token, number: self.pushed, body, reference: None };
        let lane = self.lanes.entry(Arc::clone(name)).or_insert_with(|| Lane {
            address,
            open,
            listed: false,
            queue: VecDeque::new(),
            flight: VecDeque::new(),
            hold: None,
            careful: 0,
            backoff: Backoff::new(RETRY, MAX_RETRY),
        });
        lane.queue.push_back(entry);
        self.list(name);
        Ok(())
    }

    /// The server takes messages for this room from now on.
    pub(crate) fn open(&mut self, name: &str) {
        if let Some((name, lane)) = self.lanes.get_key_value(name) {
            let name = Arc::clone(name);
            if !lane.open
                && let Some(lane) = self.lanes.get_mut(&name)
            {
                lane.open = true;
            }
            self.list(&name);
        }
    }

    /// The server takes messages for users from now on.
    pub(crate) fn open_users(&mut self) {
        let names: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.address == Address::User)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in names {
            self.open(&name);
        }
    }

    /// The connection is gone: what was in flight will be sent again, with the same `ref`.
    pub(crate) fn handle_disconnected(&mut self) {
        self.flights.clear();
        self.ready.clear();
        for lane in self.lanes.values_mut() {
            lane.open = false;
            lane.listed = false;
            lane.hold = None;
            while let Some(entry) = lane.flight.pop_back() {
                lane.queue.push_front(entry);
            }
        }
    }

    /// The session is gone, and with it what the server knew of our `ref`s. Without `resend`,
    /// those that may have been published are given up: their tokens.
    pub(crate) fn handle_new_session(&mut self, resend: bool) -> Vec<Token> {
        let mut uncertain = Vec::new();
        for lane in self.lanes.values_mut() {
            if resend {
                lane.queue.iter_mut().for_each(|entry| entry.reference = None);
                continue;
            }
            lane.queue.retain(|entry| {
                if entry.reference.is_none() {
                    return true;
                }
                self.count -= 1;
                self.bytes -= entry.body.len();
                uncertain.push(entry.token);
                false
            });
        }
        self.tidy();
        uncertain
    }

    /// The room is not ours any more: what has not been sent will not be. What is in flight is
    /// still answered, as long as the connection lasts.
    pub(crate) fn close(&mut self, name: &str) -> Vec<(Token, SessionError)> {
        let Some(lane) = self.lanes.get_mut(name) else { return Vec::new() };
        lane.open = false;
        let closed: Vec<_> = lane.queue.drain(..).collect();
        let error = |entry: &Entry| match entry.reference {
            Some(_) => SessionError::Uncertain,
            None => SessionError::Left,
        };
        let closed = closed
            .into_iter()
            .map(|entry| {
                self.count -= 1;
                self.bytes -= entry.body.len();
                (entry.token, error(&entry))
            })
            .collect();
        self.tidy();
        closed
    }

    /// Gives everything up: all tokens.
    pub(crate) fn clear(&mut self) -> Vec<Token> {
        self.handle_disconnected();
        (self.count, self.bytes) = (0, 0);
        self.lanes.drain().flat_map(|(_, lane)| lane.queue).map(|entry| entry.token).collect()
    }

    /// Closes the lanes of rooms that `is_ours` does not know.
    pub(crate) fn close_others(
        &mut self,
        is_ours: impl Fn(&str) -> bool,
    ) -> Vec<(Token, SessionError)> {
        let others: Vec<_> = self
            .lanes
            .iter()
            .filter(|(name, lane)| lane.address == Address::Room && !is_ours(name))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        others.iter().flat_map(|name| self.close(name)).collect()
    }

    /// The message with this `ref` was published: its token, and the name of its lane.
    pub(crate) fn handle_ack(&mut self, reference: u64) -> Option<(Token, Arc<str>)> {
        let (name, entry) = self.land(reference)?;
        self.count -= 1;
        self.bytes -= entry.body.len();
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.backoff.reset();
        }
        self.list(&name);
        self.tidy_lane(&name);
        Some((entry.token, name))
    }

    /// The message with this `ref` was refused. The token of one that is given up; one refused
    /// for a while is sent again later, before those behind it. It keeps its `ref` when it may
    /// have been published all the same: what could not be reached may have it.
    pub(crate) fn handle_refusal(
        &mut self,
        now: Instant,
        reference: u64,
        refusal: &Refusal,
        random: &mut Random,
    ) -> Option<Token> {
        let (name, mut entry) = self.land(reference)?;
        let open = self.lanes.get(&name).is_some_and(|lane| lane.open);
        if !refusal.temporary || !open {
            self.count -= 1;
            self.bytes -= entry.body.len();
            self.list(&name);
            self.tidy_lane(&name);
            return Some(entry.token);
        }
        let Some(lane) = self.lanes.get_mut(&name) else { return Some(entry.token) };
        let wait = match refusal.retry_after {
            Some(time) => lane.backoff.next_after(time, random),
            None => lane.backoff.next(random),
        };
        lane.hold = Some(lane.hold.unwrap_or(now).max(now + wait));
        lane.careful = self.pushed;
        if refusal.code != Code::Unavailable.name() {
            entry.reference = None;
        }
        let before = |other: &Entry| other.number < entry.number;
        let place = lane.queue.iter().take_while(|other| before(other)).count();
        lane.queue.insert(place, entry);
        None
    }

    /// The next message to send, with a new `ref` if it has none.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        next_reference: &mut u64,
        max_payload: usize,
    ) -> Option<Send> {
        while let Some(name) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            lane.listed = false;
            if !lane.may_send(now) {
                continue;
            }
            let Some(mut entry) = lane.queue.pop_front() else { continue };
            let reference = entry.reference.unwrap_or(*next_reference);
            let text = outgoing::publish(&entry.body, lane.address, &name, Some(reference));
            if text.len() > max_payload {
                self.count -= 1;
                self.bytes -= entry.body.len();
                self.list(&name);
                self.tidy_lane(&name);
                let error = SessionError::TooLarge { len: text.len(), limit: max_payload };
                return Some(Send::Fail(entry.token, error));
            }
            if entry.reference.is_none() {
                *next_reference += 1;
            }
            entry.reference = Some(reference);
            lane.flight.push_back(entry);
            self.flights.insert(reference, Arc::clone(&name));
            self.list(&name);
            return Some(Send::Text(text));
        }
        None
    }

    /// Whether [`poll`](Self::poll) would have something.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.ready.iter().any(|name| self.lanes.get(name).is_some_and(|lane| lane.may_send(now)))
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.lanes.values().filter_map(|lane| lane.hold).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let mut over = Vec::new();
        for (name, lane) in &mut self.lanes {
            if lane.hold.is_some_and(|until| until <= now) {
                lane.hold = None;
                over.push(Arc::clone(name));
            }
        }
        for name in over {
            self.list(&name);
        }
    }

    /// Takes a message out of the air.
    fn land(&mut self, reference: u64) -> Option<(Arc<str>, Entry)> {
        let name = self.flights.remove(&reference)?;
        let lane = self.lanes.get_mut(&name)?;
        // Answers come in the order of what they answer, so this is mostly the first.
        let place = lane.flight.iter().position(|entry| entry.reference == Some(reference))?;
        Some((name, lane.flight.remove(place)?))
    }

    fn list(&mut self, name: &Arc<str>) {
        if let Some(lane) = self.lanes.get_mut(name)
            && !lane.listed
            && lane.open
            && !lane.queue.is_empty()
        {
            lane.listed = true;
            self.ready.push_back(Arc::clone(name));
        }
    }

    fn tidy_lane(&mut self, name: &str) {
        if self.lanes.get(name).is_some_and(Lane::is_idle) {
            self.lanes.remove(name);
        }
    }

    fn tidy(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_idle());
    }
}

impl Lane {
    fn may_send(&self, now: Instant) -> bool {
        let window = |next: &Entry| if next.number <= self.careful { 1 } else { IN_FLIGHT };
        self.open
            && self.queue.front().is_some_and(|next| self.flight.len() < window(next))
            && self.hold.is_none_or(|until| until <= now)
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flight.is_empty() && self.hold.is_none()
    }
}

/// How many messages of a room may wait for their answers. The server remembers the last 256.
pub(crate) const IN_FLIGHT: usize = 64;
/// The first pause after a refusal that gave no time; doubles.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);
