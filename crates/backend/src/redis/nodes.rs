//! Which nodes there are: leases, burials, and a channel from every node to all others.

mod beat;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::Value;
use throng_hub::Unavailable;

use self::beat::Beat;
use super::remote::{Remote, Script};
use super::step::{Failure, NodeId};

pub use self::beat::{NodeInfo, Report};

/// The nodes that share rooms, as of the last beat.
///
/// Each node beats every sixth of the timeout. One that has not beaten for six tenths of it is buried by whichever node
/// beats next: all are told, its users are gone, and what it still says counts no more. When it comes back, it
/// is told so and goes on under another name. The only clock is that of Redis; when nobody could beat,
/// because Redis was away, everybody gets a new lease.
///
/// # The channel
/// [`Registry::tell`] passes a message on to all other nodes: once or more, or not at all, and in no order with what
/// others tell. Whoever depends on it looks again when [`Listener::again`] says that something may have been missed.
///
/// # Cost
/// One thread. One command for each beat, whose answer has some 300 bytes for each node.
pub struct Registry {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whom the registry tells, on its own thread, which must not be held up for long.
pub trait Listener: Send {
    /// What others are to know of this node, from the next beat on.
    fn report(&mut self) -> Report;

    /// Another node has told this.
    fn heard(&mut self, message: &[u8]);

    /// Something may have been missed: the channel was cut, this node was taken for dead, or Redis has lost its data
    /// (`is_lost`), which it did lately if it did.
    fn again(&mut self, is_lost: bool);

    /// Called every second.
    fn tick(&mut self);
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is there, or has come so lately that nothing was heard of it yet.
    Alive,
    /// It has been gone for so long.
    Dead(Duration),
}

struct Inner {
    remote: Remote,
    /// See [`keys`].
    keys: Vec<String>,
    timeout: Duration,
    state: Mutex<State>,
    listener: Mutex<Option<Box<dyn Listener>>>,
    wake: Condvar,
}

struct State {
    id: NodeId,
    /// The name that Redis has heard last.
    told_as: Option<NodeId>,
    /// When it took another one last.
    reborn: Option<Instant>,
    /// When Redis was found to have lost what it knew.
    lost: Option<Instant>,
    /// Until then nobody is told who is alive: others have had no time to say so.
    next_alive: Instant,
    report: Report,
    beat: Beat,
    /// When the last beat was heard.
    heard: Option<Instant>,
    /// A beat is under way.
    beating: bool,
    next_beat: Instant,
    /// What is to be told to others, and since when.
    post: VecDeque<(Instant, Vec<u8>)>,
    /// What has come on the channel.
    mail: VecDeque<Vec<u8>>,
    /// The listener has to be told that something may have been missed.
    again: bool,
    ended: bool,
}

/// A name for a new node.
pub(crate) fn new_id() -> NodeId {
    letters(HOME + RUN).into()
}

/// What stays of a node's name when it is taken for dead.
pub(crate) fn home(id: &str) -> &str {
    id.get(..HOME).unwrap_or(id)
}

impl Registry {
    /// Begins to beat as `id`, from [`new_id`]. A node that has gone without a word counts as dead after `timeout`, or
    /// a little before.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(crate) fn start(id: NodeId, remote: Remote, timeout: Duration) -> io::Result<Arc<Self>> {
        let keys = keys(remote.prefix());
        let channel = keys[CHANNEL].clone();
        let inner = Arc::new(Inner {
            remote,
            keys: keys.to_vec(),
            timeout: timeout.max(SHORTEST),
            state: Mutex::new(State::new(id)),
            listener: Mutex::new(None),
            wake: Condvar::new(),
        });
        let (hears, misses, fenced) =
            (Arc::downgrade(&inner), Arc::downgrade(&inner), Arc::downgrade(&inner));
        inner.remote.listen(
            channel,
            move |message| with(&hears, |inner| inner.deliver(message)),
            move || with(&misses, |inner| inner.missed()),
        );
        inner.remote.on_fenced(move || with(&fenced, Inner::give_up));
        let worker = Arc::downgrade(&inner);
        let thread =
            std::thread::Builder::new().name("throng-nodes".into()).spawn(move || run(&worker))?;
        Ok(Arc::new(Self { inner, thread: Mutex::new(Some(thread)) }))
    }

    /// Tells this listener from now on; takes the place of the one before. Not to be called by a listener.
    pub fn listen(&self, mut listener: Box<dyn Listener>) {
        let report = listener.report();
        let before = self.inner.listener().replace(listener);
        drop(before);
        let mut state = self.inner.state();
        (state.report, state.again) = (report, true);
        drop(state);
        self.inner.beat_now();
    }

