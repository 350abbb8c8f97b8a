//! The workers together, and the way in.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use mio::{Poll, Waker};
use throng_hub::{Access, Budget, Hub, Keep, Rate, Rules, Sessions, Tokens};
use throng_wire::Deflate;

use crate::admission::{Admission, Caps, Exempt, Permit};
use crate::clock::wall_clock;
use crate::conn::Arrival;
use crate::drain::Leave;
use crate::front::Front;
use crate::handler::{HANDLER_SPACE, Message};
use crate::inbox::{Congestion, Inbox, Post, Wake};
use crate::policy::Policy;
use crate::rooms::Results;
use crate::session::Opening;
use crate::stats::{Counters, Stats};
use crate::timers::Timers;
use crate::transport::{Tls, Transport};
use crate::users::UserMeters;
use crate::worker::{WAKE, Worker};

/// What an engine is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads. Default: one for each core this process may use.
    pub workers: usize,
    /// Silence after which a connection is pinged; terminated when nothing comes back within
    /// as much again. Zero never pings. Default 25 s, precision 50 ms.
    pub heartbeat: Duration,
    /// Connections in all; more are refused. Default 1,000,000.
    pub max_connections: usize,
    /// Connections from one address; more are refused. Default 1,000,000.
    pub max_connections_per_ip: usize,
    /// Connections and event streams of one user who is signed in; more are refused. Default 1,000,000.
    pub max_connections_per_user: usize,
    /// Open rooms that one address has brought into being; more are refused. Default 1,000,000.
    pub max_rooms_per_ip: usize,
    /// Open rooms that one user who is signed in has brought into being; more are refused. Default 1,000,000.
    pub max_rooms_per_user: usize,
    /// Handshakes of one address; more are refused. Default `None`: any number.
    pub handshakes_per_ip: Option<Rate>,
    /// Addresses that the limits by address do not concern. Default: none.
    pub exempt: Option<Exempt>,
    /// Rooms in all, those of relays and event streams included, those that handlers join not; more are
    /// refused. Default 1,000,000.
    pub max_total_rooms: usize,
    /// Bytes that may be kept for all connections and the past of open rooms: see
    /// [`Budget`]. Default: without end.
    pub memory_budget: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            heartbeat: Duration::from_secs(25),
            max_connections: 1_000_000,
            max_connections_per_ip: 1_000_000,
            max_connections_per_user: 1_000_000,
            max_rooms_per_ip: 1_000_000,
            max_rooms_per_user: 1_000_000,
            handshakes_per_ip: None,
            exempt: None,
            max_total_rooms: 1_000_000,
            memory_budget: usize::MAX,
        }
    }
}

/// Told the id of a session.
pub type Ended = Arc<dyn Fn(&str) + Send + Sync>;

/// What holds for the rooms of an engine.
#[derive(Clone)]
pub struct Rooms {
    /// By name.
    pub rules: Rules,
    /// Where they are kept. The backends must not be in use by another engine.
    pub keep: Keep,
    /// Who may do what there.
    pub access: Arc<Access>,
    /// Sign resume tokens: the first one new ones, the others are still taken. Random.
    pub secrets: Vec<[u8; 32]>,
    /// Told the id of every signed-in session that is over for good. Must not block.
    pub ended: Ended,
    /// How long a session may be away. Default 120 s.
    pub resume_window: Duration,
    /// How many rooms a connection may be in. Default 128.
    pub max_rooms: usize,
}

impl Rooms {
    /// With the defaults, a random secret, and everything open to everybody.
    ///
    /// # Errors
    /// When the system has no entropy.
    pub fn new(rules: Rules, keep: Keep) -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(no_entropy)?;
        Ok(Self {
            rules,
            keep,
            access: Arc::new(Access::open()),
            secrets: vec![secret],
            ended: Arc::new(|_| {}),
            resume_window: Duration::from_secs(120),
            max_rooms: 128,
        })
    }
}

/// A connection after its handshake, as the front hands it over.
pub struct Handover {
    /// Bytes the front has already read behind the handshake.
    pub read_ahead: Bytes,
    /// What the connection is for.
    pub opening: Opening,
    /// How it is treated.
    pub policy: Arc<Policy>,
    /// What was agreed on compression.
    pub deflate: Option<Deflate>,
    /// The right to be connected, from [`Engine::admission`].
    pub permit: Option<Permit>,
    /// Something to drop when the connection has ended: how a front that pumps bytes into a
    /// socket pair learns of it.
    pub companion: Option<Box<dyn Send>>,
}

