//! A naive server: rooms as lists, sessions as maps, everything done at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use serde_json::{Value, json};

/// A message as the server keeps it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    /// The session, or `other`.
    pub(super) by: String,
    from: String,
}

#[derive(Default)]
pub(super) struct ModelRoom {
    pub(super) epoch: u32,
    /// All messages of all epochs; `log[&epoch][seq - 1]`.
    pub(super) log: BTreeMap<u32, Vec<Entry>>,
    /// How many messages an epoch has taken over from the one before.
    pub(super) carried: BTreeMap<u32, usize>,
    /// The history begins behind this one.
    pub(super) trimmed: u64,
    pub(super) users: BTreeSet<String>,
    pub(super) presence_seq: u64,
}

impl ModelRoom {
    pub(super) fn seq(&self) -> u64 {
        self.log.get(&self.epoch).map_or(0, Vec::len) as u64
    }

    /// The epoch as it travels.
    fn name(&self) -> String {
        self.epoch.to_string()
    }

    fn entry(&self, seq: u64) -> &Entry {
        &self.log[&self.epoch][seq as usize - 1]
    }

    fn message(&self, room: &str, seq: u64) -> Value {
        let Entry { id, from, .. } = self.entry(seq);
        json!({"type": "chat", "room": room, "from": from, "seq": seq, "timestamp": 1, "id": id})
    }

    fn users(&self) -> Value {
        self.users.iter().map(|user| json!({"userId": user})).collect()
    }
}

#[derive(Default)]
struct ModelSession {
    /// What every `ref` was used for.
    used: HashMap<u64, Value>,
    /// The answers to publishes, and their ids.
    published: HashMap<(String, u64), (u64, u64)>,
    /// The newest `ref` of each room.
    newest: HashMap<String, u64>,
    user: String,
}

/// An open connection: what is on its way in both directions.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) token: String,
    /// The rooms, and whether own messages come back.
    pub(super) joined: HashMap<String, bool>,
    pub(super) to_server: VecDeque<String>,
    pub(super) to_client: VecDeque<String>,
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) rooms: BTreeMap<String, ModelRoom>,
    sessions: HashMap<String, ModelSession>,
    pub(super) connection: Option<Connection>,
    sessions_made: u64,
    /// The user of new sessions.
    pub(super) user: u32,
    /// So many of the next publishes are refused for a while.
    pub(super) refuse: u32,
    refused: bool,
    /// So many of the next publishes are refused because the storage is away; every other one is
    /// stored all the same.
    pub(super) away: u32,
    /// Messages that were published and are gone.
    pub(super) lost: HashSet<u64>,
    /// So many of the next questions about the past or about who is there are refused.
    pub(super) refuse_questions: u32,
    /// So many of the next attempts to join or come back are refused for a while.
    pub(super) refuse_joins: u32,
}

impl Server {
    pub(super) fn connect(&mut self, resume: Option<&str>) {
        let known = resume.filter(|token| self.sessions.contains_key(*token));
        let resumed = known.is_some();
        let token = known.map_or_else(|| format!("t{}", self.sessions_made), str::to_owned);
        if !resumed {
            self.sessions_made += 1;
            let user = format!("u{}", self.user);
            self.sessions.insert(token.clone(), ModelSession { user, ..ModelSession::default() });
        }
        let user = self.sessions[&token].user.clone();
        let mut connection = Connection { token: token.clone(), ..Connection::default() };
        let connected = json!({"type": "connected", "userId": user, "sessionId": token,
            "resume": token, "resumed": resumed, "resumeWindow": 120_000, "userCount": 1,
            "heartbeat": 25_000, "timestamp": 1, "limits": {"maxPayload": 65_536}});
        connection.to_client.push_back(connected.to_string());
        self.connection = Some(connection);
        if !resumed {
            let own = format!("@{user}");
            let mut joined = self.place(&own);
            joined["type"] = "joined".into();
            joined["room"] = own.as_str().into();
            joined["recovered"] = true.into();
            self.joined(&own, true);
            self.send(joined);
        }
    }

    /// The session is forgotten.
    pub(super) fn expire(&mut self) {
        self.sessions.clear();
    }

    /// Somebody else publishes.
    pub(super) fn publish(&mut self, room: &str, id: u64) {
        self.append(room, id, "other");
    }

    /// The server is about to stop.
    pub(super) fn slot(&mut self, after: u64) {
        self.send(json!({"type": "reconnect", "after": after}));
    }