    /// What this node is called; another name after it was taken for dead.
    pub fn id(&self) -> Arc<str> {
        Arc::clone(&self.inner.state().id)
    }

    /// All nodes that are alive and have said something of themselves, by name.
    pub fn list(&self) -> Vec<NodeInfo> {
        self.inner.state().beat.listed()
    }

    /// Users on all other nodes together, as of the last beat: a sum, in which whoever is on two of them counts twice.
    pub fn users_elsewhere(&self) -> usize {
        let state = self.inner.state();
        let others = state.beat.nodes.iter().filter(|node| *node.id != *state.id);
        others.map(|node| node.report.users as usize).sum()
    }

    /// Passes a message on to all other nodes. Tried again for some seconds while Redis cannot be reached; when too many
    /// wait, the oldest are forgotten.
    pub fn tell(&self, message: &[u8]) {
        let mut text = self.inner.state().home().as_bytes().to_vec();
        text.extend_from_slice(message);
        self.inner.send(Instant::now(), text);
    }

    /// Whether Redis knows what it knew a minute ago. `done` is called on the thread that talks to Redis; with `false` also
    /// when it cannot be reached.
    pub fn is_whole(&self, done: impl FnOnce(bool) + Send + 'static) {
        let inner = Arc::downgrade(&self.inner);
        let state = self.inner.state();
        let id = state.told_as.as_ref().unwrap_or(&state.id).as_bytes().to_vec();
        drop(state);
        let key = vec![self.inner.keys[RECORDS].clone()];
        self.inner.remote.run(&KNOWN, key, vec![id], move |answer| {
            let lost = inner.upgrade().and_then(|inner| inner.state().lost);
            let was_lost = lost.is_some_and(|lost| lost.elapsed() < RECENT);
            done(!was_lost && matches!(answer, Ok(Value::Int(1))));
        });
    }

    /// Beats at once.
    pub fn beat_now(&self) {
        self.inner.beat_now();
    }

    /// What is known of the node with this [`home`].
    pub(crate) fn standing(&self, home: &str) -> Standing {
        self.inner.state().beat.standing(home)
    }

    /// What stays of the name of this node, whatever happens.
    pub fn home(&self) -> Box<str> {
        self.inner.state().home().into()
    }

    /// Ends: this node is no longer there. Waits for Redis to know, but not for long. A second call does nothing.
    pub fn end(&self) {
        let mut state = self.inner.state();
        let was_heard = state.heard.take().is_some();
        let said = std::mem::replace(&mut state.ended, true);
        drop(state);
        self.inner.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|it| it.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the thread of the registry of nodes ended with a panic");
        }
        let listener = self.inner.listener().take();
        drop(listener); // which may drop anything: not under the lock
        if said || !was_heard {
            return;
        }
        let (told, tells) = std::sync::mpsc::channel();
        let arguments = self.inner.arguments(&self.id(), "leave");
        self.inner.remote.run(&BEAT, self.inner.keys.clone(), arguments, move |_| {
            let _ = told.send(());
        });
        let _ = tells.recv_timeout(LAST_WORD);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.state();
        f.debug_struct("Registry")
            .field("id", &state.id)
            .field("nodes", &state.beat.nodes.len())
            .finish_non_exhaustive()
    }
}

impl NodeInfo {
    /// All nodes that are alive, asked by somebody who is none of them. Blocks for at most five seconds.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub fn all(remote: &Remote) -> Result<Vec<Self>, Unavailable> {
        let [beats, records, ..] = keys(remote.prefix());
        let answer = wait(remote, &NODES, vec![beats, records], Vec::new())?;
        let mut beat = Beat::default();
        beat.handle_answer(&answer, Instant::now()).ok_or(Unavailable)?;
        Ok(beat.listed())
    }

    /// Passes a message on to all nodes, as [`Registry::tell`] does, for somebody who is none of them. Blocks for at
    /// most five seconds.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub fn tell(remote: &Remote, message: &[u8]) -> Result<(), Unavailable> {
        let [.., channel] = keys(remote.prefix());
        let message = [" ".repeat(HOME).as_bytes(), message].concat();
        wait(remote, &TELL, vec![channel], vec![message]).map(drop)
    }
}

fn wait(
    remote: &Remote,
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
) -> Result<Value, Unavailable> {
    let (told, tells) = std::sync::mpsc::channel();
    remote.run(script, keys, args, move |answer| {
        let _ = told.send(answer);
    });
    tells.recv_timeout(VISIT).ok().and_then(Result::ok).ok_or(Unavailable)
}

/// As the scripts want them: beats, records, the dead, and the channel. In one slot with the vault, so that they are lost
/// together: that the vault knows no session any more counts only as long as the nodes are known
/// ([`Registry::is_whole`]).
pub(super) fn keys(prefix: &str) -> [String; 4] {
    let tag = format!("{prefix}:{{#vault}}:nodes");
    [format!("{tag}:beats"), format!("{tag}:records"), format!("{tag}:dead"), tag]
}

