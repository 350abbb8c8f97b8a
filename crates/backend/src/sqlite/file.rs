use std::fs::{self, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use throng_hub::Space;

use super::{OpenError, Options, SyncMode};

/// The file, ready to be written.
pub(super) struct File {
    pub(super) source: Source,
    pub(super) connection: Connection,
    pub(super) secret: [u8; 32],
    pub(super) era: u64,
    /// Those that have a row.
    pub(super) rooms: Vec<(Space, String)>,
}

/// Where connections come from. As long as there is one of these, no other process gets in.
#[derive(Clone, Debug)]
pub(super) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    options: Options,
    /// Locked; the system unlocks it when the process ends, however that happens.
    _lock: fs::File,
}

impl Source {
    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    /// A connection that writes.
    pub(super) fn writer(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        set_sync(&connection, self.0.options.sync)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        if let Some(limit) = self.0.options.limit {
            let pages = i64::try_from(limit / PAGE).unwrap_or(i64::MAX).clamp(1, u32::MAX.into());
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        }
        Ok(connection)
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        // Without CREATE: a file that was removed must not come back empty.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0.path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(32);
        let cache = i64::try_from(self.0.options.cache / 1024).unwrap_or(i64::MAX);
        connection.pragma_update(None, "cache_size", -cache)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    }
}

/// Opens or creates the file of a directory.
pub(super) fn open(dir: &Path, options: Options) -> Result<File, OpenError> {
    let source = claim(dir, options)?;
    let failed = |error: rusqlite::Error| refusal(&source.0.path, &error);
    let mut connection = source.writer().map_err(failed)?;
    identify(&connection, &source.0.path)?;
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let detail = "write-ahead logging does not work there".to_owned();
        return Err(OpenError::Database { path: source.0.path.clone(), detail });
    }
    examine(&connection, &source.0.path)?;
    let (secret, era) = begin(&mut connection, &source)?;
    let mut rooms = Vec::new();
    list(&connection, &mut rooms).map_err(failed)?;
    set_sync(&connection, source.0.options.sync).map_err(failed)?;
    Ok(File { source, connection, secret, era, rooms })
}

/// Notes that the file is closed in good order, and empties the write-ahead log.
pub(super) fn finish(connection: &Connection) -> rusqlite::Result<()> {
    set_sync(connection, SyncMode::Full)?; // what was written before is on the disk as well then
    connection.execute("UPDATE meta SET value = 1 WHERE key = 'clean'", [])?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The directory, for this process alone.
fn claim(dir: &Path, options: Options) -> Result<Source, OpenError> {
    let access = |path: &Path, cause| OpenError::Access { path: path.to_owned(), cause };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|cause| access(dir, cause))?;
    // Absolute: a path that begins with `file:` would be an URL to SQLite.
    let dir = dir.canonicalize().map_err(|cause| access(dir, cause))?;
    let create = |name: &str| {
        let path = dir.join(name);
        let mut file = OpenOptions::new();
        file.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
        let file = file.open(&path).map_err(|cause| access(&path, cause))?;
        Ok((path, file))
    };
    let (path, lock) = create("throng.lock")?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: dir }),
        Err(TryLockError::Error(cause)) => return Err(access(&path, cause)),
    }
    // Closed again before SQLite opens it: closing it later would drop SQLite's own locks.
    let (path, _) = create(NAME)?;
    Ok(Source(Arc::new(Inner { path, options, _lock: lock })))
}

/// Whether the file is one of ours, of a format we know. Creates the tables in an empty one.
fn identify(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| refusal(path, &error);
    let number =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let application = number("PRAGMA application_id")?;
    let found = number("PRAGMA user_version")?;
    if application == 0 && found == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
        return connection.execute_batch(&format!("BEGIN; {SCHEMA} {REFS} COMMIT")).map_err(failed);
    }
    if application != APPLICATION {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if found != FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    connection.execute_batch(&format!("BEGIN; {REFS} COMMIT")).map_err(failed)
}

