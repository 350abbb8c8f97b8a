use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
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

#[derive(Default)]
struct Expiring {
    heap: BinaryHeap<Reverse<(Timestamp, Named)>>,
    /// From how many on it is looked through for those that are gone.
    full: usize,
}

#[derive(Debug, Default)]
struct Shard {
    users: HashMap<ByUser, Vec<Held>>,
    /// The sessions that were lost, by when they expire. Those that have come back since are recognised
    /// by the time in `users` not being theirs.
    lost: VecDeque<(Timestamp, Arc<Identity>)>,
    /// What was revoked lately: whoever is on the way in must not slip through.
    gone: VecDeque<Gone>,
    connected: usize,
}

/// A revocation.
#[derive(Debug)]
struct Gone {
    what: Revocation,
    at: Timestamp,
}

#[derive(Debug)]
enum Revocation {
    /// Of one session.
    Session(Box<str>),
    /// Of all that were opened with this token.
    Token(Box<str>),
    /// Of all that this user had opened by then.
    User(Box<str>),
}

/// A session of a user.
#[derive(Debug)]
struct Held {
    who: Arc<Identity>,
    pass: Option<Arc<Pass>>,
    since: Timestamp,
    state: State,
}

/// A session by its names, in an order.
#[derive(Clone, Debug)]
struct Named(Arc<Identity>);

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
        if shard.is_gone(who, pass.map(|pass| &**pass)) {
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
        if shard.is_gone(who, Some(pass)) {
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
        let revoked = is_gone(&shard.gone, who, held[at].pass.as_deref());
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
        (!shard.is_gone(&held.who, held.pass.as_deref())).then(|| held.listed())
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
                let is_over = shard.is_gone(&held.who, held.pass.as_deref());
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

    /// Ends a session, connected or not: it cannot come back. Names its connection, to be closed.
    pub fn revoke(&self, user_id: &str, session_id: &str, now: Timestamp) -> Option<Asker> {
        let mut guard = self.shard(user_id);
        let shard = &mut *guard;
        let mut over = self.expire(shard, now);
        let what = Revocation::Session(session_id.into());
        shard.gone.push_back(Gone { what, at: now });
        let mut place = None;
        if let Some(held) = shard.users.get_mut(user_id) {
            held.retain(|held| match held.state {
                _ if held.who.session_id() != session_id => true,
                // It stays until its connection is gone; nobody can take it up any more.
                State::Connected(at) => {
                    place = Some(at);
                    true
                }
                State::Lost { .. } => {
                    self.turns(&held.who, held.pass.is_some(), Turn::Over);
                    over.extend(held.pass.is_some().then(|| Arc::clone(&held.who)));
                    false
                }
            });
            if held.is_empty() {
                shard.users.remove(user_id);
            }
        }
        drop(guard);
        self.tell(&over);
        place
    }

    /// Ends all signed-in sessions of a user, those on their way in included. Names the connections, to be
    /// closed.
    pub fn revoke_all(&self, user_id: &str, now: Timestamp) -> Vec<Asker> {
        let shard = &mut *self.shard(user_id);
        shard.gone.push_back(Gone { what: Revocation::User(user_id.into()), at: now });
        let mut places = Vec::new();
        if let Some(held) = shard.users.get_mut(user_id) {
            held.retain(|held| match held.state {
                _ if held.pass.is_none() => true,
                State::Connected(at) => {
                    places.push(at);
                    true
                }
                State::Lost { .. } => {
                    self.turns(&held.who, true, Turn::Over);
                    false
                }
            });
            if held.is_empty() {
                shard.users.remove(user_id);
            }
        }
        places
    }

    /// A session was revoked whose user is not known here: should it be on its way in, it is refused.
    pub fn refuse_session(&self, session_id: &str, now: Timestamp) {
        self.refuse(|| Revocation::Session(session_id.into()), now);
    }

    /// The same for all sessions that were opened with a token.
    pub fn refuse_token(&self, token: &str, now: Timestamp) {
        self.refuse(|| Revocation::Token(token.into()), now);
    }

    fn refuse(&self, what: impl Fn() -> Revocation, now: Timestamp) {
        for shard in &self.shards {
            let mut shard = enter(shard);
            let over = self.expire(&mut shard, now);
            shard.gone.push_back(Gone { what: what(), at: now });
            drop(shard);
            self.tell(&over);
        }
    }

    /// The sessions whose pass is over by now. Looks through the others now and then for those that are gone.
    pub fn expired(&self, now: Timestamp) -> Vec<Listed> {
        self.sift_expiring(now);
        let mut due = Vec::new();
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        while expiring.heap.peek().is_some_and(|Reverse((when, _))| *when <= now) {
            due.extend(expiring.heap.pop().map(|Reverse((_, Named(who)))| who));
        }
        drop(expiring);
        let over = |listed: &Listed| listed.pass.as_ref().is_some_and(|pass| pass.is_over(now));
        due.iter()
            .filter_map(|who| self.find(who.user_id(), who.session_id(), now))
            .filter(over)
            .collect()
    }

    /// When the next pass ends, as far as is known.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        expiring.heap.peek().map(|Reverse((when, _))| *when)
    }

    fn expires(&self, who: &Arc<Identity>, when: Option<Timestamp>) {
        let Some(when) = when else { return };
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        expiring.heap.push(Reverse((when, Named(Arc::clone(who)))));
    }

    /// Lets go of those that were gone before their time. Others may push meanwhile.
    fn sift_expiring(&self, now: Timestamp) {
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        if expiring.heap.len() <= expiring.full.max(MANY_EXPIRING) {
            return;
        }
        let mut heap = std::mem::take(&mut expiring.heap);
        drop(expiring);
        heap.retain(|Reverse((when, Named(who)))| {
            let listed = self.find(who.user_id(), who.session_id(), now);
            listed.and_then(|listed| listed.pass?.expires) == Some(*when)
        });
        let mut expiring = self.expiring.lock().unwrap_or_else(PoisonError::into_inner);
        expiring.full = 2 * heap.len();
        expiring.heap.append(&mut heap);
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

impl Ord for Named {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (one, two) = (&self.0, &other.0);
        (one.user_id(), one.session_id()).cmp(&(two.user_id(), two.session_id()))
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Named {}

fn is_gone(gone: &VecDeque<Gone>, who: &Identity, pass: Option<&Pass>) -> bool {
    gone.iter().any(|gone| match &gone.what {
        Revocation::Session(session) => **session == *who.session_id(),
        Revocation::Token(token) => pass.and_then(|pass| pass.token.as_ref()) == Some(token),
        Revocation::User(user) => {
            **user == *who.user_id() && pass.is_some_and(|pass| pass.opened <= gone.at)
        }
    })
}

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
        let slipped_by = now.0.saturating_sub(ON_THE_WAY);
        while self.gone.front().is_some_and(|gone| gone.at.0 < slipped_by) {
            self.gone.pop_front();
        }
        self.shrink();
        over
    }

    fn is_gone(&self, who: &Identity, pass: Option<&Pass>) -> bool {
        is_gone(&self.gone, who, pass)
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
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);
    const AT: Asker = Asker { worker: 0, token: 1 };
    const ELSEWHERE: Asker = Asker { worker: 1, token: 2 };

    fn who(user: &str, session: &str) -> Arc<Identity> {
        Arc::new(Identity::anonymous(user, session, None))
    }

    #[test]
    fn whoever_watches_is_told_every_turn() {
        let sessions = Sessions::telling(Duration::from_secs(120), Timestamp(0), |_| panic!());
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        sessions.watch(move |who, signed_in, turn| {
            tells.lock().unwrap().push((who.session_id().to_owned(), signed_in, turn));
        });
        let turns = |expected: &[(&str, bool, Turn)]| {
            let told = std::mem::take(&mut *told.lock().unwrap());
            let told: Vec<_> =
                told.iter().map(|(id, signed, turn)| (&**id, *signed, *turn)).collect();
            assert_eq!(told, expected);
        };
        let (ada, eve) = (who("ada", "s_1"), who("eve", "s_2"));
        let pass = Arc::new(Pass::default());
        sessions.arrive(&ada, Some(&pass), AT, Timestamp(1)).unwrap();
        sessions.arrive(&eve, None, AT, Timestamp(1)).unwrap();
        turns(&[("s_1", true, Turn::Arrived), ("s_2", false, Turn::Arrived)]);
        sessions.depart(&ada, ELSEWHERE, Ending::Lost, Timestamp(2));
        turns(&[]);
        sessions.depart(&ada, AT, Ending::Lost, Timestamp(2));
        sessions.depart(&eve, AT, Ending::Orderly, Timestamp(2));
        turns(&[("s_1", true, Turn::Lost(Timestamp(120_002))), ("s_2", false, Turn::Over)]);
        assert_eq!(sessions.revoke("ada", "s_1", Timestamp(3)), None);
        turns(&[("s_1", true, Turn::Over)]);
        // On another node now: whoever is there is closed, whoever is away is forgotten without a word.
        let bob = who("bob", "s_3");
        sessions.arrive(&bob, None, AT, Timestamp(4)).unwrap();
        sessions.arrive(&bob, None, ELSEWHERE, Timestamp(4)).unwrap();
        turns(&[("s_3", false, Turn::Arrived), ("s_3", false, Turn::Arrived)]);
        assert_eq!(sessions.forget("bob", "s_3", || false), None);
        assert_eq!(
            (sessions.forget("bob", "s_3", || true), sessions.user_count()),
            (Some(ELSEWHERE), 0)
        );
        sessions.depart(&bob, ELSEWHERE, Ending::Lost, Timestamp(5));
        sessions.arrive(&eve, None, AT, Timestamp(5)).unwrap();
        sessions.depart(&eve, AT, Ending::Lost, Timestamp(5));
        assert_eq!(sessions.forget("eve", "s_2", || true), None);
        assert_eq!(sessions.standing("eve", "s_2", Timestamp(6)), Standing::Unknown);
        turns(&[("s_2", false, Turn::Arrived), ("s_2", false, Turn::Lost(Timestamp(120_005)))]);
        assert_eq!(sessions.standing("bob", "s_3", Timestamp(6)), Standing::Unknown);
        sessions.set_elsewhere(3);
        assert_eq!((sessions.user_count(), sessions.all_users()), (0, 3));
    }

    #[test]
    fn a_lost_session_comes_back_within_the_window() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let ada = who("u_1", "s_1");
        assert_eq!(sessions.arrive(&ada, None, AT, Timestamp(0)), Ok(None));
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(1)), Standing::Connected(AT));
        sessions.depart(&ada, AT, Ending::Lost, Timestamp(1000));
        assert_eq!(sessions.user_count(), 0);
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(120_999)), Standing::Lost);
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(121_000)), Standing::Unknown);
        assert_eq!(sessions.arrive(&ada, None, ELSEWHERE, Timestamp(2000)), Ok(None));
        assert_eq!(sessions.user_count(), 1);
        sessions.arrive(&who("u_2", "s_2"), None, AT, Timestamp(900_000)).unwrap(); // whatever expires, expires
        assert_eq!(sessions.places("u_1"), [ELSEWHERE]);
    }

    #[test]
    fn an_orderly_end_is_one() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let ada = who("u_1", "s_1");
        sessions.arrive(&ada, None, AT, Timestamp(0)).unwrap();
        sessions.depart(&ada, AT, Ending::Orderly, Timestamp(1));
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(2)), Standing::Unknown);
        assert_eq!(sessions.user_count(), 0);
    }

    #[test]
    fn the_newer_connection_has_the_session() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let ada = who("u_1", "s_1");
        sessions.arrive(&ada, None, AT, Timestamp(0)).unwrap();
        let arrived = sessions.arrive(&who("u_1", "s_1"), None, ELSEWHERE, Timestamp(1));
        assert_eq!(arrived, Ok(Some(AT)));
        sessions.depart(&ada, AT, Ending::Lost, Timestamp(2));
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(3)), Standing::Connected(ELSEWHERE));
        assert_eq!(sessions.user_count(), 1);
    }

    #[test]
    fn users_are_counted_once() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let (one, two) = (who("u_1", "s_1"), who("u_1", "s_2"));
        sessions.arrive(&one, None, AT, Timestamp(0)).unwrap();
        sessions.arrive(&two, None, ELSEWHERE, Timestamp(0)).unwrap();
        assert_eq!((sessions.user_count(), sessions.places("u_1").len()), (1, 2));
        sessions.depart(&one, AT, Ending::Lost, Timestamp(1));
        assert_eq!(sessions.user_count(), 1);
        sessions.depart(&two, ELSEWHERE, Ending::Orderly, Timestamp(1));
        assert_eq!(sessions.user_count(), 0);
        sessions.depart(&two, ELSEWHERE, Ending::Orderly, Timestamp(1));
        assert_eq!(sessions.user_count(), 0, "only once");
    }

    #[test]
    fn lost_sessions_are_bounded() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        for n in 0..SHARDS * FEW_LOST * 2 {
            let who = who(&format!("u_{n}"), "s");
            sessions.arrive(&who, None, AT, Timestamp(0)).unwrap();
            sessions.depart(&who, AT, Ending::Lost, Timestamp(0));
        }
        let lost: usize =
            sessions.shards.iter().map(|shard| shard.lock().unwrap().lost.len()).sum();
        assert!(lost <= SHARDS * FEW_LOST, "{lost}");
        for shard in &sessions.shards {
            assert!(shard.lock().unwrap().expire(Timestamp(1_000_000)).is_empty());
            assert!(shard.lock().unwrap().users.is_empty());
        }
    }

    fn pass(expires: u64, opened: u64) -> Arc<Pass> {
        let (expires, opened) = (Some(Timestamp(expires)), Timestamp(opened));
        Arc::new(Pass { expires, opened, ..Pass::default() })
    }

    #[test]
    fn passes_end_when_they_say() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let (ada, bob) = (who("ada", "s_1"), who("bob", "s_2"));
        sessions.arrive(&ada, Some(&pass(500, 0)), AT, Timestamp(0)).unwrap();
        sessions.arrive(&bob, Some(&pass(600, 0)), ELSEWHERE, Timestamp(0)).unwrap();
        assert_eq!(sessions.next_expiry(), Some(Timestamp(500)));
        assert!(sessions.expired(Timestamp(499)).is_empty());
        assert!(sessions.renew(&ada, AT, &pass(900, 400)));
        assert!(sessions.expired(Timestamp(500)).is_empty(), "renewed");
        let over = sessions.expired(Timestamp(1000));
        let over: Vec<_> = over.iter().map(|listed| listed.who.user_id()).collect();
        assert_eq!(over, ["bob", "ada"]);
        assert!(sessions.expired(Timestamp(2000)).is_empty(), "once");
    }

    #[test]
    fn a_revoked_session_is_over_whatever_is_on_its_way() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let ada = who("ada", "s_1");
        sessions.arrive(&ada, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
        assert_eq!(sessions.revoke("ada", "s_1", Timestamp(10)), Some(AT));
        assert_eq!(sessions.standing("ada", "s_1", Timestamp(11)), Standing::Unknown);
        assert!(!sessions.renew(&ada, AT, &pass(9999, 5)), "a refresh that comes too late");
        let again = sessions.arrive(&ada, Some(&pass(9000, 0)), ELSEWHERE, Timestamp(12));
        assert_eq!(again.unwrap_err(), Revoked, "a resume that comes too late");
        sessions.depart(&ada, AT, Ending::Lost, Timestamp(13));
        assert_eq!(sessions.standing("ada", "s_1", Timestamp(14)), Standing::Unknown);
        assert_eq!(sessions.user_count(), 0);
    }

    #[test]
    fn all_sessions_of_a_user_end_but_not_later_ones() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let [one, two, three] = ["s_1", "s_2", "s_3"].map(|session| who("ada", session));
        sessions.arrive(&one, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
        sessions.arrive(&two, Some(&pass(9000, 0)), ELSEWHERE, Timestamp(0)).unwrap();
        sessions.depart(&two, ELSEWHERE, Ending::Lost, Timestamp(1));
        assert_eq!(sessions.revoke_all("ada", Timestamp(10)), [AT]);
        assert_eq!(sessions.standing("ada", "s_2", Timestamp(11)), Standing::Unknown);
        let late = sessions.arrive(&three, Some(&pass(9000, 9)), ELSEWHERE, Timestamp(12));
        assert_eq!(late.unwrap_err(), Revoked, "its ticket was redeemed before");
        let new = sessions.arrive(&three, Some(&pass(9000, 11)), ELSEWHERE, Timestamp(13));
        assert!(new.is_ok());
    }

    #[test]
    fn whoever_keeps_ends_is_told_once() {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&ended);
        let sessions = Sessions::telling(WINDOW, Timestamp(0), move |id| {
            told.lock().unwrap().push(id.to_owned());
        });
        let (ada, bob, eve) = (who("ada", "s_1"), who("bob", "s_2"), who("u_eve", "s_3"));
        sessions.arrive(&ada, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
        sessions.arrive(&bob, Some(&pass(9000, 0)), AT, Timestamp(0)).unwrap();
        sessions.arrive(&eve, None, AT, Timestamp(0)).unwrap();
        sessions.depart(&ada, AT, Ending::Orderly, Timestamp(1));
        sessions.depart(&eve, AT, Ending::Orderly, Timestamp(1));
        sessions.depart(&bob, AT, Ending::Lost, Timestamp(1));
        assert_eq!(*ended.lock().unwrap(), ["s_1"]);
        for n in 0..200 {
            let other = who(&format!("u_{n}"), "s"); // in every shard
            sessions.arrive(&other, None, AT, Timestamp(200_000)).unwrap();
        }
        assert_eq!(*ended.lock().unwrap(), ["s_1", "s_2"]);
    }
}
