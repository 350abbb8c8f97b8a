//! What a session decides: when to connect, what to send, what to make of what comes.
//!
//! No sockets, no tasks, no clock: the time is an argument, and chance comes from a seed.
//! Whoever drives it calls one of the `handle_*`, then [`poll_output`](Core::poll_output) until
//! it has nothing more, sends what [`poll_transmit`](Core::poll_transmit) gives as far as the
//! connection takes it, and calls [`handle_timeout`](Core::handle_timeout) at the time that
//! [`poll_timeout`](Core::poll_timeout) names.
//!
//! ```text
//!            ┌────────── disconnected ◄──────────────┐
//!            ▼                                       │
//!  Waiting ──time──► Connecting ──open──► Greeting ──connected──► Online
//!     ▲                   │                                       │
//!     └────── refused ────┘          Closed ◄── final code, close()
//! ```

mod callers;
mod ending;
mod outbox;
mod room;
mod roster;
mod server;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_protocol::Timestamp;

use crate::session::backoff::{Backoff, Random};
pub(crate) use crate::session::core::ending::End;
use crate::session::core::ending::Step;
use crate::session::core::outbox::{Outbox, Send};
use crate::session::core::room::{Events, Membership, Room};
use crate::session::error::{CloseReason, SessionError};
use crate::session::event::{HistoryQuery, JoinOptions, Page, Position, RoomEvent, Sent};
use crate::session::incoming::{self, Incoming};
use crate::session::status::{Identity, Status};

/// The state of a session.
pub(crate) struct Core {
    settings: Settings,
    random: Random,
    backoff: Backoff,
    phase: Phase,
    identity: Option<Arc<Identity>>,
    resume: Option<Resume>,
    /// The user's own room, in which direct messages come.
    own: RoomKey,
    rooms: BTreeMap<RoomKey, Room>,
    names: HashMap<Arc<str>, RoomKey>,
    next_room: u64,
    outbox: Outbox,
    requests: BTreeMap<u64, Request>,
    /// The next `ref`. Never starts again, so that none has two meanings.
    next_reference: u64,
    max_payload: usize,
    /// Commands that wait for the connection to take them.
    commands: VecDeque<String>,
    /// How many of them nobody waits for.
    volatile: usize,
    /// Not before this time, the server says.
    slot: Option<Instant>,
    /// The last pause that the server asked for on this connection.
    pause: Option<Duration>,
    outputs: VecDeque<Output>,
}

/// What a session is to do.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
    pub(crate) outbox: usize,
    pub(crate) outbox_bytes: usize,
    /// Messages of which it is not known whether they were published are sent again.
    pub(crate) resend: bool,
    pub(crate) admission: Admission,
    pub(crate) seed: u64,
}

/// What a new session shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nothing: everybody may come in.
    Open,
    /// The same token each time.
    Token,
    /// Another ticket each time.
    Tickets,
}

/// Names what the driver's callers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub(crate) u64);

/// Names a membership; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RoomKey(u64);

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// Open a connection: with the token of the session, or without one and then with a new
    /// ticket.
    Connect { resume: Option<String> },
    /// Cut the connection off, or stop opening it. Nothing is reported about it any more.
    Disconnect,
    /// The last output: close the connection in good order, for [`CloseReason::Ours`].
    Close,
    /// The status has changed.
    Status(Status),
    /// Answer a caller.
    Answer(Token, Result<Answer, SessionError>),
    /// Something happened in a room that has a reader.
    Event(RoomKey, RoomEvent),
    /// A room's buffer is full: grant [credit](Core::handle_credit) as soon as it is empty.
    Starved(RoomKey),
}

/// What a caller was waiting for.
#[derive(Debug)]
pub(crate) enum Answer {
    Sent(Sent),
    Joined(RoomKey),
    Page(Page),
    Pong(Duration),
    /// Until when the session lasts, if it ends by itself.
    Authed(Option<Timestamp>),
    Left,
}

/// Where something is sent.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Room(RoomKey),
    /// To a user: the name of the user's own room.
    User(Arc<str>),
}

enum Phase {
    /// Until the next attempt.
    Waiting {
        until: Instant,
    },
    Connecting,
    /// The connection is open; the server has not said who we are.
    Greeting {
        until: Instant,
        resuming: bool,
    },
    Online {
        since: Instant,
        heard: Instant,
        heartbeat: Duration,
    },
    Closed(CloseReason),
}

/// The way back into the session.
struct Resume {
    token: String,
    window: Duration,
    /// Since when there is no connection.
    lost: Option<Instant>,
}

/// What a reply is to.
enum Request {
    Join(RoomKey),
    Resume(Vec<RoomKey>),
    Leave(Option<Token>),
    History(RoomKey, Token, HistoryQuery),
    /// What follows the position.
    Gap(RoomKey, Position),
    Presence(RoomKey),
    Ping(Token, Instant),
    Auth(Token),
}