/// The worker threads. Dropping it leaves them running; see [`Engine::shutdown`].
pub struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    timer: Mutex<Option<JoinHandle<()>>>,
    /// Connections handed to each worker so far.
    handed: Vec<AtomicU64>,
    next: AtomicUsize,
    ending: AtomicBool,
}

/// What the workers share.
pub(crate) struct Shared {
    pub(crate) hub: Hub,
    pub(crate) sessions: Sessions,
    pub(crate) tokens: Tokens,
    pub(crate) access: Arc<Access>,
    pub(crate) max_rooms: usize,
    pub(crate) users: UserMeters,
    pub(crate) timers: Timers,
    /// One for each worker, and one for the front.
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    counters: Vec<Arc<Counters>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) congestion: Arc<Congestion>,
    pub(crate) heartbeat: Duration,
    /// Set when everybody is being sent away.
    pub(crate) leave: Mutex<Leave>,
}

impl Engine {
    /// Starts the workers. `wake` is called, from any thread, when there is something for the front to
    /// [`drain`](Front::drain); it must be quick and not come back here.
    ///
    /// # Errors
    /// When threads or polls cannot be had, or entropy.
    pub fn start(
        config: Config,
        rooms: Rooms,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let congestion = Arc::new(Congestion::default());
        let mut polls = Vec::new();
        let mut inboxes = Vec::new();
        let mut counters = Vec::new();
        for _ in 0..config.workers.max(1) {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            inboxes.push(Arc::new(Inbox::new(Wake::Poll(waker), Arc::clone(&congestion))));
            counters.push(Arc::new(Counters::default()));
            polls.push(poll);
        }
        let wake = Wake::Call(Box::new(wake));
        inboxes.push(Arc::new(Inbox::new(wake, Arc::clone(&congestion))));
        let (now, seed) = (wall_clock(), getrandom::u64().map_err(no_entropy)?);
        let boot = getrandom::u64().map_err(no_entropy)?;
        let backends = rooms.keep.clone();
        let budget = Arc::new(Budget::new(config.memory_budget));
        let shared = Arc::new(Shared {
            hub: Hub::new(seed, rooms.rules, rooms.keep)
                .with_limits(config.max_total_rooms, Arc::clone(&budget)),
            sessions: Sessions::telling(rooms.resume_window, now, move |id| (rooms.ended)(id)),
            tokens: Tokens::new(&rooms.secrets, boot),
            access: rooms.access,
            max_rooms: rooms.max_rooms,
            users: UserMeters::default(),
            timers: Timers::default(),
            inboxes,
            counters,
            admission: Admission::with(
                Caps {
                    total: config.max_connections,
                    per_address: config.max_connections_per_ip,
                    per_user: config.max_connections_per_user,
                    rooms_per_address: config.max_rooms_per_ip,
                    rooms_per_user: config.max_rooms_per_user,
                    handshakes: config.handshakes_per_ip,
                    exempt: config.exempt,
                },
                budget,
            ),
            congestion,
            heartbeat: config.heartbeat,
            leave: Mutex::default(),
        });
        let results: Arc<Results> = Arc::new(Results(Arc::downgrade(&shared)));
        backends.memory.start(results.clone());
        if let Some(durable) = &backends.durable {
            durable.start(results);
        }
        let timed = Arc::clone(&shared);
        let timer = std::thread::Builder::new().name("throng-timer".into());
        let timer = timer.spawn(move || timed.timers.run(|room| timed.handle_timeout(room)))?;
        let mut threads = Vec::new();
        for (index, poll) in polls.into_iter().enumerate() {
            let counters = Arc::clone(&shared.counters[index]);
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("throng-{index}"))
                .spawn(move || Worker::new(index, poll, shared, counters).run())?;
            threads.push(thread);
        }
        Ok(Self {
            shared,
            handed: (0..threads.len()).map(|_| AtomicU64::new(0)).collect(),
            threads: Mutex::new(threads),
            timer: Mutex::new(Some(timer)),
            next: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.handed.len()
    }

    /// The caps on connections; asked before the 101.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.shared.admission
    }

    /// Takes over a TCP socket, which must be non-blocking, as tokio's are.
    pub fn adopt(&self, socket: TcpStream, handover: Handover) {
        self.adopt_transport(Transport::Tcp(mio::net::TcpStream::from_std(socket)), handover);
    }

    /// Takes over our end of a socket pair, through whose other end the front pumps a byte
    /// stream that is not a plain TCP socket. Must be non-blocking.
    pub fn adopt_pair(&self, socket: UnixStream, handover: Handover) {
        self.adopt_transport(Transport::Pair(mio::net::UnixStream::from_std(socket)), handover);
    }

