//! The thread that talks to Redis: carries questions, answers and events between the rooms
//! ([`core`](super::core)), the servers and the hub.
//!
//! ```text
//!   Log::append, open, … ──▶ Queue ──▶┌───────┐──▶ Core ──▶ hub::Sink
//!   Remote::run, listen  ──▶          │ Drive │◀──▶
//!                          Topology ◀─└───────┘
//! ```

mod count;
mod queue;
mod shared;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use redis::Value;
use throng_hub::{Asker, Opened, Outcome, Past, Room, Stored, Unavailable};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::sleep_until;

pub(super) use self::count::{Counts, Kind as Counted};
pub(crate) use self::queue::{Job, Message, Queue};
pub(super) use self::shared::{Handle, Shared, Slot, bytes, millis};
use super::RedisStatus;
use super::core::{AskId, Channel, Core, Draft, Effect, Held};
use super::link::{LinkId, News};
use super::log::Appender;
use super::options::{RedisError, RedisOptions};
use super::remote::{Again, Done, Heard};
use super::script::{self, Call, Shape, Terms, Verb};
use super::step::{Failure, Name, NodeId, Told};
use super::topology::{Happening, Plan, Topology};
use crate::threads::guard;

/// How the first attempt to connect ended.
pub(super) type Verdict = Sender<Result<(), RedisError>>;

/// Everything on the thread.
pub(super) struct Drive {
    core: Core<Handle, Asker>,
    topology: Topology,
    terms: Terms,
    shared: Arc<Shared>,
    news: Receiver<(LinkId, News)>,
    rooms: HashMap<Name, Handle>,
    asked: HashMap<u64, Asked>,
    next: u64,
    listeners: HashMap<String, (Heard, Again)>,
    fenced: Vec<Again>,
    counts: Counts,
    began: Instant,
    verdict: Option<Verdict>,
    /// Since when nothing new is taken.
    ending: Option<Instant>,
    /// The rooms were closed, too.
    closed: bool,
    outcomes: Vec<Outcome>,
}

/// Who waits for an answer.
struct Asked {
    by: By,
    kind: Counted,
    since: Instant,
}

enum By {
    Room(AskId, Shape),
    Other(Done),
}

impl Drive {
    /// Begins to connect. On the thread, in its runtime.
    pub(super) fn new(
        (plan, options): (Plan, &RedisOptions),
        (node, seeds): (NodeId, [u64; 2]),
        shared: Arc<Shared>,
        verdict: Verdict,
    ) -> Self {
        let (post, news) = channel(NEWS);
        let mut core = Core::new(node, seeds[0]);
        core.tune(millis(options.probe), millis(options.patience));
        Self {
            core,
            topology: Topology::new(plan, post),
            terms: Terms {
                prefix: options.prefix.clone(),
                trusting: options.trust_restarts,
                min_replicas: options.min_replicas,
                epochs: (seeds[1], Default::default()),
            },
            shared,
            news,
            rooms: HashMap::new(),
            asked: HashMap::new(),
            next: 0,
            listeners: HashMap::new(),
            fenced: Vec::new(),
            counts: Counts::default(),
            began: Instant::now(),
            verdict: Some(verdict),
            ending: None,
            closed: false,
            outcomes: Vec::new(),
        }
    }