impl Core {
    /// A session that begins to connect at once.
    pub(crate) fn new(now: Instant, settings: Settings) -> Self {
        let own = RoomKey(0);
        let room = Room::new(Arc::from(""), JoinOptions::default(), None);
        Self {
            random: Random::new(settings.seed),
            backoff: Backoff::new(settings.base, settings.max),
            phase: Phase::Waiting { until: now },
            identity: None,
            resume: None,
            own,
            rooms: BTreeMap::from([(own, room)]),
            names: HashMap::new(),
            next_room: 1,
            outbox: Outbox::new(settings.outbox, settings.outbox_bytes),
            requests: BTreeMap::new(),
            next_reference: 1,
            max_payload: usize::MAX,
            commands: VecDeque::new(),
            volatile: 0,
            slot: None,
            pause: None,
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// The next thing to do. Poll until `None` after every `handle_*`.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next text to send, while the connection takes one. What is taken counts as sent.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        if !self.is_online() {
            return None;
        }
        if let Some(text) = self.commands.pop_front() {
            if self.commands.is_empty() {
                self.volatile = 0;
            }
            return Some(text);
        }
        loop {
            match self.outbox.poll(now, &mut self.next_reference, self.max_payload)? {
                Send::Text(text) => return Some(text),
                Send::Fail(token, error) => self.answer(token, Err(error)),
            }
        }
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something.
    pub(crate) fn has_transmit(&self, now: Instant) -> bool {
        self.is_online() && (!self.commands.is_empty() || self.outbox.is_ready(now))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout). Changes with every other call.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Waiting { until } | Phase::Greeting { until, .. } => Some(until),
            Phase::Online { heard, heartbeat, .. } => {
                let silence = (!heartbeat.is_zero()).then(|| heard + 2 * heartbeat);
                silence.into_iter().chain(self.slot).min()
            }
            Phase::Connecting | Phase::Closed(_) => None,
        };
        let rooms = match self.is_online() {
            true => self.rooms.values().filter_map(Room::poll_timeout).min(),
            false => None,
        };
        phase.into_iter().chain(rooms).chain(self.outbox.poll_timeout()).min()
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Waiting { until } if until <= now => self.connect(now),
            Phase::Greeting { until, .. } if until <= now => {
                self.disconnect();
                self.handle_end(now, End::Lost);
            }
            Phase::Online { heard, heartbeat, .. } => {
                let silent = !heartbeat.is_zero() && heard + 2 * heartbeat <= now;
                if silent || self.slot.is_some_and(|slot| slot <= now) {
                    self.disconnect();
                    self.handle_end(now, End::Lost);
                }
            }
            _ => {}
        }
        self.outbox.handle_timeout(now);
        if self.is_online() {
            let keys: Vec<_> = self.rooms.keys().copied().collect();
            for key in keys {
                self.handle_room_timeout(now, key);
            }
        }
    }

    fn handle_room_timeout(&mut self, now: Instant, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(&key) else { return };
        if matches!(room.membership, Membership::Refused(until) if until <= now) {
            self.send_join(key);
        } else {
            let ask = room.handle_timeout(now);
            self.fill_gap(now, key);
            if ask {
                self.send_presence(key);
            }
        }
    }

    // What the connection does.

    /// The connection is open.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Connecting) {
            let resuming = self.resume.is_some();
            self.phase = Phase::Greeting { until: now + GREETING, resuming };
        }
    }

    /// Something came that is not a text: a sign of life.
    pub(crate) fn handle_sign(&mut self, now: Instant) {
        if let Phase::Online { heard, .. } = &mut self.phase {
            *heard = now;
        }
    }

    /// A text came.
    pub(crate) fn handle_text(&mut self, now: Instant, text: &str) {
        self.handle_sign(now);
        let Some(incoming) = incoming::parse(text) else { return };
        match (&self.phase, incoming) {
            (&Phase::Greeting { resuming, .. }, Incoming::Connected(connected)) => {
                self.handle_connected(now, connected, resuming);
            }
            (Phase::Online { .. }, incoming) => self.handle_incoming(now, incoming),
            _ => {}
        }
    }

    /// The connection has ended, or could not be opened.
    pub(crate) fn handle_end(&mut self, now: Instant, end: End) {
        let since = match self.phase {
            Phase::Online { since, .. } => Some(since),
            Phase::Connecting | Phase::Greeting { .. } => None,
            Phase::Waiting { .. } | Phase::Closed(_) => return,
        };
        if since.is_some_and(|since| now.duration_since(since) >= STABLE) {
            self.backoff.reset();
        }
        self.handle_disconnected(now);
        match self.next_step(&end) {
            Step::Stop(reason) => self.close(reason),
            Step::Retry(least) => {
                let wait = match least {
                    None => self.backoff.next(&mut self.random),
                    Some(least) => self.backoff.next_after(least, &mut self.random),
                };
                // A slot spreads clients by itself.
                let until = self.slot.take().map_or(now + wait, |slot| slot.max(now));
                self.wait(now, until);
            }
        }
    }

    // Changes of the phase.

    fn connect(&mut self, now: Instant) {
        if self.settings.admission != Admission::Open {
            // Past its window it would make a session that nobody has signed in to.
            let over = |resume: &Resume| {
                resume.lost.is_some_and(|lost| now.duration_since(lost) > resume.window)
            };
            if self.resume.as_ref().is_some_and(over) {
                self.resume = None;
            }
        }
        self.phase = Phase::Connecting;
        self.slot = None;
        let resume = self.resume.as_ref().map(|resume| resume.token.clone());
        self.outputs.push_back(Output::Status(Status::Connecting));
        self.outputs.push_back(Output::Connect { resume });
    }

    fn disconnect(&mut self) {
        self.outputs.push_back(Output::Disconnect);
    }

    fn wait(&mut self, now: Instant, until: Instant) {
        self.phase = Phase::Waiting { until };
        let retry_in = until.duration_since(now);
        self.outputs.push_back(Output::Status(Status::Offline { retry_in }));
    }

    /// Forgets everything that only held for this connection.
    fn handle_disconnected(&mut self, now: Instant) {
        if let Some(resume) = &mut self.resume {
            resume.lost.get_or_insert(now);
        }
        self.commands.clear();
        self.volatile = 0;
        self.outbox.handle_disconnected();
        for room in self.rooms.values_mut() {
            room.handle_disconnected();
        }
        for request in std::mem::take(&mut self.requests).into_values() {
            match request {
                Request::Leave(Some(token)) => self.answer(token, Ok(Answer::Left)),
                Request::Ping(token, _) | Request::Auth(token) => {
                    self.answer(token, Err(SessionError::Offline));
                }
                Request::History(key, token, query) => match self.rooms.get_mut(&key) {
                    Some(room) => room.questions.push_back((token, query)),
                    None => self.answer(token, Err(SessionError::Left)),
                },
                _ => {}
            }
        }
        let names = &self.names;
        let own = self.rooms.get(&self.own).map(|room| Arc::clone(&room.name));
        let is_ours = |name: &str| names.contains_key(name) || own.as_deref() == Some(name);
        for (token, error) in self.outbox.close_others(is_ours) {
            self.answer(token, Err(error));
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed(reason.clone());
        let error = SessionError::Closed(reason.clone());
        for token in self.outbox.clear() {
            self.answer(token, Err(error.clone()));
        }
        for request in std::mem::take(&mut self.requests).into_values() {
            match request {
                Request::Leave(Some(token)) => self.answer(token, Ok(Answer::Left)),
                Request::History(_, token, _) | Request::Ping(token, _) | Request::Auth(token) => {
                    self.answer(token, Err(error.clone()));
                }
                _ => {}
            }
        }
        let keys: Vec<_> = self.rooms.keys().copied().collect();
        for key in keys {
            self.end(key, &error);
        }
        self.commands.clear();
        self.outputs.push_back(Output::Status(Status::Closed(reason)));
    }

    // Smaller steps.

    fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online { .. })
    }

    fn reference(&mut self) -> u64 {
        self.next_reference += 1;
        self.next_reference - 1
    }

    fn key(&self, name: &str) -> Option<RoomKey> {
        let own = self.rooms.get(&self.own).filter(|own| &*own.name == name);
        own.map(|_| self.own).or_else(|| self.names.get(name).copied())
    }

    /// The room of this name, if messages from it are for this membership.
    fn joined_key(&self, name: &str) -> Option<RoomKey> {
        self.key(name).filter(|key| self.rooms.get(key).is_some_and(Room::is_joined))
    }

    fn with_room(&mut self, key: RoomKey, handle: impl FnOnce(&mut Room, &mut Events)) {
        if let Some(room) = self.rooms.get_mut(&key) {
            let mut events = Events::new();
            handle(room, &mut events);
            self.tell(key, events);
        }
    }

    fn tell(&mut self, key: RoomKey, events: Events) {
        self.outputs.extend(events.into_iter().map(|event| Output::Event(key, event)));
        if self.rooms.get(&key).is_some_and(Room::is_starved) {
            self.outputs.push_back(Output::Starved(key));
        }
    }

    fn answer(&mut self, token: Token, answer: Result<Answer, SessionError>) {
        self.outputs.push_back(Output::Answer(token, answer));
    }

    /// Ends a membership, and tells its reader.
    fn end(&mut self, key: RoomKey, error: &SessionError) {
        self.with_room(key, |room, events| room.end(error.clone(), events));
        self.remove(key, error);
    }

    /// Forgets a room. Whoever waits for something of it gets `error`.
    fn remove(&mut self, key: RoomKey, error: &SessionError) -> Option<Room> {
        let mut room = self.rooms.remove(&key)?;
        self.names.remove(&room.name);
        let questions = room.questions.drain(..).map(|(token, _)| token);
        let waiting: Vec<_> = room.waiting.take().into_iter().chain(questions).collect();
        for token in waiting {
            self.answer(token, Err(error.clone()));
        }
        for (token, closed) in self.outbox.close(&room.name) {
            let error = if closed == SessionError::Left { error.clone() } else { closed };
            self.answer(token, Err(error));
        }
        Some(room)
    }
}

/// How long the server may take to say who we are.
const GREETING: Duration = Duration::from_secs(10);
/// How long a connection has to last for the next one not to be held back.
const STABLE: Duration = Duration::from_secs(10);
