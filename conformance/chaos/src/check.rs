//! Reads the log of a run, and says what was promised and not kept.
//!
//! Knows nothing of clients, proxies and servers: only the lines of [`record`](crate::record).
//! Every promise is a [`Check`]; each counts as one test.

mod judge;
mod pace;
mod scroll;
mod seat;
mod shared;
mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use self::pace::Pace;
use self::scroll::{Fact, Source, Stretch};
use self::seat::{Arrival, Seat};
pub use self::verdict::{Check, Finding, Verdict};
use crate::record::{Event, Keeps, Position, Record, Return};

/// Collects what the lines say, and judges it at the end.
#[derive(Debug, Default)]
pub struct Checker {
    verdict: Verdict,
    clients: BTreeMap<u32, Client>,
    rooms: BTreeMap<String, Room>,
    messages: HashMap<String, Message>,
    disk: Vec<Outage>,
    keeps: Option<Keeps>,
    /// The time of the line.
    now: u64,
    /// When the server ended last; clients hear of it, or of what was before, some time later.
    ended: Option<u64>,
    /// When the server was asked to stop: it may say so when it closes or refuses.
    stopped: Option<u64>,
    /// When the nodes, or what they share, were struck first and last, and when all was mended.
    struck: Option<(u64, u64)>,
    mended: Option<u64>,
    pace: Pace,
    finished: bool,
}

/// A client as its lines show it.
#[derive(Debug, Default)]
struct Client {
    user: String,
    session: String,
    connection: u32,
    seats: BTreeMap<String, Seat>,
    departed: bool,
    /// When it connected last.
    at: u64,
    /// When its session began.
    born: u64,
    /// What it was told last about who is in a room, and what it knew by itself.
    lists: BTreeMap<(String, &'static str), (Vec<String>, usize)>,
    sent: u64,
}

/// A room: an order for each epoch, though there must be only one.
#[derive(Debug, Default)]
struct Room {
    epochs: BTreeMap<String, Stretch>,
    acks: Vec<(Option<String>, Fact, u64)>,
}

/// A message as its publisher's lines show it.
#[derive(Debug)]
struct Message {
    client: u32,
    user: String,
    /// Its place among all of the client's.
    number: u64,
    room: String,
    reference: u64,
    times: u32,
    line: usize,
    ack: Option<(Option<u64>, u64, bool, usize)>,
    refused: bool,
    /// Its session is gone.
    uncertain: bool,
    /// Where it was delivered.
    places: Vec<(String, u64, usize)>,
}

/// A time when nothing could be stored.
#[derive(Debug)]
struct Outage {
    line: usize,
    refused: u64,
    over: bool,
    acked_after: u64,
}

/// Checks a log file.
///
/// # Errors
/// When it cannot be read, or has a line that is none.
pub fn check_file(path: &Path) -> io::Result<Verdict> {
    let mut checker = Checker::default();
    for (index, line) in BufReader::new(std::fs::File::open(path)?).lines().enumerate() {
        let record: Record = serde_json::from_str(&line?)
            .map_err(|error| io::Error::other(format!("line {}: {error}", index + 1)))?;
        checker.read(index + 1, record);
    }
    Ok(checker.finish())
}

impl Checker {
    /// Takes the next line; lines are counted from 1.
    pub fn read(&mut self, line: usize, record: Record) {
        self.now = record.at;
        match record.client {
            Some(client) => self.client_did(client, record.connection, line, record.event),
            None => self.run_did(line, record.event),
        }
    }

