//! Rooms on disk.
//!
//! # The file
//!
//! `throng.db`, one SQLite database in WAL mode, with four tables:
//!
//! ```text
//!   meta      key → value: secret, era, and how the last run ended
//!   rooms     id, space, name → epoch, seq, time     one row for each room with a past
//!   messages  id → room, seq, time, session, ref, body
//!   refs      n → room, seq, time, session, ref      of messages that are gone
//! ```
//!
//! `messages` is keyed by one sequence for all rooms, so that inserts go to the right edge of one
//! tree and removals come from its left; the index on `(room, seq)` finds a room's own. The row of a room
//! is written with its first message: rooms that are only visited leave no trace on the disk. Its
//! `seq` is brought up to date when the newest message goes, and else follows from that.
//!
//! A `ref` stays known when its message goes: it moves to `refs` in the same transaction, for as long as its
//! session can come back ([`REMEMBERED`](throng_hub::REMEMBERED)). Where messages are not kept at
//! all it is written there at once. `refs` is a queue: what was added first is too old first.
//!
//! Pages of removed messages are used again; the file does not shrink (`VACUUM` by hand does that, with the
//! server stopped). `auto_vacuum` would cost a pointer page for every page that moves.
//!
//! # Epochs
//!
//! The epoch of a room without a row is a keyed hash of its name and of the *era*, a number in `meta`. So it
//! survives restarts although nothing is stored. When a row is removed whose epoch is that of the current
//! era, the next era begins in the same transaction: no epoch is ever used for two pasts.
//!
//! # Threads
//!
//! ```text
//!   Log::append ──▶ Queue ──▶ Writer: BEGIN … COMMIT ──▶ Sink::appended
//!   open ──▶ Registry: no row ──▶ Ready
//!                      row ──▶ Readers: SELECT ──▶ Sink::opened
//! ```
//!
//! The writer takes everything that waits (up to 4096 messages or 4 MiB), numbers it and commits
//! it together; then it answers. In between it removes what is too old, in small steps.
//!
//! Locks: the queue, the registry, the counters of a room: each for itself and for microseconds, none
//! while the disk is waited for or the sink is called.

mod file;
mod item;
mod reader;
mod registry;
mod slot;
mod trim;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use throng_hub::{
    Append, Backend, Draft, Kept, Log, Opened, Opening, Outcome, Past, Room, Sink, Timestamp,
    Unavailable,
};

use crate::threads::{Queue, guard, lock};
use item::Item;
use registry::{Found, Job, Registry};
use slot::Slot;
use writer::{Counts, Writer};

/// Keeps rooms in a file. See [`Options`] for what that survives.
///
/// # Failure
/// When the disk is full, read-only or broken, messages are refused as [`Unavailable`] and rooms that have
/// a row cannot be opened; it tries again by itself, at least twice a second as long as there are
/// messages. Nothing that was acknowledged is lost by that.
///
/// # Cost
/// One thread that writes, and up to four that read. [`Options::cache`] for the writer and as much for each
/// reader; 10 to 20 bytes for each room on the disk; at most 64 MiB of messages that wait, beyond which
/// messages are refused ([`Sqlite::queued_bytes`] tells in time).
pub struct Sqlite {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    threads: Mutex<Threads>,
    secret: [u8; 32],
}

/// How rooms are kept on disk.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a message that was acknowledged survives. Default [`SyncMode::Full`].
    pub sync: SyncMode,
    /// Pages kept in memory for writing, and as many for each reader, in bytes. Default 16 MiB.
    pub cache: usize,
    /// How large the file may become, in bytes; then it counts as a full disk. The write-ahead log beside it
    /// takes up to about 64 MiB more. Default no limit.
    pub limit: Option<u64>,
    /// How often messages are looked for that are too old, from 1 ms to a day. A room that nobody needs, and
    /// of which nothing is left, may stay for 120 times as long. Default 30 s.
    pub sweep: Duration,
}

/// What a message that was acknowledged survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// A loss of power: each group of messages waits for the disk.
    #[default]
    Full,
    /// The end of the process, however sudden, but not that of the machine: then the last seconds may be
    /// missing. Since their numbers were told to clients, all epochs change after a start that follows
    /// neither an orderly end nor a run in the same boot of the machine: every client is told
    /// that it cannot be sure to have everything.
    Normal,
}

