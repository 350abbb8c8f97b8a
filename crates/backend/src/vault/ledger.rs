use std::net::IpAddr;

use rusqlite::Connection;
use throng_hub::Ban;

/// How a vault is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultStats {
    /// Tickets that are open, or expired and not yet swept.
    pub tickets: u64,
    /// Sessions that are signed in.
    pub sessions: u64,
    /// Users with a password.
    pub users: u64,
    /// Jobs that are not answered yet.
    pub queued: usize,
    /// Transactions since the start.
    pub commits: u64,
    /// Why the disk cannot be written at the moment.
    pub trouble: Option<String>,
}

/// What a job works with: the database within a transaction, and what is to be true behind it.
pub(super) struct Ledger<'a> {
    pub(super) connection: &'a Connection,
    /// This run's number.
    pub(super) run: i64,
    /// Before the transaction.
    pub(super) counts: Counts,
    /// What the transaction changes.
    pub(super) tally: Tally,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) tickets: i64,
    pub(super) sessions: i64,
    pub(super) users: i64,
}

/// What a transaction changes of what is kept in memory.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) tickets: i64,
    pub(super) sessions: i64,
    pub(super) users: i64,
    pub(super) edits: Vec<Edit>,
}

/// A change of the lists.
#[derive(Debug)]
pub(super) enum Edit {
    /// Room and user; the rights.
    Member((String, String), Option<String>),
    Ban(Ban),
    Lifted((String, String)),
    Secrets(Vec<[u8; 32]>),
}

impl<'a> Ledger<'a> {
    pub(super) fn new(connection: &'a Connection, run: i64, counts: Counts) -> Self {
        Self { connection, run, counts, tally: Tally::default() }
    }

    /// The tickets there are.
    pub(super) fn tickets(&self) -> i64 {
        self.counts.tickets + self.tally.tickets
    }
}

impl Counts {
    /// Counts anew.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let count = |table: &str| {
            let select = format!("SELECT count(*) FROM {table}");
            connection.query_row(&select, [], |row| row.get(0))
        };
        Ok(Self {
            tickets: count("tickets")?,
            sessions: count("sessions")?,
            users: count("users")?,
        })
    }

    /// A transaction was committed.
    pub(super) fn apply(&mut self, tally: &Tally) {
        self.tickets += tally.tickets;
        self.sessions += tally.sessions;
        self.users += tally.users;
    }
}

/// A time as the file has it.
pub(super) fn stamp(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// A time of the file.
pub(super) fn time(stamp: i64) -> u64 {
    u64::try_from(stamp).unwrap_or(0)
}

/// An address as the file has it: one text for each, whichever way it came.
pub(super) fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}
