mod expiry;
mod gone;
mod revoke;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use throng_protocol::Timestamp;

use crate::backend::Asker;
use crate::history::millis;
use crate::identity::Identity;
use crate::membership::Ending;
use crate::pass::Pass;
use crate::seats::ByUser;
use expiry::Expiring;
use gone::Gone;

/// How long `ref`s of a quiet session are remembered: longer than any session can be away.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// The longest time a session can be away: 10 minutes.
pub const MAX_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Who is connected, and which sessions may come back.
///
/// A session whose connection was lost can be taken up again for the *resume window*. Everything is in
/// 64 shards with a lock each. A connected session takes about 140 bytes here, a lost one 60 more; of
/// these there are at most twice as many as connected ones, or a quarter of a million.
///
/// A session that is signed in has a [`Pass`]. It ends when the pass does ([`Sessions::expired`]), or is revoked; then
/// its resume token is worthless, and a refresh that is still on its way comes too late ([`Sessions::renew`]).
pub struct Sessions {
    shards: Box<[Mutex<Shard>]>,
    /// When passes end, those that have been renewed or gone since included.
    expiring: Mutex<Expiring>,
    ended: Box<dyn Fn(&str) + Send + Sync>,
    watch: OnceLock<Watch>,
    hasher: RandomState,
    users: AtomicUsize,
    /// Users on other nodes.
    elsewhere: AtomicUsize,
    window: Duration,
    started: Timestamp,
}

#[derive(Debug, Default)]
struct Shard {
    users: HashMap<ByUser, Vec<Held>>,
    /// The sessions that were lost, by when they expire. Those that have come back since are recognised
    /// by the time in `users` not being theirs.
    lost: VecDeque<(Timestamp, Arc<Identity>)>,
    /// What was revoked lately: whoever is on the way in must not slip through.
    gone: Gone,
    connected: usize,
}

/// A session of a user.
#[derive(Debug)]
struct Held {
    who: Arc<Identity>,
    pass: Option<Arc<Pass>>,
    since: Timestamp,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connected(Asker),
    Lost { until: Timestamp },
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A connection has it.
    Connected(Asker),
    /// Its connection was lost; it may come back.
    Lost,
    /// Nothing: it has ended, or was never here.
    Unknown,
}

/// A session, as somebody asks for it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Whose it is.
    pub who: Arc<Identity>,
    /// What it may do; none for anonymous visitors.
    pub pass: Option<Arc<Pass>>,
    /// When it began here.
    pub since: Timestamp,
    /// Where its connection is; none while it is away.
    pub place: Option<Asker>,
    /// It was revoked; its connection is about to be gone.
    pub is_over: bool,
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has a connection, for the first time or again.
    Arrived,
    /// Its connection was lost; it may come back until then.
    Lost(Timestamp),
    /// It is over.
    Over,
}

/// Told a session, whether it is signed in, and what becomes of it.
type Watch = Box<dyn Fn(&Arc<Identity>, bool, Turn) + Send + Sync>;

impl Sessions {
    /// Nobody is there. Sessions may be away for `window`, at most [`MAX_WINDOW`].
    pub fn new(window: Duration, now: Timestamp) -> Self {
        Self::telling(window, now, |_| {})
    }

