use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode, params};
use throng_hub::{Outcome, Timestamp, Unavailable};

use super::file::{self, Source};
use super::item::Item;
use super::registry::Job;
use super::slot::{Counters, Slot, cost, millis};
use super::trim::{self, Sweep};
use super::{Shared, Stats, lock};

/// The one that writes: it takes what waits, stores it in one transaction, answers, and begins anew.
pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    source: Source,
    connection: Option<Connection>,
    /// Taken from the queue.
    backlog: VecDeque<Item>,
    taken: Vec<Item>,
    /// What is being stored.
    batch: Vec<Item>,
    outcomes: Vec<Outcome>,
    touched: Touched,
    /// Transactions that failed, one behind the other.
    failures: u32,
    sweep: Duration,
    next_sweep: Instant,
}

/// The rooms a transaction has changed, each with what it was before.
#[derive(Default)]
pub(super) struct Touched {
    rooms: Vec<(Arc<Slot>, Counters)>,
    turn: u64,
}

impl Touched {
    /// A transaction begins.
    pub(super) fn begin(&mut self) {
        self.rooms.clear();
        self.turn += 1;
    }

    /// A room is going to be changed.
    pub(super) fn note(&mut self, slot: &Arc<Slot>, counters: &mut Counters) {
        if counters.turn != self.turn {
            self.rooms.push((slot.clone(), counters.clone()));
            counters.turn = self.turn;
        }
    }

    /// The transaction did not happen.
    pub(super) fn undo(&mut self) {
        for (slot, before) in self.rooms.drain(..) {
            *slot.counters() = before;
        }
    }
}

