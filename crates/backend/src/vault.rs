//! Who may come in: tickets, the sessions they opened, what was revoked, users, members, bans.
//!
//! A [`Vault`] is one of two: [`Local`], described here, or for many nodes [`Shared`], described in [`remote`]. The suite
//! `tests/vault.rs` holds for both.
//!
//! # The file
//!
//! `access.db`, one SQLite database in WAL mode beside that of the rooms:
//!
//! ```text
//!   tickets   SHA-256 → user, address, expiry, record     open ones; redeeming removes the row
//!   sessions  id → user, address, start, expiry, record   signed in ones; ending or revoking removes it
//!   cutoffs   user → credentials up to then are refused
//!   tokens    id → revoked, until it would have expired
//!   users     id → password (argon2), record
//!   members   room, user → rights
//!   bans      room, user → until, reason
//!   secrets   what resume tokens are signed with
//! ```
//!
//! The text of a ticket is never stored: rows are found by its hash. Everything is for this user only.
//!
//! # Threads
//!
//! ```text
//!   Vault::redeem ──▶ Queue ──▶ Clerk: BEGIN … COMMIT ──▶ done
//! ```
//!
//! The clerk takes everything that waits, does it in one transaction and then answers. So a hundred
//! redeemed tickets cost one wait for the disk.
//!
//! Another process may use the same file at the same time, as the command line does. The clerk looks four
//! times a second whether one has, reads again what it keeps in memory and tells [`Vault::on_change`].

mod clerk;
mod file;
mod ledger;
mod lists;
mod local;
mod queue;
mod remote;
mod revocations;
mod secrets;
mod sessions;
mod sweep;
mod tickets;
mod users;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use throng_hub::{Ban, Unavailable};

use crate::redis::Remote;
use crate::sqlite::{OpenError, SyncMode};
use crate::threads::{guard, lock};
use local::Local;
use remote::Shared;

pub use ledger::VaultStats;
pub use lists::Member;
pub use sessions::{Begun, NewSession, SessionRow};
pub use tickets::{NewTicket, Redeemed};
pub use users::UserRow;

/// Keeps tickets, sessions, revocations, users, members, bans and secrets: in a file, in memory, or in Redis.
///
/// All times are milliseconds since 1970. Clones are the same vault; the last one to go closes it.
///
/// # Answers
/// `done` is called once: on the vault's thread (that of Redis for a shared one) when what was asked for is
/// committed, or with [`Unavailable`] when it could not be. All wait for it, so it must be quick. When too much waits,
/// Redis is away or the vault is closed, it is called before the method returns, on the calling thread.
///
/// # Failure
/// When the disk is full, read-only or broken, changes are answered [`Unavailable`] and have not
/// happened, as far as anybody was told; what only reads goes on as long as it can. It tries again with each
/// job. When Redis cannot be reached or refuses, everything is [`Unavailable`]; what was under way as the connection broke
/// may have happened.
///
/// # Cost
/// One thread; some ten µs and a share of one wait for the disk for a change, or one script and one round trip. At most
/// 100,000 jobs wait and 1,000,000 tickets are open; beyond that the answer is [`Unavailable`].
#[derive(Clone)]
pub struct Vault {
    keeper: Arc<Keeper>,
}

/// What was asked for, or that it cannot be had at the moment.
pub type Answer<T> = Result<T, Unavailable>;

impl Vault {
    /// Opens `access.db` in a directory, or a vault that is forgotten at the end. Directory and file are created
    /// if missing, for this user only. Several processes may have the same file open; only one of them is
    /// a server that [sweeps](Self::sweep).
    ///
    /// With [`SyncMode::Normal`] a loss of power may take back the last seconds: tickets that were redeemed
    /// and have not expired would be good again, and revocations forgotten.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is changed then.
    pub fn open(directory: Option<&Path>, sync: SyncMode) -> Result<Self, OpenError> {
        let local = Local::open(directory, sync)?;
        Ok(Self { keeper: Arc::new(Keeper::Local(local)) })
    }

