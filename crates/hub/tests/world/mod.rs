//! Clients, connections and rooms around a real hub.

mod client;
mod ledger;
mod server;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use throng_hub::{Ending, History, Hub, Identity, Keep, Pattern, Room, Rule, Rules, Space, Stored};

use crate::support::{Disk, Memory, Slow};
use client::{Client, Known, View};
use ledger::{Ledger, Line};

pub(crate) const CLIENTS: usize = 5;
pub(crate) const ROOMS: usize = NAMES.len();
const NAMES: [&str; 4] = ["mem:a", "disk:a", "disk:b", "live:a"];
const LIVE: usize = 3;
const WORKERS: u32 = 3;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Connects if it is not, and comes back to its rooms.
    Connect {
        client: usize,
    },
    Join {
        client: usize,
        room: usize,
        rewind: u32,
    },
    Leave {
        client: usize,
        room: usize,
    },
    /// The connection ends, and with it whatever the client has not read.
    Drop {
        client: usize,
        lost: bool,
    },
    Publish {
        client: usize,
        room: usize,
        count: usize,
    },
    /// The client sends again what was not acknowledged.
    Repeat {
        client: usize,
    },
    Read {
        client: usize,
        count: usize,
    },
    /// The server hands out the past to who is behind.
    CatchUp {
        client: usize,
        chunk: usize,
    },
    /// The slow backend answers.
    Store {
        pick: usize,
        well: bool,
    },
    Open {
        well: bool,
    },
    Refuse {
        refusing: bool,
    },
    Clock {
        by: i64,
    },
    /// Whatever is due.
    Look,
    /// The process ends, having stored some of what was under way, and another begins.
    Restart {
        stored: usize,
    },
    NewSession {
        client: usize,
    },
}

/// How often what the histories are for has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) acknowledged: u64,
    pub(crate) recovered: u64,
    pub(crate) not_recovered: u64,
    pub(crate) behind: u64,
    pub(crate) overtaken: u64,
    pub(crate) published_before: u64,
    pub(crate) repeated_while_stored: u64,
    pub(crate) failed: u64,
    pub(crate) not_opened: u64,
    pub(crate) survived_a_crash: u64,
    pub(crate) graces: u64,
    pub(crate) lists: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            delivered: self.delivered + other.delivered,
            acknowledged: self.acknowledged + other.acknowledged,
            recovered: self.recovered + other.recovered,
            not_recovered: self.not_recovered + other.not_recovered,
            behind: self.behind + other.behind,
            overtaken: self.overtaken + other.overtaken,
            published_before: self.published_before + other.published_before,
            repeated_while_stored: self.repeated_while_stored + other.repeated_while_stored,
            failed: self.failed + other.failed,
            not_opened: self.not_opened + other.not_opened,
            survived_a_crash: self.survived_a_crash + other.survived_a_crash,
            graces: self.graces + other.graces,
            lists: self.lists + other.lists,
        }
    }
}

/// What the server sends.
enum Frame {
    /// Where a client is now, and who is there if it asked.
    Joined {
        room: usize,
        epoch: String,
        seq: u64,
        recovered: bool,
        rewind: u32,
        view: Option<View>,
    },
    /// It could not be let in.
    NotJoined {
        room: usize,
    },
    /// A frame of the hub.
    Push {
        room: usize,
        text: Vec<u8>,
    },
    Ack {
        room: usize,
        reference: u64,
        epoch: String,
        seq: u64,
    },
    /// A publish failed; it may be tried again, or it will never be known.
    Failed {
        reference: u64,
        for_ever: bool,
    },
}

/// What a client sends.
#[derive(Clone)]
enum Command {
    Join { room: usize, rewind: u32, known: Known },
    Leave { room: usize },
    Publish { room: usize, reference: u64, n: u64 },
}

/// A connection, as the server sees it.
struct Conn {
    client: usize,
    worker: usize,
    who: Arc<Identity>,
    rooms: BTreeMap<usize, Membership>,
    /// What waits for a room to be opened; the first one was tried.
    parked: VecDeque<Command>,
    /// What the client has not read.
    out: VecDeque<Frame>,
}

struct Membership {
    room: Arc<Room>,
    behind: Option<Behind>,
}

struct Behind {
    after: u64,
    presence_seq: u64,
}

pub(crate) struct World {
    disk: Disk,
    slow: Arc<Slow>,
    hub: Hub,
    runs: u64,
    now: u64,
    /// The latest time there was.
    latest: u64,
    /// When this run of the server began.
    started: u64,
    ledgers: Vec<Ledger>,
    clients: Vec<Client>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    timers: BTreeSet<(u64, usize)>,
    n: u64,
    tally: Tally,
}

