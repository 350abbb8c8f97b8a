use std::net::IpAddr;

use rusqlite::{OptionalExtension, Row, params};

use super::Answer;
use super::ledger::{Ledger, address, stamp, time};
use super::tickets::Ticket;

/// The session that a ticket opens; the rest is the ticket's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Its id, which no other has.
    pub id: String,
    /// When it begins.
    pub started: u64,
}

/// The record of a session that is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// From where it was opened.
    pub ip: Option<IpAddr>,
    /// When it was opened.
    pub started: u64,
    /// When it ends; never by itself without.
    pub expires: Option<u64>,
    /// When the credential was made (`iat`). What a webhook says is made when that is asked. Without, it is
    /// refused as soon as the user has ever been revoked: nobody knows whether it is from before.
    pub issued: Option<u64>,
    /// The id of the token (`jti`), where it has one.
    pub token: Option<String>,
    /// What it was opened with: `ticket`, `token`, `webhook`, `login`.
    pub via: String,
    /// What else is known; for the one who finds it again.
    pub record: String,
}

/// Whether a session has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It has a record.
    Yes,
    /// The user or the token has been revoked, or the session is of another user.
    Revoked,
}

impl Ledger<'_> {
    pub(super) fn begin(&mut self, session: &SessionRow) -> rusqlite::Result<Answer<Begun>> {
        let SessionRow { user, issued, token, .. } = session;
        if self.is_revoked(user, *issued, token.as_deref())? {
            return Ok(Ok(Begun::Revoked));
        }
        let begun = self.insert(session)? || self.replace(session)?;
        Ok(Ok(if begun { Begun::Yes } else { Begun::Revoked }))
    }

    /// Gives a session what another token of its user says; `false` when it is of somebody else.
    fn replace(&mut self, session: &SessionRow) -> rusqlite::Result<bool> {
        let mut update = self.connection.prepare_cached(
            "UPDATE sessions
             SET record = ?3, expires = ?4, issued = ?5, token = ?6, via = ?7, run = ?8
             WHERE id = ?1 AND user = ?2",
        )?;
        let updated = update.execute(params![
            session.id,
            session.user,
            session.record,
            session.expires.map(stamp),
            session.issued.map(stamp),
            session.token,
            session.via,
            self.run,
        ])?;
        Ok(updated == 1)
    }

    /// The session of a ticket; `false` when there is one of this id.
    pub(super) fn admit(
        &mut self,
        session: &NewSession,
        ip: Option<IpAddr>,
        ticket: &Ticket,
    ) -> rusqlite::Result<bool> {
        self.insert(&SessionRow {
            id: session.id.clone(),
            user: ticket.user.clone(),
            ip,
            started: session.started,
            expires: ticket.expires,
            issued: None,
            token: None,
            via: ticket.via.clone(),
            record: ticket.record.clone(),
        })
    }

    fn insert(&mut self, session: &SessionRow) -> rusqlite::Result<bool> {
        let mut insert = self.connection.prepare_cached(
            "INSERT OR IGNORE INTO sessions
             (id, user, ip, started, expires, issued, token, via, record, run)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let inserted = insert.execute(params![
            session.id,
            session.user,
            session.ip.map(address),
            stamp(session.started),
            session.expires.map(stamp),
            session.issued.map(stamp),
            session.token,
            session.via,
            session.record,
            self.run,
        ])?;
        self.tally.sessions += inserted as i64;
        Ok(inserted == 1)
    }

    /// Gives a session what a ticket of its user says; `false` when there is none, or it has expired.
    pub(super) fn refresh(
        &mut self,
        id: &str,
        now: u64,
        ticket: &Ticket,
    ) -> rusqlite::Result<bool> {
        let mut update = self.connection.prepare_cached(
            "UPDATE sessions SET record = ?4, expires = ?5, via = ?6, run = ?7, issued = NULL, token = NULL
             WHERE id = ?1 AND user = ?2 AND (expires IS NULL OR expires > ?3)",
        )?;
        let expires = ticket.expires.map(stamp);
        let Ticket { user, via, record, .. } = ticket;
        let updated =
            update.execute(params![id, user, stamp(now), record, expires, via, self.run])?;
        Ok(updated == 1)
    }

    pub(super) fn find(&mut self, id: &str) -> rusqlite::Result<Answer<Option<SessionRow>>> {
        let mut mark = self
            .connection
            .prepare_cached("UPDATE sessions SET run = ?2 WHERE id = ?1 AND run <> ?2")?;
        mark.execute(params![id, self.run])?;
        let mut select = self.connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        Ok(Ok(select.query_row([id], read).optional()?))
    }

    pub(super) fn end(&mut self, id: &str) -> rusqlite::Result<Answer<bool>> {
        let mut delete = self.connection.prepare_cached("DELETE FROM sessions WHERE id = ?1")?;
        let removed = delete.execute([id])?;
        self.tally.sessions -= removed as i64;
        Ok(Ok(removed > 0))
    }

    pub(super) fn missing(&mut self, ids: &[Box<str>]) -> rusqlite::Result<Answer<Vec<Box<str>>>> {
        let mut select = self.connection.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1")?;
        let mut missing = Vec::new();
        for id in ids {
            if !select.exists([id])? {
                missing.push(id.clone());
            }
        }
        Ok(Ok(missing))
    }

    pub(super) fn sessions(
        &mut self,
        user: Option<&str>,
        after: &str,
        limit: usize,
    ) -> rusqlite::Result<Answer<Vec<SessionRow>>> {
        let whose = if user.is_some() { "user = ?3 AND" } else { "?3 IS NULL AND" };
        let select = format!("{SELECT} WHERE {whose} id > ?1 ORDER BY id LIMIT ?2");
        let mut select = self.connection.prepare_cached(&select)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = select.query_map(params![after, limit, user], read)?;
        Ok(Ok(found.collect::<Result<_, _>>()?))
    }

    /// Removes the sessions of a user, and says how many.
    pub(super) fn remove_sessions_of(&mut self, user: &str) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached("DELETE FROM sessions WHERE user = ?1")?;
        let removed = delete.execute([user])?;
        self.tally.sessions -= removed as i64;
        Ok(removed)
    }

    /// Removes the sessions that a token has opened.
    pub(super) fn remove_sessions_by(&mut self, token: &str) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM sessions WHERE token = ?1")?;
        self.tally.sessions -= delete.execute([token])? as i64;
        Ok(())
    }

    /// Removes some sessions that have expired, and says how many.
    pub(super) fn sweep_sessions(&mut self, now: u64, most: usize) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM sessions WHERE id IN
             (SELECT id FROM sessions WHERE expires <= ?1 LIMIT ?2)",
        )?;
        let removed = delete.execute(params![stamp(now), most as i64])?;
        self.tally.sessions -= removed as i64;
        Ok(removed)
    }

    /// Removes those of the next `most` sessions behind `after` that are of an earlier run. The last one that
    /// was looked at; `None` when that was all.
    pub(super) fn sweep_earlier(
        &mut self,
        after: &str,
        most: usize,
    ) -> rusqlite::Result<Option<String>> {
        let mut last = self.connection.prepare_cached(
            "SELECT max(id), count(*) FROM
             (SELECT id FROM sessions WHERE id > ?1 ORDER BY id LIMIT ?2)",
        )?;
        let (last, count): (Option<String>, i64) =
            last.query_row(params![after, most as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(last) = last else { return Ok(None) };
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM sessions WHERE id > ?1 AND id <= ?2 AND run <> ?3")?;
        self.tally.sessions -= delete.execute(params![after, last, self.run])? as i64;
        Ok(Some(last).filter(|_| count == most as i64))
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let ip: Option<String> = row.get(2)?;
    Ok(SessionRow {
        id: row.get(0)?,
        user: row.get(1)?,
        ip: ip.and_then(|ip| ip.parse().ok()),
        started: time(row.get(3)?),
        expires: row.get::<_, Option<i64>>(4)?.map(time),
        issued: row.get::<_, Option<i64>>(5)?.map(time),
        token: row.get(6)?,
        via: row.get(7)?,
        record: row.get(8)?,
    })
}

const SELECT: &str =
    "SELECT id, user, ip, started, expires, issued, token, via, record FROM sessions";