    /// A vault that is the same for all who open it with the same prefix in the same Redis: nodes, and the command line.
    /// One for each Redis and prefix in a process.
    ///
    /// Waits for Redis, but at most three seconds. After that everything is [`Unavailable`] until Redis answers, which
    /// [`on_change`](Self::on_change) is told; until then [`secrets`](Self::secrets) has one of its own, which is
    /// known for a day. When Redis comes back without its data, the secrets that are known go on.
    ///
    /// Redis' clock decides what has expired, and not the `now` of a method. [Revoked](Self::revoke_user) is what was
    /// issued up to that clock, or up to `now` if that is later by at most a minute. A session whose end is not
    /// known is forgotten when nobody has [checked](Self::check) or [found](Self::find) it for a day.
    ///
    /// What Redis forgets is forgotten: it needs `maxmemory-policy noeviction`, and with `appendfsync everysec` or replicas
    /// a failure may take back the last second: tickets that were redeemed and have not expired would be good
    /// again, and revocations lost.
    pub fn shared(remote: Remote, prefix: &str) -> Self {
        Self { keeper: Arc::new(Keeper::Shared(Shared::new(remote, prefix))) }
    }

    /// Secrets for resume tokens: the one that signs, then those that were retired within a day (at most
    /// 16). Never empty.
    pub fn secrets(&self) -> Vec<[u8; 32]> {
        match &*self.keeper {
            Keeper::Local(local) => local.lists(|lists| lists.secrets.clone()),
            Keeper::Shared(shared) => shared.secrets(),
        }
    }