impl World {
    pub(crate) fn new() -> Self {
        let disk = Disk::default();
        let slow = Slow::new(&disk);
        let ledger = |room: usize| {
            let history = rules().of(NAMES[room]).history;
            Ledger::new(history, NAMES[room].starts_with("disk"))
        };
        Self {
            hub: hub(1, &slow),
            slow,
            disk,
            runs: 1,
            now: 1000,
            latest: 1000,
            started: 0,
            ledgers: (0..ROOMS).map(ledger).collect(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            conns: BTreeMap::new(),
            next_conn: 1,
            timers: BTreeSet::new(),
            n: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        self.now += 1;
        self.latest = self.latest.max(self.now);
        match *step {
            Step::Connect { client } => self.connect(client),
            Step::Join { client, room, rewind } => {
                if let Some(conn) = self.clients[client].conn
                    && let Some(known) = self.clients[client].wants(room)
                {
                    self.send(conn, Command::Join { room, rewind, known });
                }
            }
            Step::Leave { client, room } => {
                if let Some(conn) = self.clients[client].conn
                    && self.clients[client].gives_up(room)
                {
                    self.send(conn, Command::Leave { room });
                }
            }
            Step::Drop { client, lost } => {
                let ending = if lost { Ending::Lost } else { Ending::Orderly };
                self.drop_client(client, ending);
            }
            Step::Publish { client, room, count } => {
                for _ in 0..count {
                    self.publish_from(client, room);
                }
            }
            Step::Repeat { client } => self.repeat(client),
            Step::Read { client, count } => self.read(client, count),
            Step::CatchUp { client, chunk } => self.catch_up(client, chunk),
            Step::Store { pick, well } => self.store(pick, well),
            Step::Open { well } => self.open(well),
            Step::Refuse { refusing } => self.slow.refuse(refusing),
            Step::Clock { by } => {
                // Not back into an earlier run: rooms opened there in the same millisecond number their
                // presence alike.
                self.now = self.now.saturating_add_signed(by).max(self.started);
                self.latest = self.latest.max(self.now);
            }
            Step::Look => self.look(),
            Step::Restart { stored } => self.restart(stored),
            Step::NewSession { client } => {
                self.drop_client(client, Ending::Lost);
                self.clients[client].begin_session();
            }
        }
        self.check();
    }

    /// Everything works again and everybody reads everything: then everybody knows everything.
    pub(crate) fn settle(&mut self) -> Tally {
        self.slow.refuse(false);
        for round in 0.. {
            assert!(round < 200, "it does not come to an end");
            self.now = self.latest + 1;
            self.latest = self.now;
            while self.slow.openings() > 0 {
                self.open(true);
            }
            while self.slow.appends() > 0 {
                self.store(0, true);
            }
            self.look();
            let mut quiet = true;
            for client in 0..CLIENTS {
                self.connect(client);
                self.rejoin(client);
                while self.is_behind(client) {
                    self.catch_up(client, 1000);
                }
                quiet &= self.unread(client) == 0;
                self.read(client, usize::MAX);
                let unacknowledged = self.clients[client].unacknowledged();
                quiet &= unacknowledged.is_empty();
                // Whoever turned out to be too slow for the past comes back once more.
                quiet &= self.clients[client].conn.is_some();
                self.repeat(client);
            }
            if quiet && self.slow.openings() == 0 && self.slow.appends() == 0 {
                break;
            }
        }
        // Whoever is still lost goes.
        while let Some((due, _)) = self.timers.first().copied() {
            self.now = self.now.max(due);
            self.look();
        }
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
        }
        self.check();
        for (at, client) in self.clients.iter().enumerate() {
            for room in client.rooms() {
                let ledger = &self.ledgers[room];
                if room != LIVE {
                    let end = (ledger.epoch.as_str(), ledger.seq());
                    assert_eq!(
                        client.end(room),
                        Some(end),
                        "client {at} is at the end of {}",
                        NAMES[room]
                    );
                }
            }
        }
        self.tally
    }

    /// What must be true at any time.
    fn check(&self) {
        for (at, name) in NAMES.iter().enumerate() {
            let members = self.conns.values().filter(|conn| conn.rooms.contains_key(&at));
            let workers: BTreeSet<_> = members.clone().map(|conn| conn.worker).collect();
            let Some(room) = self.hub.find(Space::ROOMS, name) else {
                assert_eq!(members.count(), 0, "members of {name}, which is not there");
                continue;
            };
            let order = room.order();
            assert_eq!(order.workers().collect::<BTreeSet<_>>(), workers);
            assert_eq!(order.member_count(), members.clone().count());
            if self.ledgers[at].is_open && at != LIVE {
                assert_eq!(order.seq(), self.ledgers[at].seq());
            }
            let users: BTreeSet<_> = order.users().map(|who| who.user_id().to_owned()).collect();
            for conn in members {
                assert!(at == LIVE || users.contains(conn.who.user_id()));
                let live = conn.rooms[&at].behind.is_none();
                let up_to_date = live && conn.out.is_empty() && conn.parked.is_empty();
                if up_to_date && at != LIVE {
                    let view = self.clients[conn.client].view(at);
                    let seq = order.presence_seq();
                    assert_eq!(view, &View { seq, users: users.clone() }, "{}", conn.client);
                }
            }
        }
    }

    fn connect(&mut self, client: usize) {
        if self.clients[client].conn.is_some() {
            return;
        }
        let id = self.next_conn;
        self.next_conn += 1;
        let (user, session) = self.clients[client].ids();
        let conn = Conn {
            client,
            worker: client % WORKERS as usize,
            who: Arc::new(Identity::anonymous(&user, &session, None)),
            rooms: BTreeMap::new(),
            parked: VecDeque::new(),
            out: VecDeque::new(),
        };
        self.conns.insert(id, conn);
        self.clients[client].conn = Some(id);
        self.rejoin(client);
        self.repeat(client);
    }

    /// The client comes back to the rooms it wants to be in and is not.
    fn rejoin(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn else { return };
        for (room, known) in self.clients[client].missing() {
            self.send(conn, Command::Join { room, rewind: 0, known });
        }
    }

    fn publish_from(&mut self, client: usize, room: usize) {
        let Some(conn) = self.clients[client].conn else { return };
        if !self.clients[client].rooms().any(|known| known == room) {
            return;
        }
        self.n += 1;
        let reference = self.clients[client].note(room, self.n);
        self.send(conn, Command::Publish { room, reference, n: self.n });
    }

    fn repeat(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn else { return };
        for (reference, room, n) in self.clients[client].unacknowledged() {
            // Where nothing is remembered, a repetition would be another message.
            if room == LIVE {
                continue;
            }
            self.send(conn, Command::Publish { room, reference, n });
        }
    }

    fn read(&mut self, client: usize, count: usize) {
        for _ in 0..count {
            let Some(conn) = self.clients[client].conn else { return };
            let frame = self.conns.get_mut(&conn).and_then(|conn| conn.out.pop_front());
            let Some(frame) = frame else { return };
            match &frame {
                Frame::Ack { .. } => self.tally.acknowledged += 1,
                Frame::Push { text, .. } if text.starts_with(br#"{"type":"chat""#) => {
                    self.tally.delivered += 1;
                }
                Frame::Push { text, .. } if text.starts_with(br#"{"type":"presence""#) => {
                    self.tally.lists += 1;
                }
                _ => {}
            }
            self.clients[client].take(frame, &self.ledgers);
        }
    }

    fn unread(&self, client: usize) -> usize {
        let conn = self.clients[client].conn.and_then(|conn| self.conns.get(&conn));
        conn.map_or(0, |conn| conn.out.len() + conn.parked.len())
    }

    fn is_behind(&self, client: usize) -> bool {
        let conn = self.clients[client].conn.and_then(|conn| self.conns.get(&conn));
        conn.is_some_and(|conn| conn.rooms.values().any(|member| member.behind.is_some()))
    }

    fn drop_client(&mut self, client: usize, ending: Ending) {
        if let Some(conn) = self.clients[client].disconnect() {
            self.end(conn, ending);
        }
    }
}

fn rules() -> Rules {
    let grace = Duration::from_millis(700);
    let small = History { size: 6, ..History::default() };
    let short = History { ttl: Duration::from_millis(1200), ..History::default() };
    let rule = |durable, history| Rule { durable, history, grace, ..Rule::default() };
    Rules::new([
        (Pattern::new("mem:*"), rule(false, small)),
        (Pattern::new("disk:a"), rule(true, small)),
        (Pattern::new("disk:b"), rule(true, short)),
    ])
}

fn hub(run: u64, slow: &Arc<Slow>) -> Hub {
    let keep = Keep { memory: Arc::new(Memory::new(run)), durable: Some(slow.clone()) };
    Hub::new(run, rules(), keep)
}

fn line(stored: &Stored) -> Line {
    Line {
        n: number(stored.body.text()),
        timestamp: stored.timestamp.0,
        session: stored.session.to_string(),
        reference: stored.reference,
    }
}

/// Which message this is.
fn number(text: &[u8]) -> u64 {
    let value: Value = serde_json::from_slice(text).unwrap();
    value["n"].as_u64().unwrap()
}
