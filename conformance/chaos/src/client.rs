//! A client written from the protocol's page: it publishes, receives, and comes back for ever.
//!
//! It writes down everything it does and sees, and judges nothing.

mod events;
mod frames;
mod letter;
mod outbox;
mod questions;
mod stream;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use self::letter::Letter;
use self::outbox::Posted;
pub use self::stream::Stream;
use self::wire::{Ended, Socket};
use crate::board::{Board, Phase};
use crate::dice::Dice;
use crate::doors::Doors;
use crate::plan::{Ending, Kind, Part};
use crate::record::{Event, Log, Position};

/// One client, with everything that survives its connections.
#[derive(Debug)]
pub struct Client {
    part: Part,
    doors: Doors,
    log: Log,
    board: Arc<Board>,
    dice: Dice,
    /// Mean time between two of its messages.
    pause: Duration,

    session: Option<Session>,
    connection: u32,
    last_reference: u64,
    published: u64,
    places: BTreeMap<String, Place>,
    outbox: VecDeque<Posted>,
    /// Some that were acknowledged, to be sent again.
    known: VecDeque<Letter>,
    next_publish: Instant,
    next_visit: Instant,
}

#[derive(Debug)]
struct Session {
    token: String,
    user: String,
    id: String,
}

/// A room as the client knows it.
#[derive(Debug, Default)]
struct Place {
    /// The client wants to be a member.
    wanted: bool,
    /// It is one, on this connection.
    joined: bool,
    position: Option<Position>,
    presence: Option<u64>,
    roster: Option<BTreeSet<String>>,
    /// When to try again to join.
    again: Option<Instant>,
    /// Up to where history goes; asked on this connection or before.
    target: Option<u64>,
    asked: BTreeSet<String>,
}

/// What lasts as long as a connection.
#[derive(Debug, Default)]
struct Talk {
    connected: bool,
    /// The `resume` frame is answered, or there was none.
    returned: bool,
    asks: HashMap<u64, (Ask, Instant)>,
    repeats: HashMap<u64, Letter>,
    /// Refused for now, and to be asked again.
    later: Vec<(Instant, Ask)>,
    listing: u32,
    /// When to go to another node.
    leave: Option<Instant>,
}

impl Talk {
    /// Whether an answer to such a question is still to come.
    fn is_asking(&self, such: impl Fn(&Ask) -> bool) -> bool {
        let now = self.asks.values().map(|(ask, _)| ask);
        now.chain(self.later.iter().map(|(_, ask)| ask)).any(such)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    Join(String, Option<Position>),
    Leave(String),
    Resume(BTreeMap<String, Option<Position>>),
    History(String),
    Presence(String, u32),
}

impl Client {
    /// Prepares a client that publishes once in `pause` on average.
    pub fn new(
        part: Part,
        doors: Doors,
        log: Log,
        board: Arc<Board>,
        dice: Dice,
        pause: Duration,
    ) -> Self {
        let places = part.rooms.iter().map(|room| {
            let place = Place { wanted: true, ..Place::default() };
            (room.clone(), place)
        });
        Self {
            places: places.collect(),
            part,
            doors,
            log,
            board,
            dice,
            pause,
            session: None,
            connection: 0,
            last_reference: 0,
            published: 0,
            outbox: VecDeque::new(),
            known: VecDeque::new(),
            next_publish: Instant::now(),
            next_visit: Instant::now(),
        }
    }

    /// Takes part until the run stops or the client's part ends.
    pub async fn run(mut self) {
        let (mut failures, mut failed) = (0, None);
        let mut phase = self.board.phase();
        // Not all at once.
        let mut wait = self.dice.between(Duration::ZERO, Duration::from_millis(300));
        self.next_publish = Instant::now() + self.dice.wait(self.pause);
        self.next_visit = Instant::now() + self.dice.wait(VISIT);
        loop {
            let until = Instant::now() + wait;
            tokio::select! {
                () = sleep_until(until) => {}
                _ = phase.wait_for(|phase| *phase == Phase::Stopping) => break,
            }
            self.connection += 1;
            let door = self.doors.choose(&mut self.dice, failed.take());
            match wire::connect(door, &self.request()).await {
                Ok(socket) => {
                    self.write(Event::Arrived { node: self.doors.number(door) });
                    let talked = self.converse(socket).await;
                    self.disconnected();
                    match talked {
                        Ended::Lost(why) => self.write(Event::Lost { why }),
                        Ended::Silent(what) => {
                            self.write(Event::Silent { what });
                            failed = Some(door);
                        }
                        Ended::Closed(code) => self.write(Event::Closed { code }),
                        Ended::Sent => {
                            self.write(Event::Lost { why: "it was sent away".into() });
                            failed = Some(door);
                        }
                        Ended::Over => break,
                    }
                    failures = 0;
                }
                Err(wire::Refused::Status(status)) => {
                    self.write(Event::TurnedAway { status });
                    failures += 1;
                }
                Err(wire::Refused::Broken) => (failures, failed) = (failures + 1, Some(door)),
            }
            let most = Duration::from_millis(40 << failures.min(5));
            wait = self.dice.between(Duration::from_millis(1), most);
        }
        self.board.update(self.part.index, |status| status.gone = true);
    }

