//! Vaults of all kinds, and what is asked of them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use throng_backend::{
    Answer, Begun, Member, NewSession, NewTicket, Redeemed, Redis, RedisOptions, SessionRow,
    SyncMode, Vault,
};
use throng_hub::{Ban, Timestamp};
use throng_redis_rig::{Data, Reply, Setup};

/// Some time.
pub(crate) const NOW: u64 = 1_763_629_000_000;
pub(crate) const DAY: u64 = 24 * 60 * 60 * 1000;

pub(crate) type Done<T> = Box<dyn FnOnce(Answer<T>) + Send>;

/// Asks, and waits for the answer.
pub(crate) fn ask<T: Send + 'static>(asked: impl FnOnce(Done<T>)) -> Answer<T> {
    let (answer, answered) = mpsc::channel();
    asked(Box::new(move |found| answer.send(found).unwrap()));
    answered.recv_timeout(LONG).expect("each is answered")
}

/// Longer than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits for what another thread or process does soon.
pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LONG, "it does not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn memory() -> Vault {
    Vault::open(None, SyncMode::Full).unwrap()
}

pub(crate) fn file(dir: &Path) -> Vault {
    Vault::open(Some(dir), SyncMode::Full).unwrap()
}

/// A vault, and the time that goes with it.
pub(crate) struct World {
    pub(crate) vault: Vault,
    /// When it began; what happens, happens then unless something else is said.
    pub(crate) start: u64,
    place: Place,
}

enum Place {
    Memory(AtomicU64),
    File(AtomicU64, TempDir),
    Redis(Box<Server>),
}

/// In memory, in a file, and in Redis, which must be the same.
pub(crate) fn each(test: impl Fn(&World)) {
    let world = |vault, place| World { vault, start: NOW, place };
    test(&world(memory(), Place::Memory(AtomicU64::new(NOW))));
    let dir = tempfile::tempdir().unwrap();
    test(&world(file(dir.path()), Place::File(AtomicU64::new(NOW), dir)));
    let server = Server::start();
    test(&World { vault: server.vault(), start: clock(), place: Place::Redis(Box::new(server)) });
}

