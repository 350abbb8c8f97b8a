use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::file::Source;
use super::ledger::{Counts, Ledger, Tally, VaultStats};
use super::lists::Lists;
use super::queue::{Kind, Waiting};
use super::{OpenError, guard, lock};
use crate::threads::Queue;

/// The one that works: it takes what waits, does it in one transaction, answers, and begins anew.
pub(super) struct Clerk {
    shared: Arc<Shared>,
    source: Source,
    connection: Option<Connection>,
    run: i64,
    /// Taken from the queue.
    backlog: VecDeque<Waiting>,
    taken: Vec<Waiting>,
    /// What is being done; in between, what must be tried again.
    batch: Vec<Waiting>,
    /// Changes when another connection has committed.
    version: i64,
    next_look: Instant,
    /// Transactions that failed, one behind the other.
    failures: u32,
    /// Only a change shows that the last trouble is over.
    unwritable: bool,
}

/// What the thread and the vaults share.
pub(super) struct Shared {
    pub(super) queue: Queue<Waiting>,
    pub(super) lists: Mutex<Lists>,
    pub(super) changed: Mutex<Option<Box<dyn FnMut() + Send>>>,
    counts: Mutex<Counts>,
    commits: AtomicU64,
    trouble: Mutex<Option<String>>,
    pub(super) opened: Instant,
    /// Sessions of earlier runs have been removed.
    pub(super) alone: AtomicBool,
}

impl Shared {
    pub(super) fn stats(&self) -> VaultStats {
        let counts = *lock(&self.counts);
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        VaultStats {
            tickets: number(counts.tickets),
            sessions: number(counts.sessions),
            users: number(counts.users),
            queued: self.queue.len(),
            commits: self.commits.load(Ordering::Relaxed),
            trouble: lock(&self.trouble).clone(),
        }
    }
}