    /// Path, query and subprotocols.
    fn request(&mut self) -> wire::Request {
        let mut request = wire::Request { path: "/ws".into(), protocols: Vec::new() };
        let mut query = Vec::new();
        let token = self.session.as_ref().map(|session| session.token.clone());
        match self.part.kind {
            Kind::Full => request.protocols.push("throng.v1".into()),
            Kind::Plain | Kind::Stream => {
                request.path = format!("/ws/{}", self.part.rooms[0]);
                let place = &self.places[&self.part.rooms[0]];
                if let Some(Position { epoch, seq }) = &place.position {
                    query.push(format!("since={epoch}.{seq}"));
                }
            }
        }
        if let Some(token) = token {
            if self.part.kind == Kind::Full && self.dice.percent(50) {
                request.protocols.push(format!("resume.{token}"));
            } else {
                query.push(format!("resume={token}"));
            }
        }
        if !query.is_empty() {
            request.path = format!("{}?{}", request.path, query.join("&"));
        }
        request
    }

    async fn converse(&mut self, mut socket: Socket) -> Ended {
        let mut phase = self.board.phase();
        let mut talk = Talk::default();
        let opened = Instant::now();
        loop {
            let due = self.due(&talk);
            let result = tokio::select! {
                frame = socket.next() => match wire::text(frame) {
                    Ok(Some(text)) => self.handle(&text, &mut talk, &mut socket).await,
                    Ok(None) => Ok(()),
                    Err(ended) => Err(ended),
                },
                () = sleep_until(due) => Ok(()),
                _ = phase.changed() => Ok(()),
            };
            let now = *phase.borrow_and_update();
            let result = match result {
                Ok(()) if talk.connected => self.act(now, &mut talk, &mut socket).await,
                Ok(()) if opened.elapsed() > self.doors.patience() => {
                    Err(self.given_up("no `connected`".into()))
                }
                Ok(()) if now == Phase::Stopping => Err(Ended::Over),
                other => other,
            };
            if let Err(ended) = result {
                return ended;
            }
            if now >= Phase::Draining {
                self.report(&talk);
            }
        }
    }

    /// What is to be done now, apart from answering.
    async fn act(
        &mut self,
        phase: Phase,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        let now = Instant::now();
        if let Some(what) = self.overdue(talk, now) {
            return Err(self.given_up(what));
        }
        if talk.leave.is_some_and(|leave| leave <= now) {
            wire::leave(socket).await;
            return Err(Ended::Sent);
        }
        self.join_again(now, talk, socket).await?;
        self.ask_again(now, talk, socket).await?;
        self.post(now, socket).await?;
        match phase {
            Phase::Publishing => {
                self.visit(now, talk, socket).await?;
                self.publish(now, talk, socket).await?;
            }
            Phase::Draining => {}
            Phase::Comparing => self.compare(talk, socket).await?,
            Phase::Departing => match self.part.ending {
                Ending::Stays => {}
                Ending::Closes => {
                    self.write(Event::Departed { orderly: true });
                    wire::close(socket).await;
                    return Err(Ended::Over);
                }
                Ending::Drops => {
                    self.write(Event::Departed { orderly: false });
                    return Err(Ended::Over);
                }
            },
            Phase::Listing(round) => self.list(round, talk, socket).await?,
            Phase::Stopping => {
                self.write_rosters();
                return Err(Ended::Over);
            }
        }
        wire::flush(socket).await
    }

    /// Leaves the last room, or joins it again.
    async fn visit(
        &mut self,
        now: Instant,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        if !self.part.visits || now < self.next_visit || !talk.returned {
            return Ok(());
        }
        self.next_visit = now + self.dice.wait(VISIT);
        let Some(room) = self.part.rooms.last().cloned() else { return Ok(()) };
        let forgets = self.dice.percent(50);
        let Some(place) = self.places.get_mut(&room) else { return Ok(()) };
        if place.wanted && place.joined {
            place.wanted = false;
            let reference = self.next_reference();
            let leave = json!({"type": "leave", "room": room, "ref": reference});
            talk.asks.insert(reference, (Ask::Leave(room), now));
            wire::feed(socket, leave.to_string()).await
        } else if !place.wanted && !place.joined {
            place.wanted = true;
            if forgets {
                place.position = None;
            }
            self.join(&room, talk, socket).await
        } else {
            Ok(()) // an answer is still to come
        }
    }

    async fn join(
        &mut self,
        room: &str,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        let reference = self.next_reference();
        let Some(place) = self.places.get_mut(room) else { return Ok(()) };
        place.again = None;
        let since = place.position.clone();
        let mut join = json!({"type": "join", "room": room, "presence": true, "ref": reference});
        if let Some(Position { epoch, seq }) = &since {
            join["since"] = json!({"epoch": epoch, "seq": seq});
        }
        talk.asks.insert(reference, (Ask::Join(room.to_owned(), since), Instant::now()));
        wire::feed(socket, join.to_string()).await
    }

