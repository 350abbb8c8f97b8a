use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::secrets;
use super::{OpenError, SyncMode};

/// Where connections come from.
#[derive(Debug)]
pub(super) struct Source {
    /// In memory without.
    path: Option<PathBuf>,
    sync: SyncMode,
}

impl Source {
    /// Makes directory and file if they are missing.
    pub(super) fn new(directory: Option<&Path>, sync: SyncMode) -> Result<Self, OpenError> {
        Ok(Self { path: directory.map(create).transpose()?, sync })
    }

    pub(super) fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// The first connection: makes the tables, and looks for damage.
    pub(super) fn open(&self) -> Result<Connection, OpenError> {
        let failed = |error: rusqlite::Error| self.refusal(&error);
        let mut connection = self.connect().map_err(failed)?;
        self.identify(&mut connection)?;
        if self.is_file() {
            self.use_log(&connection)?;
            self.examine(&connection)?;
        }
        Ok(connection)
    }

    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = match &self.path {
            // Without CREATE: a file that was removed must not come back empty.
            Some(path) => Connection::open_with_flags(
                path,
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?,
            None => Connection::open_in_memory()?,
        };
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "trusted_schema", false)?;
        let sync = if self.sync == SyncMode::Normal { "NORMAL" } else { "FULL" };
        connection.pragma_update(None, "synchronous", sync)?;
        connection.pragma_update(None, "journal_size_limit", LOG_KEPT)?;
        Ok(connection)
    }

    /// Why the file cannot be used.
    pub(super) fn refusal(&self, error: &rusqlite::Error) -> OpenError {
        let (path, detail) = (self.name(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                OpenError::Corrupt { path, detail }
            }
            _ => OpenError::Database { path, detail },
        }
    }

    fn name(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| PathBuf::from(":memory:"))
    }

    /// Whether the file is one of ours, of a format we know. Creates the tables in an empty one; another
    /// process may do that at the same time.
    fn identify(&self, connection: &mut Connection) -> Result<(), OpenError> {
        let failed = |error: rusqlite::Error| self.refusal(&error);
        let marks = |connection: &Connection| -> rusqlite::Result<(i64, i64, i64)> {
            let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
            Ok((
                number("PRAGMA application_id")?,
                number("PRAGMA user_version")?,
                number("SELECT count(*) FROM sqlite_schema")?,
            ))
        };
        // In one transaction: another process may be at it.
        let look = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            marks(&transaction)
        };
        let mut found = look(connection).map_err(failed)?;
        if found == (0, 0, 0) {
            let secret = secrets::draw()
                .ok_or_else(|| OpenError::Random { detail: "the system has none".to_owned() })?;
            let make = |connection: &mut Connection| {
                let transaction =
                    connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                if marks(&transaction)? == (0, 0, 0) {
                    transaction.execute_batch(SCHEMA)?;
                    secrets::add(&transaction, &secret)?;
                }
                transaction.commit()
            };
            make(connection).map_err(failed)?;
            found = look(connection).map_err(failed)?;
        }
        let (application, format, _) = found;
        if application != APPLICATION {
            return Err(OpenError::Foreign { path: self.name() });
        }
        if format != FORMAT {
            return Err(OpenError::Newer { path: self.name(), found: format, known: FORMAT });
        }
        Ok(())
    }

    /// Turns on write-ahead logging. SQLite does not wait for others there.
    fn use_log(&self, connection: &Connection) -> Result<(), OpenError> {
        let until = Instant::now() + BUSY;
        loop {
            let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
            let mode: rusqlite::Result<String> = mode;
            match mode {
                Ok(mode) if mode == "wal" => return Ok(()),
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && Instant::now() < until =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                Ok(_) => {
                    let detail = "write-ahead logging does not work there".to_owned();
                    return Err(OpenError::Database { path: self.name(), detail });
                }
                Err(error) => return Err(self.refusal(&error)),
            }
        }
    }

    /// Looks for damage in a file that is not too large for that.
    fn examine(&self, connection: &Connection) -> Result<(), OpenError> {
        let path = self.name();
        if fs::metadata(&path).is_ok_and(|file| file.len() > CHECKED_WHOLE) {
            return Ok(());
        }
        let check = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        let detail: String = check.map_err(|error| self.refusal(&error))?;
        if detail == "ok" { Ok(()) } else { Err(OpenError::Corrupt { path, detail }) }
    }
}