fn run(inner: &Weak<Inner>) {
    let mut next_tick = Instant::now();
    loop {
        let Some(inner) = inner.upgrade() else { return };
        inner.read_mail();
        let now = Instant::now();
        if now >= next_tick {
            next_tick = now + TICK;
            inner.tick();
        }
        let mut state = inner.state();
        if state.ended {
            return;
        }
        if !state.beating && now >= state.next_beat {
            state.beating = true;
            state.next_beat = now + inner.timeout; // when it is answered, it is decided
            let (id, report) = (Arc::clone(&state.id), state.report.clone());
            drop(state);
            inner.beat(id, &report);
            state = inner.state();
        }
        let idle = |state: &mut State| {
            let due = !state.beating && state.next_beat <= Instant::now();
            state.mail.is_empty() && !state.again && !state.ended && !due
        };
        let wait = if state.beating { next_tick } else { next_tick.min(state.next_beat) };
        let wait = wait.saturating_duration_since(Instant::now());
        drop(inner.wake.wait_timeout_while(state, wait, idle));
    }
}

impl Inner {
    fn tick(self: &Arc<Self>) {
        // Its report may ask this registry: not under the lock of the state.
        let report = self.listener().as_mut().map(|listener| {
            listener.tick();
            listener.report()
        });
        let mut state = self.state();
        if let Some(report) = report {
            state.report = report;
        }
        let waiting = std::mem::take(&mut state.post);
        drop(state);
        for (since, message) in waiting {
            self.send(since, message);
        }
    }

    /// Handles what has come on the channel.
    fn read_mail(self: &Arc<Self>) {
        let mut state = self.state();
        let (again, mail) = (std::mem::take(&mut state.again), std::mem::take(&mut state.mail));
        let home: Box<str> = state.home().into();
        let is_lost = state.lost.is_some_and(|lost| lost.elapsed() < RECENT);
        drop(state);
        if again && let Some(listener) = self.listener().as_mut() {
            listener.again(is_lost);
        }
        for message in mail {
            if let Some(node) = message.strip_prefix(b"!") {
                self.is_dead(&String::from_utf8_lossy(node));
                continue;
            }
            let Some((from, message)) = message.split_at_checked(HOME) else { continue };
            if from != home.as_bytes()
                && let Some(listener) = self.listener().as_mut()
            {
                listener.heard(message);
            }
        }
    }

    fn is_dead(&self, node: &str) {
        let mut state = self.state();
        if *node == *state.id {
            state.next_beat = Instant::now();
        } else if state.beat.bury(node, Instant::now()) {
            drop(state);
            tracing::info!(node, "a node is gone");
            self.remote.dead(node.into());
        }
    }

    fn beat(self: &Arc<Self>, id: NodeId, report: &Report) {
        let mut arguments = self.arguments(&id, "beat");
        arguments[1] = report.write();
        let inner = Arc::downgrade(self);
        self.remote.run(&BEAT, self.keys.clone(), arguments, move |answer| {
            if let Some(inner) = inner.upgrade() {
                inner.handle_beat(&id, answer);
            }
        });
    }

    fn handle_beat(&self, id: &NodeId, answer: Result<Value, Failure>) {
        let now = Instant::now();
        let mut state = self.state();
        state.beating = false;
        // Earlier when somebody wanted one meanwhile: this one did not say what is new.
        let wanted = state.next_beat;
        state.next_beat = wanted.min(now + TICK.min(self.timeout / 6));
        let Some(news) = answer.ok().and_then(|answer| state.beat.handle_answer(&answer, now))
        else {
            drop(state);
            return self.wake.notify_all();
        };
        if news.is_buried {
            if state.id == *id {
                state.rename();
            }
            drop(state);
            return self.wake.notify_all();
        }
        let reborn = state.told_as.replace(Arc::clone(id)).is_some_and(|before| before != *id);
        if reborn {
            state.reborn = Some(now);
        }
        if !news.was_known {
            // Not of a new name: what Redis knows of a node that has beaten before is gone only with everything else.
            if state.heard.is_some() {
                tracing::warn!("Redis has lost what it knew of the nodes");
                (state.lost, state.again) = (Some(now), true);
            }
            // Others may not have beaten since.
            state.next_alive = now + self.timeout;
        }
        state.again |= reborn;
        state.heard = Some(now);
        state.next_beat = wanted.min(now + self.timeout / 6);
        let alive = (now >= state.next_alive).then(|| {
            state.next_alive = now + self.timeout / 6;
            state.beat.nodes.iter().map(|node| node.id.as_str().into()).collect()
        });
        drop(state);
        if reborn {
            self.remote.reborn(Arc::clone(id));
        }
        for node in news.dead.iter().filter(|node| **node != **id) {
            self.remote.dead(node.as_str().into());
        }
        if let Some(alive) = alive {
            self.remote.alive(alive);
        }
        self.wake.notify_all();
    }