    /// Tries again what was refused for now.
    async fn join_again(
        &mut self,
        now: Instant,
        talk: &mut Talk,
        socket: &mut Socket,
    ) -> Result<(), Ended> {
        let due: Vec<String> = self
            .places
            .iter()
            .filter(|(_, place)| place.wanted && place.again.is_some_and(|again| again <= now))
            .map(|(room, _)| room.clone())
            .collect();
        for room in due {
            self.join(&room, talk, socket).await?;
        }
        Ok(())
    }

    /// An answer did not come: with one server that is a fault; with several, the client goes on.
    fn given_up(&self, what: String) -> Ended {
        if self.doors.are_many() {
            return Ended::Silent(what);
        }
        self.write(Event::Stalled { what: what.clone() });
        Ended::Lost(what)
    }

    /// Who is in the rooms, as the client knows it from what it was told all along.
    fn write_rosters(&self) {
        for (room, place) in
            self.places.iter().filter(|(room, place)| place.joined && !is_own(room))
        {
            if let Some(roster) = &place.roster {
                let users = roster.iter().cloned().collect();
                self.write(Event::Roster { room: room.clone(), users });
            }
        }
    }

    fn public_rooms(&self) -> Vec<String> {
        let joined = self.places.iter().filter(|(room, place)| place.joined && !is_own(room));
        joined.map(|(room, _)| room.clone()).collect()
    }

    /// When something is to be done though nothing arrives.
    fn due(&self, talk: &Talk) -> Instant {
        let mut due = Instant::now() + Duration::from_millis(500);
        if talk.connected && *self.board.phase().borrow() == Phase::Publishing {
            due = due.min(self.next_publish);
        }
        let retries = self.outbox.iter().filter_map(|posted| posted.again);
        let retries = retries.chain(self.places.values().filter_map(|place| place.again));
        let retries = retries.chain(talk.leave);
        retries.chain(talk.later.iter().map(|(again, _)| *again)).fold(due, Instant::min)
    }

    /// What should have been answered long ago.
    fn overdue(&self, talk: &Talk, now: Instant) -> Option<String> {
        let late = |since: Instant| now.saturating_duration_since(since) > self.doors.patience();
        for posted in &self.outbox {
            if posted.again.is_none() && posted.sent.is_some_and(late) {
                return Some(format!("no answer to the publish {}", posted.letter.id));
            }
        }
        let ask = talk.asks.values().find(|(_, since)| late(*since));
        ask.map(|(ask, _)| format!("no answer to {ask:?}"))
    }

    fn report(&self, talk: &Talk) {
        let joined = self.places.values().all(|place| place.joined == place.wanted);
        let settled = talk.connected && talk.returned && joined && self.outbox.is_empty();
        let asked = |ask: &Ask| !matches!(ask, Ask::History(_) | Ask::Presence(..));
        let settled = settled && !talk.asks.values().any(|(ask, _)| asked(ask));
        let level = self.places.values().filter(|place| place.joined).all(|place| {
            let seq = place.position.as_ref().map_or(0, |position| position.seq);
            place.target.is_some_and(|target| seq >= target)
        });
        let listed = match talk.is_asking(|ask| matches!(ask, Ask::Presence(..))) {
            true => talk.listing.saturating_sub(1),
            false => talk.listing,
        };
        let rooms = self.places.iter().filter(|(room, place)| place.joined && !is_own(room));
        let rooms = rooms.map(|(room, place)| {
            let (asked, known) = (Some(place.asked.clone()), place.roster.clone());
            (room.clone(), crate::board::Lists { asked, known })
        });
        let rooms = rooms.collect();
        let joined = self.places.iter().filter(|(_, place)| place.joined);
        let positions = joined.filter_map(|(room, place)| {
            place.position.as_ref().map(|position| (room.clone(), position.clone()))
        });
        let positions = positions.collect();
        self.board.update(self.part.index, |status| {
            (status.settled, status.level, status.listed) = (settled, level, listed);
            status.positions = positions;
            status.rooms = rooms;
        });
    }

    fn disconnected(&mut self) {
        for place in self.places.values_mut() {
            (place.joined, place.again) = (false, None);
        }
        for posted in &mut self.outbox {
            (posted.sent, posted.again) = (None, None);
        }
        self.board.update(self.part.index, |status| {
            (status.settled, status.level) = (false, false);
            status.rooms.clear();
        });
    }

    fn next_reference(&mut self) -> u64 {
        self.last_reference += 1;
        self.last_reference
    }

    fn write(&self, event: Event) {
        self.log.client(self.part.index, self.connection, event);
    }
}

fn is_own(room: &str) -> bool {
    room.starts_with('@')
}

fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key).and_then(Value::as_u64)
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// How long a visitor stays, or stays away, on average.
const VISIT: Duration = Duration::from_secs(2);
