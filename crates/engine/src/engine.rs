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
use throng_hub::{Hub, Order, Room, Space};
use throng_wire::{Deflate, OpCode, Prepared};

use crate::admission::{Admission, Permit};
use crate::conn::Arrival;
use crate::handler::{HANDLER_SPACE, Message};
use crate::inbox::{Congestion, Inbox, Post};
use crate::policy::Policy;
use crate::session::Opening;
use crate::stats::{Counters, Stats};
use crate::transport::Transport;
use crate::wheel::ConnId;
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            heartbeat: Duration::from_secs(25),
            max_connections: 1_000_000,
            max_connections_per_ip: 1_000_000,
        }
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
    /// Connections handed to each worker so far.
    handed: Vec<AtomicU64>,
    next: AtomicUsize,
    ending: AtomicBool,
}

/// What the workers share.
pub(crate) struct Shared {
    hub: Hub,
    inboxes: Vec<Arc<Inbox>>,
    counters: Vec<Arc<Counters>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) congestion: Arc<Congestion>,
    pub(crate) heartbeat: Duration,
}

impl Engine {
    /// Starts the workers.
    pub fn start(config: Config) -> io::Result<Self> {
        let congestion = Arc::new(Congestion::default());
        let mut polls = Vec::new();
        let mut inboxes = Vec::new();
        let mut counters = Vec::new();
        for _ in 0..config.workers.max(1) {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            inboxes.push(Arc::new(Inbox::new(waker, Arc::clone(&congestion))));
            counters.push(Arc::new(Counters::default()));
            polls.push(poll);
        }
        let shared = Arc::new(Shared {
            hub: Hub::new(seed()?),
            inboxes,
            counters,
            admission: Admission::new(config.max_connections, config.max_connections_per_ip),
            congestion,
            heartbeat: config.heartbeat,
        });
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
            next: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        })
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
        stats.connections = stats.opened.saturating_sub(stats.closed);
        stats.admitted = self.shared.admission.in_use() as u64;
        (stats.refused_total, stats.refused_per_ip) = self.shared.admission.refused();
        stats
    }

    /// Whether [`Engine::shutdown`] has begun: the front refuses upgrades with `503`.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Closes every connection with `1001`, waits until all are gone, at most for `grace`,
    /// terminates the rest and ends the workers. Blocks meanwhile. A second call returns at once.
    pub fn shutdown(&self, grace: Duration) {
        self.ending.store(true, Ordering::Relaxed);
        for inbox in &self.shared.inboxes {
            inbox.push(Post::Shutdown(grace));
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

/// What the epochs of this process's rooms follow from.
fn seed() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(format!("no entropy: {error}")))
}

impl Shared {
    pub(crate) fn inbox(&self, worker: usize) -> &Arc<Inbox> {
        &self.inboxes[worker]
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Hands a message to every worker that has members of the room. Called with the room's
    /// order held, which is what makes all workers see the same order.
    #[inline]
    pub(crate) fn deliver(&self, order: &Order<'_>, room: &Room, message: &Prepared) {
        for worker in order.workers() {
            self.inboxes[worker].push(Post::Deliver(room.id(), message.clone()));
        }
    }

    /// Makes a connection a member of a room without presence.
    pub(crate) fn enter(&self, space: Space, name: &str, worker: usize, id: ConnId) -> Arc<Room> {
        loop {
            let room = self.hub.room(space, name);
            let mut order = room.order();
            if order.attach(worker).is_ok() {
                self.inboxes[worker].push(Post::Enter(id, Arc::clone(&room)));
                drop(order);
                return room;
            }
        }
    }

    /// Ends such a membership.
    pub(crate) fn exit(&self, room: &Arc<Room>, worker: usize) {
        if room.order().detach(worker) {
            self.hub.release(room);
        }
    }

    /// Passes a message on verbatim.
    #[inline]
    pub(crate) fn relay(&self, room: &Room, opcode: OpCode, payload: &[u8]) {
        let message = Prepared::new(opcode, payload);
        let order = room.order();
        self.deliver(&order, room, &message);
    }

    pub(crate) fn broadcast(&self, space: Space, name: &str, opcode: OpCode, payload: &[u8]) {
        if let Some(room) = self.hub.find(space, name) {
            self.relay(&room, opcode, payload);
        }
    }
}