impl World {
    /// Lets time pass: that of the test, or the real one where Redis' clock counts.
    pub(crate) fn pass(&self, millis: u64) {
        match &self.place {
            Place::Memory(now) | Place::File(now, _) => {
                _ = now.fetch_add(millis, Ordering::Relaxed)
            }
            Place::Redis(_) => thread::sleep(Duration::from_millis(millis + 1)),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        match &self.place {
            Place::Memory(now) | Place::File(now, _) => now.load(Ordering::Relaxed),
            Place::Redis(_) => clock(),
        }
    }

    /// Another vault of the same, as another process has it.
    pub(crate) fn another(&self) -> Option<Vault> {
        match &self.place {
            Place::Memory(_) => None,
            Place::File(_, dir) => Some(file(dir.path())),
            Place::Redis(server) => Some(server.vault()),
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.place, Place::Redis(_))
    }

    /// So many tickets are open and so many sessions signed in.
    pub(crate) fn expect(&self, tickets: u64, sessions: u64) {
        let counts = || {
            let stats = self.vault.stats();
            (stats.tickets, stats.sessions)
        };
        if self.is_shared() {
            // It counts every now and then.
            self.vault.sweep(0, DAY);
            until(|| counts() == (tickets, sessions));
        }
        assert_eq!(counts(), (tickets, sessions));
    }

    /// A ticket that is good for ten minutes.
    pub(crate) fn ticket(&self, n: u32, user: &str) -> NewTicket {
        NewTicket { expires: self.start + 600_000, ..ticket(n, user) }
    }

    pub(crate) fn row(&self, id: &str, user: &str) -> SessionRow {
        SessionRow { started: self.start, issued: Some(self.start), ..row(id, user) }
    }

    pub(crate) fn session(&self, id: &str) -> NewSession {
        NewSession { id: id.into(), started: self.start }
    }

    pub(crate) fn redeem(&self, n: u32, id: &str) -> Redeemed {
        let session = self.session(id);
        ask(|done| self.vault.redeem(hash(n), None, self.start, session, done)).unwrap()
    }

    /// What that says of a ticket that is good.
    pub(crate) fn admitted(&self, n: u32, user: &str) -> Redeemed {
        admitted(n, user, self.start)
    }
}

pub(crate) fn admitted(n: u32, user: &str, now: u64) -> Redeemed {
    Redeemed::Admitted {
        user: user.into(),
        record: format!(r#"{{"n":{n}}}"#),
        expires: Some(now + DAY),
        via: "ticket".into(),
    }
}

/// Milliseconds since 1970.
pub(crate) fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(crate) fn hash(n: u32) -> [u8; 32] {
    let mut hash = [0x5a; 32];
    // Spread, as hashes are.
    hash[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    hash[4..8].copy_from_slice(&n.to_be_bytes());
    hash
}

pub(crate) fn ticket(n: u32, user: &str) -> NewTicket {
    NewTicket {
        hash: hash(n),
        user: user.into(),
        ip: None,
        expires: NOW + 30_000,
        session_ttl: Some(DAY),
        via: "ticket".into(),
        record: format!(r#"{{"n":{n}}}"#),
    }
}

pub(crate) fn session(id: &str) -> NewSession {
    NewSession { id: id.into(), started: NOW }
}

pub(crate) fn row(id: &str, user: &str) -> SessionRow {
    SessionRow {
        id: id.into(),
        user: user.into(),
        ip: None,
        started: NOW,
        expires: None,
        issued: Some(NOW),
        token: None,
        via: "token".into(),
        record: "{}".into(),
    }
}

pub(crate) fn issue(vault: &Vault, ticket: NewTicket) {
    let issued = ask(|done| vault.issue(ticket, done));
    assert_eq!(issued, Ok(()), "{:?}", vault.stats().trouble);
}

pub(crate) fn redeem(vault: &Vault, n: u32, id: &str) -> Redeemed {
    ask(|done| vault.redeem(hash(n), None, NOW, session(id), done)).unwrap()
}

pub(crate) fn begin(vault: &Vault, row: SessionRow) -> Begun {
    ask(|done| vault.begin(row, done)).unwrap()
}

pub(crate) fn find(vault: &Vault, id: &str) -> Option<SessionRow> {
    ask(|done| vault.find(id, done)).unwrap()
}

/// Those of some sessions that are gone.
pub(crate) fn gone(vault: &Vault, ids: &[&str]) -> Vec<String> {
    let ids = ids.iter().map(|&id| id.into()).collect();
    let gone = ask(|done| vault.check(ids, done)).unwrap();
    gone.into_iter().map(Into::into).collect()
}

pub(crate) fn ban(room: &str, user: &str, until: Option<u64>) -> Ban {
    Ban { room: room.into(), user: user.into(), until: until.map(Timestamp), reason: "ü".into() }
}

pub(crate) fn member(room: &str, user: &str, rights: &str) -> Member {
    Member { room: room.into(), user: user.into(), rights: rights.into() }
}

/// A real Redis, and whoever is connected.
pub(crate) struct Server {
    redis: throng_redis_rig::Server,
    nodes: Mutex<Vec<Arc<Redis>>>,
}

impl Server {
    /// One that has everything in its memory: it waits for no disk.
    pub(crate) fn start() -> Self {
        Self::of(Setup::in_memory())
    }

    /// One that keeps what it is told.
    pub(crate) fn durable() -> Self {
        Self::of(Setup::durable())
    }

    fn of(setup: Setup) -> Self {
        let redis = throng_redis_rig::Server::start(setup).unwrap();
        Self { redis, nodes: Mutex::default() }
    }

    /// Starts again, with its data.
    pub(crate) fn go_on(&mut self) {
        self.redis.start_again(Data::Kept).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.redis.kill();
    }

    /// A vault in it, with a connection of its own, as a node has it.
    pub(crate) fn vault(&self) -> Vault {
        let urls = vec![self.redis.url()];
        let redis = Redis::connect(RedisOptions { urls, ..RedisOptions::default() }).unwrap();
        if self.redis.is_started() {
            // A vault that has to wait too long for it begins without it.
            until(|| redis.status().servers.iter().any(|server| server.connected));
        }
        let vault = Vault::shared(redis.remote(), "test");
        self.nodes.lock().unwrap().push(redis);
        vault
    }

    /// What the server says to a command, line by line.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        fn line(reply: &Reply) -> String {
            match reply {
                Reply::Text(text) => text.clone(),
                Reply::Number(number) => number.to_string(),
                Reply::List(list) => list.iter().map(line).collect::<Vec<_>>().join("\n"),
                Reply::None => String::new(),
                Reply::Error(error) => panic!("{error}"),
            }
        }
        line(&self.redis.ask(words).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.nodes.get_mut().unwrap().iter().for_each(|node| node.close());
    }
}
