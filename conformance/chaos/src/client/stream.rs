//! A client without WebSockets: server-sent events, and `POST /send` for the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::letter::{Letter, is_intact};
use super::{Session, events, number, text};
use crate::board::{Board, Phase};
use crate::dice::Dice;
use crate::doors::Doors;
use crate::plan::Part;
use crate::record::{Event, Log, Position};

/// One client, with everything that survives its connections.
#[derive(Debug)]
pub struct Stream {
    part: Part,
    doors: Doors,
    /// The node that has the stream.
    server: SocketAddr,
    log: Log,
    board: Arc<Board>,
    dice: Dice,
    pause: Duration,
    session: Option<Session>,
    connection: u32,
    positions: BTreeMap<String, Position>,
    joined: BTreeSet<String>,
    published: u64,
    /// One at a time: they may not overtake each other.
    outgoing: Option<Outgoing>,
    /// A request has no answer, or a final one: perhaps the node has stopped, or knows the session no more.
    silent: bool,
    next_publish: Instant,
}

#[derive(Debug)]
struct Outgoing {
    letter: Letter,
    tried: bool,
    again: Instant,
    request: Option<JoinHandle<Option<Value>>>,
}

impl Stream {
    /// Prepares a client that publishes once in `pause` on average.
    pub fn new(
        part: Part,
        doors: Doors,
        log: Log,
        board: Arc<Board>,
        dice: Dice,
        pause: Duration,
    ) -> Self {
        Self {
            part,
            server: doors.choose(&mut Dice::new(0, 0), None),
            doors,
            log,
            board,
            dice,
            pause,
            session: None,
            connection: 0,
            positions: BTreeMap::new(),
            joined: BTreeSet::new(),
            published: 0,
            outgoing: None,
            silent: false,
            next_publish: Instant::now(),
        }
    }

    /// Takes part until the run stops.
    pub async fn run(mut self) {
        let mut phase = self.board.phase();
        let (mut failures, mut failed) = (0, None);
        let mut wait = self.dice.between(Duration::ZERO, Duration::from_millis(300));
        self.next_publish = Instant::now() + self.dice.wait(self.pause);
        loop {
            let until = Instant::now() + wait;
            tokio::select! {
                () = sleep_until(until) => {}
                _ = phase.wait_for(|phase| *phase == Phase::Stopping) => break,
            }
            self.connection += 1;
            self.server = self.doors.choose(&mut self.dice, failed.take());
            let (path, last) = self.request();
            match events::Source::open(self.server, &path, last.as_deref()).await {
                Ok(mut source) => {
                    self.write(Event::Arrived { node: self.doors.number(self.server) });
                    let why = self.listen(&mut source).await;
                    if *phase.borrow() == Phase::Stopping {
                        break;
                    }
                    self.joined.clear();
                    let silent = std::mem::take(&mut self.silent);
                    self.write(match silent {
                        true => Event::Silent { what: why },
                        false => Event::Lost { why },
                    });
                    failures = 0;
                }
                Err(Some(status)) => {
                    self.write(Event::TurnedAway { status });
                    failures += 1;
                }
                Err(None) => (failures, failed) = (failures + 1, Some(self.server)),
            }
            self.report();
            let most = Duration::from_millis(40 << failures.min(5));
            wait = self.dice.between(Duration::from_millis(1), most);
        }
        self.board.update(self.part.index, |status| status.gone = true);
    }

    /// The path with the query, and the header `Last-Event-ID`.
    fn request(&mut self) -> (String, Option<String>) {
        let mut path = String::from("/sse?");
        path.push_str(
            &self
                .part
                .rooms
                .iter()
                .map(|room| format!("room={room}"))
                .collect::<Vec<_>>()
                .join("&"),
        );
        if let Some(session) = &self.session {
            path.push_str(&format!("&resume={}", session.token));
        }
        let known: Vec<String> = self
            .part
            .rooms
            .iter()
            .filter_map(|room| self.positions.get(room))
            .map(|position| format!("{}.{}", position.epoch, position.seq))
            .collect();
        if known.len() < self.part.rooms.len() {
            self.positions.clear();
            return (path, None);
        }
        let last = known.join(",");
        if self.dice.percent(50) {
            return (format!("{path}&lastEventId={last}"), None);
        }
        (path, Some(last))
    }

