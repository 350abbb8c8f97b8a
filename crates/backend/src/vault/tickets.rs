use std::fmt;
use std::net::IpAddr;

use rusqlite::{OptionalExtension, params};
use throng_hub::Unavailable;

use super::Answer;
use super::ledger::{Ledger, address, stamp, time};
use super::sessions::NewSession;

/// A ticket that is to be made good.
#[derive(Clone, PartialEq, Eq)]
pub struct NewTicket {
    /// The SHA-256 of its text.
    pub hash: [u8; 32],
    /// Who comes in with it.
    pub user: String,
    /// From where alone; from anywhere without.
    pub ip: Option<IpAddr>,
    /// When it is no good any more.
    pub expires: u64,
    /// How long the session may last, in milliseconds from when the ticket is redeemed; without end without.
    pub session_ttl: Option<u64>,
    /// What the session counts as opened with: `ticket`, `login`.
    pub via: String,
    /// What else is known; for the one who redeems it.
    pub record: String,
}

/// What became of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// It was good, and is no more.
    Admitted {
        /// Whose it was.
        user: String,
        /// What was known.
        record: String,
        /// When the session ends; never by itself without.
        expires: Option<u64>,
        /// What the session counts as opened with.
        via: String,
    },
    /// There is no such ticket: there never was, it has been used, it has expired.
    Unknown,
    /// It is for another address, and still good there.
    WrongAddress,
}

impl fmt::Debug for NewTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, ip, expires, session_ttl, via, .. } = self;
        f.debug_struct("NewTicket")
            .field("user", user)
            .field("ip", ip)
            .field("expires", expires)
            .field("session_ttl", session_ttl)
            .field("via", via)
            .finish_non_exhaustive()
    }
}

impl Ledger<'_> {
    pub(super) fn issue(&mut self, ticket: &NewTicket) -> rusqlite::Result<Answer<()>> {
        if self.tickets() >= MAX_TICKETS {
            return Ok(Err(Unavailable));
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT OR IGNORE INTO tickets (hash, user, ip, expires, ttl, via, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let inserted = insert.execute(params![
            ticket.hash,
            ticket.user,
            ticket.ip.map(address),
            stamp(ticket.expires),
            ticket.session_ttl.map(stamp),
            ticket.via,
            ticket.record,
        ])?;
        self.tally.tickets += inserted as i64;
        // Two of the same hash would be one ticket that was given to two.
        Ok(if inserted == 1 { Ok(()) } else { Err(Unavailable) })
    }

    pub(super) fn redeem(
        &mut self,
        hash: &[u8; 32],
        ip: Option<IpAddr>,
        now: u64,
        session: &NewSession,
    ) -> rusqlite::Result<Answer<Redeemed>> {
        let ticket = match self.open_ticket(hash, ip, now)? {
            Ok(ticket) => ticket,
            Err(refused) => return Ok(Ok(refused)),
        };
        if !self.admit(session, ip, &ticket)? {
            return Ok(Err(Unavailable)); // the id is taken; the ticket stays
        }
        self.use_up(hash)?;
        Ok(Ok(ticket.admitted()))
    }

    pub(super) fn renew(
        &mut self,
        hash: &[u8; 32],
        ip: Option<IpAddr>,
        now: u64,
        session_id: &str,
        user: &str,
    ) -> rusqlite::Result<Answer<Redeemed>> {
        let ticket = match self.open_ticket(hash, ip, now)? {
            Ok(ticket) => ticket,
            Err(refused) => return Ok(Ok(refused)),
        };
        if ticket.user != user || !self.refresh(session_id, now, &ticket)? {
            return Ok(Ok(Redeemed::Unknown));
        }
        self.use_up(hash)?;
        Ok(Ok(ticket.admitted()))
    }

    /// A ticket that is good here and now, or the answer.
    fn open_ticket(
        &self,
        hash: &[u8; 32],
        ip: Option<IpAddr>,
        now: u64,
    ) -> rusqlite::Result<Result<Ticket, Redeemed>> {
        let mut select = self.connection.prepare_cached(
            "SELECT user, ip, ttl, via, record FROM tickets WHERE hash = ?1 AND expires > ?2",
        )?;
        let found = select
            .query_row(params![hash, stamp(now)], |row| {
                let bound: Option<String> = row.get(1)?;
                let expires = row.get::<_, Option<i64>>(2)?.map(time);
                let expires = expires.map(|ttl| now.saturating_add(ttl));
                let (user, via, record) = (row.get(0)?, row.get(3)?, row.get(4)?);
                Ok((bound, Ticket { user, expires, via, record }))
            })
            .optional()?;
        Ok(match found {
            None => Err(Redeemed::Unknown),
            Some((Some(bound), _)) if ip.map(address).as_ref() != Some(&bound) => {
                Err(Redeemed::WrongAddress)
            }
            Some((_, ticket)) => Ok(ticket),
        })
    }

    fn use_up(&mut self, hash: &[u8; 32]) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM tickets WHERE hash = ?1")?;
        self.tally.tickets -= delete.execute([hash])? as i64;
        Ok(())
    }

    /// The tickets of a user are no good any more.
    pub(super) fn remove_tickets(&mut self, user: &str) -> rusqlite::Result<()> {
        let mut delete = self.connection.prepare_cached("DELETE FROM tickets WHERE user = ?1")?;
        self.tally.tickets -= delete.execute([user])? as i64;
        Ok(())
    }

    /// Removes some tickets that have expired, and says how many.
    pub(super) fn sweep_tickets(&mut self, now: u64, most: usize) -> rusqlite::Result<usize> {
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM tickets WHERE hash IN
             (SELECT hash FROM tickets WHERE expires <= ?1 LIMIT ?2)",
        )?;
        let removed = delete.execute(params![stamp(now), most as i64])?;
        self.tally.tickets -= removed as i64;
        Ok(removed)
    }
}

/// What a ticket that is good says.
pub(super) struct Ticket {
    pub(super) user: String,
    /// When the session it opens ends.
    pub(super) expires: Option<u64>,
    pub(super) via: String,
    pub(super) record: String,
}

impl Ticket {
    fn admitted(self) -> Redeemed {
        let Self { user, expires, via, record } = self;
        Redeemed::Admitted { user, record, expires, via }
    }
}

/// Beyond this no more are issued.
const MAX_TICKETS: i64 = 1_000_000;
