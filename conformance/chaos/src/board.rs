//! Where the run and its clients meet: what is to be done now, and how far everybody is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::record::Position;

/// What clients do. Only ever goes on to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connect, join and publish; faults happen.
    Publishing,
    /// Publish nothing new; get everything acknowledged.
    Draining,
    /// Fetch history, and receive everything in it.
    Comparing,
    /// Some leave for good.
    Departing,
    /// Ask who is in the rooms; the number of the question.
    Listing(u32),
    /// Stop.
    Stopping,
}

/// How far a client is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Its user id, when it can be written to.
    pub user: Option<String>,
    /// It is connected, is a member of all its rooms, and has nothing unacknowledged.
    pub settled: bool,
    /// It has received everything that history shows.
    pub level: bool,
    /// It has left for good, or stopped.
    pub gone: bool,
    /// How far it has got in its rooms.
    pub positions: BTreeMap<String, Position>,
    /// The number of the last question it knows all answers to.
    pub listed: u32,
    /// The rooms it is a member of, with who is there: as asked, and as known.
    pub rooms: BTreeMap<String, Lists>,
}

/// Who is in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// As the server answered; absent when it cannot be asked.
    pub asked: Option<BTreeSet<String>>,
    /// As the client knows it from what it was told all along; absent when it does not follow.
    pub known: Option<BTreeSet<String>>,
}

/// The phase and all statuses.
#[derive(Debug)]
pub struct Board {
    phase: watch::Sender<Phase>,
    statuses: Mutex<Vec<Status>>,
    acked: AtomicU64,
    refused: AtomicU64,
}

impl Board {
    /// For so many clients.
    pub fn new(clients: u32) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Publishing),
            statuses: Mutex::new(vec![Status::default(); clients as usize]),
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Everybody goes on to this.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Tells when the phase changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Changes a client's status.
    pub fn update(&self, client: u32, change: impl FnOnce(&mut Status)) {
        if let Some(status) = self.lock().get_mut(client as usize) {
            change(status);
        }
    }

    /// A message was acknowledged, or refused.
    pub fn answered(&self, acked: bool) {
        let counter = if acked { &self.acked } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages were acknowledged and refused so far.
    pub fn answers(&self) -> (u64, u64) {
        (self.acked.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Looks at all statuses.
    pub fn look<T>(&self, at: impl FnOnce(&[Status]) -> T) -> T {
        at(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Status>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