    async fn listen(&mut self, source: &mut events::Source) -> String {
        let mut phase = self.board.phase();
        let opened = Instant::now();
        loop {
            self.publish(*phase.borrow());
            let due = Instant::now() + Duration::from_millis(50);
            let request = self.outgoing.as_mut().and_then(|outgoing| outgoing.request.as_mut());
            tokio::select! {
                event = source.next() => match event {
                    Ok(event) => self.handle(&event),
                    Err(error) => return error.to_string(),
                },
                answer = async { match request {
                    Some(request) => request.await.unwrap_or(None),
                    None => std::future::pending().await,
                }} => self.answered(answer),
                () = sleep_until(due) => {}
                _ = phase.changed() => {}
            }
            if self.silent {
                return "no answer to a request, or a bad one".into();
            }
            if *phase.borrow_and_update() == Phase::Stopping {
                return "the end".into();
            }
            let late = opened.elapsed() > self.doors.patience();
            if late && self.joined.len() < self.part.rooms.len() {
                self.silent = self.doors.are_many();
                if !self.silent {
                    self.write(Event::Stalled { what: "a stream without `joined`".into() });
                }
                return "no `joined`".into();
            }
            self.report();
        }
    }

    /// Decides what to say next, and says it, or says it again.
    fn publish(&mut self, phase: Phase) {
        let now = Instant::now();
        let Some(session) = &self.session else { return };
        let ready = phase == Phase::Publishing && now >= self.next_publish;
        if self.outgoing.is_none() && ready && self.joined.len() == self.part.rooms.len() {
            self.next_publish = now + self.dice.wait(self.pause);
            self.published += 1;
            let letter = Letter {
                reference: self.published,
                id: format!("{}-{}", self.part.index, self.published),
                room: self.dice.pick(&self.part.rooms).cloned().unwrap_or_default(),
                to: None,
                implied: false,
            };
            self.outgoing = Some(Outgoing { letter, tried: false, again: now, request: None });
        }
        let (server, token) = (self.server, session.token.clone());
        let Some(outgoing) = &mut self.outgoing else { return };
        if outgoing.request.is_none() && now >= outgoing.again {
            outgoing.tried = true;
            let letter = outgoing.letter.clone();
            let body = letter.text();
            outgoing.request =
                Some(tokio::spawn(
                    async move { events::post(server, "/send", &token, &body).await },
                ));
            let (room, id, reference) = (letter.room, letter.id, letter.reference);
            self.write(Event::Sent { room, id, reference });
        }
    }

    /// A request has its answer, or is broken.
    fn answered(&mut self, answer: Option<Value>) {
        let Some(mut outgoing) = self.outgoing.take() else { return };
        let (room, id) = (outgoing.letter.room.clone(), outgoing.letter.id.clone());
        let code = answer.as_ref().and_then(|answer| text(answer, "code")).unwrap_or_default();
        match &answer {
            Some(answer) if text(answer, "type") == Some("ack") => {
                self.board.answered(true);
                let duplicate = answer.get("duplicate").and_then(Value::as_bool).unwrap_or(false);
                let (seq, ts) = (number(answer, "seq"), number(answer, "timestamp"));
                let room = text(answer, "room").unwrap_or_default().to_owned();
                let ts = ts.unwrap_or_default();
                return self.write(Event::Acked { room, id, seq, ts, duplicate });
            }
            Some(answer) if code != "not_joined" || self.joined.contains(&room) => {
                self.board.answered(false);
                // The session is forgotten: a new one comes with a new stream.
                self.silent = code == "unauthorized" && self.doors.are_many();
                let temporary = answer.get("temporary").and_then(Value::as_bool).unwrap_or(false);
                self.write(Event::Refused { room, id, code: code.to_owned(), temporary });
            }
            None => self.silent = self.doors.are_many(),
            _ => {}
        }
        outgoing.request = None;
        outgoing.again = Instant::now() + Duration::from_millis(20 + self.dice.below(200));
        self.outgoing = Some(outgoing);
    }

    fn handle(&mut self, event: &events::Received) {
        let Ok(message) = serde_json::from_str::<Value>(&event.data) else {
            return self.trouble("bad_json", &event.data);
        };
        match text(&message, "type").unwrap_or_default() {
            "connected" => self.connected(&message),
            "joined" => self.joined(&message),
            "resumed" => self.renewed(&message, event),
            "user_joined" | "user_left" | "presence" => {}
            "reconnect" => {
                let after = number(&message, "after").unwrap_or_default();
                self.write(Event::Slot { after });
            }
            "error" => self.trouble("error", &event.data),
            _ => self.received(&message, event),
        }
    }