    fn run_did(&mut self, line: usize, event: Event) {
        match event {
            Event::Begun { keeps, .. } => self.keeps = Some(keeps),
            Event::Finished { .. } => self.finished = true,
            Event::Killed | Event::Stopping => {
                self.verdict.count(Check::Server);
                self.ended = Some(self.now);
                if event == Event::Stopping {
                    self.stopped = Some(self.now);
                }
            }
            Event::Died { status } => {
                self.verdict.found(Check::Server, format!("the server ended: {status}"), [line]);
            }
            Event::Panicked { line: said } => {
                self.verdict.found(Check::Server, format!("the server said: {said}"), [line]);
            }
            Event::Struck { .. } => {
                self.verdict.count(Check::Server);
                let first = self.struck.map_or(self.now, |(first, _)| first);
                (self.struck, self.mended) = (Some((first, self.now)), None);
            }
            Event::Mended => self.mended = Some(self.now),
            Event::Draining { node, spread } => self.pace.begin(self.now, line, node, spread),
            Event::Drained { stall, .. } => self.pace.end(stall),
            Event::Disk { works: false } => {
                self.disk.push(Outage { line, refused: 0, over: false, acked_after: 0 });
            }
            Event::Disk { works: true } => {
                if let Some(outage) = self.disk.last_mut() {
                    outage.over = true;
                }
            }
            Event::Stalled { what } => self.verdict.found(Check::Progress, what, [line]),
            Event::Trouble { code, text } => {
                self.verdict.found(Check::Progress, format!("{code}: {text}"), [line]);
            }
            _ => {}
        }
    }

    fn client_did(&mut self, client: u32, connection: u32, line: usize, event: Event) {
        match event {
            Event::Connected { user, session, asked, resumed } => {
                self.connected(client, connection, line, (user, session), asked, resumed);
            }
            Event::Arrived { node } => self.pace.arrived(self.now, client, node),
            Event::Slot { after } => self.pace.told(self.now, client, after),
            Event::Lost { .. } => {
                self.went(client, line);
                self.disconnected(client);
            }
            Event::Closed { code } => {
                self.went(client, line);
                self.disconnected(client);
                let slow = code == TOO_SLOW && self.keeps.is_some_and(|keeps| keeps.little);
                if code != REPLACED && !slow && !(self.stopped.is_some() && STOPPED.contains(&code))
                {
                    self.verdict.found(Check::Progress, format!("closed with {code}"), [line]);
                }
            }
            // 5xx: the server is on its way down or up.
            Event::TurnedAway { status } if status < 500 => {
                let text = format!("a handshake was answered with {status}");
                self.verdict.found(Check::Progress, text, [line]);
            }
            Event::Departed { .. } => self.client(client).departed = true,
            Event::Joined { room, now, since, recovered } => {
                self.entered(client, connection, line, &room, now, since, recovered);
            }
            Event::Left { room } => {
                if let Some(seat) = self.client(client).seats.get_mut(&room) {
                    seat.leave();
                }
            }
            Event::Resumed { rooms } => {
                for (room, back) in rooms {
                    match back {
                        Return::Back { since, recovered, now } => {
                            self.entered(client, connection, line, &room, now, since, recovered);
                        }
                        Return::Error(code)
                            if code == UNAVAILABLE
                                && (!self.disk.is_empty() || self.is_disturbed()) => {}
                        Return::Error(code) => {
                            let text = format!("{room} could not be resumed: {code}");
                            self.verdict.found(Check::Recovery, text, [line]);
                        }
                    }
                }
            }
            Event::Renewed { room, now, recovered } => {
                self.renewed(client, connection, line, &room, &now, recovered);
            }
            Event::Sent { room, id, reference } => self.sent(client, line, room, id, reference),
            Event::Acked { room, id, seq, ts, duplicate } => {
                self.acked(client, line, room, &id, seq, ts, duplicate);
            }
            Event::Refused { id, code, temporary, .. } => {
                self.refused(line, &id, &code, temporary);
            }
            Event::Uncertain { id } => {
                if let Some(message) = self.messages.get_mut(&id) {
                    message.uncertain = true;
                }
                if self.keeps.is_none_or(|keeps| keeps.durable) && !self.may_forget(client) {
                    let text = format!("the session of {id} is gone");
                    self.verdict.found(Check::Recovery, text, [line]);
                }
            }
            Event::Received { room, epoch, seq, ts, from, id, intact } => {
                let member = self.arrived(client, connection, line, (&room, &epoch), seq);
                self.checked_content(line, &room, &id, &from, intact);
                if member {
                    self.placed(line, Source::Received, (&room, &epoch), (seq, ts, id));
                }
            }
            Event::History { room, epoch, messages } => {
                self.told_epoch(client, line, &room, &epoch);
                self.paged(line, &room, &epoch, messages);
            }
            Event::Presence { room, users } => self.listed(client, line, room, "asked", users),
            Event::Roster { room, users } => self.listed(client, line, room, "known", users),
            Event::Trouble { code, text } => {
                self.verdict.found(Check::Progress, format!("{code}: {text}"), [line]);
            }
            Event::Stalled { what } => self.verdict.found(Check::Progress, what, [line]),
            Event::Deferred { what, code } if !self.is_disturbed() => {
                self.verdict.found(Check::Progress, format!("{code}: {what}"), [line]);
            }
            Event::Silent { what } => {
                self.pace.gave_up(client);
                self.disconnected(client);
                if !self.is_disturbed() {
                    self.verdict.found(Check::Progress, what, [line]);
                }
            }
            _ => {}
        }
    }

