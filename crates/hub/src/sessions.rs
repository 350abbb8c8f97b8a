use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use throng_protocol::Timestamp;

use crate::backend::Asker;
use crate::history::millis;
use crate::identity::Identity;
use crate::membership::Ending;
use crate::seats::ByUser;

/// How long `ref`s of a quiet session are remembered: longer than any session can be away.
pub const REMEMBERED: Duration = Duration::from_secs(15 * 60);

/// The longest time a session can be away: 10 minutes.
pub const MAX_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Who is connected, and which sessions may come back.
///
/// A session whose connection was lost can be taken up again for the *resume window*. Everything is in
/// 64 shards with a lock each. A connected session takes about 120 bytes here, a lost one 60 more; of
/// these there are at most twice as many as connected ones, or a quarter of a million.
#[derive(Debug)]
pub struct Sessions {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    users: AtomicUsize,
    window: Duration,
    started: Timestamp,
}

#[derive(Debug, Default)]
struct Shard {
    users: HashMap<ByUser, Vec<Held>>,
    /// The sessions that were lost, by when they expire. Those that have come back since are recognised
    /// by the time in `users` not being theirs.
    lost: VecDeque<(Timestamp, Arc<Identity>)>,
    connected: usize,
}

/// A session of a user.
#[derive(Debug)]
struct Held {
    who: Arc<Identity>,
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

impl Sessions {
    /// Nobody is there. Sessions may be away for `window`, at most [`MAX_WINDOW`].
    pub fn new(window: Duration, now: Timestamp) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            users: AtomicUsize::new(0),
            window: window.min(MAX_WINDOW),
            started: now,
        }
    }

    /// How long a session may be away.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// A connection begins with this session, new or taken up again. Names the older connection that
    /// has it and is to be closed.
    pub fn arrive(&self, who: &Arc<Identity>, place: Asker, now: Timestamp) -> Option<Asker> {
        let mut shard = self.shard(who.user_id());
        shard.expire(now);
        let held = match shard.users.get_mut(who.user_id()) {
            Some(held) => held,
            None => shard.users.entry(ByUser(Arc::clone(who))).or_insert(Vec::with_capacity(1)),
        };
        let first = !held.iter().any(Held::is_connected);
        let known = held.iter_mut().find(|held| held.who.session_id() == who.session_id());
        let older = match known {
            Some(held) => {
                let older = std::mem::replace(&mut held.state, State::Connected(place));
                match older {
                    State::Connected(older) => Some(older),
                    State::Lost { .. } => None,
                }
            }
            None => {
                held.push(Held { who: Arc::clone(who), state: State::Connected(place) });
                None
            }
        };
        shard.connected += usize::from(older.is_none());
        self.users.fetch_add(usize::from(first), Ordering::Relaxed);
        older
    }

    /// A connection ends. When it was lost, its session may come back. Nothing happens when another
    /// connection has the session in the meantime.
    pub fn depart(&self, who: &Arc<Identity>, place: Asker, ending: Ending, now: Timestamp) {
        let mut guard = self.shard(who.user_id());
        let shard = &mut *guard;
        shard.expire(now);
        let Some(held) = shard.users.get_mut(who.user_id()) else { return };
        let mine = |held: &Held| {
            held.who.session_id() == who.session_id() && held.state == State::Connected(place)
        };
        let Some(at) = held.iter().position(mine) else { return };
        shard.connected -= 1;
        if ending == Ending::Lost && shard.lost.len() < FEW_LOST.max(2 * shard.connected) {
            let until = Timestamp(now.0.saturating_add(millis(self.window)));
            held[at].state = State::Lost { until };
            shard.lost.push_back((until, Arc::clone(&held[at].who)));
        } else {
            held.swap_remove(at);
        }
        let last = !held.iter().any(Held::is_connected);
        if held.is_empty() {
            shard.users.remove(who.user_id());
        }
        shard.shrink();
        self.users.fetch_sub(usize::from(last), Ordering::Relaxed);
    }

    /// What is known of a session.
    pub fn standing(&self, user_id: &str, session_id: &str, now: Timestamp) -> Standing {
        let shard = self.shard(user_id);
        let held = shard.users.get(user_id).into_iter().flatten();
        let mut held = held.filter(|held| held.who.session_id() == session_id);
        match held.next().map(|held| held.state) {
            Some(State::Connected(place)) => Standing::Connected(place),
            Some(State::Lost { until }) if until > now => Standing::Lost,
            _ => Standing::Unknown,
        }
    }

    /// Whether sessions of an earlier run of the server may still come back.
    pub fn is_young(&self, now: Timestamp) -> bool {
        now.0 < self.started.0.saturating_add(millis(self.window))
    }

    /// Sends a user away: sessions that were lost cannot come back. Names the connections, to be closed.
    pub fn dismiss(&self, user_id: &str) -> Vec<Asker> {
        let mut shard = self.shard(user_id);
        if let Some(held) = shard.users.get_mut(user_id) {
            held.retain(Held::is_connected);
            if held.is_empty() {
                shard.users.remove(user_id);
            }
        }
        drop(shard);
        self.places(user_id)
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

    fn shard(&self, user_id: &str) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(user_id) as usize % self.shards.len();
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }
}

