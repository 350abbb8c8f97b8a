//! One room: what of it has been seen, who is in it, and what its reader still has room for.
//!
//! Messages are numbered without holes, so every message is either the next one, one seen
//! before, or a sign that something is missing. What is missing is fetched from the room's
//! history. The same goes for what the reader had no room for: it is not kept but fetched
//! again when there is room, so that a slow reader neither takes memory nor holds up others.

mod telling;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::session::backoff::Backoff;
use crate::session::core::Token;
use crate::session::core::roster::Roster;
use crate::session::error::{Refusal, SessionError};
use crate::session::event::{
    HistoryQuery, JoinOptions, Joined, Page, Position, RoomEvent, RoomMessage,
};
use crate::session::incoming::{Passage, Place, Presence};

/// A room of the session.
pub(crate) struct Room {
    pub(crate) name: Arc<str>,
    pub(crate) options: JoinOptions,
    pub(crate) membership: Membership,
    /// Who waits for the first `joined`.
    pub(crate) waiting: Option<Token>,
    /// What is asked as soon as the room is joined.
    pub(crate) questions: VecDeque<(Token, HistoryQuery)>,
    /// For attempts to come back in, and to catch up.
    pub(crate) backoff: Backoff,
    /// Somebody reads the events. Otherwise they count as read.
    reader: Option<Reader>,
    /// What has been seen.
    seen: Option<Position>,
    /// The newest message known of.
    newest: u64,
    /// A rewind has been asked for and not begun: it may start anywhere up to here.
    rewinding: Option<u64>,
    gap: Gap,
    pending: Pending,
    /// Own messages that do not come back. Those repeated after a reconnection are not sure:
    /// the number may be of an epoch that has passed.
    published: BTreeMap<u64, Sure>,
    roster: Roster,
    /// When to ask again who is there.
    ask_users: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// To be joined, or to be joined again, when there is a connection.
    Away,
    /// Asked for.
    Asked,
    /// The server counts us in.
    Joined,
    /// Refused for a while.
    Refused(Instant),
}

/// How the server came to say that the room is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By `join`.
    Join,
    /// By `resume`.
    Resume,
    /// By itself; it does not know what has been seen.
    Unasked,
    /// By itself, of a room that is joined: it goes on from elsewhere.
    Renewed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sure {
    Yes,
    No,
}

/// The buffer of who reads the events.
struct Reader {
    /// What the buffer still takes.
    credit: usize,
    capacity: usize,
    /// An event had no room.
    starved: bool,
}

/// Whether messages between the last one seen and those that come are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    None,
    /// There is one; ask the history, but not before the given time.
    Open(Option<Instant>),
    /// The history has been asked.
    Asked,
}

/// What is still to be told before anything else.
#[derive(Default)]
struct Pending {
    lost: Option<Position>,
    joined: Option<Joined>,
    presence: bool,
}

/// Where events go: in the order they are to be seen.
pub(crate) type Events = Vec<RoomEvent>;

impl Room {
    pub(crate) fn new(name: Arc<str>, options: JoinOptions, buffer: Option<usize>) -> Self {
        let roster = Roster::new(options.presence);
        Self {
            name,
            seen: options.since.clone(),
            options,
            membership: Membership::Away,
            waiting: None,
            questions: VecDeque::new(),
            backoff: Backoff::new(RETRY, MAX_RETRY),
            reader: buffer.map(Reader::new),
            newest: 0,
            rewinding: None,
            gap: Gap::None,
            pending: Pending::default(),
            published: BTreeMap::new(),
            roster,
            ask_users: None,
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.membership == Membership::Joined
    }

    /// From where to go on after a reconnection; `None` to join as if for the first time.
    pub(crate) fn position(&self) -> Option<&Position> {
        self.seen.as_ref().filter(|_| self.rewinding.is_none())
    }

    /// The position of the list of users, if there is one to keep exact.
    pub(crate) fn presence_seq(&self) -> Option<u64> {
        self.roster.seq()
    }

    pub(crate) fn has_reader(&self) -> bool {
        self.reader.is_some()
    }

    /// Somebody reads from now on, or nobody does.
    pub(crate) fn set_reader(&mut self, buffer: Option<usize>, events: &mut Events) {
        self.reader = buffer.map(Reader::new);
        self.pending = Pending::default();
        self.gap = Gap::None;
        let joined = self.is_joined();
        if let (true, true, Some(position)) = (joined, self.has_reader(), self.seen.clone()) {
            self.pending.joined = Some(Joined {
                start: position.clone(),
                position,
                recovered: true,
                user_count: self.roster.count(),
                users: None,
            });
            self.flush(events);
        }
    }

    /// The connection is gone.
    pub(crate) fn handle_disconnected(&mut self) {
        self.membership = Membership::Away;
        self.ask_users = None;
        if self.gap == Gap::Asked {
            self.gap = Gap::Open(None);
        }
    }

    /// The reader has taken events worth so much out of its buffer.
    pub(crate) fn handle_credit(&mut self, credit: usize, events: &mut Events) {
        if let Some(reader) = &mut self.reader {
            reader.credit = reader.credit.saturating_add(credit).min(reader.capacity);
            reader.starved = false;
            self.flush(events);
        }
    }

    /// Whether an event has found no room since the last [credit](Self::handle_credit).
    pub(crate) fn is_starved(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.starved)
    }