/// Looks for damage: whether something is cut off, and of a small file everything.
fn examine(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let corrupt = |detail| OpenError::Corrupt { path: path.to_owned(), detail };
    let look = || -> rusqlite::Result<(i64, i64)> {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let page = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        Ok((page, connection.query_row("PRAGMA page_count", [], |row| row.get(0))?))
    };
    let (page, pages) = look().map_err(|error| refusal(path, &error))?;
    let length = fs::metadata(path).map_or(0, |file| file.len());
    let wanted = u64::try_from(page.saturating_mul(pages)).unwrap_or(0);
    if length < wanted {
        return Err(corrupt(format!("{length} bytes of {wanted} are there")));
    }
    if length <= CHECKED_WHOLE {
        let check = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        let answer: String = check.map_err(|error| refusal(path, &error))?;
        if answer != "ok" {
            return Err(corrupt(answer));
        }
    }
    Ok(())
}

/// Notes that a run has begun, and tells secret and era.
fn begin(connection: &mut Connection, source: &Source) -> Result<([u8; 32], u64), OpenError> {
    let path = &source.0.path;
    let failed = |error: rusqlite::Error| refusal(path, &error);
    let mut drawn = [0; 32];
    getrandom::fill(&mut drawn).map_err(|error| OpenError::Random { detail: error.to_string() })?;
    let boot = boot_id();
    let sync = source.0.options.sync;
    let work = |connection: &mut Connection| -> rusqlite::Result<(Option<Vec<u8>>, i64)> {
        set_sync(connection, SyncMode::Full)?;
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let lost = {
            let text = |key: &str| {
                let get = "SELECT CAST(value AS TEXT) FROM meta WHERE key = ?1";
                transaction.query_row(get, [key], |row| row.get::<_, String>(0)).optional()
            };
            let orderly = text("clean")?.is_none_or(|clean| clean == "1");
            let loose = text("sync")?.as_deref() == Some("normal");
            !orderly && loose && (boot.is_empty() || text("boot")? != Some(boot.clone()))
        };
        if lost {
            // Numbers that clients know may be missing here, and would be given again.
            transaction.execute("UPDATE rooms SET epoch = random()", [])?;
            transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'era'", [])?;
            tracing::warn!(
                "the machine stopped without closing the database: all rooms have new epochs"
            );
        }
        transaction.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?1)", [&drawn[..]])?;
        transaction.execute("INSERT OR IGNORE INTO meta VALUES ('era', 1)", [])?;
        let sync = if sync == SyncMode::Normal { "normal" } else { "full" };
        let put = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
        transaction.execute(put, ("clean", 0))?;
        transaction.execute(put, ("sync", sync))?;
        transaction.execute(put, ("boot", &boot))?;
        let get = |key| format!("SELECT value FROM meta WHERE key = '{key}'");
        let secret = transaction.query_row(&get("secret"), [], |row| row.get(0)).optional()?;
        let era = transaction.query_row(&get("era"), [], |row| row.get(0))?;
        transaction.commit()?;
        Ok((secret, era))
    };
    let (secret, era) = work(connection).map_err(failed)?;
    let secret = secret.and_then(|secret| secret.try_into().ok()).ok_or_else(|| {
        OpenError::Corrupt { path: path.clone(), detail: "its secret is missing".to_owned() }
    })?;
    Ok((secret, era as u64))
}

fn list(connection: &Connection, rooms: &mut Vec<(Space, String)>) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT space, name FROM rooms")?;
    let found = select.query_map([], |row| Ok((Space(row.get(0)?), row.get(1)?)))?;
    for room in found {
        rooms.push(room?);
    }
    Ok(())
}

fn set_sync(connection: &Connection, sync: SyncMode) -> rusqlite::Result<()> {
    let sync = if sync == SyncMode::Normal { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", sync)
}

fn refusal(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, detail) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Corrupt { path, detail }
        }
        _ => OpenError::Database { path, detail },
    }
}

