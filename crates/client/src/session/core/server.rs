//! What the server says, and what it is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_protocol::{Code, Timestamp};

use crate::session::core::room::{Events, How, Membership, Room};
use crate::session::core::{
    Admission, Answer, Core, End, Output, Phase, Request, Resume, RoomKey, Token,
};
use crate::session::error::{Refusal, SessionError};
use crate::session::event::{HistoryQuery, Page, Sent};
use crate::session::incoming::{self, Incoming};
use crate::session::outgoing::{self, Writer};
use crate::session::status::{Identity, Status};

impl Core {
    pub(super) fn handle_connected(
        &mut self,
        now: Instant,
        connected: incoming::Connected,
        resuming: bool,
    ) {
        if resuming && !connected.resumed && self.settings.admission != Admission::Open {
            // Whoever the server takes us for now, it has seen no ticket or token.
            self.resume = None;
            self.disconnect();
            return self.wait(now, now);
        }
        if !connected.resumed {
            for token in self.outbox.handle_new_session(self.settings.resend) {
                self.answer(token, Err(SessionError::Uncertain));
            }
        }
        self.resume = connected.resume.map(|token| Resume {
            token,
            window: connected.resume_window.map_or(RESUME_WINDOW, incoming::millis),
            lost: None,
        });
        self.max_payload = connected.limits.max_payload.unwrap_or(usize::MAX);
        let heartbeat = incoming::millis(connected.heartbeat);
        self.phase = Phase::Online { since: now, heard: now, heartbeat };
        let own: Arc<str> = format!("@{}", connected.user_id).into();
        let identity = Arc::new(Identity {
            user_id: connected.user_id,
            session_id: connected.session_id,
            info: connected.info.map(|info| info.get().to_owned()),
            resumed: connected.resumed,
            user_count: connected.user_count,
            expires_at: connected.expires_at.map(Timestamp),
        });
        self.identity = Some(Arc::clone(&identity));
        self.outputs.push_back(Output::Status(Status::Online(identity)));
        if let Some(room) = self.rooms.get_mut(&self.own)
            && room.name != own
        {
            room.rename(Arc::clone(&own));
        }
        let known = |name: &str| *name == *own || self.names.contains_key(name);
        for (token, error) in self.outbox.close_others(known) {
            self.answer(token, Err(error));
        }
        self.outbox.open_users();
        self.outbox.open(&own);
        self.rejoin(connected.resumed);
    }

    /// Names the rooms, so that the server counts us in again.
    fn rejoin(&mut self, resumed: bool) {
        let mut named = Vec::new();
        let keys: Vec<_> = self.rooms.keys().copied().collect();
        for key in keys {
            let Some(room) = self.rooms.get_mut(&key) else { continue };
            if key == self.own {
                // A new session is joined to it unasked.
                if resumed {
                    named.push(key);
                }
            } else if room.position().is_some() && room.waiting.is_none() {
                named.push(key);
            } else {
                self.send_join(key);
            }
        }
        if named.is_empty() {
            return;
        }
        let reference = self.reference();
        let places =
            named.iter().filter_map(|key| self.rooms.get(key)).map(|room| outgoing::Place {
                room: &room.name,
                position: room.position().cloned(),
                presence_seq: room.presence_seq(),
                no_echo: room.options.no_echo,
            });
        self.commands.push_back(outgoing::resume(reference, places));
        for key in &named {
            if let Some(room) = self.rooms.get_mut(key) {
                room.membership = Membership::Asked;
            }
        }
        self.requests.insert(reference, Request::Resume(named));
    }