impl Shard {
    /// Lets go of sessions that have not come back. Amortised constant.
    fn expire(&mut self, now: Timestamp) {
        while self.lost.front().is_some_and(|(until, _)| *until <= now) {
            let Some((until, who)) = self.lost.pop_front() else { break };
            let Some(held) = self.users.get_mut(who.user_id()) else { continue };
            let gone = State::Lost { until };
            held.retain(|held| held.state != gone || held.who.session_id() != who.session_id());
            if held.is_empty() {
                self.users.remove(who.user_id());
            }
        }
        self.shrink();
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
    fn a_lost_session_comes_back_within_the_window() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let ada = who("u_1", "s_1");
        assert_eq!(sessions.arrive(&ada, AT, Timestamp(0)), None);
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(1)), Standing::Connected(AT));
        sessions.depart(&ada, AT, Ending::Lost, Timestamp(1000));
        assert_eq!(sessions.user_count(), 0);
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(120_999)), Standing::Lost);
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(121_000)), Standing::Unknown);
        assert_eq!(sessions.arrive(&ada, ELSEWHERE, Timestamp(2000)), None);
        assert_eq!(sessions.user_count(), 1);
        sessions.arrive(&who("u_2", "s_2"), AT, Timestamp(900_000)); // whatever expires, expires
        assert_eq!(sessions.places("u_1"), [ELSEWHERE]);
    }

    #[test]
    fn an_orderly_end_is_one() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let ada = who("u_1", "s_1");
        sessions.arrive(&ada, AT, Timestamp(0));
        sessions.depart(&ada, AT, Ending::Orderly, Timestamp(1));
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(2)), Standing::Unknown);
        assert_eq!(sessions.user_count(), 0);
    }

    #[test]
    fn the_newer_connection_has_the_session() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let ada = who("u_1", "s_1");
        sessions.arrive(&ada, AT, Timestamp(0));
        assert_eq!(sessions.arrive(&who("u_1", "s_1"), ELSEWHERE, Timestamp(1)), Some(AT));
        sessions.depart(&ada, AT, Ending::Lost, Timestamp(2));
        assert_eq!(sessions.standing("u_1", "s_1", Timestamp(3)), Standing::Connected(ELSEWHERE));
        assert_eq!(sessions.user_count(), 1);
    }

    #[test]
    fn users_are_counted_once() {
        let sessions = Sessions::new(WINDOW, Timestamp(0));
        let (one, two) = (who("u_1", "s_1"), who("u_1", "s_2"));
        sessions.arrive(&one, AT, Timestamp(0));
        sessions.arrive(&two, ELSEWHERE, Timestamp(0));
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
            sessions.arrive(&who, AT, Timestamp(0));
            sessions.depart(&who, AT, Ending::Lost, Timestamp(0));
        }
        let lost: usize =
            sessions.shards.iter().map(|shard| shard.lock().unwrap().lost.len()).sum();
        assert!(lost <= SHARDS * FEW_LOST, "{lost}");
        for shard in &sessions.shards {
            shard.lock().unwrap().expire(Timestamp(1_000_000));
            assert!(shard.lock().unwrap().users.is_empty());
        }
    }
}