impl Clerk {
    /// Opens the file.
    pub(super) fn new(source: Source) -> Result<(Self, Arc<Shared>), OpenError> {
        let connection = source.open()?;
        let mut run = [0; 8];
        getrandom::fill(&mut run)
            .map_err(|error| OpenError::Random { detail: error.to_string() })?;
        let load =
            || Ok((version(&connection)?, Counts::load(&connection)?, Lists::load(&connection)?));
        let (version, counts, lists) = load().map_err(|error| source.refusal(&error))?;
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            lists: Mutex::new(lists),
            changed: Mutex::default(),
            counts: Mutex::new(counts),
            commits: AtomicU64::new(0),
            trouble: Mutex::default(),
            opened: Instant::now(),
            alone: AtomicBool::new(false),
        });
        let clerk = Self {
            shared: shared.clone(),
            source,
            connection: Some(connection),
            run: i64::from_ne_bytes(run),
            backlog: VecDeque::new(),
            taken: Vec::new(),
            batch: Vec::new(),
            version,
            next_look: Instant::now() + LOOK,
            failures: 0,
            unwritable: false,
        };
        Ok((clerk, shared))
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        loop {
            if self.backlog.is_empty() {
                let until = match self.batch.is_empty() {
                    true => self.source.is_file().then_some(self.next_look),
                    false => Some(Instant::now()),
                };
                let more = self.shared.queue.take(&mut self.taken, until);
                self.backlog.shrink_to(SPACE_KEPT);
                self.backlog.extend(self.taken.drain(..));
                self.taken.shrink_to(SPACE_KEPT);
                if !more {
                    break;
                }
            }
            self.work();
            if Instant::now() >= self.next_look {
                self.look();
                self.next_look = Instant::now() + LOOK;
            }
        }
        self.work();
        for left in self.batch.drain(..) {
            tracing::warn!("sessions that are over stay in the file");
            left.task.answer(false);
        }
    }

    /// Does a part of the backlog, and answers.
    fn work(&mut self) {
        let room = BATCH.saturating_sub(self.batch.len()).min(self.backlog.len());
        self.batch.extend(self.backlog.drain(..room));
        if self.batch.is_empty() {
            return;
        }
        let writes = self.batch.iter().any(|job| job.kind != Kind::Read);
        match self.attempt(writes) {
            Ok(()) => {
                self.shared.queue.answered(self.batch.len());
                for job in self.batch.drain(..) {
                    job.task.answer(true);
                }
            }
            Err(error) => {
                self.fail(&error);
                self.answer_failed();
                let pause = PAUSE * 2u32.pow(self.failures.min(6) - 1);
                self.shared.queue.pause(pause.min(LONGEST_PAUSE));
            }
        }
    }

    /// Does the batch in one transaction.
    fn attempt(&mut self, writes: bool) -> rusqlite::Result<()> {
        self.connect()?;
        let Self { connection: Some(connection), shared, batch, run, .. } = self else {
            return Ok(()); // just connected
        };
        let before = connection.total_changes();
        let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
        connection.prepare_cached(begin)?.execute([])?;
        let mut ledger = Ledger::new(connection, *run, *lock(&shared.counts));
        for job in batch {
            job.task.run(&mut ledger)?;
        }
        let tally = ledger.tally;
        connection.prepare_cached("COMMIT")?.execute([])?;
        let changed = connection.total_changes() != before;
        shared.apply(tally);
        if writes && (changed || !self.unwritable) {
            self.recovered();
        }
        Ok(())
    }

    /// Goes back to what was before the batch.
    fn fail(&mut self, error: &rusqlite::Error) {
        *lock(&self.shared.trouble) = Some(error.to_string());
        if self.failures == 0 {
            tracing::error!(%error, "tickets and sessions cannot be stored");
        }
        self.failures = self.failures.saturating_add(1);
        let Some(connection) = &self.connection else { return };
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction cannot be rolled back");
        }
        let code = error.sqlite_error_code();
        self.unwritable =
            !matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
        match code {
            _ if !self.unwritable || !self.source.is_file() => {}
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {}
            Some(ErrorCode::DiskFull) => {
                // Begins the write-ahead log anew instead of letting it grow.
                let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
                if let Err(error) = copied {
                    tracing::debug!(%error, "the write-ahead log stays as it is");
                }
            }
            _ => self.connection = None,
        }
    }

    /// What only reads may still be had; what must be done stays.
    fn answer_failed(&mut self) {
        let reads = self.batch.iter().any(|job| job.kind == Kind::Read);
        let connected = reads && self.connect().is_ok();
        let connection = self.connection.as_ref().filter(|_| connected);
        let counts = *lock(&self.shared.counts);
        let mut kept = Vec::new();
        for mut job in self.batch.drain(..) {
            if job.kind == Kind::Must {
                kept.push(job);
                continue;
            }
            let done = job.kind == Kind::Read
                && connection.is_some_and(|connection| {
                    job.task.run(&mut Ledger::new(connection, self.run, counts)).is_ok()
                });
            self.shared.queue.answered(1);
            job.task.answer(done);
        }
        self.batch = kept;
    }

    fn recovered(&mut self) {
        self.unwritable = false;
        if std::mem::take(&mut self.failures) > 0 {
            *lock(&self.shared.trouble) = None;
            tracing::info!("tickets and sessions are stored again");
        }
    }

    /// Looks whether another process has committed something.
    fn look(&mut self) {
        let (Some(connection), true) = (&self.connection, self.source.is_file()) else { return };
        match version(connection) {
            Ok(version) if version == self.version => {}
            Ok(version) => match self.shared.load(connection) {
                Ok(()) => {
                    self.version = version;
                    self.shared.tell();
                }
                Err(error) => tracing::warn!(%error, "what has changed cannot be read"),
            },
            Err(error) => tracing::debug!(%error, "cannot see whether anything has changed"),
        }
    }

    /// Makes sure that there is a connection. What happened without one is like a change by another process.
    fn connect(&mut self) -> rusqlite::Result<()> {
        if self.connection.is_none() {
            let connection = self.source.connect()?;
            let version = version(&connection)?;
            self.shared.load(&connection)?;
            self.version = version;
            self.connection = Some(connection);
            self.shared.tell();
        }
        Ok(())
    }
}

impl Shared {
    /// Reads anew what is kept in memory.
    fn load(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (counts, lists) = (Counts::load(connection)?, Lists::load(connection)?);
        *lock(&self.counts) = counts;
        *lock(&self.lists) = lists;
        Ok(())
    }

