use std::fmt;

use rusqlite::{OptionalExtension, Row, params};

use super::Answer;
use super::ledger::{Ledger, stamp, time};

/// A user of the server's own.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The id.
    pub id: String,
    /// The hash of the password, as argon2 writes it.
    pub password: String,
    /// What else is known, as JSON: name, info, rooms.
    pub record: String,
    /// When the user was added.
    pub created: u64,
    /// When anything of this was changed last.
    pub changed: u64,
    /// Whether the user may not log in. What is open stays; see
    /// [`revoke_user`](super::Vault::revoke_user).
    pub disabled: bool,
}

impl fmt::Debug for UserRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, record, created, changed, disabled, password: _ } = self;
        f.debug_struct("UserRow")
            .field("id", id)
            .field("record", record)
            .field("created", created)
            .field("changed", changed)
            .field("disabled", disabled)
            .finish_non_exhaustive()
    }
}

impl Ledger<'_> {
    pub(super) fn put_user(&mut self, user: &UserRow) -> rusqlite::Result<Answer<()>> {
        let UserRow { id, password, record, created, changed, disabled } = user;
        let known =
            self.connection.prepare_cached("SELECT 1 FROM users WHERE id = ?1")?.exists([id])?;
        let mut put = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO users (id, password, record, created, changed, disabled)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        put.execute(params![id, password, record, stamp(*created), stamp(*changed), disabled])?;
        self.tally.users += i64::from(!known);
        Ok(Ok(()))
    }

    pub(super) fn user(&mut self, id: &str) -> rusqlite::Result<Answer<Option<UserRow>>> {
        let mut select = self.connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        Ok(Ok(select.query_row([id], read).optional()?))
    }

    pub(super) fn users(
        &mut self,
        after: &str,
        limit: usize,
    ) -> rusqlite::Result<Answer<Vec<UserRow>>> {
        let select = format!("{SELECT} WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut select = self.connection.prepare_cached(&select)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = select.query_map(params![after, limit], read)?;
        Ok(Ok(found.collect::<Result<_, _>>()?))
    }

    pub(super) fn remove_user(&mut self, id: &str, now: u64) -> rusqlite::Result<Answer<bool>> {
        let mut delete = self.connection.prepare_cached("DELETE FROM users WHERE id = ?1")?;
        let removed = delete.execute([id])?;
        self.tally.users -= removed as i64;
        Ok(self.revoke_user(id, now)?.map(|_| removed > 0))
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        id: row.get(0)?,
        password: row.get(1)?,
        record: row.get(2)?,
        created: time(row.get(3)?),
        changed: time(row.get(4)?),
        disabled: row.get(5)?,
    })
}

const SELECT: &str = "SELECT id, password, record, created, changed, disabled FROM users";