    /// Signs with a new secret from now on; the one before is [known](Self::secrets) for 24 hours more.
    pub fn rotate_secret(&self, now: u64, done: impl FnOnce(Answer<()>) + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => local.write(move |ledger| ledger.rotate_secret(now), done),
            Keeper::Shared(shared) => shared.rotate_secret(done),
        }
    }

    /// Makes a ticket good.
    pub fn issue(&self, ticket: NewTicket, done: impl FnOnce(Answer<()>) + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => local.write(move |ledger| ledger.issue(&ticket), done),
            Keeper::Shared(shared) => shared.issue(&ticket, done),
        }
    }

    /// Uses a ticket up and begins the session it opens, both or neither. Of any number of attempts with the
    /// same ticket one is [admitted](Redeemed::Admitted).
    pub fn redeem(
        &self,
        hash: [u8; 32],
        ip: Option<IpAddr>,
        now: u64,
        session: NewSession,
        done: impl FnOnce(Answer<Redeemed>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                local.write(move |ledger| ledger.redeem(&hash, ip, now, &session), done)
            }
            Keeper::Shared(shared) => shared.redeem(&hash, ip, now, &session, done),
        }
    }

    /// Uses a ticket up for a session that exists, has not expired and is of the same user; its record and
    /// expiry become those of the ticket. Else the ticket stays good, and the answer is
    /// [`Redeemed::Unknown`].
    pub fn renew(
        &self,
        hash: [u8; 32],
        ip: Option<IpAddr>,
        now: u64,
        session_id: &str,
        user: &str,
        done: impl FnOnce(Answer<Redeemed>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let (session, user) = (session_id.to_owned(), user.to_owned());
                local.write(move |ledger| ledger.renew(&hash, ip, now, &session, &user), done);
            }
            Keeper::Shared(shared) => shared.renew(&hash, ip, now, session_id, user, done),
        }
    }

    /// Begins a session that was opened with something else than a ticket, unless the user or the token has
    /// been revoked since that was issued. A session of the same user that exists gets the record, expiry, token
    /// and time of issue given here; one of another user is left alone, and the answer is [`Begun::Revoked`].
    pub fn begin(&self, session: SessionRow, done: impl FnOnce(Answer<Begun>) + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => local.write(move |ledger| ledger.begin(&session), done),
            Keeper::Shared(shared) => shared.begin(&session, done),
        }
    }

    /// The record of a session, which may be of an earlier run; from now on it is of this one. Whether it has
    /// expired is for the caller to say.
    pub fn find(
        &self,
        session_id: &str,
        done: impl FnOnce(Answer<Option<SessionRow>>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let session = session_id.to_owned();
                local.write(move |ledger| ledger.find(&session), done);
            }
            Keeper::Shared(shared) => shared.find(session_id, done),
        }
    }

    /// Forgets a session that is over. Tried again until it is stored or the vault closed.
    pub fn end(&self, session_id: &str) {
        match &*self.keeper {
            Keeper::Local(local) => local.end(session_id.to_owned()),
            Keeper::Shared(shared) => shared.end(session_id),
        }
    }

    /// Those of some sessions that have no record: they were revoked, have expired or ended. About 2 µs for
    /// each, during which everything else waits: ask for a thousand at a time.
    pub fn check(
        &self,
        ids: Vec<Box<str>>,
        done: impl FnOnce(Answer<Vec<Box<str>>>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => local.read(move |ledger| ledger.missing(&ids), done),
            Keeper::Shared(shared) => shared.check(ids, done),
        }
    }

    /// A page of sessions, of one user or of all, by id, behind `after`.
    pub fn sessions(
        &self,
        user: Option<&str>,
        after: Option<&str>,
        limit: usize,
        done: impl FnOnce(Answer<Vec<SessionRow>>) + Send + 'static,
    ) {
        let after = after.unwrap_or_default();
        match &*self.keeper {
            Keeper::Local(local) => {
                let (user, after) = (user.map(str::to_owned), after.to_owned());
                local.read(move |ledger| ledger.sessions(user.as_deref(), &after, limit), done);
            }
            Keeper::Shared(shared) => shared.sessions(user, after, limit, done),
        }
    }

    /// Removes what has expired: tickets, sessions, revoked tokens, secrets; and sessions of earlier runs that
    /// nobody has [found](Self::find) within `window_ms` of [opening](Self::open). In small steps, with other
    /// jobs in between. To be called every now and then, by servers only.
    pub fn sweep(&self, now: u64, window_ms: u64) {
        match &*self.keeper {
            Keeper::Local(local) => local.sweep(now, window_ms),
            Keeper::Shared(shared) => shared.sweep(),
        }
    }

    /// Removes a session. Whether there was one.
    pub fn revoke_session(&self, id: &str, done: impl FnOnce(Answer<bool>) + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let id = id.to_owned();
                local.write(move |ledger| ledger.end(&id), done);
            }
            Keeper::Shared(shared) => shared.revoke_session(id, done),
        }
    }

    /// Removes the tickets and sessions of a user, and has [`begin`](Self::begin) refuse what was issued up to
    /// `now`. The number of sessions.
    pub fn revoke_user(
        &self,
        user: &str,
        now: u64,
        done: impl FnOnce(Answer<usize>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let user = user.to_owned();
                local.write(move |ledger| ledger.revoke_user(&user, now), done);
            }
            Keeper::Shared(shared) => shared.revoke_user(user, now, done),
        }
    }

    /// Has [`begin`](Self::begin) refuse a token, and removes the sessions it has opened. Forgotten after
    /// `until`, when it has expired by itself.
    pub fn revoke_token(
        &self,
        token_id: &str,
        until: u64,
        done: impl FnOnce(Answer<()>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let token = token_id.to_owned();
                local.write(move |ledger| ledger.revoke_token(&token, until), done);
            }
            Keeper::Shared(shared) => shared.revoke_token(token_id, until, done),
        }
    }

    /// Adds a user, or replaces the one of this id.
    pub fn put_user(&self, user: UserRow, done: impl FnOnce(Answer<()>) + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => local.write(move |ledger| ledger.put_user(&user), done),
            Keeper::Shared(shared) => shared.put_user(user, done),
        }
    }

    /// A user.
    pub fn user(&self, id: &str, done: impl FnOnce(Answer<Option<UserRow>>) + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let id = id.to_owned();
                local.read(move |ledger| ledger.user(&id), done);
            }
            Keeper::Shared(shared) => shared.user(id, done),
        }
    }

    /// A page of users, by id, behind `after`.
    pub fn users(
        &self,
        after: Option<String>,
        limit: usize,
        done: impl FnOnce(Answer<Vec<UserRow>>) + Send + 'static,
    ) {
        let after = after.unwrap_or_default();
        match &*self.keeper {
            Keeper::Local(local) => local.read(move |ledger| ledger.users(&after, limit), done),
            Keeper::Shared(shared) => shared.users(&after, limit, done),
        }
    }

    /// Removes a user and [revokes](Self::revoke_user) what it has. Whether there was one.
    pub fn remove_user(
        &self,
        id: &str,
        now: u64,
        done: impl FnOnce(Answer<bool>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let id = id.to_owned();
                local.write(move |ledger| ledger.remove_user(&id, now), done);
            }
            Keeper::Shared(shared) => shared.remove_user(id, now, done),
        }
    }

    /// All members of rooms, by room and user. A copy of what is in memory.
    pub fn members(&self) -> Vec<Member> {
        match &*self.keeper {
            Keeper::Local(local) => local.lists(lists::Lists::members),
            Keeper::Shared(shared) => shared.members(),
        }
    }

    /// All bans, by room and user, also those that are over. A copy of what is in memory.
    pub fn bans(&self) -> Vec<Ban> {
        match &*self.keeper {
            Keeper::Local(local) => local.lists(lists::Lists::bans),
            Keeper::Shared(shared) => shared.bans(),
        }
    }

    /// Makes somebody a member of a room, or none any more.
    pub fn set_member(
        &self,
        room: &str,
        user: &str,
        rights: Option<String>,
        done: impl FnOnce(Answer<()>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let (room, user) = (room.to_owned(), user.to_owned());
                local.write(move |ledger| ledger.set_member(&room, &user, rights.as_deref()), done);
            }
            Keeper::Shared(shared) => shared.set_member(room, user, rights, done),
        }
    }

    /// Bans somebody; replaces a ban of the same user from the same room.
    pub fn set_ban(&self, ban: Ban, done: impl FnOnce(Answer<()>) + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => local.write(move |ledger| ledger.set_ban(&ban), done),
            Keeper::Shared(shared) => shared.set_ban(ban, done),
        }
    }

    /// Ends a ban. Whether there was one.
    pub fn lift_ban(
        &self,
        room: &str,
        user: &str,
        done: impl FnOnce(Answer<bool>) + Send + 'static,
    ) {
        match &*self.keeper {
            Keeper::Local(local) => {
                let (room, user) = (room.to_owned(), user.to_owned());
                local.write(move |ledger| ledger.lift_ban(&room, &user), done);
            }
            Keeper::Shared(shared) => shared.lift_ban(room, user, done),
        }
    }

    /// Has something called on a thread of the vault's when somebody else has changed what is kept: another process that
    /// has the same file, another node or the command line. Sessions may be gone, and members, bans and secrets are
    /// others. Takes the place of what was given before. Never called for a vault in memory; within a second
    /// otherwise, at most four times a second. Of Redis it hears at once, or as soon as it can be reached.
    pub fn on_change(&self, changed: impl FnMut() + Send + 'static) {
        match &*self.keeper {
            Keeper::Local(local) => local.on_change(Box::new(changed)),
            Keeper::Shared(shared) => shared.on_change(Box::new(changed)),
        }
    }

    /// Does and answers what waits, ends the thread and lets go of the file. What is asked for afterwards is
    /// [`Unavailable`]. Waits for the disk, or at most ten seconds for Redis; a second call does nothing.
    pub fn close(&self) {
        match &*self.keeper {
            Keeper::Local(local) => local.close(),
            Keeper::Shared(shared) => shared.close(),
        }
    }

    /// How it is. Of a shared one, tickets, sessions and users are those of all nodes, as of some seconds ago.
    pub fn stats(&self) -> VaultStats {
        match &*self.keeper {
            Keeper::Local(local) => local.stats(),
            Keeper::Shared(shared) => shared.stats(),
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Where it is kept. The last one to go closes it.
enum Keeper {
    Local(Local),
    Shared(Shared),
}

/// Who is told of changes.
type Changed = Box<dyn FnMut() + Send>;
