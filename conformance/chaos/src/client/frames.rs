//! What the client does with each message of the server.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::letter::is_intact;
use super::outbox::Posted;
use super::wire::{self, Ended, Socket};
use super::{Ask, Client, Place, Session, Talk, is_own, number, text};
use crate::plan::Kind;
use crate::record::{Event, Position, Return};

impl Client {
    /// Handles one message, and answers it if that is due.
    pub(super) async fn handle(
        &mut self,
        frame: &str,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        let Ok(message) = serde_json::from_str::<Value>(frame) else {
            self.trouble("bad_json", frame);
            return Ok(());
        };
        let kind = text(&message, "type").unwrap_or_default();
        if !talk.connected && kind != "connected" {
            if is_turned_away(&message) {
                let (what, code) = (frame.to_owned(), UNAVAILABLE.to_owned());
                self.write(Event::Deferred { what, code });
                return Ok(());
            }
            self.trouble("before_connected", frame);
        }
        match kind {
            "connected" => return self.connected(&message, talk, socket).await,
            "joined" => self.joined(&message, talk),
            "left" => match take(talk, &message) {
                Some(Ask::Leave(room)) => self.left(room),
                _ => self.trouble("unasked", frame),
            },
            "resumed" => match take(talk, &message) {
                Some(Ask::Resume(since)) => self.resumed(&message, since, talk),
                None if message.get("ref").is_none() => self.renewed(&message),
                _ => self.trouble("unasked", frame),
            },
            "ack" => self.acked(&message, talk),
            "error" => self.refused(&message, talk),
            "history" => match take(talk, &message) {
                Some(Ask::History(room)) => self.paged(&message, room),
                _ => self.trouble("unasked", frame),
            },
            "presence" => self.listed(&message, talk),
            "user_joined" | "user_left" => self.moved(&message, kind == "user_joined"),
            "pong" => {}
            "reconnect" => self.told_slot(&message, talk),
            "authed" => self.trouble("unasked", frame),
            _ => match message {
                Value::Object(message) => self.received(&message, frame),
                _ => self.trouble("no_object", frame),
            },
        }
        Ok(())
    }

    /// There is another node to go to, in its slot. One server is back when it is back: it closes the connection
    /// soon, and the client comes back anyway.
    fn told_slot(&self, message: &Value, talk: &mut Talk) {
        let after = number(message, "after").unwrap_or_default();
        self.write(Event::Slot { after });
        if self.doors.are_many() && !self.part.is_deaf() {
            talk.leave = Some(Instant::now() + Duration::from_millis(after));
        }
    }

    async fn connected(
        &mut self,
        message: &Value,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        let (Some(user), Some(id), Some(token)) =
            (text(message, "userId"), text(message, "sessionId"), text(message, "resume"))
        else {
            self.trouble("bad_connected", &message.to_string());
            return Err(Ended::Lost("no session".into()));
        };
        if std::mem::replace(&mut talk.connected, true) {
            self.trouble("connected_twice", &message.to_string());
        }
        let before = self.session.replace(Session {
            token: token.to_owned(),
            user: user.to_owned(),
            id: id.to_owned(),
        });
        let resumed = message.get("resumed").and_then(Value::as_bool).unwrap_or(false);
        self.write(Event::Connected {
            user: user.to_owned(),
            session: id.to_owned(),
            asked: before.is_some(),
            resumed,
        });
        let same = resumed && before.as_ref().is_some_and(|before| before.id == id);
        if !same {
            self.new_session(before);
        }
        let user = (self.part.kind == Kind::Full).then(|| user.to_owned());
        self.board.update(self.part.index, |status| status.user = user);
        match self.part.kind {
            Kind::Plain | Kind::Stream => self.plain_joined(message, talk),
            Kind::Full => self.come_back(same, talk, socket).await?,
        }
        Ok(())
    }

    /// What the old session had sent may or may not be published.
    fn new_session(&mut self, before: Option<Session>) {
        if let Some(before) = before {
            self.places.remove(&format!("@{}", before.user));
        }
        for posted in std::mem::take(&mut self.outbox) {
            if posted.tried {
                self.write(Event::Uncertain { id: posted.letter.id });
            } else {
                self.outbox.push_back(posted);
            }
        }
        self.known.clear();
    }