/// The file of a directory, for this user only.
fn create(dir: &Path) -> Result<PathBuf, OpenError> {
    let access = |path: &Path, cause| OpenError::Access { path: path.to_owned(), cause };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|cause| access(dir, cause))?;
    // Absolute: a path that begins with `file:` would be an URL to SQLite.
    let dir = dir.canonicalize().map_err(|cause| access(dir, cause))?;
    let path = dir.join(NAME);
    let mut file = OpenOptions::new();
    // Only if it is new: to open and close one that another vault of this process has would drop its locks.
    file.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    match file.open(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => guard_file(&path),
        Err(cause) => return Err(access(&path, cause)),
    }
    Ok(path)
}

/// Takes what others may do with a file away: there are secrets in it. SQLite makes the files beside it alike.
fn guard_file(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        for end in ["", "-wal", "-shm"] {
            let mut path = path.as_os_str().to_owned();
            path.push(end);
            let Ok(file) = fs::metadata(&path) else { continue };
            if file.permissions().mode() & 0o077 != 0
                && let Err(error) = fs::set_permissions(&path, PermissionsExt::from_mode(0o600))
            {
                let path = Path::new(&path).display();
                tracing::warn!(%path, %error, "others can read this file, which has secrets in it");
            }
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

const NAME: &str = "access.db";

/// `thrv` in the header of the file.
const APPLICATION: i64 = 0x7468_7276;

const FORMAT: i64 = 1;

const SCHEMA: &str = "
    PRAGMA application_id = 0x74687276;
    PRAGMA user_version = 1;
    CREATE TABLE tickets (
        hash BLOB PRIMARY KEY,
        user TEXT NOT NULL,
        ip TEXT,
        expires INTEGER NOT NULL,
        ttl INTEGER,            -- of the session, in milliseconds
        via TEXT NOT NULL,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX tickets_of_user ON tickets (user);
    CREATE INDEX tickets_expiring ON tickets (expires);
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        ip TEXT,
        started INTEGER NOT NULL,
        expires INTEGER,
        issued INTEGER,
        token TEXT,
        via TEXT NOT NULL,
        record TEXT NOT NULL,
        run INTEGER NOT NULL    -- of the server, a random number
    ) WITHOUT ROWID;
    CREATE INDEX sessions_of_user ON sessions (user);
    CREATE INDEX sessions_by_token ON sessions (token) WHERE token IS NOT NULL;
    CREATE INDEX sessions_expiring ON sessions (expires) WHERE expires IS NOT NULL;
    CREATE TABLE cutoffs (user TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE tokens (id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX tokens_expiring ON tokens (until);
    CREATE TABLE users (
        id TEXT PRIMARY KEY,
        password TEXT NOT NULL,
        record TEXT NOT NULL,
        created INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        disabled INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE members (
        room TEXT NOT NULL,
        user TEXT NOT NULL,
        rights TEXT NOT NULL,
        PRIMARY KEY (room, user)
    ) WITHOUT ROWID;
    CREATE TABLE bans (
        room TEXT NOT NULL,     -- empty: everywhere
        user TEXT NOT NULL,
        until INTEGER,
        reason TEXT NOT NULL,
        PRIMARY KEY (room, user)
    ) WITHOUT ROWID;
    CREATE TABLE secrets (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the newest signs
        secret BLOB NOT NULL,
        retired INTEGER
    );
";

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// After a burst the write-ahead log shrinks to this.
const LOG_KEPT: i64 = 16 << 20;

/// Files up to this size are checked as a whole when they are opened.
const CHECKED_WHOLE: u64 = 16 << 20;