    /// A transaction was committed.
    fn apply(&self, tally: Tally) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        lock(&self.counts).apply(&tally);
        if !tally.edits.is_empty() {
            let mut lists = lock(&self.lists);
            tally.edits.into_iter().for_each(|edit| lists.apply(edit));
        }
    }

    /// Tells that another process has changed something. Not under the lock: it may be replaced meanwhile.
    fn tell(&self) {
        let told = lock(&self.changed).take();
        if let Some(mut changed) = told {
            guard(&mut *changed);
            lock(&self.changed).get_or_insert(changed);
        }
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// The most jobs of one transaction.
const BATCH: usize = 4096;

/// After a burst the vectors shrink to so many jobs.
const SPACE_KEPT: usize = 2 * BATCH;

/// How often to look whether another process has changed something.
const LOOK: Duration = Duration::from_millis(250);

/// After a failure, doubled with each further one.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use throng_hub::Unavailable;

    use super::super::queue::Job;
    use super::super::{Answer, SyncMode};
    use super::*;

    /// Has a job done right away.
    fn ask<T: Send + 'static>(
        clerk: &mut Clerk,
        kind: Kind,
        work: impl FnMut(&mut Ledger<'_>) -> rusqlite::Result<Answer<T>> + Send + 'static,
    ) -> mpsc::Receiver<Answer<T>> {
        let (answer, answered) = mpsc::channel();
        let task = Job::boxed(work, move |found| answer.send(found).unwrap());
        clerk.shared.queue.submit(kind, task);
        clerk.shared.queue.take(&mut clerk.taken, None);
        clerk.backlog.extend(clerk.taken.drain(..));
        clerk.work();
        answered
    }

    #[test]
    fn a_disk_that_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::new(Some(dir.path()), SyncMode::Full).unwrap();
        let (mut clerk, shared) = Clerk::new(source).unwrap();
        let revoke = |ledger: &mut Ledger<'_>| ledger.revoke_user("ada", 5);
        let is_revoked =
            |ledger: &mut Ledger<'_>| Ok(Ok(ledger.is_revoked("ada", Some(5), None)?));
        let read_only = |clerk: &Clerk| {
            clerk.connection.as_ref().unwrap().pragma_update(None, "query_only", true).unwrap();
        };
        read_only(&clerk);
        let answered = ask(&mut clerk, Kind::Write, revoke);
        assert_eq!(answered.recv(), Ok(Err(Unavailable)));
        assert!(shared.stats().trouble.unwrap().contains("readonly"));
        assert!(clerk.connection.is_none(), "perhaps another one can");

        let answered = ask(&mut clerk, Kind::Read, is_revoked);
        assert_eq!(answered.recv(), Ok(Ok(false)), "reading goes on, and nothing has happened");
        assert!(shared.stats().trouble.is_some(), "reading does not show that it is over");

        read_only(&clerk);
        let must = ask(&mut clerk, Kind::Must, revoke);
        assert_eq!(must.try_recv(), Err(mpsc::TryRecvError::Empty), "not given up");
        assert_eq!(shared.queue.len(), 1);
        clerk.work();
        assert_eq!(must.recv(), Ok(Ok(0)));
        assert_eq!((shared.queue.len(), shared.stats().trouble), (0, None));
        let answered = ask(&mut clerk, Kind::Read, is_revoked);
        assert_eq!(answered.recv(), Ok(Ok(true)));
    }

    #[test]
    fn a_failed_transaction_changes_nothing() {
        let source = Source::new(None, SyncMode::Full).unwrap();
        let (mut clerk, shared) = Clerk::new(source).unwrap();
        let ban = |ledger: &mut Ledger<'_>| ledger.set_member("lobby", "ada", Some("join"));
        let fail = |ledger: &mut Ledger<'_>| -> rusqlite::Result<Answer<()>> {
            ledger.connection.execute_batch("INSERT INTO members VALUES (NULL, NULL, NULL)")?;
            Ok(Ok(()))
        };
        let (answer, answered) = mpsc::channel();
        let task = Job::boxed(ban, move |found| answer.send(found).unwrap());
        shared.queue.submit(Kind::Write, task);
        let failed = ask(&mut clerk, Kind::Write, fail);
        assert_eq!((answered.recv(), failed.recv()), (Ok(Err(Unavailable)), Ok(Err(Unavailable))));
        assert_eq!(lock(&shared.lists).members(), []);
        let secrets = lock(&shared.lists).secrets.clone();
        assert_eq!(ask(&mut clerk, Kind::Write, ban).recv(), Ok(Ok(())));
        assert_eq!(lock(&shared.lists).members().len(), 1);
        assert_eq!(lock(&shared.lists).secrets, secrets, "in memory there is no other connection");
    }
}
