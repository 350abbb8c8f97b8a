//! A vault that many nodes share: in Redis.
//!
//! # Keys
//!
//! All begin with `P:{#vault}`, P being the prefix of everything. So all of them, and the channel of this name, are in one
//! slot of a cluster and on one of several servers, and each operation is one script that sees them all. A script takes
//! some 30 µs there: one server lets in some ten thousand users a second, and nothing else is as frequent.
//!
//! ```text
//!   …:t:<hash>    hash: an open ticket; gone when it expires
//!   …:tickets     zset: when they expire, to count them
//!   …:s:<id>      hash: a session; gone when it ends, or a day after any node has asked for it
//!   …:sessions    zset: all by id          …:u:<user>   zset: those of a user
//!   …:due         zset: when they go       …:b:<token>  set: those that a token has opened
//!   …:x:<id>      a session was revoked, for ten minutes: nothing that was under way brings it back
//!   …:cutoffs     hash: user → how often revoked, and up to when what was issued is refused
//!   …:k:<token>   a token is revoked, until it would have expired
//!   …:users, …:names, …:members, …:bans, …:secrets, …:versions
//! ```
//!
//! Scripts are given the first part alone and make the other names of it: most are not known beforehand. And they are
//! given a second key that never exists. While a cluster moves the slot, a part of the keys is here and a part is there; with
//! two keys that are not both there, Redis says `TRYAGAIN` until it has moved all, instead of taking a session for gone or
//! a user for good who is revoked.
//!
//! # Times
//!
//! What expires is given to Redis as the time that is left, and Redis' clock decides. The clocks of nodes only matter
//! for times that are told to others, and for when a credential was issued.
//!
//! # What is kept in memory
//!
//! Members, bans and secrets, as for a file; see [`held`] for how all nodes have the same. A thread looks every few
//! seconds whether a message was missed, and tries again what must not be given up.

mod access;
mod courier;
mod held;
mod lists;
mod pages;
mod script;
mod text;
mod users;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redis::Value;
use throng_hub::Unavailable;

use super::ledger::{Counts, VaultStats};
use super::secrets;
use super::{Answer, Changed, guard, lock};
use crate::redis::Remote;
use crate::redis::remote::Script;
use crate::redis::step::Failure;
use courier::Desk;
use held::{Held, Next};
use text::{Args, number, some};

/// A vault's part of what is in Redis.
pub(super) struct Shared {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why nothing can be stored.
#[derive(Clone, Copy)]
struct Trouble {
    why: &'static str,
    /// Only what may be refused shows that it is over.
    refused: bool,
}

/// What questions under way, messages and the thread share.
struct Core {
    remote: Remote,
    /// What all keys begin with, and the channel.
    base: String,
    /// As whom this vault speaks, and whose sessions it has: a random text.
    run: String,
    held: Mutex<Held>,
    /// Something was read, or answered.
    moved: Condvar,
    desk: Desk,
    changed: Mutex<Option<Changed>>,
    counts: Mutex<Counts>,
    commits: AtomicU64,
    waiting: AtomicUsize,
    trouble: Mutex<Option<Trouble>>,
    closed: AtomicBool,
}

impl Shared {
    pub(super) fn new(remote: Remote, prefix: &str) -> Self {
        let core = Arc::new(Core {
            remote,
            base: format!("{prefix}:{{#vault}}"),
            run: text::nonce(),
            held: Mutex::default(),
            moved: Condvar::new(),
            desk: Desk::default(),
            changed: Mutex::default(),
            counts: Mutex::default(),
            commits: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            trouble: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let (heard, again) = (Arc::downgrade(&core), Arc::downgrade(&core));
        core.remote.listen(
            core.base.clone(),
            move |message| {
                if let Some(core) = heard.upgrade() {
                    core.hear(&message);
                }
            },
            move || {
                if let Some(core) = again.upgrade() {
                    core.load();
                }
            },
        );
        core.load();
        let worker = core.clone();
        let thread = thread::Builder::new()
            .name("throng-vault".to_owned())
            .spawn(move || worker.work())
            .map_err(|error| tracing::error!(%error, "changes of the vault may go unnoticed"))
            .ok();
        core.await_first();
        Self { core, thread: Mutex::new(thread) }
    }

    pub(super) fn secrets(&self) -> Vec<[u8; 32]> {
        lock(&self.core.held).lists.secrets.clone()
    }

    pub(super) fn on_change(&self, changed: Changed) {
        let before = lock(&self.core.changed).replace(changed);
        drop(before); // which may drop anything: not under a lock
    }

    pub(super) fn stats(&self) -> VaultStats {
        let counts = *lock(&self.core.counts);
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        VaultStats {
            tickets: number(counts.tickets),
            sessions: number(counts.sessions),
            users: number(counts.users),
            queued: self.core.desk.len_with(&self.core.waiting),
            commits: self.core.commits.load(Ordering::Relaxed),
            trouble: lock(&self.core.trouble).map(|trouble| trouble.why.to_owned()),
        }
    }

    /// Waits for the answers to what was asked, for some seconds; nothing is asked any more.
    pub(super) fn close(&self) {
        if self.core.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.core.desk.close();
        let changed = lock(&self.core.changed).take();
        drop(changed);
        let thread = lock(&self.thread).take();
        // Not from where it would wait for itself: an answer may be the last to let go of the vault.
        if ANSWERING.get() {
            return;
        }
        if let Some(thread) = thread.filter(|it| it.thread().id() != thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the thread of the vault ended with a panic");
        }
        self.core.wait(PATIENCE, |_| self.core.waiting.load(Ordering::SeqCst) == 0);
    }

    /// Asks for a change that must not be forgotten. With too few replicas it is done, and not acknowledged.
    fn change<T: 'static>(
        &self,
        script: &'static Script,
        args: Args,
        read: impl FnOnce(&Arc<Core>, Value) -> Option<Answer<T>> + Send + 'static,
        done: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        let read = |core: &Arc<Core>, told| {
            let [told, enough] = some(told)?;
            if number(&enough)? == 1 {
                return read(core, told);
            }
            core.fail("too few replicas of Redis are connected", true);
            // Here it has to be seen as it is seen by all the others.
            lock(&core.held).doubt();
            core.load();
            Some(Err(Unavailable))
        };
        self.ask(script, self.with_replicas(args), read, done);
    }

    /// How many replicas there have to be, for scripts that want to know.
    fn with_replicas(&self, args: Args) -> Args {
        args.number(self.core.remote.min_replicas() as u64)
    }

    /// Asks, and answers with what `read` makes of what is said.
    fn ask<T: 'static>(
        &self,
        script: &'static Script,
        args: Args,
        read: impl FnOnce(&Arc<Core>, Value) -> Option<Answer<T>> + Send + 'static,
        done: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        self.core.ask(script, args, read, done);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl Core {
    fn ask<T: 'static>(
        self: &Arc<Self>,
        script: &'static Script,
        args: Args,
        read: impl FnOnce(&Arc<Self>, Value) -> Option<Answer<T>> + Send + 'static,
        done: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= MAX_WAITING
            || self.closed.load(Ordering::SeqCst)
        {
            self.answered();
            return guard(|| done(Err(Unavailable)));
        }
        let core = self.clone();
        self.run(script, args, move |told| {
            let answer = match told {
                Ok(value) => read(&core, value).unwrap_or_else(|| {
                    core.fail("Redis says what makes no sense", true);
                    Err(Unavailable)
                }),
                Err(_) => Err(Unavailable),
            };
            let before = ANSWERING.replace(true);
            guard(|| done(answer));
            ANSWERING.set(before);
            core.answered();
        });
    }

    /// Runs a script, and keeps in mind how that went.
    fn run(
        self: &Arc<Self>,
        script: &'static Script,
        args: Args,
        done: impl FnOnce(Result<Value, Failure>) + Send + 'static,
    ) {
        let core = self.clone();
        let keys = vec![self.base.clone(), format!("{}:never", self.base)];
        self.remote.run(script, keys, args.into_inner(), move |told| {
            match &told {
                Ok(_) => core.recovered(script.source.starts_with(script::MAY_BE_REFUSED)),
                Err(Failure::Away) => core.fail("Redis cannot be reached", false),
                Err(Failure::Refused) => core.fail("Redis refuses", true),
                Err(Failure::Unknown) => core.fail("Redis does not answer", false),
            }
            done(told);
        });
    }

    fn answered(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.moved.notify_all();
    }

    fn recovered(&self, all: bool) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        if lock(&self.trouble).take_if(|trouble| all || !trouble.refused).is_some() {
            tracing::info!("tickets and sessions are stored again");
        }
    }