    pub(super) fn handle_incoming(&mut self, now: Instant, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Connected(_) => {}
            Incoming::Joined(joined) => {
                match joined.reference.and_then(|reference| self.requests.remove(&reference)) {
                    Some(Request::Join(key)) => {
                        self.handle_joined(now, key, joined.place, How::Join);
                    }
                    None if joined.reference.is_none() => {
                        if let Some(key) = self.key(&joined.room) {
                            self.handle_joined(now, key, joined.place, How::Unasked);
                        }
                    }
                    _ => {}
                }
            }
            Incoming::Resumed(resumed) if resumed.reference.is_none() => {
                for (name, place) in resumed.rooms {
                    if let Some(key) = self.joined_key(&name).filter(|_| place.error.is_none()) {
                        self.handle_joined(now, key, place, How::Renewed);
                    }
                }
            }
            Incoming::Resumed(mut resumed) => {
                let request = resumed.reference.and_then(|it| self.requests.remove(&it));
                if let Some(Request::Resume(keys)) = request {
                    for key in keys {
                        let Some(room) = self.rooms.get(&key) else { continue };
                        match resumed.rooms.remove(&*room.name) {
                            Some(place) if place.error.is_none() => {
                                self.handle_joined(now, key, place, How::Resume);
                            }
                            other => {
                                let code = other.and_then(|place| place.error);
                                self.handle_not_resumed(now, key, code);
                            }
                        }
                    }
                }
            }
            Incoming::Left { reference, room } => {
                match reference.and_then(|reference| self.requests.remove(&reference)) {
                    Some(Request::Leave(Some(token))) => self.answer(token, Ok(Answer::Left)),
                    None if reference.is_none() => {
                        if let Some(key) = self.key(&room).filter(|key| *key != self.own) {
                            self.end(key, &SessionError::Left);
                        }
                    }
                    _ => {}
                }
            }
            Incoming::Ack(ack) => {
                if let Some((token, name)) = self.outbox.handle_ack(ack.reference) {
                    let room = self.names.get(&name).and_then(|key| self.rooms.get_mut(key));
                    if let (Some(room), Some(seq)) = (room, ack.seq) {
                        room.handle_published(seq, ack.duplicate);
                    }
                    let timestamp = Timestamp(ack.timestamp);
                    let sent = Sent { seq: ack.seq, timestamp, duplicate: ack.duplicate };
                    self.answer(token, Ok(Answer::Sent(sent)));
                }
            }
            Incoming::History(history) => {
                let request = history.reference.and_then(|it| self.requests.remove(&it));
                let page = || Page {
                    epoch: history.epoch.clone(),
                    messages: history.messages().collect(),
                    more: history.more,
                };
                match request {
                    Some(Request::History(_, token, _)) => {
                        self.answer(token, Ok(Answer::Page(page())));
                    }
                    Some(Request::Gap(key, after)) => {
                        let identity = self.identity.clone();
                        let us = identity.as_ref().map_or("", |identity| &identity.user_id);
                        self.with_room(key, |room, events| {
                            room.handle_page(&after, page(), us, events);
                        });
                        self.fill_gap(now, key);
                    }
                    _ => {}
                }
            }
            Incoming::Presence(presence) => {
                if let Some(reference) = presence.reference {
                    self.requests.remove(&reference);
                }
                if let Some(key) = self.joined_key(&presence.room) {
                    self.with_room(key, |room, events| room.handle_presence(presence, events));
                }
            }
            Incoming::UserJoined(passage) => {
                if let Some(key) = self.joined_key(&passage.room) {
                    self.with_room(key, |room, events| room.handle_passage(&passage, true, events));
                }
            }
            Incoming::UserLeft(passage) => {
                if let Some(key) = self.joined_key(&passage.room) {
                    self.with_room(key, |room, events| {
                        room.handle_passage(&passage, false, events);
                    });
                }
            }
            Incoming::Pong { reference } => {
                let request = reference.and_then(|reference| self.requests.remove(&reference));
                if let Some(Request::Ping(token, sent)) = request {
                    self.answer(token, Ok(Answer::Pong(now.duration_since(sent))));
                }
            }
            Incoming::Authed { reference, expires_at } => {
                let request = reference.and_then(|reference| self.requests.remove(&reference));
                if let Some(Request::Auth(token)) = request {
                    self.answer(token, Ok(Answer::Authed(expires_at.map(Timestamp))));
                }
            }
            Incoming::Error { reference, room, refusal } => {
                self.handle_error(now, reference, room, refusal);
            }
            Incoming::Reconnect { after } => self.slot = Some(now + after),
            Incoming::Message { room, message } => {
                if let Some(key) = self.joined_key(&room) {
                    self.with_room(key, |room, events| room.handle_message(message, events));
                    self.fill_gap(now, key);
                }
            }
        }
    }

    fn handle_joined(&mut self, now: Instant, key: RoomKey, place: incoming::Place, how: How) {
        let Some(room) = self.rooms.get_mut(&key) else { return };
        let (name, mut events) = (Arc::clone(&room.name), Events::new());
        let ask = room.handle_joined(place, how, &mut events);
        let waiting = room.waiting.take();
        let questions = std::mem::take(&mut room.questions);
        if let Some(token) = waiting {
            self.answer(token, Ok(Answer::Joined(key)));
        }
        self.tell(key, events);
        self.outbox.open(&name);
        for (token, query) in questions {
            self.send_history(key, token, query);
        }
        if ask {
            self.send_presence(key);
        }
        self.fill_gap(now, key);
    }

    /// The server does not count us in again.
    fn handle_not_resumed(&mut self, now: Instant, key: RoomKey, code: Option<String>) {
        let code = code.unwrap_or_else(|| "unavailable".to_owned());
        let known = Code::from_name(&code);
        let refusal = Refusal {
            message: known.map_or_else(|| code.clone(), |known| known.text().to_owned()),
            temporary: known.is_some_and(Code::is_temporary),
            code,
            retry_after: None,
        };
        self.handle_join_refused(now, key, refusal);
    }

    fn handle_error(
        &mut self,
        now: Instant,
        reference: Option<u64>,
        room: Option<String>,
        refusal: Refusal,
    ) {
        let Some(reference) = reference else {
            self.pause = refusal.retry_after.or(self.pause);
            if let Some(key) = room.and_then(|room| self.key(&room)) {
                self.with_room(key, |room, events| room.handle_refusal(refusal, events));
            }
            return;
        };
        match self.requests.remove(&reference) {
            None => {
                let random = &mut self.random;
                let token = self.outbox.handle_refusal(now, reference, &refusal, random);
                if let Some(token) = token {
                    self.answer(token, Err(refusal.into()));
                }
            }
            Some(Request::Join(key)) => self.handle_join_refused(now, key, refusal),
            Some(Request::Resume(keys)) => {
                // One by one, then.
                for key in keys {
                    self.refuse_for_a_while(now, key, refusal.retry_after);
                }
            }
            Some(Request::Leave(token)) => {
                if let Some(token) = token {
                    self.answer(token, Ok(Answer::Left));
                }
            }
            Some(
                Request::History(_, token, _) | Request::Ping(token, _) | Request::Auth(token),
            ) => {
                self.answer(token, Err(refusal.into()));
            }
            Some(Request::Gap(key, after)) => {
                // The answer to what was asked before the room was renewed says nothing.
                if self.rooms.get(&key).is_some_and(|room| room.is_of(&after.epoch)) {
                    self.handle_gap_refused(now, key, &refusal);
                }
            }
            Some(Request::Presence(key)) => {
                if let Some(room) = self.rooms.get_mut(&key).filter(|_| refusal.temporary) {
                    let least = refusal.retry_after.unwrap_or_default();
                    let wait = room.backoff.next_after(least, &mut self.random);
                    room.retry_users(now + wait);
                }
            }
        }
    }

    fn handle_join_refused(&mut self, now: Instant, key: RoomKey, refusal: Refusal) {
        let Some(room) = self.rooms.get_mut(&key) else { return };
        match room.waiting.take() {
            Some(token) if key != self.own => {
                // It has never been joined, so its caller may decide.
                self.remove(key, &SessionError::Left);
                self.answer(token, Err(refusal.into()));
            }
            waiting => {
                room.waiting = waiting;
                if refusal.temporary || key == self.own {
                    self.refuse_for_a_while(now, key, refusal.retry_after);
                } else {
                    self.end(key, &refusal.into());
                }
            }
        }
    }

    fn handle_gap_refused(&mut self, now: Instant, key: RoomKey, refusal: &Refusal) {
        if refusal.code == "stale_epoch" {
            // Coming back is how to learn of the new epoch.
            self.disconnect();
            return self.handle_end(now, End::Lost);
        }
        let Some(room) = self.rooms.get_mut(&key) else { return };
        if refusal.temporary {
            let least = refusal.retry_after.unwrap_or_default();
            let wait = room.backoff.next_after(least, &mut self.random);
            room.retry_gap(now + wait);
        } else {
            self.with_room(key, Room::give_up_gap);
        }
    }

    fn refuse_for_a_while(&mut self, now: Instant, key: RoomKey, least: Option<Duration>) {
        if let Some(room) = self.rooms.get_mut(&key) {
            let wait = room.backoff.next_after(least.unwrap_or_default(), &mut self.random);
            room.membership = Membership::Refused(now + wait);
        }
    }

    pub(super) fn send_join(&mut self, key: RoomKey) {
        let reference = self.reference();
        if let Some(room) = self.rooms.get_mut(&key) {
            room.membership = Membership::Asked;
            let command = outgoing::join(reference, &room.name, &room.options, room.position());
            self.commands.push_back(command);
            self.requests.insert(reference, Request::Join(key));
        }
    }

    pub(super) fn send_history(&mut self, key: RoomKey, token: Token, query: HistoryQuery) {
        let reference = self.reference();
        if let Some(room) = self.rooms.get(&key) {
            self.commands.push_back(outgoing::history(reference, &room.name, &query, None));
            self.requests.insert(reference, Request::History(key, token, query));
        }
    }

    /// Asks who is in a room.
    pub(super) fn send_presence(&mut self, key: RoomKey) {
        let reference = self.reference();
        if let Some(room) = self.rooms.get(&key) {
            let command = Writer::new("presence").string("room", &room.name);
            self.commands.push_back(command.number("ref", reference).finish());
            self.requests.insert(reference, Request::Presence(key));
        }
    }

    /// Fetches what is missing in a room, if something is and there is room for it.
    pub(super) fn fill_gap(&mut self, now: Instant, key: RoomKey) {
        let online = self.is_online();
        let Some(room) = self.rooms.get_mut(&key).filter(|_| online) else { return };
        if let Some((seen, limit)) = room.poll_gap(now) {
            let name = Arc::clone(&room.name);
            let reference = self.reference();
            let query = HistoryQuery::after(seen.seq).limit(limit);
            let command = outgoing::history(reference, &name, &query, Some(&seen.epoch));
            self.commands.push_back(command);
            self.requests.insert(reference, Request::Gap(key, seen));
        }
    }
}

/// How long a session can be resumed when the server does not say.
const RESUME_WINDOW: Duration = Duration::from_secs(120);