    fn plain_joined(&mut self, message: &Value, talk: &mut Talk) {
        talk.returned = true;
        let room = self.part.rooms[0].clone();
        let Some(now) = position(message) else {
            return self.trouble("no_position", &message.to_string());
        };
        let Some(place) = self.places.get_mut(&room) else { return };
        let since = place.position.clone();
        let told = message.get("recovered").and_then(Value::as_bool);
        let recovered = told.unwrap_or(since.is_none());
        place.enter(&now, recovered && since.is_some());
        place.roster = None; // nobody says what has changed since
        self.write(Event::Joined { room, now, since, recovered });
    }

    /// Names all rooms: those with a position in one `resume` frame, the others one by one.
    async fn come_back(
        &mut self,
        same: bool,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        if same && let Some(session) = &self.session {
            let own = format!("@{}", session.user);
            let place = self.places.entry(own).or_default();
            place.wanted = true; // `joined` may have been lost
        }
        let mut rooms = Map::new();
        let mut positions = BTreeMap::new();
        let mut fresh = Vec::new();
        for (room, place) in self.places.iter().filter(|(_, place)| place.wanted) {
            let own = is_own(room);
            if !own && (place.position.is_none() || place.roster.is_none()) {
                fresh.push(room.clone());
                continue;
            }
            let mut entry = Map::new();
            if let Some(Position { epoch, seq }) = &place.position {
                entry.insert("epoch".into(), epoch.as_str().into());
                entry.insert("seq".into(), (*seq).into());
            }
            if let Some(presence) = place.presence
                && !own
            {
                entry.insert("presenceSeq".into(), presence.into());
            }
            rooms.insert(room.clone(), entry.into());
            positions.insert(room.clone(), place.position.clone());
        }
        talk.returned = rooms.is_empty();
        if !rooms.is_empty() {
            let reference = self.next_reference();
            let resume = json!({"type": "resume", "rooms": rooms, "ref": reference});
            talk.asks.insert(reference, (Ask::Resume(positions), Instant::now()));
            wire::feed(socket, resume.to_string()).await?;
        }
        for room in fresh {
            self.join(&room, talk, socket).await?;
        }
        Ok(())
    }

    fn joined(&mut self, message: &Value, talk: &mut Talk) {
        let Some(room) = text(message, "room").map(str::to_owned) else {
            return self.trouble("no_room", &message.to_string());
        };
        let Some(now) = position(message) else {
            return self.trouble("no_position", &message.to_string());
        };
        let since = match take(talk, message) {
            Some(Ask::Join(asked, since)) if asked == room => since,
            None if self.is_mine(&room) => None,
            _ => return self.trouble("unasked", &message.to_string()),
        };
        let recovered = message.get("recovered").and_then(Value::as_bool).unwrap_or(true);
        let user = self.session.as_ref().map(|session| session.user.clone());
        let place = self.places.entry(room.clone()).or_default();
        place.wanted |= is_own(&room);
        place.enter(&now, recovered && since.is_some());
        place.presence = number(message, "presenceSeq");
        place.roster = users(message);
        if let (Some(roster), Some(user)) = (&mut place.roster, user) {
            roster.insert(user);
        }
        if place.roster.is_none() && !is_own(&room) {
            self.trouble("no_users", &message.to_string());
        }
        self.write(Event::Joined { room, now, since, recovered });
    }

    fn resumed(
        &mut self,
        message: &Value,
        mut asked: BTreeMap<String, Option<Position>>,
        talk: &mut Talk,
    ) {
        talk.returned = true;
        let mut rooms = BTreeMap::new();
        for (room, entry) in message.get("rooms").and_then(Value::as_object).into_iter().flatten() {
            let (Some(since), Some(place)) = (asked.remove(room), self.places.get_mut(room)) else {
                self.trouble("unasked", room);
                continue;
            };
            if let Some(code) = text(entry, "error") {
                place.again = Some(Instant::now() + AGAIN);
                rooms.insert(room.clone(), Return::Error(code.to_owned()));
                continue;
            }
            let (Some(now), Some(recovered)) =
                (position(entry), entry.get("recovered").and_then(Value::as_bool))
            else {
                self.trouble("bad_resumed", &message.to_string());
                continue;
            };
            place.enter(&now, recovered && since.is_some());
            rooms.insert(room.clone(), Return::Back { since, recovered, now });
        }
        for room in asked.keys() {
            self.trouble("not_in_resumed", room);
        }
        self.write(Event::Resumed { rooms });
    }