    fn client(&mut self, client: u32) -> &mut Client {
        self.clients.entry(client).or_default()
    }

    fn connected(
        &mut self,
        client: u32,
        connection: u32,
        line: usize,
        (user, session): (String, String),
        asked: bool,
        resumed: bool,
    ) {
        let excused = self.may_forget(client);
        let this = self.clients.entry(client).or_default();
        let durable = self.keeps.is_none_or(|keeps| keeps.durable);
        if this.session != session {
            this.born = self.now;
        }
        this.connection = connection;
        this.seats.values_mut().for_each(Seat::disconnect);
        if asked {
            self.verdict.count(Check::Recovery);
            let gone = !durable && self.ended.is_some_and(|ended| ended + DELAY >= this.at);
            if !resumed && (gone || excused) {
                // Nothing survives.
            } else if !resumed {
                let text = format!("client {client} showed a token and got a new session");
                self.verdict.found(Check::Recovery, text, [line]);
            } else if (&this.user, &this.session) != (&user, &session) {
                let text = format!("client {client} was {}, {}", this.user, this.session);
                self.verdict.found(Check::Recovery, text, [line]);
            }
        } else if resumed {
            let text = format!("client {client} showed no token and was resumed");
            self.verdict.found(Check::Recovery, text, [line]);
        }
        (this.user, this.session) = (user, session);
        this.at = self.now;
    }

