//! The loop of one worker thread.
//!
//! A turn: poll; handle what is readable and writable; drain the inbox; run timers; write what
//! waits for rooms. A turn ends when the inbox is empty, so that a quiet server adds no latency
//! and a busy one coalesces by itself.

mod drain;
mod posts;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use throng_wire::CloseCode;

use crate::clock::nanos;
use crate::conn::{Arrival, Conn, More, Phase};
use crate::deadlines::Deadlines;
use crate::engine::Shared;
use crate::fanout::Fanout;
use crate::inbox::{Inbox, Post};
use crate::policy::HEARTBEAT;
use crate::session::Session;
use crate::stats::Counters;
use crate::tick::Tick;
use crate::wheel::{Coarse, ConnId, Wheel};

use self::drain::{Departures, RESTARTING};

/// The token of the inbox's waker.
pub(crate) const WAKE: Token = Token(usize::MAX);

/// While the server ends, a worker looks this often whether everybody is gone.
const ENDING: Duration = Duration::from_millis(20);

pub(crate) struct Worker {
    index: usize,
    poll: Poll,
    shared: Arc<Shared>,
    conns: Slab<Conn>,
    next_serial: u32,
    fanout: Fanout,
    wheel: Wheel,
    deadlines: Deadlines,
    tick: Tick,
    heartbeat: Coarse,
    /// Connections that may have more to read than was read.
    again: Vec<u32>,
    /// Connections that something happened to in this turn outside their own input.
    touched: Vec<u32>,
    posts: Vec<Post>,
    expired: Vec<ConnId>,
    departures: Departures,
    load: Load,
    /// Set by a shutdown: when what is left is terminated.
    end: Option<Instant>,
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        poll: Poll,
        shared: Arc<Shared>,
        counters: Arc<Counters>,
    ) -> Self {
        let now = Instant::now();
        let heartbeat = Wheel::steps(shared.heartbeat);
        let budget = Arc::clone(shared.hub().budget());
        Self {
            index,
            poll,
            shared,
            conns: Slab::new(),
            next_serial: 0,
            fanout: Fanout::default(),
            wheel: Wheel::new(now),
            deadlines: Deadlines::default(),
            tick: Tick::new(index, counters, budget),
            heartbeat,
            again: Vec::new(),
            touched: Vec::new(),
            posts: Vec::new(),
            expired: Vec::new(),
            departures: Departures::default(),
            load: Load::new(now),
            end: None,
        }
    }

    /// Runs until a shutdown has ended every connection.
    pub(crate) fn run(mut self) {
        // Also when a panic ends this thread: nobody may wait for it.
        let _end = CloseOnDrop(Arc::clone(self.shared.inbox(self.index)));
        let mut events = Events::with_capacity(1024);
        while !self.is_finished() {
            let timeout = self.timeout();
            let worked = self.load.rest(Instant::now());
            self.tick.out.counters.awake.add(worked.as_nanos() as u64);
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() != io::ErrorKind::Interrupted {
                    tracing::error!(worker = self.index, %error, "poll failed");
                }
                continue;
            }
            let now = Instant::now();
            self.load.work(now);
            self.shared.inbox(self.index).awake();
            self.tick.out.coarse = self.wheel.coarse(now);
            self.tick.out.now = nanos(now);

            let again = std::mem::take(&mut self.again);
            for event in &events {
                if event.token() != WAKE {
                    let key = event.token().0 as u32;
                    self.handle_event(
                        key,
                        event.is_readable(),
                        event.is_writable(),
                        event.is_read_closed(),
                    );
                }
            }
            self.read_again(again);
            self.drain_inbox();
            self.run_timers();
            self.run_departures();
            self.fanout.flush(
                &mut self.conns,
                &mut self.tick.out,
                now,
                self.load.busy,
                &mut self.touched,
            );
            self.settle_touched();
        }
        // Who has not gone by now goes the way of everybody else, without another word.
        let left: Vec<u32> = self.conns.iter().map(|(key, _)| key as u32).collect();
        for key in left {
            self.conns[key as usize].kill();
            self.settle(key);
        }
    }

    /// How long the next poll may wait. `None`: until something happens.
    fn timeout(&mut self) -> Option<Duration> {
        if !self.again.is_empty() {
            // Held-back publishers are asked again soon, fellows in mid-read at once.
            let held_back = self.shared.congestion.any();
            return Some(Duration::from_millis(u64::from(held_back)));
        }
        if !self.shared.inbox(self.index).may_sleep() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let mut timeout = self.wheel.sleep(now);
        if let Some(due) = self.deadlines.next() {
            let due = self.wheel.until(due, now);
            timeout = Some(timeout.map_or(due, |timeout| timeout.min(due)));
        }
        if let Some(due) = self.departures.sleep(&self.wheel, now) {
            timeout = Some(timeout.map_or(due, |timeout| timeout.min(due)));
        }
        if let Some(held) = self.fanout.sleep(now, self.load.busy) {
            timeout = Some(timeout.map_or(held, |timeout| timeout.min(held)));
        } else if timeout.is_none_or(|timeout| timeout > Duration::from_millis(20)) {
            self.tick.trim();
        }
        match self.end {
            Some(end) => {
                let left = end.saturating_duration_since(now).min(ENDING);
                Some(timeout.map_or(left, |timeout| timeout.min(left)))
            }
            None => timeout,
        }
    }

    fn is_finished(&self) -> bool {
        // A connection that is admitted but still on its way from the front is waited for.
        let all_gone = || self.conns.is_empty() && self.shared.admission.in_use() == 0;
        self.end.is_some_and(|end| all_gone() || Instant::now() >= end)
    }

    #[inline]
    fn handle_event(&mut self, key: u32, readable: bool, writable: bool, hung_up: bool) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if writable {
            conn.writable(&self.tick.out);
            conn.catch_up(&mut self.tick, &self.shared);
            self.resume(key);
        }
        // Whoever is on the list is read in its turn.
        let queued = self.conns.get(key as usize).is_some_and(|conn| conn.queued);
        if (readable || hung_up) && !queued {
            self.read(key, hung_up);
        } else {
            self.settle(key);
        }
    }

    /// Goes on with a connection that has taken what it was owed.
    fn resume(&mut self, key: u32) {
        let conn = &mut self.conns[key as usize];
        if conn.may_resume() && conn.resume(&mut self.tick, &self.shared) == More::Maybe {
            self.queue(key);
        }
    }

    /// Puts a connection on the list of those to be read in the next turn, once.
    fn queue(&mut self, key: u32) {
        let conn = &mut self.conns[key as usize];
        if !std::mem::replace(&mut conn.queued, true) {
            self.again.push(key);
        }
    }

    #[inline]
    fn read(&mut self, key: u32, hung_up: bool) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        if self.shared.congestion.any() && conn.is_open() && conn.session.publishes() {
            conn.excuse(self.tick.out.coarse);
            self.queue(key);
        } else if conn.readable(&mut self.tick, &self.shared, hung_up) == More::Maybe {
            self.queue(key);
        }
        self.settle(key);
    }

    fn read_again(&mut self, again: Vec<u32>) {
        for key in again {
            let Some(conn) = self.conns.get_mut(key as usize) else { continue };
            if std::mem::take(&mut conn.queued) {
                conn.catch_up(&mut self.tick, &self.shared);
                // Treated as hung up: whether FIN has come in the meantime is not known here.
                self.read(key, true);
            }
        }
    }

    fn say_goodbye(&mut self, key: u32, end: Instant) {
        let (code, why) = match self.departures.have_begun() {
            true => (CloseCode::RESTART, RESTARTING),
            false => (CloseCode::GOING_AWAY, "the server is shutting down"),
        };
        let patience = Wheel::steps(end.saturating_duration_since(Instant::now()));
        let conn = &mut self.conns[key as usize];
        let out = &mut self.tick.out;
        conn.begin_close_within(out, code, why, patience);
        conn.flush_cork(&mut self.tick.out);
        self.touched.push(key);
    }

    fn adopt(&mut self, arrival: Arrival) {
        let entry = self.conns.vacant_entry();
        let id = ConnId { key: entry.key() as u32, serial: self.next_serial };
        self.next_serial = self.next_serial.wrapping_add(1);
        let now = self.tick.out.coarse;
        let (mut conn, read_ahead, opening) = Conn::new(arrival, id, now);
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered =
            self.poll.registry().register(conn.transport(), Token(id.key as usize), both);
        if let Err(error) = registered {
            tracing::warn!(%error, "a connection could not be registered");
            self.tick.out.counters.opened.add(1);
            self.tick.out.counters.closed.add(1);
            return;
        }
        let conn = entry.insert(conn);
        if self.heartbeat > 0 {
            self.wheel.insert(id, now + self.heartbeat);
        }
        Session::open(conn, opening, &mut self.tick.out, &self.shared);
        self.tick.out.counters.opened.add(1); // whoever sees it counted knows that it has joined
        if !read_ahead.is_empty() {
            conn.ingest(&mut read_ahead.to_vec(), &mut self.tick, &self.shared);
        }
        conn.flush_cork(&mut self.tick.out);
        if conn.is_deferred() {
            self.queue(id.key);
        }
        self.see_off(id);
        if let Some(end) = self.end {
            self.say_goodbye(id.key, end);
        }
        self.settle(id.key);
    }

    fn settle_touched(&mut self) {
        while let Some(key) = self.touched.pop() {
            self.settle(key);
        }
    }

    /// After anything happened to a connection: writes what was posted, leaves what it has
    /// left, removes it if it is dead.
    #[inline]
    fn settle(&mut self, key: u32) {
        let Some(conn) = self.conns.get_mut(key as usize) else { return };
        conn.settle(&self.tick.out);
        if conn.lags && !conn.is_waiting() {
            self.fanout.drain(key, &mut self.conns, &mut self.tick.out);
        }
        let conn = &mut self.conns[key as usize];
        if conn.is_remarkable() {
            self.look(key);
        }
        let conn = &mut self.conns[key as usize];
        if !conn.is_open() {
            return self.settle_closing(key);
        }
        if conn.session.is_behind() && !conn.is_waiting() {
            self.queue(key); // it has had its turn
        }
        while let Some(room) = self.conns[key as usize].session.take_left() {
            self.fanout.leave(&mut self.conns, key, Some(room), &self.tick.out);
        }
    }

    /// Accounts for what a connection keeps, and arranges to look at it again if that is needed.
    #[inline(never)]
    fn look(&mut self, key: u32) {
        let conn = &mut self.conns[key as usize];
        conn.account(&mut self.tick.out);
        if let Some(due) = conn.next_look(self.tick.out.coarse) {
            self.deadlines.insert(conn.id(), due.max(self.tick.out.coarse + 1));
        }
    }

    #[cold]
    fn settle_closing(&mut self, key: u32) {
        let conn = &mut self.conns[key as usize];
        let phase = conn.phase();
        if conn.part() {
            if let Phase::Closing(due) | Phase::Finishing(due) | Phase::Failing(due) = phase {
                self.wheel.insert(conn.id(), due);
            }
            self.fanout.leave(&mut self.conns, key, None, &self.tick.out);
            let conn = &mut self.conns[key as usize];
            let (id, farewell) = (conn.id(), conn.farewell());
            conn.session.part(self.index, id, farewell, &self.shared);
            if let Some(guest) = conn.take_guest() {
                guest.depart(&self.shared);
            }
        }
        if !matches!(phase, Phase::Open | Phase::Closing(_)) {
            Session::close(&mut self.conns[key as usize], &self.tick.out);
        }
        if phase == Phase::Dead {
            self.conns[key as usize].give_back(&self.tick.out);
            // Closing the socket takes it out of the poll.
            self.conns.remove(key as usize);
            self.tick.out.counters.closed.add(1);
        }
    }

    fn run_timers(&mut self) {
        let now = self.tick.out.coarse;
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, &mut expired);
        for id in expired.drain(..) {
            self.handle_timer(id, now);
        }
        self.expired = expired;
        while let Some(id) = self.deadlines.pop(now) {
            self.handle_deadline(id, now);
        }
    }

    fn handle_deadline(&mut self, id: ConnId, now: Coarse) {
        let Some(conn) = find(&mut self.conns, id) else { return };
        conn.looked_at(now);
        if conn.homeless && conn.is_open() {
            Session::come_home(conn, &mut self.tick.out, &self.shared);
            conn.flush_cork(&mut self.tick.out);
        }
        if conn.may_go_on(now) {
            if conn.unthrottle(&mut self.tick, &self.shared) == More::Maybe {
                self.queue(id.key);
            }
        } else {
            conn.check_overdue(&mut self.tick.out);
        }
        self.settle(id.key);
    }

    fn handle_timer(&mut self, id: ConnId, now: Coarse) {
        let Some(conn) = find(&mut self.conns, id) else { return };
        if let Phase::Closing(due) | Phase::Finishing(due) | Phase::Failing(due) = conn.phase() {
            if due <= now {
                conn.kill();
                self.settle(id.key);
            } else {
                self.wheel.insert(id, due);
            }
            return;
        }
        if conn.is_waiting() {
            // Whether a slow reader has taken something shows before its socket says so.
            conn.writable(&self.tick.out);
            conn.catch_up(&mut self.tick, &self.shared);
            self.resume(id.key);
        }
        let Some(conn) = find(&mut self.conns, id) else { return };
        if conn.is_parked() || conn.is_throttled() {
            conn.excuse(now);
        }
        let silent = now.saturating_sub(conn.heard());
        // Equal means that the answer came within the step of the ping.
        let due = if silent >= 2 * self.heartbeat && conn.pinged() > conn.heard() {
            self.tick.out.counters.heartbeat_timeouts.add(1);
            // Most likely nobody hears it.
            conn.begin_close(&mut self.tick.out, HEARTBEAT, "nothing came back after a ping");
            conn.flush_cork(&mut self.tick.out);
            conn.kill();
            self.settle(id.key);
            return;
        } else if silent >= self.heartbeat {
            conn.heartbeat(&mut self.tick.out);
            now + self.heartbeat
        } else {
            conn.heard() + self.heartbeat
        };
        self.wheel.insert(id, due);
        self.settle(id.key);
    }
}

