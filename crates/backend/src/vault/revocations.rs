use rusqlite::{OptionalExtension, params};

use super::Answer;
use super::ledger::{Ledger, stamp};

impl Ledger<'_> {
    /// Whether a credential of a user is refused.
    pub(super) fn is_revoked(
        &self,
        user: &str,
        issued: Option<u64>,
        token: Option<&str>,
    ) -> rusqlite::Result<bool> {
        let mut select =
            self.connection.prepare_cached("SELECT at FROM cutoffs WHERE user = ?1")?;
        let cutoff: Option<i64> = select.query_row([user], |row| row.get(0)).optional()?;
        if cutoff.is_some_and(|cutoff| issued.is_none_or(|issued| stamp(issued) <= cutoff)) {
            return Ok(true);
        }
        let Some(token) = token else { return Ok(false) };
        self.connection.prepare_cached("SELECT 1 FROM tokens WHERE id = ?1")?.exists([token])
    }

    pub(super) fn revoke_user(&mut self, user: &str, now: u64) -> rusqlite::Result<Answer<usize>> {
        // For good: nobody here knows how long a token is valid.
        let mut put = self.connection.prepare_cached(
            "INSERT INTO cutoffs (user, at) VALUES (?1, ?2)
             ON CONFLICT (user) DO UPDATE SET at = max(at, excluded.at)",
        )?;
        put.execute(params![user, stamp(now)])?;
        self.remove_tickets(user)?;
        Ok(Ok(self.remove_sessions_of(user)?))
    }

    pub(super) fn revoke_token(&mut self, token: &str, until: u64) -> rusqlite::Result<Answer<()>> {
        let mut put = self.connection.prepare_cached(
            "INSERT INTO tokens (id, until) VALUES (?1, ?2)
             ON CONFLICT (id) DO UPDATE SET until = max(until, excluded.until)",
        )?;
        put.execute(params![token, stamp(until)])?;
        self.remove_sessions_by(token)?;
        Ok(Ok(()))
    }

    /// Forgets some tokens that have expired by themselves, and says how many.
    pub(super) fn sweep_tokens(&mut self, now: u64, most: usize) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE until <= ?1 LIMIT ?2)",
        )?;
        delete.execute(params![stamp(now), most as i64])
    }
}