    fn fail(&self, why: &'static str, refused: bool) {
        let before = lock(&self.trouble).replace(Trouble { why, refused });
        if before.is_none() {
            tracing::error!(error = why, "tickets and sessions cannot be stored");
        }
    }

    /// Reads anew what is kept in memory, if it is not as it was.
    fn load(self: &Arc<Self>) {
        let Some((known, secret)) = lock(&self.held).begin_load() else { return };
        let Some(secret) = secret.or_else(secrets::draw) else {
            return lock(&self.held).fail_load();
        };
        let args = Args::new().text(&known).text(&text::hex(&secret)).text(&text::nonce());
        let core = self.clone();
        self.run(&script::LOAD, args, move |told| {
            let Ok(told) = told else { return lock(&core.held).fail_load() };
            let loaded = lock(&core.held).end_load(told, Instant::now());
            core.moved.notify_all();
            let Some((next, counts)) = loaded else {
                lock(&core.held).fail_load();
                return core.fail("Redis says what makes no sense", true);
            };
            *lock(&core.counts) = counts;
            core.follow(next);
        });
    }

    fn hear(self: &Arc<Self>, message: &[u8]) {
        let next = lock(&self.held).hear(message, &self.run);
        self.follow(next);
    }

    fn follow(self: &Arc<Self>, next: Next) {
        if next.tell {
            self.desk.tell();
        }
        if next.load {
            self.load();
        }
    }

    /// Waits until the shared secrets are known; not for ever.
    fn await_first(&self) {
        self.wait(FIRST, Held::is_loaded);
        let mut held = lock(&self.held);
        if !held.is_loaded() {
            tracing::warn!("Redis cannot be reached: nobody can sign in until it can be");
            // Without randomness there is none, and nothing is signed.
            secrets::draw().into_iter().for_each(|secret| held.make_do(secret, Instant::now()));
        }
    }

    fn wait(&self, time: Duration, mut over: impl FnMut(&Held) -> bool) {
        let until = Instant::now() + time;
        let mut held: MutexGuard<'_, Held> = lock(&self.held);
        while !over(&held) {
            let left = until.saturating_duration_since(Instant::now()).min(LOOK);
            if left.is_zero() {
                return;
            }
            let waited = self.moved.wait_timeout(held, left);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

thread_local! {
    /// An answer is being given on this thread.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

/// Beyond this questions are refused.
const MAX_WAITING: usize = 100_000;

/// How long to wait for the first answer of all.
const FIRST: Duration = Duration::from_secs(3);

/// How long to wait for the last ones.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is waited for is looked at so often, should nobody say.
const LOOK: Duration = Duration::from_millis(50);