/// Closes an inbox when its worker is gone, however that came.
struct CloseOnDrop(Arc<Inbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn find(conns: &mut Slab<Conn>, id: ConnId) -> Option<&mut Conn> {
    conns.get_mut(id.key as usize).filter(|conn| conn.id() == id)
}

/// The share of its time a worker has lately been busy.
struct Load {
    since: Instant,
    woke: Instant,
    worked: Duration,
    busy: f32,
}

impl Load {
    const WINDOW: Duration = Duration::from_millis(25);

    fn new(now: Instant) -> Self {
        Self { since: now, woke: now, worked: Duration::ZERO, busy: 0.0 }
    }

    /// The worker wakes up.
    fn work(&mut self, now: Instant) {
        self.woke = now;
        let window = now - self.since;
        if window >= Self::WINDOW {
            let busy = self.worked.as_secs_f32() / window.as_secs_f32();
            // Follows a rise at once and a fall slowly; a long sleep counts as such.
            self.busy = if busy > self.busy || window > 4 * Self::WINDOW {
                busy
            } else {
                self.busy * 0.75 + busy * 0.25
            };
            self.since = now;
            self.worked = Duration::ZERO;
        }
    }

    /// The worker is about to sleep. Returns for how long it was awake.
    fn rest(&mut self, now: Instant) -> Duration {
        let worked = now - self.woke;
        self.worked += worked;
        self.woke = now;
        worked
    }
}