    /// `joined`, or this room's part of `resumed`, asked for or not. True if the list of users
    /// has to be asked for.
    pub(crate) fn handle_joined(&mut self, place: Place, how: How, events: &mut Events) -> bool {
        self.membership = Membership::Joined;
        self.backoff.reset();
        let position = Position { epoch: place.epoch, seq: place.seq };
        let mut recovered = true;
        if how == How::Renewed {
            // A rewind that has not begun never will.
            self.rewinding = None;
        }
        match &mut self.seen {
            Some(seen) if self.rewinding.is_none() => {
                let same = seen.epoch == position.epoch && seen.seq <= position.seq;
                recovered = same && (place.recovered || how == How::Unasked);
                if !recovered {
                    *seen = position.clone();
                    self.gap = Gap::None;
                    self.published.clear();
                    self.pending.lost = Some(position.clone());
                } else if matches!(how, How::Join | How::Resume) {
                    // Everything after `seen` comes by itself.
                    self.gap = Gap::None;
                } else if seen.seq < position.seq {
                    match &self.reader {
                        Some(_) => self.gap = Gap::Open(None),
                        None => seen.seq = position.seq,
                    }
                }
            }
            _ => {
                let back = u64::from(self.options.rewind).min(position.seq);
                self.rewinding = (back > 0).then_some(position.seq);
                let seq = position.seq - back;
                self.seen = Some(Position { epoch: position.epoch.clone(), seq });
            }
        }
        self.newest = position.seq;
        let stale =
            self.roster.handle_joined(place.user_count, place.presence_seq, place.users, how);
        let users = if how == How::Join { self.roster.list() } else { None };
        let start = self.seen.clone().unwrap_or_else(|| position.clone());
        let user_count = self.roster.count();
        let joined = Joined { position, start, recovered, user_count, users };
        if self.pending.joined.replace(joined).is_some() {
            // Its list is not to be lost with it.
            self.pending.presence |= self.options.presence;
        }
        self.flush(events);
        stale
    }

    /// An application message.
    pub(crate) fn handle_message(&mut self, message: RoomMessage, events: &mut Events) {
        let Some(seq) = message.seq else {
            self.emit(RoomEvent::Message(message), events);
            return;
        };
        self.newest = self.newest.max(seq);
        if let Some(top) = self.rewinding.take()
            && let Some(seen) = &mut self.seen
        {
            // Where the history is shorter than the rewind, it begins here.
            seen.seq = seen.seq.max(seq.saturating_sub(1).min(top));
        }
        if self.gap == Gap::None {
            self.see(seq, message, events);
        }
    }

    /// A message that came in its turn: the next one, one seen before, or behind a hole.
    fn see(&mut self, seq: u64, message: RoomMessage, events: &mut Events) {
        self.skip_published();
        let Some(seen) = &self.seen else { return };
        if seq <= seen.seq {
            return;
        }
        if self.reader.is_none() {
            return self.advance(seq);
        }
        if seq - 1 == seen.seq && self.emit(RoomEvent::Message(message), events) {
            self.advance(seq);
        } else {
            self.gap = Gap::Open(None);
        }
    }

    /// An own message has been published. Where it does not come back, it is no hole.
    pub(crate) fn handle_published(&mut self, seq: u64, duplicate: bool) {
        if self.options.no_echo && self.seen.as_ref().is_some_and(|seen| seq > seen.seq) {
            self.published.insert(seq, if duplicate { Sure::No } else { Sure::Yes });
            if self.published.len() > PUBLISHED {
                self.published.pop_first();
            }
        }
    }

    /// What to ask the history for: the number to go on after, and how many.
    pub(crate) fn poll_gap(&mut self, now: Instant) -> Option<(Position, u32)> {
        let Gap::Open(not_before) = self.gap else { return None };
        let seen = self.seen.clone()?;
        if !self.is_joined() || not_before.is_some_and(|time| time > now) {
            return None;
        }
        let reader = self.reader.as_ref()?;
        if reader.starved || reader.credit < reader.capacity / 2 {
            return None;
        }
        self.gap = Gap::Asked;
        let limit = u32::try_from(reader.credit / MESSAGE).unwrap_or(PAGE).clamp(1, PAGE);
        Some((seen, limit))
    }

