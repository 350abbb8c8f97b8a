use rusqlite::{Connection, params};

use super::Answer;
use super::ledger::{Edit, Ledger, stamp};

impl Ledger<'_> {
    pub(super) fn rotate_secret(&mut self, now: u64) -> rusqlite::Result<Answer<()>> {
        let Some(secret) = draw() else { return Ok(Err(throng_hub::Unavailable)) };
        let mut retire = self
            .connection
            .prepare_cached("UPDATE secrets SET retired = ?1 WHERE retired IS NULL")?;
        retire.execute([stamp(now)])?;
        add(self.connection, &secret)?;
        self.sweep_secrets(now)?;
        self.tally.edits.push(Edit::Secrets(load(self.connection)?));
        Ok(Ok(()))
    }

    /// Forgets secrets that were retired a day ago, or are too many.
    pub(super) fn sweep_secrets(&mut self, now: u64) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM secrets WHERE retired + ?3 <= ?1
             OR id NOT IN (SELECT id FROM secrets ORDER BY id DESC LIMIT ?2)",
        )?;
        if delete.execute(params![stamp(now), MAX_SECRETS, OVERLAP])? > 0 {
            self.tally.edits.push(Edit::Secrets(load(self.connection)?));
        }
        Ok(())
    }
}

/// 256 random bits; `None` when the system has none.
pub(super) fn draw() -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).ok().map(|()| secret)
}

/// One that signs from now on.
pub(super) fn add(connection: &Connection, secret: &[u8; 32]) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO secrets (secret) VALUES (?1)")?.execute([secret])?;
    Ok(())
}

/// All of them, the newest first.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<[u8; 32]>> {
    let mut select = connection.prepare_cached("SELECT secret FROM secrets ORDER BY id DESC")?;
    let found = select.query_map([], |row| row.get(0))?;
    found.collect()
}

/// How long a retired secret is known, in milliseconds.
const OVERLAP: i64 = 24 * 60 * 60 * 1000;

/// With the one that signs.
const MAX_SECRETS: i64 = 17;