impl Default for Options {
    fn default() -> Self {
        Self { sync: SyncMode::Full, cache: 16 << 20, limit: None, sweep: Duration::from_secs(30) }
    }
}

/// What has happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Transactions with messages.
    pub commits: u64,
    /// Messages stored.
    pub appended: u64,
    /// Messages that could not be stored.
    pub failed: u64,
    /// Messages refused because too many waited.
    pub refused: u64,
    /// Messages that wait to be stored.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Messages removed because they were too many, too large or too old.
    pub trimmed: u64,
    /// Rooms that have a row.
    pub rooms: usize,
    /// Rooms opened from the disk.
    pub loaded: u64,
    /// How long the last transaction with messages took.
    pub last_commit: Duration,
    /// Why the disk cannot be written at the moment.
    pub trouble: Option<String>,
}

impl Sqlite {
    /// Opens `throng.db` in a directory. Both are created if missing, for this user only.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is changed then.
    ///
    /// Cost: reads the name of every room; about a second for a million.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let file::File { source, connection, secret, era, rooms } = file::open(dir, options)?;
        let sweep = source.options().sweep;
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            queued_bytes: AtomicUsize::new(0),
            registry: Arc::new(Registry::new(secret, era, rooms)),
            counts: Counts::default(),
            sink: Mutex::new(None),
            voice: OnceLock::new(),
        });
        let (jobs, todo) = mpsc::channel();
        let failed = |cause| OpenError::Thread { cause };
        let writer = Writer::new(shared.clone(), jobs.clone(), source.clone(), connection, sweep);
        let writer = spawn("throng-write", move || writer.run()).map_err(failed)?;
        let sqlite = Self {
            shared,
            jobs,
            threads: Mutex::new(Threads { writer: Some(writer), readers: Vec::new() }),
            secret,
        };
        let todo = Arc::new(Mutex::new(todo));
        for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()).min(READERS) {
            let (shared, todo, source) = (sqlite.shared.clone(), todo.clone(), source.clone());
            let reader = spawn("throng-read", move || reader::run(&shared, &todo, source));
            lock(&sqlite.threads).readers.push(reader.map_err(failed)?);
        }
        Ok(sqlite)
    }

    /// A secret of 256 bits that belongs to the file: drawn when it was created, the same ever after.
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// The bytes of the messages that wait to be stored. Above a few MiB the disk does not keep up, and
    /// publishers should be held back. One atomic load.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }

    /// What has happened since the start.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.counts.stats();
        stats.queued = self.shared.queue.len();
        stats.queued_bytes = self.queued_bytes();
        stats.rooms = self.shared.registry.rows();
        stats
    }

    /// Stores and answers what waits, marks the file as orderly closed, ends the threads and lets go of the
    /// directory and of the sink. What is appended or opened afterwards fails. Waits for the disk; a second
    /// call does nothing. Called by `drop` as well, but a sink that owns a hub that owns
    /// this never lets it drop.
    pub fn close(&self) {
        self.shared.registry.close();
        self.shared.queue.close();
        let Threads { writer, readers } = std::mem::take(&mut *lock(&self.threads));
        // The writer first, which may still find work for the readers; its connection last.
        let connection = writer.and_then(join);
        for _ in &readers {
            let _ = self.jobs.send(Job::End);
        }
        for reader in readers {
            join(reader);
        }
        drop(connection);
        let sink = lock(&self.shared.sink).take();
        drop(sink); // which may drop anything, this included: not under a lock
    }
}

impl Backend for Sqlite {
    fn start(&self, sink: Arc<dyn Sink>) {
        let _ = self.shared.voice.set(Arc::downgrade(&sink));
        *lock(&self.shared.sink) = Some(sink);
    }