    /// Unasked: these rooms do not go on from where they were.
    fn renewed(&mut self, message: &Value) {
        for (room, entry) in message.get("rooms").and_then(Value::as_object).into_iter().flatten() {
            let (Some(now), Some(recovered)) =
                (position(entry), entry.get("recovered").and_then(Value::as_bool))
            else {
                self.trouble("bad_resumed", &message.to_string());
                continue;
            };
            // What was on its way when the client left means nothing.
            let place = self.places.get_mut(room).filter(|place| place.joined);
            let Some(place) = place else { continue };
            (place.position, place.target) = (Some(now.clone()), None);
            let presence = number(entry, "presenceSeq");
            if presence.is_some() && presence != place.presence {
                // No list follows: it is the one that is asked for next.
                (place.presence, place.roster) = (presence, None);
            }
            self.write(Event::Renewed { room: room.clone(), now, recovered });
        }
    }

    fn left(&mut self, room: String) {
        if let Some(place) = self.places.get_mut(&room) {
            place.joined = false;
            (place.roster, place.presence) = (None, None);
        }
        self.write(Event::Left { room });
    }

    fn acked(&mut self, message: &Value, talk: &mut Talk) {
        let reference = number(message, "ref").unwrap_or_default();
        let room = text(message, "room").unwrap_or_default().to_owned();
        let seq = number(message, "seq");
        let ts = number(message, "timestamp").unwrap_or_default();
        let duplicate = message.get("duplicate").and_then(Value::as_bool).unwrap_or(false);
        let of_this = |posted: &Posted| posted.letter.reference == reference;
        let letter = if let Some(letter) = talk.repeats.remove(&reference) {
            letter
        } else if let Some(index) = self.outbox.iter().position(of_this)
            && let Some(posted) = self.outbox.remove(index)
        {
            posted.letter
        } else {
            return self.trouble("unasked", &message.to_string());
        };
        self.board.answered(true);
        self.write(Event::Acked { room, id: letter.id.clone(), seq, ts, duplicate });
        self.known.push_back(letter);
        if self.known.len() > KNOWN {
            self.known.pop_front();
        }
    }

    fn refused(&mut self, message: &Value, talk: &mut Talk) {
        let reference = number(message, "ref").unwrap_or_default();
        let code = text(message, "code").unwrap_or_default().to_owned();
        let temporary = message.get("temporary").and_then(Value::as_bool).unwrap_or(false);
        let wait = number(message, "retryAfter").map_or(AGAIN, Duration::from_millis);
        let again = Instant::now() + wait;
        if let Some((ask, _)) = talk.asks.remove(&reference) {
            if let Ask::Join(room, _) = &ask
                && let Some(place) = self.places.get_mut(room)
            {
                place.again = Some(again);
            }
            let what = format!("{ask:?}: {message}");
            if code != UNAVAILABLE || !temporary {
                return self.trouble(&code, &what);
            }
            talk.later.push((again, ask));
            return self.write(Event::Deferred { what, code });
        }
        if let Some(letter) = talk.repeats.remove(&reference) {
            let (room, id) = (letter.room, letter.id);
            return self.write(Event::Refused { room, id, code, temporary });
        }
        let of_this = |posted: &Posted| posted.letter.reference == reference;
        let Some(index) = self.outbox.iter().position(of_this) else {
            return self.trouble(&code, &message.to_string());
        };
        self.board.answered(false);
        let posted = &mut self.outbox[index];
        let (room, id) = (posted.letter.room.clone(), posted.letter.id.clone());
        posted.again = Some(again);
        // While a room could not be joined for now, nothing can be published there.
        let waits = self.places.get(&room).is_some_and(|place| !place.joined && place.wanted);
        if code == "not_joined" && waits {
            return;
        }
        if !temporary {
            self.outbox.remove(index);
        }
        self.write(Event::Refused { room, id, code, temporary });
    }

    fn paged(&mut self, message: &Value, room: String) {
        let Some(epoch) = text(message, "epoch") else {
            return self.trouble("bad_history", &message.to_string());
        };
        let list = message.get("messages").and_then(Value::as_array);
        let messages = list.into_iter().flatten().filter_map(|message| {
            let (seq, ts) = (number(message, "seq")?, number(message, "timestamp")?);
            Some((seq, ts, text(message, "id")?.to_owned()))
        });
        let messages: Vec<_> = messages.collect();
        if list.map(Vec::len) != Some(messages.len()) {
            self.trouble("bad_history", &message.to_string());
        }
        if let Some(place) = self.places.get_mut(&room) {
            place.target = Some(messages.last().map_or(0, |last| last.0));
        }
        self.write(Event::History { room, epoch: epoch.to_owned(), messages });
    }