    /// Works until [`Job::End`], and until everything is answered.
    pub(super) async fn run(mut self) {
        let queue = self.shared.queue.clone();
        let mut jobs = Vec::new();
        let mut reported = Instant::now();
        loop {
            let until = self.wake(reported);
            tokio::select! {
                () = queue.take(&mut jobs) => {
                    for job in jobs.drain(..) {
                        self.job(job);
                    }
                }
                news = self.news.recv() => {
                    let mut more = news;
                    for _ in 0..NEWS {
                        let Some((link, news)) = more else { break };
                        self.topology.handle(link, news);
                        more = self.news.try_recv().ok();
                    }
                }
                () = sleep_until(until.into()) => {}
            }
            let now = self.now();
            if self.core.poll_timeout().is_some_and(|due| due <= now) {
                self.core.handle_timeout(now);
            }
            self.topology.handle_timeout();
            self.pump();
            self.judge();
            if reported.elapsed() >= REPORT {
                self.report();
                reported = Instant::now();
            }
            if self.is_over() {
                break;
            }
        }
        for (_, asked) in self.asked.drain() {
            if let By::Other(done) = asked.by {
                guard(|| done(Err(Failure::Unknown)));
            }
        }
        self.report();
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed()) + 1
    }

    fn wake(&self, reported: Instant) -> Instant {
        let mut until = reported + REPORT;
        if let Some(due) = self.core.poll_timeout() {
            until = until.min(self.began + Duration::from_millis(due));
        }
        if let Some(due) = self.topology.poll_timeout() {
            until = until.min(due.into());
        }
        until
    }

    fn job(&mut self, job: Job) {
        let now = self.now();
        match job {
            Job::Open { handle, held } => self.open(handle, held, now),
            Job::Close { name } => {
                self.rooms.remove(&name);
                self.core.close(&name, now);
            }
            Job::Append { name, message } => {
                let Message { session, reference, body, asker } = message;
                let draft = Draft { session, reference, body, token: asker };
                let Err(draft) = self.core.append(&name, draft, now) else { return };
                let Some(handle) = self.rooms.get(&name).cloned() else {
                    let bytes = bytes(&draft.session, &draft.body);
                    return self.shared.queue.answered(1, bytes);
                };
                self.outcome(&handle, draft, Err(Unavailable), false);
                self.told_outcomes();
            }
            Job::Cast { name, opcode, payload } => self.core.cast(&name, opcode, payload, now),
            Job::Seat { name, who } => self.core.seat(&name, who, now),
            Job::Unseat { name, user } => self.core.unseat(&name, &user, now),
            Job::Look { name } => self.core.look(&name, now),
            Job::Run { script, keys, args, done } => {
                let count = keys.len();
                let args = keys.into_iter().map(String::into_bytes).chain(args).collect();
                let call = Call { verb: Verb::Script(script), keys: count, args };
                self.send(By::Other(done), Counted::Other, call);
            }
            Job::Listen { channel, heard, again } => {
                self.topology.hear(&channel);
                self.listeners.insert(channel, (heard, again));
            }
            Job::Dead(node) => self.core.handle_dead(&node, now),
            Job::Alive(nodes) => self.core.handle_alive(&nodes, now),
            Job::Reborn(node) => self.core.handle_reborn(node, now),
            Job::OnFenced(fenced) => self.fenced.push(fenced),
            Job::End => self.ending = Some(Instant::now()),
        }
    }

    fn open(&mut self, handle: Handle, held: Held, now: u64) {
        let name = handle.name.clone();
        let reachable = self.topology.reaches(self.terms.channel(&name).as_bytes());
        handle.slot.set_reachable(reachable);
        self.rooms.insert(name.clone(), handle.clone());
        self.core.open(name.clone(), handle, held, now);
        if !reachable {
            self.core.handle_away(|room| *room == *name, now);
        }
    }

    fn send(&mut self, by: By, kind: Counted, call: Call) {
        self.next += 1;
        self.asked.insert(self.next, Asked { by, kind, since: Instant::now() });
        self.topology.send(self.next, call);
    }

    /// Carries everything to where it belongs, until nothing moves.
    fn pump(&mut self) {
        for _ in 0..ROUNDS {
            let mut moved = false;
            while let Some(happening) = self.topology.poll() {
                moved = true;
                self.happened(happening);
            }
            let now = self.now();
            while let Some(change) = self.core.poll_channel() {
                moved = true;
                match change {
                    Channel::Subscribe(name) => self.topology.hear(&self.terms.channel(&name)),
                    Channel::Unsubscribe(name) => self.topology.leave(&self.terms.channel(&name)),
                }
            }
            while let Some((id, ask)) = self.core.poll_ask(now) {
                moved = true;
                let (call, shape) = self.terms.call(&ask);
                self.send(By::Room(id, shape), Counted::of(&ask.what), call);
            }
            while let Some(effect) = self.core.poll_effect() {
                moved = true;
                self.effect(effect);
            }
            if self.core.poll_fenced() {
                tracing::warn!("this node was taken for dead");
                for fenced in &mut self.fenced {
                    fenced();
                }
            }
            if !moved {
                break;
            }
        }
    }

    fn happened(&mut self, happening: Happening) {
        let now = self.now();
        match happening {
            Happening::Answered { id, result } => self.answered(id, result, now),
            Happening::Heard(channel) => match self.listeners.get_mut(&*channel) {
                Some((_, again)) => guard(again),
                None => {
                    if let Some(room) = self.room(&channel) {
                        self.core.handle_subscribed(&room, now);
                    }
                }
            },
            Happening::Deaf(channel) => {
                if let Some(room) = self.room(&channel) {
                    self.core.handle_unsubscribed(&room, now);
                }
            }
            Happening::Said { channel, payload } => match self.listeners.get_mut(&channel) {
                Some((heard, _)) => guard(|| heard(payload)),
                None => {
                    let Some(room) = self.room(&channel) else { return };
                    match script::event(payload) {
                        Some(event) => self.core.handle_event(&room, event, now),
                        None => tracing::warn!(channel, "something strange was said"),
                    }
                }
            },
            Happening::Routes => self.reroute(now),
        }
    }

    /// The room of a channel.
    fn room(&self, channel: &str) -> Option<String> {
        let rest = channel.strip_prefix(&self.terms.prefix)?;
        Some(rest.strip_prefix(":{")?.strip_suffix('}')?.to_owned())
    }

    fn reroute(&mut self, now: u64) {
        self.report();
        let mut news = false;
        for (name, handle) in &self.rooms {
            let reachable = self.topology.reaches(self.terms.channel(name).as_bytes());
            news |= handle.slot.set_reachable(reachable);
        }
        if news {
            let rooms = &self.rooms;
            let is = |name: &str, there: bool| {
                rooms.get(name).is_some_and(|handle| handle.slot.is_reachable() == there)
            };
            self.core.handle_away(|name| is(name, false), now);
            self.core.handle_back(|name| is(name, true), now);
        }
    }

    fn answered(&mut self, id: u64, result: Result<Value, Failure>, now: u64) {
        let Some(Asked { by, kind, since }) = self.asked.remove(&id) else { return };
        self.counts.answered(kind, &result, since.elapsed());
        match by {
            By::Other(done) => guard(|| done(result)),
            By::Room(ask, shape) => {
                let told = match result {
                    Ok(value) => script::told(shape, value).unwrap_or_else(|| {
                        tracing::error!(?shape, "Redis answers something strange");
                        Told::Failed(Failure::Refused)
                    }),
                    Err(failure) => Told::Failed(failure),
                };
                self.core.handle_told(ask, told, now);
            }
        }
    }

    fn effect(&mut self, effect: Effect<Handle, Asker>) {
        match effect {
            Effect::Opened { room, .. } if room.open => {}
            Effect::Opened { room: handle, result } => {
                let result = result.map(|opened| self.opened(&handle, opened));
                if result.is_err() {
                    self.rooms.remove(&handle.name);
                }
                self.shared.tell(|sink| sink.opened(&handle.room, result));
            }
            Effect::Stored { room, outcomes } => {
                for outcome in outcomes {
                    let super::core::Outcome { token, session, reference, body, result, duplicate } =
                        outcome;
                    let draft = Draft { session, reference, body, token };
                    self.outcome(&room, draft, result, duplicate);
                }
                self.told_outcomes();
            }
            Effect::Arrived { room, mut messages } => {
                self.shared.tell(|sink| sink.arrived(&room.room, &mut messages));
            }
            Effect::Renewed { room, mut renewed } => {
                self.counts.renewed += 1;
                cut(&room.room, &mut renewed.past);
                self.shared.tell(|sink| sink.renewed(&room.room, renewed));
            }
            Effect::Elsewhere { room, news } => {
                self.shared.tell(|sink| sink.elsewhere(&room.room, news));
            }
            Effect::Cast { room, opcode, payload } => {
                self.shared.tell(|sink| sink.cast(&room.room, opcode, payload));
            }
            Effect::Looked { room } => self.shared.tell(|sink| sink.looked(&room.room)),
            Effect::Current { room, current } => {
                room.slot.set_current(current);
            }
        }
    }

    fn opened(&self, handle: &Handle, opened: super::core::Opened) -> Opened {
        let super::core::Opened { epoch, seq, time, mut past, elsewhere, current } = opened;
        handle.slot.set_current(current); // before anybody can ask
        cut(&handle.room, &mut past);
        let past = if past.is_empty() { Past::None } else { Past::Stored(past) };
        let log = Box::new(Appender::new(self.shared.clone(), handle));
        Opened { epoch, seq, time, past, refs: Vec::new(), elsewhere, log }
    }

    fn outcome(
        &mut self,
        handle: &Handle,
        draft: Draft<Asker>,
        result: Result<(u64, throng_hub::Timestamp), Unavailable>,
        duplicate: bool,
    ) {
        let Draft { session, reference, body, token } = draft;
        self.shared.queue.answered(1, bytes(&session, &body));
        match result {
            Ok(_) => self.counts.stored += 1,
            Err(Unavailable) => self.counts.failed += 1,
        }
        let room = handle.room.clone();
        self.outcomes.push(Outcome {
            room,
            asker: token,
            session,
            reference,
            body,
            result,
            duplicate,
        });
    }

    fn told_outcomes(&mut self) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        if !outcomes.is_empty() {
            self.shared.tell(|sink| sink.appended(&mut outcomes));
            outcomes.clear();
        }
        self.outcomes = outcomes;
    }

    /// Says how the first attempt ended, as soon as that is known.
    fn judge(&mut self) {
        let result = match (&self.verdict, self.topology.hopeless()) {
            (None, _) => return,
            _ if self.topology.is_ready() => Ok(()),
            (_, Some(error)) => Err(error.clone()),
            // For whoever gives up: what to say then.
            _ => return,
        };
        if let Some(verdict) = self.verdict.take() {
            let _ = verdict.send(result);
        }
    }

    fn is_over(&mut self) -> bool {
        let Some(since) = self.ending else { return false };
        let waited = since.elapsed();
        let idle = self.shared.queue.len() == 0;
        if !self.closed && (idle || waited > DRAIN) {
            // Whoever is here goes, and what still waits is answered.
            self.closed = true;
            let now = self.now();
            for name in self.rooms.keys().cloned().collect::<Vec<_>>() {
                self.core.close(&name, now);
            }
            self.pump();
        }
        self.closed && (self.asked.is_empty() || waited > DRAIN + LEAVE)
    }

    fn report(&mut self) {
        let mut status = RedisStatus::default();
        self.topology.report(&mut status);
        self.counts.report(&mut status);
        (status.rooms, status.asks) = (self.core.rooms(), self.core.asks());
        status.trouble = self.topology.trouble();
        self.shared.set_status(status);
    }
}

/// Leaves only what the room keeps: Redis is asked for more, to fill holes with.
fn cut(room: &Room, past: &mut Vec<Stored>) {
    let rule = room.rule().history;
    let mut bytes = 0;
    let newest = past.last().map_or(0, |last| last.timestamp.0);
    let oldest = newest.saturating_sub(millis(rule.ttl));
    let fits = past.iter().rev().take(rule.size).take_while(|message| {
        bytes += message.body.len();
        bytes <= rule.bytes && message.timestamp.0 >= oldest
    });
    let kept = fits.count();
    past.drain(..past.len() - kept);
}

/// News of the servers that wait at most; then they have to.
const NEWS: usize = 4096;
/// A guard: after so many rounds others have their turn.
const ROUNDS: usize = 64;
/// How often the status is brought up to date.
const REPORT: Duration = Duration::from_millis(200);
/// How long the end waits for what waits, and then for the last questions.
const DRAIN: Duration = Duration::from_secs(3);
const LEAVE: Duration = Duration::from_secs(2);