    fn open(&self, room: &Arc<Room>, now: Timestamp) -> Opening {
        let slot = Slot::new(&self.shared.registry, room);
        match self.shared.registry.open(room, &slot, now, &self.jobs) {
            Found::Fresh(era) => Opening::Ready(self.shared.fresh(room, slot, era, now)),
            Found::Later => Opening::Later,
            Found::Closed => {
                // Not from here: the caller holds locks that the sink takes.
                let (shared, room) = (self.shared.clone(), room.clone());
                let _ = spawn("throng-closed", move || shared.opened(&room, Err(Unavailable)));
                Opening::Later
            }
        }
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory or a file in it cannot be created or opened: permissions, a read-only disk.
    #[error("{} cannot be used: {cause}", path.display())]
    Access {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Another process has it, or this one a second time.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file is damaged, or no database.
    #[error("{} is damaged: {detail}. Move it away, or bring it back from a backup", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// The file is a database of something else.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later version.
    #[error("{} has format {found}, and this version knows {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: i64,
        /// The newest this version knows.
        known: i64,
    },
    /// SQLite cannot open or prepare the file: the disk is full, broken, or does not lock.
    #[error("{} cannot be opened: {detail}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// The system has no random numbers for the secret of a new file.
    #[error("no random numbers: {detail}")]
    Random {
        /// What the system says.
        detail: String,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {cause}")]
    Thread {
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// What the threads and the open rooms share.
struct Shared {
    queue: Queue<Item>,
    /// Of all that has not been answered, also what the writer has taken.
    queued_bytes: AtomicUsize,
    registry: Arc<Registry>,
    counts: Counts,
    /// Until the end; then only those who use it keep it.
    sink: Mutex<Option<Arc<dyn Sink>>>,
    voice: OnceLock<Weak<dyn Sink>>,
}

impl Shared {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.voice.get()?.upgrade()
    }

    fn opened(&self, room: &Arc<Room>, result: Result<Opened, Unavailable>) {
        if let Some(sink) = self.sink() {
            guard(|| sink.opened(room, result));
        }
    }

    fn appended(&self, outcomes: &mut Vec<Outcome>) {
        if let Some(sink) = self.sink() {
            guard(|| sink.appended(outcomes));
        }
        outcomes.clear();
    }

    /// A room without a past.
    fn fresh(
        self: &Arc<Self>,
        room: &Arc<Room>,
        slot: Arc<Slot>,
        era: u64,
        now: Timestamp,
    ) -> Opened {
        let epoch = self.registry.epoch(era, room.space(), room.name());
        slot.counters().begin(epoch, now);
        let log = self.log(room, slot);
        Opened {
            epoch,
            seq: 0,
            time: now,
            past: Past::None,
            refs: Vec::new(),
            elsewhere: Vec::new(),
            log,
        }
    }

    fn log(self: &Arc<Self>, room: &Arc<Room>, slot: Arc<Slot>) -> Box<dyn Log> {
        Box::new(Appender { shared: self.clone(), room: Arc::downgrade(room), slot })
    }
}

/// The messages of an open room.
struct Appender {
    shared: Arc<Shared>,
    /// The room has this, not the other way round.
    room: Weak<Room>,
    slot: Arc<Slot>,
}

impl Log for Appender {
    fn append(&mut self, draft: &Draft<'_>, now: Timestamp) -> Append {
        let refused = Append::Refused(Unavailable);
        if self.shared.queued_bytes.load(Ordering::Relaxed) > MAX_QUEUED {
            // The disk hangs.
            self.shared.counts.refuse();
            return refused;
        }
        let Some(room) = self.room.upgrade() else { return refused };
        let Draft { session, reference, asker, .. } = *draft;
        let outcome = Outcome {
            room,
            asker,
            session: session.into(),
            reference,
            body: draft.body(),
            result: Err(Unavailable),
            duplicate: false,
        };
        let count = |item: &Item| {
            self.shared.queued_bytes.fetch_add(item.bytes(), Ordering::Relaxed);
            true
        };
        match self.shared.queue.push(Item { slot: self.slot.clone(), now, outcome }, count) {
            Ok(()) => Append::Later,
            Err(_closed) => refused,
        }
    }

    fn close(self: Box<Self>, _kept: Kept) {}
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("slot", &self.slot).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<Option<Connection>>>,
    readers: Vec<JoinHandle<()>>,
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Waits for a thread, unless it is this one: a sink may be the last to let go of the backend.
fn join<T: Default>(thread: JoinHandle<T>) -> T {
    if thread.thread().id() == thread::current().id() {
        return T::default();
    }
    thread.join().unwrap_or_else(|_panic| {
        tracing::error!("a thread of the database ended with a panic");
        T::default()
    })
}

/// Beyond so many bytes that wait, messages are refused.
const MAX_QUEUED: usize = 64 << 20;

/// The most threads that read.
const READERS: usize = 4;