    fn arguments(&self, id: &str, what: &str) -> Vec<Vec<u8>> {
        let millis = |time: Duration| time.as_millis().to_string().into_bytes();
        let since = self.state().beat.dead_since().to_string();
        vec![
            id.into(),
            b"{}".to_vec(),
            millis(self.timeout * 6 / 10),
            millis(self.timeout / 2),
            millis(REMEMBERED),
            since.into(),
            what.into(),
        ]
    }

    fn deliver(&self, message: Vec<u8>) {
        let mut state = self.state();
        if state.mail.len() < MOST_MAIL {
            state.mail.push_back(message);
        } else {
            state.again = true;
        }
        drop(state);
        self.wake.notify_all();
    }

    fn missed(&self) {
        self.state().again = true;
        self.beat_now();
    }

    /// A room has taken this node for dead, so that is what it is: it goes on under another name, unless it is about to.
    fn give_up(&self) {
        let mut state = self.state();
        let is_old = state.reborn.is_none_or(|reborn| reborn.elapsed() > TICK);
        if state.told_as.as_ref() != Some(&state.id) || !is_old {
            return;
        }
        let old = Arc::clone(&state.id);
        state.rename();
        drop(state);
        self.remote.run(&BEAT, self.keys.clone(), self.arguments(&old, "leave"), |_| {});
        self.wake.notify_all();
    }

    fn beat_now(&self) {
        self.state().next_beat = Instant::now();
        self.wake.notify_all();
    }

    fn send(self: &Arc<Self>, since: Instant, message: Vec<u8>) {
        let channel = vec![self.keys[CHANNEL].clone()];
        let inner = Arc::downgrade(self);
        self.remote.run(&TELL, channel, vec![message.clone()], move |answer| {
            let Some(inner) = inner.upgrade().filter(|_| answer.is_err()) else { return };
            if since.elapsed() < PATIENCE {
                let mut state = inner.state();
                state.post.push_back((since, message));
                if state.post.len() > MOST_MAIL {
                    state.post.pop_front();
                }
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listener(&self) -> MutexGuard<'_, Option<Box<dyn Listener>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(id: NodeId) -> Self {
        Self {
            id,
            told_as: None,
            reborn: None,
            lost: None,
            next_alive: Instant::now(),
            report: Report::default(),
            beat: Beat::default(),
            heard: None,
            beating: false,
            next_beat: Instant::now(),
            post: VecDeque::new(),
            mail: VecDeque::new(),
            again: false,
            ended: false,
        }
    }

    fn home(&self) -> &str {
        home(&self.id)
    }

    /// Takes another name, and beats with it at once.
    fn rename(&mut self) {
        let id = format!("{}{}", self.home(), letters(RUN)).into();
        let before = std::mem::replace(&mut self.id, id);
        tracing::warn!(node = &*before, now = &*self.id, "this node was taken for dead");
        self.heard = None;
        self.next_beat = Instant::now();
    }
}

fn with(inner: &Weak<Inner>, act: impl FnOnce(&Inner)) {
    if let Some(inner) = inner.upgrade() {
        act(&inner);
    }
}

/// So many random letters and digits.
fn letters(count: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = vec![0; count];
    let filled = getrandom::fill(&mut random);
    // invariant: the kernel's entropy does not run out
    filled.expect("invariant: entropy is available");
    random.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Letters of a name that stay, and that change.
const HOME: usize = 12;
const RUN: usize = 4;
/// Which of the keys are the records, and the channel.
const RECORDS: usize = 1;
const CHANNEL: usize = 3;
const TICK: Duration = Duration::from_secs(1);
/// The shortest timeout.
const SHORTEST: Duration = Duration::from_secs(1);
/// For how long the dead are remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// For how long a message to others is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most messages that wait, in and out.
const MOST_MAIL: usize = 10_000;
/// How long Redis may take to hear that this node is gone.
const LAST_WORD: Duration = Duration::from_secs(1);

/// For how long it counts that Redis has lost what it knew.
const RECENT: Duration = Duration::from_secs(60);
/// How long somebody waits who is no node.
const VISIT: Duration = Duration::from_secs(5);

static BEAT: Script = Script::new(include_str!("script/beat.lua"));
static KNOWN: Script = Script::new(include_str!("script/known.lua"));
static NODES: Script = Script::new(include_str!("script/nodes.lua"));
static TELL: Script = Script::new(include_str!("script/tell.lua"));
