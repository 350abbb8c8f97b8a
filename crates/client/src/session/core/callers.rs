//! What the program wants.

use std::sync::Arc;
use std::time::Instant;

use throng_protocol::names;

use crate::session::core::room::{Events, Membership, Room};
use crate::session::core::{Answer, Core, Output, Phase, Request, RoomKey, Target, Token};
use crate::session::error::{CloseReason, SessionError};
use crate::session::event::{HistoryQuery, JoinOptions};
use crate::session::outgoing::{self, Address, Body, Writer};

impl Core {
    /// Joins a room: an [`Answer::Joined`] when the server says so. `buffer` is what the reader
    /// of its events has room for, in bytes.
    pub(crate) fn handle_join(
        &mut self,
        token: Token,
        name: &str,
        options: JoinOptions,
        buffer: usize,
    ) {
        if self.refuse_if_closed(token) {
            return;
        }
        if !names::is_room(name) {
            return self.answer(token, Err(SessionError::Name));
        }
        let own = self.rooms.get(&self.own).is_some_and(|own| &*own.name == name);
        if own || self.names.contains_key(name) {
            return self.answer(token, Err(SessionError::AlreadyJoined));
        }
        let key = RoomKey(self.next_room);
        self.next_room += 1;
        let name: Arc<str> = name.into();
        let mut room = Room::new(Arc::clone(&name), options, Some(buffer));
        room.waiting = Some(token);
        self.rooms.insert(key, room);
        self.names.insert(name, key);
        if self.is_online() {
            self.send_join(key);
        }
    }

    /// Reads the user's own room: an [`Answer::Joined`] when it is known.
    pub(crate) fn handle_me(&mut self, token: Token, buffer: usize) {
        if self.refuse_if_closed(token) {
            return;
        }
        let (key, mut events) = (self.own, Events::new());
        let Some(room) = self.rooms.get_mut(&key) else { return };
        if room.has_reader() {
            return self.answer(token, Err(SessionError::AlreadyJoined));
        }
        let joined = room.is_joined();
        if !joined {
            room.waiting = Some(token);
        }
        room.set_reader(Some(buffer), &mut events);
        if joined {
            self.answer(token, Ok(Answer::Joined(key)));
        }
        self.tell(key, events);
    }

    /// Leaves a room. Messages to it that have not been sent are given up. The own room is only
    /// not read any more.
    pub(crate) fn handle_leave(&mut self, key: RoomKey, token: Option<Token>) {
        if key == self.own {
            if let Some(room) = self.rooms.get_mut(&key) {
                room.set_reader(None, &mut Events::new());
            }
        } else if let Some(room) = self.remove(key, &SessionError::Left)
            && matches!(room.membership, Membership::Joined | Membership::Asked)
        {
            let reference = self.reference();
            let command = Writer::new("leave").string("room", &room.name);
            self.commands.push_back(command.number("ref", reference).finish());
            self.requests.insert(reference, Request::Leave(token));
            return;
        }
        if let Some(token) = token {
            self.answer(token, Ok(Answer::Left));
        }
    }

    /// Publishes a message, now or when that is possible: an [`Answer::Sent`].
    pub(crate) fn handle_publish(&mut self, token: Token, target: &Target, body: Body) {
        if self.refuse_if_closed(token) {
            return;
        }
        let pushed = match target {
            Target::Room(key) => match self.rooms.get(key) {
                None => Err(SessionError::Left),
                Some(room) => {
                    let open = room.is_joined() || (*key == self.own && self.is_online());
                    self.outbox.push(token, &room.name, Address::Room, open, body)
                }
            },
            Target::User(name) => {
                self.outbox.push(token, name, Address::User, self.is_online(), body)
            }
        };
        if let Err(error) = pushed {
            self.answer(token, Err(error));
        }
    }

    /// Sends a message once, if that is possible now.
    pub(crate) fn handle_volatile(&mut self, target: &Target, body: &Body) {
        let (name, address) = match target {
            Target::Room(key) => match self.rooms.get(key) {
                Some(room) if room.is_joined() => (Arc::clone(&room.name), Address::Room),
                _ => return,
            },
            Target::User(name) => (Arc::clone(name), Address::User),
        };
        let text = outgoing::publish(body, address, &name, None);
        if self.is_online() && self.volatile < VOLATILE && text.len() <= self.max_payload {
            self.volatile += 1;
            self.commands.push_back(text);
        }
    }

    /// Fetches a part of a room's past: an [`Answer::Page`].
    pub(crate) fn handle_history(&mut self, token: Token, key: RoomKey, query: HistoryQuery) {
        if self.refuse_if_closed(token) {
            return;
        }
        match self.rooms.get_mut(&key) {
            None => self.answer(token, Err(SessionError::Left)),
            Some(room) if !room.is_joined() => room.questions.push_back((token, query)),
            Some(_) => self.send_history(key, token, query),
        }
    }

    /// Measures the way to the server and back: an [`Answer::Pong`].
    pub(crate) fn handle_ping(&mut self, now: Instant, token: Token) {
        if self.refuse_if_closed(token) {
            return;
        }
        if !self.is_online() {
            return self.answer(token, Err(SessionError::Offline));
        }
        let reference = self.reference();
        self.commands.push_back(Writer::new("ping").number("ref", reference).finish());
        self.requests.insert(reference, Request::Ping(token, now));
    }

    /// Shows a ticket, so that the session lasts longer: an [`Answer::Authed`].
    pub(crate) fn handle_auth(&mut self, token: Token, ticket: &str) {
        if self.refuse_if_closed(token) {
            return;
        }
        if !self.is_online() {
            return self.answer(token, Err(SessionError::Offline));
        }
        let reference = self.reference();
        let command = Writer::new("auth").string("ticket", ticket);
        self.commands.push_back(command.number("ref", reference).finish());
        self.requests.insert(reference, Request::Auth(token));
    }

    /// The reader of a room has taken events worth `credit` bytes out of its buffer.
    pub(crate) fn handle_credit(&mut self, now: Instant, key: RoomKey, credit: usize) {
        let mut events = Events::new();
        if let Some(room) = self.rooms.get_mut(&key) {
            room.handle_credit(credit, &mut events);
        }
        self.tell(key, events);
        self.fill_gap(now, key);
    }

    /// Tries to connect now instead of later.
    pub(crate) fn handle_hurry(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Waiting { .. }) {
            self.connect(now);
        }
    }

    /// Ends the session.
    pub(crate) fn handle_close(&mut self) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.close(CloseReason::Ours);
            self.outputs.push_back(Output::Close);
        }
    }

    /// True if the session is closed, and the caller has been told.
    fn refuse_if_closed(&mut self, token: Token) -> bool {
        let Phase::Closed(reason) = &self.phase else { return false };
        let error = SessionError::Closed(reason.clone());
        self.answer(token, Err(error));
        true
    }
}

/// How many commands may wait when one is added that nobody waits for.
const VOLATILE: usize = 64;
