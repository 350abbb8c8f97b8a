//! Rooms of many nodes, in Redis.

pub(crate) mod core;
mod directory;
mod drive;
mod link;
mod log;
mod nodes;
mod options;
mod rates;
pub(crate) mod remote;
mod script;
pub(crate) mod step;
mod topology;

use std::fmt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use throng_hub::{
    Backend, Epoch, Opened, Opening, Past, Presence, Room, Sink, Space, Timestamp, Unavailable,
};

use self::core::{Held, Kind};
use crate::threads::lock;
use drive::{Drive, Handle, Job, Shared};
use log::Appender;
use options::public;
use remote::Life;
use step::{Limits, Name, NodeId};
use topology::Plan;

pub use directory::{Directory, Follower, Turn};
pub use nodes::{Listener, NodeInfo, Registry, Report};
pub use options::{RedisError, RedisMode, RedisOptions, RedisTls};
pub use rates::Rates;
pub use remote::Remote;

/// Keeps rooms in Redis, for many nodes at once: single servers, an arrangement with Sentinel, or a cluster; Redis 7 or
/// Valkey.
///
/// One script for each step of a room gives numbers, stores, trims and tells the other nodes: one command for all
/// messages that wait for a room. What a node hears on the room's channel is a hint; when something is missing it reads
/// the room's stream.
///
/// # Failure
/// While a room's server is away, its messages are refused as [`Unavailable`], and rooms that keep anything cannot be
/// opened; it tries again by itself, 50 ms to 2 s apart. A message whose answer was lost is tried again for
/// [`RedisOptions::patience`], and stored once. When Redis has lost what it had acknowledged (a failover, a restart, a
/// flush), rooms begin a new epoch.
///
/// # Cost
/// One thread; two connections for each server; at most 64 MiB and 65,536 messages that wait, beyond which they are refused.
pub struct Redis {
    shared: Arc<Shared>,
    remote: Remote,
    registry: Arc<Registry>,
    seed: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How it stands with Redis.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RedisStatus {
    /// The servers rooms are on at the moment.
    pub servers: Vec<RedisServer>,
    /// Rooms that are open.
    pub rooms: usize,
    /// Questions about them that are under way.
    pub asks: usize,
    /// Messages that wait to be stored, or are under way.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Commands sent since the start.
    pub commands: u64,
    /// Of these, for messages.
    pub appends: u64,
    /// Messages stored since the start.
    pub stored: u64,
    /// Messages that could not be stored.
    pub failed: u64,
    /// Messages refused at once.
    pub refused: u64,
    /// Questions for what may be missing, since the start.
    pub reads: u64,
    /// How often a room began anew while it was open.
    pub renewed: u64,
    /// How often a connection was lost.
    pub cuts: u64,
    /// How often what was asked (`open`, `append`, `read`, `seat`, `bury`, `cast`, `other`) ended how (`done`, `refused`,
    /// `away`, `unknown`).
    pub asks_by: Vec<(&'static str, &'static str, u64)>,
    /// How long the answers took that came, all together.
    pub latency_sum: Duration,
    /// How many came.
    pub latency_count: u64,
    /// A server that is away, and why.
    pub trouble: Option<(String, String)>,
}

/// One server.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RedisServer {
    /// Where it is.
    pub address: String,
    /// `primary`; `unknown` before it was reached.
    pub role: &'static str,
    /// Whether commands reach it.
    pub connected: bool,
    /// Whether its channels are heard.
    pub subscribed: bool,
    /// For how long that has been so.
    pub since: Duration,
    /// Why it cannot be reached.
    pub trouble: Option<String>,
}

impl Redis {
    /// Starts to work with Redis. A server that cannot be reached is tried again for ever; this waits for it for two
    /// seconds, and for ten while the first attempt is still under way.
    ///
    /// # Errors
    /// See [`RedisError`]: what waiting would not mend.
    pub fn connect(options: RedisOptions) -> Result<Arc<Self>, RedisError> {
        let node = nodes::new_id();
        let Begun { shared, remote, thread, verdict, seed } = begin(&options, node.clone())?;
        let thread = Mutex::new(Some(thread));
        if let Some(Err(error)) = first(&verdict, &shared) {
            remote.queue.close();
            return Err(error);
        }
        let registry = Registry::start(node, remote.clone(), options.node_timeout);
        let registry = registry.map_err(|error| {
            remote.queue.close();
            RedisError::System { detail: error.to_string() }
        })?;
        Ok(Arc::new(Self { shared, remote, registry, seed, thread }))
    }

    /// Asks Redis without being a node: no rooms, nobody is told. Ends with the last [`Remote`], or by
    /// [`Remote::close`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and [`RedisError::Away`] when it is not there by then.
    pub fn visit(options: RedisOptions) -> Result<Remote, RedisError> {
        let Begun { shared, mut remote, verdict, .. } = begin(&options, nodes::new_id())?;
        let life = Arc::new(Life(remote.queue.clone()));
        remote.life = Some(life);
        match first(&verdict, &shared) {
            Some(Ok(())) => Ok(remote),
            Some(Err(error)) => Err(error),
            None => {
                let trouble = shared.status().trouble;
                let (address, detail) = trouble.unwrap_or_else(|| {
                    (
                        options.urls.first().map(|url| public(url)).unwrap_or_default(),
                        "no answer".to_owned(),
                    )
                });
                Err(RedisError::Away { address, detail })
            }
        }
    }

