//! A core, a model of the server, and the readers, under a clock that is moved by hand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::model::Server;
use crate::session::core::{
    Admission, Answer, Core, End, Output, RoomKey, Settings, Target, Token,
};
use crate::session::error::SessionError;
use crate::session::event::{JoinOptions, Position, RoomEvent, Sent};
use crate::session::outgoing::Body;
use crate::session::status::Status;

pub(super) struct World {
    pub(super) core: Core,
    pub(super) server: Server,
    pub(super) now: Instant,
    pub(super) status: Option<Status>,
    pub(super) readers: BTreeMap<RoomKey, Follower>,
    /// What was sent: room and id.
    pub(super) sent: HashMap<Token, (String, u64)>,
    pub(super) answers: HashMap<Token, Result<Sent, SessionError>>,
    /// The rooms that were left.
    pub(super) left: HashSet<Token>,
    /// Attempts to connect, with their tokens.
    pub(super) attempts: Vec<Option<String>>,
    joining: HashMap<Token, String>,
    starved: HashSet<RoomKey>,
    connecting: Option<Option<String>>,
    /// Attempts to connect succeed.
    pub(super) reachable: bool,
    next: u64,
}

/// Reads a room and checks that nothing is missing or comes twice.
pub(super) struct Follower {
    pub(super) room: String,
    pub(super) buffer: VecDeque<RoomEvent>,
    taken: usize,
    pub(super) position: Option<Position>,
    pub(super) users: Option<BTreeSet<String>>,
    pub(super) lost: u32,
    pub(super) ids: Vec<u64>,
    pub(super) ended: Option<SessionError>,
    no_echo: bool,
}

pub(super) const BUFFER: usize = 1500;