/// Another one after each start of the machine; empty where that is not told.
fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

const NAME: &str = "throng.db";

/// `thro` in the header of the file.
const APPLICATION: i64 = 0x7468_726f;

const FORMAT: i64 = 1;

const SCHEMA: &str = "
    PRAGMA application_id = 0x7468726f;
    PRAGMA user_version = 1;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY,
        space INTEGER NOT NULL,
        name TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,   -- at least this; more if there are messages
        time INTEGER NOT NULL,
        ttl INTEGER NOT NULL,   -- of its messages, in milliseconds
        due INTEGER NOT NULL,   -- when to look for messages that are too old
        UNIQUE (space, name)
    );
    CREATE INDEX rooms_due ON rooms (due);
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        time INTEGER NOT NULL,
        session TEXT NOT NULL,
        ref INTEGER NOT NULL,
        head INTEGER NOT NULL,  -- where seq and time belong in the body
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX messages_of_room ON messages (room, seq);
";

/// Not in the first files of this format. Who does not know it does no harm there.
const REFS: &str = "
    CREATE TABLE IF NOT EXISTS refs (
        n INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        time INTEGER NOT NULL,
        session TEXT NOT NULL,
        ref INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS refs_of_room ON refs (room, seq);
";

const PAGE: u64 = 4096;

/// How long to wait for another process that writes: a backup, a person with a shell.
const BUSY: Duration = Duration::from_secs(1);

/// The write-ahead log is copied into the file when it has so many pages (8 MiB). The writer does that,
/// and takes some ten milliseconds for it.
const CHECKPOINT_PAGES: i64 = 2048;

/// After a burst the write-ahead log shrinks to this.
const WAL_KEPT: i64 = 64 << 20;

/// Files up to this size are checked as a whole when they are opened, in some tenths of a second.
const CHECKED_WHOLE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_this_user_only() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        let file = open(&dir, Options::default()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for name in [NAME, "throng.db-wal", "throng.db-shm", "throng.lock"] {
            assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
        }
        drop(file);
    }

    #[test]
    fn the_secret_stays() {
        let dir = tempfile::tempdir().unwrap();
        let secret = || open(dir.path(), Options::default()).unwrap().secret;
        let first = secret();
        assert_eq!(secret(), first);
        assert_ne!(first, [0; 32]);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(open(other.path(), Options::default()).unwrap().secret, first);
    }

    #[test]
    fn epochs_change_when_the_machine_may_have_lost_numbers() {
        // (how the last run synced, in this boot, closed in good order) → new epochs
        for (sync, here, orderly, changes) in [
            (SyncMode::Normal, false, false, true),
            (SyncMode::Normal, true, false, false),
            (SyncMode::Normal, false, true, false),
            (SyncMode::Full, false, false, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = open(dir.path(), Options { sync, ..Options::default() }).unwrap();
            let insert = "INSERT INTO rooms VALUES (1, 0, 'lobby', 42, 7, 0, 0, 0)";
            file.connection.execute(insert, []).unwrap();
            if orderly {
                finish(&file.connection).unwrap();
            }
            if !here {
                let other = "UPDATE meta SET value = 'another' WHERE key = 'boot'";
                file.connection.execute(other, []).unwrap();
            }
            let era = file.era;
            drop(file);
            let file = open(dir.path(), Options::default()).unwrap();
            let epoch = file.connection.query_row("SELECT epoch FROM rooms", [], |row| row.get(0));
            let epoch: i64 = epoch.unwrap();
            assert_eq!(
                (epoch != 42, file.era != era),
                (changes, changes),
                "{sync:?} {here} {orderly}"
            );
            drop(file);
            let file = open(dir.path(), Options::default()).unwrap();
            let same = file.connection.query_row("SELECT epoch FROM rooms", [], |row| row.get(0));
            assert_eq!(same, Ok(epoch), "once is enough");
        }
    }
}