    /// The same; `ended` is told the ids of signed-in sessions that are over for good, under no lock. It must not
    /// block.
    pub fn telling(
        window: Duration,
        now: Timestamp,
        ended: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            expiring: Mutex::default(),
            ended: Box::new(ended),
            watch: OnceLock::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            users: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
            window: window.min(MAX_WINDOW),
            started: now,
        }
    }

    /// Has somebody told of every turn of every session, in order for each one, under the lock of its shard: nobody who
    /// blocks or comes back here. From then on it is for them to say which sessions are over for good, and nobody else
    /// is told but of those that are [abandoned](Self::abandon). Once, before anybody arrives.
    pub fn watch(&self, watch: impl Fn(&Arc<Identity>, bool, Turn) + Send + Sync + 'static) {
        let _ = self.watch.set(Box::new(watch));
    }

    /// How long a session may be away.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// A connection begins with this session, new or taken up again. `pass`: of whoever is signed in. Names the
    /// older connection that has it and is to be closed.
    ///
    /// # Errors
    /// When the session was revoked a moment ago.
    pub fn arrive(
        &self,
        who: &Arc<Identity>,
        pass: Option<&Arc<Pass>>,
        place: Asker,
        now: Timestamp,
    ) -> Result<Option<Asker>, Revoked> {
        let mut shard = self.shard(who.user_id());
        let over = self.expire(&mut shard, now);
        if shard.gone.has(who, pass.map(|pass| &**pass)) {
            drop(shard);
            self.tell(&over);
            return Err(Revoked);
        }
        let held = match shard.users.get_mut(who.user_id()) {
            Some(held) => held,
            None => shard.users.entry(ByUser(Arc::clone(who))).or_insert(Vec::with_capacity(1)),
        };
        let first = !held.iter().any(Held::is_connected);
        let known = held.iter_mut().find(|held| held.who.session_id() == who.session_id());
        let mut expires = pass.and_then(|pass| pass.expires);
        let older = match known {
            Some(held) => {
                let before = std::mem::replace(&mut held.pass, pass.cloned());
                expires = expires.filter(|_| before.and_then(|pass| pass.expires) != expires);
                let older = std::mem::replace(&mut held.state, State::Connected(place));
                match older {
                    State::Connected(older) => Some(older),
                    State::Lost { .. } => None,
                }
            }
            None => {
                let (who, pass) = (Arc::clone(who), pass.cloned());
                held.push(Held { who, pass, since: now, state: State::Connected(place) });
                None
            }
        };
        shard.connected += usize::from(older.is_none());
        self.users.fetch_add(usize::from(first), Ordering::Relaxed);
        self.turns(who, pass.is_some(), Turn::Arrived);
        drop(shard);
        self.expires(who, expires);
        self.tell(&over);
        Ok(older)
    }

    /// A new session does not begin after all.
    pub fn abandon(&self, who: &Identity, pass: Option<&Arc<Pass>>) {
        if pass.is_some() {
            (self.ended)(who.session_id());
        }
    }

    /// Gives a session another pass, if this connection still has it: a refresh that comes too late changes nothing.
    #[must_use]
    pub fn renew(&self, who: &Arc<Identity>, place: Asker, pass: &Arc<Pass>) -> bool {
        let mut shard = self.shard(who.user_id());
        if shard.gone.has(who, Some(pass)) {
            return false;
        }
        let mut held = shard.users.get_mut(who.user_id()).into_iter().flatten();
        let mine = |held: &&mut Held| {
            held.who.session_id() == who.session_id() && held.state == State::Connected(place)
        };
        let Some(held) = held.find(mine) else { return false };
        held.pass = Some(Arc::clone(pass));
        drop(shard);
        self.expires(who, pass.expires);
        true
    }

    /// A connection ends. When it was lost, its session may come back. Nothing happens when another
    /// connection has the session in the meantime.
    pub fn depart(&self, who: &Arc<Identity>, place: Asker, ending: Ending, now: Timestamp) {
        let mut guard = self.shard(who.user_id());
        let shard = &mut *guard;
        let mut over = self.expire(shard, now);
        let Some(held) = shard.users.get_mut(who.user_id()) else {
            drop(guard);
            return self.tell(&over);
        };
        let mine = |held: &Held| {
            held.who.session_id() == who.session_id() && held.state == State::Connected(place)
        };
        let Some(at) = held.iter().position(mine) else {
            drop(guard);
            return self.tell(&over);
        };
        shard.connected -= 1;
        let revoked = shard.gone.has(who, held[at].pass.as_deref());
        if ending == Ending::Lost
            && !revoked
            && shard.lost.len() < FEW_LOST.max(2 * shard.connected)
        {
            let until = Timestamp(now.0.saturating_add(millis(self.window)));
            held[at].state = State::Lost { until };
            self.turns(&held[at].who, held[at].pass.is_some(), Turn::Lost(until));
            shard.lost.push_back((until, Arc::clone(&held[at].who)));
        } else {
            let gone = held.swap_remove(at);
            self.turns(&gone.who, gone.pass.is_some(), Turn::Over);
            over.extend(gone.pass.is_some().then_some(gone.who));
        }
        let last = !held.iter().any(Held::is_connected);
        if held.is_empty() {
            shard.users.remove(who.user_id());
        }
        shard.shrink();
        drop(guard);
        self.users.fetch_sub(usize::from(last), Ordering::Relaxed);
        self.tell(&over);
    }

    /// A session, if it is known: connected, or lost and still to come back.
    pub fn find(&self, user_id: &str, session_id: &str, now: Timestamp) -> Option<Listed> {
        let shard = self.shard(user_id);
        let held = shard.users.get(user_id).into_iter().flatten();
        let mut held = held.filter(|held| held.who.session_id() == session_id);
        let held = held.next().filter(|held| held.is_known(now))?;
        (!shard.gone.has(&held.who, held.pass.as_deref())).then(|| held.listed())
    }

    /// The sessions of one user, or of all, that `wanted` accepts. Looks at all of them: for people, and for
    /// checks that are paced.
    pub fn list(
        &self,
        user_id: Option<&str>,
        now: Timestamp,
        mut wanted: impl FnMut(&Listed) -> bool,
    ) -> Vec<Listed> {
        let mut listed = Vec::new();
        let mut look = |shard: &Shard| {
            let all = shard
                .users
                .iter()
                .filter(|(user, _)| user_id.is_none_or(|wanted| wanted == user.0.user_id()));
            let held = all.flat_map(|(_, held)| held).filter(|held| held.is_known(now));
            let held = held.map(|held| {
                let is_over = shard.gone.has(&held.who, held.pass.as_deref());
                Listed { is_over, ..held.listed() }
            });
            listed.extend(held.filter(&mut wanted));
        };
        match user_id {
            Some(user) => look(&self.shard(user)),
            None => self.shards.iter().for_each(|shard| look(&enter(shard))),
        }
        listed
    }

    fn tell(&self, over: &[Arc<Identity>]) {
        if self.watch.get().is_none() {
            over.iter().for_each(|who| (self.ended)(who.session_id()));
        }
    }

    fn turns(&self, who: &Arc<Identity>, signed_in: bool, turn: Turn) {
        if let Some(watch) = self.watch.get() {
            watch(who, signed_in, turn);
        }
    }

    /// Lets go of sessions that have not come back. Names those that were signed in.
    fn expire(&self, shard: &mut Shard, now: Timestamp) -> Vec<Arc<Identity>> {
        let over = shard.expire(now);
        // Others need not be told that an anonymous visitor's time is over.
        over.iter().for_each(|who| self.turns(who, true, Turn::Over));
        over
    }

    /// Forgets a session that is on another node: nobody is told, and its end here is of no interest. Names its
    /// connection, to be closed. `is_so` is asked under the lock under which sessions take their turns: it may have come
    /// back meanwhile.
    pub fn forget(
        &self,
        user_id: &str,
        session_id: &str,
        is_so: impl FnOnce() -> bool,
    ) -> Option<Asker> {
        let shard = &mut *self.shard(user_id);
        if !is_so() {
            return None;
        }
        let held = shard.users.get_mut(user_id)?;
        let at = held.iter().position(|held| held.who.session_id() == session_id)?;
        let gone = held.swap_remove(at);
        let last = !held.iter().any(Held::is_connected);
        if held.is_empty() {
            shard.users.remove(user_id);
        }
        let State::Connected(place) = gone.state else { return None };
        shard.connected -= 1;
        self.users.fetch_sub(usize::from(last), Ordering::Relaxed);
        Some(place)
    }

    /// What is known of a session.
    pub fn standing(&self, user_id: &str, session_id: &str, now: Timestamp) -> Standing {
        match self.find(user_id, session_id, now) {
            Some(Listed { place: Some(place), .. }) => Standing::Connected(place),
            Some(_) => Standing::Lost,
            None => Standing::Unknown,
        }
    }

    /// Whether sessions of an earlier run of the server may still come back.
    pub fn is_young(&self, now: Timestamp) -> bool {
        now.0 < self.started.0.saturating_add(millis(self.window))
    }

    /// Sends a user away: sessions that were lost cannot come back. Names the connections, to be closed.
    pub fn dismiss(&self, user_id: &str, now: Timestamp) -> Vec<Asker> {
        let shard = self.shard(user_id);
        let held = shard.users.get(user_id).into_iter().flatten();
        let sessions: Vec<Box<str>> = held.map(|held| held.who.session_id().into()).collect();
        drop(shard);
        sessions.iter().filter_map(|session| self.revoke(user_id, session, now)).collect()
    }

    /// The connections of a user.
    pub fn places(&self, user_id: &str) -> Vec<Asker> {
        let shard = self.shard(user_id);
        let held = shard.users.get(user_id).into_iter().flatten();
        held.filter_map(|held| match held.state {
            State::Connected(place) => Some(place),
            State::Lost { .. } => None,
        })
        .collect()
    }

    /// The number of connected users.
    pub fn user_count(&self) -> usize {
        self.users.load(Ordering::Relaxed)
    }

    /// The number of connected users on all nodes, as far as is known: whoever is on two of them counts twice.
    pub fn all_users(&self) -> usize {
        self.user_count() + self.elsewhere.load(Ordering::Relaxed)
    }

    /// Says how many users there are on other nodes.
    pub fn set_elsewhere(&self, users: usize) {
        self.elsewhere.store(users, Ordering::Relaxed);
    }

    fn shard(&self, user_id: &str) -> MutexGuard<'_, Shard> {
        enter(&self.shards[self.hasher.hash_one(user_id) as usize % self.shards.len()])
    }
}

