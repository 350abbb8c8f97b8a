//! A worker's share of a drain: tells its connections when to go, and closes them when they have not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use throng_protocol::push;
use throng_wire::{CloseCode, OpCode};

use super::{Worker, find};
use crate::deadlines::Deadlines;
use crate::drain::Slots;
use crate::session::Session;
use crate::wheel::{ConnId, Wheel};

/// Who is being sent away.
#[derive(Default)]
pub(super) struct Departures {
    slots: Option<Arc<Slots>>,
    /// Those who were here when it began and have not been told yet.
    untold: Vec<ConnId>,
    /// Those whose room is still being opened: they are told once they have been greeted.
    ungreeted: Vec<ConnId>,
    /// Those who are closed if they have not left by then.
    due: Deadlines,
    text: Vec<u8>,
}

/// So many are told in one turn: the others' messages go on meanwhile.
const AT_ONCE: usize = 512;

impl Departures {
    /// How long the next poll may wait.
    pub(super) fn sleep(&self, wheel: &Wheel, now: Instant) -> Option<Duration> {
        match self.untold.is_empty() {
            true => self.due.next().map(|due| wheel.until(due, now)),
            false => Some(Duration::ZERO),
        }
    }

    /// Nobody else is told. Who was told is closed if it has not left by then.
    pub(super) fn end(&mut self) {
        self.slots = None;
        (self.untold, self.ungreeted) = (Vec::new(), Vec::new());
    }

    pub(super) fn have_begun(&self) -> bool {
        self.slots.is_some()
    }
}

impl Worker {
    pub(super) fn begin_drain(&mut self, slots: Arc<Slots>) {
        // Those of a drain that was taken back keep their slots.
        let told: HashSet<ConnId> = self.departures.due.all().collect();
        let here = self.conns.iter().map(|(_, conn)| conn.id());
        self.departures.untold = here.filter(|id| !told.contains(id)).collect();
        self.departures.slots = Some(slots);
    }

    /// Goes on telling, and closes those whose time has come.
    pub(super) fn run_departures(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(id) = self.departures.untold.pop() else { break };
            self.see_off(id);
        }
        for id in std::mem::take(&mut self.departures.ungreeted) {
            self.see_off(id);
        }
        while let Some(id) = self.departures.due.pop(self.tick.out.coarse) {
            self.show_out(id);
        }
    }

    /// Tells everybody who has not been told: the end has come before.
    pub(super) fn hurry_departures(&mut self) {
        while let Some(id) = self.departures.untold.pop() {
            self.see_off(id);
        }
    }

    /// Gives a connection its slot.
    pub(super) fn see_off(&mut self, id: ConnId) {
        let Some(slots) = &self.departures.slots else { return };
        let Some(conn) = find(&mut self.conns, id) else { return };
        let linger = slots.drain().linger;
        if linger.is_some() && conn.is_open() && matches!(conn.session, Session::Greeting(_)) {
            self.departures.ungreeted.push(id);
            return;
        }
        let slot = slots.take();
        let is_told = matches!(conn.session, Session::Typed(_)) && conn.is_open();
        if is_told {
            let text = &mut self.departures.text;
            text.clear();
            push::reconnect(text, slot.as_millis() as u64);
            conn.send(&mut self.tick.out, OpCode::Text, text);
            conn.flush_cork(&mut self.tick.out);
            self.touched.push(id.key);
        }
        match linger {
            None => self.show_out(id),
            Some(linger) => {
                let stays = slot + if is_told { linger } else { Duration::ZERO };
                let due = self.wheel.coarse(Instant::now() + stays) + 1;
                self.departures.due.insert(id, due);
            }
        }
    }

    fn show_out(&mut self, id: ConnId) {
        let Some(conn) = find(&mut self.conns, id) else { return };
        conn.begin_close(&mut self.tick.out, CloseCode::RESTART, RESTARTING);
        conn.flush_cork(&mut self.tick.out);
        self.touched.push(id.key);
    }
}

/// Why connections are closed by a drain.
pub(super) const RESTARTING: &str = "the server is restarting";