    /// When [`poll_gap`](Self::poll_gap) or a new attempt to join is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match (self.membership, self.gap) {
            (Membership::Refused(until), _) => Some(until),
            (Membership::Joined, Gap::Open(until)) => until.into_iter().chain(self.ask_users).min(),
            (Membership::Joined, _) => self.ask_users,
            _ => None,
        }
    }

    /// Lets [`poll_gap`](Self::poll_gap) go on when its time has come. True if the list of users
    /// has to be asked for.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        if let Gap::Open(Some(until)) = self.gap
            && until <= now
        {
            self.gap = Gap::Open(None);
        }
        self.is_joined() && self.ask_users.take_if(|at| *at <= now).is_some()
    }

    /// The list of users cannot be had for now.
    pub(crate) fn retry_users(&mut self, at: Instant) {
        self.ask_users = Some(at);
    }

    /// Whether what has been seen is of this past.
    pub(crate) fn is_of(&self, epoch: &str) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.epoch == epoch)
    }

    /// The page of the history that [`poll_gap`](Self::poll_gap) wanted.
    /// It was asked to begin after the message `after`, and by the user `us`.
    pub(crate) fn handle_page(
        &mut self,
        after: &Position,
        page: Page,
        us: &str,
        events: &mut Events,
    ) {
        if self.gap != Gap::Asked || !self.is_of(&after.epoch) {
            return;
        }
        let after = after.seq;
        self.gap = Gap::Open(None);
        let Some(seen) = self.seen.as_mut().filter(|seen| seen.seq == after) else { return };
        if page.epoch != seen.epoch {
            *seen = Position { epoch: page.epoch, seq: 0 };
            self.newest = 0;
            self.published.clear();
            self.pending.lost = Some(seen.clone());
        }
        for message in page.messages {
            let Some(seq) = message.seq else { continue };
            self.newest = self.newest.max(seq);
            self.skip_published();
            let Some(seen) = &mut self.seen else { return };
            if seq <= seen.seq {
                continue;
            }
            if seq - 1 > seen.seq {
                // The history does not reach back so far.
                seen.seq = seq - 1;
                self.pending.lost = Some(seen.clone());
            }
            let unwanted = message.from == us && self.published.contains_key(&seq);
            if !unwanted && !self.emit(RoomEvent::Message(message), events) {
                return;
            }
            self.advance(seq);
        }
        self.skip_published();
        let Some(seen) = self.seen.as_ref().map(|seen| seen.seq) else { return };
        // A new epoch begins at none.
        let progress = seen != after;
        if seen >= self.newest && !(page.more && progress) {
            self.gap = Gap::None;
        } else if !progress {
            self.give_up_gap(events);
        }
    }

    /// The history does not answer for now.
    pub(crate) fn retry_gap(&mut self, at: Instant) {
        self.gap = Gap::Open(Some(at));
    }

    /// What is missing cannot be had.
    pub(crate) fn give_up_gap(&mut self, events: &mut Events) {
        self.gap = Gap::None;
        if let Some(seen) = &mut self.seen
            && seen.seq < self.newest
        {
            seen.seq = self.newest;
            self.pending.lost = Some(seen.clone());
        }
        self.flush(events);
    }

    /// `presence`, asked for or not.
    pub(crate) fn handle_presence(&mut self, presence: Presence, events: &mut Events) {
        if self.roster.handle_presence(presence) {
            self.pending.presence = true;
            self.flush(events);
        }
    }

    /// `user_joined` or `user_left`.
    pub(crate) fn handle_passage(&mut self, passage: &Passage, came: bool, events: &mut Events) {
        if !self.roster.handle_passage(passage, came) {
            return;
        }
        let (user, user_count) = (passage.user(), passage.user_count);
        let event = match came {
            true => RoomEvent::UserJoined { user, user_count },
            false => RoomEvent::UserLeft { user, user_count },
        };
        // The list says the same, when there is room for it.
        if !self.emit(event, events) {
            self.pending.presence = true;
        }
    }

    /// Something that was sent without a `ref` was refused.
    pub(crate) fn handle_refusal(&mut self, refusal: Refusal, events: &mut Events) {
        self.emit(RoomEvent::Refused(refusal), events);
    }

    /// The membership is over. This event always has room.
    pub(crate) fn end(&mut self, error: SessionError, events: &mut Events) {
        if self.has_reader() {
            events.push(RoomEvent::Ended(error));
        }
    }

    /// Begins anew, as the own room of another user.
    pub(crate) fn rename(&mut self, name: Arc<str>) {
        self.name = name;
        self.roster = Roster::new(self.options.presence);
        self.gap = Gap::None;
        if let Some(seen) = &mut self.seen {
            // No epoch of the other room is this one, so that the loss is told.
            seen.epoch.clear();
        }
    }

    fn advance(&mut self, seq: u64) {
        if let Some(seen) = &mut self.seen {
            seen.seq = seq;
        }
    }

    /// Goes past own messages that do not come back.
    fn skip_published(&mut self) {
        let Some(seen) = &mut self.seen else { return };
        while let Some((&seq, &sure)) = self.published.first_key_value()
            && (seq <= seen.seq || (sure == Sure::Yes && seq - 1 == seen.seq))
        {
            self.published.pop_first();
            seen.seq = seen.seq.max(seq);
        }
    }
}

impl Reader {
    fn new(capacity: usize) -> Self {
        Self { credit: capacity, capacity, starved: false }
    }
}

/// The longest page of the history.
const PAGE: u32 = 200;
/// How large a message is taken to be when pages are asked for.
const MESSAGE: usize = 512;
/// How many own messages that do not come back are remembered.
const PUBLISHED: usize = 1024;
/// The first pause before another attempt; doubles.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);