    /// Takes over a TCP socket with TLS, after its handshake. The socket must be non-blocking. What is
    /// decrypted already counts as read ahead.
    pub fn adopt_tls(
        &self,
        socket: TcpStream,
        state: rustls::ServerConnection,
        mut handover: Handover,
    ) {
        let socket = mio::net::TcpStream::from_std(socket);
        let read_ahead = std::mem::take(&mut handover.read_ahead);
        let (tls, read_ahead) = Tls::new(socket, state, read_ahead);
        handover.read_ahead = read_ahead;
        self.adopt_transport(Transport::Tls(Box::new(tls)), handover);
    }

    fn adopt_transport(&self, transport: Transport, handover: Handover) {
        let Handover { read_ahead, opening, policy, deflate, permit, companion } = handover;
        let arrival =
            Arrival { transport, read_ahead, opening, policy, deflate, permit, companion };
        let worker = self.least_loaded();
        self.handed[worker].fetch_add(1, Ordering::Relaxed);
        self.shared.inboxes[worker].push(Post::Adopt(Box::new(arrival)));
    }

    /// The worker with the fewest connections, those on their way included; ties go round.
    fn least_loaded(&self) -> usize {
        let workers = self.handed.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % workers;
        let load = |&worker: &usize| {
            let ended = self.shared.counters[worker].closed.get();
            self.handed[worker].load(Ordering::Relaxed).saturating_sub(ended)
        };
        (first..workers).chain(0..first).min_by_key(load).unwrap_or(0)
    }

    /// The rooms, for whoever is not a connection of a worker.
    pub fn front(&self) -> Front {
        Front { shared: Arc::clone(&self.shared) }
    }

    /// Sends a message to every member of a room that handlers have joined.
    pub fn broadcast<'m>(&self, room: &str, message: impl Into<Message<'m>>) {
        let message = message.into();
        self.shared.broadcast(HANDLER_SPACE, room, message.opcode(), message.as_bytes());
    }

    /// What has been counted so far.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for counters in &self.shared.counters {
            stats.add(counters);
        }
        stats.rooms = self.shared.hub.room_count() as u64;
        stats.users = self.shared.sessions.user_count() as u64;
        stats.connections = stats.opened.saturating_sub(stats.closed);
        stats.admitted = self.shared.admission.in_use() as u64;
        let refusals = self.shared.admission.refusals();
        stats.refused_total = refusals.total;
        stats.refused_per_ip = refusals.address;
        stats.refused_per_user = refusals.user;
        stats.refused_handshakes = refusals.handshakes;
        stats.refused_memory = refusals.memory;
        stats.refused_rooms_per_ip = refusals.address_rooms;
        stats.refused_rooms_per_user = refusals.user_rooms;
        let budget = self.shared.hub.budget();
        stats.refused_rooms = budget.rooms_refused();
        stats.room_rate_limited = budget.rate_limited();
        stats.overloaded = budget.overloaded();
        stats.memory = budget.used() as u64;
        stats.memory_budget = budget.limit() as u64;
        stats
    }

    /// Whether [`Engine::drain`] has begun and was not taken back, or [`Engine::shutdown`] has begun: the front refuses upgrades with `503`.
    pub fn is_ending(&self) -> bool {
        self.has_ended() || self.draining().is_some()
    }

    /// Whether [`Engine::shutdown`] has begun.
    pub(crate) fn has_ended(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Closes every connection with `1001`, or `1012` after a drain, waits until all are gone, at most for `grace`,
    /// terminates the rest and ends the workers. Then `last` is called, to end backends: what they still
    /// answer is passed on. Blocks meanwhile. A second call returns at once.
    pub fn shutdown(&self, grace: Duration, last: impl FnOnce()) {
        self.ending.store(true, Ordering::Relaxed);
        for inbox in &self.shared.inboxes {
            inbox.push(Post::Shutdown(grace));
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
        last();
        self.shared.inbox(self.shared.front()).push(Post::End);
        self.shared.timers.end();
        let timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if timer.is_some_and(|timer| timer.join().is_err()) {
            tracing::error!("the timer had panicked");
        }
    }
}

fn no_entropy(error: getrandom::Error) -> io::Error {
    io::Error::other(format!("no entropy: {error}"))
}

impl Shared {
    pub(crate) fn inbox(&self, worker: usize) -> &Arc<Inbox> {
        &self.inboxes[worker]
    }

    /// The number of the front among the workers: behind them.
    pub(crate) fn front(&self) -> usize {
        self.counters.len()
    }
}
