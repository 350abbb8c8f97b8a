//! Where sessions are: on which node, connected or lost, so that any node can take them up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::Value;
use throng_hub::{Identity, Unavailable};

use super::nodes::{Registry, Standing};
use super::remote::{Remote, Script};
use super::step::Failure;

/// Knows on which node each session is.
///
/// A node says what becomes of its sessions ([`Directory::turn`]), in order for each one, and is not made to wait for
/// it. While Redis is away the last turn of each session is kept and told later. A session that comes to a node is
/// taken from the one it was on, whatever that one says later.
///
/// An entry lasts for a day while the session is connected, which [`Directory::keep`] renews, and for the resume
/// window when it was lost. When Redis has lost its data, [`Directory::keep`] tells it again.
///
/// # Cost
/// One command for each arrival and departure, some 200 bytes in Redis for each session, and one command to find one.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

/// What has become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is connected.
    On,
    /// Its connection was lost; it may come back for so long.
    Lost(Duration),
    /// It is over.
    Over,
}

/// Whom the directory tells, on the thread that talks to Redis: must not block.
pub trait Follower: Send + Sync {
    /// A session has been taken up here that the node with this home had until now.
    fn taken(&self, who: &Identity, home: &str);

    /// A session is on another node: it is none of ours any more, unless it has just come back
    /// ([`Directory::is_turning`]).
    fn moved(&self, who: &Identity);

    /// A session of ours that is signed in is over, everywhere.
    fn over(&self, session: &str);
}

struct Inner {
    remote: Remote,
    registry: Arc<Registry>,
    home: Box<str>,
    /// The resume window.
    window: Duration,
    follower: OnceLock<Box<dyn Follower>>,
    turns: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// What is to be told, by session; the last turn counts.
    waiting: HashMap<Box<str>, Step>,
    /// The order in which it is told. May name some that do not wait any more.
    order: VecDeque<Box<str>>,
    /// Of these something is under way: what comes next waits for the answer.
    flying: HashSet<Box<str>>,
    /// Redis did not answer: until the next second nothing is sent.
    paused: bool,
}

/// A turn that is to be told.
#[derive(Clone, Debug)]
struct Step {
    who: Arc<Identity>,
    is_signed_in: bool,
    /// The session came here by itself, and is taken from wherever it was.
    takes: bool,
    /// Redis may have lost what it knew of it.
    makes: bool,
    turn: Turn,
    number: u64,
}

impl Directory {
    /// For the sessions of this node, which may be away for `window`.
    pub(crate) fn new(remote: Remote, registry: Arc<Registry>, window: Duration) -> Self {
        Self {
            inner: Arc::new(Inner {
                home: registry.home(),
                remote,
                registry,
                window,
                follower: OnceLock::new(),
                turns: AtomicU64::new(0),
                queue: Mutex::default(),
            }),
        }
    }

    /// Says who is told. Once, and before anything else.
    pub fn follow(&self, follower: Box<dyn Follower>) {
        let _ = self.inner.follower.set(follower);
    }

    /// Whether a session may be taken up here that is not known on this node.
    pub fn find(
        &self,
        session: &str,
        done: impl FnOnce(Result<bool, Unavailable>) + Send + 'static,
    ) {
        let inner = Arc::clone(&self.inner);
        let key = vec![self.inner.key(session)];
        self.inner.remote.run(&WHERE, key, Vec::new(), move |answer| {
            done(answer.map(|answer| inner.may_come(&answer)).map_err(|_| Unavailable));
        });
    }

    /// A session has taken a turn on this node. [`Turn::On`] takes it from wherever else it is. Does not block: may be
    /// called under a lock.
    pub fn turn(&self, who: &Arc<Identity>, is_signed_in: bool, turn: Turn) {
        self.put(who, is_signed_in, turn, turn == Turn::On, false);
    }