    /// Asks Redis, from any thread.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// What this node is called; another name after it was taken for dead.
    pub fn node_id(&self) -> Arc<str> {
        self.registry.id()
    }

    /// The nodes that share rooms.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// All nodes that are alive, by name, as of the last beat.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.registry.list()
    }

    /// What users spend on all nodes together.
    pub fn rates(&self) -> Rates {
        Rates::new(self.remote.clone())
    }

    /// Where sessions are; those of this node may be away for `window`.
    pub fn directory(&self, window: Duration) -> Directory {
        Directory::new(self.remote.clone(), Arc::clone(&self.registry), window)
    }

    /// How it stands.
    pub fn status(&self) -> RedisStatus {
        self.shared.status()
    }

    /// Stores and answers what waits, for at most some seconds, takes the users of this node away, ends the thread and
    /// lets go of the sink. What is appended or opened afterwards fails. A second call does nothing. Called by `drop` as
    /// well, but a sink that owns a hub that owns this never lets it drop.
    pub fn close(&self) {
        self.registry.end();
        self.shared.queue.close();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
        self.shared.stop();
    }

    /// What a room needs Redis for.
    fn held(room: &Room) -> Held {
        let rule = room.rule();
        let kind = match (room.space(), rule.volatile, rule.presence) {
            (Space::ROOMS, false, _) => Kind::Kept,
            (Space::ROOMS, true, presence) if presence != Presence::Off => Kind::Seen,
            _ => Kind::Cast,
        };
        // More than the room keeps, so that others can fill holes.
        let limits = Limits {
            size: rule.history.size.max(HOLE_SIZE),
            bytes: rule.history.bytes.max(HOLE_BYTES),
            ttl: drive::millis(rule.history.ttl.clamp(HOLE_TTL, YEARS)),
            replicas: rule.replicas,
        };
        Held { limits, kind }
    }
}

/// What works before there are rooms.
struct Begun {
    shared: Arc<Shared>,
    remote: Remote,
    thread: JoinHandle<()>,
    verdict: Receiver<Result<(), RedisError>>,
    seed: u64,
}

fn begin(options: &RedisOptions, node: NodeId) -> Result<Begun, RedisError> {
    let system = |detail: String| RedisError::System { detail };
    let plan = Plan::new(options)?;
    let mut seeds = [0; 3];
    for seed in &mut seeds {
        *seed = getrandom::u64().map_err(|error| system(error.to_string()))?;
    }
    let shared = Arc::new(Shared::default());
    let queue = shared.queue.clone();
    let (prefix, min_replicas) = (options.prefix.as_str().into(), options.min_replicas);
    let remote = Remote { queue, prefix, min_replicas, life: None };
    let (tell, verdict) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| system(error.to_string()))?;
    let (options, ours) = (options.clone(), shared.clone());
    let work = move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let seeds = [seeds[1], seeds[2]];
            Drive::new((plan, &options), (node, seeds), ours, tell).run().await;
        });
    };
    let thread = thread::Builder::new().name("throng-redis".to_owned()).spawn(work);
    let thread = thread.map_err(|error| system(error.to_string()))?;
    Ok(Begun { shared, remote, thread, verdict, seed: seeds[0] })
}

impl Backend for Redis {
    fn start(&self, sink: Arc<dyn Sink>) {
        self.shared.start(sink);
    }

    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Opening {
        let held = Self::held(room);
        let name: Name = match room.space() {
            Space::ROOMS => room.name().into(),
            Space(number) => format!("#{number}/{}", room.name()).into(),
        };
        let open = held.kind == Kind::Cast;
        let handle = Handle { name, room: room.clone(), slot: Arc::default(), open };
        let log = Appender::new(self.shared.clone(), &handle);
        let pushed = self.shared.queue.push(Job::Open { handle, held });
        if open {
            return Opening::Ready(Opened {
                epoch: Epoch::new(self.seed, room.id().0),
                seq: 0,
                time: now,
                past: Past::None,
                refs: Vec::new(),
                elsewhere: Vec::new(),
                log: Box::new(log),
            });
        }
        log.forget();
        if pushed.is_err() {
            // Not from here: the caller holds locks that the sink takes.
            let (shared, room) = (self.shared.clone(), room.clone());
            let closed = thread::Builder::new().name("throng-closed".to_owned());
            let _ = closed.spawn(move || shared.tell(|sink| sink.opened(&room, Err(Unavailable))));
        }
        Opening::Later
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// How it went at first; `None` when that cannot be said for now. A machine that is busy is no reason to give up: whoever
/// has not been refused is waited for.
fn first(
    verdict: &Receiver<Result<(), RedisError>>,
    shared: &Shared,
) -> Option<Result<(), RedisError>> {
    let start = Instant::now();
    loop {
        match verdict.recv_timeout(LOOK) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let is_away = shared.status().servers.iter().any(|server| server.trouble.is_some());
        if start.elapsed() >= if is_away { FIRST } else { SLOW } {
            return None;
        }
    }
}

/// How long a server that is away at first is waited for.
const FIRST: Duration = Duration::from_secs(2);
/// How long one that neither answers nor refuses is.
const SLOW: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// What Redis keeps of every room, so that a node that has missed something can read it.
const HOLE_SIZE: usize = 256;
const HOLE_BYTES: usize = 256 << 10;
const HOLE_TTL: Duration = Duration::from_secs(60);
/// Longer than anybody means.
const YEARS: Duration = Duration::from_secs(20 * 366 * 24 * 3600);