    fn disconnected(&mut self, client: u32) {
        let this = self.client(client);
        if !this.departed {
            this.seats.values_mut().for_each(Seat::disconnect);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    fn entered(
        &mut self,
        client: u32,
        connection: u32,
        line: usize,
        room: &str,
        now: Position,
        since: Option<Position>,
        recovered: bool,
    ) {
        self.verdict.count(Check::Recovery);
        let (durable, history) =
            self.keeps.map_or((true, u64::MAX), |keeps| (keeps.durable, keeps.history));
        if let Some(since) = &since {
            let same = since.epoch == now.epoch;
            let gone = !same && (!durable || self.may_renew());
            let missed = now.seq.saturating_sub(since.seq);
            let excused = gone || (same && missed > history);
            if !recovered && !excused {
                let text = format!("client {client} could not go on in {room}");
                self.verdict.found(Check::Recovery, text, [line]);
            }
            if !gone && (!same || since.seq > now.seq) || gone && recovered {
                let text = format!("{room} was at {} {}, and went back", since.epoch, since.seq);
                self.verdict.found(Check::Recovery, text, [line]);
            }
        } else if !recovered {
            let text = format!("client {client} starts in {room}, and has nothing to recover");
            self.verdict.found(Check::Recovery, text, [line]);
        }
        self.epoch(room, &now, line);
        let after = match since {
            Some(since) if recovered => Some(since.seq),
            _ => None,
        };
        let seat = self.client(client).seats.entry(room.to_owned()).or_default();
        let before = seat.entered;
        if !seat.enter(connection, line, &now, after) {
            let text = format!("client {client} goes on in {room} from where it had not been");
            self.verdict.found(Check::Delivered, text, [before, line]);
        }
    }

    /// Notes the epoch of a room. Only one is allowed, as long as the past is kept.
    fn epoch(&mut self, room: &str, Position { epoch, seq }: &Position, line: usize) {
        let durable = self.keeps.is_none_or(|keeps| keeps.durable);
        let renews = self.may_renew();
        let (now, ended) = (self.now, self.ended);
        let epochs = &mut self.rooms.entry(room.to_owned()).or_default().epochs;
        if let Some(known) = epochs.get_mut(epoch) {
            known.from = known.from.min(*seq);
            return;
        }
        let excused = |other: &Stretch| ended.is_some_and(|ended| ended + DELAY >= other.at);
        let other = epochs.values().find(|other| !renews && (durable || !excused(other)));
        if let Some(other) = other {
            let text = format!("{room} has another epoch: {epoch}");
            self.verdict.found(Check::Recovery, text, [other.line, line]);
        }
        let stretch = Stretch { facts: BTreeMap::new(), line, at: now, from: *seq };
        epochs.insert(epoch.to_owned(), stretch);
    }

    fn sent(&mut self, client: u32, line: usize, room: String, id: String, reference: u64) {
        let this = self.clients.entry(client).or_default();
        let user = &this.user;
        match self.messages.get_mut(&id) {
            Some(message) => {
                message.times += 1;
                if (&message.room, message.reference) != (&room, reference) {
                    let text = format!("the client sent {id} again, but differently");
                    self.verdict.found(Check::Progress, text, [message.line, line]);
                }
            }
            None => {
                this.sent += 1;
                let message = Message {
                    client,
                    user: user.clone(),
                    number: this.sent,
                    room,
                    reference,
                    times: 1,
                    line,
                    ack: None,
                    refused: false,
                    uncertain: false,
                    places: Vec::new(),
                };
                self.messages.insert(id, message);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    fn acked(
        &mut self,
        client: u32,
        line: usize,
        room: String,
        id: &str,
        seq: Option<u64>,
        ts: u64,
        duplicate: bool,
    ) {
        self.verdict.count(Check::Acks);
        let (disturbed, loses) = (self.is_disturbed(), self.may_lose());
        let Some(message) = self.messages.get_mut(id) else {
            let text = format!("an acknowledgement of {id}, which nobody sent");
            return self.verdict.found(Check::Acks, text, [line]);
        };
        if message.room != room {
            let text = format!("{id} was sent to {} and acknowledged in {room}", message.room);
            self.verdict.found(Check::Acks, text, [message.line, line]);
        }
        // A node repeats by itself what may be stored, and may find it there.
        if duplicate && message.times < 2 && !disturbed {
            let text = format!("{id} was sent once and acknowledged as a duplicate");
            self.verdict.found(Check::Acks, text, [message.line, line]);
        }
        if let Some((first_seq, first_ts, _, first)) = message.ack.filter(|_| !loses) {
            if (first_seq, first_ts) != (seq, ts) {
                let text = format!("{id} was acknowledged twice, differently");
                self.verdict.found(Check::Acks, text, [first, line]);
            } else if !duplicate {
                let text = format!("{id} was acknowledged again, not as a duplicate");
                self.verdict.found(Check::Acks, text, [first, line]);
            }
            return;
        }
        message.ack = Some((seq, ts, duplicate, line));
        match seq {
            Some(seq) => {
                // Who is no member does not know the epoch.
                let seat = self.clients.get(&client).and_then(|this| this.seats.get(&room));
                let epoch = seat.filter(|seat| seat.here()).map(|seat| seat.epoch.clone());
                let fact = Fact { id: id.to_owned(), line, ts };
                self.rooms.entry(room).or_default().acks.push((epoch, fact, seq));
            }
            None => {
                let text = format!("the acknowledgement of {id} has no seq");
                self.verdict.found(Check::Acks, text, [line]);
            }
        }
        if let Some(outage) = self.disk.last_mut()
            && outage.over
        {
            outage.acked_after += 1;
        }
    }

    fn refused(&mut self, line: usize, id: &str, code: &str, temporary: bool) {
        let mut forgotten = false;
        if let Some(message) = self.messages.get_mut(id) {
            message.refused = true;
            let client = message.client;
            forgotten = code == UNAUTHORIZED && self.may_forget(client);
        }
        let stopping = self.stopped.is_some_and(|stopped| self.now < stopped + 2 * DELAY);
        let disturbed = self.is_disturbed();
        match self.disk.last_mut() {
            _ if forgotten => {}
            None if (stopping || disturbed) && code == UNAVAILABLE && temporary => {}
            Some(outage) if code == UNAVAILABLE && temporary => outage.refused += 1,
            _ => {
                let text = format!("{id} was refused: {code}, temporary: {temporary}");
                self.verdict.found(Check::Progress, text, [line]);
            }
        }
    }

    fn arrived(
        &mut self,
        client: u32,
        connection: u32,
        line: usize,
        (room, epoch): (&str, &str),
        seq: u64,
    ) -> bool {
        self.verdict.count(Check::Members);
        let seat = self.client(client).seats.entry(room.to_owned()).or_default();
        let text = match seat.receive(connection, epoch, seq) {
            Arrival::Next => return true,
            Arrival::NotMember => {
                let text = format!("client {client} is no member of {room} and received {seq}");
                self.verdict.found(Check::Members, text, [line]);
                return false;
            }
            Arrival::Again { before } => {
                format!("client {client} received {seq} of {room} after {before}")
            }
            Arrival::Hole { before } => {
                format!("client {client} received {seq} of {room} right after {before}")
            }
        };
        let entered = seat.entered;
        self.verdict.found(Check::Delivered, text, [entered, line]);
        true
    }

    fn checked_content(&mut self, line: usize, room: &str, id: &str, from: &str, intact: bool) {
        self.verdict.count(Check::Content);
        if !intact {
            let text = format!("the payload of {id} has changed");
            self.verdict.found(Check::Content, text, [line]);
        }
        match self.messages.get(id) {
            None => {
                let text = format!("{id} was received, and nobody sent it");
                self.verdict.found(Check::Content, text, [line]);
            }
            Some(message) if message.user != from || message.room != room => {
                let text = format!(
                    "{id} was sent by {} to {}, not as received",
                    message.user, message.room
                );
                self.verdict.found(Check::Content, text, [message.line, line]);
            }
            Some(_) => {}
        }
    }

    fn paged(&mut self, line: usize, room: &str, epoch: &str, messages: Vec<(u64, u64, String)>) {
        for pair in messages.windows(2) {
            if pair[1].0 != pair[0].0 + 1 {
                let text = format!("a page of {room} goes from {} to {}", pair[0].0, pair[1].0);
                self.verdict.found(Check::History, text, [line]);
            }
        }
        for message in messages {
            self.verdict.count(Check::History);
            self.placed(line, Source::History, (room, epoch), message);
        }
    }

    /// A message has been seen at a place of a room.
    fn placed(
        &mut self,
        line: usize,
        source: Source,
        (room, epoch): (&str, &str),
        (seq, ts, id): (u64, u64, String),
    ) {
        self.epoch(room, &Position { epoch: epoch.to_owned(), seq: u64::MAX }, line);
        if let Some(message) = self.messages.get_mut(&id)
            && !message.places.iter().any(|(in_epoch, at, _)| *at == seq && in_epoch == epoch)
        {
            message.places.push((epoch.to_owned(), seq, line));
        }
        let Some(stretch) = self.rooms.get_mut(room).and_then(|room| room.epochs.get_mut(epoch))
        else {
            return;
        };
        if let Some((check, text, first)) = stretch.place(line, source, seq, ts, id) {
            self.verdict.found(check, format!("{room}: {text}"), [first, line]);
        }
    }

    fn listed(
        &mut self,
        client: u32,
        line: usize,
        room: String,
        how: &'static str,
        mut users: Vec<String>,
    ) {
        users.sort();
        self.client(client).lists.insert((room, how), (users, line));
    }
}

const REPLACED: u16 = 4409;
const TOO_SLOW: u16 = 4508;
const STOPPED: [u16; 2] = [1001, 1012];
/// How long bytes may be on their way through the proxy, in milliseconds.
const DELAY: u64 = 5000;
const UNAVAILABLE: &str = "unavailable";
const UNAUTHORIZED: &str = "unauthorized";