pub(super) fn settings() -> Settings {
    Settings {
        base: Duration::from_millis(500),
        max: Duration::from_secs(30),
        outbox: 1000,
        outbox_bytes: 1 << 20,
        resend: false,
        admission: Admission::Open,
        seed: 42,
    }
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut world = Self {
            core: Core::new(now, settings),
            server: Server::default(),
            now,
            status: None,
            readers: BTreeMap::new(),
            sent: HashMap::new(),
            answers: HashMap::new(),
            left: HashSet::new(),
            attempts: Vec::new(),
            joining: HashMap::new(),
            starved: HashSet::new(),
            connecting: None,
            reachable: true,
            next: 0,
        };
        world.core.handle_timeout(now);
        world.turn();
        world
    }

    pub(super) fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    pub(super) fn join(&mut self, room: &str, options: JoinOptions) -> Token {
        let token = self.token();
        self.joining.insert(token, room.to_owned());
        self.core.handle_join(token, room, options, BUFFER);
        self.turn();
        token
    }

    pub(super) fn me(&mut self) {
        let token = self.token();
        self.joining.insert(token, "@".to_owned());
        self.core.handle_me(token, BUFFER);
        self.turn();
    }

    pub(super) fn key(&self, room: &str) -> Option<RoomKey> {
        self.readers.iter().find(|(_, reader)| reader.room == room).map(|(key, _)| *key)
    }

    pub(super) fn reader(&mut self, room: &str) -> &mut Follower {
        let key = self.key(room).unwrap();
        self.readers.get_mut(&key).unwrap()
    }

    /// Publishes in a room.
    pub(super) fn send(&mut self, room: &str) -> Option<Token> {
        let target = Target::Room(self.key(room)?);
        Some(self.send_to(&target, room))
    }

    pub(super) fn send_direct(&mut self, user: &str) -> Token {
        let room = format!("@{user}");
        self.send_to(&Target::User(Arc::from(&*room)), &room)
    }

    fn send_to(&mut self, target: &Target, room: &str) -> Token {
        let token = self.token();
        let body = Body::new(&json!({"type": "chat", "id": token.0})).unwrap();
        self.sent.insert(token, (room.to_owned(), token.0));
        self.core.handle_publish(token, target, body);
        self.turn();
        token
    }

    /// Somebody else publishes.
    pub(super) fn publish(&mut self, room: &str) {
        let token = self.token();
        self.server.publish(room, token.0);
    }

    /// The server takes up to `count` commands.
    pub(super) fn serve(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
            if !self.server.receive() {
                break;
            }
        }
    }

    /// The client takes up to `count` messages.
    pub(super) fn deliver(&mut self, count: usize) -> usize {
        for done in 0..count {
            let next = self.server.connection.as_mut().and_then(|it| it.to_client.pop_front());
            let Some(text) = next else { return done };
            self.core.handle_text(self.now, &text);
            self.turn();
        }
        count
    }

    /// One message from a room gets lost, which no network does.
    pub(super) fn lose_message(&mut self) {
        if let Some(connection) = &mut self.server.connection {
            let is_message =
                |text: &String| serde_json::from_str::<Value>(text).unwrap()["type"] == "chat";
            if let Some(place) = connection.to_client.iter().position(is_message) {
                connection.to_client.remove(place);
            }
        }
    }

    /// The connection breaks; what is on its way is gone.
    pub(super) fn drop_connection(&mut self) {
        if self.server.connection.take().is_some() {
            self.core.handle_end(self.now, End::Lost);
            self.turn();
        }
    }

    /// The connection ends in this way.
    pub(super) fn end(&mut self, end: End) {
        self.server.connection = None;
        self.core.handle_end(self.now, end);
        self.turn();
    }

    /// What the server says now, not in its turn.
    pub(super) fn push(&mut self, message: Value) {
        self.core.handle_text(self.now, &message.to_string());
        self.turn();
    }

    /// The commands of this type that are on their way.
    pub(super) fn commands(&self, kind: &str) -> Vec<Value> {
        let connection = self.server.connection.iter();
        connection
            .flat_map(|connection| &connection.to_server)
            .map(|text| serde_json::from_str::<Value>(text).unwrap())
            .filter(|command| command["type"] == kind)
            .collect()
    }

    /// Goes to the next time at which the core wants something, if that is not too far off.
    pub(super) fn advance(&mut self, at_most: Duration) -> bool {
        let Some(at) = self.core.poll_timeout().filter(|at| *at <= self.now + at_most) else {
            return false;
        };
        self.now = self.now.max(at);
        self.core.handle_timeout(self.now);
        self.turn();
        true
    }

    /// Takes up to `count` events out of each buffer.
    pub(super) fn read(&mut self, count: usize) {
        let keys: Vec<_> = self.readers.keys().copied().collect();
        for key in keys {
            let reader = self.readers.get_mut(&key).unwrap();
            for _ in 0..count {
                if !reader.take(&self.server) {
                    break;
                }
            }
            let empty = reader.buffer.is_empty() && self.starved.remove(&key);
            if reader.taken > 0 && (empty || reader.taken >= BUFFER / 2) {
                let credit = std::mem::take(&mut reader.taken);
                self.starved.remove(&key);
                self.core.handle_credit(self.now, key, credit);
                self.turn();
            }
        }
    }

    /// Does what the core wants done at once.
    pub(super) fn turn(&mut self) {
        loop {
            while let Some(output) = self.core.poll_output() {
                self.perform(output);
            }
            match self.connecting.take() {
                Some(resume) if self.reachable => {
                    self.server.connect(resume.as_deref());
                    self.core.handle_open(self.now);
                }
                Some(_) => self.core.handle_end(self.now, End::Lost),
                None => break,
            }
        }
        if let Some(connection) = &mut self.server.connection {
            while let Some(text) = self.core.poll_transmit(self.now) {
                connection.to_server.push_back(text);
            }
        }
        while let Some(output) = self.core.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { resume } => {
                assert!(self.server.connection.is_none(), "connected twice");
                self.attempts.push(resume.clone());
                self.connecting = Some(resume);
            }
            Output::Disconnect | Output::Close => {
                self.server.connection = None;
                self.connecting = None;
            }
            Output::Status(status) => self.status = Some(status),
            Output::Answer(token, Ok(Answer::Joined(key))) => {
                let room = self.joining.remove(&token).unwrap();
                let reader = Follower {
                    no_echo: room.ends_with(":quiet"),
                    room,
                    buffer: VecDeque::new(),
                    taken: 0,
                    position: None,
                    users: None,
                    lost: 0,
                    ids: Vec::new(),
                    ended: None,
                };
                self.readers.insert(key, reader);
            }
            Output::Answer(token, Ok(Answer::Left)) => {
                self.left.insert(token);
            }
            Output::Answer(token, answer) => {
                self.joining.remove(&token);
                let answer = answer.map(|answer| match answer {
                    Answer::Sent(sent) => sent,
                    other => panic!("{other:?}"),
                });
                assert!(self.answers.insert(token, answer).is_none(), "{token:?} answered twice");
            }
            Output::Event(key, event) => {
                let Some(reader) = self.readers.get_mut(&key) else { return };
                assert!(reader.ended.is_none());
                reader.buffer.push_back(event);
                let cost: usize = reader.buffer.iter().map(RoomEvent::cost).sum();
                let bound = cost <= BUFFER || reader.buffer.len() == 1;
                let ended = matches!(reader.buffer.back(), Some(RoomEvent::Ended(_)));
                assert!(bound || ended, "the buffer holds {cost} bytes");
            }
            Output::Starved(key) => {
                self.starved.insert(key);
            }
        }
    }

    /// Lets everything come to rest, with a network that does not break any more.
    pub(super) fn settle(&mut self) {
        self.reachable = true;
        self.server.refuse = 0;
        self.server.refuse_joins = 0;
        self.server.away = 0;
        self.server.refuse_questions = 0;
        for _ in 0..10_000 {
            self.serve(usize::MAX);
            let received = self.deliver(usize::MAX);
            self.read(usize::MAX);
            self.core.handle_sign(self.now);
            if received == 0 && self.is_settled() {
                return;
            }
            if received == 0 {
                self.advance(Duration::from_secs(40));
            }
        }
        panic!("it does not come to rest: {:?}", self.status);
    }

    fn is_settled(&self) -> bool {
        matches!(self.status, Some(Status::Online(_)))
            && self.sent.keys().all(|token| self.answers.contains_key(token))
            && self.readers.values().all(|reader| reader.is_settled(self))
    }
}