    fn connected(&mut self, message: &Value) {
        let (Some(user), Some(id), Some(token)) =
            (text(message, "userId"), text(message, "sessionId"), text(message, "resume"))
        else {
            return self.trouble("bad_connected", &message.to_string());
        };
        let resumed = message.get("resumed").and_then(Value::as_bool).unwrap_or(false);
        let (user, id, token) = (user.to_owned(), id.to_owned(), token.to_owned());
        let (name, session) = (user.clone(), id.clone());
        let before = self.session.replace(Session { token, user, id });
        let asked = before.is_some();
        self.write(Event::Connected { user: name, session, asked, resumed });
        if !resumed && self.outgoing.as_ref().is_some_and(|outgoing| outgoing.tried) {
            // The request under way goes on in the old session.
            if let Some(outgoing) = self.outgoing.take() {
                self.write(Event::Uncertain { id: outgoing.letter.id });
            }
        }
    }

    fn joined(&mut self, message: &Value) {
        let (Some(room), Some(epoch), Some(seq)) =
            (text(message, "room"), text(message, "epoch"), number(message, "seq"))
        else {
            return self.trouble("bad_joined", &message.to_string());
        };
        let now = Position { epoch: epoch.to_owned(), seq };
        let since = self.positions.get(room).cloned();
        let recovered = message.get("recovered").and_then(Value::as_bool).unwrap_or(false);
        if since.is_none() || !recovered {
            self.positions.insert(room.to_owned(), now.clone());
        }
        self.joined.insert(room.to_owned());
        self.write(Event::Joined { room: room.to_owned(), now, since, recovered });
    }

    /// These rooms do not go on from where they were.
    fn renewed(&mut self, message: &Value, event: &events::Received) {
        for (room, entry) in message.get("rooms").and_then(Value::as_object).into_iter().flatten() {
            let (Some(epoch), Some(seq), Some(recovered)) = (
                text(entry, "epoch"),
                number(entry, "seq"),
                entry.get("recovered").and_then(Value::as_bool),
            ) else {
                self.trouble("bad_resumed", &event.data);
                continue;
            };
            let now = Position { epoch: epoch.to_owned(), seq };
            match self.positions.get_mut(room) {
                Some(position) => position.clone_from(&now),
                None => self.trouble("not_member", &event.data),
            }
            self.write(Event::Renewed { room: room.clone(), now, recovered });
        }
        self.check_id(event);
    }

    fn received(&mut self, message: &Value, event: &events::Received) {
        let (Some(room), Some(from), Some(id), Some(seq), Some(ts), Some(object)) = (
            text(message, "room"),
            text(message, "from"),
            text(message, "id"),
            number(message, "seq"),
            number(message, "timestamp"),
            message.as_object(),
        ) else {
            return self.trouble("bad_message", &event.data);
        };
        let Some(position) = self.positions.get_mut(room) else {
            return self.trouble("not_member", &event.data);
        };
        position.seq = position.seq.max(seq);
        let epoch = position.epoch.clone();
        self.check_id(event);
        let intact = is_intact(object, id);
        let (room, from, id) = (room.to_owned(), from.to_owned(), id.to_owned());
        self.write(Event::Received { room, epoch, seq, ts, from, id, intact });
    }

    /// An event's id is the position after it, in all rooms; 0 in those that are joined later.
    fn check_id(&self, event: &events::Received) {
        let expected: Vec<String> = self
            .part
            .rooms
            .iter()
            .map(|room| match self.positions.get(room) {
                Some(position) => format!("{}.{}", position.epoch, position.seq),
                None => "0".into(),
            })
            .collect();
        if event.id != expected.join(",") {
            let text = format!("{} instead of {expected:?}", event.id);
            self.trouble("wrong_event_id", &text);
        }
    }

    fn report(&self) {
        let joined = self.joined.len() == self.part.rooms.len();
        let settled = joined && self.outgoing.is_none();
        self.board.update(self.part.index, |status| {
            (status.settled, status.level) = (settled, true);
            status.listed = u32::MAX;
            status.positions.clone_from(&self.positions);
            status.rooms =
                self.joined.iter().map(|room| (room.clone(), Default::default())).collect();
        });
    }

    fn trouble(&self, code: &str, what: &str) {
        let text = what.chars().take(300).collect();
        self.write(Event::Trouble { code: code.to_owned(), text });
    }

    fn write(&self, event: Event) {
        self.log.client(self.part.index, self.connection, event);
    }
}