fn enter(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("users", &self.users).finish_non_exhaustive()
    }
}

/// The session has been revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked;

impl Held {
    fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// Whether it is connected, or may come back.
    fn is_known(&self, now: Timestamp) -> bool {
        match self.state {
            State::Connected(_) => true,
            State::Lost { until } => until > now,
        }
    }

    fn listed(&self) -> Listed {
        let place = match self.state {
            State::Connected(place) => Some(place),
            State::Lost { .. } => None,
        };
        let (who, pass) = (Arc::clone(&self.who), self.pass.clone());
        Listed { who, pass, since: self.since, place, is_over: false }
    }
}

impl Shard {
    /// Lets go of sessions that have not come back. Amortised constant. Names those that were signed in.
    #[must_use]
    fn expire(&mut self, now: Timestamp) -> Vec<Arc<Identity>> {
        let mut over = Vec::new();
        while self.lost.front().is_some_and(|(until, _)| *until <= now) {
            let Some((until, who)) = self.lost.pop_front() else { break };
            let Some(held) = self.users.get_mut(who.user_id()) else { continue };
            let gone = State::Lost { until };
            held.retain(|held| {
                let stays = held.state != gone || held.who.session_id() != who.session_id();
                if !stays && held.pass.is_some() {
                    over.push(Arc::clone(&held.who));
                }
                stays
            });
            if held.is_empty() {
                self.users.remove(who.user_id());
            }
        }
        self.gone.forget(Timestamp(now.0.saturating_sub(ON_THE_WAY)));
        self.shrink();
        over
    }

    fn shrink(&mut self) {
        if self.users.capacity() > 64 && self.users.len() < self.users.capacity() / 8 {
            self.users.shrink_to(self.users.len() * 2);
        }
        if self.lost.capacity() > 64 && self.lost.len() < self.lost.capacity() / 8 {
            self.lost.shrink_to(self.lost.len() * 2);
        }
    }
}

const SHARDS: usize = 64;
const MANY_EXPIRING: usize = 4096;
/// Nobody takes longer from the check of a credential to the worker, in milliseconds.
const ON_THE_WAY: u64 = 60_000;
/// In each shard.
const FEW_LOST: usize = 4096;

#[cfg(test)]
mod tests;