    fn listed(&mut self, message: &Value, talk: &mut Talk) {
        let Some(room) = text(message, "room").map(str::to_owned) else {
            return self.trouble("no_room", &message.to_string());
        };
        let Some(users) = users(message) else {
            return self.trouble("no_users", &message.to_string());
        };
        let answer = take(talk, message);
        let Some(place) = self.places.get_mut(&room) else {
            return self.trouble("not_member", &message.to_string());
        };
        if answer.is_none() {
            // Unasked: the whole list, instead of the changes that were missed.
            place.presence = number(message, "presenceSeq");
            place.roster = Some(users);
            return;
        }
        place.asked.clone_from(&users);
        if place.roster.is_none() && self.part.kind == Kind::Full {
            place.presence = number(message, "presenceSeq");
            place.roster = Some(users.clone());
        }
        let users = users.into_iter().collect();
        self.write(Event::Presence { room, users });
    }

    fn moved(&mut self, message: &Value, came: bool) {
        let (Some(room), Some(user)) = (text(message, "room"), text(message, "userId")) else {
            return self.trouble("bad_presence", &message.to_string());
        };
        let Some(place) = self.places.get_mut(room).filter(|place| place.joined) else {
            return self.trouble("not_member", &message.to_string());
        };
        if let Some(presence) = number(message, "presenceSeq") {
            place.presence = Some(presence);
        }
        if let Some(roster) = &mut place.roster {
            match came {
                true => roster.insert(user.to_owned()),
                false => roster.remove(user),
            };
        }
    }

    fn received(&mut self, message: &Map<String, Value>, frame: &str) {
        let text = |key| message.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key| message.get(key).and_then(Value::as_u64);
        let (Some(room), Some(from), Some(id), Some(seq), Some(ts)) =
            (text("room"), text("from"), text("id"), number("seq"), number("timestamp"))
        else {
            return self.trouble("bad_message", frame);
        };
        let intact = is_intact(message, &id);
        let place = self.places.get_mut(&room);
        let position = place.and_then(|place| place.position.as_mut());
        let epoch = match position {
            Some(position) => {
                position.seq = position.seq.max(seq);
                position.epoch.clone()
            }
            None => String::new(),
        };
        self.write(Event::Received { room, epoch, seq, ts, from, id, intact });
    }

    fn is_mine(&self, room: &str) -> bool {
        let user = self.session.as_ref().map(|session| session.user.as_str());
        room.strip_prefix('@').is_some_and(|owner| Some(owner) == user)
    }

    fn trouble(&self, code: &str, what: &str) {
        let text = what.chars().take(300).collect();
        self.write(Event::Trouble { code: code.to_owned(), text });
    }
}

impl Place {
    /// A member from now on; goes on from its position, or starts at the room's.
    fn enter(&mut self, now: &Position, goes_on: bool) {
        (self.joined, self.again) = (true, None);
        if !goes_on {
            self.position = Some(now.clone());
        }
    }
}

/// What this message answers.
fn take(talk: &mut Talk, message: &Value) -> Option<Ask> {
    let reference = number(message, "ref")?;
    talk.asks.remove(&reference).map(|(ask, _)| ask)
}

/// A plain client whose room cannot be opened at the moment, or is behind what the client knows, is told so and closed.
fn is_turned_away(message: &Value) -> bool {
    text(message, "type") == Some("error")
        && text(message, "code") == Some(UNAVAILABLE)
        && message.get("temporary").and_then(Value::as_bool) == Some(true)
        && message.get("ref").is_none()
}

fn position(message: &Value) -> Option<Position> {
    let (epoch, seq) = (text(message, "epoch")?, number(message, "seq")?);
    Some(Position { epoch: epoch.to_owned(), seq })
}

fn users(message: &Value) -> Option<std::collections::BTreeSet<String>> {
    let users = message.get("users")?.as_array()?;
    users.iter().map(|user| text(user, "userId").map(str::to_owned)).collect()
}

const UNAVAILABLE: &str = "unavailable";
/// How long to wait after a refusal that does not say it.
const AGAIN: Duration = Duration::from_millis(200);
/// How many acknowledged letters are remembered.
const KNOWN: usize = 30;