    /// Says again where a session is, as long as it is not elsewhere. `is_lost`: whether Redis may have lost what it knew
    /// of it; else a session that nobody knows and that is not connected is over.
    pub fn keep(&self, who: &Arc<Identity>, is_signed_in: bool, turn: Turn, is_lost: bool) {
        self.put(who, is_signed_in, turn, false, is_lost);
    }

    /// A session is over, wherever it is.
    pub fn end(&self, session: &str) {
        let who = Arc::new(Identity::anonymous("", session, None));
        self.put(&who, false, Turn::Over, true, false);
    }

    /// Whether a session has taken a turn here of which the directory has not heard yet.
    pub fn is_turning(&self, session: &str) -> bool {
        let queue = self.inner.queue();
        queue.waiting.contains_key(session) || queue.flying.contains(session)
    }

    /// Tries again what could not be told. To be called every second.
    pub fn tick(&self) {
        self.inner.queue().paused = false;
        self.inner.send();
    }

    /// How many sessions wait to be told of, those under way included.
    pub fn waiting(&self) -> usize {
        let queue = self.inner.queue();
        queue.waiting.len() + queue.flying.len()
    }

    fn put(&self, who: &Arc<Identity>, is_signed_in: bool, turn: Turn, takes: bool, makes: bool) {
        let who = Arc::clone(who);
        let number = self.inner.turns.fetch_add(1, Ordering::Relaxed);
        self.inner.queue().put(Step { who, is_signed_in, takes, makes, turn, number });
        self.inner.send();
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Inner {
    fn key(&self, session: &str) -> String {
        format!("{}:{{#s:{session}}}", self.remote.prefix())
    }

    /// Sends what waits, as far as not too much is under way.
    fn send(self: &Arc<Self>) {
        loop {
            let Some(step) = self.queue().next() else { return };
            let (turn, kept) = match step.turn {
                Turn::On => ("on", CONNECTED),
                Turn::Lost(window) => ("lost", window),
                Turn::Over => ("over", Duration::ZERO),
            };
            let kept = kept.as_millis().max(1);
            let flag = |flag| u8::from(flag).to_string();
            let (takes, makes) = (flag(step.takes), flag(step.makes));
            let (number, kept) = (step.number.to_string(), kept.to_string());
            let args = [&*self.home, &number, &takes, turn, &kept, &makes];
            let args = args.map(|argument| argument.as_bytes().to_vec()).to_vec();
            let (inner, key) = (Arc::clone(self), vec![self.key(step.who.session_id())]);
            self.remote.run(&TURN, key, args, move |answer| inner.handle_answer(step, answer));
        }
    }

    fn handle_answer(self: &Arc<Self>, step: Step, answer: Result<Value, Failure>) {
        let answer = answer.ok().and_then(|answer| {
            let Value::Array(parts) = answer else { return None };
            let mut texts = parts.iter().map(|part| match part {
                Value::BulkString(text) => String::from_utf8(text.clone()).ok(),
                _ => None,
            });
            Some((texts.next()?? == "here", texts.next()??))
        });
        let mut queue = self.queue();
        queue.flying.remove(step.who.session_id());
        let Some((is_here, other)) = answer else {
            queue.paused = true;
            queue.put_back(step);
            return;
        };
        queue.resume(step.who.session_id());
        drop(queue);
        if let Some(follower) = self.follower.get() {
            match (is_here, step.turn) {
                (true, Turn::Over) if step.is_signed_in => follower.over(step.who.session_id()),
                (false, Turn::On | Turn::Lost(_)) => follower.moved(&step.who),
                _ => {}
            }
            if is_here && !other.is_empty() && step.turn != Turn::Over {
                follower.taken(&step.who, &other);
            }
        }
        self.send();
    }

    fn may_come(&self, answer: &Value) -> bool {
        let Value::Array(parts) = answer else { return false };
        let [Value::BulkString(home), Value::BulkString(state)] = parts.as_slice() else {
            return false;
        };
        let Ok(home) = std::str::from_utf8(home) else { return false };
        if state == b"lost" {
            return true; // else it would have expired
        }
        match self.registry.standing(home) {
            Standing::Alive => *home != *self.home,
            Standing::Dead(gone) => gone < self.window,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn put(&mut self, mut step: Step) {
        let session = step.who.session_id();
        if let Some(before) = self.waiting.get_mut(session) {
            step.takes |= before.takes;
            step.makes |= before.makes;
            *before = step;
            return;
        }
        // Sessions that are there are as many as they are; those that are over would only get more.
        if step.turn == Turn::Over && self.waiting.len() >= MOST_WAITING {
            return;
        }
        let session: Box<str> = session.into();
        if !self.flying.contains(&session) {
            self.order.push_back(session.clone());
        }
        self.waiting.insert(session, step);
    }

    /// A step was not told: what has come since counts.
    fn put_back(&mut self, step: Step) {
        let session: Box<str> = step.who.session_id().into();
        self.order.push_back(session.clone());
        match self.waiting.get_mut(&session) {
            Some(since) => since.takes |= step.takes,
            None => drop(self.waiting.insert(session, step)),
        }
    }

    /// A session may be told of again.
    fn resume(&mut self, session: &str) {
        if self.waiting.contains_key(session) {
            self.order.push_back(session.into());
        }
    }

    fn next(&mut self) -> Option<Step> {
        while !self.paused && self.flying.len() < AT_ONCE {
            let session = self.order.pop_front()?;
            if self.flying.contains(&session) {
                continue; // it will be in the order again
            }
            if let Some(step) = self.waiting.remove(&session) {
                self.flying.insert(session);
                return Some(step);
            }
        }
        None
    }
}

/// For how long a connected session is known without another word.
const CONNECTED: Duration = Duration::from_secs(24 * 60 * 60);
/// So many may be under way.
const AT_ONCE: usize = 256;
/// From how many on sessions that are over are not told of: their entries end with time.
const MOST_WAITING: usize = 200_000;

static TURN: Script = Script::new(include_str!("script/turn.lua"));
static WHERE: Script = Script::new(include_str!("script/where.lua"));

#[cfg(test)]
mod tests {
    use super::*;

    fn step(session: &str, turn: Turn, number: u64) -> Step {
        let who = Arc::new(Identity::anonymous("u_1", session, None));
        Step { who, is_signed_in: false, takes: turn == Turn::On, makes: false, turn, number }
    }

    #[test]
    fn one_at_a_time_for_each_session_and_the_last_counts() {
        let mut queue = Queue::default();
        queue.put(step("s_1", Turn::On, 1));
        queue.put(step("s_2", Turn::On, 2));
        let first = queue.next().unwrap();
        assert_eq!((first.who.session_id(), first.number), ("s_1", 1));
        queue.put(step("s_1", Turn::Lost(Duration::ZERO), 3));
        queue.put(step("s_1", Turn::Over, 4));
        assert_eq!(queue.next().unwrap().number, 2);
        assert!(queue.next().is_none(), "the first is under way");
        // Its answer is lost: that it takes the session is not forgotten.
        queue.flying.remove("s_1");
        queue.put_back(first);
        let again = queue.next().unwrap();
        assert_eq!((again.number, again.turn, again.takes), (4, Turn::Over, true));
        queue.put(step("s_1", Turn::On, 5));
        queue.flying.remove("s_1");
        queue.resume("s_1");
        assert_eq!(queue.next().unwrap().number, 5);
        assert!(queue.next().is_none() && queue.waiting.is_empty());
    }

    #[test]
    fn bounded() {
        let mut queue = Queue { paused: true, ..Queue::default() };
        for n in 0..=MOST_WAITING as u64 {
            queue.put(step(&format!("s_{n}"), Turn::Over, n));
        }
        assert_eq!(queue.waiting.len(), MOST_WAITING);
        queue.put(step("s_new", Turn::On, 0));
        assert!(queue.waiting.contains_key("s_new"), "who is there is always told");
        assert!(queue.next().is_none(), "not before the next second");
    }
}