    /// The room goes on from elsewhere, without the last `lose` messages. With `user`, somebody
    /// has come or gone unseen.
    pub(super) fn renew(&mut self, room: &str, lose: usize, user: Option<&str>) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        let log = state.log.get(&state.epoch).cloned().unwrap_or_default();
        let kept = log.len().saturating_sub(lose);
        self.lost.extend(log[kept..].iter().map(|entry| entry.id));
        // What was lost without an answer comes under its number again.
        self.refused |= kept < log.len();
        state.epoch += 1;
        state.carried.insert(state.epoch, kept);
        state.log.insert(state.epoch, log.into_iter().take(kept).collect());
        state.trimmed = state.trimmed.min(kept as u64);
        if let Some(user) = user {
            state.presence_seq += 1;
            if !state.users.remove(user) {
                state.users.insert(user.to_owned());
            }
        }
        for session in self.sessions.values_mut() {
            session.published.retain(|_, (_, id)| !self.lost.contains(id));
        }
        let mut place = self.place(room);
        place["recovered"] = false.into();
        if self.connection.as_ref().is_some_and(|it| it.joined.contains_key(room)) {
            self.send(json!({"type": "resumed", "rooms": {room: place}}));
        }
    }

    /// Somebody comes to a room, or goes.
    pub(super) fn pass(&mut self, room: &str, user: &str) {
        let state = self.rooms.entry(room.to_owned()).or_default();
        state.presence_seq += 1;
        let kind = if state.users.remove(user) {
            "user_left"
        } else {
            state.users.insert(user.to_owned());
            "user_joined"
        };
        let passage = json!({"type": kind, "room": room, "userId": user, "timestamp": 1,
            "userCount": state.users.len(), "presenceSeq": state.presence_seq});
        if self.connection.as_ref().is_some_and(|it| it.joined.contains_key(room)) {
            self.send(passage);
        }
    }

    /// The next command of the client.
    pub(super) fn receive(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let Some(text) = connection.to_server.pop_front() else { return false };
        let command: Value = serde_json::from_str(&text).unwrap();
        let reference = command["ref"].as_u64();
        let token = connection.token.clone();
        if let Some(reference) = reference
            && let Some(session) = self.sessions.get_mut(&token)
        {
            let before = session.used.insert(reference, command.clone());
            assert!(before.is_none_or(|it| it == command), "ref {reference} has two meanings");
        }
        match command["type"].as_str().unwrap() {
            "join" => self.join(&command),
            "resume" => self.resume(&command),
            "leave" => {
                let room = command["room"].as_str().unwrap();
                self.connection.as_mut().unwrap().joined.remove(room);
                self.send(json!({"type": "left", "ref": reference, "room": room}));
            }
            "history" | "presence" if self.refuse_questions > 0 => {
                self.refuse_questions -= 1;
                self.error(reference.unwrap(), "unavailable", true);
            }
            "history" => self.history(&command),
            "presence" => {
                let room = command["room"].as_str().unwrap();
                let state = self.rooms.entry(room.to_owned()).or_default();
                let reply = json!({"type": "presence", "ref": reference, "room": room,
                    "userCount": state.users.len(), "users": state.users(),
                    "presenceSeq": state.presence_seq});
                self.send(reply);
            }
            "ping" => self.send(json!({"type": "pong", "ref": reference, "timestamp": 1})),
            _ => self.handle_publish(&command),
        }
        true
    }

    fn handle_publish(&mut self, command: &Value) {
        let room = match command["to"].as_str() {
            Some(user) => format!("@{user}"),
            None => command["room"].as_str().unwrap().to_owned(),
        };
        let connection = self.connection.as_ref().unwrap();
        let reference = command["ref"].as_u64().unwrap();
        let session = self.sessions.entry(connection.token.clone()).or_default();
        let key = (room.clone(), reference);
        if command["to"].is_null() && !connection.joined.contains_key(&room) {
            return self.error(reference, "not_joined", false);
        }
        if let Some(&(seq, _)) = session.published.get(&key) {
            return self.send(json!({"type": "ack", "ref": reference, "room": room, "seq": seq,
                "timestamp": 1, "duplicate": true}));
        }
        if self.away > 0 {
            self.away -= 1;
            self.refused = true;
            if self.away.is_multiple_of(2) {
                let token = connection.token.clone();
                let id = command["id"].as_u64().unwrap();
                let seq = self.append(&room, id, &token);
                self.sessions.get_mut(&token).unwrap().published.insert(key, (seq, id));
            }
            return self.error(reference, "unavailable", true);
        }
        if self.refuse > 0 {
            self.refuse -= 1;
            self.refused = true;
            return self.error(reference, "rate_limited", true);
        }
        let newest = session.newest.entry(room.clone()).or_default();
        // A refusal that got lost is repeated under its number, after others perhaps.
        assert!(self.refused || reference > *newest, "ref {reference} after {newest} in {room}");
        assert!(reference + 256 > *newest, "ref {reference} is forgotten");
        *newest = reference.max(*newest);
        let token = connection.token.clone();
        let id = command["id"].as_u64().unwrap();
        let seq = self.append(&room, id, &token);
        let session = self.sessions.get_mut(&token).unwrap();
        session.published.insert(key, (seq, id));
        self.send(json!({"type": "ack", "ref": reference, "room": room, "seq": seq,
            "timestamp": 1}));
    }

    fn append(&mut self, room: &str, id: u64, by: &str) -> u64 {
        let from = self.sessions.get(by).map_or("other", |session| &session.user).to_owned();
        let state = self.rooms.entry(room.to_owned()).or_default();
        let entry = Entry { id, by: by.to_owned(), from };
        state.log.entry(state.epoch).or_default().push(entry);
        let seq = state.seq();
        self.deliver(room, seq);
        seq
    }

    /// To the client, if it is in the room and the message is for it.
    fn deliver(&mut self, room: &str, seq: u64) {
        let Some(connection) = &mut self.connection else { return };
        let state = &self.rooms[room];
        let wanted = match connection.joined.get(room) {
            None => false,
            Some(true) => true,
            Some(false) => state.entry(seq).by != connection.token,
        };
        if wanted {
            connection.to_client.push_back(state.message(room, seq).to_string());
        }
    }

    fn join(&mut self, command: &Value) {
        let room = command["room"].as_str().unwrap();
        let reference = command["ref"].as_u64().unwrap();
        if self.refuse_joins > 0 {
            self.refuse_joins -= 1;
            return self.error(reference, "room_full", true);
        }
        let mut joined = self.place(room);
        let since = command.get("since").map(|since| self.since(room, since));
        joined["type"] = "joined".into();
        joined["ref"] = reference.into();
        joined["room"] = room.into();
        joined["recovered"] = (since != Some(None)).into();
        if command["presence"] == true {
            joined["users"] = self.rooms[room].users();
        }
        self.joined(room, command["echo"] != false);
        self.send(joined);
        let state = &self.rooms[room];
        let rewind = command["rewind"].as_u64().map(|back| state.seq().saturating_sub(back));
        if let Some(after) = since.flatten().or(rewind) {
            self.replay(room, after);
        }
    }

    fn resume(&mut self, command: &Value) {
        let mut rooms = json!({});
        let mut replays = Vec::new();
        for (room, place) in command["rooms"].as_object().unwrap() {
            if self.refuse_joins > 0 {
                self.refuse_joins -= 1;
                rooms[room] = json!({"error": "room_full"});
                continue;
            }
            rooms[room] = self.place(room);
            let since = place.get("seq").map(|_| self.since(room, place));
            rooms[room]["recovered"] = (since != Some(None)).into();
            let state = &self.rooms[room];
            let list = place["presenceSeq"].as_u64().is_some_and(|seq| seq != state.presence_seq);
            let list = list.then(|| {
                json!({"type": "presence", "room": room, "userCount": state.users.len(),
                    "users": state.users(), "presenceSeq": state.presence_seq})
            });
            self.joined(room, place["echo"] != false);
            replays.push((room.clone(), since.flatten(), list));
        }
        self.send(json!({"type": "resumed", "ref": command["ref"], "rooms": rooms}));
        for (room, since, list) in replays {
            if let Some(after) = since {
                self.replay(&room, after);
            }
            if let Some(list) = list {
                self.send(list);
            }
        }
    }

    fn history(&mut self, command: &Value) {
        let room = command["room"].as_str().unwrap();
        let reference = command["ref"].as_u64().unwrap();
        let connection = self.connection.as_ref().unwrap();
        if !connection.joined.contains_key(room) {
            return self.error(reference, "not_joined", false);
        }
        let state = &self.rooms[room];
        if command.get("epoch").is_some_and(|epoch| *epoch != *state.name()) {
            return self.error(reference, "stale_epoch", false);
        }
        let after = command["after"].as_u64().unwrap().max(state.trimmed);
        let limit = command["limit"].as_u64().unwrap();
        let messages: Vec<_> = (after + 1..=state.seq().min(after + limit))
            .map(|seq| state.message(room, seq))
            .collect();
        let more = state.seq() > after + limit;
        let epoch = state.epoch.to_string();
        self.send(json!({"type": "history", "ref": reference, "room": room, "epoch": epoch,
            "messages": messages, "more": more}));
    }

    /// After which message to go on for a client that has seen so much.
    fn since(&self, room: &str, since: &Value) -> Option<u64> {
        let state = &self.rooms[room];
        let seq = since["seq"].as_u64().unwrap();
        let within = (state.trimmed..=state.seq()).contains(&seq);
        (since["epoch"] == *state.name() && within).then_some(seq)
    }

    fn replay(&mut self, room: &str, after: u64) {
        let state = &self.rooms[room];
        for seq in after.max(state.trimmed) + 1..=state.seq() {
            self.deliver(room, seq);
        }
    }

    fn place(&mut self, room: &str) -> Value {
        let state = self.rooms.entry(room.to_owned()).or_default();
        json!({"epoch": state.epoch.to_string(), "seq": state.seq(),
            "userCount": state.users.len(), "presenceSeq": state.presence_seq})
    }

    fn joined(&mut self, room: &str, echo: bool) {
        let connection = self.connection.as_mut().unwrap();
        let before = connection.joined.insert(room.to_owned(), echo);
        assert!(before.is_none(), "{room} is joined twice");
    }

    fn error(&mut self, reference: u64, code: &str, temporary: bool) {
        self.send(json!({"type": "error", "ref": reference, "code": code, "message": "",
            "temporary": temporary}));
    }

    fn send(&mut self, message: Value) {
        if let Some(connection) = &mut self.connection {
            connection.to_client.push_back(message.to_string());
        }
    }
}