impl Follower {
    /// Takes an event out of the buffer and checks it.
    fn take(&mut self, server: &Server) -> bool {
        let Some(event) = self.buffer.pop_front() else { return false };
        self.taken += event.cost();
        match event {
            RoomEvent::Joined(joined) => {
                self.position.get_or_insert(joined.start);
                if let Some(users) = joined.users {
                    self.users = Some(users.into_iter().map(|user| user.id).collect());
                }
            }
            RoomEvent::Lost(position) => {
                if let Some(before) = &self.position
                    && before.epoch == position.epoch
                    && self.room != "@"
                // which may be another user's
                {
                    assert!(before.seq < position.seq, "{before:?} {position:?}");
                }
                self.lost += 1;
                self.position = Some(position);
            }
            RoomEvent::Message(message) => {
                let seq = message.seq.unwrap();
                let value: Value = message.parse().unwrap();
                self.ids.push(value["id"].as_u64().unwrap());
                let room = &server.rooms[value["room"].as_str().unwrap()];
                let position = self.position.as_mut().expect("joined first");
                let log = &room.log[&position.epoch.parse().unwrap()];
                assert_eq!(value["id"], log[seq as usize - 1].id, "a message of another past");
                for between in position.seq + 1..seq {
                    let entry = &log[between as usize - 1];
                    assert!(self.no_echo && entry.by != "other", "{between} is missing");
                }
                assert!(seq > position.seq, "{seq} after {}", position.seq);
                position.seq = seq;
            }
            RoomEvent::UserJoined { user, .. } => {
                if let Some(users) = &mut self.users {
                    assert!(users.insert(user.id), "joined twice");
                }
            }
            RoomEvent::UserLeft { user, .. } => {
                if let Some(users) = &mut self.users {
                    assert!(users.remove(&user.id), "left twice");
                }
            }
            RoomEvent::Presence { users, .. } => {
                self.users = users.map(|users| users.into_iter().map(|user| user.id).collect());
            }
            RoomEvent::Refused(_) => {}
            RoomEvent::Ended(error) => self.ended = Some(error),
        }
        true
    }

    fn is_settled(&self, world: &World) -> bool {
        if self.ended.is_some() {
            return true;
        }
        let own = match &world.status {
            Some(Status::Online(identity)) => format!("@{}", identity.user_id),
            _ => return false,
        };
        let name = if self.room == "@" { &own } else { &self.room };
        let (Some(room), Some(position)) = (world.server.rooms.get(name), &self.position) else {
            return false;
        };
        // Own messages at the end do not come where they are not wanted.
        let rest = room.log.get(&room.epoch).into_iter().flatten().skip(position.seq as usize);
        let all = rest.into_iter().all(|entry| self.no_echo && entry.by != "other");
        let users = self.users.as_ref().is_none_or(|users| *users == room.users);
        position.epoch == room.epoch.to_string() && all && users && self.buffer.is_empty()
    }
}