/// Why nothing was stored.
struct Failure {
    error: rusqlite::Error,
    /// While storing this one of the batch.
    at: Option<usize>,
    /// Everything had been written, and was to be made valid.
    committing: bool,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self { error, at: None, committing: false }
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        jobs: Sender<Job>,
        source: Source,
        connection: Connection,
        sweep: Duration,
    ) -> Self {
        Self {
            shared,
            jobs,
            source,
            connection: Some(connection),
            backlog: VecDeque::new(),
            taken: Vec::new(),
            batch: Vec::new(),
            outcomes: Vec::new(),
            touched: Touched::default(),
            failures: 0,
            sweep: sweep.clamp(Duration::from_millis(1), Duration::from_secs(24 * 60 * 60)),
            next_sweep: Instant::now(), // what has become too old in the meantime
        }
    }

    /// Works until the queue is closed and empty; then notes that the file is closed in good order. The
    /// connection is to be dropped behind all others.
    pub(super) fn run(mut self) -> Option<Connection> {
        loop {
            if self.backlog.is_empty() {
                let more = self.shared.queue.take(&mut self.taken, Some(self.next_sweep));
                self.backlog.shrink_to(SPACE_KEPT);
                self.backlog.extend(self.taken.drain(..));
                self.taken.shrink_to(SPACE_KEPT);
                if !more {
                    break;
                }
            }
            if !self.backlog.is_empty() {
                self.store_next();
            }
            if Instant::now() >= self.next_sweep {
                self.sweep();
            }
        }
        let finished = self.connect().and_then(file::finish);
        if let Err(error) = finished {
            tracing::warn!(%error, "the database could not be closed in good order");
        }
        self.connection
    }

    /// Stores a part of the backlog, and answers.
    fn store_next(&mut self) {
        let mut bytes = 0;
        while self.batch.len() < BATCH_MESSAGES
            && bytes < BATCH_BYTES
            && let Some(item) = self.backlog.pop_front()
        {
            bytes += item.bytes();
            self.batch.push(item);
        }
        let started = Instant::now();
        let stored = self.store();
        let counts = &self.shared.counts;
        let failed = match stored {
            Ok(()) => {
                let stored = self.batch.iter().filter(|item| item.outcome.result.is_ok()).count();
                counts.commit(stored, self.batch.len() - stored, started.elapsed());
                for (slot, before) in self.touched.rooms.drain(..) {
                    if before.row == 0 {
                        self.shared.registry.add(slot.hash());
                    }
                    drop(lock(&slot.opening)); // the sink may still be busy with its opening
                }
                self.recovered();
                false
            }
            Err(failure) => {
                counts.fail(self.batch.len());
                self.fail(failure);
                true
            }
        };
        self.shared.queue.answered(self.batch.len());
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.outcomes.extend(self.batch.drain(..).map(|item| item.outcome));
        self.shared.appended(&mut self.outcomes);
        if failed {
            let pause = PAUSE * 2u32.pow(self.failures.min(6) - 1);
            self.shared.queue.pause(pause.min(LONGEST_PAUSE));
        }
    }

    /// Stores the batch in one transaction, and puts the results into it.
    fn store(&mut self) -> Result<(), Failure> {
        self.connect()?;
        let Self { connection: Some(connection), batch, touched, .. } = self else {
            return Ok(()); // just connected
        };
        touched.begin();
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        {
            let mut insert = connection.prepare_cached(
                "INSERT INTO messages (room, seq, time, session, ref, head, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            let mut note = connection.prepare_cached(trim::NOTE)?;
            for (at, Item { slot, now, outcome }) in batch.iter_mut().enumerate() {
                let mut counters = slot.counters();
                if counters.broken {
                    continue; // the result is that it is not stored
                }
                touched.note(slot, &mut counters);
                let failure = |error| Failure { error, at: Some(at), committing: false };
                counters.seq += 1;
                counters.time = counters.time.max(*now);
                place(connection, slot, &mut counters, outcome).map_err(failure)?;
                if slot.keeps() {
                    let body = &outcome.body;
                    let values = params![
                        counters.row,
                        counters.seq as i64,
                        counters.time.0 as i64,
                        &*outcome.session,
                        outcome.reference as i64,
                        body.head(),
                        body.text(),
                    ];
                    insert.execute(values).map_err(failure)?;
                    counters.bytes += cost(body.len());
                } else {
                    if outcome.reference != 0 {
                        let values = params![
                            counters.row,
                            counters.seq as i64,
                            counters.time.0 as i64,
                            &*outcome.session,
                            outcome.reference as i64,
                        ];
                        note.execute(values).map_err(failure)?;
                    }
                    // Nothing to be removed, unless there is from before.
                    counters.first += u64::from(counters.first == counters.seq);
                    counters.floor = counters.seq + 1;
                }
                outcome.result = Ok((counters.seq, counters.time));
            }
        }
        let mut trimmed = 0;
        // More than comes in, so that it ends; not much more, so that it does not take long.
        let budget = TRIMMED + 2 * batch.len();
        for (slot, before) in &touched.rooms {
            let mut counters = slot.counters();
            if !slot.keeps() {
                connection
                    .prepare_cached("UPDATE rooms SET seq = ?2, time = ?3 WHERE id = ?1")?
                    .execute(params![counters.row, counters.seq as i64, counters.time.0 as i64])?;
            }
            let most = TRIMMED_OF_ROOM + 2 * (counters.seq - before.seq) as usize;
            let most = most.min(budget - trimmed);
            trimmed += trim::trim(connection, &mut counters, slot.history(), most)?;
        }
        let commit = connection.prepare_cached("COMMIT")?.execute([]);
        commit.map_err(|error| Failure { error, at: None, committing: true })?;
        self.shared.counts.trim(trimmed);
        Ok(())
    }

    /// Goes back to what was before the batch.
    fn fail(&mut self, failure: Failure) {
        let Failure { error, at, committing } = failure;
        self.touched.undo();
        for item in &mut self.batch {
            item.outcome.result = Err(Unavailable);
        }
        self.shared.counts.trouble(Some(error.to_string()));
        if self.failures == 0 {
            tracing::error!(%error, "messages cannot be stored");
        }
        self.failures = self.failures.saturating_add(1);
        if let Some(connection) = &self.connection {
            roll_back(connection);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                // It would fail each time: only this room shall suffer.
                if let Some(item) = at.and_then(|at| self.batch.get(at)) {
                    let room = item.outcome.room.name();
                    tracing::error!(room, %error, "a room is closed for messages");
                    item.slot.counters().broken = true;
                }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {}
            Some(ErrorCode::DiskFull) => self.make_room(),
            _ if committing && !self.settle() => {} // a new connection would look at the log
            _ => self.connection = None,
        }
    }

    /// Copies the write-ahead log into the file, where there may be free pages, so that it can begin
    /// anew instead of growing.
    fn make_room(&self) {
        if let Some(connection) = &self.connection {
            let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(error) = copied {
                tracing::debug!(%error, "the write-ahead log stays as it is");
            }
        }
    }

    /// Makes sure that a transaction whose commit failed stays undone. Its pages may be in the write-ahead
    /// log as a whole (it was only the flush to the disk that failed), where the next start would find them;
    /// the next transaction takes their place. Says whether there was one.
    fn settle(&self) -> bool {
        let Some(connection) = &self.connection else { return false };
        for _ in 0..SETTLE_TRIES {
            let settled = connection.execute_batch(
                "BEGIN IMMEDIATE;
                 INSERT OR REPLACE INTO meta
                 SELECT 'settled', 1 + coalesce((SELECT value FROM meta WHERE key = 'settled'), 0);
                 COMMIT",
            );
            if settled.is_ok() {
                return true;
            }
            roll_back(connection);
            self.shared.queue.pause(SETTLE_PAUSE);
        }
        false
    }

    fn recovered(&mut self) {
        if mem::take(&mut self.failures) > 0 {
            self.shared.counts.trouble(None);
            tracing::info!("messages are stored again");
        }
    }

    /// Removes some of what is too old.
    fn sweep(&mut self) {
        let Some(connection) = &self.connection else {
            self.next_sweep = Instant::now() + self.sweep;
            return;
        };
        let mut sweep = Sweep {
            registry: &self.shared.registry,
            jobs: &self.jobs,
            touched: &mut self.touched,
            recheck: millis(self.sweep * 120),
        };
        let now = wall_clock();
        let step = trim::forget(connection, now).and_then(|more_refs| {
            let (trimmed, more) = sweep.step(connection, now)?;
            Ok((trimmed, more || more_refs))
        });
        let (trimmed, more) = match step {
            Ok(step) => step,
            Err(error) => {
                tracing::warn!(%error, "old messages cannot be removed");
                (0, false)
            }
        };
        self.shared.counts.trim(trimmed);
        // Step by step, and messages in between.
        self.next_sweep = Instant::now() + if more { SWEEP_PAUSE } else { self.sweep };
    }

    fn connect(&mut self) -> rusqlite::Result<&Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.source.writer()?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// Makes sure that a room has a row before its message is stored.
fn place(
    connection: &Connection,
    slot: &Slot,
    counters: &mut Counters,
    outcome: &Outcome,
) -> rusqlite::Result<()> {
    let ttl = millis(slot.history().ttl);
    if counters.row == 0 {
        let room = &outcome.room;
        let mut insert = connection.prepare_cached(
            "INSERT INTO rooms (space, name, epoch, seq, time, ttl, due)
             VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6)",
        )?;
        counters.row = insert.insert(params![
            room.space().0,
            room.name(),
            counters.epoch as i64,
            counters.time.0 as i64,
            i64::try_from(ttl).unwrap_or(i64::MAX),
            trim::due(counters.time.0, ttl),
        ])?;
        counters.ttl = ttl;
    } else if counters.ttl != ttl {
        // The rule is another one than before: the next sweep sees to it.
        connection
            .prepare_cached("UPDATE rooms SET ttl = ?2, due = 0 WHERE id = ?1")?
            .execute(params![counters.row, i64::try_from(ttl).unwrap_or(i64::MAX)])?;
        counters.ttl = ttl;
    }
    Ok(())
}

/// Ends a transaction that SQLite has not ended by itself.
pub(super) fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "a transaction cannot be rolled back");
    }
}

fn wall_clock() -> Timestamp {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(time.map_or(0, millis))
}

/// What has happened.
#[derive(Default)]
pub(super) struct Counts {
    commits: AtomicU64,
    appended: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    trimmed: AtomicU64,
    loaded: AtomicU64,
    last_commit: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Counts {
    pub(super) fn stats(&self) -> Stats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            commits: read(&self.commits),
            appended: read(&self.appended),
            failed: read(&self.failed),
            refused: read(&self.refused),
            trimmed: read(&self.trimmed),
            loaded: read(&self.loaded),
            last_commit: Duration::from_nanos(read(&self.last_commit)),
            trouble: lock(&self.trouble).clone(),
            ..Stats::default()
        }
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn load(&self) {
        self.loaded.fetch_add(1, Ordering::Relaxed);
    }

    fn commit(&self, stored: usize, failed: usize, took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.appended.fetch_add(stored as u64, Ordering::Relaxed);
        self.failed.fetch_add(failed as u64, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.last_commit.store(nanos, Ordering::Relaxed);
    }

    fn fail(&self, messages: usize) {
        self.failed.fetch_add(messages as u64, Ordering::Relaxed);
    }

    fn trim(&self, messages: usize) {
        self.trimmed.fetch_add(messages as u64, Ordering::Relaxed);
    }

    fn trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }
}

/// The most that one transaction stores.
const BATCH_MESSAGES: usize = 4096;
const BATCH_BYTES: usize = 4 << 20;

/// After a burst the vectors shrink to so many messages.
const SPACE_KEPT: usize = 2 * BATCH_MESSAGES;

/// The most messages that one transaction removes, beside twice those it stores: of all rooms, and of one.
const TRIMMED: usize = 4096;
const TRIMMED_OF_ROOM: usize = 256;

/// After a failure, doubled with each further one.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

const SETTLE_TRIES: usize = 10;
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// Between two steps of a sweep.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{OnceLock, mpsc};

    use super::super::registry::Registry;
    use super::super::{Options, file};
    use super::*;

    #[test]
    fn a_failed_commit_is_settled_by_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = file::open(dir.path(), Options::default()).unwrap();
        let shared = Arc::new(Shared {
            queue: crate::threads::Queue::default(),
            queued_bytes: AtomicUsize::new(0),
            registry: Arc::new(Registry::new(file.secret, file.era, file.rooms)),
            counts: Counts::default(),
            sink: Mutex::default(),
            voice: OnceLock::new(),
        });
        let (jobs, _) = mpsc::channel();
        let sweep = Duration::from_secs(1);
        let writer = Writer::new(shared, jobs, file.source.clone(), file.connection, sweep);
        let settled = || {
            let value = "SELECT value FROM meta WHERE key = 'settled'";
            file.source.reader().unwrap().query_row(value, [], |row| row.get::<_, i64>(0))
        };
        assert!(writer.settle());
        assert_eq!(settled(), Ok(1));
        assert!(writer.settle());
        assert_eq!(settled(), Ok(2));
    }
}
